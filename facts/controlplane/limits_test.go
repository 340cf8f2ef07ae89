// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/object"
)

// TestLarge holds that no object takes long to read, and that what variables
// make too long is not known.
func TestLarge(t *testing.T) {
	var doubled strings.Builder
	doubled.WriteString("{name: A0, value: aaaaaaaaaaaaaaaa}")
	for i := range 40 {
		fmt.Fprintf(&doubled, ", {name: A%d, value: $(A%d)$(A%d)}", i+1, i, i)
	}
	var plugins strings.Builder
	for i := range 60000 {
		fmt.Fprintf(&plugins, "P%d,", i)
	}
	long := strings.Repeat("x", 1000)
	for _, c := range []struct{ name, container, want string }{
		{"variables that double", "command: [kube-apiserver, --audit-log-path=$(A40)], env: [" + doubled.String() + "]", "unknown(variables make it too long)"},
		{"of which a short one is used", "command: [kube-apiserver, --audit-log-path=$(A1)], env: [" + doubled.String() + "]", strings.Repeat("a", 32)},
		{"references without an end", "command: [kube-apiserver, '--audit-log-path=" + strings.Repeat("$(", 1000000) + "']", strings.Repeat("$(", 1000000)},
		{"a script", "command: [sh, -c, 'kube-apiserver --audit-log-path=/log; echo " + strings.Repeat("$a ", 300000) + "'], env: [{name: a, value: b}]", "/log"},
		{"a script that becomes too long", "command: [sh, -c, 'kube-apiserver --audit-log-path=" + strings.Repeat("$a", 300000) + "'], env: [{name: a, value: " + long + "}]", "unknown(variables make it too long)"},
		{"plugins", "command: [kube-apiserver, --audit-log-path=/log, '--enable-admission-plugins=" + plugins.String() + "', '--disable-admission-plugins=" + plugins.String() + "']", "/log"},
	} {
		start := time.Now()
		all := derived(t, "{apiVersion: v1, kind: Pod, spec: {containers: [{name: c, "+c.container+"}]}}", 36)
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%s: took %v", c.name, took)
		}
		if len(all) != 1 {
			t.Errorf("%s: %d facts", c.name, len(all))
			continue
		}
		if got := shown(all[0].Root.At("facts", "flags", "audit-log-path")); got != c.want {
			t.Errorf("%s: got %.100s, want %.100s", c.name, got, c.want)
		}
	}
}

// TestWrongType holds that the defaults of kubeadm do not stand for what is
// written in a way that kubeadm refuses.
func TestWrongType(t *testing.T) {
	for _, c := range []struct{ text, component, reason string }{
		{"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\napiServer: x\n", "kube-apiserver", "apiServer is a string, not a map"},
		{"apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\netcd: {local: []}\n", "etcd", "local is a list, not a map"},
		{"apiVersion: bootstrap.cluster.x-k8s.io/v1beta1\nkind: KubeadmConfig\nspec: {clusterConfiguration: x}\n", "kube-scheduler", "clusterConfiguration is a string, not a map"},
		{"apiVersion: controlplane.cluster.x-k8s.io/v1beta1\nkind: KubeadmControlPlane\nspec: {kubeadmConfigSpec: x}\n", "kube-apiserver", "kubeadmConfigSpec is a string, not a map"},
	} {
		for _, o := range derived(t, c.text, 36) {
			flags := o.Root.At("facts", "flags")
			if o.Root.At("facts", "component").Str() == c.component && (flags.Kind != object.Unknown || flags.Text != c.reason) {
				t.Errorf("%s: got %.100s, want %s", c.text, shown(flags), c.reason)
			}
		}
	}
	all := derived(t, "apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\netcd: x\n", 36)
	if got := shown(all[0].Root.At("facts", "flags", "etcd-servers")); got != "unknown(etcd is a string, not a map)" {
		t.Errorf("etcd-servers: got %s", got)
	}
}
