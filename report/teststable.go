// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"strings"

	"sconce.dev/sconce/policytest"
)

// table writes what came of tests for a person: a line for each file, the cases
// that did not come out as they should, what no test ran, and a sum.
func (t *Tests) table(w io.Writer, opts Options) error {
	p := painter{opts.Color}
	var b strings.Builder
	if len(t.Reports) > 0 {
		b.WriteString(p.bold("  PASSED  FAILED  BROKEN  SKIPPED  TESTS") + "\n")
	}
	for _, r := range t.Reports {
		counts := []policytest.Outcome{policytest.Passed, policytest.Failed, policytest.Broken, policytest.Skipped}
		for i, o := range counts {
			cell := fmt.Sprintf("%*d", []int{8, 8, 8, 9}[i], r.Count(o))
			if r.Count(o) > 0 {
				cell = p.caseOutcome(o, cell)
			}
			b.WriteString(cell)
		}
		b.WriteString("  " + visible(r.File) + "\n")
	}
	for _, r := range t.Reports {
		for i := range r.Cases {
			if c := &r.Cases[i]; c.Outcome == policytest.Failed || c.Outcome == policytest.Broken {
				writeCase(&b, p, c)
			}
		}
	}
	for _, problem := range t.Problems {
		b.WriteString("\n" + p.bold(ProblemText(problem)) + "\n")
	}
	if t.Coverage != nil {
		writeCoverage(&b, p, t.Coverage)
	}
	fmt.Fprintf(&b, "\n%s\n", t.sum())
	_, err := io.WriteString(w, b.String())
	return err
}

// caseOutcome paints what is said of a case by its outcome.
func (p painter) caseOutcome(o policytest.Outcome, s string) string {
	switch o {
	case policytest.Failed:
		return p.with("31", s)
	case policytest.Broken:
		return p.with("35", s)
	case policytest.Skipped:
		return p.with("2", s)
	case policytest.Passed:
		return p.with("32", s)
	}
	return s
}

// writeCase tells a case that did not come out as it should: where, what, and
// what was expected.
func writeCase(b *strings.Builder, p painter, c *policytest.Case) {
	head := visible(caseName(c))
	if c.Suite != "" {
		head = visible(c.Suite) + " " + head
	}
	place := placeText(c.Position)
	if place != "" {
		place += ": "
	}
	fmt.Fprintf(b, "\n%s%s %s\n", place, p.bold(head), p.caseOutcome(c.Outcome, string(c.Outcome)))
	if about := caseAbout(c); about != "" {
		fmt.Fprintf(b, "      %s\n", visible(about))
	}
	if q := quote(c.Position.Quote, c.Position.QuoteColumn).crop(maxCaseLine).line(); strings.TrimSpace(q) != "" {
		fmt.Fprintf(b, "      %s\n", strings.TrimSpace(q))
	}
	for _, line := range wrap(prose(caseMessage(c)), 94) {
		fmt.Fprintf(b, "      %s\n", line)
	}
}

// caseAbout is what a case is about, where its name does not say so.
func caseAbout(c *policytest.Case) string {
	if c.Name == "" || c.Resource == "" {
		return ""
	}
	return strings.Join(strings.Fields(strings.Join([]string{c.Policy, c.Rule, c.Resource}, " ")), " ")
}

// writeCoverage tells how much of each policy tests ran, and what none did.
func writeCoverage(b *strings.Builder, p painter, branches []policytest.Branch) {
	b.WriteString("\n" + p.bold("  COVERED    RULES  BRANCHES  POLICY") + "\n")
	for _, c := range coverages(branches) {
		fmt.Fprintf(b, "%7.1f %%%9s%10s  %s\n", c.percent(), ratio(c.rulesHit, c.rules), ratio(c.branchesHit, c.branches), visible(c.policy))
	}
	list := missed(branches)
	if len(list) == 0 {
		return
	}
	b.WriteString("\nNo test runs:\n")
	for _, m := range list {
		rule := ""
		if m.Rule != "" {
			rule = visible(m.Rule) + ": "
		}
		way := "never run"
		if m.Way != "" {
			way = "never " + m.Way
		}
		fmt.Fprintf(b, "  %s: %s%s\n      %s\n", placeText(m.Position), rule, way, visible(m.Text))
	}
}

// ratio is how many there are of all; a dash where there is nothing to run.
func ratio(hit, all int) string {
	if all == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", hit, all)
}

// sum says how many cases there were.
func (t *Tests) sum() string {
	var parts []string
	n := 0
	for _, o := range []policytest.Outcome{policytest.Passed, policytest.Failed, policytest.Broken, policytest.Skipped} {
		if c := t.Count(o); c > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c, o))
			n += c
		}
	}
	switch {
	case len(parts) == 0 && len(t.Problems) > 0:
		return plural(len(t.Problems), "problem", "problems")
	case len(parts) == 0:
		return "no cases in " + plural(len(t.Reports), "file", "files")
	}
	out := fmt.Sprintf("%s in %s: %s", plural(n, "case", "cases"), plural(len(t.Reports), "file", "files"), strings.Join(parts, ", "))
	if len(t.Problems) > 0 {
		out += "; " + plural(len(t.Problems), "problem", "problems")
	}
	return out
}
