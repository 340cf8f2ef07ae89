// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/verdict"
)

// frameworkFlags ask for reports on frameworks.
type frameworkFlags struct {
	frameworks []string
	library    *baseline.Library // once it is known
}

func (f *frameworkFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.frameworks, "framework", nil, "report on these frameworks, section by section: run the controls that refer to them, or with --baseline or --control those of these that do; sconce list frameworks shows them")
	_ = cmd.RegisterFlagCompletionFunc("framework", completeFrom((*baseline.Library).Frameworks))
}

// narrow leaves only the controls on that refer to the frameworks. Where
// controls were chosen otherwise too, they must be among those.
func (f *frameworkFlags) narrow(cmd *cobra.Command, l *baseline.Library, name string, opts *baseline.Options) error {
	if !cmd.Flags().Changed("framework") {
		return nil
	}
	f.library = l
	if len(f.frameworks) == 0 {
		return fmt.Errorf("--framework names no framework; %s", nearFrameworks(l, ""))
	}
	among, of := l.Controls(), ""
	if cmd.Flags().Changed("baseline") || len(opts.Only) > 0 {
		b, err := l.Resolve(name, *opts)
		if err != nil {
			return err
		}
		among, of = nil, " that was chosen"
		for _, rule := range b.Rules {
			among = append(among, rule.Name)
		}
	}
	var only []string
	for _, framework := range f.frameworks {
		if l.Framework(framework) == nil {
			return fmt.Errorf("unknown framework %q; %s", framework, nearFrameworks(l, framework))
		}
		before := len(only)
		for _, control := range among {
			if c := l.Control(control); c != nil && c.Spec.References.Meets(framework) {
				only = append(only, control)
			}
		}
		if len(only) == before {
			return fmt.Errorf("no control%s refers to the framework %s: there is nothing to report", of, framework)
		}
	}
	slices.Sort(only)
	opts.Only = slices.Compact(only)
	return nil
}

// nearFrameworks says which frameworks were probably meant, or all there are.
func nearFrameworks(l *baseline.Library, typed string) string {
	typed = strings.ToLower(typed)
	for _, near := range []func(name string) bool{
		func(name string) bool {
			family, _, _ := strings.Cut(name, "-")
			return strings.HasPrefix(typed, family) || len(typed) > 2 && strings.Contains(name, typed)
		},
		func(name string) bool {
			return len(typed) > 2 && strings.Contains(strings.ToLower(l.Framework(name).Spec.Title), typed)
		},
	} {
		names := slices.DeleteFunc(l.Frameworks(), func(name string) bool { return !near(name) })
		if len(names) > 0 {
			return "did you mean " + strings.Join(names, " or ") + "?"
		}
	}
	return "want " + strings.Join(l.Frameworks(), ", ")
}

// report says what a scan found out about each framework.
func (f *frameworkFlags) report(b *baseline.Baseline, s *verdict.Summary) {
	if len(f.frameworks) == 0 {
		return
	}
	ran := map[string]bool{}
	for _, rule := range b.Rules {
		ran[rule.Name] = true
	}
	for i, name := range f.frameworks {
		if !slices.Contains(f.frameworks[:i], name) {
			c := compliance(f.library, name, func(control string) bool { return ran[control] }, s.ByControl)
			if s.Problems > 0 {
				c.Unread()
			}
			s.Compliance = append(s.Compliance, c)
		}
	}
}

func compliance(l *baseline.Library, framework string, ran func(string) bool, counts map[string]verdict.Counts) *verdict.Compliance {
	var controls []*v1alpha1.Control
	for _, name := range l.Controls() {
		controls = append(controls, l.Control(name))
	}
	return verdict.NewCompliance(l.Framework(framework), controls, ran, counts)
}

// coverage says how much of a framework controls meet.
func coverage(l *baseline.Library, framework string) verdict.Coverage {
	return compliance(l, framework, func(string) bool { return true }, nil).Coverage()
}

func listFrameworks(w io.Writer, l *baseline.Library) {
	_, _ = fmt.Fprintln(w, "FRAMEWORK\tSECTIONS\tAUTOMATED, COVERED\tMANUAL, COVERED\tTITLE")
	for _, name := range l.Frameworks() {
		f, c := l.Framework(name), coverage(l, name)
		_, _ = fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\n", name, len(f.Spec.Sections), shareText(c.Automated), shareText(c.Manual), f.Spec.Title)
	}
}

func shareText(s verdict.Share) string {
	if s.Of == 0 {
		return "-"
	}
	return fmt.Sprintf("%d of %d", s.Covered, s.Of)
}

// listedFramework is a framework as list prints it for programs.
type listedFramework struct {
	*v1alpha1.Framework
	Coverage verdict.Coverage `json:"coverage"`
}

func emitFrameworks(l *baseline.Library, emit func(any) error) error {
	for _, name := range l.Frameworks() {
		if err := emit(listedFramework{l.Framework(name), coverage(l, name)}); err != nil {
			return err
		}
	}
	return nil
}
