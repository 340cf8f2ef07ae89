// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/generate/role"
	"sconce.dev/sconce/posture"
	"sconce.dev/sconce/report"
)

type rolesFlags struct {
	modelFlags
	generatedFlags
	subjects, exempt []string
	logOnly          bool
	opts             role.Options
}

func newGenerateRoles(s Streams) *cobra.Command {
	f := &rolesFlags{opts: role.DefaultOptions}
	cmd := &cobra.Command{
		Use:   "roles AUDIT-LOG...",
		Short: "Make the least roles that allow what an audit log shows, and prove them",
		Long: `Roles makes Roles, ClusterRoles and bindings that allow what subjects were seen to
ask for in audit logs of the API server, and no more than they need. Level Metadata
is enough. Events may be one a line or in lists, packed with gzip or not, bare or as
GKE, EKS, AKS and log collectors wrap them; - is standard input.

The result is proven by the exact model that sconce can asks: each request that
was seen is allowed by the new roles, and they allow nothing that is not allowed
today by the RBAC objects of the cluster, or of -f. Where they allow more than
was seen (any name, all namespaces) it is named with the reason. What is held
today and was never used is listed. What is not proven is not written, unless
--unproven is given.

What did not happen in the window of the logs is in no role.

Exit codes: 0 proven; 1 not proven; 2 not everything could be read.`,
		Example: `  sconce generate roles audit.log --subject sa:shop/web
  sconce generate roles audit-*.log.gz --output-dir roles/
  sconce generate roles audit.log -f rbac/ --complete
  sconce generate roles - --log-only < audit.log`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("generate roles: want an audit log, or - for standard input, as in `sconce generate roles audit.log`")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return wrappedNil("generate roles", runGenerateRoles(s, f, args))
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringArrayVar(&f.subjects, "subject", nil, "make roles for sa:NAMESPACE/NAME or user:NAME; can be repeated (default: every ServiceAccount in the logs)")
	flags.StringSliceVar(&f.exempt, "exempt-namespace", []string{"kube-system"}, "without --subject, make none for ServiceAccounts of these namespaces; '' for none")
	flags.IntVar(&f.opts.MaxNames, "max-names", f.opts.MaxNames, "list at most this many names of objects in a rule, and allow any name beyond")
	flags.IntVar(&f.opts.MaxNamespaces, "max-namespaces", f.opts.MaxNamespaces, "make Roles in at most this many namespaces, and a ClusterRole beyond")
	flags.BoolVar(&f.logOnly, "log-only", false, "read nothing but the logs: the result is not compared with what is allowed today")
	f.generatedFlags.register(cmd, "subject")
	f.modelFlags.register(cmd)
	return cmd
}

func runGenerateRoles(s Streams, f *rolesFlags, files []string) error {
	if err := f.check(); err != nil {
		return err
	}
	var subjects []rbac.Subject
	for _, text := range f.subjects {
		subject, err := rbac.ParseSubject(text)
		if err != nil {
			return fmt.Errorf("--subject: %w", err)
		}
		if subject.Kind == rbac.Group {
			return fmt.Errorf("--subject %s: an audit log tells what users did; want sa:NAMESPACE/NAME or user:NAME", text)
		}
		subjects = append(subjects, subject)
	}
	log := role.NewLog()
	if err := readRecordings(s, files, log.Read); err != nil {
		return err
	}
	m := &modelled{Posture: &posture.Posture{}}
	if !f.logOnly {
		var err error
		if m, err = f.read(s, posture.Identity); err != nil {
			return fmt.Errorf("%w; to use the logs alone, give --log-only", err)
		}
	}
	results, err := f.generate(log, subjects, m.Identity)
	if err != nil {
		return err
	}
	if err := f.tell(s, log, results); err != nil {
		return err
	}
	if log.Faults.Count > 0 {
		return exitCode(exitError)
	}
	return m.exit(slices.ContainsFunc(results, func(r *role.Result) bool { return !r.Proof.Holds() }))
}

// generate makes the roles of the subjects: without any, of the ServiceAccounts
// of the log.
func (f *rolesFlags) generate(log *role.Log, subjects []rbac.Subject, today *rbac.Model) ([]*role.Result, error) {
	if len(subjects) == 0 {
		for _, a := range log.Activities() {
			if a.Subject.Kind == rbac.ServiceAccount && !slices.Contains(f.exempt, a.Subject.Namespace) {
				subjects = append(subjects, a.Subject)
			}
		}
	}
	var out []*role.Result
	for _, subject := range subjects {
		a := log.Of(subject)
		if a == nil {
			a = &role.Activity{Subject: subject}
		}
		r, err := role.Generate(a, today, f.opts)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// tell writes the roles, and says what is to be known of them.
func (f *rolesFlags) tell(s Streams, log *role.Log, results []*role.Result) error {
	if f.format == "json" {
		return f.json(s, log, results)
	}
	if err := log.Text(s.Err); err != nil {
		return err
	}
	var files []generatedFile
	for _, r := range results {
		if err := r.Text(s.Err); err != nil {
			return err
		}
		switch {
		case len(r.Documents) == 0:
		case f.unproven || r.Proof.Holds():
			files = append(files, generatedFile{name: r.Name(), documents: r.Documents})
		default:
			_, _ = fmt.Fprintf(s.Err, "  no role of %s is written, since it is not proven; see them with --unproven\n", r.Subject)
		}
	}
	return f.write(s.Out, files)
}

func (f *rolesFlags) json(s Streams, log *role.Log, results []*role.Result) error {
	type one struct {
		*role.Result
		Manifests []map[string]any `json:"manifests"`
	}
	all := []one{}
	for _, r := range results {
		documents := r.Documents
		if !f.unproven && !r.Proof.Holds() {
			documents = nil
		}
		manifests, err := trees(documents)
		if err != nil {
			return err
		}
		all = append(all, one{r, manifests})
	}
	return report.JSON(s.Out, struct {
		Log      *role.Log `json:"log"`
		Subjects []one     `json:"subjects"`
	}{log, all})
}
