// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
)

func newExplain(s Streams) *cobra.Command {
	var config []string
	cmd := &cobra.Command{
		Use:     "explain CONTROL",
		Short:   "Say what a control checks, why, and how to meet it",
		Example: "  sconce explain privileged-container",
		Args:    cobra.ExactArgs(1),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completeFrom((*baseline.Library).Controls)(cmd, args, typed)
		},
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := loadLibrary(config, time.Time{})
			if err != nil {
				return err
			}
			c := l.Control(args[0])
			if c == nil {
				_, err := l.Resolve(l.Baselines()[0], baseline.Options{Only: args})
				return err
			}
			explain(s.Out, c)
			return nil
		},
	}
	cmd.Flags().StringArrayVarP(&config, "config", "c", nil, "file or folder of your own controls, baselines and exceptions (default "+defaultConfig+", if it is there)")
	return cmd
}

// explain prints a control for a person.
func explain(w io.Writer, c *v1alpha1.Control) {
	spec := &c.Spec
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	p("%s: %s\n", c.Name, spec.Title)
	p("%s severity, %s, %s/%s\n\n", spec.Severity, spec.Topic, spec.Layer, spec.Phase)
	p("Why\n%s\n\n", indent(wrap(spec.Description, 78)))
	p("What to do\n%s\n\n", indent(wrap(spec.Remediation, 78)))
	if fix := spec.Fix; fix != nil {
		p("Fix (sconce fix makes it)\n%s\n", indent(strings.Join(fixLines(fix), "\n")))
		if fix.Note != "" {
			p("%s\n", indent(wrap("Before: "+fix.Note, 78)))
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
	if refs := references(&spec.References); len(refs) > 0 {
		p("References\n%s\n", indent(strings.Join(refs, "\n")))
	}
}

// fixLines says what a fix edits.
func fixLines(fix *v1alpha1.Fix) []string {
	var out []string
	for _, path := range fix.Remove {
		if path == "." {
			path = "the element"
		}
		out = append(out, "remove "+path)
	}
	for _, path := range keys(fix.Set) {
		out = append(out, fmt.Sprintf("set %s to %s", path, fix.Set[path].RawMessage))
	}
	for _, path := range keys(fix.Add) {
		for _, v := range fix.Add[path] {
			out = append(out, fmt.Sprintf("add %s to %s", v.RawMessage, path))
		}
	}
	return out
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

// references lists the sections of standards that a control meets.
func references(r *v1alpha1.References) []string {
	var out []string
	add := func(name string, ids []string) {
		if len(ids) > 0 {
			out = append(out, name+": "+strings.Join(ids, ", "))
		}
	}
	if ps := r.PodSecurity; ps != nil {
		add("Pod Security Standards", []string{string(ps.Level) + " (" + ps.Check + ")"})
	}
	add("CIS Kubernetes Benchmark 1.12", r.CISKubernetes)
	add("NSA/CISA Kubernetes Hardening Guide 1.2", r.NSA)
	add("MITRE ATT&CK", r.Attack)
	add("OWASP Kubernetes Top 10, 2025", r.OWASP)
	add("OWASP Kubernetes Top 10, 2022", r.OWASP2022)
	add("NIST SP 800-53 r5", r.NIST80053)
	return out
}

func indent(s string) string { return "  " + strings.ReplaceAll(s, "\n", "\n  ") }

// wrap breaks a text into lines of at most width characters, at spaces.
func wrap(s string, width int) string {
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

func keys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
