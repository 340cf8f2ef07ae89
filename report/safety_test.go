// SPDX-License-Identifier: Apache-2.0

package report_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/clipperhouse/displaywidth"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/report"
	"sconce.dev/sconce/verdict"
)

// TestNothingHidden: no text of a manifest reaches a report with a character
// that a terminal obeys or that changes the order of others.
func TestNothingHidden(t *testing.T) {
	evil := evilStream()
	for _, format := range report.Formats() {
		for _, r := range string(write(t, format, report.Options{ShowExcepted: true}, evil)) {
			joiner := r == '\u200c' || r == '\u200d'
			if unicode.Is(unicode.Cc, r) && r != '\n' && !(r == '\t' && format == "junit") || unicode.Is(unicode.Cf, r) && !joiner {
				t.Errorf("%s: %U", format, r)
				break
			}
		}
	}
	color := write(t, "table", report.Options{Color: true, ShowExcepted: true}, evil)
	if rest := regexp.MustCompile("\x1b\\[[0-9;]+m").ReplaceAll(color, nil); bytes.ContainsRune(rest, '\x1b') {
		t.Error("table: an escape sequence that is not a colour of its own")
	}
}

// evilStream has characters that act in every text there is.
func evilStream() []*verdict.Message {
	const evil = "x\x1b[31m\x1b]8;;http://evil\x07\r\n\t\x00\x7f\u0085\u009b\u061c\u200b\u200e\u202a\u202b\u202c\u202d\u202e\u2028\u2066\u2067\u2068\u2069\ufeff\U000e0041\xffx"
	p := object.Position{File: evil, Line: 3, Column: 2, Note: evil, Quote: evil, QuoteColumn: 2}
	ref := object.Ref{APIVersion: evil + "/v1", Kind: evil, Namespace: evil, Name: evil}
	control := controlMessage(evil, evil, evil, evil, evil)
	control.Control.Topic, control.Control.Layer, control.Control.Phase = evil, evil, evil
	out := []*verdict.Message{
		{Config: &verdict.Config{Stream: evil, Program: evil, Version: evil, Targets: []string{evil}, Baseline: evil, KubernetesVersion: evil}},
		control,
		problemMessage(evil, p, evil),
		noticeMessage(evil, evil, evil, p),
	}
	for i := range 6 {
		f := finding(evil, evil, ref, evil, evil, p)
		f.Action, f.Rendered, f.Source, f.Element, f.Fingerprint = evil, evil, evil, evil, evil
		f.Evidence = []verdict.Evidence{{Path: evil, Value: evil}}
		f.Missing = i%2 == 0
		f.Fix = &verdict.Fix{Edits: setEdit(evil, "\"\u202e\""), Note: evil, Proven: true, Diff: []string{"-" + evil, "+" + evil + "y"}}
		switch i {
		case 1:
			f.Outcome = verdict.Unknown
			f.Fix.Refused = evil
		case 2:
			f.Excepted = &verdict.Excepted{Exception: evil, Reason: evil, Owner: evil, Expires: evil}
		case 3:
			f.Fix.Diff = nil
			f.Position.Line = 0
		case 4:
			f.Object.Name = "other"
		case 5:
			f.Rendered, f.Source = "", ""
		}
		out = append(out, &verdict.Message{Finding: f})
	}
	s := richSummary()
	for _, state := range append(verdict.SectionStates, evil) {
		s.Compliance = append(s.Compliance, &verdict.Compliance{
			Framework: evil, Title: evil, Score: verdict.SectionScore{High: 100, Sections: 1},
			Sections: []verdict.Section{{ID: evil, Title: evil, Group: evil, State: state, Verdicts: verdict.Counts{Excepted: 1}, Controls: []string{evil}, Skipped: []string{evil}}},
		})
	}
	s.BySeverity[evil], s.ByCell[evil], s.ByControl[evil] = verdict.Counts{Fail: 1}, verdict.Counts{Fail: 1}, verdict.Counts{Pass: 1}
	return append(out, &verdict.Message{Summary: s})
}

// TestWidth: nothing of the table is wider than asked for but places and
// commands, which are not broken.
func TestWidth(t *testing.T) {
	for _, width := range []int{72, 80, 100, 137} {
		out := string(write(t, "table", report.Options{Width: width, ShowExcepted: true}, richStream()))
		for line := range strings.Lines(out) {
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

// TestCaret: the caret stands below the character that is meant, whatever is
// before it.
func TestCaret(t *testing.T) {
	for _, c := range []struct {
		line   string
		column int
		want   string
	}{
		{"a: b", 1, "^"},
		{"  key: value", 3, "  ^~~"},
		{"  key: value", 8, "       ^~~~~"},
		{"\tkey: 1", 2, "    ^~~"},
		{"a\tkey: 1", 3, "    ^~~"},
		{"a\tb\tkey: 1", 5, "        ^~~"},
		{"日本: x", 5, "      ^"},
		{"e\u0301: x", 5, "   ^"},
		{"\x1b: x", 4, "      ^"},
		{`k: "a b", c`, 4, "   ^~~~~"},
		{"- name: x", 1, "^"},
		{"x", 2, ""},
		{"x", 0, ""},
	} {
		f := plainFindings()[0]
		f.Position = object.Position{File: "f", Line: 1, Column: 1, Quote: c.line, QuoteColumn: c.column}
		out := string(write(t, "table", report.Options{}, []*verdict.Message{{Finding: f}}))
		_, caret, _ := strings.Cut(out, "              | ")
		caret, _, _ = strings.Cut(caret, "\n")
		if !strings.Contains(out, "              | ") {
			caret = ""
		}
		if caret != c.want {
			t.Errorf("%q at %d: %q, want %q\n%s", c.line, c.column, caret, c.want, out)
		}
	}
}

// TestMarkdownBound: a comment is never longer than GitHub takes, and what is
// left out is counted.
func TestMarkdownBound(t *testing.T) {
	messages := manyFindings(3000)
	for range 2000 {
		messages = append(messages, problemMessage(verdict.Parsing, object.Position{File: "x.yaml", Line: 1}, strings.Repeat("long ", 30)))
	}
	s := richSummary()
	messages = append(messages, &verdict.Message{Summary: s})
	out := string(write(t, "markdown", report.Options{}, messages))
	if len(out) > 65536 || len(out) < 60000 {
		t.Errorf("%d bytes", len(out))
	}
	listed := strings.Count(out, "<br><code>")
	var more int
	if _, rest, ok := strings.Cut(out, "\nAnd "); ok {
		if _, err := fmt.Sscanf(rest, "%d more findings", &more); err != nil {
			t.Fatal(err)
		}
	}
	if listed == 0 || listed+more != 3000 {
		t.Errorf("%d listed and %d more, want 3000", listed, more)
	}
	if !strings.Contains(out, "| all | 24 | 31 | 1 |") || strings.Count(out, "<details>") != strings.Count(out, "</details>") {
		t.Error("totals or folds are cut")
	}
}

// TestMarkdownInert: nothing of a manifest acts in a comment.
func TestMarkdownInert(t *testing.T) {
	out := string(write(t, "markdown", report.Options{}, richStream()))
	text := regexp.MustCompile("(?s)(````?)[a-z]+\n.*?\n(````?)\n").ReplaceAllString(out, "")
	for _, bad := range []string{"<script", "<img", "@octocat", "**bold**", "[x]", "http://", "`", ":tada:", "#1 ", "|b"} {
		if strings.Contains(text, bad) {
			t.Errorf("%q in the comment", bad)
		}
	}
}

// TestJUnitReads: the XML is well formed, and its counts are those of its
// cases.
func TestJUnitReads(t *testing.T) {
	for name, messages := range streams() {
		var got struct {
			Tests    int `xml:"tests,attr"`
			Failures int `xml:"failures,attr"`
			Errors   int `xml:"errors,attr"`
			Skipped  int `xml:"skipped,attr"`
			Cases    []struct {
				Name      string    `xml:"name,attr"`
				Classname string    `xml:"classname,attr"`
				Failure   *struct{} `xml:"failure"`
				Error     *struct{} `xml:"error"`
				Skipped   *struct{} `xml:"skipped"`
			} `xml:"testsuite>testcase"`
		}
		if err := xml.Unmarshal(write(t, "junit", report.Options{}, messages), &got); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		counts := [3]int{}
		seen := map[string]bool{}
		for _, c := range got.Cases {
			for i, set := range []bool{c.Failure != nil, c.Error != nil, c.Skipped != nil} {
				if set {
					counts[i]++
				}
			}
			if key := c.Classname + " " + c.Name; seen[key] {
				t.Errorf("%s: %q stands twice", name, key)
			} else {
				seen[key] = true
			}
		}
		if len(got.Cases) != got.Tests || counts != [3]int{got.Failures, got.Errors, got.Skipped} {
			t.Errorf("%s: %d cases %v, says %+v", name, len(got.Cases), counts, got)
		}
	}
}

// TestHTMLClosed: the page has one script, its policy names the very script and
// style, and nothing of a manifest is markup.
func TestHTMLClosed(t *testing.T) {
	out := string(write(t, "html", report.Options{}, richStream()))
	for _, tag := range []string{"script", "style"} {
		parts := regexp.MustCompile("(?s)<"+tag+">(.*?)</"+tag+">").FindAllStringSubmatch(out, -1)
		if len(parts) != 1 || strings.Count(out, "<"+tag) != 1 {
			t.Fatalf("%d %ss", len(parts), tag)
		}
		sum := sha256.Sum256([]byte(parts[0][1]))
		want := strings.ReplaceAll(base64.StdEncoding.EncodeToString(sum[:]), "+", "&#43;")
		if !strings.Contains(out, tag+"-src &#39;sha256-"+want+"&#39;") {
			t.Errorf("the policy does not name the %s", tag)
		}
	}
	for _, bad := range []string{"<img", "<link", "@import", "url(", "src=\"", " style=", " onclick", "ZgotmplZ"} {
		if strings.Contains(out, bad) {
			t.Errorf("%q in the page", bad)
		}
	}
}

// TestUnknownShown: every format says that something is unknown and that
// something could not be read.
func TestUnknownShown(t *testing.T) {
	for _, format := range report.Formats() {
		out := string(write(t, format, report.Options{}, unknownStream()))
		for _, want := range []string{"unknown", "which was not", "permission denied"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q", format, want)
			}
		}
	}
}

// TestScore: bounds are rounded away from each other.
func TestScore(t *testing.T) {
	for want, c := range map[string]verdict.Counts{
		"99% of verdicts pass":                           {Pass: 999, Fail: 1},
		"100% of verdicts pass":                          {Pass: 999},
		"between 99% and 100% of verdicts pass":          {Pass: 999, Unknown: 1},
		"between 33% and 67% of verdicts pass":           {Pass: 1, Unknown: 1, Fail: 1},
		"50% of verdicts pass, excepted ones among them": {Pass: 1, Excepted: 1, Fail: 2},
		"between 0% and 100% of verdicts pass":           {Unknown: 2},
		"between 58% and 59% of verdicts pass":           {Pass: 58, Unknown: 1, Fail: 41},
		"between 29% and 57% of verdicts pass":           {Pass: 29, Unknown: 28, Fail: 43},
	} {
		out := string(write(t, "table", report.Options{}, []*verdict.Message{{Summary: &verdict.Summary{Verdicts: c}}}))
		if c.Fail+c.Unknown > 0 && !strings.Contains(out, "\n"+want+"\n") {
			t.Errorf("%+v: want %q in\n%s", c, want, out)
		}
	}
}

// full is a disk without room.
type full struct{}

var errFull = errors.New("no space left on device")

func (full) Write([]byte) (int, error) { return 0, errFull }

// TestWriteErrors: what could not be written is an error in every format.
func TestWriteErrors(t *testing.T) {
	for _, format := range report.Formats() {
		w, _ := report.New(format, full{}, report.Options{})
		var err error
		for _, m := range richStream() {
			err = errors.Join(err, w.Write(m))
		}
		if err = errors.Join(err, w.Close()); !errors.Is(err, errFull) {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// TestStreamed: the table shows the findings of a file when those of the next
// one begin, and keeps none of them.
func TestStreamed(t *testing.T) {
	var out bytes.Buffer
	w, _ := report.New("table", &out, report.Options{})
	first, second := plainFindings()[0], oddFindings()[0]
	_ = w.Write(&verdict.Message{Finding: first})
	if out.Len() > 0 {
		t.Error("a file is printed before it is complete")
	}
	_ = w.Write(&verdict.Message{Finding: second})
	if !strings.Contains(out.String(), first.Message) {
		t.Error("the first file is not printed yet")
	}
}

// FuzzConvert: no stream makes a report panic, and what Convert takes is
// written in every format. The streams are long: fuzz with -fuzzminimizetime 5x.
func FuzzConvert(f *testing.F) {
	for _, messages := range [][]*verdict.Message{richStream(), unknownStream(), cleanStream(), emptyStream()} {
		f.Add(write(f, "json", report.Options{}, messages))
	}
	f.Add([]byte(`{"config":{"stream":"v1alpha1"}}` + "\n" + `{"control":{}}` + "\n" +
		`{"finding":{"outcome":"fail","position":{"line":-1,"column":-7,"quote":"x","quoteColumn":99},"fix":{"diff":["","x"],"edits":[{"op":"?"}]}}}` + "\n" + `{"summary":{}}`))
	f.Fuzz(func(t *testing.T, stream []byte) {
		for _, format := range report.Formats() {
			w, _ := report.New(format, io.Discard, report.Options{Width: 60, Color: true, ShowExcepted: true})
			err := report.Convert(bytes.NewReader(stream), w)
			if closed := w.Close(); err == nil && closed != nil {
				t.Errorf("%s: %v", format, closed)
			}
		}
	})
}

// manyFindings is a stream of n findings in files of ten, without its summary.
func manyFindings(n int) []*verdict.Message {
	out := append([]*verdict.Message{configMessage("deploy")}, controlMessages()...)
	for i := range n {
		f := *plainFindings()[i%4]
		f.Object.Name = fmt.Sprintf("web-%d", i)
		f.Position.File = fmt.Sprintf("deploy/web-%d.yaml", i/10)
		f.Fingerprint = verdict.Fingerprint(f.Control, f.Object, nil, nil)
		out = append(out, &verdict.Message{Finding: &f})
	}
	return out
}

func BenchmarkWrite(b *testing.B) {
	messages := append(manyFindings(10000), &verdict.Message{Summary: richSummary()})
	for _, format := range report.Formats() {
		b.Run(format, func(b *testing.B) {
			for b.Loop() {
				w, _ := report.New(format, io.Discard, report.Options{Color: true})
				for _, m := range messages {
					_ = w.Write(m)
				}
				_ = w.Close()
			}
		})
	}
}
