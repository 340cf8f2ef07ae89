// SPDX-License-Identifier: Apache-2.0

// Package cli is the command line: one file for each command, which reads
// flags, wires the other packages together and turns what comes of it into an
// exit code. What a command does is done elsewhere.
package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"sconce.dev/sconce/source/render"
)

// The exit codes.
const (
	exitClean    = 0 // nothing at or above the threshold
	exitFindings = 1 // findings at or above the threshold
	exitError    = 2 // could not do the job, or not all of it
	exitUnknown  = 3 // nothing failed, but something is unknown, and --fail-on unknown is set
)

// Streams are where a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// exitCode is an error that says nothing more than how the program ends.
type exitCode int

// Error implements error.
func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Main runs the program and returns its exit code.
func Main(args []string, s Streams) int {
	if len(args) == 1 && args[0] == render.WorkerArg {
		if err := render.Worker(s.In, s.Out); err != nil {
			return exitError
		}
		return exitClean
	}
	if os.Getenv(render.ShimEnv) == "1" {
		return render.HelmShim(args, s.Out, s.Err)
	}
	root := newRoot(s)
	root.SetArgs(args)
	err := root.Execute()
	var code exitCode
	switch {
	case err == nil:
		return exitClean
	case errors.As(err, &code):
		return int(code)
	case closed(err):
		return exitError // whoever reads, as head does, has read enough
	}
	_, _ = fmt.Fprintf(s.Err, "sconce: %v\n", err)
	return exitError
}

// closed says whether the output was a pipe that nobody reads any more.
func closed(err error) bool {
	var write *fs.PathError
	return errors.As(err, &write) && errors.Is(write, syscall.EPIPE)
}

func newRoot(s Streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "sconce",
		Short: "Keep Kubernetes configuration in a known, secure state",
		Long: `Sconce holds Kubernetes configuration against a security baseline. For each
thing it says pass, fail or unknown, where, why, and what to change.`,
		Example: `  sconce scan .                     # everything below this folder
  sconce scan -b pss-restricted app.yaml
  sconce fix --diff deploy/         # what would be edited
  sconce explain privileged-container`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetVersionTemplate("sconce {{.Version}}\n")
	root.PersistentFlags().Bool("no-color", false, "print without colours (also if NO_COLOR is set, or the output is no terminal)")
	root.AddCommand(newScan(s), newFix(s), newConvert(s), newExplain(s), newList(s), newTest(s), newSnapshot(s), newDrift(s), newRollback(s), newGenerate(s), newAgent(s))
	root.AddCommand(newWhoCan(s), newCan(s), newReach(s), newPaths(s), newDiff(s), newPolicy(s))
	return root
}

// group makes a command of one that only has others below it: of an argument that
// is none of these it says so.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var names []string
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				names = append(names, sub.Name())
			}
		}
		return fmt.Errorf("%s: there is no %q; want %s", cmd.CommandPath(), args[0], strings.Join(names, ", "))
	}
	return cmd
}

// version returns the version that the program was built as.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// colour says whether output to w is coloured.
func colour(cmd *cobra.Command, w io.Writer) bool {
	if off, err := cmd.Flags().GetBool("no-color"); err == nil && off || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	_, ok := terminal(w)
	return ok || os.Getenv("CLICOLOR_FORCE") == "1"
}

// terminal returns the width of the terminal that w is, if it is one.
func terminal(w io.Writer) (width int, ok bool) {
	f, isFile := w.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	return width, err == nil
}
