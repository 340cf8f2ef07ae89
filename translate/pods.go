// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"slices"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/kyverno"
)

// podSketch is a pod that differs from one that meets all standards in one field,
// or in one and in what exempts the pod from some checks.
type podSketch struct {
	spec        map[string]any
	annotations map[string]any
}

// setting is one value of one field; absent where it is nil.
type setting struct {
	path  []string
	value any
}

// set returns settings of a field to each of some values.
func set(path []string, values ...any) []setting {
	var out []setting
	for _, v := range values {
		out = append(out, setting{path, v})
	}
	return out
}

// securitySettings are those of the security contexts of pods and of containers.
func securitySettings() []setting {
	at := func(fields ...string) []string { return append([]string{"securityContext"}, fields...) }
	profile := func(kind string) any { return map[string]any{"type": kind} }
	profiles := []any{nil, profile("RuntimeDefault"), map[string]any{"type": "Localhost", "localhostProfile": "p"}, profile("Unconfined")}
	return slices.Concat(
		set(at("runAsNonRoot"), nil, true, false),
		set(at("runAsUser"), int64(0), int64(1000)),
		set(at("seccompProfile"), profiles...),
		set(at("appArmorProfile"), profiles...),
		set(at("seLinuxOptions"), map[string]any{}, map[string]any{"type": "container_t"}, map[string]any{"type": "spc_t"}, map[string]any{"user": "u"}, map[string]any{"role": "r"}, map[string]any{"level": "s0"}),
		set(at("windowsOptions"), map[string]any{"hostProcess": true}, map[string]any{"hostProcess": false}),
	)
}

// podSettings are those of pods.
func podSettings() []setting {
	out := securitySettings()
	for _, f := range []string{"hostNetwork", "hostPID", "hostIPC"} {
		out = append(out, set([]string{f}, true)...)
	}
	for _, kind := range []string{"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret", "hostPath", "nfs", "iscsi"} {
		out = append(out, set([]string{"volumes"}, []any{map[string]any{"name": "v", kind: map[string]any{}}})...)
	}
	for _, name := range []string{"kernel.shm_rmid_forced", "net.ipv4.tcp_rmem", "net.ipv4.tcp_notsent_lowat", "kernel.sem"} {
		out = append(out, set([]string{"securityContext", "sysctls"}, []any{map[string]any{"name": name, "value": "1"}})...)
	}
	return out
}

// containerSettings are those of containers.
func containerSettings() []setting {
	at := func(fields ...string) []string { return append([]string{"securityContext"}, fields...) }
	added := func(name string) any { return map[string]any{"drop": []any{"ALL"}, "add": []any{name}} }
	probed := func(how string) any {
		return map[string]any{how: map[string]any{"host": "example.com", "port": int64(80)}}
	}
	return slices.Concat(
		securitySettings(),
		set(at(), nil),
		set(at("privileged"), true, false),
		set(at("allowPrivilegeEscalation"), nil, true),
		set(at("capabilities"), nil, map[string]any{"drop": []any{"KILL"}}, added("NET_BIND_SERVICE"), added("CHOWN"), added("NET_ADMIN")),
		set(at("procMount"), "Default", "Unmasked"),
		set([]string{"ports"}, []any{map[string]any{"containerPort": int64(80)}}, []any{map[string]any{"containerPort": int64(80), "hostPort": int64(80)}}),
		set([]string{"livenessProbe"}, probed("httpGet"), map[string]any{"httpGet": map[string]any{"port": int64(80)}}),
		set([]string{"readinessProbe"}, probed("tcpSocket")),
		set([]string{"startupProbe"}, probed("httpGet")),
		set([]string{"lifecycle"}, map[string]any{"postStart": probed("httpGet")}, map[string]any{"preStop": probed("tcpSocket")}),
	)
}

// safePod is the spec of a pod that meets all standards.
func safePod(image string) map[string]any {
	container := func(name string) map[string]any {
		return map[string]any{"name": name, "image": image, "securityContext": map[string]any{
			"allowPrivilegeEscalation": false, "capabilities": map[string]any{"drop": []any{"ALL"}},
		}}
	}
	return map[string]any{
		"securityContext": map[string]any{"runAsNonRoot": true, "seccompProfile": map[string]any{"type": "RuntimeDefault"}},
		"initContainers":  []any{container("first")}, "containers": []any{container("main"), container("side")},
	}
}

// podSketches returns the pods that a rule of the Pod Security Standards is asked
// about.
func podSketches(ps *kyverno.PodSecurity) []podSketch {
	images := []string{"nginx:1.25"}
	for _, e := range ps.Exclude {
		for _, i := range e.Images {
			images = appendNew(images, instance(i, "other"))
		}
	}
	var out []podSketch
	for _, image := range images[:min(len(images), 4)] {
		for _, exempt := range []setting{{}, {[]string{"os"}, map[string]any{"name": "windows"}}, {[]string{"hostUsers"}, false}} {
			out = append(out, sketchesOf(image, exempt)...)
		}
	}
	for _, v := range []string{"", "runtime/default", "localhost/p", "unconfined"} {
		annotations := map[string]any{"container.apparmor.security.beta.kubernetes.io/main": v}
		out = append(out, podSketch{spec: safePod(images[0]), annotations: annotations})
	}
	return out
}

// sketchesOf returns pods with each setting in turn.
func sketchesOf(image string, exempt setting) []podSketch {
	base := func() map[string]any {
		pod := safePod(image)
		exempt.apply(pod)
		return pod
	}
	out := []podSketch{{spec: base()}}
	for _, s := range podSettings() {
		pod := base()
		s.apply(pod)
		out = append(out, podSketch{spec: pod})
	}
	for _, s := range securitySettings() {
		pod := base()
		s.apply(pod)
		for _, list := range []string{"initContainers", "containers"} {
			for _, c := range pod[list].([]any) {
				security := c.(map[string]any)["securityContext"].(map[string]any)
				security["runAsNonRoot"], security["seccompProfile"] = true, map[string]any{"type": "RuntimeDefault"}
			}
		}
		out = append(out, podSketch{spec: pod})
	}
	for _, s := range containerSettings() {
		for i, list := range []string{"initContainers", "containers"} {
			pod := base()
			containers := pod[list].([]any)
			s.apply(containers[len(containers)-1].(map[string]any))
			if i == 1 && s.value != nil && s.path[len(s.path)-1] == "runAsNonRoot" || s.path[len(s.path)-1] == "seccompProfile" {
				delete(pod["securityContext"].(map[string]any), s.path[len(s.path)-1]) // the container alone
			}
			out = append(out, podSketch{spec: pod})
		}
	}
	return out
}

// apply sets a field of a copy of its own.
func (s setting) apply(to map[string]any) {
	if len(s.path) == 0 {
		return
	}
	for _, name := range s.path[:len(s.path)-1] {
		below, ok := to[name].(map[string]any)
		if !ok {
			below = map[string]any{}
			to[name] = below
		}
		to = below
	}
	last := s.path[len(s.path)-1]
	if s.value == nil {
		delete(to, last)
		return
	}
	to[last] = clone(s.value)
}

// in returns an object with the pod.
func (p podSketch) in(o map[string]any) (map[string]any, bool) {
	path, ok := object.PodPath(gkOf(o))
	if !ok {
		return nil, false
	}
	at := o
	for _, step := range path {
		if at, ok = at[step.Field].(map[string]any); !ok {
			return nil, false
		}
	}
	at["spec"] = clone(p.spec)
	if p.annotations != nil {
		setting{[]string{"metadata", "annotations"}, p.annotations}.apply(at)
	}
	return o, true
}
