// SPDX-License-Identifier: Apache-2.0

package source

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// Resolve returns the commit that a Git revision stands for: a branch, a tag, a
// commit, HEAD~1. The error says what may have been meant.
func Resolve(revision string) (commit string, err error) {
	if strings.HasPrefix(revision, "-") {
		return "", fmt.Errorf("%q is not a Git revision", revision)
	}
	if _, err := git("rev-parse", "--show-prefix"); err != nil {
		return "", err
	}
	out, err := git("rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	if err != nil {
		return "", fmt.Errorf("%q is not a revision of this Git repository; %s", revision, meant(revision))
	}
	return strings.TrimSpace(string(out)), nil
}

// meant says which revision may have been meant by a name that is none.
func meant(name string) string {
	out, err := git("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/tags", "refs/remotes")
	if err != nil {
		return "git log shows them"
	}
	refs := strings.Fields(string(out))
	for _, near := range []func(ref string) bool{
		func(ref string) bool { return strings.EqualFold(ref, name) || strings.HasSuffix(ref, "/"+name) },
		func(ref string) bool { return len(name) > 2 && (strings.Contains(ref, name) || swapped(ref, name)) },
	} {
		if i := slices.IndexFunc(refs, near); i >= 0 {
			return "did you mean " + refs[i] + "?"
		}
	}
	if shallow() {
		return "this clone is shallow: `git fetch --unshallow`, or with `--depth`, gets more of its history"
	}
	return "`git branch -a` and `git log` show them"
}

// swapped says whether two words differ in no more than two letters, or in the
// order of two.
func swapped(a, b string) bool {
	if len(a) != len(b) {
		short, long := a, b
		if len(short) > len(long) {
			short, long = long, short
		}
		if len(long)-len(short) > 1 {
			return false
		}
		i := 0
		for i < len(short) && short[i] == long[i] {
			i++
		}
		return short[i:] == long[i+1:]
	}
	differ := 0
	for i := range a {
		if a[i] != b[i] {
			differ++
		}
	}
	return differ <= 2
}

// shallow says whether the repository holds not all of its history.
func shallow() bool {
	out, err := git("rev-parse", "--is-shallow-repository")
	return err == nil && strings.TrimSpace(string(out)) == "true"
}

// MergeBase returns the commit from which two revisions went apart.
func MergeBase(a, b string) (string, error) {
	of, err := Resolve(a)
	if err != nil {
		return "", err
	}
	and, err := Resolve(b)
	if err != nil {
		return "", err
	}
	out, err := git("merge-base", of, and)
	if err != nil {
		hint := "they have no history in common"
		if shallow() {
			hint = "this clone is shallow, and their history may begin before it: `git fetch --unshallow` gets all of it"
		}
		return "", fmt.Errorf("there is no merge base of %s and %s; %s", a, b, hint)
	}
	return strings.TrimSpace(string(out)), nil
}

// Repository returns the root of the Git repository around the working directory,
// and where below that the working directory is.
func Repository() (root, prefix string, err error) {
	top, err := git("rev-parse", "--show-toplevel")
	if err != nil {
		return "", "", err
	}
	below, err := git("rev-parse", "--show-prefix")
	if err != nil {
		return "", "", err
	}
	return strings.TrimSuffix(string(top), "\n"), strings.TrimSuffix(strings.TrimSpace(string(below)), "/"), nil
}

// Ignored returns the files and folders below the working directory that Git
// ignores, by their absolute paths without links: no revision has them.
func Ignored() (map[string]bool, error) {
	out, err := git("ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z")
	if err != nil {
		return nil, err
	}
	here, err := resolve(".")
	if err != nil {
		return nil, err
	}
	ignored := map[string]bool{}
	for _, name := range strings.Split(string(out), "\x00") {
		if name != "" {
			ignored[filepath.Join(here, filepath.FromSlash(name))] = true
		}
	}
	return ignored, nil
}
