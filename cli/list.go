// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

func newList(s Streams) *cobra.Command {
	var config, policies []string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List controls, baselines, frameworks or your policies",
		Example: `  sconce list controls
  sconce list baselines
  sconce list frameworks
  sconce list policies -p policies/
  sconce list controls -o json | jq -r .metadata.name`,
	}
	cmd.PersistentFlags().StringArrayVarP(&config, "config", "c", nil, configUsage)
	cmd.PersistentFlags().StringArrayVarP(&policies, "policies", "p", nil, listedPoliciesUsage)
	var format string
	cmd.PersistentFlags().StringVarP(&format, "output", "o", "table", "format: table or json")
	list := func(what string, table func(io.Writer, *baseline.Library), each func(*baseline.Library, func(any) error) error) *cobra.Command {
		return &cobra.Command{
			Use: what, Short: "List " + what, Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				if format != "table" && format != "json" {
					return fmt.Errorf("unknown output %q; want table or json", format)
				}
				l, err := sortPolicies(config, policies, nil, time.Time{})
				if err != nil {
					return err
				}
				if format == "json" {
					enc := json.NewEncoder(s.Out)
					err = each(l, enc.Encode)
				} else {
					w := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
					table(w, l)
					err = w.Flush()
				}
				return cmp.Or(err, tellInvalid(s, l))
			},
		}
	}
	cmd.AddCommand(
		list("controls", listControls, func(l *baseline.Library, emit func(any) error) error {
			for _, name := range l.Controls() {
				if err := emit(l.Control(name)); err != nil {
					return err
				}
			}
			return nil
		}),
		list("baselines", listBaselines, func(l *baseline.Library, emit func(any) error) error {
			for _, name := range l.Baselines() {
				if err := emit(l.Baseline(name)); err != nil {
					return err
				}
			}
			return nil
		}),
		list("frameworks", listFrameworks, emitFrameworks),
		list("policies", listPolicies, emitPolicies),
	)
	return cmd
}

// tellInvalid says which policies were left out.
func tellInvalid(s Streams, l *baseline.Library) error {
	invalid := l.InvalidPolicies()
	for _, e := range invalid {
		_, _ = fmt.Fprintf(s.Err, "sconce: left out: %s\n", e)
	}
	if len(invalid) > 0 {
		return exitCode(exitError)
	}
	return nil
}

func listControls(w io.Writer, l *baseline.Library) {
	_, _ = fmt.Fprintln(w, "CONTROL\tSEVERITY\tTOPIC\tFIX\tTITLE")
	for _, name := range l.Controls() {
		c := l.Control(name)
		fixable := ""
		if c.Spec.Fix != nil {
			fixable = "yes"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", name, c.Spec.Severity, c.Spec.Topic, fixable, c.Spec.Title)
	}
}

func listBaselines(w io.Writer, l *baseline.Library) {
	_, _ = fmt.Fprintln(w, "BASELINE\tCONTROLS\tEXTENDS\tTITLE")
	for _, name := range l.Baselines() {
		b := l.Baseline(name)
		rules := 0
		if resolved, err := l.Resolve(name, baseline.Options{}); err == nil {
			rules = len(resolved.Rules)
		}
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", name, rules, strings.Join(b.Spec.Extends, ", "), b.Spec.Title)
	}
}

// policyInfo is what is told of a rule of a policy.
type policyInfo struct {
	Name        string          `json:"name"`
	Language    string          `json:"language"`
	Title       string          `json:"title"`
	Severity    string          `json:"severity"`
	Action      string          `json:"action"`
	Mutates     bool            `json:"mutates,omitempty"`
	Unsupported string          `json:"unsupported,omitempty"`
	Position    object.Position `json:"position"`
}

// policyInfos are all rules of policies, by name.
func policyInfos(l *baseline.Library) []policyInfo {
	var out []policyInfo
	add := func(i *policy.Info, mutates bool) {
		out = append(out, policyInfo{
			Name: i.Name, Language: string(i.Language), Title: i.Title, Severity: string(i.Severity), Action: string(i.Action),
			Mutates: mutates, Unsupported: i.Unsupported, Position: i.Position,
		})
	}
	for _, name := range l.Policies() {
		add(l.Policy(name).Info(), false)
	}
	for _, m := range l.Mutators() {
		add(m.Info(), true)
	}
	slices.SortStableFunc(out, func(a, b policyInfo) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func listPolicies(w io.Writer, l *baseline.Library) {
	_, _ = fmt.Fprintln(w, "RULE\tACTION\tSEVERITY\tRUNS\tTITLE")
	for _, p := range policyInfos(l) {
		runs := "yes"
		switch {
		case p.Unsupported != "":
			runs = "no: " + p.Unsupported
		case p.Mutates:
			p.Action = "mutate"
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.Name, p.Action, p.Severity, runs, p.Title)
	}
}

func emitPolicies(l *baseline.Library, emit func(any) error) error {
	for _, p := range policyInfos(l) {
		if err := emit(p); err != nil {
			return err
		}
	}
	return nil
}
