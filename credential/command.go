// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"slices"
	"strings"
)

// InWord is a credential in a word of a command; Start and End count in it.
type InWord struct {
	Found
	Word int
}

// MayHold says, at little cost, whether a text could hold a credential that
// InText or InCommand would find.
func MayHold(text string) bool {
	words := table().in(text)
	w, _ := words.next()
	return w != nil
}

// InCommand returns the credentials of a command and its arguments: what is
// known by its format, in one word or across several, and values of flags and
// variables that say that they are secret.
func InCommand(words []string) []InWord {
	found := make([][]Found, len(words))
	starts := make([]int, len(words))
	var line strings.Builder
	for i, w := range words {
		starts[i] = line.Len()
		line.WriteString(w)
		line.WriteByte(' ')
	}
	for _, f := range Known(line.String()) {
		i, exact := slices.BinarySearch(starts, f.Start)
		if !exact {
			i--
		}
		f.Start, f.End = f.Start-starts[i], min(f.End-starts[i], len(words[i]))
		if f.Start < f.End {
			found[i] = append(found[i], f)
		}
	}
	curl := false
	for i, w := range words {
		curl = curl || w == "curl" || strings.HasSuffix(w, "/curl")
		if i > 0 && curl && (words[i-1] == "-u" || words[i-1] == "--user") {
			if user, password, ok := strings.Cut(w, ":"); ok && password != "" && isPassword(password) {
				found[i] = append(found[i], Found{Rule: "curl-auth-user", Kind: Password, Start: len(user) + 1, End: len(w)})
			}
		}
		if n := flagOf(w); n != none && i+1 < len(words) && !strings.HasPrefix(words[i+1], "-") {
			if v := words[i+1]; !harmless(w, n, v, setting) {
				found[i+1] = append(found[i+1], Found{Rule: byName, Kind: kindOf(w, n, v), Name: w, End: len(v)})
			}
			continue
		}
		found[i] = append(found[i], find(w, hits{names: true, syntax: CommandLine})...)
	}
	var out []InWord
	for i := range words {
		for _, f := range settle(words[i], found[i]) {
			out = append(out, InWord{f, i})
		}
	}
	return out
}

// flagOf returns what a word says that is a flag and no more: --db-password.
func flagOf(w string) noun {
	name := strings.TrimLeft(w, "-")
	if name == w {
		return none
	}
	for i := range len(name) {
		if !isNameByte(name[i]) {
			return none
		}
	}
	return nounOf(name)
}
