// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"context"
	"slices"
	"testing"

	"sconce.dev/sconce/object"
)

// podSecurityPolicy returns a policy of one rule of a level, for pods and for some of
// their controllers.
func podSecurityPolicy(controllers, level string, exclude ...any) []*object.Object {
	annotations := map[string]any{"pod-policies.kyverno.io/autogen-controllers": controllers}
	doc := map[string]any{
		"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": map[string]any{"name": "p", "annotations": annotations},
		"spec": map[string]any{"rules": []any{map[string]any{
			"name":     "r",
			"match":    map[string]any{"any": []any{map[string]any{"resources": map[string]any{"kinds": []any{"Pod"}}}}},
			"validate": map[string]any{"message": "m", "podSecurity": map[string]any{"level": level, "version": "latest", "exclude": exclude}},
		}}},
	}
	return []*object.Object{object.New(object.FromAny(doc), &object.Origin{})}
}

// TestPodSecurity holds that a level, with what is excluded of it, is translated
// and equal.
func TestPodSecurity(t *testing.T) {
	without := func(control string, images ...any) any {
		out := map[string]any{"controlName": control}
		if len(images) > 0 {
			out["images"] = images
		}
		return out
	}
	for name, docs := range map[string][]*object.Object{
		"baseline":                       podSecurityPolicy("none", "baseline"),
		"restricted":                     podSecurityPolicy("none", "restricted"),
		"of controllers":                 podSecurityPolicy("Deployment,CronJob", "restricted"),
		"without a control":              podSecurityPolicy("none", "restricted", without("Seccomp"), without("Seccomp", "*")),
		"without a control for images":   podSecurityPolicy("none", "restricted", without("Seccomp", "nginx*"), without("Capabilities", "nginx*", "web"), without("Running as Non-root", "nginx*")),
		"without a control of the pod":   podSecurityPolicy("none", "baseline", without("Host Namespaces"), without("Sysctls")),
		"without a control for the pod":  podSecurityPolicy("none", "baseline", without("AppArmor"), without("SELinux")),
		"without one for privileged use": podSecurityPolicy("none", "baseline", without("Privileged Containers", "web*")),
	} {
		t.Run(name, func(t *testing.T) {
			r := Translate(context.Background(), docs, Options{To: VAP, Count: 100, Seed: 1}).Rules[0]
			if r.Answer() != Equal || r.Evidence.Weak() != "" {
				t.Fatalf("%s: %v %v", r.Answer(), r.Refused, r.Evidence)
			}
		})
	}
	for name, docs := range map[string][]*object.Object{
		"restricted":                   podSecurityPolicy("none", "restricted"),
		"of controllers":               podSecurityPolicy("Deployment,CronJob", "baseline"),
		"without a control for images": podSecurityPolicy("none", "restricted", without("Seccomp", "nginx*")),
	} {
		t.Run("to a control, "+name, func(t *testing.T) {
			r := Translate(context.Background(), docs, Options{To: Control, Count: 100, Seed: 1}).Rules[0]
			if r.Answer() != Equal || r.Evidence.Weak() != "" {
				t.Fatalf("%s: %v %v", r.Answer(), r.Refused, r.Evidence)
			}
		})
	}
	for name, docs := range map[string][]*object.Object{
		"a field":           podSecurityPolicy("none", "baseline", map[string]any{"controlName": "Sysctls", "restrictedField": "spec.securityContext.sysctls[*].name"}),
		"the pod, at large": podSecurityPolicy("none", "restricted", without("Capabilities")),
	} {
		if r := Translate(context.Background(), docs, Options{To: VAP, Count: 10}).Rules[0]; r.Answer() != Refused {
			t.Errorf("what excludes %s is %s", name, r.Answer())
		}
	}
}

// TestPodSecurityProof holds that the proof sees it where one check, or what it is
// not asked of, is left out.
func TestPodSecurityProof(t *testing.T) {
	all := podChecks
	t.Cleanup(func() { podChecks = all })
	for i, c := range all {
		level := "baseline"
		if c.restricted {
			level = "restricted"
		}
		changes := map[string]podCheck{"the check": {control: c.control, restricted: c.restricted}}
		if c.pod != "" && c.container != "" {
			without := c
			without.container = ""
			changes["what a container sets"] = without
			without = c
			without.pod = ""
			if c.bad == "" { // else the check of the baseline says the same of the pod
				changes["what the pod sets"] = without
			}
		}
		if c.unless != "" {
			without := c
			without.unless = ""
			changes["the exemption"] = without
		}
		for what, changed := range changes {
			podChecks = slices.Clone(all)
			podChecks[i] = changed
			r := Translate(context.Background(), podSecurityPolicy("none", level), Options{To: VAP, Count: 100, Seed: 1}).Rules[0]
			if r.Answer() != Differs {
				t.Errorf("%s (%s) lacks %s, and is %s: %v %v", c.control, level, what, r.Answer(), r.Refused, r.Evidence)
			}
		}
	}
}
