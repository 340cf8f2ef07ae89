// SPDX-License-Identifier: Apache-2.0

package engine

import "testing"

// TestForgedOwner: who names an excused object as the owner of something else is
// not excused.
func TestForgedOwner(t *testing.T) {
	f := newFolds(nil)
	owner := &node{unit: 0, findings: map[uint64]bool{7: true}, programs: []uint64{1}}
	f.nodes[1] = owner
	for programs, want := range map[uint64]bool{1: true, 2: false} {
		found, excepted := f.has(&node{owner: 1, programs: []uint64{programs}}, []uint64{7})
		if found != want || excepted != want {
			t.Errorf("program %d: found %t, excused %t, want %t", programs, found, excepted, want)
		}
	}
}
