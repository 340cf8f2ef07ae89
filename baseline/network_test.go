// SPDX-License-Identifier: Apache-2.0

package baseline_test

import (
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
)

func networkLibrary(t *testing.T, document string) (*baseline.Library, error) {
	t.Helper()
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		t.Fatal(err)
	}
	if err := l.Read("b.yaml", []byte(document)); err != nil {
		return nil, err
	}
	return l, l.Check(time.Time{})
}

// TestNetwork holds what a baseline lets rules ask: nothing, or what it says, or
// what the nearest says that it extends.
func TestNetwork(t *testing.T) {
	l, err := networkLibrary(t, `apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: closed}
spec: {title: t, controls: [{name: host-pid}]}
---
apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: open}
spec:
  title: t
  network: {hosts: ["cmdb.example.com", "10.0.0.7:8443", "[::1]:443", "*.corp.example"], registries: [docker.io], trustedRoot: '{"x": 1}'}
  controls: [{name: host-pid}]
---
apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: child}
spec: {title: t, extends: [open]}
---
apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: shut}
spec: {title: t, extends: [open], network: {}}
`)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"closed": false, "open": true, "child": true, "shut": false} {
		b, err := l.Resolve(name, baseline.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if got := b.Network.Host("cmdb.example.com") == nil; got != want {
			t.Errorf("%s lets cmdb.example.com be called: %v, want %v", name, got, want)
		}
		if got := b.Network.Registry("docker.io") == nil; got != want {
			t.Errorf("%s lets docker.io be asked: %v, want %v", name, got, want)
		}
		if want && string(b.Network.TrustedRoot) != `{"x": 1}` {
			t.Errorf("%s: the trusted root is %s", name, b.Network.TrustedRoot)
		}
	}
}

// TestNetworkMistakes holds that what is no host is refused at its line.
func TestNetworkMistakes(t *testing.T) {
	for network, want := range map[string]string{
		`{hosts: ["https://example.com"]}`:   "want the name or the address of a host",
		`{hosts: ["example.com/path"]}`:      "want the name or the address of a host",
		`{hosts: ["*"]}`:                     "want the name or the address of a host",
		`{hosts: [""]}`:                      "want the name or the address of a host",
		`{hosts: ["a.*.example.com"]}`:       "want the name or the address of a host",
		`{hosts: ["example.com:99999"]}`:     "want the name or the address of a host",
		`{registries: ["ghcr.io/org/name"]}`: "spec.network.registries[0] is",
		`{trustedRoot: "no JSON"}`:           "want the text of a trusted_root.json",
	} {
		_, err := networkLibrary(t, "apiVersion: sconce.dev/v1alpha1\nkind: Baseline\nmetadata: {name: b}\nspec:\n  title: t\n  network: "+network+"\n  controls: [{name: host-pid}]\n")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "b.yaml:6:") {
			t.Errorf("%s: %v, want %q at line 6", network, err, want)
		}
	}
}
