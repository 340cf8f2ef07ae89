// SPDX-License-Identifier: Apache-2.0

package podsecurity

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sconce.dev/sconce/policy/kyverno/pattern"
)

// Pod is what a standard judges. It is safe for concurrent use.
type Pod struct {
	meta           metav1.ObjectMeta
	spec           corev1.PodSpec
	metaAt, specAt []string // where they are in the resource
}

// template is where a kind has its pods.
type template struct{ meta, spec []string }

var templates = map[string]template{
	"Pod":                   {[]string{"metadata"}, []string{"spec"}},
	"DaemonSet":             ofPodTemplate,
	"Deployment":            ofPodTemplate,
	"Job":                   ofPodTemplate,
	"ReplicaSet":            ofPodTemplate,
	"ReplicationController": ofPodTemplate,
	"StatefulSet":           ofPodTemplate,
	// Kyverno takes the annotations of the Job for those of the pod.
	"CronJob": {[]string{"spec", "jobTemplate", "metadata"}, []string{"spec", "jobTemplate", "spec", "template", "spec"}},
}

var ofPodTemplate = template{[]string{"spec", "template", "metadata"}, []string{"spec", "template", "spec"}}

// Decode reads a pod, or the template of an object that makes pods. A tree
// without a kind is a pod.
func Decode(resource any) (*Pod, error) {
	tree, ok := resource.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("reading the pod: it is a %T; want a map", resource)
	}
	kind, _ := tree["kind"].(string)
	if kind == "" {
		kind = "Pod"
	}
	at, ok := templates[kind]
	if !ok {
		return nil, fmt.Errorf("podSecurity is about pods and what makes them; a %s is neither", kind)
	}
	p := &Pod{metaAt: at.meta, specAt: at.spec}
	if err := decode(tree, at.spec, &p.spec); err != nil {
		return nil, err
	}
	// Of the metadata, annotations are all that checks look at.
	if err := decode(tree, append(slices.Clip(at.meta), "annotations"), &p.meta.Annotations); err != nil {
		return nil, err
	}
	return p, nil
}

func decode(tree map[string]any, at []string, into any) error {
	for i, name := range at {
		v, ok := tree[name]
		if !ok || v == nil {
			return nil
		}
		m, ok := v.(map[string]any)
		if !ok {
			return fmt.Errorf("reading the pod: %s is a %T; want a map", strings.Join(at[:i+1], "."), v)
		}
		tree = m
	}
	if annotations, ok := into.(*map[string]string); ok {
		*annotations = make(map[string]string, len(tree))
		for k, v := range tree {
			s, ok := v.(string)
			if !ok && v != nil { // an empty value, as the API server reads it
				return fmt.Errorf("reading the pod: the annotation %s is a %T; want a string", k, v)
			}
			(*annotations)[k] = s
		}
		return nil
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(tree, into); err != nil {
		return fmt.Errorf("reading the pod: %s: %w", strings.Join(at, "."), err)
	}
	return nil
}

// matching returns the pod as an exclusion sees it: with the containers of some
// images and nothing else, or with what the pod itself sets and no containers of
// its own.
func (p *Pod) matching(images []string) *Pod {
	out := &Pod{metaAt: p.metaAt, specAt: p.specAt}
	if len(images) == 0 {
		out.meta, out.spec = p.meta, p.spec
		out.spec.Containers = []corev1.Container{{Name: "fake"}}
		out.spec.InitContainers, out.spec.EphemeralContainers = nil, nil
		return out
	}
	for _, c := range p.spec.Containers {
		if anyMatches(images, c.Image) {
			out.spec.Containers = append(out.spec.Containers, c)
		}
	}
	for _, c := range p.spec.InitContainers {
		if anyMatches(images, c.Image) {
			out.spec.InitContainers = append(out.spec.InitContainers, c)
		}
	}
	for _, c := range p.spec.EphemeralContainers {
		if anyMatches(images, c.Image) {
			out.spec.EphemeralContainers = append(out.spec.EphemeralContainers, c)
		}
	}
	return out
}

func anyMatches(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return pattern.Wildcard(p, s) })
}

// eachContainer visits the containers in the order of the checks.
func (p *Pod) eachContainer(visit func(c *corev1.Container, at place)) {
	for i := range p.spec.InitContainers {
		c := &p.spec.InitContainers[i]
		visit(c, p.inSpec("initContainers", strconv.Itoa(i)).within(c.Name))
	}
	for i := range p.spec.Containers {
		c := &p.spec.Containers[i]
		visit(c, p.inSpec("containers", strconv.Itoa(i)).within(c.Name))
	}
	for i := range p.spec.EphemeralContainers {
		c := (*corev1.Container)(&p.spec.EphemeralContainers[i].EphemeralContainerCommon)
		visit(c, p.inSpec("ephemeralContainers", strconv.Itoa(i)).within(c.Name))
	}
}

// place is a path of a pod: in the resource, and in the pod.
type place struct {
	path, inPod []string
	container   string
}

func (p *Pod) inSpec(path ...string) place {
	return place{path: slices.Concat(p.specAt, path), inPod: slices.Concat([]string{"spec"}, path)}
}

func (p *Pod) annotation(key string) place {
	return place{path: slices.Concat(p.metaAt, []string{"annotations", key}), inPod: []string{"metadata", "annotations", key}}
}

func (at place) within(container string) place {
	at.container = container
	return at
}

func (at place) child(path ...string) place {
	return place{path: slices.Concat(at.path, path), inPod: slices.Concat(at.inPod, path), container: at.container}
}

// holds makes the field that has the values.
func (at place) holds(values ...string) Field {
	return Field{Path: at.path, Values: slices.DeleteFunc(values, func(v string) bool { return v == "" }),
		generic: generic(at.inPod), container: at.container}
}

// join writes a path as Kyverno does.
func join(path []string) string {
	var b strings.Builder
	for i, p := range path {
		switch {
		case isIndex(p):
			b.WriteString("[" + p + "]")
		case i > 0 && path[i-1] == "annotations":
			b.WriteString("[" + p + "]")
		default:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(p)
		}
	}
	return b.String()
}

// generic writes a path of a pod with * for every number in it, those of an
// annotation's key too, as Kyverno compares them.
func generic(path []string) string {
	var b strings.Builder
	number := false
	for _, r := range join(path) {
		isDigit := r >= '0' && r <= '9'
		switch {
		case !isDigit:
			b.WriteRune(r)
		case !number:
			b.WriteByte('*')
		}
		number = isDigit
	}
	return b.String()
}

func isIndex(s string) bool {
	for _, r := range s {
		if r < '0' || r > '9' {
			return false
		}
	}
	return s != ""
}
