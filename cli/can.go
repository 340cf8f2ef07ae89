// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/answer"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/posture"
)

type canFlags struct {
	modelFlags
	requestFlags
	answerFlags
	groups   []string
	bindings string
}

func newCan(s Streams) *cobra.Command {
	f := &canFlags{}
	cmd := &cobra.Command{
		Use:   "can SUBJECT [VERB RESOURCE [NAME]]",
		Short: "Say what a user, group or ServiceAccount may do, and by which bindings",
		Long: `Can says everything that a subject may do: cluster-wide, then by namespace, each
with the bindings and roles that give it. With VERB and RESOURCE, written as for
kubectl, it says yes, no or not known, and by what.

SUBJECT is sa:NAMESPACE/NAME, user:NAME or group:NAME. --group puts it in groups
that the API server would learn from its certificate or token.

With --bindings it takes no subject, and lists bindings that grant nothing to
anything: "dangling" ones name a role or only ServiceAccounts that do not exist,
"unused" ones only ServiceAccounts that nothing runs as.

Exit codes: 0 answered, or yes; 1 no, or not known; 2 not everything could be
read.`,
		Example: `  sconce can sa:shop/web
  sconce can sa:shop/web get secrets -n shop
  sconce can user:jane --group devs create pods/exec
  sconce can group:system:authenticated -o json
  sconce can --bindings dangling
  sconce can sa:shop/web -f deploy/ --complete`,
		Args: func(cmd *cobra.Command, args []string) error {
			if f.bindings != "" {
				return wants(0, 0, "no SUBJECT with --bindings")(cmd, args)
			}
			if len(args) == 2 {
				return fmt.Errorf("can: want SUBJECT alone, or with VERB and RESOURCE, as in `sconce can %s get secrets`", args[0])
			}
			return wants(1, 4, "SUBJECT [VERB RESOURCE [NAME]], as in `sconce can sa:shop/web get secrets`")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return runCan(cmd, s, f, args) },
	}
	cmd.Flags().StringSliceVar(&f.groups, "group", nil, "the subject is in this group too; can be repeated")
	cmd.Flags().StringVar(&f.bindings, "bindings", "", "list bindings that grant nothing to anything: dangling, unused or all")
	_ = cmd.RegisterFlagCompletionFunc("bindings", cobra.FixedCompletions(answer.BindingKinds, cobra.ShellCompDirectiveNoFileComp))
	f.requestFlags.register(cmd)
	f.answerFlags.register(cmd, "table", "json")
	f.modelFlags.register(cmd)
	return cmd
}

func runCan(cmd *cobra.Command, s Streams, f *canFlags, args []string) error {
	if err := f.check(); err != nil {
		return err
	}
	if f.bindings != "" {
		return runBindings(cmd, s, f)
	}
	subject, err := rbac.ParseSubject(args[0])
	if err != nil {
		return fmt.Errorf("can: %w", err)
	}
	if len(args) > 1 {
		if _, err := f.question(args[1:], &modelled{}); err != nil {
			return fmt.Errorf("can: %w", err) // before anything is read
		}
	}
	m, err := f.read(s, posture.Identity)
	if err != nil {
		return wrapped("can", err)
	}
	var question *answer.Question
	if len(args) > 1 {
		q, err := f.question(args[1:], m)
		if err != nil {
			return fmt.Errorf("can: %w", err)
		}
		question = &q
	}
	a := answer.AskCan(m.Identity, m.source(), subject, f.groups, question)
	if err := f.write(cmd.Context(), cmd, s, a); err != nil {
		return fmt.Errorf("can: %w", err)
	}
	return m.exit(a.Allowed != nil && !*a.Allowed)
}

// runBindings lists bindings that grant nothing to anything.
func runBindings(cmd *cobra.Command, s Streams, f *canFlags) error {
	if err := answer.CheckBindings(f.bindings); err != nil {
		return fmt.Errorf("can: %w", err)
	}
	m, err := f.read(s, posture.Identity)
	if err != nil {
		return wrapped("can", err)
	}
	if err := f.write(cmd.Context(), cmd, s, answer.AskBindings(m.Identity, m.source(), f.bindings)); err != nil {
		return fmt.Errorf("can: %w", err)
	}
	return m.exit(false)
}
