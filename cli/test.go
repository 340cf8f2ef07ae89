// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/controltest"
	"sconce.dev/sconce/mutate"
)

// testFlags are the flags of test.
type testFlags struct {
	controls []string
	catalog  bool
	mutate   bool
	minScore float64
	format   string
}

func newTest(s Streams) *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:   "test [PATH]...",
		Short: "Hold your own controls against their fixtures",
		Long: `Test judges the manifests of each control's fixture (NAME.fixture.yaml beside
NAME.yaml) and compares what is found with what its comments expect:

    privileged: true   # want "privileged-container"

With --mutate it tests the fixtures. It changes each control in one place after
the other (a condition negated, a bound moved, an optional field required, an
element of a list gone) and runs the fixture against each of these mutants. A
mutant that the fixture does not notice survives: a case is missing, or the
control says more than it needs. Survivors are shown with a case that would
notice, where one can be found; add it to the fixture.

The score is how many of a hundred mutants are noticed. A mutant that no object
can tell from the control is left out of it by a comment in the fixture:

    # equivalent: bound-1f2e3d: no port is negative`,
		Example: `  sconce test .sconce
  sconce test --mutate .sconce
  sconce test --mutate --control own-label --min-score 90`,
		RunE: func(_ *cobra.Command, args []string) error {
			if f.format != "table" && f.format != "json" {
				return fmt.Errorf("unknown output %q; want table or json", f.format)
			}
			if f.format == "json" && !f.mutate {
				return fmt.Errorf("-o json needs --mutate")
			}
			if len(args) == 0 && !f.catalog {
				args = []string{defaultConfig}
			}
			return runTest(s, &f, args)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringSliceVar(&f.controls, "control", nil, "test only these controls")
	flags.BoolVar(&f.mutate, "mutate", false, "test the fixtures: change the controls and see whether they notice")
	flags.Float64Var(&f.minScore, "min-score", 0, "with --mutate: exit with 1 if the score is below this, from 0 to 100")
	flags.StringVarP(&f.format, "output", "o", "table", "with --mutate: format, table or json")
	flags.BoolVar(&f.catalog, "catalog", false, "test the built-in controls")
	_ = flags.MarkHidden("catalog")
	_ = cmd.RegisterFlagCompletionFunc("control", completeFrom((*baseline.Library).Controls))
	return cmd
}

func runTest(s Streams, f *testFlags, paths []string) error {
	l, err := loadLibrary(paths, time.Time{})
	if err != nil {
		return err
	}
	if f.catalog {
		paths = []string{"the catalogue"}
	}
	var names []string
	for _, name := range l.Controls() {
		if l.BuiltIn(name) == f.catalog && (len(f.controls) == 0 || slices.Contains(f.controls, name)) {
			names = append(names, name)
		}
	}
	for _, name := range f.controls {
		if !slices.Contains(names, name) {
			return fmt.Errorf("test: no control %s in %s", name, strings.Join(paths, ", "))
		}
	}
	if len(names) == 0 {
		return fmt.Errorf("test: no controls in %s", strings.Join(paths, ", "))
	}
	if f.mutate {
		return runMutants(s, f, l, names)
	}
	failed := 0
	for _, name := range names {
		for _, e := range testControl(l, name) {
			failed++
			_, _ = fmt.Fprintln(s.Out, e)
		}
	}
	_, _ = fmt.Fprintf(s.Out, "controls tested: %d, mistakes: %d\n", len(names), failed)
	if failed > 0 {
		return exitCode(exitFindings)
	}
	return nil
}

// fixtureOf returns the fixture beside a control's file.
func fixtureOf(l *baseline.Library, name string) (fixture string, data []byte, err error) {
	file := l.File(name)
	if l.BuiltIn(name) {
		return catalog.Fixture(file)
	}
	fixture = strings.TrimSuffix(strings.TrimSuffix(file, ".yaml"), ".yml") + ".fixture.yaml"
	data, err = os.ReadFile(fixture)
	if err != nil {
		return fixture, nil, fmt.Errorf("%s: no fixture: write %s, with objects that pass and objects that fail", file, fixture)
	}
	return fixture, data, nil
}

// testControl runs the fixture beside a control's file and returns what is
// wrong.
func testControl(l *baseline.Library, name string) []string {
	fixture, data, err := fixtureOf(l, name)
	if err != nil {
		return []string{err.Error()}
	}
	r, err := controltest.Run(l.Control(name), fixture, data)
	if err != nil {
		return []string{err.Error()}
	}
	if r.Passed == 0 || r.Failed == 0 {
		r.Errors = append(r.Errors, fmt.Sprintf("%s: %d objects pass and %d fail; a fixture shows both", fixture, r.Passed, r.Failed))
	}
	return r.Errors
}

// mutation is what came of the mutants of all controls.
type mutation struct {
	Controls   []*mutate.Report `json:"controls"`
	Killed     int              `json:"killed"`
	Survived   int              `json:"survived"`
	Equivalent int              `json:"equivalent"`
	Score      float64          `json:"score"`
}

func runMutants(s Streams, f *testFlags, l *baseline.Library, names []string) error {
	reports := make([]chan *mutate.Report, len(names))
	for i := range names {
		reports[i] = make(chan *mutate.Report, 1)
	}
	go func() {
		var group errgroup.Group
		group.SetLimit(runtime.GOMAXPROCS(0))
		for i, name := range names {
			group.Go(func() error {
				reports[i] <- mutants(l, name)
				return nil
			})
		}
		_ = group.Wait()
	}()
	var m mutation
	if f.format == "table" {
		_, _ = fmt.Fprintln(s.Out, "  SCORE  KILLED  SURVIVED  EQUIVALENT  CONTROL")
	}
	mistakes := 0
	for _, c := range reports {
		r := <-c
		m.Controls = append(m.Controls, r)
		m.Killed += r.Count(mutate.Killed)
		m.Survived += r.Count(mutate.Survived)
		m.Equivalent += r.Count(mutate.Equivalent)
		mistakes += len(r.Mistakes)
		if f.format == "table" {
			printScore(s.Out, r)
		}
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
	if mistakes > 0 || m.Score < f.minScore {
		return exitCode(exitFindings)
	}
	return nil
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
				printSurvivor(w, r.Control, mu)
			}
		}
	}
	_, _ = fmt.Fprintf(w, "\n%d controls, %d mutants: %d killed, %d survived, %d equivalent; score %.1f %%\n",
		len(m.Controls), m.Killed+m.Survived+m.Equivalent, m.Killed, m.Survived, m.Equivalent, m.Score)
}

// printSurvivor shows a mutant that the fixture did not notice, and the case
// that would.
func printSurvivor(w io.Writer, control string, m *mutate.Mutant) {
	_, _ = fmt.Fprintf(w, "\n%s:%d:%d: %s: %s survives in %s\n", m.Position.File, m.Position.Line, m.Position.Column, control, m.ID, m.Field)
	_, _ = fmt.Fprintf(w, "      %s\n   -> %s\n", clip(m.Before), clip(m.After))
	if m.CaseOf != "" {
		_, _ = fmt.Fprintf(w, "   the case of %s tells it from the control, too\n", m.CaseOf)
		return
	}
	if m.Case == "" {
		_, _ = fmt.Fprintln(w, "   no case that tells it from the control was found")
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
