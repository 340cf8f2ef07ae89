// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/answer"
	"sconce.dev/sconce/posture"
)

type pathsFlags struct {
	modelFlags
	answerFlags
	begin, end, assume []string
	count              int
	fail               bool
}

func newPaths(s Streams) *cobra.Command {
	f := &pathsFlags{}
	cmd := &cobra.Command{
		Use:   "paths",
		Short: "Say how an attacker gets from here to there, and which changes break most ways",
		Long: `Paths says how an attacker gets from where they may begin (the internet, any pod,
any editor of a namespace, a stolen token) to what must not be lost
(cluster-admin, root on a node, all Secrets): for each pair the shortest path,
step by step, each with the objects that it comes from. Then it says what breaks
them: the fewest changes that break all paths, those that break most first, each
with the control that asks for it.

--from and --to name other beginnings and ends: internet, any-pod, pod:shop/web,
sa:shop/web, user:NAME, group:NAME, namespace:shop, node, secrets, cluster-admin.

Effort adds up what the steps take: 0 for what is held already, 1 for a command, 3
for some work, 10 for a weakness that must be found first. A step that is possible
is one of which it is not known whether it is there, and says why.

Exit codes: 0 answered; 1 there is a path, or may be, with --fail; 2 not
everything could be read.`,
		Example: `  sconce paths
  sconce paths --from sa:shop/web --to cluster-admin -k 5
  sconce paths -f deploy/ --complete --fail
  sconce paths -f prod.sconce -o html --output-file paths.html`,
		Args: wants(0, 0, "no argument; beginnings and ends are --from and --to, files -f"),
		RunE: func(cmd *cobra.Command, _ []string) error { return runPaths(cmd, s, f) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.begin, "from", nil, "where the attacker begins; can be repeated (default: every kind of beginning)")
	flags.StringSliceVar(&f.end, "to", nil, "what the attacker is after; can be repeated (default: all that must not be lost)")
	flags.IntVarP(&f.count, "paths", "k", 3, "with --from or --to: how many paths to tell, the shortest first")
	flags.StringSliceVar(&f.assume, "assume", nil, "steps that nothing among the objects speaks for, and that are to be counted, by their name or number; can be repeated")
	flags.BoolVar(&f.fail, "fail", false, "end with exit code 1 if there is a path, or may be")
	f.answerFlags.register(cmd, drawnFormats...)
	f.modelFlags.register(cmd)
	return cmd
}

func runPaths(cmd *cobra.Command, s Streams, f *pathsFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	if f.count < 1 || f.count > 1000 {
		return fmt.Errorf("paths: -k %d: want a number from 1 to 1000", f.count)
	}
	m, err := f.read(s, posture.Attack)
	if err != nil {
		return wrapped("paths", err)
	}
	if err := m.Attack.Assume(f.assume...); err != nil {
		return fmt.Errorf("paths: --assume: %w", err)
	}
	a, err := answer.AskPaths(m.Attack, m.source(), f.begin, f.end, f.count, fixable())
	if err != nil {
		return wrapped("paths", err)
	}
	if err := f.write(cmd.Context(), cmd, s, a); err != nil {
		return wrapped("paths", err)
	}
	return m.exit(f.fail && a.Open())
}

// fixable returns a function that says whether a control of the catalogue has a
// fix that a program makes.
func fixable() func(control string) bool {
	l, err := loadLibrary(nil, time.Time{})
	return func(control string) bool {
		if err != nil {
			return false // a command that may do nothing is not offered
		}
		c := l.Control(control)
		return c != nil && c.Spec.Fix != nil
	}
}
