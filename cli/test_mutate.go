// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/mutate"
	"sconce.dev/sconce/policytest"
	"sconce.dev/sconce/policytest/gator"
	"sconce.dev/sconce/policytest/kyvernotest"
	"sconce.dev/sconce/policytest/regotest"
	"sconce.dev/sconce/source"
)

// mutation is what came of the mutants of all controls.
type mutation struct {
	Controls   []*mutate.Report `json:"controls"`
	Killed     int              `json:"killed"`
	Survived   int              `json:"survived"`
	Equivalent int              `json:"equivalent"`
	Invalid    int              `json:"invalid"`
	Score      float64          `json:"score"`

	mistakes int
}

func runMutants(ctx context.Context, s Streams, f *testFlags, paths []string) error {
	work, err := f.mutations(ctx, paths)
	if err != nil {
		return err
	}
	reports := make([]chan *mutate.Report, len(work))
	for i := range work {
		reports[i] = make(chan *mutate.Report, 1)
	}
	go func() {
		var group errgroup.Group
		group.SetLimit(runtime.GOMAXPROCS(0))
		for i, run := range work {
			group.Go(func() error {
				reports[i] <- run()
				return nil
			})
		}
		_ = group.Wait()
	}()
	var m mutation
	if f.format == "table" {
		_, _ = fmt.Fprintln(s.Out, "  SCORE  KILLED  SURVIVED  EQUIVALENT  POLICY")
	}
	for _, c := range reports {
		r := <-c
		if ctx.Err() != nil {
			break
		}
		m.add(r)
		if f.format == "table" {
			printScore(s.Out, r)
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("test: %w", err)
	}
	m.Score = mutate.Score(m.Killed, m.Survived)
	if f.format == "json" {
		enc := json.NewEncoder(s.Out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(m); err != nil {
			return err
		}
	} else {
		m.print(s.Out)
	}
	if m.mistakes > 0 || m.Score < f.minScore {
		return exitCode(exitFindings)
	}
	return nil
}

// add counts a report.
func (m *mutation) add(r *mutate.Report) {
	m.Controls = append(m.Controls, r)
	m.Killed += r.Count(mutate.Killed)
	m.Survived += r.Count(mutate.Survived)
	m.Equivalent += r.Count(mutate.Equivalent)
	m.Invalid += r.Count(mutate.Invalid)
	m.mistakes += len(r.Mistakes)
}

// mutations returns what makes and tries the mutants of each control, of the Rego
// below each path, and of the policies that are tested in other languages.
func (f *testFlags) mutations(ctx context.Context, paths []string) ([]func() *mutate.Report, error) {
	found, err := findTests(paths)
	if err != nil {
		return nil, err
	}
	if len(found.unread) > 0 {
		_, err := found.unread[0].run(ctx)
		return nil, fmt.Errorf("test: %s: %w", found.unread[0].file, err)
	}
	var work []func() *mutate.Report
	if f.catalog || len(found.configs) > 0 || len(f.controls) > 0 {
		l, names, err := f.ownControls(found.configs, strings.Join(paths, ", "))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			work = append(work, func() *mutate.Report { return mutants(l, name) })
		}
	}
	if len(f.controls) > 0 || f.catalog {
		return work, nil
	}
	for _, root := range found.rego {
		tests, err := f.regoTests(root)
		if err != nil {
			return nil, err
		}
		files, err := regoMutants(ctx, tests)
		if err != nil {
			return nil, err
		}
		work = append(work, files...)
	}
	work = append(work, mutate.Policies(ctx, f.suites(found), readFile)...)
	if len(work) == 0 {
		return nil, fmt.Errorf("test: no controls, no Rego and no tested policies in %s", strings.Join(paths, ", "))
	}
	return work, nil
}

// suites are the tests of policies of Kyverno and Gatekeeper.
func (f *testFlags) suites(found *testFiles) []mutate.Suite {
	var out []mutate.Suite
	for _, name := range found.kyverno {
		file := filepath.ToSlash(name)
		out = append(out, mutate.Suite{File: file, Run: func(ctx context.Context, read mutate.Reader) (*policytest.Report, error) {
			return kyvernotest.Run(ctx, file, f.kyvernoOptions(read))
		}})
	}
	for _, name := range found.suites {
		file := filepath.ToSlash(name)
		out = append(out, mutate.Suite{File: file, Run: func(ctx context.Context, read mutate.Reader) (*policytest.Report, error) {
			return gator.Run(ctx, file, f.gatorOptions(read))
		}})
	}
	return out
}

// readFile reads a file by its path with slashes.
func readFile(name string) ([]byte, error) { return source.ReadFile(filepath.FromSlash(name)) }

// regoMutants returns what tries the mutants of each file of Rego below a path.
func regoMutants(ctx context.Context, tests *regotest.Tests) ([]func() *mutate.Report, error) {
	files, err := tests.Mutations(ctx)
	if err != nil {
		return nil, fmt.Errorf("test: %w", err)
	}
	var out []func() *mutate.Report
	for _, run := range files {
		out = append(out, func() *mutate.Report { return regoReport(run()) })
	}
	return out, nil
}

// regoReport is a report of the mutants of a file of Rego.
func regoReport(m *regotest.Mutation) *mutate.Report {
	r := &mutate.Report{Control: m.Package + " (" + m.File + ")"}
	if m.Mistake != "" {
		r.Mistakes = append(r.Mistakes, m.Mistake)
	}
	if m.Left > 0 {
		r.Mistakes = append(r.Mistakes, fmt.Sprintf("%s: %d further mutants were not tried: split the file", m.File, m.Left))
	}
	for _, mutant := range m.Mutants {
		outcome := mutate.Killed
		if mutant.Survived {
			outcome = mutate.Survived
		}
		r.Mutants = append(r.Mutants, &mutate.Mutant{
			ID: mutant.ID, Operator: mutant.Operator, Field: mutant.Rule, Position: mutant.Position,
			Before: mutant.Before, After: mutant.After, Outcome: outcome,
		})
	}
	return r
}

// mutants runs the mutants of one control. What keeps them from being run is a
// mistake like any other.
func mutants(l *baseline.Library, name string) *mutate.Report {
	r, err := func() (*mutate.Report, error) {
		fixture, data, err := fixtureOf(l, name)
		if err != nil {
			return nil, err
		}
		read := os.ReadFile
		if l.BuiltIn(name) {
			read = catalog.Source
		}
		file := l.File(name)
		text, err := read(file)
		if err != nil {
			return nil, err
		}
		return mutate.Run(mutate.Input{Control: l.Control(name), File: file, Text: text, Fixture: fixture, FixtureText: data}, true)
	}()
	if err != nil {
		return &mutate.Report{Control: name, Mistakes: []string{err.Error()}}
	}
	return r
}

func printScore(w io.Writer, r *mutate.Report) {
	killed, survived := r.Count(mutate.Killed), r.Count(mutate.Survived)
	score := "    –  "
	if killed+survived > 0 {
		score = fmt.Sprintf("%5.0f %%", mutate.Score(killed, survived))
	}
	_, _ = fmt.Fprintf(w, "%s  %6d  %8d  %10d  %s\n", score, killed, survived, r.Count(mutate.Equivalent), r.Control)
}

// print shows what is wrong with the fixtures, and what survived.
func (m *mutation) print(w io.Writer) {
	for _, r := range m.Controls {
		for _, e := range r.Mistakes {
			_, _ = fmt.Fprintf(w, "\n%s\n", e)
		}
		for _, mu := range r.Mutants {
			if mu.Outcome == mutate.Survived {
				printSurvivor(w, r.Control, mu, r.Searched)
			}
		}
	}
	_, _ = fmt.Fprintf(w, "\n%s, %d mutants: %d killed, %d survived, %d equivalent; score %.1f %%\n",
		count(len(m.Controls), "policy", "policies"), m.Killed+m.Survived+m.Equivalent, m.Killed, m.Survived, m.Equivalent, m.Score)
	if m.Invalid > 0 {
		_, _ = fmt.Fprintf(w, "%s left out: no valid policies, or none that the tests can decide\n", count(m.Invalid, "further mutant is", "further mutants are"))
	}
}

// count returns a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// printSurvivor shows a mutant that the fixture did not notice, and the case
// that would.
func printSurvivor(w io.Writer, control string, m *mutate.Mutant, searched bool) {
	_, _ = fmt.Fprintf(w, "\n%s:%d:%d: %s: %s survives in %s\n", m.Position.File, m.Position.Line, m.Position.Column, control, m.ID, m.Field)
	_, _ = fmt.Fprintf(w, "      %s\n   -> %s\n", clip(m.Before), clip(m.After))
	if m.CaseOf != "" {
		_, _ = fmt.Fprintf(w, "   the case of %s tells it from the control, too\n", m.CaseOf)
		return
	}
	if m.Case == "" {
		if searched {
			_, _ = fmt.Fprintln(w, "   no case that tells it from the control was found")
		}
		return
	}
	_, _ = fmt.Fprintln(w, "   this case tells it from the control:")
	for line := range strings.Lines(m.Case) {
		_, _ = fmt.Fprint(w, "      "+line)
	}
}

// maxShown is how much of an expression is shown.
const maxShown = 240

// clip returns the beginning of a text on one line.
func clip(s string) string {
	runes := []rune(strings.Join(strings.Fields(s), " "))
	if len(runes) > maxShown {
		return string(runes[:maxShown]) + "…"
	}
	return string(runes)
}
