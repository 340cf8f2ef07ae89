// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Mask is what must not be shown of an object: the credentials that stand in
// it, as they may stand in a line of its text.
type Mask struct {
	all []string // the longest first
	// byHead and byTail are the credentials in the order of what they begin with,
	// and of what they end with, read backwards.
	byHead, byTail []part
	// heads and tails are what they begin and end with.
	heads, tails map[string]bool
}

// part is a credential, and which of all it is.
type part struct {
	text string
	at   int
}

// MaskOf returns the mask of an object, or of the object that a fact is about.
func MaskOf(o *object.Object) Mask {
	w := walk(o.Subject())
	if w == nil || len(w.seen) == 0 {
		return Mask{}
	}
	names := strings.Join(called(o.Subject().Root, nil), separator)
	var out []string
	for _, s := range w.seen {
		if isWord(s) || strings.Contains(names, s) && !strings.Contains(s, separator) {
			continue // the password postgres of the container postgres: masked, it would be all that is told
		}
		quoted, _ := json.Marshal(s) // a string can be
		for _, form := range [...]string{s, strings.Trim(string(quoted), `"`), strings.ReplaceAll(s, "'", "''")} {
			for _, line := range strings.FieldsFunc(form, func(c rune) bool { return c == '\n' || c == '\r' }) {
				if line = strings.TrimSpace(line); len(line) >= minMasked {
					out = append(out, line)
				}
			}
		}
	}
	return newMask(out)
}

func newMask(secrets []string) Mask {
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	m := Mask{all: slices.Compact(secrets), heads: map[string]bool{}, tails: map[string]bool{}}
	for i, s := range m.all {
		m.byHead = append(m.byHead, part{s, i})
		m.byTail = append(m.byTail, part{backwards(s), i})
		m.heads[s[:minMasked]] = true
		m.tails[s[len(s)-minMasked:]] = true
	}
	for _, parts := range [...][]part{m.byHead, m.byTail} {
		slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.text, b.text) })
	}
	return m
}

func backwards(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

// isWord says whether a secret is what may stand in any sentence.
func isWord(secret string) bool {
	return len(secret) < 13 && strings.Trim(secret, "abcdefghijklmnopqrstuvwxyz") == ""
}

// separator stands between names; no text of an object holds it.
const separator = "\xff"

// called adds what something in the object is called.
func called(n *object.Node, names []string) []string {
	if n == nil {
		return names
	}
	for _, item := range n.Items {
		names = called(item, names)
	}
	for i := range n.Fields {
		f := &n.Fields[i]
		switch f.Key {
		case "name", "namespace", "image", "kind":
			names = append(names, f.Value.Str())
		}
		names = called(f.Value, append(names, f.Key))
	}
	return names
}

// minMasked is the shortest text that is masked wherever it stands: a shorter
// one may be a part of any word.
const minMasked = 6

// Hide returns a line without the credentials, and without the halves of those
// that the line was cut in.
func (m Mask) Hide(line string) string {
	for _, i := range m.in(line) {
		s := m.all[i]
		line = strings.ReplaceAll(line, s, verdict.Masked)
		if rest, ok := cutHead(line, s); ok {
			line = verdict.Masked + rest
		}
		if rest, ok := cutTail(line, s); ok {
			line = rest + verdict.Masked
		}
	}
	return line
}

// in returns which credentials stand in a line, or at its ends in part; of those
// of which the same part stands there, the first. They are found by what they
// begin and end with: there may be thousands, and thousands of lines.
func (m Mask) in(line string) []int {
	if len(m.all) == 0 {
		return nil
	}
	found, back := map[int]bool{}, backwards(line)
	for i := 0; i+minMasked <= len(line); i++ {
		gram := line[i : i+minMasked]
		if m.heads[gram] {
			m.beginning(line[i:], found)
			first(m.byHead, line[i:], found) // cut at the end of the line
		}
		if m.tails[gram] { // cut at its beginning
			first(m.byTail, back[len(line)-i-minMasked:], found)
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// beginning adds the credentials that the text begins with. One that was added so
// before, which is true in found, came with those that it begins with.
func (m Mask) beginning(text string, found map[int]bool) {
	for len(text) >= minMasked {
		i, ok := slices.BinarySearchFunc(m.byHead, text, byText)
		switch {
		case ok && found[m.byHead[i].at]:
			return
		case ok:
			found[m.byHead[i].at] = true
			text = text[:len(text)-1]
			continue
		case i == 0:
			return
		}
		// What the text begins with stands before it, and has no more in common
		// with it than the nearest that does.
		before := m.byHead[i-1]
		n := common(before.text, text)
		if n == len(before.text) {
			if found[before.at] {
				return
			}
			found[before.at] = true
			n--
		}
		text = text[:n]
	}
}

// first adds the first of the credentials that begin with the text.
func first(parts []part, text string, found map[int]bool) {
	i, _ := slices.BinarySearchFunc(parts, text, byText)
	best := -1
	for ; i < len(parts) && strings.HasPrefix(parts[i].text, text); i++ {
		if len(parts[i].text) > len(text) && (best < 0 || parts[i].at < best) {
			best = parts[i].at
		}
	}
	if _, ok := found[best]; !ok && best >= 0 {
		found[best] = false
	}
}

func byText(p part, text string) int { return strings.Compare(p.text, text) }

// common returns how many bytes two texts begin with alike.
func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// cutHead takes the end of a secret from the beginning of a line.
func cutHead(line, secret string) (string, bool) {
	for n := min(len(secret)-1, len(line)); n >= minMasked; n-- {
		if line[:n] == secret[len(secret)-n:] {
			return line[n:], true
		}
	}
	return line, false
}

// cutTail takes the beginning of a secret from the end of a line.
func cutTail(line, secret string) (string, bool) {
	for n := min(len(secret)-1, len(line)); n >= minMasked; n-- {
		if line[len(line)-n:] == secret[:n] {
			return line[:len(line)-n], true
		}
	}
	return line, false
}
