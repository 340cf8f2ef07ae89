// SPDX-License-Identifier: Apache-2.0

package generate

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/all"
	"sconce.dev/sconce/object"
)

// fileGroups are the groups of files that components read at their start. No
// API server is ever sent one.
var fileGroups = []string{
	"apiserver.config.k8s.io", "apiserver.k8s.io", "audit.k8s.io", "kubeadm.k8s.io", "kubelet.config.k8s.io",
	"kubeproxy.config.k8s.io", "kubescheduler.config.k8s.io", "pod-security.admission.config.k8s.io",
}

// policyKinds are what the API server exempts from policies that it stores, so
// that none can lock itself in; those in its own files judge them.
var policyKinds = []string{
	"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
}

const admissionGroup = "admissionregistration.k8s.io"

// kinds returns those kinds of the rule that the API server holds policies
// against, or why there is none.
func (g *generator) kinds() ([]object.GroupKind, error) {
	var out []object.GroupKind
	var why []string
	for _, k := range g.rule.Kinds() {
		reason := g.never(k)
		if reason == "" {
			out = append(out, k)
		} else if !slices.Contains(why, reason) {
			why = append(why, reason)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s", strings.Join(why, "; "))
	}
	return out, nil
}

// never says why no policy is held against a kind; "" if one is.
func (g *generator) never(k object.GroupKind) string {
	switch {
	case k.Group == facts.Group:
		for _, s := range all.Singles {
			if slices.Contains(s.Kinds, k.Kind) {
				return "judges what is read between the lines of an object (flags, files, credentials, versions), which CEL cannot parse"
			}
		}
		return "judges what several objects tell together, and a policy sees one"
	case slices.Contains(fileGroups, k.Group):
		return "judges a file of a component, which no API server is sent"
	case k.Group == admissionGroup && slices.Contains(policyKinds, k.Kind) && !g.opts.Static:
		return "judges admission policies, which the API server exempts from those it stores; --static judges them"
	}
	return ""
}

// irregular are resources that are not what the rules of English make of their
// kinds.
var irregular = map[object.GroupKind]string{
	{Group: "security.openshift.io", Kind: "SecurityContextConstraints"}: "securitycontextconstraints",
	{Group: "constraints.gatekeeper.sh", Kind: "K8sAllowedRepos"}:        "k8sallowedrepos",
}

// resources returns the resource of a kind, and those of its subresources by
// which what is judged can be changed.
func (g *generator) resources(k object.GroupKind) []string {
	if g.opts.Resource != nil {
		if r, ok := g.opts.Resource(k); ok {
			return withSubresources(k, r)
		}
	}
	return withSubresources(k, Resource(k))
}

// Resource returns the resource that a kind most likely is.
func Resource(k object.GroupKind) string {
	if r, ok := irregular[k]; ok {
		return r
	}
	guess, _ := meta.UnsafeGuessKindToResource(schema.GroupVersionKind{Group: k.Group, Version: "v1", Kind: k.Kind})
	return guess.Resource
}

func withSubresources(k object.GroupKind, resource string) []string {
	if (k == object.GroupKind{Kind: "Pod"}) {
		return []string{resource, resource + "/ephemeralcontainers", resource + "/resize"}
	}
	return []string{resource}
}
