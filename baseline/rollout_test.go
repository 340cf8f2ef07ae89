// SPDX-License-Identifier: Apache-2.0

package baseline_test

import (
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
)

// TestRollout holds which action holds on which day of a rollout, and what is
// told of the next.
func TestRollout(t *testing.T) {
	const document = `apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: parent}
spec:
  title: t
  rollout:
  - {action: audit}
  - {from: "2027-01-01", action: warn}
  - {from: "2027-02-01", action: deny}
---
apiVersion: sconce.dev/v1alpha1
kind: Baseline
metadata: {name: staged}
spec:
  title: t
  extends: [parent]
  controls:
  - {name: privileged-container}
  - {name: host-network, action: warn}
  - {name: host-pid, rollout: [{from: "2027-01-15", action: ratchet}]}
`
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		t.Fatal(err)
	}
	if err := l.Read("b.yaml", []byte(document)); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(time.Time{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		day     string
		want    map[string]v1alpha1.Action
		notices int
	}{
		{"2026-12-31", map[string]v1alpha1.Action{"privileged-container": "audit", "host-network": "audit", "host-pid": "audit"}, 2},
		{"2027-01-01", map[string]v1alpha1.Action{"privileged-container": "warn", "host-network": "warn", "host-pid": "audit"}, 2},
		{"2027-01-31", map[string]v1alpha1.Action{"privileged-container": "warn", "host-network": "warn", "host-pid": "ratchet"}, 1},
		{"2027-02-01", map[string]v1alpha1.Action{"privileged-container": "deny", "host-network": "warn", "host-pid": "ratchet"}, 0},
		{"", map[string]v1alpha1.Action{"privileged-container": "deny", "host-network": "warn", "host-pid": "deny"}, 0},
	} {
		day, _ := time.Parse(time.DateOnly, c.day)
		b, err := l.Resolve("staged", baseline.Options{Today: day})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range b.Rules {
			if r.Action != c.want[r.Name] {
				t.Errorf("on %q the action of %s is %s, want %s", c.day, r.Name, r.Action, c.want[r.Name])
			}
		}
		if len(b.Notices) != c.notices {
			t.Errorf("on %q %d notices, want %d: %v", c.day, len(b.Notices), c.notices, b.Notices)
		}
	}
}

// TestRolloutMistakes holds that a rollout that makes no sense is refused at its
// line.
func TestRolloutMistakes(t *testing.T) {
	for stages, want := range map[string]string{
		`[{from: soon, action: warn}]`:                                             "want the day",
		`[{from: "2027-02-01", action: warn}, {from: "2027-01-01", action: deny}]`: "order the stages",
		`[{from: "2027-01-01", action: deny}, {from: "2027-02-01", action: warn}]`: "a rollout gets stricter",
		`[{from: "2027-01-01", action: warn}, {action: deny}]`:                     "want the day",
		`[{from: "2027-01-01", action: forbid}]`:                                   "want audit, warn, ratchet, deny",
	} {
		l := baseline.NewLibrary()
		if err := catalog.ReadSources(l); err != nil {
			t.Fatal(err)
		}
		err := l.Read("b.yaml", []byte("apiVersion: sconce.dev/v1alpha1\nkind: Baseline\nmetadata: {name: b}\nspec:\n  title: t\n  rollout: "+stages+"\n  controls: [{name: host-pid}]\n"))
		if err == nil {
			err = l.Check(time.Time{})
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "b.yaml:6:") {
			t.Errorf("%s: %v, want %q at line 6", stages, err, want)
		}
	}
}
