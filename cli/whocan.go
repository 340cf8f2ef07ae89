// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/answer"
	"sconce.dev/sconce/posture"
)

// requestFlags say where and of what something is asked.
type requestFlags struct {
	namespace, subresource string
	everywhere             bool
}

func (f *requestFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.namespace, "namespace", "n", "", "ask of this namespace alone")
	flags.BoolVarP(&f.everywhere, "all-namespaces", "A", false, "ask of every namespace, and say of which it holds (the default)")
	flags.StringVar(&f.subresource, "subresource", "", "subresource, as in pods --subresource=exec; pods/exec says the same")
	cmd.MarkFlagsMutuallyExclusive("namespace", "all-namespaces")
}

// question reads VERB, RESOURCE and NAME.
func (f *requestFlags) question(args []string, m *modelled) (answer.Question, error) {
	name := ""
	if len(args) == 3 {
		name = args[2]
	}
	return answer.Ask(args[0], args[1], name, f.subresource, f.namespace, m.resources())
}

// resources are what the API serves, where that is known.
func (m *modelled) resources() []answer.Resource {
	var out []answer.Resource
	for _, k := range m.Kinds {
		out = append(out, answer.Resource{Name: k.Resource, Group: k.Group, Kind: k.Kind, Namespaced: k.Namespaced})
	}
	return out
}

// source says what an answer is of.
func (m *modelled) source() answer.Source {
	lacks := m.Incomplete()
	if m.files && len(m.Problems) == 0 && lacks != "" {
		lacks = "what is in files need not be all that there is in the cluster; --complete says that it is"
	}
	return answer.Source{Version: answer.Version, From: m.From, Complete: m.Complete, Lacks: lacks}
}

type whoCanFlags struct {
	modelFlags
	requestFlags
	answerFlags
}

func newWhoCan(s Streams) *cobra.Command {
	f := &whoCanFlags{}
	cmd := &cobra.Command{
		Use:   "who-can VERB RESOURCE [NAME]",
		Short: "Say who may do something, by which bindings, and who could come to",
		Long: `Who-can says which users, groups and ServiceAccounts may do something: where, by
which binding and role, and what runs as them. RESOURCE is written as for kubectl
(pods, po, deployments.apps, pods/exec, secret/NAME, */scale, *), or is a path
(/metrics). Without -n it says of each in which namespaces.

Then it says who may not, and could take it: who may bind roles or escalate them,
act as one that may, or make a token of one.

It knows RBAC. What webhooks, the node authorizer and a cloud's own authorizer
allow beside it cannot be seen from the objects of a cluster.

It asks the cluster of the kubeconfig, or reads what -f names. What is in files
need not be all there is, unless --complete says so.

Exit codes: 0 answered; 2 not everything could be read.`,
		Example: `  sconce who-can get secrets
  sconce who-can create pods/exec -n shop
  sconce who-can delete deploy/web -n shop
  sconce who-can '*' '*' -o name
  sconce who-can get /metrics
  sconce who-can get secrets -f deploy/ -f base/ --complete
  sconce who-can get secrets -f prod.sconce -o json`,
		Args: wants(2, 3, "VERB RESOURCE [NAME], as in `sconce who-can get secrets`"),
		RunE: func(cmd *cobra.Command, args []string) error { return runWhoCan(cmd, s, f, args) },
	}
	f.requestFlags.register(cmd)
	f.answerFlags.register(cmd, "table", "json", "name")
	f.modelFlags.register(cmd)
	return cmd
}

// wants refuses another number of arguments than there should be, and says what
// they are.
func wants(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		return fmt.Errorf("%s: want %s", cmd.Name(), what)
	}
}

func runWhoCan(cmd *cobra.Command, s Streams, f *whoCanFlags, args []string) error {
	if err := f.check(); err != nil {
		return err
	}
	if _, err := f.question(args, &modelled{}); err != nil {
		return fmt.Errorf("who-can: %w", err) // before anything is read
	}
	m, err := f.read(s, posture.Identity)
	if err != nil {
		return wrapped("who-can", err)
	}
	q, err := f.question(args, m)
	if err != nil {
		return fmt.Errorf("who-can: %w", err)
	}
	a := answer.AskWhoCan(m.Identity, m.source(), q)
	if f.format == "name" {
		if _, err := strings.NewReader(a.Names()).WriteTo(s.Out); err != nil {
			return err
		}
		return m.exit(false)
	}
	if err := f.write(cmd.Context(), cmd, s, a); err != nil {
		return fmt.Errorf("who-can: %w", err)
	}
	return m.exit(false)
}

// wrapped says which command an error is of; an exit code stays one.
func wrapped(command string, err error) error {
	var code exitCode
	if errors.As(err, &code) {
		return code
	}
	return fmt.Errorf("%s: %w", command, err)
}
