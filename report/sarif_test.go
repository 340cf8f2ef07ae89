// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/report"
	"sconce.dev/sconce/verdict"
)

func sarifSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open("testdata/sarif-schema-2.1.0.json")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("sarif.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestSARIFSchema(t *testing.T) {
	schema := sarifSchema(t)
	for name, messages := range streams() {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(write(t, "sarif", report.Options{}, messages)))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// sarifLog is what the tests below read of a log.
type sarifLog struct {
	Runs []struct {
		Tool struct {
			Driver struct{ Rules []struct{ ID string } }
		}
		Results []struct {
			RuleID, Kind, Level string
			RuleIndex           *int
			Message             struct{ Text string }
			Suppressions        *[]struct{ Justification string }
			PartialFingerprints map[string]string
			Locations           []struct {
				PhysicalLocation *struct {
					ArtifactLocation struct{ URI, URIBaseID string }
					Region           *sarifRegion
				}
			}
			Fixes []struct {
				ArtifactChanges []struct {
					Replacements []struct {
						DeletedRegion   sarifRegion
						InsertedContent struct{ Text string }
					}
				}
			}
		}
	}
}

type sarifRegion struct{ StartLine, StartColumn, EndLine, EndColumn int }

func readSARIF(t *testing.T, messages []*verdict.Message) sarifLog {
	t.Helper()
	var log sarifLog
	if err := json.Unmarshal(write(t, "sarif", report.Options{}, messages), &log); err != nil {
		t.Fatal(err)
	}
	return log
}

func findingsOf(messages []*verdict.Message) []*verdict.Finding {
	var out []*verdict.Finding
	for _, m := range messages {
		if m.Finding != nil {
			out = append(out, m.Finding)
		}
	}
	return out
}

// TestSARIFResults holds each result against the finding that it was made of,
// by what code hosts and the standard ask for.
func TestSARIFResults(t *testing.T) {
	messages := richStream()
	run := readSARIF(t, messages).Runs[0]
	findings := findingsOf(messages)
	if len(run.Results) != len(findings) {
		t.Fatalf("%d results of %d findings", len(run.Results), len(findings))
	}
	for i, r := range run.Results {
		f := findings[i]
		if r.RuleIndex == nil || run.Tool.Driver.Rules[*r.RuleIndex].ID != f.Control || r.RuleID != f.Control {
			t.Errorf("%d: rule %q at %v, want %q", i, r.RuleID, r.RuleIndex, f.Control)
		}
		if r.Message.Text == "" || r.PartialFingerprints["sconce/v1"] != f.Fingerprint {
			t.Errorf("%d: message %q, fingerprints %v", i, r.Message.Text, r.PartialFingerprints)
		}
		unknown := f.Outcome == verdict.Unknown
		if (r.Kind == "open") != unknown || (r.Level == "none") != unknown || !unknown && r.Kind != "fail" {
			t.Errorf("%d: %s is kind %q, level %q", i, f.Outcome, r.Kind, r.Level)
		}
		if r.Suppressions == nil || (len(*r.Suppressions) > 0) != (f.Excepted != nil) {
			t.Errorf("%d: suppressions %v of %v", i, r.Suppressions, f.Excepted)
		}
		place := r.Locations[0].PhysicalLocation
		if (place == nil) != (f.Position.File == "") {
			t.Fatalf("%d: location %v of %v", i, place, f.Position)
		}
		if place == nil {
			continue
		}
		if (place.Region == nil) != (f.Position.Line == 0) {
			t.Errorf("%d: region %v of line %d", i, place.Region, f.Position.Line)
		}
		u, err := url.Parse(place.ArtifactLocation.URI)
		if err != nil || u.Path != f.Position.File || u.IsAbs() || place.ArtifactLocation.URIBaseID != "%SRCROOT%" {
			t.Errorf("%d: address %+v of %q: %v", i, place.ArtifactLocation, f.Position.File, err)
		}
	}
}

// TestSARIFFixes makes the edits of the fixes and compares with the diff.
func TestSARIFFixes(t *testing.T) {
	messages := richStream()
	findings := findingsOf(messages)
	n := 0
	for i, r := range readSARIF(t, messages).Runs[0].Results {
		for _, fix := range r.Fixes {
			n++
			f := findings[i]
			edit := fix.ArtifactChanges[0].Replacements[0]
			was := []rune(f.Position.Quote)
			is := string(was[:edit.DeletedRegion.StartColumn-1]) + edit.InsertedContent.Text + string(was[edit.DeletedRegion.EndColumn-1:])
			if edit.DeletedRegion.StartLine != f.Position.Line || edit.DeletedRegion.EndLine != f.Position.Line || "+"+is != f.Fix.Diff[1] {
				t.Errorf("%d: %+v makes %q, want %q", i, edit, is, f.Fix.Diff[1])
			}
			if edit.InsertedContent.Text != "false" {
				t.Errorf("%d: inserts %q, want false", i, edit.InsertedContent.Text)
			}
		}
	}
	if n != 2 {
		t.Errorf("%d fixes, want 2", n)
	}
}

// TestSARIFNoFix: where the region is not known exactly there is no fix.
func TestSARIFNoFix(t *testing.T) {
	for name, change := range map[string]func(*verdict.Finding){
		"not proven":    func(f *verdict.Finding) { f.Fix.Proven = false },
		"refused":       func(f *verdict.Finding) { f.Fix.Refused = "no" },
		"other line":    func(f *verdict.Finding) { f.Position.Quote += " # x" },
		"masked before": func(f *verdict.Finding) { f.Position.QuoteColumn-- },
		"other field":   func(f *verdict.Finding) { f.Fix.Edits[0].Path = "spec.other" },
		"two edits":     func(f *verdict.Finding) { f.Fix.Edits = append(f.Fix.Edits, f.Fix.Edits[0]) },
		"missing":       func(f *verdict.Finding) { f.Missing = true },
		"no line":       func(f *verdict.Finding) { f.Position.Line = 0 },
		"two removed":   func(f *verdict.Finding) { f.Fix.Diff = append(f.Fix.Diff, "-x") },
		"removed only":  func(f *verdict.Finding) { f.Fix.Diff = f.Fix.Diff[:1] },
	} {
		f := plainFindings()[0]
		change(f)
		log := readSARIF(t, []*verdict.Message{configMessage("x"), {Finding: f}})
		if r := log.Runs[0].Results[0]; len(r.Fixes) != 0 {
			t.Errorf("%s: %+v", name, r.Fixes)
		}
	}
}

func TestSARIFAddress(t *testing.T) {
	for file, want := range map[string]string{
		"a b/ü.yaml":    "a%20b/%C3%BC.yaml",
		"./x//y.yaml":   "x/y.yaml",
		"c:d.yaml":      "c%3Ad.yaml",
		"50%.yaml":      "50%25.yaml",
		"/tmp/x y.yaml": "file:///tmp/x%20y.yaml",
	} {
		f := plainFindings()[0]
		f.Position = object.Position{File: file}
		log := readSARIF(t, []*verdict.Message{{Finding: f}})
		a := log.Runs[0].Results[0].Locations[0].PhysicalLocation.ArtifactLocation
		if a.URI != want || (a.URIBaseID == "") != strings.HasPrefix(file, "/") {
			t.Errorf("%q: %+v, want %q", file, a, want)
		}
	}
}

// TestSARIFMessage: braces and brackets of a message are no placeholders and no
// links (sections 3.11.5 and 3.11.6).
func TestSARIFMessage(t *testing.T) {
	f := plainFindings()[0]
	f.Message = "emptyDir: {} [here](3)"
	got := readSARIF(t, []*verdict.Message{{Finding: f}}).Runs[0].Results[0].Message.Text
	if want := `emptyDir: {{}} [here\](3)`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
