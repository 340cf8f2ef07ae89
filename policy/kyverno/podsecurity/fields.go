// SPDX-License-Identifier: Apache-2.0

package podsecurity

import (
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// finder finds the fields that violate a check.
type finder func(p *Pod, c check) []Field

// finders has one for each check, in the order in which Kyverno lists the fields:
// what an exclusion takes away depends on it.
var finders = map[string]finder{
	"allowPrivilegeEscalation":  escalationFields,
	"appArmorProfile":           appArmorFields,
	"capabilities_baseline":     baselineCapabilityFields,
	"capabilities_restricted":   restrictedCapabilityFields,
	"hostNamespaces":            hostNamespaceFields,
	"hostPathVolumes":           hostPathFields,
	"hostPorts":                 hostPortFields,
	"privileged":                privilegedFields,
	"procMount":                 procMountFields,
	"restrictedVolumes":         volumeFields,
	"runAsNonRoot":              nonRootFields,
	"runAsUser":                 userFields,
	"seLinuxOptions":            seLinuxFields,
	"seccompProfile_baseline":   seccompBaselineFields,
	"seccompProfile_restricted": seccompRestrictedFields,
	"sysctls":                   sysctlFields,
	"windowsHostProcess":        hostProcessFields,
}

// fields returns those that violate a check that the pod does not pass.
func (p *Pod) fields(c check) []Field {
	if find := finders[c.id]; find != nil {
		return find(p, c)
	}
	return nil
}

// refuses says whether a check refuses a pod of which nothing but one thing is
// known. So what a check allows need not be written down a second time.
func (c check) refuses(spec corev1.PodSpec) bool {
	return !c.run(&metav1.ObjectMeta{}, &spec).Allowed
}

func (c check) refusesSecurity(s corev1.PodSecurityContext) bool {
	return c.refuses(corev1.PodSpec{SecurityContext: &s})
}

func (c check) refusesCapabilities(capabilities corev1.Capabilities) bool {
	return c.refuses(corev1.PodSpec{Containers: []corev1.Container{{
		SecurityContext: &corev1.SecurityContext{Capabilities: &capabilities},
	}}})
}

func (c check) refusesAnnotation(key, value string, containers ...corev1.Container) bool {
	meta := metav1.ObjectMeta{Annotations: map[string]string{key: value}}
	return !c.run(&meta, &corev1.PodSpec{Containers: containers}).Allowed
}

// inContainers collects the fields of the security contexts of containers. A
// container without one has an empty one.
func (p *Pod) inContainers(find func(s *corev1.SecurityContext, at place) []Field) []Field {
	var out []Field
	p.eachContainer(func(c *corev1.Container, at place) {
		s := c.SecurityContext
		if s == nil {
			s = &corev1.SecurityContext{}
		}
		out = append(out, find(s, at.child("securityContext"))...)
	})
	return out
}

// security returns the security context of the pod, and its place.
func (p *Pod) security() (*corev1.PodSecurityContext, place) {
	s := p.spec.SecurityContext
	if s == nil {
		s = &corev1.PodSecurityContext{}
	}
	return s, p.inSpec("securityContext")
}

func one(is bool, f Field) []Field {
	if !is {
		return nil
	}
	return []Field{f}
}

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }

func escalationFields(p *Pod, _ check) []Field {
	var out []Field
	p.eachContainer(func(c *corev1.Container, at place) {
		at = at.child("securityContext", "allowPrivilegeEscalation")
		switch {
		case c.SecurityContext == nil:
			out = append(out, at.holds())
		case c.SecurityContext.AllowPrivilegeEscalation == nil:
			out = append(out, at.holds("nil"))
		case *c.SecurityContext.AllowPrivilegeEscalation:
			out = append(out, at.holds("true"))
		}
	})
	return out
}

func appArmorFields(p *Pod, c check) []Field {
	bad := func(a *corev1.AppArmorProfile) bool {
		return a != nil && c.refusesSecurity(corev1.PodSecurityContext{AppArmorProfile: a})
	}
	var out []Field
	if s, at := p.security(); bad(s.AppArmorProfile) {
		out = append(out, at.child("appArmorProfile", "type").holds(string(s.AppArmorProfile.Type)))
	}
	out = append(out, p.inContainers(func(s *corev1.SecurityContext, at place) []Field {
		if !bad(s.AppArmorProfile) {
			return nil
		}
		return []Field{at.child("appArmorProfile", "type").holds(string(s.AppArmorProfile.Type))}
	})...)
	for _, key := range slices.Sorted(maps.Keys(p.meta.Annotations)) {
		if value := p.meta.Annotations[key]; c.refusesAnnotation(key, value) {
			out = append(out, p.annotation(key).holds(value))
		}
	}
	return out
}

func baselineCapabilityFields(p *Pod, c check) []Field {
	return p.inContainers(func(s *corev1.SecurityContext, at place) []Field {
		if s.Capabilities == nil {
			return nil
		}
		return addedFields(s.Capabilities.Add, at, func(capability corev1.Capability) bool {
			return c.refusesCapabilities(corev1.Capabilities{Add: []corev1.Capability{capability}})
		})
	})
}

// addedFields returns the field of added capabilities, if some are bad.
func addedFields(added []corev1.Capability, at place, bad func(corev1.Capability) bool) []Field {
	var values []string
	for _, c := range added {
		if bad(c) {
			values = append(values, string(c))
		}
	}
	if len(values) == 0 {
		return nil
	}
	slices.Sort(values)
	return []Field{at.child("capabilities", "add").holdsAll(slices.Compact(values))}
}

// holdsAll is holds for a list, whose empty elements count.
func (at place) holdsAll(values []string) Field {
	f := at.holds()
	f.Values = values
	return f
}

func restrictedCapabilityFields(p *Pod, c check) []Field {
	missing := p.inContainers(func(s *corev1.SecurityContext, at place) []Field {
		var dropped []string
		if s.Capabilities != nil {
			for _, d := range s.Capabilities.Drop {
				if d == "ALL" {
					return nil
				}
				dropped = append(dropped, string(d))
			}
		}
		slices.Sort(dropped)
		return []Field{at.child("capabilities", "drop").holdsAll(slices.Compact(dropped))}
	})
	return append(missing, p.inContainers(func(s *corev1.SecurityContext, at place) []Field {
		if s.Capabilities == nil {
			return nil
		}
		return addedFields(s.Capabilities.Add, at, func(added corev1.Capability) bool {
			return c.refusesCapabilities(corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{added}})
		})
	})...)
}

func hostNamespaceFields(p *Pod, _ check) []Field {
	return slices.Concat(
		one(p.spec.HostNetwork, p.inSpec("hostNetwork").holds("true")),
		one(p.spec.HostPID, p.inSpec("hostPID").holds("true")),
		one(p.spec.HostIPC, p.inSpec("hostIPC").holds("true")),
	)
}

func hostPathFields(p *Pod, _ check) []Field {
	var out []Field
	for i, v := range p.spec.Volumes {
		if v.HostPath != nil {
			out = append(out, p.inSpec("volumes", strconv.Itoa(i), "hostPath").holds(v.HostPath.Path))
		}
	}
	return out
}

func hostPortFields(p *Pod, _ check) []Field {
	var out []Field
	p.eachContainer(func(c *corev1.Container, at place) {
		for i, port := range c.Ports {
			if port.HostPort != 0 {
				out = append(out, at.child("ports", strconv.Itoa(i), "hostPort").holds(strconv.Itoa(int(port.HostPort))))
			}
		}
	})
	return out
}

func privilegedFields(p *Pod, _ check) []Field {
	return p.inContainers(func(s *corev1.SecurityContext, at place) []Field {
		return one(isTrue(s.Privileged), at.child("privileged").holds("true"))
	})
}

func procMountFields(p *Pod, _ check) []Field {
	return p.inContainers(func(s *corev1.SecurityContext, at place) []Field {
		if s.ProcMount == nil || *s.ProcMount == corev1.DefaultProcMount {
			return nil
		}
		return []Field{at.child("procMount").holds(string(*s.ProcMount))}
	})
}

func nonRootFields(p *Pod, _ check) []Field {
	s, at := p.security()
	explicit := one(isFalse(s.RunAsNonRoot), at.child("runAsNonRoot").holds("false"))
	explicit = append(explicit, p.inContainers(func(s *corev1.SecurityContext, at place) []Field {
		return one(isFalse(s.RunAsNonRoot), at.child("runAsNonRoot").holds("false"))
	})...)
	if isTrue(s.RunAsNonRoot) {
		return explicit
	}
	return append(explicit, p.inContainers(func(s *corev1.SecurityContext, at place) []Field {
		return one(s.RunAsNonRoot == nil, at.child("runAsNonRoot").holds())
	})...)
}

func userFields(p *Pod, _ check) []Field {
	isRoot := func(user *int64) bool { return user != nil && *user == 0 }
	s, at := p.security()
	return append(one(isRoot(s.RunAsUser), at.child("runAsUser").holds("0")),
		p.inContainers(func(s *corev1.SecurityContext, at place) []Field {
			return one(isRoot(s.RunAsUser), at.child("runAsUser").holds("0"))
		})...)
}

func seLinuxFields(p *Pod, c check) []Field {
	find := func(o *corev1.SELinuxOptions, at place) []Field {
		if o == nil {
			return nil
		}
		at = at.child("seLinuxOptions")
		badType := c.refusesSecurity(corev1.PodSecurityContext{SELinuxOptions: &corev1.SELinuxOptions{Type: o.Type}})
		return slices.Concat(
			one(badType, at.child("type").holds(o.Type)),
			one(o.User != "", at.child("user").holds(o.User)),
			one(o.Role != "", at.child("role").holds(o.Role)),
		)
	}
	s, at := p.security()
	return append(find(s.SELinuxOptions, at), p.inContainers(func(s *corev1.SecurityContext, at place) []Field {
		return find(s.SELinuxOptions, at)
	})...)
}

// badSeccomp returns the fields of seccomp profiles that a check refuses.
func (p *Pod) badSeccomp(c check) []Field {
	find := func(profile *corev1.SeccompProfile, at place) []Field {
		if profile == nil || !c.refusesSecurity(corev1.PodSecurityContext{SeccompProfile: profile}) {
			return nil
		}
		return []Field{at.child("seccompProfile", "type").holds(string(profile.Type))}
	}
	s, at := p.security()
	return append(find(s.SeccompProfile, at), p.inContainers(func(s *corev1.SecurityContext, at place) []Field {
		return find(s.SeccompProfile, at)
	})...)
}

// seccompBaselineFields are annotations in versions before 1.19.
func seccompBaselineFields(p *Pod, c check) []Field {
	out := p.badSeccomp(c)
	find := func(key string, containers ...corev1.Container) {
		if value, ok := p.meta.Annotations[key]; ok && c.refusesAnnotation(key, value, containers...) {
			out = append(out, p.annotation(key).holds(value))
		}
	}
	find(corev1.SeccompPodAnnotationKey)
	p.eachContainer(func(container *corev1.Container, _ place) {
		find(corev1.SeccompContainerAnnotationKeyPrefix+container.Name, corev1.Container{Name: container.Name})
	})
	return out
}

// seccompRestrictedFields are bad profiles or, if there are none, missing ones.
func seccompRestrictedFields(p *Pod, c check) []Field {
	if out := p.badSeccomp(c); len(out) > 0 {
		return out
	}
	return p.inContainers(func(s *corev1.SecurityContext, at place) []Field {
		return one(s.SeccompProfile == nil, at.child("seccompProfile", "type").holds())
	})
}

func sysctlFields(p *Pod, c check) []Field {
	s, at := p.security()
	var out []Field
	for i, sysctl := range s.Sysctls {
		if c.refusesSecurity(corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{sysctl}}) {
			out = append(out, at.child("sysctls", strconv.Itoa(i), "name").holds(sysctl.Name))
		}
	}
	return out
}

func hostProcessFields(p *Pod, _ check) []Field {
	bad := func(o *corev1.WindowsSecurityContextOptions) bool { return o != nil && isTrue(o.HostProcess) }
	s, at := p.security()
	return append(one(bad(s.WindowsOptions), at.child("windowsOptions", "hostProcess").holds("true")),
		p.inContainers(func(s *corev1.SecurityContext, at place) []Field {
			return one(bad(s.WindowsOptions), at.child("windowsOptions", "hostProcess").holds("true"))
		})...)
}
