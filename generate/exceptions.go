// SPDX-License-Identifier: Apache-2.0

package generate

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
)

// excuses are the exceptions from one control, as conditions of its policy.
type excuses struct {
	conditions []admissionregistrationv1.MatchCondition
	elements   []elementExcuse
	expires    string // the first day on which one of them holds for the last time
}

// elementExcuse excuses elements by their names, in the objects that meet a
// condition.
type elementExcuse struct {
	object   string
	patterns []string
}

// What a policy may hold: the API server takes 64 conditions, and its parser
// expressions of 100,000 characters.
const (
	maxConditions = 64
	maxExpression = 60_000
)

// The expressions of what an exception matches.
const (
	namespaceOf = "object.metadata.?namespace.orValue('')"
	kindOf      = "request.kind.kind"
	nameOf      = "object.metadata.?name.orValue(object.metadata.?generateName.orValue('') + '*')"
)

// exceptions collects those from the rule.
func (g *generator) exceptions() (*excuses, error) {
	x := &excuses{}
	exact := map[string][]string{} // namespace/name, by the condition on kinds
	var alternatives []string
	for _, e := range g.opts.Exceptions {
		s := &e.Spec
		if !slices.Contains(s.Controls, g.rule.Name) {
			continue
		}
		if x.expires == "" || s.Expires < x.expires {
			x.expires = s.Expires
		}
		m := &s.Match
		kinds := matches(kindOf, m.Kinds)
		switch {
		case len(m.Elements) > 0:
			x.elements = append(x.elements, elementExcuse{conjunction(matches(namespaceOf, m.Namespaces), kinds, matches(nameOf, m.Names)), m.Elements})
		case len(m.Namespaces) > 0 && len(m.Names) > 0 && literal(m.Namespaces) && literal(m.Names):
			for _, ns := range m.Namespaces {
				for _, n := range m.Names {
					exact[kinds] = append(exact[kinds], ns+"/"+n)
				}
			}
		default:
			alternatives = append(alternatives, conjunction(matches(namespaceOf, m.Namespaces), kinds, matches(nameOf, m.Names)))
		}
	}
	alternatives = append(alternatives, lists(exact)...)
	if inline := g.inline(); inline != nil {
		x.conditions = append(x.conditions, *inline)
	}
	for i, c := range joined(alternatives) {
		x.conditions = append(x.conditions, admissionregistrationv1.MatchCondition{Name: "not-excepted-" + strconv.Itoa(i+1), Expression: "!(" + c + ")"})
	}
	if n := len(x.conditions) + len(letGo()); n > maxConditions {
		return nil, fmt.Errorf("its exceptions need %d match conditions, and a policy holds %d: match them by namespace or by patterns", n, maxConditions)
	}
	return x, nil
}

// lists returns conditions on namespace and name together, in lists that no
// expression is too short for.
func lists(exact map[string][]string) []string {
	var out []string
	for _, kinds := range sortedKeys(exact) {
		list := exact[kinds]
		slices.Sort(list)
		list = slices.Compact(list)
		for len(list) > 0 {
			n, size := 0, 0
			for n < len(list) && size+len(list[n])+4 < maxExpression {
				size += len(list[n]) + 4
				n++
			}
			out = append(out, conjunction(kinds, "("+namespaceOf+" + '/' + "+nameOf+") in "+stringList(list[:n])))
			list = list[n:]
		}
	}
	return out
}

func sortedKeys(m map[string][]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// joined puts alternatives together, as many as fit one expression.
func joined(alternatives []string) []string {
	var out []string
	for _, a := range alternatives {
		if last := len(out) - 1; last >= 0 && len(out[last])+len(a) < maxExpression {
			out[last] += " || " + a
			continue
		}
		out = append(out, a)
	}
	return out
}

// conjunction joins those conditions that say something.
func conjunction(conditions ...string) string {
	conditions = slices.DeleteFunc(conditions, func(s string) bool { return s == "" })
	if len(conditions) == 0 {
		return "true"
	}
	return "(" + strings.Join(conditions, " && ") + ")"
}

// literal says whether no pattern has a character with a meaning.
func literal(patterns []string) bool {
	return !slices.ContainsFunc(patterns, func(p string) bool { return strings.ContainsAny(p, `*?[\`) })
}

// matches returns the condition that a value matches one of the patterns; ""
// where there are none, which any value matches.
func matches(value string, patterns []string) string {
	switch {
	case len(patterns) == 0:
		return ""
	case literal(patterns):
		return value + " in " + stringList(patterns)
	}
	var alternatives []string
	for _, p := range patterns {
		alternatives = append(alternatives, expression(p))
	}
	return value + ".matches(" + strconv.Quote("^("+strings.Join(alternatives, "|")+")$") + ")"
}

// expression returns a pattern of path.Match as a regular expression.
func expression(pattern string) string {
	var b strings.Builder
	class := false
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		switch {
		case c == '\\' && i+1 < len(pattern):
			i++
			b.WriteString(regexp.QuoteMeta(pattern[i : i+1]))
		case class:
			class = c != ']'
			b.WriteByte(c)
		case c == '[':
			class = true
			b.WriteByte(c)
		case c == '*':
			b.WriteString("[^/]*")
		case c == '?':
			b.WriteString("[^/]")
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	return b.String()
}

func stringList(values []string) string {
	var parts []string
	for _, v := range values {
		if strings.ContainsAny(v, `'"\`) {
			parts = append(parts, strconv.Quote(v))
		} else {
			parts = append(parts, "'"+v+"'")
		}
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// element returns what excuses an element of a name; nil if nothing does.
func (x *excuses) element() func(name string) string {
	if len(x.elements) == 0 {
		return nil
	}
	return func(name string) string {
		var alternatives []string
		for _, e := range x.elements {
			alternatives = append(alternatives, conjunction(e.object, matches(name, e.patterns)))
		}
		return strings.Join(alternatives, " || ")
	}
}

// inlinePattern is the value of an annotation by which an object excuses
// itself: the last day, and a reason.
const inlinePattern = `^\\s*(until )?\\s*[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))\\s*:\\s*\\S(.|\\n){6,}\\S\\s*$`

// inline returns the condition that the object does not excuse itself.
func (g *generator) inline() *admissionregistrationv1.MatchCondition {
	if g.opts.Today.IsZero() || g.baseline.ForbidInline {
		return nil
	}
	annotation := ".?metadata.?annotations[?'" + v1alpha1.ExceptPrefix + g.rule.Name + "'].orValue('')"
	places := []string{"object" + annotation}
	var paths []string
	for _, k := range g.rule.PodKinds() {
		if p, ok := object.PodPath(k); ok && len(p) > 0 && !slices.Contains(paths, p.String()) {
			paths = append(paths, p.String())
		}
	}
	slices.Sort(paths)
	for _, p := range paths {
		places = append(places, "object.?"+strings.ReplaceAll(p, ".", ".?")+annotation)
	}
	return &admissionregistrationv1.MatchCondition{
		Name: "not-excused-by-itself",
		Expression: "![" + strings.Join(places, ", ") + "].exists(a, a.matches('" + inlinePattern +
			"') && a.find('[0-9]{4}-[0-9]{2}-[0-9]{2}') >= '" + g.opts.Today.UTC().Format(time.DateOnly) + "')",
	}
}
