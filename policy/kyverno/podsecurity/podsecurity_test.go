// SPDX-License-Identifier: Apache-2.0

package podsecurity_test

import (
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/policy/kyverno/podsecurity"
)

const pod = `
kind: Pod
metadata: {name: shop}
spec:
  hostNetwork: true
  volumes:
  - {name: data, hostPath: {path: /var/lib/shop}}
  containers:
  - name: web
    image: registry.example/shop:1
    securityContext:
      capabilities: {add: [SYS_ADMIN, CHOWN, NET_RAW]}
    ports: [{containerPort: 80, hostPort: 8080}]
  - name: proxy
    image: registry.example/proxy:2
    securityContext:
      capabilities: {add: [NET_ADMIN]}
`

func tree(t testing.TB, text string) any {
	t.Helper()
	var out any
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// said is what violations come to, a line each.
func said(violations []podsecurity.Violation) string {
	var lines []string
	for _, v := range violations {
		var fields []string
		for _, f := range v.Fields {
			fields = append(fields, f.String()+fmt.Sprint(f.Values))
		}
		lines = append(lines, v.Control+": "+strings.Join(fields, " "))
	}
	return strings.Join(lines, "\n")
}

func evaluate(t *testing.T, level, version, resource string, exclude ...podsecurity.Exclude) string {
	t.Helper()
	violations, err := podsecurity.Evaluate(level, version, exclude, tree(t, resource))
	if err != nil {
		t.Fatal(err)
	}
	return said(violations)
}

func same(t *testing.T, got string, want ...string) {
	t.Helper()
	if w := strings.Join(want, "\n"); got != w {
		t.Errorf("got\n%s\nwant\n%s", got, w)
	}
}

const (
	capabilities = "Capabilities: spec.containers[0].securityContext.capabilities.add[NET_RAW SYS_ADMIN] spec.containers[1].securityContext.capabilities.add[NET_ADMIN]"
	namespaces   = "Host Namespaces: spec.hostNetwork[true]"
	volumes      = "HostPath Volumes: spec.volumes[0].hostPath[/var/lib/shop]"
	ports        = "Host Ports: spec.containers[0].ports[0].hostPort[8080]"
)

func TestBaseline(t *testing.T) {
	same(t, evaluate(t, "baseline", "v1.31", pod), capabilities, namespaces, volumes, ports)
}

func TestExclusions(t *testing.T) {
	without := "Capabilities: spec.containers[1].securityContext.capabilities.add[NET_ADMIN]"
	tests := map[string]struct {
		exclude podsecurity.Exclude
		want    []string
	}{
		"a control of the pod":            {podsecurity.Exclude{ControlName: "Host Namespaces"}, []string{capabilities, volumes, ports}},
		"a control of an image":           {podsecurity.Exclude{ControlName: "Capabilities", Images: []string{"registry.example/shop*"}}, []string{without, namespaces, volumes, ports}},
		"a control of another image":      {podsecurity.Exclude{ControlName: "Capabilities", Images: []string{"*/proxy:?"}}, []string{"Capabilities: spec.containers[0].securityContext.capabilities.add[NET_RAW SYS_ADMIN]", namespaces, volumes, ports}},
		"of all images":                   {podsecurity.Exclude{ControlName: "Capabilities", Images: []string{"*"}}, []string{namespaces, volumes, ports}},
		"a field with some of its values": {podsecurity.Exclude{ControlName: "Capabilities", Images: []string{"*"}, RestrictedField: "spec.containers[*].securityContext.capabilities.add", Values: []string{"SYS_*", "NET_RAW"}}, []string{without, namespaces, volumes, ports}},
		"with a value too few":            {podsecurity.Exclude{ControlName: "Capabilities", Images: []string{"*"}, Values: []string{"SYS_ADMIN"}}, []string{capabilities, namespaces, volumes, ports}},
		"another field":                   {podsecurity.Exclude{ControlName: "Capabilities", Images: []string{"*"}, RestrictedField: "spec.initContainers[*].securityContext.capabilities.add"}, []string{capabilities, namespaces, volumes, ports}},
		"a volume":                        {podsecurity.Exclude{ControlName: "HostPath Volumes", RestrictedField: "spec.volumes[*].hostPath", Values: []string{"/var/lib/*"}}, []string{capabilities, namespaces, ports}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			same(t, evaluate(t, "baseline", "v1.31", pod, test.exclude), test.want...)
		})
	}
}

// TestExceptions holds the exclusions of a PolicyException against violations
// that were found before.
func TestExceptions(t *testing.T) {
	s, err := podsecurity.Compile("baseline", "latest", nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := podsecurity.Decode(tree(t, pod))
	if err != nil {
		t.Fatal(err)
	}
	all := s.Evaluate(p)
	before := said(all)
	left := s.Exempt(p, all, []podsecurity.Exclude{{ControlName: "Host Ports", Images: []string{"*shop*"}}})
	same(t, said(left), capabilities, namespaces, volumes)
	same(t, said(all), before)
}

func TestTemplates(t *testing.T) {
	deployment := `
kind: Deployment
spec: {template: {metadata: {annotations: {container.apparmor.security.beta.kubernetes.io/web: unconfined}}, spec: {hostPID: true}}}`
	same(t, evaluate(t, "baseline", "", deployment),
		"AppArmor: spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/web][unconfined]",
		"Host Namespaces: spec.template.spec.hostPID[true]")
	cron := `
kind: CronJob
spec: {jobTemplate: {spec: {template: {spec: {volumes: [{name: a, nfs: {server: b, path: /}}, {name: c}]}}}}}`
	same(t, evaluate(t, "restricted", "v1.30", cron),
		"Volume Types: spec.jobTemplate.spec.template.spec.volumes[0].nfs[] spec.jobTemplate.spec.template.spec.volumes[1].unknown[]")
}

// everything violates each check that has fields, in each kind of place.
const everything = `
kind: Pod
metadata:
  annotations:
    container.apparmor.security.beta.kubernetes.io/a: unconfined
    seccomp.security.alpha.kubernetes.io/pod: unconfined
    container.seccomp.security.alpha.kubernetes.io/a: unconfined
spec:
  hostIPC: true
  securityContext:
    runAsNonRoot: false
    runAsUser: 0
    seccompProfile: {type: Unconfined}
    appArmorProfile: {type: Unconfined}
    seLinuxOptions: {type: spc_t, user: u, role: r}
    windowsOptions: {hostProcess: true}
    sysctls: [{name: kernel.shm_rmid_forced, value: "1"}, {name: kernel.msgmax, value: "1"}]
  initContainers:
  - name: i
  containers:
  - name: a
    securityContext:
      privileged: true
      allowPrivilegeEscalation: true
      procMount: Unmasked
      runAsNonRoot: false
      runAsUser: 0
      seccompProfile: {type: Unconfined}
      appArmorProfile: {type: Unconfined}
      seLinuxOptions: {type: spc_t}
      windowsOptions: {hostProcess: true}
      capabilities: {add: [SYS_TIME], drop: [KILL]}
  ephemeralContainers:
  - name: e
    securityContext: {allowPrivilegeEscalation: false, runAsNonRoot: true, capabilities: {drop: [ALL]}}
`

func TestFields(t *testing.T) {
	same(t, evaluate(t, "restricted", "v1.18", everything),
		"Privilege Escalation: spec.initContainers[0].securityContext.allowPrivilegeEscalation[] spec.containers[0].securityContext.allowPrivilegeEscalation[true]",
		"AppArmor: spec.securityContext.appArmorProfile.type[Unconfined] spec.containers[0].securityContext.appArmorProfile.type[Unconfined] metadata.annotations[container.apparmor.security.beta.kubernetes.io/a][unconfined]",
		"Capabilities: spec.containers[0].securityContext.capabilities.add[SYS_TIME]",
		"Capabilities: spec.initContainers[0].securityContext.capabilities.drop[] spec.containers[0].securityContext.capabilities.drop[KILL] spec.containers[0].securityContext.capabilities.add[SYS_TIME]",
		"Host Namespaces: spec.hostIPC[true]",
		"Privileged Containers: spec.containers[0].securityContext.privileged[true]",
		"/proc Mount Type: spec.containers[0].securityContext.procMount[Unmasked]",
		"Running as Non-root: spec.securityContext.runAsNonRoot[false] spec.containers[0].securityContext.runAsNonRoot[false] spec.initContainers[0].securityContext.runAsNonRoot[]",
		"Running as Non-root user: spec.securityContext.runAsUser[0] spec.containers[0].securityContext.runAsUser[0]",
		"SELinux: spec.securityContext.seLinuxOptions.type[spc_t] spec.securityContext.seLinuxOptions.user[u] spec.securityContext.seLinuxOptions.role[r] spec.containers[0].securityContext.seLinuxOptions.type[spc_t]",
		"Seccomp: metadata.annotations[seccomp.security.alpha.kubernetes.io/pod][unconfined] metadata.annotations[container.seccomp.security.alpha.kubernetes.io/a][unconfined]",
		"Seccomp: spec.securityContext.seccompProfile.type[Unconfined] spec.containers[0].securityContext.seccompProfile.type[Unconfined]",
		"Sysctls: spec.securityContext.sysctls[1].name[kernel.msgmax]",
		"HostProcess: spec.securityContext.windowsOptions.hostProcess[true] spec.containers[0].securityContext.windowsOptions.hostProcess[true]",
	)
}

// TestVersions has rules that came with a version of Kubernetes.
func TestVersions(t *testing.T) {
	userNamespace := `{kind: Pod, spec: {hostUsers: false, containers: [{name: a, securityContext: {procMount: Unmasked, runAsNonRoot: false,
		allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}}]}}`
	procMount := "/proc Mount Type: spec.containers[0].securityContext.procMount[Unmasked]"
	nonRoot := "Running as Non-root: spec.containers[0].securityContext.runAsNonRoot[false]"
	// Kubernetes 1.35 is lenient with user namespaces. Kyverno knows no newer version
	// than 1.34, and takes that for the latest.
	for _, version := range []string{"v1.34", "v1.35", "v1.99", "latest", ""} {
		same(t, evaluate(t, "restricted", version, userNamespace), procMount, nonRoot)
		same(t, evaluate(t, "baseline", version, userNamespace), procMount)
	}
}

func TestMissingSeccomp(t *testing.T) {
	got := evaluate(t, "restricted", "latest", `{kind: Pod, spec: {containers: [{name: a, securityContext: {
		runAsNonRoot: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}]}}`)
	same(t, got, "Seccomp: spec.containers[0].securityContext.seccompProfile.type[]")
}

// An annotation without a value is an empty one.
func TestEmptyAnnotation(t *testing.T) {
	got := evaluate(t, "baseline", "latest", `{kind: Pod, metadata: {annotations: {note: }}, spec: {hostNetwork: true, containers: []}}`)
	same(t, got, "Host Namespaces: spec.hostNetwork[true]")
}

func TestRefused(t *testing.T) {
	for want, try := range map[string]func() error{
		`podSecurity.level is "strict"`: func() error { _, err := podsecurity.Compile("strict", "", nil); return err },
		`podSecurity.version is "1.30"`: func() error { _, err := podsecurity.Compile("baseline", "1.30", nil); return err },
		`there is no control "Caps"; want one of /proc Mount Type, AppArmor`: func() error {
			_, err := podsecurity.Compile("baseline", "", []podsecurity.Exclude{{ControlName: "Caps"}})
			return err
		},
		"a Service is neither": func() error { _, err := podsecurity.Decode(tree(t, "kind: Service")); return err },
		"want a map":           func() error { _, err := podsecurity.Decode([]any{}); return err },
		"spec.template is a string": func() error {
			_, err := podsecurity.Decode(tree(t, "{kind: Job, spec: {template: a}}"))
			return err
		},
		"spec: ":           func() error { _, err := podsecurity.Decode(tree(t, "spec: {containers: [{name: [1]}]}")); return err },
		"the annotation a": func() error { _, err := podsecurity.Decode(tree(t, "metadata: {annotations: {a: 1}}")); return err },
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %q", err, want)
		}
	}
}

// FuzzEvaluate holds that any tree is judged or refused, and twice alike.
func FuzzEvaluate(f *testing.F) {
	f.Add(pod, "Capabilities", "*")
	f.Add(everything, "Seccomp", "")
	f.Add("{kind: CronJob, spec: {jobTemplate: null}}", "AppArmor", "a?")
	f.Fuzz(func(t *testing.T, text, control, image string) {
		var tree any
		if yaml.Unmarshal([]byte(text), &tree) != nil {
			return
		}
		exclude := []podsecurity.Exclude{{ControlName: control}, {ControlName: control, Images: []string{image}}}
		first, err := podsecurity.Evaluate("restricted", "latest", exclude, tree)
		if err != nil {
			return
		}
		second, _ := podsecurity.Evaluate("restricted", "latest", exclude, tree)
		same(t, said(second), said(first))
	})
}

func BenchmarkEvaluate(b *testing.B) {
	s, err := podsecurity.Compile("baseline", "latest", []podsecurity.Exclude{{ControlName: "Host Ports", Images: []string{"*"}}})
	if err != nil {
		b.Fatal(err)
	}
	resource := tree(b, `{kind: Pod, spec: {containers: [{name: a, image: b, ports: [{containerPort: 80, hostPort: 80}]}]}}`)
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			if _, err := podsecurity.Decode(resource); err != nil {
				b.Fatal(err)
			}
		}
	})
	p, err := podsecurity.Decode(resource)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("judge", func(b *testing.B) {
		for b.Loop() {
			s.Evaluate(p)
		}
	})
}
