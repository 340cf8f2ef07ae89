// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"slices"
	"unique"
)

// ruleIndex finds the roles that allow something without looking at every rule.
// Rules that say the same are one in it, however many roles have them.
type ruleIndex struct {
	said map[unique.Handle[string]]*said
	// by are the rules by each resource that they name, paths those that name
	// paths.
	by    map[string]map[*said]bool
	paths map[*said]bool
}

// said is what rules say, and which bound roles have such a rule.
type said struct {
	rule Rule
	refs int // how many rules of objects say it
	in   map[*roleState]bool
}

func newRuleIndex() ruleIndex {
	return ruleIndex{said: map[unique.Handle[string]]*said{}, by: map[string]map[*said]bool{}, paths: map[*said]bool{}}
}

// read returns what a rule says, which the index holds until it is released.
func (x *ruleIndex) read(text unique.Handle[string]) Rule {
	s := x.said[text]
	if s == nil {
		s = &said{rule: readRule(text.Value()), in: map[*roleState]bool{}}
		s.rule.text = text
		x.said[text] = s
		for _, resource := range s.rule.Resources {
			if x.by[resource] == nil {
				x.by[resource] = map[*said]bool{}
			}
			x.by[resource][s] = true
		}
		if len(s.rule.Paths) > 0 {
			x.paths[s] = true
		}
	}
	s.refs++
	return s.rule
}

func (x *ruleIndex) release(texts []unique.Handle[string]) {
	for _, text := range texts {
		s := x.said[text]
		if s.refs--; s.refs > 0 {
			continue
		}
		delete(x.said, text)
		delete(x.paths, s)
		for _, resource := range s.rule.Resources {
			if delete(x.by[resource], s); len(x.by[resource]) == 0 {
				delete(x.by, resource)
			}
		}
	}
}

// allowing are the bound roles with a rule that allows a request.
func (x *ruleIndex) allowing(q Request) map[*roleState]bool {
	out := map[*roleState]bool{}
	add := func(some map[*said]bool) {
		for s := range some {
			if !s.rule.Allows(q) {
				continue
			}
			for state := range s.in {
				out[state] = true
			}
		}
	}
	if q.Path != "" {
		add(x.paths)
		return out
	}
	for _, named := range []string{all, q.combined(), all + "/" + q.Subresource} {
		add(x.by[named])
	}
	return out
}

// naming are the bound roles with a rule that allows a verb on a resource,
// whatever the name.
func (x *ruleIndex) naming(q Request) map[*roleState]bool {
	out := map[*roleState]bool{}
	for _, named := range []string{all, q.combined(), all + "/" + q.Subresource} {
		for s := range x.by[named] {
			if !s.rule.allowsSome(&q) {
				continue
			}
			for state := range s.in {
				out[state] = true
			}
		}
	}
	return out
}

// reindex brings the index up to date with the rules of a role, which are found
// by it only while the role is bound.
func (r *roles) reindex(s *roleState) {
	var now []*Rule
	if !s.bound.empty() {
		now = s.rules
	}
	if slices.Equal(now, s.indexed) {
		return
	}
	for _, rule := range s.indexed {
		if said := r.rules.said[rule.text]; said != nil {
			delete(said.in, s)
		}
	}
	for _, rule := range now {
		r.rules.said[rule.text].in[s] = true
	}
	s.indexed = now
}
