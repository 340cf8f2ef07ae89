// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sconce.dev/sconce/api/v1alpha1"
)

// framework makes a framework of one section for each name and a control
// that meets it, named like it.
func framework(assessment v1alpha1.Assessment, ids ...string) (*v1alpha1.Framework, []*v1alpha1.Control) {
	f := &v1alpha1.Framework{ObjectMeta: metav1.ObjectMeta{Name: "f"}, Spec: v1alpha1.FrameworkSpec{Title: "F"}}
	var controls []*v1alpha1.Control
	for _, id := range ids {
		f.Spec.Sections = append(f.Spec.Sections, v1alpha1.Section{ID: id, Title: id, Assessment: assessment})
		controls = append(controls, &v1alpha1.Control{
			ObjectMeta: metav1.ObjectMeta{Name: id},
			Spec:       v1alpha1.ControlSpec{References: v1alpha1.References{"f": {id, id}, "other": {id}}},
		})
	}
	return f, controls
}

func TestSectionStates(t *testing.T) {
	for _, c := range []struct {
		counts            Counts
		automated, manual SectionState
		skipped           SectionState // automated, and a further control was not run
	}{
		{Counts{}, SectionNothing, SectionManual, SectionSkipped},
		{Counts{Pass: 3}, SectionPassed, SectionConfirm, SectionSkipped},
		{Counts{Excepted: 1}, SectionPassed, SectionConfirm, SectionSkipped},
		{Counts{Pass: 3, Unknown: 1}, SectionUnknown, SectionUnknown, SectionUnknown},
		{Counts{Pass: 3, Unknown: 1, Fail: 1}, SectionFailed, SectionFailed, SectionFailed},
	} {
		counts := map[string]Counts{"a": c.counts}
		ran := func(name string) bool { return name == "a" }
		for assessment, want := range map[v1alpha1.Assessment]SectionState{"": c.automated, v1alpha1.Automated: c.automated, v1alpha1.Manual: c.manual} {
			f, controls := framework(assessment, "a")
			got := NewCompliance(f, controls, ran, counts).Sections[0]
			if got.State != want || got.Verdicts != c.counts {
				t.Errorf("%+v, assessment %q: %s of %+v, want %s", c.counts, assessment, got.State, got.Verdicts, want)
			}
		}
		f, controls := framework("", "a")
		controls = append(controls, &v1alpha1.Control{
			ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: v1alpha1.ControlSpec{References: v1alpha1.References{"f": {"a", "gone"}}},
		})
		got := NewCompliance(f, controls, ran, counts).Sections[0]
		if got.State != c.skipped || len(got.Skipped) != 1 {
			t.Errorf("%+v, one skipped: %s, want %s", c.counts, got.State, c.skipped)
		}
	}
	f, _ := framework("", "a")
	if got := NewCompliance(f, nil, nil, nil).Sections[0].State; got != SectionUncovered {
		t.Errorf("without controls: %s", got)
	}
}

// TestSectionScore: what is unknown is never a pass, and what was not judged
// changes nothing.
func TestSectionScore(t *testing.T) {
	pass, fail, unknown := Counts{Pass: 1}, Counts{Fail: 1}, Counts{Unknown: 1}
	for _, c := range []struct {
		counts map[string]Counts
		want   SectionScore
	}{
		{nil, SectionScore{0, 100, 0}},
		{map[string]Counts{"a": pass}, SectionScore{100, 100, 1}},
		{map[string]Counts{"a": fail}, SectionScore{0, 0, 1}},
		{map[string]Counts{"a": unknown}, SectionScore{0, 100, 1}},
		{map[string]Counts{"a": pass, "b": fail, "c": unknown}, SectionScore{33, 67, 3}},
		{map[string]Counts{"a": pass, "b": pass, "c": fail}, SectionScore{66, 67, 3}},
	} {
		f, controls := framework("", "a", "b", "c", "d")
		got := NewCompliance(f, controls, func(string) bool { return true }, c.counts)
		if got.Score != c.want {
			t.Errorf("%v: %+v, want %+v", c.counts, got.Score, c.want)
		}
	}
	f, controls := framework(v1alpha1.Manual, "a", "b")
	got := NewCompliance(f, controls, func(string) bool { return true }, map[string]Counts{"a": pass})
	if want := (SectionScore{0, 100, 1}); got.Score != want {
		t.Errorf("to be confirmed: %+v, want %+v", got.Score, want)
	}
	if want := (Coverage{Manual: Share{2, 2}}); got.Coverage() != want {
		t.Errorf("%+v, want %+v", got.Coverage(), want)
	}
	f, controls = framework("", "a", "b")
	got = NewCompliance(f, controls[:1], func(string) bool { return false }, nil)
	if want := (SectionScore{0, 100, 1}); got.Score != want {
		t.Errorf("skipped: %+v, want %+v", got.Score, want)
	}
	if want := (Coverage{Automated: Share{1, 2}}); got.Coverage() != want {
		t.Errorf("%+v, want %+v", got.Coverage(), want)
	}
}

// TestUnread holds that no section passes where something could not be read.
func TestUnread(t *testing.T) {
	f := &v1alpha1.Framework{Spec: v1alpha1.FrameworkSpec{Sections: []v1alpha1.Section{{ID: "1", Title: "t"}}}}
	f.Name = "f"
	control := &v1alpha1.Control{Spec: v1alpha1.ControlSpec{References: v1alpha1.References{"f": {"1"}}}}
	control.Name = "a"
	c := NewCompliance(f, []*v1alpha1.Control{control}, func(string) bool { return true }, map[string]Counts{"a": {Pass: 1}})
	if c.Sections[0].State != SectionPassed || c.Score.Low != 100 {
		t.Fatalf("%+v", c)
	}
	if c.Unread(); c.Sections[0].State != SectionUnknown || c.Score.Low != 0 || c.Score.High != 100 {
		t.Errorf("%+v", c)
	}
}
