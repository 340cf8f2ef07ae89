// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/answer"
	"sconce.dev/sconce/posture"
)

type reachFlags struct {
	modelFlags
	answerFlags
	port     string
	exposure bool
}

func newReach(s Streams) *cobra.Command {
	f := &reachFlags{}
	cmd := &cobra.Command{
		Use:   "reach [FROM] [TO]",
		Short: "Say what reaches what through network policies, and which of them decides",
		Long: `Reach says whether FROM reaches TO: yes, no, partly or unknown, and which policy and
which rule of it decides at each end. With only FROM it says what that reaches;
with "any" for FROM, what reaches TO; with neither, what reaches what by namespace.

FROM and TO are NAMESPACE/WORKLOAD (shop/web, shop/deployment/web, shop/pod/web-1),
a NAMESPACE, "internet" for anything outside the cluster, an address, a range of
addresses, or "any".

It knows NetworkPolicy, ClusterNetworkPolicy, AdminNetworkPolicy and
BaselineAdminNetworkPolicy. Policies of other kinds (Cilium, Calico, Istio) are
told as not known. That a network plugin enforces policies cannot be seen from
the objects of a cluster, and is taken for granted.

Exit codes: 0 answered (yes, where both are named); 1 no, partly or unknown, where
both are named; 2 not everything could be read.`,
		Example: `  sconce reach                          # by namespace
  sconce reach shop/web shop/db --port 5432
  sconce reach shop/web                 # what it reaches
  sconce reach any shop/db              # what reaches it
  sconce reach internet shop --port https
  sconce reach shop/web 169.254.169.254 --port 80
  sconce reach --exposure               # all ways in from outside
  sconce reach -f deploy/ --complete -o html --output-file network.html`,
		Args: wants(0, 2, "[FROM] [TO], as in `sconce reach shop/web shop/db`"),
		RunE: func(cmd *cobra.Command, args []string) error { return runReach(cmd, s, f, args) },
	}
	cmd.Flags().StringVar(&f.port, "port", "", "ask of this port: 443, udp/53, or the name that pods give to one (default: any)")
	cmd.Flags().BoolVar(&f.exposure, "exposure", false, "list the ways in from outside, to what is named or to anything")
	f.answerFlags.register(cmd, drawnFormats...)
	f.modelFlags.register(cmd)
	return cmd
}

func runReach(cmd *cobra.Command, s Streams, f *reachFlags, args []string) error {
	if err := f.check(); err != nil {
		return err
	}
	if f.exposure && (len(args) > 1 || f.port != "") {
		return errors.New("reach: --exposure takes one thing at most, and no --port, as in `sconce reach --exposure shop`")
	}
	if err := answer.CheckPort(f.port); err != nil {
		return wrapped("reach", err) // before anything is read
	}
	m, err := f.read(s, posture.Network)
	if err != nil {
		return wrapped("reach", err)
	}
	a, failed, err := f.ask(m, args)
	if err != nil {
		return wrapped("reach", err)
	}
	if err := f.write(cmd.Context(), cmd, s, a); err != nil {
		return wrapped("reach", err)
	}
	return m.exit(failed)
}

// ask answers; failed says that what was asked for is not so.
func (f *reachFlags) ask(m *modelled, args []string) (a answer.Answer, failed bool, err error) {
	args = append(args, "", "")
	from, to := args[0], args[1]
	switch {
	case f.exposure:
		a, err := answer.AskExposure(m.Network, m.source(), from)
		return a, false, err
	case from == "" || answer.Anything(from) && (to == "" || answer.Anything(to)):
		a, err := answer.AskMatrix(m.Network, m.source(), f.port)
		return a, false, err
	case answer.Anything(from):
		from = ""
	case answer.Anything(to):
		to = ""
	}
	r, err := answer.AskReach(m.Network, m.source(), from, to, f.port)
	if err != nil {
		return nil, false, err
	}
	return r, from != "" && to != "" && !r.Yes(), nil
}
