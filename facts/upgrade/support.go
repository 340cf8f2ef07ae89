// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// Reasons are read behind "not known: ".

// noToday is why no days are counted.
const noToday = "the day of the scan"

// noExtended is why the end of an extended support is not known.
const noExtended = "when the extended support ends"

// until returns the fields that say when support ends, and how many days are
// left. extended is nil where there is no further support.
func until(end day, extended *day, env *facts.Env) []object.Field {
	out := []object.Field{text("endOfLife", end.String())}
	switch {
	case extended == nil:
		extended = &end
		out = append(out, text("extended", ""))
	case extended.known():
		out = append(out, text("extended", extended.String()))
	default:
		out = append(out, unknown("extended", noExtended))
	}
	return append(out, left("daysLeft", end, env), left("extendedDaysLeft", *extended, env))
}

// left returns a field with the days that are left.
func left(key string, end day, env *facts.Env) object.Field {
	switch {
	case !end.known():
		return unknown(key, noExtended)
	case env.Today.IsZero():
		return unknown(key, noToday)
	}
	return number(key, end.after(env.Today))
}

// unknownEnd returns the fields of until where nothing is known.
func unknownEnd(reason string) []object.Field {
	return []object.Field{
		unknown("endOfLife", reason), unknown("extended", reason),
		unknown("daysLeft", reason), unknown("extendedDaysLeft", reason),
	}
}

// age returns the fields that say of when the data is.
func (h *header) age(env *facts.Env) []object.Field {
	out := []object.Field{text("dataDate", h.Date.String())}
	if env.Today.IsZero() {
		out = append(out, unknown("dataAge", noToday))
	} else {
		out = append(out, number("dataAge", max(0, -h.Date.after(env.Today))))
	}
	return append(out, unknown("later", "what became known after "+h.Date.String()))
}

// life returns the fields that say until when a series of a product is
// supported.
func (p *product) life(v version, builder string, h *header, env *facts.Env) []object.Field {
	retired := ""
	if p.Retired.known() {
		retired = p.Note
	}
	supported, end := p.end(v, builder, h, env)
	return append([]object.Field{
		yes("tracked", p.Retired.known() || len(p.Series) > 0), text("retired", retired), yes("supported", supported),
	}, end...)
}

// end returns when the support of a version ends; supported says that it was
// supported on the day of the data, and that no end was announced.
func (p *product) end(v version, builder string, h *header, env *facts.Env) (supported bool, fields []object.Field) {
	if p.Retired.known() {
		return false, until(p.Retired, nil, env)
	}
	if builder != "" {
		return false, unknownEnd("until when " + builder + " supports its build")
	}
	s, ended := p.find(v)
	switch {
	case ended:
		return false, until(p.first(), nil, env)
	case s == nil:
		return false, unknownEnd(fmt.Sprintf("until when %s %s is supported; the data is of %s", p.Name, v, h.Date))
	case s.Supported:
		return true, unknownEnd("when support ends; no end was announced by " + h.Date.String())
	case s.Extended.known():
		return false, until(s.EndOfLife, &s.Extended, env)
	}
	return false, until(s.EndOfLife, nil, env)
}

// first returns the end of the series that ended first: anything older had ended
// by then.
func (p *product) first() day {
	var out day
	for i := range p.Series {
		if end := p.Series[i].EndOfLife; end.known() && (!out.known() || end.at.Before(out.at)) {
			out = end
		}
	}
	return out
}

// circumstances are what decides whether a flaw is one, besides the version.
type circumstances struct {
	component string // of Kubernetes; "" for all of them
	os        string // of the node: linux, windows; "" where it is not known
	builder   string // who made the build and may have put fixes into it
}

// flawFields returns the fields that say which flaws a version has: flaws for
// those that it has for sure, conditional for those that something else decides,
// and unless, which is not known where there are conditional ones.
func flawFields(all []flaw, v version, c circumstances) []object.Field {
	certain, conditional := facts.List(), facts.List()
	var reasons []reason
	for i := range all {
		f := &all[i]
		s, ok := f.in(v)
		if !ok || !f.concerns(c) {
			continue
		}
		fixed := ""
		if s.to.len > 0 {
			fixed = s.to.String()
		}
		fields := []object.Field{text("id", f.ID), text("severity", f.Severity), text("fixed", fixed)}
		why := f.conditions(v, s, c)
		if why == "" {
			certain.Items = append(certain.Items, facts.Map(fields...))
			continue
		}
		conditional.Items = append(conditional.Items, facts.Map(append(fields, text("condition", why))...))
		i := slices.IndexFunc(reasons, func(r reason) bool { return r.why == why })
		if i < 0 {
			i, reasons = len(reasons), append(reasons, reason{why: why})
		}
		reasons[i].ids = append(reasons[i].ids, f.ID)
	}
	out := []object.Field{facts.Field("flaws", certain), facts.Field("conditional", conditional)}
	if reasons == nil {
		return append(out, yes("unless", true))
	}
	parts := make([]string, len(reasons))
	for i, r := range reasons {
		parts[i] = strings.Join(r.ids, ", ") + " (where " + r.why + ")"
	}
	return append(out, unknown("unless", "whether it has "+strings.Join(parts, ", ")))
}

// reason is what decides over flaws.
type reason struct {
	ids []string
	why string
}

// concerns says whether a flaw can be one of the component and the system.
func (f *flaw) concerns(c circumstances) bool {
	if c.component != "" && len(f.Components) > 0 {
		return slices.Contains(f.Components, c.component) && f.runsOn(c.os)
	}
	return f.runsOn(c.os)
}

func (f *flaw) runsOn(os string) bool {
	return f.OS == "" || os == "" || f.OS == os
}

// conditions returns what else must be so, or "".
func (f *flaw) conditions(v version, s span, c circumstances) string {
	var out []string
	if c.builder != "" {
		out = append(out, c.builder+" has not put the fix into its build")
	}
	if v.len < 3 && s.to.len > 2 && s.to.n[0] == v.n[0] && s.to.n[1] == v.n[1] {
		out = append(out, "the patch version is below "+s.to.String())
	}
	if f.OS != "" && c.os == "" {
		out = append(out, "nodes run "+strings.ToUpper(f.OS[:1])+f.OS[1:])
	}
	if f.Condition != "" {
		out = append(out, f.Condition)
	}
	return strings.Join(out, ", and ")
}
