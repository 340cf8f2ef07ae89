// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clipperhouse/displaywidth"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/report"
	"sconce.dev/sconce/verdict"
)

// standards are two frameworks: one of which there is everything, with short
// IDs, and one with long ones.
func standards() []*verdict.Compliance {
	short := &v1alpha1.Framework{ObjectMeta: metav1.ObjectMeta{Name: "bench-2"}, Spec: v1alpha1.FrameworkSpec{Title: "Benchmark 2"}}
	add := func(assessment v1alpha1.Assessment, group string, ids ...string) {
		for _, id := range ids {
			short.Spec.Sections = append(short.Spec.Sections, v1alpha1.Section{ID: id, Title: "Section " + id + " asks for something that takes more words than one line of eighty columns has room for", Group: group, Assessment: assessment})
		}
	}
	add(v1alpha1.Automated, "1 Nodes", "1.1", "1.2", "1.3", "1.4")
	add(v1alpha1.Manual, "2 People", "2.1", "2.9", "2.10", "2.11", "2.13")
	add(v1alpha1.Automated, "3 Pods", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6")
	long := &v1alpha1.Framework{ObjectMeta: metav1.ObjectMeta{Name: "own"}, Spec: v1alpha1.FrameworkSpec{Title: "Our own rules", Sections: []v1alpha1.Section{
		{ID: "the-rules-of-the-house/what-nobody-may-do", Title: "Nobody does it"}, {ID: "the-rules-of-the-house/other", Title: "Nobody does the other thing"},
	}}}
	refs := map[string]v1alpha1.References{
		"host-network":         {"bench-2": {"2.1", "3.1"}, "own": {"the-rules-of-the-house/other"}},
		"host-pid":             {"bench-2": {"3.1", "3.2"}},
		"image-tag":            {"bench-2": {"1.4", "3.5"}},
		"left-out":             {"bench-2": {"3.2"}},
		"privileged-container": {"bench-2": {"2.9", "3.3", "3.4"}, "own": {"the-rules-of-the-house/what-nobody-may-do"}},
		"read-only-root":       {"bench-2": {"3.4"}},
		"run-as-non-root":      {"bench-2": {"3.5"}},
		"memory-limit":         {"bench-2": {"3.6"}},
	}
	var controls []*v1alpha1.Control
	for _, name := range []string{"host-network", "host-pid", "image-tag", "left-out", "privileged-container", "read-only-root", "run-as-non-root", "memory-limit"} {
		controls = append(controls, &v1alpha1.Control{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.ControlSpec{References: refs[name]}})
	}
	ran := func(name string) bool { return name != "left-out" }
	return []*verdict.Compliance{
		verdict.NewCompliance(short, controls, ran, complianceSummary().ByControl),
		verdict.NewCompliance(long, controls, ran, complianceSummary().ByControl),
	}
}

func complianceSummary() *verdict.Summary {
	s := richSummary()
	s.ByControl = map[string]verdict.Counts{
		"host-network": {Pass: 20}, "host-pid": {Pass: 20}, "memory-limit": {Pass: 18, Excepted: 2},
		"privileged-container": {Pass: 60, Fail: 15, Excepted: 1}, "read-only-root": {Pass: 2, Fail: 31}, "run-as-non-root": {Pass: 9, Unknown: 31},
	}
	return s
}

// complianceStream is a scan that was asked for reports on frameworks.
func complianceStream() []*verdict.Message {
	config := configMessage("deploy")
	config.Config.Compliance = []string{"bench-2", "own"}
	s := complianceSummary()
	s.Compliance = standards()
	out := append([]*verdict.Message{config}, controlMessages()...)
	return append(out, &verdict.Message{Finding: plainFindings()[0]}, &verdict.Message{Summary: s})
}

// TestComplianceStates: the sections of the stream are in the states that they
// are there to show.
func TestComplianceStates(t *testing.T) {
	want := map[string]verdict.SectionState{
		"1.1": verdict.SectionUncovered, "1.4": verdict.SectionNothing, "2.1": verdict.SectionConfirm, "2.9": verdict.SectionFailed,
		"2.10": verdict.SectionManual, "3.1": verdict.SectionPassed, "3.2": verdict.SectionSkipped, "3.5": verdict.SectionUnknown, "3.6": verdict.SectionPassed,
	}
	for _, s := range standards()[0].Sections {
		if state := want[s.ID]; state != "" && s.State != state {
			t.Errorf("%s: %s, want %s", s.ID, s.State, state)
		}
	}
}

// TestComplianceWidth: rows are broken so that nothing is wider than asked for.
func TestComplianceWidth(t *testing.T) {
	for _, width := range []int{72, 80, 120} {
		for line := range strings.Lines(string(write(t, "table", report.Options{Width: width}, complianceStream()))) {
			line = strings.TrimSuffix(line, "\n")
			if w := displaywidth.String(line); w > width {
				t.Errorf("%d columns of %d: %s", w, width, line)
			}
			if strings.TrimRight(line, " ") != line {
				t.Errorf("blanks at the end: %q", line)
			}
		}
	}
}

// TestComplianceBound: frameworks of any size leave room for findings in a
// comment, and what is not listed is counted.
func TestComplianceBound(t *testing.T) {
	f := &v1alpha1.Framework{ObjectMeta: metav1.ObjectMeta{Name: "f"}, Spec: v1alpha1.FrameworkSpec{Title: "F"}}
	c := &v1alpha1.Control{ObjectMeta: metav1.ObjectMeta{Name: "privileged-container"}, Spec: v1alpha1.ControlSpec{References: v1alpha1.References{}}}
	for i := range 9000 {
		id := fmt.Sprintf("%d-x", i)
		f.Spec.Sections = append(f.Spec.Sections, v1alpha1.Section{ID: id, Title: strings.Repeat("words ", 20)})
		if i%2 == 0 {
			c.Spec.References["f"] = append(c.Spec.References["f"], id)
		}
	}
	messages := append([]*verdict.Message{configMessage("deploy")}, manyFindings(300)...)
	s := complianceSummary()
	s.Compliance = []*verdict.Compliance{verdict.NewCompliance(f, []*v1alpha1.Control{c}, func(string) bool { return true }, s.ByControl)}
	out := string(write(t, "markdown", report.Options{}, append(messages, &verdict.Message{Summary: s})))
	if len(out) > 65000 || strings.Count(out, "<br><code>") < 50 {
		t.Errorf("%d bytes, %d findings", len(out), strings.Count(out, "<br><code>"))
	}
	var more int
	if _, rest, ok := strings.Cut(out, "\nAnd "); ok {
		_, _ = fmt.Sscanf(rest, "%d more sections", &more)
	}
	if listed := strings.Count(out, "| **failed** |"); listed == 0 || listed+more != 4500 {
		t.Errorf("%d listed and %d more, want 4500", listed, more)
	}
	if !strings.Contains(out, "- 4500 not covered\n") {
		t.Error("the count of those that are not covered is missing")
	}
}
