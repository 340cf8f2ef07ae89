// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/baseline"
)

func newList(s Streams) *cobra.Command {
	var config []string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List controls, baselines or frameworks",
		Example: `  sconce list controls
  sconce list baselines
  sconce list frameworks
  sconce list controls -o json | jq -r .metadata.name`,
	}
	cmd.PersistentFlags().StringArrayVarP(&config, "config", "c", nil, configUsage)
	var format string
	cmd.PersistentFlags().StringVarP(&format, "output", "o", "table", "format: table or json")
	list := func(what string, table func(io.Writer, *baseline.Library), each func(*baseline.Library, func(any) error) error) *cobra.Command {
		return &cobra.Command{
			Use: what, Short: "List " + what, Args: cobra.NoArgs,
			RunE: func(*cobra.Command, []string) error {
				if format != "table" && format != "json" {
					return fmt.Errorf("unknown output %q; want table or json", format)
				}
				l, err := loadLibrary(config, time.Time{})
				if err != nil {
					return err
				}
				if format == "json" {
					enc := json.NewEncoder(s.Out)
					return each(l, enc.Encode)
				}
				w := tabwriter.NewWriter(s.Out, 0, 8, 2, ' ', 0)
				table(w, l)
				return w.Flush()
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
	)
	return cmd
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
