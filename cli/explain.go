// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/policy"
)

func newExplain(s Streams) *cobra.Command {
	var config, policies []string
	cmd := &cobra.Command{
		Use:   "explain CONTROL",
		Short: "Say what a control checks, why, and how to meet it",
		Example: `  sconce explain privileged-container
  sconce explain kyverno.require-labels.check-team -p policies/
  sconce explain kyverno.require-labels -p policies/   # all its rules`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completeFrom((*baseline.Library).Controls)(cmd, args, typed)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := sortPolicies(config, policies, nil, time.Time{})
			if err != nil {
				return err
			}
			c := l.Control(args[0])
			if covered := l.Covered(args[0]); c == nil && len(covered) > 0 {
				for i, name := range covered {
					if i > 0 {
						_, _ = fmt.Fprintln(s.Out)
					}
					explainPolicy(s.Out, l.Policy(name).Info())
				}
				return nil
			}
			if c == nil {
				_ = tellInvalid(s, l) // it may be in one of these
				_, err := l.Resolve(l.Baselines()[0], baseline.Options{Only: args})
				return err
			}
			explain(s.Out, c, l.FrameworkTitles())
			return nil
		},
	}
	cmd.Flags().StringArrayVarP(&config, "config", "c", nil, configUsage)
	cmd.Flags().StringArrayVarP(&policies, "policies", "p", nil, listedPoliciesUsage)
	return cmd
}

const listedPoliciesUsage = "file or folder of policies that you have: ValidatingAdmissionPolicy, Kyverno, Gatekeeper, Rego"

// explainPolicy prints a rule of a policy for a person.
func explainPolicy(w io.Writer, i *policy.Info) {
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	p("%s: %s\n", i.Name, i.Title)
	p("%s severity%s\n", i.Severity, after(", ", i.Topic))
	p("written in %s, at %s:%d (%s)\n\n", i.Language, i.Position.File, i.Position.Line, i.Policy)
	if i.Description != "" {
		p("Why\n%s\n\n", indent(wrap(i.Description)))
	}
	if i.Remediation != "" {
		p("What to do\n%s\n\n", indent(wrap(i.Remediation)))
	}
	p("Where it fails\n  %s\n", i.Action)
	if i.Unbound != "" {
		p("In force: %s\n", i.Unbound)
	}
	for _, needs := range []struct {
		is   bool
		what string
	}{
		{i.Needs.Namespaces, "the namespace of the object"},
		{len(i.Needs.Kinds) > 0 || i.Needs.AnyKind, "other objects"},
		{i.Needs.User, "who asks"},
		{i.Needs.Authorizer, "what they may do"},
	} {
		if needs.is {
			p("It also looks at %s: where that is not known, the verdict may be unknown.\n", needs.what)
		}
	}
	if i.Unsupported != "" {
		p("\nIt cannot be run, and what it is about is unknown: %s\n", i.Unsupported)
	}
}

// after is a text with what goes before it; nothing if there is none.
func after(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

// explain prints a control for a person.
func explain(w io.Writer, c *v1alpha1.Control, frameworks map[string]string) {
	spec := &c.Spec
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	p("%s: %s\n", c.Name, spec.Title)
	p("%s severity, %s, %s/%s\n\n", spec.Severity, spec.Topic, spec.Layer, spec.Phase)
	p("Why\n%s\n\n", indent(wrap(spec.Description)))
	p("What to do\n%s\n\n", indent(wrap(spec.Remediation)))
	if fix := spec.Fix; fix != nil {
		p("Fix (sconce fix makes it)\n%s\n", indent(strings.Join(fix.Steps(), "\n")))
		if fix.Note != "" {
			p("%s\n", indent(wrap("Before: "+fix.Note)))
		}
		p("\n")
	}
	p("What is judged\n%s\n\n", indent(strings.Join(judged(spec), "\n")))
	if len(spec.Parameters) > 0 {
		p("Parameters (set them in a baseline)\n")
		for _, param := range spec.Parameters {
			p("  %s (%s, default %s): %s\n", param.Name, param.Type, param.Default.RawMessage, param.Description)
		}
		p("\n")
	}
	if refs := spec.References.Standards(frameworks); len(refs) > 0 {
		p("References\n")
		for _, r := range refs {
			p("  %s: %s\n", r.Title, strings.Join(r.Sections, ", "))
		}
	}
}

// judged says which objects a control is about and what it requires of them.
func judged(spec *v1alpha1.ControlSpec) []string {
	var out []string
	if spec.Match.Pods {
		out = append(out, "pods, and everything that holds a pod template")
	}
	for _, k := range spec.Match.Kinds {
		kind := k.Kind
		if k.Group != "" {
			kind += "." + k.Group
		}
		out = append(out, kind)
	}
	if spec.ForEach != "" {
		out = append(out, "each of "+spec.ForEach)
	}
	for _, v := range spec.Variables {
		out = append(out, "variables."+v.Name+" = "+v.Expression)
	}
	if spec.When != "" {
		out = append(out, "when "+spec.When)
	}
	out = append(out, "require "+spec.Require)
	for _, v := range spec.Versions {
		out = append(out, "before Kubernetes "+v.Before+": require "+v.Require)
	}
	return out
}

func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }

// width is how many characters a line of an explanation has at most.
const width = 78

// wrap breaks a text into lines of at most width characters, at spaces.
func wrap(s string) string {
	var b strings.Builder
	col := 0
	for i, word := range strings.Fields(s) {
		switch {
		case i == 0:
		case col+1+len(word) > width:
			b.WriteByte('\n')
			col = 0
		default:
			b.WriteByte(' ')
			col++
		}
		b.WriteString(word)
		col += len(word)
	}
	return b.String()
}
