// SPDX-License-Identifier: Apache-2.0

package role

import (
	"fmt"
	"io"
	"strings"
	"time"

	"sconce.dev/sconce/report"
)

// Text writes what a person should know of the roles.
func (r *Result) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", report.Visible(r.Subject.String()))
	fmt.Fprintf(&b, "  %d requests were allowed %s\n", r.Allowed, about(r.Window))
	for _, g := range r.Gaps {
		fmt.Fprintf(&b, "  nothing from %s to %s (%s)\n", g.From.Format(time.DateTime), g.To.Format(time.DateTime), g.To.Sub(g.From))
	}
	r.proof(&b)
	report.List(&b, "  ", "asked for and refused, not granted", seenLines(r.Refused))
	report.List(&b, "  ", "allowed by another authorizer than RBAC, not granted", seenLines(r.Elsewhere))
	report.List(&b, "  ", "left to the default roles that everyone holds", seenLines(r.Common))
	var wild []string
	for _, c := range r.Wildcards {
		wild = append(wild, fmt.Sprintf("%s%s, any %s: %s", c.What, inNamespace(c.Namespace), c.Any, c.Reason))
	}
	report.List(&b, "  ", "wider than what was seen", wild)
	r.held(&b)
	report.List(&b, "  ", "to put the roles in force, take it out of", r.Replaces)
	report.List(&b, "  ", "not to be seen in a log", r.Beside)
	_, err := io.WriteString(w, b.String())
	return err
}

func inNamespace(namespace string) string {
	if namespace == "" {
		return ""
	}
	return " in " + namespace
}

func (r *Result) proof(b *strings.Builder) {
	p := r.Proof
	switch {
	case !p.Holds():
		fmt.Fprintf(b, "  NOT PROVEN:\n")
		for _, f := range p.Failures {
			fmt.Fprintf(b, "    %s\n", report.Visible(f))
		}
	case !p.Compared:
		fmt.Fprintf(b, "  proven: all %d kinds of requests are allowed by the new roles; not compared with what it may do today, which was not read\n", p.Requests)
	case len(p.Unknown) > 0:
		fmt.Fprintf(b, "  proven, but for what is not known below: all %d kinds of requests are allowed by the new roles; %d grants of these were compared with today\n", p.Requests, p.Grants)
	default:
		fmt.Fprintf(b, "  proven: all %d kinds of requests are allowed by the new roles, and all %d grants of these are allowed today\n", p.Requests, p.Grants)
	}
	report.List(b, "  ", "not known", p.Unknown)
}

// held lists what of today's rights was never used.
func (r *Result) held(b *strings.Builder) {
	var out []string
	for _, h := range r.Held {
		if len(h.Unused) == 0 && !h.Wildcard {
			continue
		}
		line := fmt.Sprintf("%s, rule %d of %s: ", h.Binding, h.Rule, h.Role)
		if h.Via != "" {
			line = fmt.Sprintf("by the %s, %s", h.Via, line)
		}
		switch {
		case len(h.Used) == 0:
			line += h.Holds
		case h.Wildcard:
			line += fmt.Sprintf("%s, of which %d kinds of requests were seen", h.Holds, len(h.Used))
		default:
			line += strings.Join(h.Unused, "; ")
		}
		out = append(out, line)
	}
	report.List(b, "  ", "held today and not used in this time", out)
}

func seenLines(all []Seen) []string {
	var out []string
	for _, s := range all {
		out = append(out, fmt.Sprintf("%s, %s", s, times(s.Count)))
	}
	return out
}

// Text writes what a person should know of the logs as a whole.
func (l *Log) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "read %d audit events %s: %d subjects\n", l.Events, about(l.Window), len(l.activities))
	for _, said := range []struct {
		n    int
		what string
	}{
		{l.Undecided, "events tell no decision and no status, or not what was asked for, and do not count"},
		{l.Nobody, "events name no user, and do not count"},
		{l.Guessed, "events have no annotation of the decision: the status of the response stands for it"},
		{l.Window.Untimed, "events have no time"},
		{l.Faults.Count, "parts of the logs could not be read"},
	} {
		if said.n > 0 {
			fmt.Fprintf(&b, "%d %s\n", said.n, said.what)
		}
	}
	for _, f := range l.Faults.First {
		fmt.Fprintf(&b, "  %s\n", report.Visible(f.String()))
	}
	for _, g := range l.Window.Gaps(leastGap) {
		fmt.Fprintf(&b, "no events from %s to %s (%s)\n", g.From.Format(time.DateTime), g.To.Format(time.DateTime), g.To.Sub(g.From))
	}
	b.WriteString("what did not happen in this time (a monthly job, a failover) is in no role: a window proves only itself\n")
	_, err := io.WriteString(w, b.String())
	return err
}
