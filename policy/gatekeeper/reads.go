// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// reads is what the Rego of a template reads beside the object.
type reads struct {
	namespace, user bool
	network         bool // it calls out
	inventory       []wanted
	// dynamic says that which part of the review it reads is known when it is
	// evaluated, so that it cannot be told what it holds without some of it.
	dynamic bool
	// monotone says that more objects in the inventory can only make for more
	// violations.
	monotone bool
}

// wanted is a part of the inventory; its zero value is all of it.
type wanted struct {
	kind     string // empty for any
	group    string
	anyGroup bool
}

// kinds describes the kinds of which the part has objects.
func (w wanted) kinds() object.GroupKind {
	switch {
	case w.kind == "":
		return policy.AnyKind
	case w.anyGroup:
		return object.GroupKind{Group: policy.Any, Kind: w.kind}
	}
	return object.GroupKind{Group: w.group, Kind: w.kind}
}

// readsOf finds out what compiled modules read.
func readsOf(modules map[string]*ast.Module) reads {
	out := reads{}
	seen := map[wanted]bool{}
	// reaching are the rules that read the inventory, themselves or through
	// others.
	reaching := map[string]bool{}
	parts := false // it takes parts of the inventory that hold several objects
	for _, m := range modules {
		for _, rule := range m.Rules {
			ast.WalkTerms(rule, func(t *ast.Term) bool {
				switch v := t.Value.(type) {
				case ast.String:
					out.namespace = out.namespace || v == "namespaceObject" || v == "_unstable"
					out.user = out.user || v == "userInfo"
				case ast.Ref:
					out.network = out.network || callsOut(v)
					if v.HasPrefix(inventoryRef) {
						parts = parts || !wholeObject(v)
						reaching[rule.Ref().GroundPrefix().String()] = true
						if w := wantedOf(v); !seen[w] {
							seen[w] = true
							out.inventory = append(out.inventory, w)
						}
					}
				}
				return false
			})
		}
	}
	if readsAny(modules) {
		out.namespace, out.user, out.dynamic = true, true, true
	}
	if seen[wanted{}] {
		out.inventory = []wanted{{}}
	}
	out.monotone = !parts && isMonotone(modules, reaching)
	return out
}

// wholeObject says whether a reference to the inventory is to one object, or to
// a part of it.
func wholeObject(ref ast.Ref) bool {
	if len(ref) > 2 && ref[2].Equal(ast.StringTerm("cluster")) {
		return len(ref) >= 6
	}
	return len(ref) >= 7
}

// wantedOf returns the part of the inventory that a reference is to, as far as
// it is written out: namespace, its name, apiVersion, kind; cluster, apiVersion,
// kind.
func wantedOf(ref ast.Ref) wanted {
	word := func(i int) (string, bool) {
		if i >= len(ref) {
			return "", false
		}
		s, ok := ref[i].Value.(ast.String)
		return string(s), ok
	}
	at := 3
	if tree, ok := word(2); !ok {
		return wanted{}
	} else if tree == "namespace" {
		at = 4
	}
	kind, ok := word(at + 1)
	if !ok {
		return wanted{}
	}
	apiVersion, ok := word(at)
	if !ok {
		return wanted{kind: kind, anyGroup: true}
	}
	group, _, found := strings.Cut(apiVersion, "/")
	if !found {
		group = ""
	}
	return wanted{kind: kind, group: group}
}

// isMonotone says whether nothing that reaches the inventory is negated, counted
// or otherwise asked for as a whole.
func isMonotone(modules map[string]*ast.Module, reaching map[string]bool) bool {
	var rules []*ast.Rule
	for _, m := range modules {
		rules = append(rules, m.Rules...)
	}
	for grown := true; grown; {
		grown = false
		for _, rule := range rules {
			name := rule.Ref().GroundPrefix().String()
			if !reaching[name] && reachesAny(rule, reaching) {
				reaching[name], grown = true, true
			}
		}
	}
	sets := map[string]bool{}
	for _, rule := range rules {
		name := rule.Ref().GroundPrefix().String()
		sets[name] = reaching[name] && (rule.Head.RuleKind() == ast.MultiValue || len(rule.Ref()) != len(rule.Ref().GroundPrefix()))
	}
	for _, rule := range rules {
		if reaching[rule.Ref().GroundPrefix().String()] && (rule.Default || rule.Else != nil) || asksWhole(rule, reaching, sets) {
			return false
		}
	}
	return true
}

// reachesAny says whether part of a rule reads the inventory, or a rule that
// does.
func reachesAny(part any, reaching map[string]bool) bool {
	found := false
	ast.WalkRefs(part, func(ref ast.Ref) bool {
		found = found || ref.HasPrefix(inventoryRef)
		if ref[0].Equal(ast.DefaultRootDocument) {
			for i := 2; i <= len(ref) && !found; i++ {
				found = reaching[ref[:i].String()]
			}
		}
		return found
	})
	return found
}

// asksWhole says whether a rule negates what reaches the inventory, or gathers
// all of it. Sets are the rules whose elements reach it.
func asksWhole(rule *ast.Rule, reaching, sets map[string]bool) bool {
	found := false
	ast.WalkNodes(rule, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.Expr:
			found = found || n.Negated && reachesAny(n, reaching)
		case *ast.Every:
			found = found || reachesAny(n, reaching)
		case *ast.Term:
			switch v := n.Value.(type) {
			case ast.Ref:
				found = found || sets[v.String()]
			case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
				found = found || reachesAny(n, reaching)
			}
		}
		return found
	})
	return found
}
