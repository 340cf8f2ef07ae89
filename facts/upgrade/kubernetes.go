// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// clusterVersions are the kinds whose objects say which version of Kubernetes a
// cluster, or a part of one, is to run, and where.
var clusterVersions = map[object.GroupKind]object.Path{
	{Group: "kubeadm.k8s.io", Kind: "ClusterConfiguration"}: facts.Path("kubernetesVersion"),

	{Group: "cluster.x-k8s.io", Kind: "Cluster"}:           facts.Path("spec", "topology", "version"),
	{Group: "cluster.x-k8s.io", Kind: "Machine"}:           facts.Path("spec", "version"),
	{Group: "cluster.x-k8s.io", Kind: "MachineSet"}:        facts.Path("spec", "template", "spec", "version"),
	{Group: "cluster.x-k8s.io", Kind: "MachineDeployment"}: facts.Path("spec", "template", "spec", "version"),
	{Group: "cluster.x-k8s.io", Kind: "MachinePool"}:       facts.Path("spec", "template", "spec", "version"),

	{Group: "controlplane.cluster.x-k8s.io", Kind: "KubeadmControlPlane"}:        facts.Path("spec", "version"),
	{Group: "controlplane.cluster.x-k8s.io", Kind: "RKE2ControlPlane"}:           facts.Path("spec", "version"),
	{Group: "controlplane.cluster.x-k8s.io", Kind: "AWSManagedControlPlane"}:     facts.Path("spec", "version"),
	{Group: "infrastructure.cluster.x-k8s.io", Kind: "AzureManagedControlPlane"}: facts.Path("spec", "version"),

	{Group: "eksctl.io", Kind: "ClusterConfig"}:                          facts.Path("metadata", "version"),
	{Group: "eks.services.k8s.aws", Kind: "Cluster"}:                     facts.Path("spec", "version"),
	{Group: "provisioning.cattle.io", Kind: "Cluster"}:                   facts.Path("spec", "kubernetesVersion"),
	{Group: "container.cnrm.cloud.google.com", Kind: "ContainerCluster"}: facts.Path("spec", "minMasterVersion"),
}

// builders are the distributions of kinds in clusterVersions whose versions do
// not tell.
var builders = map[object.GroupKind]string{
	{Group: "controlplane.cluster.x-k8s.io", Kind: "AWSManagedControlPlane"}:     "eks",
	{Group: "infrastructure.cluster.x-k8s.io", Kind: "AzureManagedControlPlane"}: "aks",
	{Group: "eksctl.io", Kind: "ClusterConfig"}:                                  "eks",
	{Group: "eks.services.k8s.aws", Kind: "Cluster"}:                             "eks",
	{Group: "container.cnrm.cloud.google.com", Kind: "ContainerCluster"}:         "gke",
}

// clusterVersion returns the fact about the version that an object names.
func clusterVersion(o *object.Object, path object.Path, env *facts.Env) []*object.Object {
	value := o.Root.Lookup(path).Str()
	return component(o, path, running{name: "cluster", version: value, distribution: builders[o.GroupKind()]}, env)
}

// running is a component of Kubernetes in a version.
type running struct {
	name    string // kubelet, kube-apiserver, …; cluster for all of them
	version string
	os      string
	// distribution is the key of the distribution, where the version does not
	// tell it.
	distribution string
}

// component returns the fact about a component, or none where the version is
// none: latest, stable-1.
func component(o *object.Object, path object.Path, r running, env *facts.Env) []*object.Object {
	fields, ok := r.fields(env)
	if !ok {
		return nil
	}
	return []*object.Object{about("KubernetesVersion", o, path, fields...)}
}

func (r running) fields(env *facts.Env) ([]object.Field, bool) {
	v, rest, ok := parseVersion(r.version)
	if !ok || v.len < 2 || v.n[0] != 1 {
		return nil, false
	}
	m := minor(v.n[1])
	if key := distributionOf(rest); key != "" {
		r.distribution = key
	}
	title, c := r.name, circumstances{component: r.name, os: r.os}
	if r.name == "cluster" {
		title, c.component = "Kubernetes", ""
	}
	if d := releases().distribution(r.distribution); d != nil {
		if d.Key != "aks" { // whose patches are upstream's
			c.builder = d.Name
		}
	} else {
		r.distribution = "kubernetes"
	}
	out := []object.Field{
		text("component", r.name), text("title", title), text("version", r.version), text("minor", m.String()), yes("exact", v.len > 2),
		text("distribution", r.distribution),
		facts.Field("support", allSupport(m, env)),
		text("target", minor(env.Minor).String()),
	}
	if env.Named {
		out = append(out, number("skew", int64(env.Minor)-int64(m)))
	} else {
		out = append(out, unknown("skew", "the version of the API server; name it with --kube-version or in the baseline"))
	}
	out = append(out, behind(v, c.builder, env)...)
	out = append(out, flawFields(kubernetes().Flaws, v, c)...)
	return append(out, kubernetes().age(env)...), true
}

// distributionOf returns the key of the distribution whose build it is, by what
// follows the version; "" where that is upstream's or says nothing.
func distributionOf(suffix string) string {
	switch {
	case strings.HasPrefix(suffix, "-eks-"), strings.HasPrefix(suffix, "-eksbuild."):
		return "eks"
	case strings.HasPrefix(suffix, "-gke."):
		return "gke"
	case len(suffix) >= 8 && suffix[0] == '+' && strings.Trim(suffix[1:], "0123456789abcdef") == "":
		return "openshift" // +, and the commit
	}
	return ""
}

// distribution returns the distribution with a key.
func (f *releasesFile) distribution(key string) *distribution {
	for i := range f.Distributions {
		if f.Distributions[i].Key == key {
			return &f.Distributions[i]
		}
	}
	return nil
}

// allSupport returns until when a minor is supported by Kubernetes itself and by
// each distribution.
func allSupport(m minor, env *facts.Env) *object.Node {
	upstream := make([]support, len(releases().Minors))
	for i, r := range releases().Minors {
		upstream[i] = support{Minor: r.Minor, EndOfLife: r.EndOfLife}
	}
	own := supportOf("Kubernetes", upstream, m, env)
	if own == nil { // older than all that is known
		last := upstream[len(upstream)-1]
		own = until(last.EndOfLife, nil, env)
	}
	out := facts.Map(facts.Field("kubernetes", facts.Map(append(slices.Clip(own), text("by", "Kubernetes"))...)))
	for _, d := range releases().Distributions {
		fields := supportOf(d.Name, d.Minors, m, env)
		if fields == nil {
			fields = own
		}
		fields = append(slices.Clip(fields), text("by", d.Name))
		out.Fields = append(out.Fields, facts.Field(d.Key, facts.Map(fields...)))
	}
	return out
}

// supportOf returns nil for a minor that is older than those in the list.
func supportOf(by string, list []support, m minor, env *facts.Env) []object.Field {
	oldest := m
	for _, s := range list {
		if s.Minor == m {
			return until(s.EndOfLife, s.Extended, env)
		}
		oldest = min(oldest, s.Minor)
	}
	if oldest < m {
		return unknownEnd(fmt.Sprintf("until when %s supports %s; the data is of %s", by, m, releases().Date))
	}
	return nil
}

// behind returns the fields that say how far a version is behind the newest
// patch of its minor. A patch that came after the day of the data is not known:
// the version is then behind by daysBehind at least, and by daysBehindAtMost at
// most.
func behind(v version, builder string, env *facts.Env) []object.Field {
	r := releases().release(minor(v.n[1]))
	why := ""
	switch {
	case builder != "":
		why = "when " + builder + " brings patches"
	case v.len < 3:
		why = "the patch version"
	case r == nil || r.Patches == nil:
		why = fmt.Sprintf("the patches of %s; the data is of %s", minor(v.n[1]), releases().Date)
	case env.Today.IsZero():
		why = noToday
	}
	if why != "" {
		return []object.Field{unknown("latest", why), unknown("daysBehind", why), unknown("daysBehindAtMost", why), unknown("newer", why)}
	}
	last := len(r.Patches) - 1
	out := []object.Field{text("latest", fmt.Sprintf("%s.%d", r.Minor, max(last, v.n[2])))}
	if v.n[2] < last {
		days := max(0, -r.Patches[v.n[2]+1].after(env.Today))
		return append(out, number("daysBehind", days), number("daysBehindAtMost", days), yes("newer", true))
	}
	most := int64(0)
	if r.EndOfLife.at.After(releases().Date.at) {
		most = max(0, -releases().Date.after(env.Today))
	}
	return append(out, number("daysBehind", 0), number("daysBehindAtMost", most),
		unknown("newer", "the patches that came after "+releases().Date.String()))
}

// targetVersion returns the fact about the version that objects are judged for,
// or nil where nobody named one.
func targetVersion(env *facts.Env) *object.Object {
	if !env.Named {
		return nil
	}
	version := minor(env.Minor).String()
	if env.Patch >= 0 {
		version = fmt.Sprintf("%s.%d", version, env.Patch)
	}
	fields, ok := running{name: "cluster", version: version}.fields(env)
	if !ok {
		return nil
	}
	of := &object.Object{
		Ref:    object.Ref{APIVersion: "v1", Kind: "Cluster", Name: "kubernetes-" + version},
		Root:   facts.Map(text("version", version)),
		Origin: &object.Origin{Source: "--kube-version"},
	}
	return about("TargetVersion", of, object.Path{{Field: "version"}}, fields...)
}
