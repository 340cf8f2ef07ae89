// SPDX-License-Identifier: Apache-2.0

package controltest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"pgregory.net/rapid"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// The controls of the Pod Security Standards are held against the API server's
// own judge of them, k8s.io/pod-security-admission: on all of its test data,
// and on pods made at random. Equal means equal check by check: a check fails
// if and only if one of the controls that refer to it fails.

var newestPodSecurity = control.Newest.Minor()

// podSecurityVersion is one version of the standards, as Kubernetes judges it
// and as the catalogue does.
type podSecurityVersion struct {
	minor      int
	checks     map[string]versionedCheck
	overridden map[string]bool // baseline checks that a restricted one stands for
	rules      []*baseline.Rule
}

type versionedCheck struct {
	level api.Level
	judge policy.CheckPodFn
}

// podSecurity is every version of the standards, by its minor number.
func podSecurity(tb testing.TB) []*podSecurityVersion {
	tb.Helper()
	l := library(tb)
	out := make([]*podSecurityVersion, newestPodSecurity+1)
	for minor := range out {
		v := &podSecurityVersion{minor: minor, checks: map[string]versionedCheck{}, overridden: map[string]bool{}}
		for _, c := range policy.DefaultChecks() {
			v.addCheck(c)
		}
		opts := baseline.Options{KubernetesVersion: control.Minor(minor)}
		b, err := l.Resolve("pss-restricted", opts)
		if err != nil {
			tb.Fatal(err)
		}
		v.rules = b.Rules
		out[minor] = v
	}
	return out
}

// addCheck adds the check as it is in this version, if it is there.
func (v *podSecurityVersion) addCheck(c policy.Check) {
	for _, vc := range slices.Backward(c.Versions) {
		if vc.MinimumVersion.Minor() > v.minor {
			continue
		}
		v.checks[string(c.ID)] = versionedCheck{c.Level, vc.CheckPod}
		for _, id := range vc.OverrideCheckIDs {
			v.overridden[string(id)] = true
		}
		return
	}
}

// String returns the version as folders of test data are called.
func (v *podSecurityVersion) String() string { return fmt.Sprintf("v1.%d", v.minor) }

// reference returns the checks of a level that a pod fails in Kubernetes; those
// of restricted include those of baseline, overridden or not.
func (v *podSecurityVersion) reference(level api.Level, pod *corev1.Pod) []string {
	var failed []string
	for id, c := range v.checks {
		if (c.level == level || level == api.LevelRestricted) && !c.judge(&pod.ObjectMeta, &pod.Spec).Allowed {
			failed = append(failed, id)
		}
	}
	slices.Sort(failed)
	return failed
}

// catalogue returns the checks that an object fails by the controls, and what
// could not be decided.
func (v *podSecurityVersion) catalogue(o *object.Object) (failed failedChecks, undecided []string) {
	failed = failedChecks{}
	for _, r := range v.rules {
		got := r.Judge(o, nil)
		switch got.Outcome {
		case verdict.Fail:
			level, check := podSecurityCheck(r.Spec.References)
			failed[check] = level
		case verdict.Unknown:
			undecided = append(undecided, fmt.Sprintf("%s: %s", r.Name, got.Findings[0].Message))
		}
	}
	return failed, undecided
}

// podSecurityCheck returns the check of the standards that a control is part
// of, and its level.
func podSecurityCheck(r v1alpha1.References) (level api.Level, check string) {
	if len(r["pss"]) == 0 {
		return "", ""
	}
	l, check, _ := strings.Cut(r["pss"][0], "/")
	return api.Level(l), check
}

// failedChecks are checks with their levels.
type failedChecks map[string]api.Level

// of returns the checks of a level; restricted includes baseline.
func (f failedChecks) of(level api.Level) []string {
	var out []string
	for id, l := range f {
		if l == level || level == api.LevelRestricted {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

var podSecurityEvaluator = func() policy.Evaluator {
	e, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		panic(err)
	}
	return e
}()

// admits says whether Kubernetes lets a pod in at a level.
func (v *podSecurityVersion) admits(level api.Level, pod *corev1.Pod) bool {
	lv := api.LevelVersion{Level: level, Version: api.MajorMinorVersion(1, v.minor)}
	return policy.AggregateCheckResults(podSecurityEvaluator.EvaluatePod(lv, &pod.ObjectMeta, &pod.Spec)).Allowed
}

// decodePod reads a pod as the API server does.
func decodePod(text []byte) (*corev1.Pod, error) {
	data, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	pod := &corev1.Pod{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, pod); err != nil {
		return nil, err
	}
	for i := range pod.Spec.Volumes { // its default; no other concerns a check
		if v := &pod.Spec.Volumes[i]; v.VolumeSource == (corev1.VolumeSource{}) {
			v.EmptyDir = &corev1.EmptyDirVolumeSource{}
		}
	}
	return pod, nil
}

// parseObject reads an object as Sconce does.
func parseObject(name string, text []byte) (*object.Object, error) {
	for t := range object.Split(text) {
		root, err := object.ParseYAML(t)
		if err != nil {
			return nil, err
		}
		if root == nil {
			continue
		}
		objects, err := object.FromNode(root, &object.Origin{Source: name, Text: t.Bytes, FirstLine: t.Line})
		if err != nil {
			return nil, err
		}
		return objects[0], nil
	}
	return nil, fmt.Errorf("%s holds no object", name)
}

// TestPodSecurityChecks holds the list of checks that controls refer to against
// the one that there is.
func TestPodSecurityChecks(t *testing.T) {
	l := library(t)
	want, got := map[string]string{}, map[string]string{}
	for _, c := range policy.DefaultChecks() {
		want[string(c.ID)] = string(c.Level)
	}
	for _, name := range l.Controls() {
		level, check := podSecurityCheck(l.Control(name).Spec.References)
		if check == "" {
			continue
		}
		if want, ok := want[check]; !ok || api.Level(want) != level {
			t.Errorf("control %s refers to check %s of level %s; Kubernetes has no such check", name, check, level)
		}
		got[check] = string(level)
	}
	for id, level := range want {
		if _, ok := got[id]; !ok {
			t.Errorf("no control is part of check %s of level %s", id, level)
		}
	}
	checkPodSecurityProfiles(t, l)
}

// checkPodSecurityProfiles says whether the two baselines hold the controls of
// their levels.
func checkPodSecurityProfiles(t *testing.T, l *baseline.Library) {
	for name, level := range map[string]api.Level{"pss-baseline": api.LevelBaseline, "pss-restricted": api.LevelRestricted} {
		b, err := l.Resolve(name, baseline.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for _, r := range b.Rules {
			got = append(got, r.Name)
		}
		for _, c := range l.Controls() {
			if of, check := podSecurityCheck(l.Control(c).Spec.References); check != "" && (level == api.LevelRestricted || of == level) {
				want = append(want, c)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("baseline %s holds %v; want %v", name, got, want)
		}
	}
}

// TestPodSecurityTestdata judges every pod of the test data of
// k8s.io/pod-security-admission.
func TestPodSecurityTestdata(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/pod-security-admission").Output()
	if err != nil {
		t.Fatalf("asking where k8s.io/pod-security-admission is: %v", err)
	}
	testdata := filepath.Join(strings.TrimSpace(string(dir)), "test", "testdata")
	var compared atomic.Int64
	t.Run("versions", func(t *testing.T) {
		for _, v := range podSecurity(t) {
			t.Run(v.String(), func(t *testing.T) {
				t.Parallel()
				for _, level := range []api.Level{api.LevelBaseline, api.LevelRestricted} {
					files, err := filepath.Glob(filepath.Join(testdata, string(level), v.String(), "*", "*.yaml"))
					if err != nil || len(files) == 0 {
						t.Fatalf("no test data of %s %s in %s: %v", level, v, testdata, err)
					}
					for _, file := range files {
						if err := comparePodFile(v, level, file); err != nil {
							t.Errorf("%s/%s: %v", level, filepath.Base(file), err)
						}
						compared.Add(1)
					}
				}
			})
		}
	})
	if n := compared.Load(); n < 4000 {
		t.Errorf("only %d pods were compared; want 4000 or more", n)
	}
	t.Logf("%d pods were compared", compared.Load())
}

// comparePodFile holds the verdict on one file of the test data against its
// folder and against Kubernetes' own.
func comparePodFile(v *podSecurityVersion, level api.Level, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	pod, err := decodePod(text)
	if err != nil {
		return err
	}
	o, err := parseObject(file, text)
	if err != nil {
		return err
	}
	failed, undecided := v.catalogue(o)
	got := failed.of(level)
	if len(undecided) > 0 {
		return fmt.Errorf("unknown: %s", strings.Join(undecided, "; "))
	}
	folder := filepath.Base(filepath.Dir(file)) == "pass"
	if admitted := v.admits(level, pod); admitted != folder {
		return fmt.Errorf("the folder says that it passes: %t; Kubernetes says %t", folder, admitted)
	}
	if passed := len(got) == 0; passed != folder {
		return fmt.Errorf("the folder says that it passes: %t; the controls fail %v", folder, got)
	}
	if want := v.reference(level, pod); !slices.Equal(got, want) {
		return fmt.Errorf("the controls fail %v, Kubernetes fails %v", got, want)
	}
	return nil
}

// TestPodSecurityRandom judges pods made at random: every field that a check
// reads, set, odd, null, empty or absent.
//
// Left out are manifests that the API server does not decode (a string where a
// number belongs), which are unknown here and nothing there; null as an item of
// a list of containers, ports, volumes or sysctls, and a pod without spec, which
// are unknown here and empty there, and which its validation refuses; and null
// as the value of an annotation, which is "" there and absent here.
func TestPodSecurityRandom(t *testing.T) {
	versions := podSecurity(t)
	counts := map[string]*[2]int{} // passed, failed
	for _, c := range policy.DefaultChecks() {
		counts[string(c.ID)] = &[2]int{}
	}
	pods, excused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		for range 6 {
			pods++
			p := newRandomPod(t, podMaker{t}.pod())
			for _, v := range versions {
				failed, excuse := p.compare(t, v)
				for id := range v.checks {
					if slices.Contains(failed, id) {
						counts[id][1]++
					} else {
						counts[id][0]++
					}
				}
				if excuse {
					excused++
				}
			}
		}
	})
	for id, n := range counts {
		if n[0] < 100 || n[1] < 100 {
			t.Errorf("check %s passed %d times and failed %d times; want 100 or more of both", id, n[0], n[1])
		}
	}
	t.Logf("%d pods were compared at %d versions; %d times Kubernetes calls restricted what only its validation refuses", pods, len(versions), excused)
}

// randomPod is one pod as Kubernetes reads it and as Sconce does, by itself and
// as a template.
type randomPod struct {
	text   []byte
	pod    *corev1.Pod
	object *object.Object
	within []*object.Object
}

func newRandomPod(t *rapid.T, doc map[string]any) *randomPod {
	p := &randomPod{text: marshalDocument(t, doc)}
	var err error
	if p.pod, err = decodePod(p.text); err != nil {
		t.Fatalf("%v in\n%s", err, p.text)
	}
	p.object = parseRandom(t, p.text)
	p.within = append(p.within,
		parseRandom(t, marshalDocument(t, map[string]any{"apiVersion": "apps/v1", "kind": "Deployment", "spec": map[string]any{"template": doc}})),
		parseRandom(t, marshalDocument(t, map[string]any{"apiVersion": "batch/v1", "kind": "CronJob", "spec": map[string]any{"jobTemplate": map[string]any{"spec": map[string]any{"template": doc}}}})))
	return p
}

// compare holds the verdicts on a pod against each other. It returns the checks
// that it fails, and whether Kubernetes admits it all the same.
func (p *randomPod) compare(t *rapid.T, v *podSecurityVersion) (failed []string, excused bool) {
	all, undecided := v.catalogue(p.object)
	if len(undecided) > 0 {
		t.Fatalf("%s: unknown: %s, in\n%s", v, strings.Join(undecided, "; "), p.text)
	}
	for _, level := range []api.Level{api.LevelBaseline, api.LevelRestricted} {
		got := all.of(level)
		if want := v.reference(level, p.pod); !slices.Equal(got, want) {
			t.Fatalf("%s %s: the controls fail %v, Kubernetes fails %v, in\n%s", v, level, got, want, p.text)
		}
		if admitted := v.admits(level, p.pod); admitted != (len(got) == 0) {
			if excused = admitted && v.excused(got, p.pod); !excused {
				t.Fatalf("%s %s: Kubernetes admits it: %t; the controls fail %v, in\n%s", v, level, admitted, got, p.text)
			}
		}
	}
	for i, o := range p.within {
		if v.minor%len(p.within) != i {
			continue // the path to the template does not depend on the version
		}
		if got, undecided := v.catalogue(o); len(undecided) > 0 || !maps.Equal(got, all) {
			t.Fatalf("%s: as a %s it fails %v, as a Pod %v; unknown %v, in\n%s", v, o.Kind, got, all, undecided, p.text)
		}
	}
	return all.of(api.LevelRestricted), excused
}

// excused says whether Kubernetes may admit a pod to restricted although it
// fails these checks: where a restricted check stands for a baseline one, the
// latter is not asked, and the former lets be what validation refuses anyway:
// seccomp and capabilities of a pod for Windows, and a volume of two types.
func (v *podSecurityVersion) excused(failed []string, pod *corev1.Pod) bool {
	windows := pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows
	for _, id := range failed {
		switch {
		case !v.overridden[id]:
			return false
		case windows && (id == "capabilities_baseline" || id == "seccompProfile_baseline"):
		case id == "hostPathVolumes" && twoTypes(pod.Spec.Volumes):
		default:
			return false
		}
	}
	return true
}

// twoTypes says whether each volume with a hostPath has another type as well.
func twoTypes(volumes []corev1.Volume) bool {
	for _, v := range volumes {
		if v.HostPath == nil {
			continue
		}
		v.HostPath = nil
		if v.VolumeSource == (corev1.VolumeSource{}) {
			return false
		}
	}
	return true
}

// marshalDocument returns a document as JSON or as YAML.
func marshalDocument(t *rapid.T, doc map[string]any) []byte {
	text, err := json.Marshal(doc)
	if err == nil && rapid.Bool().Draw(t, "yaml") {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func parseRandom(t *rapid.T, text []byte) *object.Object {
	o, err := parseObject("random.yaml", text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return o
}

// podMaker makes pods at random. Every aspect of a pod is either tame, so that
// its check passes often in spite of many containers, or wild.
type podMaker struct{ t *rapid.T }

// absent is a field that is not written at all; nil is written as null.
var absent = &struct{}{}

func (m podMaker) pick(values ...any) any { return rapid.SampledFrom(values).Draw(m.t, "value") }

func (m podMaker) chance(percent int) bool {
	return rapid.Uint8Range(0, 99).Draw(m.t, "chance") < uint8(percent)
}

// aspect says how one field is filled throughout a pod.
type aspect struct{ tame, wild []any }

// of returns the values that hold throughout one pod.
func (m podMaker) of(a aspect) []any {
	if m.chance(40) {
		return a.tame
	}
	return slices.Concat(a.wild, a.tame)
}

// fields returns a map of those fields that are not absent.
func fields(pairs ...any) map[string]any {
	out := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != any(absent) {
			out[pairs[i].(string)] = pairs[i+1]
		}
	}
	return out
}

var (
	profileTypes = aspect{
		tame: []any{fields("type", "RuntimeDefault"), fields("type", "Localhost", "localhostProfile", "x"), absent},
		wild: []any{fields("type", "Unconfined"), fields("type", ""), fields("type", "runtime/default"), fields("type", nil), fields(), nil},
	}
	seccompTypes = aspect{
		tame: []any{fields("type", "RuntimeDefault"), fields("type", "Localhost", "localhostProfile", "x")},
		wild: append(profileTypes.wild, absent, absent, absent),
	}
	switches            = aspect{tame: []any{absent, false}, wild: []any{true, nil}}
	nonRoot             = aspect{tame: []any{true}, wild: []any{absent, absent, false, nil}}
	noEscalation        = aspect{tame: []any{false}, wild: []any{absent, true, nil}}
	userIDs             = aspect{tame: []any{absent, 1000, 1}, wild: []any{0, nil, -1}}
	procMounts          = aspect{tame: []any{absent, "Default"}, wild: []any{"Unmasked", "", nil, "default"}}
	droppedCapabilities = aspect{tame: []any{[]any{"ALL"}, []any{"NET_RAW", "ALL"}}, wild: []any{absent, nil, []any{}, []any{"all"}, []any{"NET_RAW"}, []any{nil}}}
	addedCapabilities   = aspect{tame: []any{absent, nil, []any{}, []any{"NET_BIND_SERVICE"}}, wild: []any{[]any{"CHOWN"}, []any{"SYS_ADMIN"}, []any{"MKNOD", "SYS_CHROOT"}, []any{"CAP_CHOWN"}, []any{"ALL"}, []any{"NET_BIND_SERVICE", "net_raw"}, []any{nil}, []any{""}}}
	selinux             = aspect{tame: []any{absent, nil, fields(), fields("type", "container_t"), fields("type", "container_init_t"), fields("type", "container_kvm_t"), fields("type", "container_kvm_t", "user", "", "role", nil), fields("level", "s0:c1")}, wild: []any{fields("type", "spc_t"), fields("type", "container_engine_t"), fields("user", "u"), fields("role", "r", "type", "container_init_t"), fields("type", "")}}
	windowsOptions      = aspect{tame: []any{absent, nil, fields(), fields("hostProcess", false)}, wild: []any{fields("hostProcess", true), fields("hostProcess", nil)}}
	hostPorts           = aspect{tame: []any{absent, nil, []any{}, []any{fields("containerPort", 80)}}, wild: []any{[]any{fields("hostPort", 80), fields("hostPort", 0)}, []any{fields("name", "x", "hostPort", nil)}, []any{fields("containerPort", 1, "hostPort", 1), fields("containerPort", 1)}}}
	probeHandlers       = aspect{tame: []any{absent, nil, fields("port", 80), fields("port", "http", "host", "")}, wild: []any{fields("host", "127.0.0.1", "port", 1), fields("host", nil)}}
	oses                = aspect{tame: []any{absent, nil, fields("name", "linux"), fields("name", "windows")}, wild: []any{fields("name", "windows"), fields("name", "Windows"), fields()}}
	hostUsers           = aspect{tame: []any{absent, true, false}, wild: []any{false, false, nil}}
	containerNames      = []any{"a", "b", "c", "", absent}
	annotated           = aspect{tame: []any{"runtime/default", "localhost/x", "localhost/"}, wild: []any{"unconfined", "", "docker/default", "localhost", " runtime/default", "runtime/default\n", "Localhost/x", "xlocalhost/"}}
	sysctlNames         = aspect{
		tame: []any{"kernel.shm_rmid_forced", "net.ipv4.tcp_syncookies"},
		wild: []any{"net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem", "net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_notsent_lowat", "net.ipv4.ip_local_port_range", "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start", "kernel.msgmax", "", nil, absent, "kernel/shm_rmid_forced"},
	}
	volumeTypes = aspect{
		tame: []any{"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"},
		wild: []any{"hostPath", "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs", "rbd", "flexVolume", "cinder", "cephfs", "flocker", "fc", "azureFile", "vsphereVolume", "quobyte", "azureDisk", "portworxVolume", "photonPersistentDisk", "scaleIO", "storageos"},
	}
)

// pod returns a Pod.
func (m podMaker) pod() map[string]any {
	containers := m.containers()
	spec := fields(
		"hostNetwork", m.pick(m.of(switches)...), "hostPID", m.pick(m.of(switches)...), "hostIPC", m.pick(m.of(switches)...),
		"hostUsers", m.pick(m.of(hostUsers)...), "os", m.pick(m.of(oses)...),
		"securityContext", m.podSecurityContext(), "volumes", m.volumes(),
		"containers", containers(), "initContainers", containers(), "ephemeralContainers", containers(),
	)
	return fields("apiVersion", "v1", "kind", "Pod", "metadata", m.metadata(), "spec", spec)
}

// containers returns a function that makes the lists of containers of a pod.
func (m podMaker) containers() func() any {
	escalation, nonRoots, uid, seccomp, apparmor := m.of(noEscalation), m.of(nonRoot), m.of(userIDs), m.of(seccompTypes), m.of(profileTypes)
	proc, drop, add, se, win := m.of(procMounts), m.of(droppedCapabilities), m.of(addedCapabilities), m.of(selinux), m.of(windowsOptions)
	privileged, open, probes := m.of(switches), m.of(hostPorts), m.of(probeHandlers)
	inherit := m.chance(30) // containers leave to the pod what they can
	handler := func() any {
		return m.pick(absent, nil, fields(), fields("httpGet", m.pick(probes...)), fields("tcpSocket", m.pick(probes...)),
			fields("exec", fields(), "httpGet", m.pick(probes...), "tcpSocket", m.pick(probes...)))
	}
	container := func() any {
		capabilities := any(fields("add", m.pick(add...), "drop", m.pick(drop...)))
		if m.chance(5) {
			capabilities = m.pick(absent, nil, fields())
		}
		context := fields(
			"privileged", m.pick(privileged...), "allowPrivilegeEscalation", m.pick(escalation...),
			"runAsUser", m.pick(uid...), "appArmorProfile", m.pick(apparmor...), "procMount", m.pick(proc...),
			"capabilities", capabilities, "seLinuxOptions", m.pick(se...), "windowsOptions", m.pick(win...),
		)
		if !inherit {
			maps.Copy(context, fields("runAsNonRoot", m.pick(nonRoots...), "seccompProfile", m.pick(seccomp...)))
		}
		out := fields("name", m.pick(containerNames...), "securityContext", context, "ports", m.pick(open...),
			"livenessProbe", handler(), "readinessProbe", handler(), "startupProbe", handler(),
			"lifecycle", m.pick(absent, absent, nil, fields(), fields("postStart", handler(), "preStop", handler())))
		if m.chance(5) {
			maps.Copy(out, fields("securityContext", m.pick(nil, fields())))
		}
		return out
	}
	return func() any {
		switch {
		case m.chance(40):
			return m.pick(absent, absent, nil, []any{})
		case m.chance(70):
			return []any{container()}
		}
		return []any{container(), container()}
	}
}

func (m podMaker) podSecurityContext() any {
	if m.chance(20) {
		return m.pick(absent, nil, fields())
	}
	var sysctls any = absent
	if m.chance(70) {
		values, list := m.of(sysctlNames), []any{}
		for range rapid.SampledFrom([]int{1, 1, 1, 2, 0}).Draw(m.t, "sysctls") {
			list = append(list, fields("name", m.pick(values...), "value", "1"))
		}
		sysctls = m.pick(list, list, list, nil)
	}
	return fields(
		"runAsNonRoot", m.pick(m.of(nonRoot)...), "runAsUser", m.pick(m.of(userIDs)...), "seccompProfile", m.pick(m.of(seccompTypes)...),
		"appArmorProfile", m.pick(m.of(profileTypes)...), "seLinuxOptions", m.pick(m.of(selinux)...),
		"windowsOptions", m.pick(m.of(windowsOptions)...), "sysctls", sysctls,
	)
}

func (m podMaker) volumes() any {
	if m.chance(20) {
		return m.pick(absent, nil, []any{})
	}
	types, out := m.of(volumeTypes), []any{}
	for m.chance(50) {
		v := fields("name", m.pick("a", "b", "c"))
		for range rapid.SampledFrom([]int{1, 1, 1, 1, 2, 0}).Draw(m.t, "types") {
			v[m.pick(types...).(string)] = m.pick(fields(), fields(), fields(), nil)
		}
		out = append(out, v)
	}
	return out
}

func (m podMaker) metadata() any {
	if m.chance(20) {
		return m.pick(absent, nil, fields(), fields("annotations", nil), fields("annotations", fields()))
	}
	values, out := m.of(annotated), map[string]any{}
	for m.chance(70) {
		key := m.pick("container.apparmor.security.beta.kubernetes.io/", "container.seccomp.security.alpha.kubernetes.io/",
			"seccomp.security.alpha.kubernetes.io/pod", "container.apparmor.security.beta.kubernetes.io", "example.com/").(string)
		if strings.HasSuffix(key, "/") {
			key += m.pick("a", "b", "c", "", "d").(string)
		}
		out[key] = m.pick(values...)
	}
	return fields("name", "random", "annotations", out)
}

// BenchmarkPodSecurity judges a pod that passes by each control.
func BenchmarkPodSecurity(b *testing.B) {
	v := podSecurity(b)[newestPodSecurity]
	o, err := parseObject("pod.yaml", []byte(benchmarkPod))
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range v.rules {
		b.Run(r.Name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.Judge(o, nil)
			}
		})
	}
}

const benchmarkPod = `
apiVersion: v1
kind: Pod
metadata:
  name: p
  annotations: {prometheus.io/scrape: "true"}
spec:
  securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: app
    image: example.com/app:1
    ports: [{containerPort: 80}]
    livenessProbe: {httpGet: {path: /, port: 80}}
    readinessProbe: {httpGet: {path: /, port: 80}}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
  volumes:
  - {name: data, emptyDir: {}}
  - {name: config, configMap: {name: x}}
`
