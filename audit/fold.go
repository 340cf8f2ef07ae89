// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/binary"
	"hash/maphash"
	"strings"
	"unique"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// told is what is told of the objects of a namespace, once findings are folded:
// those that an object has in common with its owner are told of the owner alone,
// by the rules of engine.Run.
type told struct {
	failed          map[v1alpha1.Severity]int
	unknown, folded int
	// owned is what counts change by, by rule: verdicts that were failed by
	// nothing but what is excused in the owner.
	owned map[int]verdict.Counts
}

// fold is one pass over the objects of a namespace.
type fold struct {
	*State
	told   *told
	visit  func(r *record, f *finding, v *said)
	owners map[*record]map[uint64]bool // their findings, and whether they are excused
	alike  map[shared][]uint64
}

// shared is what objects of one kind have in common in a finding.
type shared struct {
	kind object.GroupKind
	said unique.Handle[said]
}

// tell goes through the findings of a namespace that are not folded.
func (s *State) tell(sp *space, visit func(r *record, f *finding, v *said)) *told {
	f := &fold{
		State: s, visit: visit, owners: map[*record]map[uint64]bool{}, alike: map[shared][]uint64{},
		told: &told{failed: map[v1alpha1.Severity]int{}, owned: map[int]verdict.Counts{}},
	}
	for _, r := range sp.records {
		for i := range r.blocks {
			f.block(r, &r.blocks[i])
		}
	}
	sp.told = f.told
	return f.told
}

// holdsPod says whether an object may be an owner, or be owned, where findings
// are folded.
func (r *record) holdsPod() bool { return r.programs != unique.Handle[string]{} }

// block goes through the findings of a block.
func (f *fold) block(r *record, b *block) {
	owned := r.owner != "" && r.uid != "" && r.holdsPod()
	excused := map[int]bool{}   // whether all that failed of a rule is
	undecided := map[int]bool{} // whether something of a rule is unknown
	for i := range b.findings {
		v := b.findings[i].said.Value()
		var found, excepted bool
		if owned {
			found, excepted = f.has(r, &b.findings[i], &v)
			undecided[v.rule] = undecided[v.rule] || v.outcome == verdict.Unknown
		}
		if v.outcome == verdict.Fail && owned {
			all, ok := excused[v.rule]
			excused[v.rule] = (all || !ok) && (v.excused || found && excepted)
		}
		switch {
		case found:
			f.told.folded++
			continue
		case v.outcome == verdict.Unknown:
			f.told.unknown++
		case !v.excused:
			f.told.failed[f.e.Rules()[v.rule].Severity]++
		}
		if f.visit != nil {
			f.visit(r, &b.findings[i], &v)
		}
	}
	if len(excused) > 0 {
		f.excuse(b, excused, undecided)
	}
}

// excuse counts the verdicts of which what failed is excused by the owner.
func (f *fold) excuse(b *block, excused, undecided map[int]bool) {
	packed := b.outcomes.Value()
	for i := 0; i+2 < len(packed); i += 3 {
		if rule := int(packed[i])<<8 | int(packed[i+1]); packed[i+2] == failed && excused[rule] {
			c := verdict.Counts{Fail: -1, Excepted: 1}
			if undecided[rule] {
				c = verdict.Counts{Fail: -1, Unknown: 1}
			}
			c.Add(f.told.owned[rule])
			f.told.owned[rule] = c
		}
	}
}

// has says whether an object's owner has a finding, and whether that is excused:
// in the owner or in one that has it in common with that.
func (f *fold) has(r *record, own *finding, v *said) (found, excepted bool) {
	keys := f.keys(r, own, v)
	owned := r
	for range engine.MaxOwners {
		owner := f.byUID[owned.owner]
		if owner == nil || !owner.holdsPod() || owner.ref.Namespace != r.ref.Namespace {
			break
		}
		in, excused := false, false
		for _, k := range keys {
			x, ok := f.findings(owner)[k]
			if ok {
				in, excused = true, x && (excused || !in)
			}
		}
		if !in {
			break
		}
		if excused && !f.same(r, owner, own) {
			return found, false
		}
		found, excepted = true, excepted || excused
		owned = owner
	}
	return found, excepted
}

// same says whether what is excused in an owner is excused in what it owns: that
// runs the same programs.
func (f *fold) same(r, owner *record, own *finding) bool {
	full := f.finding(r.ref, *own)
	return r.runs(owner) && (f.e.OfContainer(&full) || len(r.programs.Value()) == len(owner.programs.Value()))
}

// findings returns the keys of the findings of an owner. A Pod owns nothing.
func (f *fold) findings(owner *record) map[uint64]bool {
	out, ok := f.owners[owner]
	if ok || owner.ref.GroupKind() == (object.GroupKind{Kind: "Pod"}) {
		return out
	}
	out = map[uint64]bool{}
	for i := range owner.blocks {
		for k := range owner.blocks[i].findings {
			own := &owner.blocks[i].findings[k]
			v := own.said.Value()
			for _, key := range f.keys(owner, own, &v) {
				before, has := out[key]
				out[key] = v.excused && (before || !has)
			}
		}
	}
	f.owners[owner] = out
	return out
}

// keys returns hashes of what a finding has in common with that of an owner.
func (f *fold) keys(r *record, own *finding, v *said) []uint64 {
	key := shared{r.ref.GroupKind(), own.said}
	named := strings.Contains(v.message, r.ref.Name)
	if out, ok := f.alike[key]; ok && !named {
		return out
	}
	full := f.finding(r.ref, *own)
	var out []uint64
	for _, text := range f.e.Alike(&full) {
		out = append(out, maphash.String(f.seed, text))
	}
	if !named {
		f.alike[key] = out
	}
	return out
}

// runs says whether an object runs all that another does.
func (r *record) runs(other *record) bool {
	own, all := r.programs.Value(), other.programs.Value()
	for i := 0; i+8 <= len(all); i += 8 {
		found := false
		for k := 0; k+8 <= len(own) && !found; k += 8 {
			found = own[k:k+8] == all[i:i+8]
		}
		if !found {
			return false
		}
	}
	return true
}

// pack adds a program to those that an object runs.
func (s *State) pack(packed []byte, program string) []byte {
	return binary.NativeEndian.AppendUint64(packed, maphash.String(s.seed, program))
}
