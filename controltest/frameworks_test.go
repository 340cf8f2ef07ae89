// SPDX-License-Identifier: Apache-2.0

package controltest

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"k8s.io/pod-security-admission/policy"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/verdict"
)

// frameworkReport is a framework with the controls that meet its sections.
func frameworkReport(l *baseline.Library, name string) *verdict.Compliance {
	var controls []*v1alpha1.Control
	for _, c := range l.Controls() {
		controls = append(controls, l.Control(c))
	}
	return verdict.NewCompliance(l.Framework(name), controls, func(string) bool { return true }, nil)
}

// TestReferences holds that every section that a control names is there: what
// comes with the program is not checked when it starts.
func TestReferences(t *testing.T) {
	l := library(t)
	for _, name := range l.Controls() {
		for framework, ids := range l.Control(name).Spec.References {
			f := l.Framework(framework)
			if f == nil {
				t.Errorf("%s refers to the framework %s, which is not there", name, framework)
				continue
			}
			for i, id := range ids {
				if !slices.ContainsFunc(f.Spec.Sections, func(s v1alpha1.Section) bool { return s.ID == id }) {
					t.Errorf("%s refers to section %s of %s, which is not there", name, id, framework)
				}
				if slices.Contains(ids[:i], id) {
					t.Errorf("%s refers to section %s of %s twice", name, id, framework)
				}
			}
			if len(ids) == 0 {
				t.Errorf("%s refers to no section of %s", name, framework)
			}
		}
	}
}

// TestFrameworks holds the built-in frameworks against what is asked of anyone's,
// and more.
func TestFrameworks(t *testing.T) {
	l := library(t)
	for _, name := range l.Frameworks() {
		spec := &l.Framework(name).Spec
		data, err := os.ReadFile("../catalog/frameworks/" + name + ".yaml")
		if err != nil {
			t.Error(err)
			continue
		}
		own := baseline.NewLibrary()
		if err := own.Read(name+".yaml", data); err != nil {
			t.Error(err)
		}
		if f := own.Framework(name); f == nil || len(f.Spec.Sections) != len(spec.Sections) {
			t.Errorf("%s is not what its file says", name)
		}
		if spec.Description == "" || !strings.HasPrefix(spec.Source, "https://") {
			t.Errorf("%s needs a description and a source", name)
		}
		ids, titles, groups := map[string]bool{}, map[string]bool{}, map[string]bool{}
		last := ""
		for _, s := range spec.Sections {
			if ids[s.ID] || titles[s.Title] {
				t.Errorf("%s: section %s or its title %q is there twice", name, s.ID, s.Title)
			}
			ids[s.ID], titles[s.Title] = true, true
			if s.Group == "" || s.Group != last && groups[s.Group] {
				t.Errorf("%s: section %s stands apart from its group %q", name, s.ID, s.Group)
			}
			groups[s.Group], last = true, s.Group
			if len(s.Title) > 100 || strings.HasSuffix(s.Title, ".") || strings.HasPrefix(s.Title, "Ensure") || strings.HasPrefix(s.Title, "Minimize") {
				t.Errorf("%s: section %s: a title is a fact in our own words, in one line: %q", name, s.ID, s.Title)
			}
		}
	}
}

// TestPodSecuritySections holds that the sections of pss are the checks of the
// API server's admission.
func TestPodSecuritySections(t *testing.T) {
	var want, got []string
	for _, c := range policy.DefaultChecks() {
		want = append(want, string(c.Level)+"/"+string(c.ID))
	}
	for _, s := range library(t).Framework("pss").Spec.Sections {
		got = append(got, s.ID)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("sections %v, want %v", got, want)
	}
}

// TestSameSections holds that both versions of the CIS benchmark have the same
// sections, and that controls refer to them alike.
func TestSameSections(t *testing.T) {
	l := library(t)
	older, newer := l.Framework("cis-1.12").Spec.Sections, l.Framework("cis-2.0.1").Spec.Sections
	if !slices.Equal(older, newer) {
		t.Error("cis-2.0.1 has other sections than cis-1.12")
	}
	for _, name := range l.Controls() {
		refs := l.Control(name).Spec.References
		if !slices.Equal(refs["cis-1.12"], refs["cis-2.0.1"]) {
			t.Errorf("%s refers to %v of cis-1.12 and to %v of cis-2.0.1; the sections are the same", name, refs["cis-1.12"], refs["cis-2.0.1"])
		}
	}
}

const (
	coverageFile  = "testdata/coverage.txt"
	frameworksDoc = "../docs/frameworks.md"
)

// TestDocsCoverage keeps the coverage of frameworks from shrinking unnoticed:
// where it grows, -update writes it down; where it shrinks, a person does, by
// hand.
func TestDocsCoverage(t *testing.T) {
	l := library(t)
	const head = "# How many sections of each framework some control meets. `make generate` raises a number;\n# whoever lowers one edits it here.\n"
	data, err := os.ReadFile(coverageFile)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]int{}
	for line := range strings.Lines(string(data)) {
		var name string
		var n int
		if _, err := fmt.Sscanf(line, "%s %d", &name, &n); err == nil {
			kept[name] = n
		}
	}
	var b bytes.Buffer
	b.WriteString(head)
	for _, name := range l.Frameworks() {
		c := frameworkReport(l, name).Coverage()
		n := c.Automated.Covered + c.Manual.Covered
		switch {
		case n < kept[name]:
			t.Errorf("controls meet %d sections of %s; it was %d. If that is meant, write the number into controltest/%s", n, name, kept[name], coverageFile)
		case n > kept[name] && !*update:
			t.Errorf("controls meet %d sections of %s, more than the %d in controltest/%s; make generate raises it", n, name, kept[name], coverageFile)
		}
		fmt.Fprintf(&b, "%s %d\n", name, max(n, kept[name]))
		delete(kept, name)
	}
	for name := range kept {
		t.Errorf("the framework %s is gone; take it out of controltest/%s", name, coverageFile)
	}
	if *update {
		if err := os.WriteFile(coverageFile, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDocsFrameworks holds the page of the frameworks against what it is made
// from. With -update it writes it.
func TestDocsFrameworks(t *testing.T) {
	want := frameworksPage(library(t))
	if *update {
		if err := os.WriteFile(frameworksDoc, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(frameworksDoc); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is stale; make generate rewrites it", frameworksDoc)
	}
}

// frameworksPage says of every framework which sections controls meet.
func frameworksPage(l *baseline.Library) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("<!-- Written by `make generate` from the frameworks and the controls that refer to them; do not edit. -->\n\n")
	p("# Frameworks\n\n")
	p("%s\n", frameworksIntroduction)
	p("| framework | automated, covered | manual, covered | |\n|---|--:|--:|---|\n")
	for _, name := range l.Frameworks() {
		c := frameworkReport(l, name).Coverage()
		p("| [%s](#%s) | %s | %s | %s |\n", name, anchor(name), shareText(c.Automated), shareText(c.Manual), l.Framework(name).Spec.Title)
	}
	for _, name := range l.Frameworks() {
		frameworkSection(p, l.Framework(name), frameworkReport(l, name))
	}
	return b.Bytes()
}

const frameworksIntroduction = `A framework is a published standard: a list of sections, with titles in our own words. A control names the sections that it meets.

    sconce scan --framework nsa-1.2 deploy/

runs the controls that refer to the framework, prints their findings, and says of each section what was found out:

| | |
|---|---|
| failed | a control failed |
| unknown | a control could not be decided |
| confirm | the controls pass, and the section is manual: the rest takes a person |
| skipped | controls that meet the section were left out of the scan |
| passed | the controls judged something and pass |
| manual | a person must answer, and no control judged anything |
| nothing to judge | there are controls, and nothing that they are about |
| not covered | no control meets the section |

The score is about the first five: at least those that passed, at most all but those that failed. With ` + "`--baseline`, `--control` or `--skip`" + ` only what
these leave on is run, with the settings of the baseline; the other sections are skipped, which is no pass.

*Automated* sections can be answered by a program. *Manual* ones need a person, be it that the standard says so, or that it asks for
more than settings. A section is covered if some control refers to it; the controls need not answer all of it.

A team's own standard is a document of kind Framework in ` + "`.sconce/`" + `, and its controls refer to it.
`

// anchor is what a host makes of a heading.
func anchor(heading string) string { return strings.ReplaceAll(heading, ".", "") }

func shareText(s verdict.Share) string {
	if s.Of == 0 {
		return "-"
	}
	return fmt.Sprintf("%d of %d", s.Covered, s.Of)
}

func frameworkSection(p func(string, ...any), f *v1alpha1.Framework, c *verdict.Compliance) {
	p("\n## %s\n\n**%s**\n\n%s\n\n", f.Name, f.Spec.Title, strings.TrimSpace(f.Spec.Description))
	published := ""
	if f.Spec.Published != "" {
		published = ", published " + f.Spec.Published
	}
	p("Source: <%s>%s.\n", f.Spec.Source, published)
	open := map[v1alpha1.Assessment][]string{}
	group := ""
	for i := range c.Sections {
		s := &c.Sections[i]
		if len(s.Controls) == 0 {
			open[s.Assessment] = append(open[s.Assessment], s.ID)
			continue
		}
		if s.Group != group {
			group = s.Group
			p("\n%s\n\n| section | | controls |\n|---|---|---|\n", s.Group)
		}
		title := s.Title
		if s.Assessment == v1alpha1.Manual && c.Coverage().Automated.Of > 0 {
			title += " *(manual)*"
		}
		p("| %s | %s | %s |\n", s.ID, title, controlLinks(s.Controls))
	}
	for _, assessment := range slices.Sorted(maps.Keys(open)) {
		p("\nNo control yet, %s: %s.\n", assessment, strings.Join(open[assessment], ", "))
	}
}

// maxLinks is how many controls a row of the page names.
const maxLinks = 12

func controlLinks(names []string) string {
	var links []string
	for _, name := range names[:min(len(names), maxLinks)] {
		links = append(links, fmt.Sprintf("[%s](controls/%s.md)", name, name))
	}
	if more := len(names) - maxLinks; more > 0 {
		links = append(links, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(links, ", ")
}
