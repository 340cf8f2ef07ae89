// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/controltest"
)

func newTest(s Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "test [PATH]...",
		Short: "Hold your own controls against their fixtures",
		Long: `Test judges the manifests of each control's fixture (NAME.fixture.yaml beside
NAME.yaml) and compares what is found with what its comments expect:

    privileged: true   # want "privileged-container"`,
		Example: "  sconce test .sconce",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{defaultConfig}
			}
			return runTest(s, args)
		},
	}
}

func runTest(s Streams, paths []string) error {
	l, err := loadLibrary(paths, time.Time{})
	if err != nil {
		return err
	}
	tested, failed := 0, 0
	for _, name := range l.Controls() {
		file := l.File(name)
		if l.BuiltIn(name) {
			continue
		}
		tested++
		for _, e := range testControl(file, func(fixture string, data []byte) (*controltest.Result, error) {
			return controltest.Run(l.Control(name), fixture, data)
		}) {
			failed++
			_, _ = fmt.Fprintln(s.Out, e)
		}
	}
	if tested == 0 {
		return fmt.Errorf("test: no controls in %s", strings.Join(paths, ", "))
	}
	_, _ = fmt.Fprintf(s.Out, "%d controls tested, %d mistakes\n", tested, failed)
	if failed > 0 {
		return exitCode(exitFindings)
	}
	return nil
}

// testControl runs the fixture beside a control's file and returns what is
// wrong.
func testControl(file string, run func(string, []byte) (*controltest.Result, error)) []string {
	fixture := strings.TrimSuffix(strings.TrimSuffix(file, ".yaml"), ".yml") + ".fixture.yaml"
	data, err := os.ReadFile(fixture)
	if err != nil {
		return []string{fmt.Sprintf("%s: no fixture: write %s, with objects that pass and objects that fail", file, fixture)}
	}
	r, err := run(fixture, data)
	if err != nil {
		return []string{err.Error()}
	}
	if r.Passed == 0 || r.Failed == 0 {
		r.Errors = append(r.Errors, fmt.Sprintf("%s: %d objects pass and %d fail; a fixture shows both", fixture, r.Passed, r.Failed))
	}
	return r.Errors
}
