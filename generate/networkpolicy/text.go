// SPDX-License-Identifier: Apache-2.0

package networkpolicy

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sconce.dev/sconce/report"
)

// tell fills in what a person should know of the policies.
func (g *generator) tell(flows *Flows) {
	r := g.result
	all := g.edges.all()
	r.Allowed = len(all)
	entered := map[*workload]bool{}
	for _, e := range all {
		if e.to.w != nil {
			entered[e.to.w] = true
		}
		if !e.has(Recorded) && !e.has(Declared) && e.has(Suggested) {
			r.Suggestions = append(r.Suggestions, fmt.Sprintf("%s: %s", e, e.why[0].Words))
		}
		if flows != nil && !e.has(Recorded) && !e.has(Guessed) {
			r.Unseen = append(r.Unseen, fmt.Sprintf("%s: %s", e, e.why[0].Words))
		}
	}
	for _, w := range g.old.workloads {
		if w.managed && !entered[w] {
			r.Quiet = append(r.Quiet, w.String())
		}
	}
	if flows != nil {
		r.Window, r.Gaps = &flows.Window, flows.Window.Gaps(leastGap)
		for _, f := range flows.Dropped() {
			r.Dropped = append(r.Dropped, fmt.Sprintf("%s, %s", f, times(f.Count)))
		}
		if flows.TooMany > 0 {
			r.Proof.fail("%d recorded connections are of more than %d kinds and were left out", flows.TooMany, maxFlows)
		}
	}
	if g.fromNodes > 0 {
		g.note("%d recorded connections came from nodes: those from the node of a pod reach it whatever policies say, as the probes of the kubelet do; from another node they are denied", g.fromNodes)
	}
	for _, f := range r.Strangers {
		if g.env.Complete {
			continue
		}
		r.Proof.doubt("%s: it was recorded, and one of its ends is not among what was read", f)
	}
	r.Notes = append(r.Notes, "probes of the kubelet come from the node of a pod, and no policy denies them")
	for _, l := range g.old.model.Limits() {
		r.Proof.doubt("%s", l)
	}
	slices.Sort(r.Beside)
}

// Text writes what a person should know of the policies.
func (r *Result) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d workloads get a policy; %d connections are allowed\n", r.Workloads, r.Allowed)
	switch p := r.Proof; {
	case !p.Holds():
		b.WriteString("NOT PROVEN:\n")
		for _, f := range p.Failures {
			fmt.Fprintf(&b, "  %s\n", report.Visible(f))
		}
	default:
		fmt.Fprintf(&b, "%sall %d connections are allowed with the policies, none of %d pairs may do more than today, and all %d ports of Services are reached\n", p.begin(), p.Connections, p.Pairs, p.Ports)
	}
	report.List(&b, "", "not known", r.Proof.Unknown)
	for _, g := range r.Gaps {
		fmt.Fprintf(&b, "nothing was recorded from %s to %s (%s)\n", g.From.Format(time.DateTime), g.To.Format(time.DateTime), g.To.Sub(g.From))
	}
	var wild []string
	for _, c := range r.Wildcards {
		wild = append(wild, fmt.Sprintf("%s, %s: %s: %s", c.Policy, c.Direction, c.What, c.Reason))
	}
	report.List(&b, "", "wider than what is known", wild)
	report.List(&b, "", "suggested by configuration alone", r.Suggestions)
	report.List(&b, "", "allowed as declared, and never recorded", r.Unseen)
	report.List(&b, "", "declared, and not allowed today or by the policies", r.Denied)
	report.List(&b, "", "recorded as denied, not allowed", r.Dropped)
	var strangers []string
	for _, f := range r.Strangers {
		strangers = append(strangers, fmt.Sprintf("%s, %s", f, times(f.Count)))
	}
	report.List(&b, "", "recorded with pods that are not among what was read, not allowed", strangers)
	report.List(&b, "", "declared ports that are closed", r.Closed)
	report.List(&b, "", "nothing may connect to", r.Quiet)
	report.List(&b, "", "policies that select more than their workload", r.Overlaps)
	report.List(&b, "", "no policy for", r.Left)
	report.List(&b, "", "policies that stay, and what they allow with them (--replace proves the result without them)", r.Beside)
	report.List(&b, "", "notes", r.Notes)
	_, err := io.WriteString(w, b.String())
	return err
}

// begin says whether all of it is proven.
func (p *Proof) begin() string {
	if len(p.Unknown) > 0 {
		return "proven, but for what is not known below: "
	}
	return "proven: "
}

// Text writes what a person should know of the recordings as a whole.
func (f *Flows) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "read %d records: %d kinds of connections got through, %d were denied", f.Records, len(f.allowed), len(f.dropped))
	if !f.Window.First.IsZero() {
		fmt.Fprintf(&b, "; from %s to %s UTC", f.Window.First.Format(time.DateTime), f.Window.Last.Format(time.DateTime))
	}
	b.WriteString("\n")
	for _, said := range []struct {
		n    int
		what string
	}{
		{f.Undirected, "do not tell whether they are replies, and do not count"},
		{f.NoPort, "have no port that a policy could name (ICMP and the like), and do not count"},
		{f.Undecided, "tell no verdict, and do not count"},
		{f.Window.Untimed, "have no time"},
		{f.Faults.Count, "parts of the recordings could not be read"},
	} {
		if said.n > 0 {
			fmt.Fprintf(&b, "%d %s\n", said.n, said.what)
		}
	}
	for _, fault := range f.Faults.First {
		fmt.Fprintf(&b, "  %s\n", report.Visible(fault.String()))
	}
	b.WriteString("what did not happen in this time is not allowed, unless something declares it: a window proves only itself\n")
	_, err := io.WriteString(w, b.String())
	return err
}
