// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/kyverno"
)

// podCheck is a check of the Pod Security Standards, of the latest version. In
// its conditions, {pod} is the pod, {spec} its spec, {meta} what Kyverno takes for
// its metadata, and {sc} the security context of the pod or of the container.
type podCheck struct {
	control    string
	restricted bool // it is none of the baseline
	// unless is the condition on which it is not asked.
	unless string
	// pod is the condition on what the pod itself sets, container that on each of
	// its containers; empty where there is none.
	pod, container string
	// bad is, where a missing value counts only if no bad one is there, the
	// condition that a container holds a bad one.
	bad string
	// lacking says that a container that sets nothing fails.
	lacking bool
}

// Conditions that several checks share.
const (
	isWindows     = "{spec}.?os.?name.orValue('') == 'windows'"
	goodAppArmor  = "{sc}.?appArmorProfile.optMap(profile, profile.?type.orValue('') in ['RuntimeDefault', 'Localhost']).orValue(true)"
	goodSeccomp   = "{sc}.?seccompProfile.optMap(profile, profile.?type.orValue('') in ['RuntimeDefault', 'Localhost']).orValue(true)"
	goodSELinux   = "{sc}.?seLinuxOptions.optMap(options, options.?type.orValue('') in ['', 'container_t', 'container_init_t', 'container_kvm_t', 'container_engine_t'] && options.?user.orValue('') == '' && options.?role.orValue('') == '').orValue(true)"
	noHostProcess = "!{sc}.?windowsOptions.?hostProcess.orValue(false)"
	notRoot       = "{sc}.?runAsUser.orValue(1) != 0"
	maskedProc    = "{sc}.?procMount.orValue('Default') == 'Default'"
	addedCaps     = "{sc}.?capabilities.?add.orValue([])"
	apparmorNotes = "{meta}.?annotations.optMap(annotations, annotations.all(key, !key.startsWith('container.apparmor.security.beta.kubernetes.io/') || annotations[key] in ['', 'runtime/default'] || annotations[key].startsWith('localhost/'))).orValue(true)"
	podSeccomp    = "{spec}.?securityContext.?seccompProfile.optMap(profile, profile.?type.orValue('') in ['RuntimeDefault', 'Localhost']).orValue(false)"
)

// podChecks are the checks of v1.34, the newest that Kyverno (1.19) knows, in the
// order of the API server.
var podChecks = []podCheck{
	{control: "Privilege Escalation", restricted: true, lacking: true, unless: isWindows, container: "{sc}.?allowPrivilegeEscalation.orValue(true) == false"},
	{control: "AppArmor", pod: goodAppArmor + " && " + apparmorNotes, container: goodAppArmor},
	{control: "Capabilities", container: addedCaps + ".all(capability, capability in ['AUDIT_WRITE', 'CHOWN', 'DAC_OVERRIDE', 'FOWNER', 'FSETID', 'KILL', 'MKNOD', 'NET_BIND_SERVICE', 'SETFCAP', 'SETGID', 'SETPCAP', 'SETUID', 'SYS_CHROOT'])"},
	{control: "Capabilities", restricted: true, lacking: true, unless: isWindows, container: "'ALL' in {sc}.?capabilities.?drop.orValue([]) && " + addedCaps + ".all(capability, capability == 'NET_BIND_SERVICE')"},
	{control: "Host Namespaces", pod: "!{spec}.?hostNetwork.orValue(false) && !{spec}.?hostPID.orValue(false) && !{spec}.?hostIPC.orValue(false)"},
	{control: "HostPath Volumes", pod: "{spec}.?volumes.orValue([]).all(volume, !has(volume.hostPath))"},
	{control: "Host Ports", container: "container.?ports.orValue([]).all(port, port.?hostPort.orValue(0) == 0)"},
	{control: "Host Probes / Lifecycle Hooks", container: "[container.?livenessProbe, container.?readinessProbe, container.?startupProbe, container.?lifecycle.?postStart, container.?lifecycle.?preStop].all(handler, handler.?httpGet.?host.orValue('') == '' && handler.?tcpSocket.?host.orValue('') == '')"},
	{control: "Privileged Containers", container: "!{sc}.?privileged.orValue(false)"},
	{control: "/proc Mount Type", container: maskedProc},
	{control: "Volume Types", restricted: true, pod: "{spec}.?volumes.orValue([]).all(volume, has(volume.configMap) || has(volume.csi) || has(volume.downwardAPI) || has(volume.emptyDir) || has(volume.ephemeral) || has(volume.image) || has(volume.persistentVolumeClaim) || has(volume.projected) || has(volume.secret))"},
	{control: "Running as Non-root", restricted: true, lacking: true, pod: "{sc}.?runAsNonRoot.orValue(true)", container: "{sc}.?runAsNonRoot.orValue({spec}.?securityContext.?runAsNonRoot.orValue(false))"},
	{control: "Running as Non-root user", restricted: true, pod: notRoot, container: notRoot},
	{control: "SELinux", pod: goodSELinux, container: goodSELinux},
	{control: "Seccomp", pod: goodSeccomp, container: goodSeccomp},
	{control: "Seccomp", restricted: true, lacking: true, unless: isWindows, pod: goodSeccomp, bad: goodSeccomp, container: "{sc}.?seccompProfile.optMap(profile, profile.?type.orValue('') in ['RuntimeDefault', 'Localhost']).orValue(" + podSeccomp + ")"},
	{control: "Sysctls", pod: "{sc}.?sysctls.orValue([]).all(sysctl, sysctl.name in ['kernel.shm_rmid_forced', 'net.ipv4.ip_local_port_range', 'net.ipv4.tcp_syncookies', 'net.ipv4.ping_group_range', 'net.ipv4.ip_unprivileged_port_start', 'net.ipv4.ip_local_reserved_ports', 'net.ipv4.tcp_keepalive_time', 'net.ipv4.tcp_fin_timeout', 'net.ipv4.tcp_keepalive_intvl', 'net.ipv4.tcp_keepalive_probes', 'net.ipv4.tcp_rmem', 'net.ipv4.tcp_wmem', 'net.ipv4.tcp_slow_start_after_idle'])"},
	{control: "HostProcess", pod: noHostProcess, container: noHostProcess},
}

// part is one of several things that a rule checks, with what it is about.
type checkPart struct{ what, ok string }

// podSecurity writes a level of the Pod Security Standards.
func (w *ruleWriter) podSecurity(ps *kyverno.PodSecurity, out *check, old bool) error {
	if ps.Version != "" && ps.Version != "latest" {
		return fmt.Errorf("podSecurity of version %s: latest alone is translated; the label pod-security.kubernetes.io/enforce-version of a namespace asks the API server for a version", ps.Version)
	}
	kinds := w.about.kinds
	for _, gk := range kinds {
		if _, ok := object.PodPath(gk); !ok {
			return fmt.Errorf("podSecurity is about pods, and the rule matches %s", gk.Kind)
		}
	}
	if w.about.anyKind || len(kinds) == 0 {
		return errors.New("podSecurity is about pods, and the rule matches kinds of which it cannot be known whether they hold one")
	}
	subject, pod, containers := "object", "pod", "containers"
	if old {
		subject, pod, containers = "oldObject", "oldPod", "oldContainers"
	}
	spec := "variables." + pod + ".spec"
	if !slices.ContainsFunc(out.variables, func(v admissionregistrationv1.Variable) bool { return v.Name == pod }) {
		out.variables = append(out.variables, admissionregistrationv1.Variable{Name: pod, Expression: podOf(subject)})
	}
	out.variables = append(out.variables, admissionregistrationv1.Variable{
		Name: containers, Expression: spec + ".containers + " + spec + ".?initContainers.orValue([]) + " + spec + ".?ephemeralContainers.orValue([])",
	})
	meta := "variables." + pod + ".?metadata"
	if slices.Contains(kinds, object.GroupKind{Group: "batch", Kind: "CronJob"}) {
		// Kyverno takes the annotations of the job for those of the pod.
		out.variables = append(out.variables, admissionregistrationv1.Variable{
			Name: pod + "OrJob", Expression: subject + ".kind == 'CronJob' ? " + subject + ".spec.jobTemplate : variables." + pod,
		})
		meta = "variables." + pod + "OrJob.?metadata"
	}
	named := strings.NewReplacer("{spec}", spec, "{meta}", meta)
	var all []string
	for i := range podChecks {
		c := &podChecks[i]
		if c.restricted && ps.Level == "baseline" {
			continue
		}
		ok, err := c.expression("variables."+containers, ps.Exclude)
		if err != nil {
			return err
		}
		if ok = named.Replace(ok); ok != always {
			all = append(all, ok)
			out.parts = append(out.parts, checkPart{c.control, ok})
		}
	}
	out.ok = and(all...)
	return nil
}

// expression writes a check, without what is excluded of it.
func (c *podCheck) expression(containers string, exclude []kyverno.PodSecurityCheck) (string, error) {
	podExempt := false
	var images []string
	for _, e := range exclude {
		switch {
		case e.ControlName != c.control:
		case e.RestrictedField != "" || len(e.Values) > 0:
			return "", fmt.Errorf("podSecurity.exclude of %s names a field or values: exclusions of controls and of images alone are translated", e.ControlName)
		case len(e.Images) == 0:
			podExempt = true
		default:
			images = append(images, e.Images...)
		}
	}
	excluded := never
	if len(images) > 0 {
		excluded = wilds("container.image", images)
	}
	if podExempt && c.lacking && excluded != always {
		return "", fmt.Errorf("podSecurity.exclude of %s names no images: what it excuses depends on the number of containers; name images, too", c.control)
	}
	inPod := strings.NewReplacer("{sc}", "{spec}.?securityContext")
	inContainer := strings.NewReplacer("{sc}", "container.?securityContext")
	ofPod, ofContainers := always, always
	if c.pod != "" && !podExempt {
		ofPod = inPod.Replace(c.pod)
	}
	if c.container != "" && excluded != always {
		ofContainers = all(containers, "container", or(excluded, inContainer.Replace(c.container)))
	}
	ok := and(ofPod, ofContainers)
	if bad := inContainer.Replace(c.bad); c.bad != "" && excluded != never && excluded != always {
		someBad := or(not(inPod.Replace(c.pod)), containers+".exists(container, "+not(bad)+")")
		ok = wrap(someBad, isOr) + " ? " + wrap(and(ofPod, all(containers, "container", or(excluded, bad))), isOr) + " : " + wrap(ofContainers, isOr)
	}
	return or(c.unless, ok), nil
}
