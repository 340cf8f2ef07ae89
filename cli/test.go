// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/report"
)

// testFlags are the flags of test.
type testFlags struct {
	controls []string
	catalog  bool
	run      string
	data     []string
	coverage bool
	watch    bool
	mutate   bool
	minScore float64
	format   string
	colour   bool

	selected *regexp.Regexp
	// now is the time that policies are told.
	now time.Time
}

func newTest(s Streams) *cobra.Command {
	var f testFlags
	cmd := &cobra.Command{
		Use:   "test [PATH]...",
		Short: "Run the tests of policies, whatever language they are written in",
		Long: `Test runs every test of policies at and below the paths (.sconce, if there are
none), unchanged:

  NAME.fixture.yaml   beside a Control NAME.yaml: what is found is compared with
                      what comments expect: privileged: true # want "NAME"
  kyverno-test.yaml   tests of Kyverno policies, as kyverno test runs them
  suite.yaml          suites of Gatekeeper policies (kind Suite of
                      test.gatekeeper.sh), as gator verify runs them
  *_test.rego         tests in Rego (rules test_…), as opa test and conftest
                      verify run them; files that are named data.json or
                      data.yaml, or stand in a folder data, are their data

With --coverage it says which rules and which branches of the policies no test
runs. With --watch it stays, and runs again what a change touches.

With --mutate it tests the tests. It changes each policy in one place after the
other (a condition negated, a bound moved, a field of a pattern gone) and runs the tests against each of these mutants. A mutant that
no test notices survives: a case is missing, or the policy says more than it
needs. Survivors of a control are shown with a case that would notice, where one
can be found. The score is how many of a hundred mutants are noticed. A mutant
that no object can tell from the policy is left out by a comment in the fixture,
in kyverno-test.yaml or in the suite:

    # equivalent: bound-1f2e3d: no port is negative

The exit code is 0 if all cases come out as they should, 1 if not, and 2 if a
test could not be read.`,
		Example: `  sconce test                                  # what is in .sconce
  sconce test policies/ --coverage
  sconce test policies/ --run 'require-labels' --watch
  sconce test policies/ -o junit > tests.xml
  sconce test --mutate --min-score 90 .sconce`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(); err != nil {
				return err
			}
			if len(args) == 0 && !f.catalog {
				args = []string{defaultConfig}
			}
			f.colour = colour(cmd, s.Out)
			f.now = time.Now()
			ctx, stop := interruptible()
			defer stop()
			switch {
			case f.mutate:
				return runMutants(ctx, s, &f, args)
			case f.watch:
				return watchTests(ctx, s, &f, args)
			}
			return runTests(ctx, s, &f, args)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.run, "run", "", "run only the cases whose file, suite and name match this regular expression")
	flags.StringSliceVar(&f.controls, "control", nil, "test only these controls")
	flags.StringSliceVar(&f.data, "data", nil, "files or folders of YAML and JSON that tests in Rego find below data")
	flags.BoolVar(&f.coverage, "coverage", false, "say what of the policies no test runs")
	flags.BoolVar(&f.watch, "watch", false, "stay, and run again what a change touches")
	flags.BoolVar(&f.mutate, "mutate", false, "test the tests: change the policies and see whether they notice")
	flags.Float64Var(&f.minScore, "min-score", 0, "with --mutate: exit with 1 if the score is below this, from 0 to 100")
	flags.StringVarP(&f.format, "output", "o", "table", "format: "+strings.Join(report.TestFormats(), ", ")+"; with --mutate table or json")
	flags.BoolVar(&f.catalog, "catalog", false, "test the built-in controls")
	_ = flags.MarkHidden("catalog")
	_ = cmd.RegisterFlagCompletionFunc("control", completeFrom((*baseline.Library).Controls))
	return cmd
}

// check looks at what flags say together.
func (f *testFlags) check() error {
	formats := report.TestFormats()
	if f.mutate {
		formats = []string{"table", "json"}
	}
	if !slices.Contains(formats, f.format) {
		last := len(formats) - 1
		return fmt.Errorf("unknown output %q; want %s or %s", f.format, strings.Join(formats[:last], ", "), formats[last])
	}
	switch {
	case f.watch && f.mutate:
		return fmt.Errorf("--watch and --mutate do not go together: mutants take too long to wait for at each change")
	case f.watch && f.format != "table":
		return fmt.Errorf("--watch is for people: it writes the table, not %s", f.format)
	case f.coverage && f.mutate:
		return errors.New("--coverage and --mutate do not go together: one says what no test runs, the other what no test notices")
	case f.coverage && (f.format == "junit" || f.format == "sarif"):
		return fmt.Errorf("--coverage has no place in %s; use it with -o table or json", f.format)
	case f.minScore != 0 && !f.mutate:
		return errors.New("--min-score is about mutants: use it with --mutate")
	case f.minScore < 0 || f.minScore > 100:
		return fmt.Errorf("--min-score is %g; want a number from 0 to 100", f.minScore)
	}
	var err error
	if f.selected, err = regexp.Compile(f.run); err != nil {
		return fmt.Errorf("--run: %w", err)
	}
	return nil
}
