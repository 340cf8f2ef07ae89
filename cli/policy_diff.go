// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/diff"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// policyDiffFlags are the flags of policy diff.
type policyDiffFlags struct {
	configFlags
	sourceFlags
	clusterFlags
	format, file string
	quiet        bool
	failOn       []string
}

func newPolicyDiff(s Streams) *cobra.Command {
	f := &policyDiffFlags{}
	cmd := &cobra.Command{
		Use:   "diff OLD NEW [PATH|cluster]...",
		Short: "Say what a change of policies does to the objects that there are",
		Long: `Policy diff judges the same objects by two sets of policies and says what differs:
what would newly fail, what would no longer, what can no longer be decided, and
whose action or severity is another. The objects are those of this folder, of the
paths that are named, or of the cluster.

A set is a file or folder of policies and of your own controls and baselines, a
path of a Git revision (main:policies), or a bundle (oci://REGISTRY/NAME:TAG).

Exit codes: 0 done; 1 something newly fails that --fail-on names; 2 not everything
could be read; 3 something is unknown that was not, with --fail-on unknown.`,
		Example: `  sconce policy diff main:policies policies
  sconce policy diff old/ new/ deploy/ --fail-on new
  sconce policy diff oci://registry.example.com/policies:1.4.0 policies cluster -o markdown`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 2 {
				return errors.New("name two sets of policies, as in `sconce policy diff main:policies policies`")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runPolicyDiff(cmd, s, f, args) },
	}
	f.configFlags.register(cmd)
	_ = cmd.Flags().MarkHidden("policies")
	f.clusterFlags.registerConnection(cmd)
	f.sourceFlags.registerWith(cmd, "f", "")
	flags := cmd.Flags()
	flags.StringSliceVar(&f.failOn, "fail-on", []string{"none"}, "what makes the exit code 1: what newly fails (new), or that of this severity and worse (critical, high, medium, low); with unknown, what can newly not be decided makes it 3")
	flags.StringVarP(&f.format, "output", "o", "text", "format: text, markdown, json")
	flags.StringVar(&f.file, "output-file", "", "write to this file instead of standard output")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "show no progress on standard error")
	return cmd
}

// policySide is one of the sets of policies.
type policySide struct {
	name     string
	baseline *baseline.Baseline
	engine   *engine.Engine
}

func runPolicyDiff(cmd *cobra.Command, s Streams, f *policyDiffFlags, args []string) error {
	limit, err := parseGate(f.failOn)
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"text", "markdown", "json"}, f.format) {
		return fmt.Errorf("unknown output %q; want text, markdown or json", f.format)
	}
	ctx, stop := interruptible()
	defer stop()
	targets := args[2:]
	if len(targets) == 0 {
		targets = []string{"."}
	}
	if len(targets) == 1 && targets[0] == "cluster" {
		c, err := f.connect()
		if err != nil {
			return fmt.Errorf("policy diff: %w", err)
		}
		f.kubeVersion, f.complete = versionOf(c.Version()), true
		return f.compare(ctx, cmd, s, args, limit, func(side *policySide) ([]snapshot.Unit, func(), error) {
			kinds, problems := c.Kinds(ctx, side.engine.Reads)
			return c.Units(kinds, "", problems...), func() {}, nil
		})
	}
	return f.compare(ctx, cmd, s, args, limit, func(side *policySide) ([]snapshot.Unit, func(), error) {
		plan, release, err := f.discover(s, targets, side.baseline)
		if err != nil {
			return nil, nil, err
		}
		return plan.Units, release, nil
	})
}

// compare judges what units returns by both sets, and writes what differs.
func (f *policyDiffFlags) compare(ctx context.Context, cmd *cobra.Command, s Streams, args []string, limit gate, units func(*policySide) ([]snapshot.Unit, func(), error)) error {
	var sides [2]*policySide
	var judged [2]*diff.Side
	for i, arg := range args[:2] {
		side, err := f.side(arg, args[:2])
		if err != nil {
			return fmt.Errorf("policy diff: %w", err)
		}
		if judged[i], err = f.judge(ctx, s, side, units); err != nil {
			return fmt.Errorf("policy diff: judging by %s: %w", arg, err)
		}
		sides[i] = side
	}
	c := diff.Compare(judged[0], judged[1])
	c.Baseline, c.KubernetesVersion = sides[1].baseline.Name, sides[1].baseline.Version.String()
	c.Notes = ruleNotes(sides[0].baseline.Rules, sides[1].baseline.Rules)
	if err := f.write(cmd, s, c); err != nil {
		return fmt.Errorf("policy diff: %w", err)
	}
	return limit.exit(c)
}

// side reads one of the sets of policies.
func (f *policyDiffFlags) side(arg string, sets []string) (*policySide, error) {
	v, err := f.verifier()
	if err != nil {
		return nil, err
	}
	today := time.Now()
	l, err := readLibrary(newLibrary(), f.config, []string{arg}, sets, v, today)
	if err != nil {
		return nil, err
	}
	flags := f.configFlags
	flags.policies = []string{arg}
	b, err := flags.resolve(l, today)
	if err != nil {
		return nil, err
	}
	return &policySide{name: arg, baseline: b, engine: engine.New(b, l.Exceptions(today), today)}, nil
}

// judge judges the objects by one of the sets.
func (f *policyDiffFlags) judge(ctx context.Context, s Streams, side *policySide, units func(*policySide) ([]snapshot.Unit, func(), error)) (*diff.Side, error) {
	all, release, err := units(side)
	if err != nil {
		return nil, err
	}
	defer release()
	seen := &diffSide{seen: diff.NewSeen()}
	out := &diff.Side{Name: side.name, Seen: seen.seen, Wide: diff.Wide(side.baseline.Rules)}
	progress := newProgress(s.Err, len(all), "sources by "+side.name, f.quiet)
	defer progress.clear()
	_, err = side.engine.Run(ctx, noted(seen, all), 0, engine.Output{
		Result:  func(res *engine.Result) error { out.Findings = append(out.Findings, res.Findings...); return nil },
		Problem: func(p verdict.Problem) error { out.Problems = append(out.Problems, p); return nil },
		Notice:  func(verdict.Notice) error { return nil },
		Done:    progress.done,
	})
	return out, err
}

// ruleNotes say which rules are in one set alone, and which are enforced or rated
// in another way.
func ruleNotes(before, after []*baseline.Rule) []string {
	old := map[string]*baseline.Rule{}
	for _, r := range before {
		old[r.Name] = r
	}
	var added, removed, changed []string
	for _, r := range after {
		was := old[r.Name]
		delete(old, r.Name)
		if was == nil {
			added = append(added, r.Name)
			continue
		}
		for _, c := range []struct{ what, was, is string }{
			{"action", string(was.Action), string(r.Action)},
			{"severity", string(was.Severity), string(r.Severity)},
			{"failure policy", string(was.FailurePolicy), string(r.FailurePolicy)},
		} {
			if c.was != c.is {
				changed = append(changed, fmt.Sprintf("the %s of %s is %s, and was %s", c.what, r.Name, c.is, c.was))
			}
		}
	}
	for name := range old {
		removed = append(removed, name)
	}
	slices.Sort(removed)
	slices.Sort(added)
	var out []string
	for _, list := range []struct {
		words string
		names []string
	}{{"new rules", added}, {"rules that are gone", removed}} {
		if len(list.names) > 0 {
			out = append(out, fmt.Sprintf("%s: %s", list.words, strings.Join(list.names, ", ")))
		}
	}
	slices.Sort(changed)
	return append(out, changed...)
}

func (f *policyDiffFlags) write(cmd *cobra.Command, s Streams, c *diff.Change) error {
	return toFile(cmd, f.file, s.Out, func(to io.Writer, coloured bool) error {
		switch f.format {
		case "json":
			return c.JSON(to)
		case "markdown":
			return c.Markdown(to)
		}
		width, _ := terminal(s.Out)
		return c.Text(to, width, coloured)
	})
}
