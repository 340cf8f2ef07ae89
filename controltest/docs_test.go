// SPDX-License-Identifier: Apache-2.0

package controltest

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
)

var update = flag.Bool("update", false, "rewrite the documentation of the catalogue")

const docsDir = "../docs/controls"

// TestDocs holds the pages of the catalogue against what they are made from: a
// page for each control, and an index. With -update it writes them.
func TestDocs(t *testing.T) {
	l := library(t)
	pages := map[string][]byte{"README.md": index(l)}
	for _, name := range l.Controls() {
		_, fixture, err := catalog.Fixture(l.File(name))
		if err != nil {
			t.Fatal(err)
		}
		pages[name+".md"] = page(l.Control(name), fixture, l.FrameworkTitles())
	}
	if *update {
		if err := os.MkdirAll(docsDir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range pages {
		file := filepath.Join(docsDir, name)
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is stale; make generate rewrites it", file)
		}
	}
	entries, err := os.ReadDir(docsDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if pages[e.Name()] != nil {
			continue
		}
		if *update {
			if err := os.Remove(filepath.Join(docsDir, e.Name())); err != nil {
				t.Fatal(err)
			}
			continue
		}
		t.Errorf("%s/%s describes no control; make generate removes it", docsDir, e.Name())
	}
}

// generated stands at the top of every page.
const generated = "<!-- Written by `make generate` from the control and its fixture; do not edit. -->\n\n"

const baselinesFile = "../docs/baselines.md"

// TestBaselineDocs holds the page of the baselines against what it is made
// from. With -update it writes it.
func TestBaselineDocs(t *testing.T) {
	want := baselinesPage(t, library(t))
	if *update {
		if err := os.WriteFile(baselinesFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(baselinesFile); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is stale; make generate rewrites it", baselinesFile)
	}
}

// baselinesPage says what each baseline turns on, and why.
func baselinesPage(t *testing.T, l *baseline.Library) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p(generated + "# The baselines\n\nA baseline is a set of controls with parameters, severities and actions; `sconce scan -b NAME` runs it. Yours may extend these.\n")
	for _, name := range l.Baselines() {
		resolved, err := l.Resolve(name, baseline.Options{})
		if err != nil {
			t.Fatal(err)
		}
		spec := &l.Baseline(name).Spec
		p("\n## %s\n\n%s. %s\n\n", name, spec.Title, strings.TrimSpace(spec.Description))
		if len(spec.Extends) > 0 {
			p("It extends %s.\n\n", strings.Join(spec.Extends, ", "))
		}
		if spec.ForbidInlineExceptions {
			p("No object may excuse itself by an annotation.\n\n")
		}
		byTopic := map[string][]string{}
		for _, r := range resolved.Rules {
			byTopic[r.Spec.Topic] = append(byTopic[r.Spec.Topic], fmt.Sprintf("[%s](controls/%s.md)", r.Name, r.Name))
		}
		p("<details><summary>%d controls</summary>\n\n", len(resolved.Rules))
		for _, topic := range slices.Sorted(maps.Keys(byTopic)) {
			slices.Sort(byTopic[topic])
			p("- %s (%d): %s\n", topic, len(byTopic[topic]), strings.Join(byTopic[topic], ", "))
		}
		p("\n</details>\n")
		var chosen []string
		for _, s := range spec.Controls {
			if s.Name == "" {
				continue
			}
			what := "on"
			if s.Disabled {
				what = "off"
			}
			for _, param := range slices.Sorted(maps.Keys(s.Parameters)) {
				what += fmt.Sprintf(", %s: `%s`", param, s.Parameters[param].RawMessage)
			}
			chosen = append(chosen, fmt.Sprintf("| %s | %s | %s |\n", s.Name, what, s.Reason))
		}
		if len(chosen) > 0 {
			p("\n| control | | why |\n|---|---|---|\n%s", strings.Join(chosen, ""))
		}
	}
	return b.Bytes()
}

// index lists the controls by topic, and what the baselines turn on.
func index(l *baseline.Library) []byte {
	var b bytes.Buffer
	b.WriteString(generated + "# The catalogue\n\n")
	byTopic := map[string][]string{}
	for _, name := range l.Controls() {
		topic := l.Control(name).Spec.Topic
		byTopic[topic] = append(byTopic[topic], name)
	}
	fmt.Fprintf(&b, "%d controls. A baseline chooses among them:\n\n| baseline | controls | |\n|---|---|---|\n", len(l.Controls()))
	for _, name := range l.Baselines() {
		resolved, err := l.Resolve(name, baseline.Options{})
		if err != nil {
			continue
		}
		fmt.Fprintf(&b, "| `%s` | %d | %s |\n", name, len(resolved.Rules), resolved.Title)
	}
	for _, topic := range slices.Sorted(maps.Keys(byTopic)) {
		fmt.Fprintf(&b, "\n## %s\n\n| control | severity | fix | |\n|---|---|---|---|\n", topic)
		for _, name := range byTopic[topic] {
			spec := &l.Control(name).Spec
			fix := ""
			if spec.Fix != nil {
				fix = "yes"
			}
			fmt.Fprintf(&b, "| [%s](%s.md) | %s | %s | %s |\n", name, name, spec.Severity, fix, spec.Title)
		}
	}
	return b.Bytes()
}

// page is the page of one control.
func page(c *v1alpha1.Control, fixture []byte, frameworks map[string]string) []byte {
	var b bytes.Buffer
	s := &c.Spec
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("%s# %s\n\n**%s**\n\n", generated, c.Name, s.Title)
	p("%s severity · topic [%s](README.md#%s) · %s / %s\n\n", s.Severity, s.Topic, s.Topic, s.Layer, s.Phase)
	p("## Why\n\n%s\n\n## What to do\n\n%s\n\n", s.Description, s.Remediation)
	if s.Fix != nil {
		p("`sconce fix` makes this edit:\n\n")
		for _, line := range s.Fix.Steps() {
			p("- %s\n", line)
		}
		p("\n")
		if s.Fix.Note != "" {
			p("Before it is applied: %s.\n\n", strings.TrimSuffix(s.Fix.Note, "."))
		}
	}
	p("## What is judged\n\n%s\n\n", subject(s))
	for _, v := range s.Variables {
		p("`variables.%s` is\n\n```cel\n%s\n```\n\n", v.Name, strings.TrimSpace(v.Expression))
	}
	if s.When != "" {
		p("Only where this holds:\n\n```cel\n%s\n```\n\n", strings.TrimSpace(s.When))
	}
	p("It passes when\n\n```cel\n%s\n```\n\n", strings.TrimSpace(s.Require))
	for _, v := range s.Versions {
		p("For clusters before Kubernetes %s it passes when\n\n```cel\n%s\n```\n\n", v.Before, strings.TrimSpace(v.Require))
	}
	if len(s.Parameters) > 0 {
		p("| parameter | type | default | |\n|---|---|---|---|\n")
		for _, param := range s.Parameters {
			p("| `%s` | %s | `%s` | %s |\n", param.Name, param.Type, param.Default.RawMessage, param.Description)
		}
		p("\n")
	}
	if refs := s.References.Standards(frameworks); len(refs) > 0 {
		p("## References\n\n")
		for _, r := range refs {
			p("- %s: %s\n", r.Title, strings.Join(r.Sections, ", "))
		}
		p("\n")
	}
	p("## Examples\n\nFrom the control's fixture: `# want` marks the lines that are found.\n\n```yaml\n%s```\n", bytes.TrimPrefix(fixture, []byte("\xef\xbb\xbf")))
	return b.Bytes()
}

// subject says what the control goes through.
func subject(s *v1alpha1.ControlSpec) string {
	var what []string
	if s.Match.Pods {
		what = append(what, "pods and everything that holds a pod template")
	}
	for _, k := range s.Match.Kinds {
		name := k.Kind
		if k.Group != "" {
			name += "." + k.Group
		}
		what = append(what, "`"+name+"`")
	}
	out := strings.Join(what, ", ")
	if s.ForEach != "" {
		out += "; each of `" + s.ForEach + "`"
	}
	return strings.ToUpper(out[:1]) + out[1:] + "."
}
