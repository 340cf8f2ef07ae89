// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/diff"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/posture"
	"sconce.dev/sconce/report"
	"sconce.dev/sconce/verdict"
)

type diffFlags struct {
	configFlags
	frameworkFlags
	sourceFlags
	clusterFlags
	format, file string
	quiet        bool
	failOn       []string
	paths        []string
	compare      []string
	mergeBase    bool
	rules        string
}

func newDiff(s Streams) *cobra.Command {
	f := &diffFlags{}
	cmd := &cobra.Command{
		Use:   "diff BASE [HEAD] [PATH]...",
		Short: "Say what a change does: findings, permissions, connections, attack paths",
		Long: `Diff judges two sides by the same baseline and says what differs: which findings
are new and which are gone, who may do more or less, what can talk to what, and
which attack paths open and close. What was only moved, renamed or written in
another way is no change.

A side is a file, folder, chart or overlay, a snapshot of a cluster, the cluster
itself ("cluster"), or else a revision of the Git repository around this folder:
main, HEAD~1, origin/main, or a part of one, main:deploy. Without HEAD, BASE is
compared with the files here. BASE..HEAD and BASE...HEAD are understood as git
diff does. Paths limit both sides to some files and folders.

Files are compared with a cluster as if they were applied to it: what they do not
name is taken from the cluster on both sides.

What could not be read on one side is never taken for gone: what differs there is
unclear.

Exit codes: 0 done; 1 something is new that --fail-on names; 2 not everything
could be read; 3 something is unknown that was not, with --fail-on unknown.`,
		Example: `  sconce diff main                       # with the files here
  sconce diff origin/main...HEAD deploy/ -o markdown
  sconce diff v1.2 v1.3 --fail-on high
  sconce diff before/ after/
  sconce diff cluster deploy/            # what applying deploy/ would change
  sconce diff monday.sconce tuesday.sconce
  sconce diff main -o sarif --output-file new.sarif`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("nothing to compare with: name a Git revision, a folder, a snapshot or the cluster, as in `sconce diff main`")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runDiff(cmd, s, f, args) },
	}
	f.register(cmd)
	return cmd
}

func (f *diffFlags) register(cmd *cobra.Command) {
	f.configFlags.register(cmd)
	f.frameworkFlags.register(cmd)
	f.configFlags.narrow = func(l *baseline.Library, opts *baseline.Options) error {
		return f.frameworkFlags.narrow(cmd, l, f.baseline, opts)
	}
	f.clusterFlags.registerConnection(cmd)
	f.sourceFlags.registerWith(cmd, "f", "")
	_ = cmd.Flags().MarkHidden("rev")
	flags := cmd.Flags()
	flags.StringVarP(&f.clusterFlags.namespace, "namespace", "n", "", "of a cluster, only what is in this namespace; files that name none are taken to be for it (default: all, and files for the namespace default)")
	flags.StringArrayVar(&f.paths, "path", nil, "limit both sides to this file or folder; can be repeated")
	flags.BoolVar(&f.mergeBase, "merge-base", false, "compare with the commit at which HEAD left BASE, as BASE...HEAD does")
	flags.StringVar(&f.rules, "rules", "head", "whose controls, baselines and exceptions judge both sides, where the sides bring their own: head or base")
	flags.StringSliceVar(&f.compare, "compare", []string{"findings", "permissions", "connections", "paths"}, "what is compared; findings always are")
	flags.StringSliceVar(&f.failOn, "fail-on", []string{"none"}, "what makes the exit code 1: new findings (new), those of this severity and worse (critical, high, medium, low), permissions, connections, exposures or paths that were not there; with unknown, what can newly not be decided makes it 3")
	flags.StringVarP(&f.format, "output", "o", "text", "format: "+strings.Join(diffFormats, ", "))
	flags.StringVar(&f.file, "output-file", "", "write to this file instead of standard output")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "show no progress on standard error")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(diffFormats, cobra.ShellCompDirectiveNoFileComp))
}

var diffFormats = []string{"text", "markdown", "json", "sarif"}

// gate is what --fail-on of a difference says.
type gate struct {
	threshold
	permissions, connections, exposures, paths bool
}

func parseGate(words []string) (gate, error) {
	var g gate
	var rest []string
	for _, w := range words {
		switch w {
		case "new":
			rest = append(rest, string(verdict.Severities[len(verdict.Severities)-1]))
		case "permissions":
			g.permissions = true
		case "connections":
			g.connections = true
		case "exposures":
			g.exposures = true
		case "paths":
			g.paths = true
		case "unknown": // asks for no more here than it says
			g.unknown = true
		default:
			rest = append(rest, w)
		}
	}
	unknown := g.unknown
	limit, err := parseThreshold(rest)
	if err != nil {
		return g, fmt.Errorf("--fail-on: unknown word among %q; want new, critical, high, medium, low, unknown, permissions, connections, exposures, paths or none", words)
	}
	g.threshold = limit
	g.unknown = unknown
	return g, nil
}

// exit returns how the program ends.
func (g gate) exit(c *diff.Change) error {
	fail := slices.ContainsFunc(c.Findings.New, func(f diff.Finding) bool { return verdict.Rank(f.Severity) <= g.rank })
	fail = fail || g.permissions && c.Permissions != nil && len(c.Permissions.Gained) > 0
	fail = fail || g.connections && c.Connections != nil && len(c.Connections.Opened) > 0
	fail = fail || g.exposures && c.Connections != nil && len(c.Connections.Exposed) > 0
	fail = fail || g.paths && c.Paths != nil && len(c.Paths.Opened) > 0
	switch {
	case len(c.Problems) > 0:
		return exitCode(exitError)
	case fail:
		return exitCode(exitFindings)
	case g.unknown && g.doubtful(c):
		return exitCode(exitUnknown)
	}
	return nil
}

// doubtful says that it is not known whether something is new that was asked for.
func (g gate) doubtful(c *diff.Change) bool {
	return len(c.Findings.Unknown)+len(c.Findings.Unclear) > 0 ||
		g.permissions && c.Permissions != nil && len(c.Permissions.Unclear) > 0 ||
		g.connections && c.Connections != nil && len(c.Connections.Unclear) > 0 ||
		g.paths && c.Paths != nil && len(c.Paths.Unclear) > 0
}

// models are those that are to be compared. The graph of attack paths holds the
// two others.
func (f *diffFlags) models() (posture.What, error) {
	var what posture.What
	for _, w := range f.compare {
		switch w {
		case "findings":
		case "permissions":
			what |= posture.Identity
		case "connections":
			what |= posture.Network
		case "paths":
			what |= posture.Attack
		default:
			return 0, fmt.Errorf("--compare: unknown word %q; want findings, permissions, connections or paths", w)
		}
	}
	if what == posture.Identity|posture.Network|posture.Attack {
		what = posture.Attack
	}
	return what, nil
}

func runDiff(cmd *cobra.Command, s Streams, f *diffFlags, args []string) error {
	limit, err := parseGate(f.failOn)
	if err != nil {
		return err
	}
	what, err := f.models()
	if err != nil {
		return err
	}
	switch {
	case !slices.Contains(diffFormats, f.format):
		return fmt.Errorf("unknown output %q; want %s", f.format, strings.Join(diffFormats, ", "))
	case f.revision != "":
		return errors.New("--rev: name the revision as a side, as in `sconce diff main HEAD`")
	case f.rules != "head" && f.rules != "base":
		return fmt.Errorf("--rules: unknown word %q; want head or base", f.rules)
	}
	ctx, stop := interruptible()
	defer stop()
	r := &diffRun{f: f, s: s, what: what}
	defer r.close()
	c, err := r.compare(ctx, args)
	if err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	if err := r.write(cmd, c); err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	return limit.exit(c)
}

// diffRun compares.
type diffRun struct {
	f    *diffFlags
	s    Streams
	what posture.What

	base, head *diffSide
	baseline   *baseline.Baseline
	engine     *engine.Engine
	summary    *verdict.Summary // of the head
	notes      []string
	closers    []func()
}

func (r *diffRun) close() {
	for _, c := range slices.Backward(r.closers) {
		c()
	}
}

func (r *diffRun) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// compare reads and judges both sides.
func (r *diffRun) compare(ctx context.Context, args []string) (*diff.Change, error) {
	if err := r.name(args); err != nil {
		return nil, err
	}
	for _, side := range []*diffSide{r.base, r.head} {
		if err := r.open(side); err != nil {
			return nil, err
		}
	}
	if err := r.load(time.Now()); err != nil {
		return nil, err
	}
	from, to, err := r.judgeBoth(ctx)
	if err != nil {
		return nil, err
	}
	if from.Seen.Len()+to.Seen.Len() == 0 && len(from.Problems)+len(to.Problems) == 0 {
		return nil, fmt.Errorf("there is no Kubernetes object in %s, nor in %s", from.Name, to.Name)
	}
	c := diff.Compare(from, to)
	c.Baseline, c.KubernetesVersion, c.Notes = r.baseline.Name, r.baseline.Version.String(), r.notes
	if !slices.Contains(r.f.compare, "permissions") {
		c.Permissions = nil
	}
	if !slices.Contains(r.f.compare, "connections") {
		c.Connections = nil
	}
	return c, nil
}

// judgeBoth judges the sides. What is compared with files is read before them.
func (r *diffRun) judgeBoth(ctx context.Context) (from, to *diff.Side, err error) {
	if r.head.isCluster() && !r.base.isCluster() {
		if to, err = r.judge(ctx, r.head, nil); err == nil {
			from, err = r.judge(ctx, r.base, r.head)
		}
		return from, to, err
	}
	if from, err = r.judge(ctx, r.base, nil); err != nil {
		return nil, nil, err
	}
	var below *diffSide
	if r.base.isCluster() && !r.head.isCluster() {
		below = r.base
	}
	to, err = r.judge(ctx, r.head, below)
	return from, to, err
}

// write writes the difference in the format that was asked for.
func (r *diffRun) write(cmd *cobra.Command, c *diff.Change) error {
	return toFile(cmd, r.f.file, r.s.Out, func(to io.Writer, coloured bool) error { return r.print(c, to, coloured) })
}

// toFile writes to a file, or without a name to an output; coloured says whether
// colours can be seen there.
func toFile(cmd *cobra.Command, name string, out io.Writer, write func(to io.Writer, coloured bool) error) error {
	to, closeFile := out, func() error { return nil }
	if name != "" {
		file, err := os.Create(name)
		if err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
		to, closeFile = file, file.Close
	}
	buffered := bufio.NewWriterSize(to, 64<<10)
	err := write(buffered, colour(cmd, to))
	if err == nil {
		err = buffered.Flush()
	}
	if closeErr := closeFile(); err == nil {
		err = closeErr
	}
	return err
}

func (r *diffRun) print(c *diff.Change, out io.Writer, coloured bool) error {
	switch r.f.format {
	case "json":
		return c.JSON(out)
	case "markdown":
		return c.Markdown(out)
	case "sarif":
		return r.sarif(c, out)
	}
	width, _ := terminal(r.s.Out)
	return c.Text(out, width, coloured)
}

// sarif writes what is new as a report of a scan.
func (r *diffRun) sarif(c *diff.Change, out io.Writer) error {
	w, err := report.New("sarif", out, report.Options{})
	if err != nil {
		return err
	}
	config := verdict.Config{
		Stream: verdict.StreamVersion, Program: "sconce", Version: version(), Targets: r.head.targets,
		Baseline: r.baseline.Name, KubernetesVersion: r.baseline.Version.String(), Frameworks: r.baseline.Frameworks, Revision: r.head.revision,
	}
	run := &scanRun{baseline: r.baseline}
	for _, m := range c.Stream(config, run.info, r.summary) {
		if err := w.Write(m); err != nil {
			return err
		}
	}
	return w.Close()
}
