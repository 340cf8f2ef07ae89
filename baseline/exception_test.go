// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/object"
)

func exceptionDoc(name, control, match, expires string) string {
	return "---\napiVersion: sconce.dev/v1alpha1\nkind: Exception\nmetadata: {name: " + name + "}\nspec:\n" +
		"  controls: [" + control + "]\n  match: " + match + "\n  reason: it is told in a test\n  owner: platform\n  expires: " + expires + "\n"
}

// TestExcuse holds that the exception that excuses is the first of those that
// match, however they name what they match.
func TestExcuse(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(values ...string) string { return values[r.IntN(len(values))] }
	var docs strings.Builder
	docs.WriteString(some())
	for i := range 200 {
		var match []string
		for field, values := range map[string][]string{
			"namespaces": {"", "[a]", "[b, a]", "['a*']", "['']", "[a, b, c]"},
			"names":      {"", "[web]", "[db, web]", "['w?b']", "['*']", "['[dw]eb']"},
			"kinds":      {"", "", "[Pod]"}, "elements": {"", "", "[app]"},
		} {
			if v := pick(values...); v != "" {
				match = append(match, field+": "+v)
			}
		}
		if len(match) > 0 {
			docs.WriteString(exceptionDoc(fmt.Sprintf("x-%03d", i), pick("one", "two", "two, one"), "{"+strings.Join(match, ", ")+"}", pick("2030-01-01", "2030-01-01", "2020-01-01")))
		}
	}
	l := NewLibrary()
	if err := l.Read("x.yaml", []byte(docs.String())); err != nil {
		t.Fatal(err)
	}
	x := l.Exceptions(time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC))
	excused := 0
	for range 2000 {
		control, ref := pick("one", "two", "three"), object.Ref{APIVersion: "v1", Kind: pick("Pod", "Node"), Namespace: pick("", "a", "b", "ab", "c"), Name: pick("web", "db", "deb", "other")}
		element := object.Path{{Field: "containers"}, {Item: true, Key: pick("app", "sidecar")}}
		want := ""
		for _, e := range x.all {
			if !e.expired && slices.Contains(e.doc.Spec.Controls, control) && e.matches(ref) && e.matchesElement(element) {
				want = e.doc.Name
				break
			}
		}
		got := ""
		if by := x.Excuse(control, ref, element); by != nil {
			got = by.Exception
			excused++
		}
		if got != want {
			t.Fatalf("%s of %s at %s is excused by %q, want %q", control, ref, element, got, want)
		}
	}
	if excused < 100 {
		t.Errorf("only %d were excused", excused)
	}
}

// TestNextExpiry holds the day from which exceptions are other ones.
func TestNextExpiry(t *testing.T) {
	l := NewLibrary()
	if err := l.Read("x.yaml", []byte(some()+exceptionDoc("a", "one", "{names: [a]}", "2030-06-30")+exceptionDoc("b", "one", "{names: [b]}", "2030-02-28")+exceptionDoc("c", "one", "{names: [c]}", "2029-02-28"))); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ today, want string }{
		{"2029-01-01", "2029-03-01"}, {"2029-03-01", "2030-03-01"}, {"2030-02-28", "2030-03-01"}, {"2030-06-30", "2030-07-01"}, {"2030-07-01", ""},
	} {
		today, err := time.Parse(time.DateOnly, c.today)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if day, ok := l.Exceptions(today).NextExpiry(); ok {
			got = day.Format(time.DateOnly)
		}
		if got != c.want {
			t.Errorf("on %s the next is %q, want %q", c.today, got, c.want)
		}
	}
}

// BenchmarkExcuse looks for the exception of one of 5,000 objects, and of one
// that has none.
func BenchmarkExcuse(b *testing.B) {
	var docs strings.Builder
	docs.WriteString(some())
	for i := range 5000 {
		docs.WriteString(exceptionDoc(fmt.Sprintf("x-%d", i), "one", fmt.Sprintf("{namespaces: [team-%d], names: [app-%d]}", i%100, i), "2030-01-01"))
	}
	l := NewLibrary()
	if err := l.Read("x.yaml", []byte(docs.String())); err != nil {
		b.Fatal(err)
	}
	x := l.Exceptions(time.Time{})
	for b.Loop() {
		for _, name := range []string{"app-4999", "none"} {
			if found := x.Excuse("one", object.Ref{Kind: "Pod", Namespace: "team-99", Name: name}, nil) != nil; found != (name != "none") {
				b.Fatal(name)
			}
		}
	}
}
