// SPDX-License-Identifier: Apache-2.0

package shape

import "testing"

// TestObjects holds a cluster to the numbers that it is measured by.
func TestObjects(t *testing.T) {
	const scale = 0.1
	counts := map[string]int{}
	for o := range Objects(scale) {
		counts[o.Kind]++
	}
	bindings := counts["RoleBinding"] + counts["ClusterRoleBinding"]
	for _, c := range []struct {
		what      string
		got, want int
	}{
		{"namespaces", counts["Namespace"], Namespaces},
		{"pods", counts["Pod"], Pods},
		{"bindings", bindings, Bindings},
		{"policies", counts["NetworkPolicy"], Policies},
	} {
		if want := int(float64(c.want) * scale); c.got < want || c.got > want+want/4 {
			t.Errorf("%d %s, want %d or a little more", c.got, c.what, want)
		}
	}
}

// TestSame holds that a size gives the same objects each time.
func TestSame(t *testing.T) {
	a, b := Of(0.01), Of(0.01)
	for i := range a {
		if a[i].Ref != b[i].Ref || !a[i].Root.Equal(b[i].Root) {
			t.Fatalf("object %d is %s, and then %s", i, a[i].Ref, b[i].Ref)
		}
	}
}

// TestStops holds that nobody is handed more than they take.
func TestStops(t *testing.T) {
	n := 0
	for range Objects(0.01) {
		if n++; n == 5 {
			break
		}
	}
	if n != 5 {
		t.Errorf("%d objects were taken", n)
	}
}
