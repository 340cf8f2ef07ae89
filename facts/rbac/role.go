// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"unique"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// roleState is a role, there or not, and who is bound to it.
type roleState struct {
	key     roleKey
	kept    []*keptRole // of several objects of one name, all; none where it is not there
	builtIn *keptRole
	// own are the rules that it says, rules those that it grants: its own, or
	// the aggregated ones.
	own, rules []*Rule
	found      bool
	aggregate  bool                // it is put together from others
	stored     bool                // as a cluster has it
	unknown    string              // why it may have other rules
	maybe      string              // why it may not be the one that is meant
	from       map[*roleState]bool // those that it is put together from
	bound      scoped
	indexed    []*Rule
	differs    bool // since it was last settled, in what follows for those bound to it
}

// roles are all roles that are there or bound, with the rules that they grant.
type roles struct {
	complete bool
	all      map[roleKey]*roleState
	// namesakes are the Roles of a name, whatever their namespace.
	namesakes map[string]map[*roleState]bool
	// aggregates are the ClusterRoles that are put together from others, and
	// labelled those that have a label.
	aggregates map[*roleState]bool
	labelled   map[label]map[*roleState]bool
	made       map[*keptRole][]*Rule
	rules      ruleIndex
}

type label struct{ key, value string }

func newRoles(complete bool) roles {
	r := roles{
		complete: complete, all: map[roleKey]*roleState{}, namesakes: map[string]map[*roleState]bool{}, aggregates: map[*roleState]bool{},
		labelled: map[label]map[*roleState]bool{}, made: map[*keptRole][]*Rule{}, rules: newRuleIndex(),
	}
	for _, k := range builtIn() {
		s := r.state(keyOf(k.ref))
		s.builtIn = k
		r.note(s, k, true)
	}
	return r
}

// state returns a role by its key, also one that is not there.
func (r *roles) state(k roleKey) *roleState {
	s := r.all[k]
	if s == nil {
		s = &roleState{key: k}
		r.all[k] = s
		if !k.cluster {
			if r.namesakes[k.name] == nil {
				r.namesakes[k.name] = map[*roleState]bool{}
			}
			r.namesakes[k.name][s] = true
		}
	}
	return s
}

// forget takes away a role that is neither there nor bound.
func (r *roles) forget(s *roleState) {
	if len(s.kept) > 0 || s.builtIn != nil || !s.bound.empty() {
		return
	}
	delete(r.all, s.key)
	if same := r.namesakes[s.key.name]; same != nil && !s.key.cluster {
		if delete(same, s); len(same) == 0 {
			delete(r.namesakes, s.key.name)
		}
	}
}

func (r *roles) add(k *keptRole) {
	s := r.state(keyOf(k.ref))
	s.kept = append(s.kept, k)
	slices.SortStableFunc(s.kept, func(a, b *keptRole) int { return a.place.compare(b.place) })
	r.note(s, k, true)
}

func (r *roles) remove(k *keptRole) {
	s := r.state(keyOf(k.ref))
	s.kept = slices.DeleteFunc(s.kept, func(other *keptRole) bool { return other == k })
	if _, ok := r.made[k]; ok {
		delete(r.made, k)
		r.rules.release(k.rules)
	}
	r.note(s, k, false)
	for _, other := range s.kept {
		r.note(s, other, true)
	}
	if s.builtIn != nil {
		r.note(s, s.builtIn, true)
	}
}

// note indexes what aggregation looks for.
func (r *roles) note(s *roleState, k *keptRole, there bool) {
	for key, value := range k.labels {
		l := label{key, value}
		switch {
		case !there:
			delete(r.labelled[l], s)
		case r.labelled[l] == nil:
			r.labelled[l] = map[*roleState]bool{s: true}
		default:
			r.labelled[l][s] = true
		}
	}
	if !k.aggregate {
		return
	}
	if there {
		r.aggregates[s] = true
	} else {
		delete(r.aggregates, s)
	}
}

// brought says whether what Kubernetes brings counts although it is not among the
// objects: not in a cluster of which all is known. Each has a cluster-admin.
func (r *roles) brought() bool {
	admin := r.all[roleKey{cluster: true, name: "cluster-admin"}]
	return !r.complete || admin == nil || len(admin.kept) == 0
}

// sources are the objects that the role is.
func (s *roleState) sources(r *roles) []*keptRole {
	switch {
	case len(s.kept) > 0:
		return s.kept
	case s.builtIn != nil && r.brought():
		return []*keptRole{s.builtIn}
	}
	return nil
}

// meant are the objects that the role may be where none has its name and
// namespace: one of them need not say it.
func (r *roles) meant(s *roleState) []*keptRole {
	if s.key.cluster {
		return nil
	}
	if s.key.namespace != "" {
		if same := r.all[roleKey{name: s.key.name}]; same != nil {
			return same.kept
		}
		return nil
	}
	var out []*keptRole
	for _, same := range slices.SortedFunc(maps.Keys(r.namesakes[s.key.name]), compareStates) {
		out = append(out, same.kept...)
	}
	return out
}

func compareStates(a, b *roleState) int { return compareKeys(a.key, b.key) }

func compareKeys(a, b roleKey) int {
	return cmp.Or(cmp.Compare(a.kind(), b.kind()), cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
}

// rulesOf are the rules of an object.
func (r *roles) rulesOf(k *keptRole) []*Rule {
	if made, ok := r.made[k]; ok {
		return made
	}
	out := make([]*Rule, len(k.rules))
	for i, text := range k.rules {
		rule := r.rules.read(text)
		rule.Index, rule.in = k.at(i), k
		out[i] = &rule
	}
	r.made[k] = out
	return out
}

// settleAll works out the rules of all roles.
func (r *roles) settleAll() {
	for _, s := range r.all {
		r.settleOwn(s)
	}
	for _, s := range r.all {
		r.settleRules(s)
	}
}

// settle works out again what follows from roles that have come, gone or
// changed, and returns the roles that it follows for.
func (r *roles) settle(changed []*keptRole) []*roleState {
	touched := map[*roleState]bool{}
	for _, k := range changed {
		r.touch(k, touched)
	}
	r.touchAggregates(changed, touched)
	before := map[*roleState]roleState{}
	for s := range touched {
		before[s] = *s
		r.settleOwn(s)
	}
	for s := range touched {
		r.settleRules(s)
		s.differs = !s.same(before[s])
		r.forget(s)
	}
	return slices.SortedFunc(maps.Keys(touched), compareStates)
}

// same says whether the same follows for those bound to a role as once did.
func (s *roleState) same(was roleState) bool {
	return s.found == was.found && s.unknown == was.unknown && s.maybe == was.maybe &&
		slices.EqualFunc(s.rules, was.rules, func(a, b *Rule) bool { return a.text == b.text && a.in.ref == b.in.ref })
}

// touch names the roles that an object is, or may be.
func (r *roles) touch(k *keptRole, touched map[*roleState]bool) {
	s := r.state(keyOf(k.ref))
	touched[s] = true
	switch {
	case s.key.cluster && s.key.name == "cluster-admin" && r.complete:
		for _, other := range r.all {
			if other.builtIn != nil || r.aggregates[other] {
				touched[other] = true
			}
		}
	case s.key.cluster:
	case s.key.namespace == "":
		for same := range r.namesakes[s.key.name] {
			touched[same] = true
		}
	default:
		if same := r.all[roleKey{name: s.key.name}]; same != nil {
			touched[same] = true
		}
	}
}

// touchAggregates names the roles that are put together from some that are
// touched.
func (r *roles) touchAggregates(changed []*keptRole, touched map[*roleState]bool) {
	for more := true; more; {
		more = false
		for a := range r.aggregates {
			if touched[a] {
				continue
			}
			if slices.ContainsFunc(changed, func(k *keptRole) bool { return r.selects(a, k) }) || r.selectsAny(a, touched) {
				touched[a], more = true, true
			}
		}
	}
}

func (r *roles) selectsAny(a *roleState, touched map[*roleState]bool) bool {
	for s := range touched {
		if slices.ContainsFunc(s.sources(r), func(k *keptRole) bool { return r.selects(a, k) }) {
			return true
		}
	}
	return false
}

// selects says whether a role is put together from an object.
func (r *roles) selects(a *roleState, k *keptRole) bool {
	if k.ref.Kind != clusterRole.Kind {
		return false
	}
	for _, of := range a.sources(r) {
		if slices.ContainsFunc(of.selectors, func(s labels.Selector) bool { return s.Matches(k.labels) }) {
			return true
		}
	}
	return false
}

// settleOwn works out what a role says by itself.
func (r *roles) settleOwn(s *roleState) {
	s.unknown, s.maybe, s.own = "", "", nil
	from := s.sources(r)
	if from == nil {
		if from = r.meant(s); from != nil {
			s.maybe = fmt.Sprintf("one that is called %s does not say in which namespace it is", s.key.ref())
		}
	}
	s.found = len(from) > 0
	if !s.found && !r.complete {
		s.unknown = fmt.Sprintf("the %s %s is not among what was read", s.key.ref().Kind, qualified(s.key.namespace, s.key.name))
	}
	s.aggregate = slices.ContainsFunc(from, func(k *keptRole) bool { return k.aggregate })
	s.stored = slices.ContainsFunc(from, func(k *keptRole) bool { return k.stored })
	seen := map[unique.Handle[string]]bool{}
	for i, k := range from {
		if k.unknown != "" && s.unknown == "" {
			s.unknown = fmt.Sprintf("%s: %s", k.ref, k.unknown)
		}
		if i == 0 {
			s.own = r.rulesOf(k)
			continue
		}
		if !slices.Equal(k.rules, from[0].rules) && s.maybe == "" {
			s.maybe = fmt.Sprintf("several objects are called %s, and they differ", s.key.ref())
		}
		s.own = appendRules(slices.Clip(s.own), seen, r.rulesOf(k))
	}
}

// appendRules adds the rules that say what none in the list says.
func appendRules(list []*Rule, seen map[unique.Handle[string]]bool, more []*Rule) []*Rule {
	if len(seen) == 0 {
		for _, rule := range list {
			seen[rule.text] = true
		}
	}
	for _, rule := range more {
		if !seen[rule.text] {
			seen[rule.text] = true
			list = append(list, rule)
		}
	}
	return list
}

// settleRules works out what a role grants.
func (r *roles) settleRules(s *roleState) {
	s.rules, s.from = s.own, nil
	if s.aggregate {
		s.rules = r.aggregated(s)
	}
	r.reindex(s)
}

// aggregated are the rules of a ClusterRole that is put together from others.
// What a cluster has stored holds, and each rule stands where an aggregated role
// has it. What a file says there, the controller is going to replace, unless it
// finds no rules at all: then it leaves them.
func (r *roles) aggregated(s *roleState) []*Rule {
	c := newCollector(r, s)
	c.visit(s)
	delete(c.seen, s)
	s.from = c.seen
	if !s.stored {
		s.unknown = cmp.Or(s.unknown, c.unknown)
		if !r.complete || len(c.rules) == 0 {
			return appendRules(c.rules, c.have, s.own)
		}
		return c.rules
	}
	from := make(map[unique.Handle[string]]*Rule, len(c.rules))
	for _, rule := range c.rules {
		from[rule.text] = rule
	}
	out := slices.Clone(s.own)
	for i, rule := range out {
		if source := from[rule.text]; source != nil {
			out[i] = source
		}
	}
	return out
}

// collector gathers the rules of the roles that one is put together from.
type collector struct {
	*roles
	seen    map[*roleState]bool
	have    map[unique.Handle[string]]bool
	rules   []*Rule
	unknown string
}

func newCollector(r *roles, s *roleState) *collector {
	return &collector{roles: r, seen: map[*roleState]bool{s: true}, have: map[unique.Handle[string]]bool{}}
}

// anything says whether a role finds rules to be put together from.
func (c *collector) anything(s *roleState) bool {
	for _, k := range s.sources(c.roles) {
		for _, selector := range k.selectors {
			for _, of := range c.selected(selector) {
				if c.seen[of] {
					continue
				}
				c.seen[of] = true
				if of.aggregate && !of.stored {
					if c.anything(of) {
						return true
					}
				} else if len(of.own) > 0 {
					return true
				}
			}
		}
	}
	return false
}

func (c *collector) visit(s *roleState) {
	for _, k := range s.sources(c.roles) {
		for _, selector := range k.selectors {
			for _, of := range c.selected(selector) {
				c.take(of)
			}
		}
	}
}

func (c *collector) take(s *roleState) {
	if c.seen[s] {
		return
	}
	c.seen[s] = true
	for _, k := range s.sources(c.roles) {
		if k.unknown != "" {
			c.unknown = cmp.Or(c.unknown, fmt.Sprintf("%s: %s", k.ref, k.unknown))
		}
	}
	if s.aggregate && !s.stored {
		c.visit(s)
		if len(s.own) == 0 {
			return
		}
		if below := newCollector(c.roles, s); below.anything(s) {
			return
		}
	}
	c.rules = appendRules(c.rules, c.have, s.own)
}

// selected are the ClusterRoles that a selector selects, by their names.
func (r *roles) selected(selector labels.Selector) []*roleState {
	var out []*roleState
	for s := range r.candidates(selector) {
		if s.key.cluster && slices.ContainsFunc(s.sources(r), func(k *keptRole) bool { return selector.Matches(k.labels) }) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, compareStates)
	return slices.Compact(out)
}

// candidates are roles among which are all that a selector selects: most name a
// label and its value.
func (r *roles) candidates(selector labels.Selector) func(yield func(*roleState) bool) {
	requirements, _ := selector.Requirements()
	for _, q := range requirements {
		switch q.Operator() {
		case selection.Equals, selection.DoubleEquals, selection.In:
			return func(yield func(*roleState) bool) {
				for value := range q.Values() {
					for s := range r.labelled[label{q.Key(), value}] {
						if !yield(s) {
							return
						}
					}
				}
			}
		}
	}
	return maps.Values(r.all)
}

// bind notes that a role is bound, and returns it. What the API server would
// refuse binds none.
func (r *roles) bind(b *Binding) *roleState {
	key := b.kept.role
	if b.kept.refused != "" {
		key = roleKey{}
	}
	s, is := r.all[key]
	if !is {
		s = r.state(key)
		r.settleOwn(s)
		r.settleRules(s)
	}
	s.bound.add(b)
	r.reindex(s)
	return s
}

func (r *roles) unbind(b *Binding) {
	b.role.bound.remove(b)
	r.reindex(b.role)
	r.forget(b.role)
}
