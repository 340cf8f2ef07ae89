// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// node returns what a Node says of itself.
func node(o *object.Object, env *facts.Env) []*object.Object {
	info := o.Root.At("status", "nodeInfo")
	if info == nil {
		return nil
	}
	at := func(field string) object.Path { return facts.Path("status", "nodeInfo", field) }
	system := info.Get("operatingSystem").Str()
	out := component(o, at("kubeletVersion"), running{
		name: "kubelet", version: info.Get("kubeletVersion").Str(), os: system, distribution: managedBy(o),
	}, env)
	out = append(out, runtimeFact(o, at("containerRuntimeVersion"), info.Get("containerRuntimeVersion").Str(), system, env)...)
	out = append(out, systemFact(o, at("osImage"), info.Get("osImage").Str(), env)...)
	if system == "linux" || system == "" {
		out = append(out, kernelFact(o, at("kernelVersion"), info.Get("kernelVersion").Str(), info.Get("osImage").Str(), env)...)
	}
	return out
}

// managedBy returns the key of the service that runs a Node, by its labels.
func managedBy(o *object.Object) string {
	labels := o.Root.At("metadata", "labels")
	for _, l := range [...][2]string{
		{"kubernetes.azure.com/cluster", "aks"}, {"eks.amazonaws.com/nodegroup", "eks"},
		{"cloud.google.com/gke-nodepool", "gke"}, {"node.openshift.io/os_id", "openshift"},
	} {
		if labels.Get(l[0]) != nil {
			return l[1]
		}
	}
	return ""
}

// runtimeFact returns the fact about a container runtime: containerd://1.7.2.
func runtimeFact(o *object.Object, path object.Path, value, system string, env *facts.Env) []*object.Object {
	name, number, _ := strings.Cut(value, "://")
	v, rest, ok := parseVersion(number)
	if !ok {
		return nil
	}
	file := nodes()
	for i := range file.Runtimes {
		p := &file.Runtimes[i]
		if p.Name != name {
			continue
		}
		c := circumstances{os: system}
		if !upstreamBuild(rest) {
			c.builder = "the distribution"
		}
		out := []object.Field{text("name", name), text("version", number)}
		if p.AsKubernetes && c.builder == "" {
			out = append(out, yes("tracked", true), text("retired", ""), yes("supported", false))
			out = append(out, allSupport(minor(v.n[1]), env).Get("kubernetes").Fields...)
		} else {
			out = append(out, p.life(v, c.builder, &file.header, env)...)
		}
		out = append(out, flawFields(p.Flaws, v, c)...)
		return []*object.Object{about("ContainerRuntime", o, path, append(out, file.age(env)...)...)}
	}
	return nil
}

// upstreamBuild says whether what follows a version leaves it upstream's: k3s
// and RKE2 build what upstream released.
func upstreamBuild(suffix string) bool {
	return suffix == "" || strings.HasPrefix(suffix, "-k3s") || strings.HasPrefix(suffix, "-rke2")
}

// kernelFact returns the fact about the kernel of a Linux node.
func kernelFact(o *object.Object, path object.Path, value, image string, env *facts.Env) []*object.Object {
	v, rest, ok := parseVersion(value)
	if !ok || v.len < 2 {
		return nil
	}
	file := nodes()
	c := circumstances{}
	if !upstreamKernel(rest) {
		c.builder = "the distribution"
		if image != "" {
			c.builder = image
		}
	}
	out := append([]object.Field{text("version", value)}, flawFields(file.Kernel.Flaws, v, c)...)
	return []*object.Object{about("Kernel", o, path, append(out, file.age(env)...)...)}
}

// upstreamKernel says whether what follows a kernel's version leaves the numbers
// those of the stable release: Talos and Flatcar, and Container-Optimized OS
// (a single +). Others put fixes on top of a release.
func upstreamKernel(suffix string) bool {
	return suffix == "" || suffix == "+" || suffix == "-talos" || suffix == "-flatcar"
}

// systemFact returns the fact about the operating system: Ubuntu 22.04.4 LTS.
func systemFact(o *object.Object, path object.Path, image string, env *facts.Env) []*object.Object {
	file := nodes()
	for i := range file.Systems {
		p := &file.Systems[i]
		rest, ok := strings.CutPrefix(image, p.Image+" ")
		if !ok {
			continue
		}
		number, after, _ := strings.Cut(rest, " ")
		if pack, _, _ := strings.Cut(after, " "); strings.HasPrefix(pack, "SP") {
			number += "." + pack[2:] // SUSE Linux Enterprise Server 15 SP5
		}
		v, _, ok := parseVersion(number)
		if !ok {
			continue
		}
		out := []object.Field{text("name", p.Name), text("version", image)}
		out = append(out, p.life(v, "", &file.header, env)...)
		return []*object.Object{about("NodeSystem", o, path, append(out, file.age(env)...)...)}
	}
	return nil
}
