// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// read returns the values of a text, each with its line, and the faults.
func read(t testing.TB, text string) (values []string, faults Faults) {
	t.Helper()
	r, err := Open(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	err = Values(r, "f", &faults, func(line int, value []byte) {
		values = append(values, fmt.Sprintf("%d %s", line, strings.Join(strings.Fields(string(value)), "")))
	})
	if err != nil {
		t.Fatal(err)
	}
	return values, faults
}

// TestValues holds that values are found however they are laid out, and that
// what is broken costs itself alone.
func TestValues(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
		faults     []string
	}{
		{"one a line", "{\"a\":1}\n{\"a\":2}\n", []string{`1 {"a":1}`, `2 {"a":2}`}, nil},
		{"no end of line", `{"a":1}`, []string{`1 {"a":1}`}, nil},
		{"several in a line", `{"a":1}{"a":2}`, []string{`1 {"a":1}`, `1 {"a":2}`}, nil},
		{"over several lines", "{\n\"a\": [\n{\"b\": \"}\"}\n]\n}\n{}", []string{`1 {"a":[{"b":"}"}]}`, `6 {}`}, nil},
		{"a list", "[\n {\"a\":1},\n {\"a\":2}\n]", []string{`2 {"a":1}`, `3 {"a":2}`}, nil},
		{"quotes in strings", `{"a":"\"{"}`, []string{`1 {"a":"\"{"}`}, nil},
		{"cut off in a string", "{\"a\":\"x\n{\"a\":2}\n", []string{`2 {"a":2}`}, []string{"f:1: a JSON object that is cut off in a string"}},
		{"cut off after a value", "{\"a\":{}\n{\"a\":2}\n", []string{`2 {"a":2}`}, []string{"f:1: a JSON object that is cut off"}},
		{"cut off after a colon", "{\"a\":\n{\"a\":2}\n{\"a\":3}\n", []string{`2 {"a":2}`, `3 {"a":3}`}, []string{"f:1: a JSON object that is cut off"}},
		{"cut off at the end", "{\"a\":1}\n{\"a\":", []string{`1 {"a":1}`}, []string{"f:2: a JSON object that is cut off"}},
		{"words", "hello {}\n{}\n", []string{`2 {}`}, []string{"f:1: this is no JSON object"}},
		{"not JSON", "{a}\n{}\n", []string{`2 {}`}, []string{"f:1: this is no valid JSON"}},
		{"brackets", "{\"a\":[}\n{}\n", []string{`2 {}`}, []string{"f:1: a JSON object whose brackets do not match"}},
		{"empty", "", nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			values, faults := read(t, tc.text)
			if !slices.Equal(values, tc.want) {
				t.Errorf("got the values %q, want %q", values, tc.want)
			}
			var said []string
			for _, f := range faults.First {
				said = append(said, f.String())
			}
			if !slices.Equal(said, tc.faults) {
				t.Errorf("got the faults %q, want %q", said, tc.faults)
			}
		})
	}
}

// TestGzip holds that what is packed is unpacked.
func TestGzip(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte("{}\n{}")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if values, _ := read(t, b.String()); len(values) != 2 {
		t.Errorf("got %q, want two values", values)
	}
}

// TestHostile holds that a recording that is made to cost much costs little.
func TestHostile(t *testing.T) {
	for _, text := range []string{
		strings.Repeat("{\"a\":\n", 50_000), strings.Repeat("[", 1_000_000), strings.Repeat("{\"a\":[\n", 50_000), strings.Repeat("x\n", 50_000),
		strings.Repeat("{\"a\":1,\n", 50_000),
	} {
		began := time.Now()
		if values, _ := read(t, text); len(values) > 0 {
			t.Errorf("got %d values of %.10q…", len(values), text)
		}
		if took := time.Since(began); took > time.Minute {
			t.Errorf("%.10q… took %v", text, took)
		}
	}
}

// TestGaps holds that hours without anything are told.
func TestGaps(t *testing.T) {
	var w Window
	start := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
	for _, minutes := range []int{0, 5, 30, 300, 310, 1000} {
		w.Add(start.Add(time.Duration(minutes) * time.Minute))
	}
	w.Add(time.Time{})
	if w.Untimed != 1 || !w.First.Equal(start) || w.Length() != 1000*time.Minute {
		t.Errorf("got %+v", w)
	}
	var got []string
	for _, g := range w.Gaps(time.Hour) {
		got = append(got, g.From.Format("15:04")+"-"+g.To.Format("15:04"))
	}
	if want := []string{"08:40-13:00", "13:20-00:40"}; !slices.Equal(got, want) {
		t.Errorf("got the gaps %q, want %q", got, want)
	}
}

func FuzzValues(f *testing.F) {
	for _, seed := range []string{"{\"a\":1}\n{", "[{},\n{\"a\":\"x\n", "{\"a\":\n{}}", "x{}\n{}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.HasPrefix(text, "\x1f\x8b") {
			return
		}
		_, faults := read(t, text)
		for _, fault := range faults.First {
			if fault.Line < 1 || fault.Line > strings.Count(text, "\n")+1 {
				t.Errorf("a fault at line %d of %q", fault.Line, text)
			}
		}
	})
}
