// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestUnified(t *testing.T) {
	for _, c := range []struct{ name, before, after, want string }{
		{"nothing", "a\n", "a\n", ""},
		{"one line", "a\nb\nc\nd\n", "a\nB\nc\nd\n", "--- a/x.yaml\n+++ b/x.yaml\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"},
		{"no newline", "a\nb", "a\nb\nc", "--- a/x.yaml\n+++ b/x.yaml\n@@ -1,2 +1,3 @@\n a\n-b\n\\ No newline at end of file\n+b\n+c\n\\ No newline at end of file\n"},
		{"two hunks", "a\nb\nc\nd\ne\n", "A\nb\nc\nd\nE\n", "--- a/x.yaml\n+++ b/x.yaml\n@@ -1,2 +1,2 @@\n-a\n+A\n b\n@@ -4,2 +4,2 @@\n d\n-e\n+E\n"},
		{"joined", "a\nb\nc\nd\n", "A\nb\nc\nD\n", "--- a/x.yaml\n+++ b/x.yaml\n@@ -1,4 +1,4 @@\n-a\n+A\n b\n c\n-d\n+D\n"},
		{"from nothing", "", "a\n", "--- a/x.yaml\n+++ b/x.yaml\n@@ -0,0 +1 @@\n+a\n"},
		{"to nothing", "a\n", "", "--- a/x.yaml\n+++ b/x.yaml\n@@ -1 +0,0 @@\n-a\n"},
	} {
		if diff := cmp.Diff(c.want, string(Unified("x.yaml", []byte(c.before), []byte(c.after), 1))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	bare := "--- a/f\n+++ b/f\n@@ -2 +1,0 @@\n-c\n\\ No newline at end of file\n" // as git diff -U0 has it
	if diff := cmp.Diff(bare, string(Unified("f", []byte("c\nc"), []byte("c\n"), 0))); diff != "" {
		t.Errorf("without context (-want +got):\n%s", diff)
	}
	if got := string(Unified("a b", []byte("x\n"), nil, 1)); !strings.HasPrefix(got, "--- a/a b\t\n+++ b/a b\t\n") {
		t.Errorf("a name with a space: %q", got)
	}
}

// TestUnifiedNames holds names with unusual characters against git.
func TestUnifiedNames(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not here")
	}
	for name, want := range map[string]string{
		"x.yaml":          "--- a/x.yaml\n+++ b/x.yaml\n",
		"nl\nx.yaml":      `--- "a/nl\nx.yaml"` + "\n" + `+++ "b/nl\nx.yaml"` + "\n",
		"tab\tx.yaml":     `--- "a/tab\tx.yaml"` + "\n",
		"a \"b\" c":       `--- "a/a \"b\" c"` + "\t\n",
		`back\slash`:      `--- "a/back\\slash"` + "\n",
		"esc\x1b[31m\x7f": `--- "a/esc\033[31m\177"` + "\n",
		"ключ é.yaml":     "--- a/ключ é.yaml\t\n",
		"dir a/b":         "--- a/dir a/b\t\n",
		" lead, trail ":   "--- a/ lead, trail \t\n",
	} {
		diff := string(Unified(name, []byte("x\n"), []byte("y\n"), 1))
		if !strings.HasPrefix(diff, want) {
			t.Errorf("%q: got\n%s\nwant\n%s", name, diff, want)
		}
		dir := t.TempDir()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("x\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(git, "apply", "-")
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(diff)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%q: git: %v\n%s\n%s", name, err, out, diff)
			continue
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != "y\n" {
			t.Errorf("%q: git made %q (%v)", name, got, err)
		}
	}
}

func TestLines(t *testing.T) {
	got := Lines([]byte("a: 1\r\nb:\r\nc: 3"), []byte("a: 2\r\nb:\r\n  x: 1\r\nc: 3\r\nd: 4"))
	if diff := cmp.Diff([]string{"-a: 1", "+a: 2", "+  x: 1", "+d: 4"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestUnifiedApplies holds diffs of random texts against git, with one line of
// context at least: without any, git apply misreads its own diffs where the
// last line had no line break and goes (patch does not).
func TestUnifiedApplies(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("git is not here")
	}
	text := rapid.Custom(func(t *rapid.T) string {
		lines := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "", "d\r"}), 0, 30).Draw(t, "lines")
		return strings.Join(lines, "\n") + rapid.SampledFrom([]string{"", "\n"}).Draw(t, "end")
	})
	dir := t.TempDir()
	done := 0
	rapid.Check(t, func(t *rapid.T) {
		before, after := text.Draw(t, "before"), text.Draw(t, "after")
		diff := Unified("f", []byte(before), []byte(after), rapid.IntRange(1, 4).Draw(t, "context"))
		if (diff == nil) != (before == after) {
			t.Fatalf("diff is %q", diff)
		}
		if done++; diff == nil || before == "" || after == "" || done > 60 {
			return // git tells a missing file from an empty one; a diff has no word for it
		}
		file := filepath.Join(dir, "f")
		if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(git, "apply", "--unidiff-zero", "--whitespace=nowarn", "-")
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(string(diff))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git: %v\n%s\n%s", err, out, diff)
		}
		got, err := os.ReadFile(file)
		if err != nil || string(got) != after {
			t.Fatalf("git made %q of\n%s\nwant %q", got, diff, after)
		}
	})
}
