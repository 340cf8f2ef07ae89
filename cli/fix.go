// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/fix"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source"
	"sconce.dev/sconce/verdict"
)

type fixFlags struct {
	configFlags
	diff bool
}

func newFix(s Streams) *cobra.Command {
	f := &fixFlags{}
	cmd := &cobra.Command{
		Use:   "fix PATH...",
		Short: "Edit manifests so that findings are gone",
		Long: `Fix makes the smallest edit that clears each finding and leaves every other byte
as it is. Each edit is proven before it is kept: the file is judged again, the
finding is gone and nothing new has come. The diff shows the lines around an edit
as they are, with whatever secrets stand there.

Files that are rendered (charts, overlays) are not edited. Exit codes: 0 all that
has a fix is fixed (with --diff: nothing is left to fix); 1 something is left;
2 not everything could be read or written.`,
		Example: `  sconce fix --diff deploy/          # show the edits, change nothing
  sconce fix deploy/
  sconce fix --control privileged-container app.yaml
  sconce fix --diff . | git apply    # the same, through Git`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("nothing to fix: name files or folders, as in `sconce fix --diff .`")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return runFix(s, f, args) },
	}
	f.configFlags.register(cmd)
	cmd.Flags().BoolVar(&f.diff, "diff", false, "print the edits as a unified diff and change nothing")
	return cmd
}

// fixRun is the state of one run of fix.
type fixRun struct {
	s      Streams
	engine *engine.Engine
	diff   bool

	files, fixed, left, failed int
}

func runFix(s Streams, f *fixFlags, targets []string) error {
	_, eng, err := f.load(time.Now())
	if err != nil {
		return err
	}
	if slices.Contains(targets, "-") {
		return errors.New("fix: standard input cannot be edited; name files or folders")
	}
	r := &fixRun{s: s, engine: eng, diff: f.diff}
	plan := source.Discover(targets, source.Options{})
	for _, t := range plan.Files {
		if err := r.file(t.Name, t.Path); err != nil {
			r.failed++
			_, _ = fmt.Fprintf(s.Err, "sconce: fix: %s: %v\n", t.Name, err)
		}
	}
	for _, p := range plan.Problems {
		r.failed++
		_, _ = fmt.Fprintf(s.Err, "sconce: fix: %s: %s\n", p.Position.File, p.Message)
	}
	for _, name := range plan.Rendered {
		_, _ = fmt.Fprintf(s.Err, "sconce: fix: %s is rendered; its findings name the files to edit: sconce scan %s\n", name, name)
	}
	r.summary()
	switch {
	case r.failed > 0:
		return exitCode(exitError)
	case r.left > 0 || r.diff && r.fixed > 0:
		return exitCode(exitFindings)
	}
	return nil
}

// judge is the engine's judgement without what only a report needs.
func judge(eng *engine.Engine) fix.Judge {
	return func(o *object.Object) []verdict.Finding { return eng.Judge(o).Findings }
}

// file fixes one file.
func (r *fixRun) file(name, path string) error {
	before, err := source.ReadFile(path)
	if err != nil {
		return err
	}
	after, outcomes, unread := fix.File(name, before, judge(r.engine), func(*verdict.Finding) bool { return true })
	if unread != nil {
		r.failed++
		for _, line := range strings.Split(unread.Error(), "\n") {
			_, _ = fmt.Fprintf(r.s.Err, "sconce: fix: %s: %s\n", name, verdict.Redact(line))
		}
	}
	fixed := 0
	for _, o := range outcomes {
		switch {
		case o.Fixed:
			fixed++
		case o.Why != "":
			r.left++
			_, _ = fmt.Fprintf(r.s.Err, "%s:%d: %s: not fixed: %s\n", name, o.Finding.Position.Line, o.Finding.Control, o.Why)
		default:
			r.left++
		}
	}
	if fixed == 0 {
		return nil
	}
	r.fixed += fixed
	r.files++
	if r.diff {
		_, err := r.s.Out.Write(fix.Unified(filepath.ToSlash(name), before, after, 3))
		return err
	}
	for _, o := range outcomes {
		if o.Fixed {
			_, _ = fmt.Fprintf(r.s.Out, "%s:%d: %s: fixed: %s\n", name, o.Finding.Position.Line, o.Finding.Control, o.Finding.Message)
			if note := o.Finding.Fix.Note; note != "" {
				_, _ = fmt.Fprintf(r.s.Out, "    %s\n", note)
			}
		}
	}
	return replace(path, after)
}

// replace writes a file in one step, so that it is never half written, and
// keeps its mode. A link is followed.
func replace(path string, data []byte) error {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".sconce-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }()
	_, err = temp.Write(data)
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Chmod(temp.Name(), info.Mode().Perm())
	}
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}

func (r *fixRun) summary() {
	verb := "fixed"
	if r.diff {
		verb = "can be fixed"
	}
	_, _ = fmt.Fprintf(r.s.Err, "%d findings in %d files %s, %d left", r.fixed, r.files, verb, r.left)
	if r.left > 0 {
		_, _ = fmt.Fprint(r.s.Err, " for a person: sconce scan shows them")
	}
	_, _ = fmt.Fprintln(r.s.Err)
}
