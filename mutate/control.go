// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/controltest"
	"sconce.dev/sconce/object"
)

// The operators that change what stands around the expressions.
const (
	opWhen      = "when"      // the control is about every element
	opVersion   = "version"   // what was required of older clusters is gone, or ends elsewhere
	opMatch     = "match"     // a kind, or a list of containers, is not looked at
	opPlace     = "place"     // another field is shown
	opParameter = "parameter" // another default
)

// maker makes the mutants of one control.
type maker struct {
	in  Input
	src source
	out []*Mutant
	err error
	// given are lists that the fixture gives to parameters.
	given map[string][]string
}

// given returns, for each parameter, the first list of strings that the
// settings of a fixture give it.
func given(settings map[*control.Control]control.Options) map[string][]string {
	out := map[string][]string{}
	for _, opts := range settings {
		for name, v := range opts.Parameters {
			var list []string
			if json.Unmarshal(v.RawMessage, &list) == nil && len(list) > 0 && (out[name] == nil || slices.Compare(list, out[name]) < 0) {
				out[name] = list
			}
		}
	}
	return out
}

// mutants returns every change of a control that is tried, in the order of its
// fields.
func mutants(in Input, settings map[*control.Control]control.Options) ([]*Mutant, error) {
	m := &maker{in: in, src: find(in.File, in.Text, in.Control.Name), given: given(settings)}
	m.match()
	m.parameters()
	m.variables()
	m.conditions()
	m.versions()
	m.places()
	return m.out, m.err
}

// add adds a mutant of the control, made by changing a copy of it.
func (m *maker) add(op, label, field string, offset int, before, after, to string, change func(*v1alpha1.ControlSpec)) {
	c := m.in.Control.DeepCopy()
	change(&c.Spec)
	m.out = append(m.out, &Mutant{
		ID: id(op, label, to), Operator: op, Field: label, Position: m.src.place(field, offset), Before: before, After: after, control: c,
	})
}

// expression adds the mutants of one expression.
func (m *maker) expression(label, field, source string, use context, set func(*v1alpha1.ControlSpec, string)) {
	all, err := edits(source, use)
	if err != nil {
		m.err = fmt.Errorf("%s: %s: %w", m.in.File, field, err)
		return
	}
	for _, e := range all {
		m.add(e.op, label, field, e.offset, e.before, e.after, e.source, func(s *v1alpha1.ControlSpec) { set(s, e.source) })
	}
}

func (m *maker) conditions() {
	spec := &m.in.Control.Spec
	if spec.When != "" {
		m.add(opWhen, "when", "spec.when", 0, spec.When, "(dropped)", "", func(s *v1alpha1.ControlSpec) { s.When = "" })
		m.expression("when", "spec.when", spec.When, context{condition: true}, func(s *v1alpha1.ControlSpec, e string) { s.When = e })
	}
	m.expression("require", "spec.require", spec.Require, context{condition: true}, func(s *v1alpha1.ControlSpec, e string) { s.Require = e })
}

// variables adds the mutants of the variables that the verdict depends on.
func (m *maker) variables() {
	spec := &m.in.Control.Spec
	sources := []string{spec.When, spec.Require}
	for _, v := range spec.Versions {
		sources = append(sources, v.Require)
	}
	var read []string
	for _, s := range sources {
		read = append(read, names(s)...)
	}
	for _, v := range slices.Backward(spec.Variables) {
		if slices.Contains(read, v.Name) {
			read = append(read, names(v.Expression)...)
			sources = append(sources, v.Expression)
		}
	}
	for i, v := range spec.Variables {
		if !slices.Contains(read, v.Name) {
			continue // only the message shows it
		}
		field := fmt.Sprintf("spec.variables[%d].expression", i)
		m.expression("variables."+v.Name, field, v.Expression, usage(v.Name, sources), func(s *v1alpha1.ControlSpec, e string) { s.Variables[i].Expression = e })
	}
}

func (m *maker) versions() {
	for i, v := range m.in.Control.Spec.Versions {
		label, field := fmt.Sprintf("versions[%s]", v.Before), fmt.Sprintf("spec.versions[%d]", i)
		m.add(opVersion, label, field, 0, "before "+v.Before, "(dropped)", "", func(s *v1alpha1.ControlSpec) {
			s.Versions = slices.Delete(s.Versions, i, i+1)
		})
		if before, err := control.ParseVersion(v.Before); err == nil {
			for _, n := range []int{before.Minor() - 1, before.Minor() + 1} {
				to := "1." + strconv.Itoa(n)
				m.add(opVersion, label, field+".before", 0, v.Before, to, to, func(s *v1alpha1.ControlSpec) { s.Versions[i].Before = to })
			}
		}
		m.expression(label, field+".require", v.Require, context{condition: true}, func(s *v1alpha1.ControlSpec, e string) { s.Versions[i].Require = e })
	}
}

func (m *maker) places() {
	at := m.in.Control.Spec.At
	for i, p := range at {
		if len(at) == 1 && p == "." || i > 0 && above(p, at[0]) {
			continue // on the same line without it
		}
		m.add(opPlace, "at", fmt.Sprintf("spec.at[%d]", i), 0, p, "(dropped)", p, func(s *v1alpha1.ControlSpec) { s.At = slices.Delete(s.At, i, i+1) })
	}
}

// above says whether a place is the one that a field lies directly in: where
// the field is missing, that is what is shown.
func above(place, field string) bool {
	rest, ok := strings.CutPrefix(field, place+".")
	if place == "." {
		rest, ok = field, true
	}
	return ok && rest != "" && !strings.ContainsAny(rest, ".[")
}

// parameters adds mutants of the defaults.
func (m *maker) parameters() {
	for i, p := range m.in.Control.Spec.Parameters {
		for _, v := range otherDefaults(p, m.given[p.Name]) {
			data, err := json.Marshal(v.value)
			if err != nil {
				continue
			}
			m.add(opParameter, "parameters."+p.Name, fmt.Sprintf("spec.parameters[%d].default%s", i, v.at), 0, v.before, v.after, string(data), func(s *v1alpha1.ControlSpec) {
				s.Parameters[i].Default = v1alpha1.Value{RawMessage: data}
			})
		}
	}
}

// otherValue is another default of a parameter.
type otherValue struct {
	at            string // where in the value it changes
	before, after string
	value         any
}

// otherDefaults returns what a parameter may be by default instead. An empty
// list becomes one that the fixture gives, if it does.
func otherDefaults(p v1alpha1.Parameter, given []string) []otherValue {
	raw := p.Default.RawMessage
	switch p.Type {
	case v1alpha1.BooleanParameter:
		var b bool
		if json.Unmarshal(raw, &b) == nil {
			return []otherValue{{"", fmt.Sprint(b), fmt.Sprint(!b), !b}}
		}
	case v1alpha1.IntegerParameter:
		var n int64
		if json.Unmarshal(raw, &n) == nil {
			return []otherValue{{"", fmt.Sprint(n), fmt.Sprint(n + 1), n + 1}, {"", fmt.Sprint(n), fmt.Sprint(n - 1), n - 1}}
		}
	case v1alpha1.StringParameter:
		return []otherValue{{"", string(raw), strconv.Quote(stranger), stranger}}
	case v1alpha1.StringsParameter:
		var list []string
		if json.Unmarshal(raw, &list) != nil {
			return nil
		}
		if len(list) == 0 {
			if len(given) == 0 {
				given = []string{stranger}
			}
			return []otherValue{{"", "[]", "[" + strings.Join(given, ", ") + "]", given}}
		}
		var out []otherValue
		for i, s := range list {
			out = append(out, otherValue{fmt.Sprintf("[%d]", i), s, "(dropped)", slices.Concat([]string{}, list[:i], list[i+1:])})
		}
		return out
	}
	return nil
}

// match adds mutants that do not look at everything: a kind fewer, and for what
// the evaluator goes through by itself a list of containers or the pods of
// other kinds fewer. These are noticed where something was found there.
func (m *maker) match() {
	match := &m.in.Control.Spec.Match
	for i, k := range match.Kinds {
		if len(match.Kinds) == 1 && !match.Pods {
			break // nothing would be left to judge
		}
		m.add(opMatch, "match.kinds", fmt.Sprintf("spec.match.kinds[%d]", i), 0, strings.TrimSuffix(k.Kind+"."+k.Group, "."), "(dropped)", k.Group+"/"+k.Kind,
			func(s *v1alpha1.ControlSpec) { s.Match.Kinds = slices.Delete(s.Match.Kinds, i, i+1) })
	}
	for i, t := range match.PodTemplates {
		m.add(opMatch, "match.podTemplates", fmt.Sprintf("spec.match.podTemplates[%d]", i), 0, t.Kind, "(dropped)", t.Group+"/"+t.Kind,
			func(s *v1alpha1.ControlSpec) { s.Match.PodTemplates = slices.Delete(s.Match.PodTemplates, i, i+1) })
	}
	if !match.Pods {
		return
	}
	m.blind("spec.match", "match.pods", "Pod", func(o *object.Object, _ object.Path) bool { return o.Kind == "Pod" })
	m.blind("spec.match", "match.pods", "every kind with a pod template", func(o *object.Object, _ object.Path) bool { return o.Kind != "Pod" })
	forEach := m.in.Control.Spec.ForEach
	if forEach != "containers" && !strings.HasPrefix(forEach, "containers.") {
		return
	}
	for _, list := range object.ContainerLists {
		m.blind("spec.forEach", "forEach", list, func(o *object.Object, element object.Path) bool {
			at, ok := object.PodPath(o.GroupKind())
			return ok && len(element) > len(at)+1 && element[len(at)+1].Field == list
		})
	}
}

// blind adds a mutant that overlooks the findings for which there says so.
func (m *maker) blind(field, label, what string, there func(*object.Object, object.Path) bool) {
	m.out = append(m.out, &Mutant{
		ID: id(opMatch, label, what), Operator: opMatch, Field: label, Position: m.src.place(field, 0), Before: what, After: "(not looked at)",
		noticed: func(r *controltest.Result) bool {
			for _, c := range r.Cases {
				for _, f := range c.Verdict.Findings {
					if there(c.Object, f.Element) {
						return true
					}
				}
			}
			return false
		},
	})
}
