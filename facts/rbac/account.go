// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"fmt"
	"maps"
	"slices"

	"sconce.dev/sconce/object"
)

// Account is a ServiceAccount that is there, or that something runs as, or whose
// token a Secret holds.
type Account struct {
	Subject
	// Found says whether it is among the objects.
	Found bool
	// Mounted says whether its token is mounted where a pod does not say;
	// MountUnknown, why that is not known.
	Mounted      bool
	MountUnknown string
	// TokenSecrets hold its token for ever.
	TokenSecrets []object.Ref
	// RunBy are the objects whose pods run as it.
	RunBy []object.Ref

	place place
}

// Position is where the ServiceAccount stands, if it is found.
func (a *Account) Position() object.Position { return a.place.position(nil) }

// accounts are ServiceAccounts and what is theirs.
type accounts struct {
	all map[name]*accountState
	// named is how many there are of a name, whatever the namespace; run, as
	// how many of these something runs.
	named, run map[string]int
	// in counts what runs in a namespace, and every is how much runs.
	in    map[string]int
	every int
	// unclear is why it is not known what something runs as.
	unclear map[object.Ref]string
}

type accountState struct {
	kept    []*keptAccount
	runners map[*keptRunner]bool
	tokens  map[*keptToken]bool
}

func newAccounts() accounts {
	return accounts{all: map[name]*accountState{}, named: map[string]int{}, run: map[string]int{}, in: map[string]int{}, unclear: map[object.Ref]string{}}
}

// accountName is the ServiceAccount that something kept is about.
func accountName(kept any) name {
	switch k := kept.(type) {
	case *keptAccount:
		return name{k.ref.Namespace, k.ref.Name}
	case *keptRunner:
		return name{k.ref.Namespace, k.account}
	case *keptToken:
		return name{k.ref.Namespace, k.account}
	}
	return name{}
}

func (a *accounts) add(kept any) {
	n := accountName(kept)
	if k, ok := kept.(*keptRunner); ok && k.unknown != "" {
		a.unclear[k.ref] = k.unknown
		return
	}
	s := a.all[n]
	if s == nil {
		s = &accountState{}
		a.all[n] = s
	}
	switch k := kept.(type) {
	case *keptAccount:
		s.kept = append(s.kept, k)
		slices.SortStableFunc(s.kept, func(a, b *keptAccount) int { return a.place.compare(b.place) })
		a.named[n.name]++
	case *keptRunner:
		if s.runners == nil {
			s.runners = map[*keptRunner]bool{}
		}
		s.runners[k] = true
		a.run[n.name]++
		a.in[n.namespace]++
		a.every++
	case *keptToken:
		if s.tokens == nil {
			s.tokens = map[*keptToken]bool{}
		}
		s.tokens[k] = true
	}
}

func (a *accounts) remove(kept any) {
	n := accountName(kept)
	if k, ok := kept.(*keptRunner); ok && k.unknown != "" {
		delete(a.unclear, k.ref)
		return
	}
	s := a.all[n]
	switch k := kept.(type) {
	case *keptAccount:
		s.kept = slices.DeleteFunc(s.kept, func(other *keptAccount) bool { return other == k })
		countDown(a.named, n.name)
	case *keptRunner:
		delete(s.runners, k)
		countDown(a.run, n.name)
		countDown(a.in, n.namespace)
		a.every--
	case *keptToken:
		delete(s.tokens, k)
	}
	if len(s.kept)+len(s.runners)+len(s.tokens) == 0 {
		delete(a.all, n)
	}
}

func countDown(m map[string]int, key string) {
	if m[key]--; m[key] == 0 {
		delete(m, key)
	}
}

// found says whether there is a ServiceAccount, or one that may be it. Each
// namespace has one called default.
func (a *accounts) found(n name) bool {
	if n.name == "default" || n.namespace == "" && a.named[n.name] > 0 {
		return true
	}
	has := func(n name) bool { s := a.all[n]; return s != nil && len(s.kept) > 0 }
	return has(n) || has(name{"", n.name})
}

// runs says whether something runs as a ServiceAccount, or as one that may be
// it.
func (a *accounts) runs(n name) bool {
	if n.namespace == "" {
		return a.run[n.name] > 0
	}
	has := func(n name) bool { s := a.all[n]; return s != nil && len(s.runners) > 0 }
	return has(n) || has(name{"", n.name})
}

// account returns the answer about one.
func (a *accounts) account(n name) *Account {
	s := a.all[n]
	out := &Account{Subject: Subject{ServiceAccount, n.namespace, n.name}, Found: len(s.kept) > 0, Mounted: true}
	for i, k := range s.kept {
		switch {
		case i == 0:
			out.place = k.place
			out.Mounted, out.MountUnknown = k.mount.mounted, k.mount.why
		case k.mount != s.kept[0].mount:
			out.MountUnknown = "several ServiceAccounts are called " + qualified(n.namespace, n.name) + ", and they differ in " + automountField
		}
	}
	for k := range s.tokens {
		out.TokenSecrets = append(out.TokenSecrets, k.ref)
	}
	for k := range s.runners {
		out.RunBy = append(out.RunBy, k.ref)
	}
	slices.SortFunc(out.TokenSecrets, compareRefs)
	slices.SortFunc(out.RunBy, compareRefs)
	return out
}

// Accounts are all ServiceAccounts that are there, or that something runs as,
// sorted.
func (m *Model) Accounts() []*Account {
	var out []*Account
	for n := range maps.Keys(m.accounts.all) {
		out = append(out, m.accounts.account(n))
	}
	slices.SortFunc(out, func(a, b *Account) int { return a.compare(b.Subject) })
	return out
}

// Unclear are the objects of which it is not known what they run as, each with
// the reason.
func (m *Model) Unclear() map[object.Ref]string { return maps.Clone(m.accounts.unclear) }

// someUnclear says of the first object of which it is not known what it runs as
// why that is so.
func (a *accounts) someUnclear() string {
	if len(a.unclear) == 0 {
		return ""
	}
	first := slices.MinFunc(slices.Collect(maps.Keys(a.unclear)), compareRefs)
	return fmt.Sprintf("%s: %s", first, a.unclear[first])
}

// runner returns what runs as a ServiceAccount: a controller, if there is one.
func (a *accounts) runner(s Subject) *keptRunner {
	state := a.all[name{s.Namespace, s.Name}]
	if s.Kind != ServiceAccount || state == nil {
		return nil
	}
	var first *keptRunner
	for k := range state.runners {
		isPod := func(k *keptRunner) bool { return k.ref.Kind == "Pod" }
		switch {
		case first == nil, isPod(first) && !isPod(k), isPod(first) == isPod(k) && compareRefs(k.ref, first.ref) < 0:
			first = k
		}
	}
	return first
}
