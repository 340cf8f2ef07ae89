// SPDX-License-Identifier: Apache-2.0

// Package podsecurity judges pods by the Pod Security Standards as Kyverno's
// validate.podSecurity does, with its exclusions. The checks are the API
// server's own; what they leave unsaid, the fields that violate them, is derived
// here, since exclusions are about fields.
package podsecurity

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// Exclude leaves something out of a standard.
type Exclude struct {
	// ControlName is as the Pod Security Standards name it: "Capabilities".
	ControlName string
	// Images, with wildcards, are those of the containers that it is about. If
	// there are none, it is about what the pod itself sets.
	Images []string
	// RestrictedField is one field of the control, with [*] for every index:
	// spec.containers[*].securityContext.capabilities.add. Empty for all.
	RestrictedField string
	// Values, with wildcards, are all that the field may hold to be left out; any
	// if there are none.
	Values []string
}

// Violation is a check that a pod does not pass.
type Violation struct {
	Control string // as the Pod Security Standards name it: "Capabilities"
	Check   string // as the API server names it: "capabilities_baseline"
	Reason  string // a few words: "non-default capabilities"
	Detail  string // which containers, which values
	// Fields are the places that violate it, without those that are excluded. A
	// check of which all fields are excluded is no violation. There are none for
	// checks that Kyverno knows no fields of.
	Fields []Field
}

// Field is a place that violates a check.
type Field struct {
	Path   []string // field names and list indexes, from the root of the resource
	Values []string // what it holds; empty where it lacks something

	generic   string // the path within the pod, with [*] for indexes
	container string // the name of the container that it is in
}

// String returns the path as Kyverno writes it: spec.containers[0].image.
func (f Field) String() string { return join(f.Path) }

// Evaluate judges a pod, or an object that makes pods (a Deployment, a CronJob),
// by a level ("baseline", "restricted") of a version ("v1.31", "latest", "").
func Evaluate(level, version string, exclude []Exclude, resource any) ([]Violation, error) {
	s, err := Compile(level, version, exclude)
	if err != nil {
		return nil, err
	}
	p, err := Decode(resource)
	if err != nil {
		return nil, err
	}
	return s.Evaluate(p), nil
}

// Standard is a level of a version of the Pod Security Standards, with
// exclusions. It is safe for concurrent use.
type Standard struct {
	checks  []check
	exclude []Exclude
}

// check is a check in the version that a standard asks for.
type check struct {
	id  string
	run policy.CheckPodFn
}

// Compile makes a standard.
func Compile(level, version string, exclude []Exclude) (*Standard, error) {
	if l := api.Level(level); !l.Valid() {
		return nil, fmt.Errorf("podSecurity.level is %q; want baseline, restricted or privileged", level)
	}
	v, err := parseVersion(version)
	if err != nil {
		return nil, err
	}
	if err := Check(exclude); err != nil {
		return nil, err
	}
	return &Standard{checks: selectChecks(api.Level(level), v), exclude: exclude}, nil
}

// Check says what is wrong with exclusions: those of a rule, or those of a
// PolicyException.
func Check(exclude []Exclude) error {
	for _, e := range exclude {
		if _, ok := controls[e.ControlName]; !ok {
			return fmt.Errorf("podSecurity.exclude: there is no control %q; want one of %s",
				e.ControlName, strings.Join(slices.Sorted(maps.Keys(controls)), ", "))
		}
	}
	return nil
}

// newest is the last version of the standards that Kyverno (1.19) knows: it is what
// it takes for the latest, and for any that is newer.
var newest = api.MajorMinorVersion(1, 34)

func parseVersion(version string) (api.Version, error) {
	if version == "" || version == "latest" {
		return newest, nil
	}
	v, err := api.ParseVersion(version)
	if err != nil {
		return api.Version{}, fmt.Errorf("podSecurity.version is %q; want latest, or one like v1.31", version)
	}
	if newest.Older(v) {
		return newest, nil
	}
	return v, nil
}

// selectChecks chooses checks and their versions as Kyverno does: the level
// privileged has all checks, a check of the restricted level does not replace
// that of the baseline, and a check holds for versions older than itself too.
func selectChecks(level api.Level, version api.Version) []check {
	var out []check
	for _, c := range policy.DefaultChecks() {
		if level == api.LevelBaseline && c.Level != level || newest.Older(c.Versions[0].MinimumVersion) {
			continue
		}
		out = append(out, check{string(c.ID), versionOf(c, version)})
	}
	return out
}

func versionOf(c policy.Check, version api.Version) policy.CheckPodFn {
	run := c.Versions[0].CheckPod
	for _, v := range c.Versions[1:] {
		if !version.Older(v.MinimumVersion) {
			run = v.CheckPod
		}
	}
	return run
}

// Evaluate returns what a pod violates, in the order of the checks.
func (s *Standard) Evaluate(p *Pod) []Violation {
	violations := s.violations(p)
	if len(violations) == 0 {
		return nil
	}
	return s.Exempt(p, violations, s.exclude)
}

func (s *Standard) violations(p *Pod) []Violation {
	var out []Violation
	for _, c := range s.checks {
		result := c.run(&p.meta, &p.spec)
		if result.Allowed {
			continue
		}
		out = append(out, Violation{
			Control: controlOf[c.id], Check: c.id,
			Reason: result.ForbiddenReason, Detail: result.ForbiddenDetail,
			Fields: p.fields(c),
		})
	}
	return out
}

// controls are the checks of the controls that can be excluded.
var controls = map[string][]string{
	"/proc Mount Type":         {"procMount"},
	"AppArmor":                 {"appArmorProfile"},
	"Capabilities":             {"capabilities_baseline", "capabilities_restricted"},
	"Host Namespaces":          {"hostNamespaces"},
	"Host Ports":               {"hostPorts"},
	"HostPath Volumes":         {"hostPathVolumes"},
	"HostProcess":              {"windowsHostProcess"},
	"Privilege Escalation":     {"allowPrivilegeEscalation"},
	"Privileged Containers":    {"privileged"},
	"Running as Non-root":      {"runAsNonRoot"},
	"Running as Non-root user": {"runAsUser"},
	"SELinux":                  {"seLinuxOptions"},
	"Seccomp":                  {"seccompProfile_baseline", "seccompProfile_restricted"},
	"Sysctls":                  {"sysctls"},
	"Volume Types":             {"restrictedVolumes"},
}

var controlOf = func() map[string]string {
	out := map[string]string{"hostProbesAndHostLifecycle": "Host Probes / Lifecycle Hooks"}
	for name, checks := range controls {
		for _, c := range checks {
			out[c] = name
		}
	}
	return out
}()
