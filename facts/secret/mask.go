// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"encoding/json"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Mask is what must not be shown of an object: the credentials that stand in
// it, as they may stand in a line of its text.
type Mask []string

// MaskOf returns the mask of an object, or of the object that a fact is about.
func MaskOf(o *object.Object) Mask {
	w := walk(o.Subject())
	if w == nil {
		return nil
	}
	var out Mask
	for _, s := range w.seen {
		if isWord(s) || named(o.Subject().Root, s) {
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
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) })
	return slices.Compact(out)
}

// isWord says whether a secret is what may stand in any sentence.
func isWord(secret string) bool {
	return len(secret) < 13 && strings.Trim(secret, "abcdefghijklmnopqrstuvwxyz") == ""
}

// named says whether a secret is a part of what something in the object is
// called.
func named(n *object.Node, secret string) bool {
	for _, item := range n.Items {
		if named(item, secret) {
			return true
		}
	}
	for i := range n.Fields {
		f := &n.Fields[i]
		switch f.Key {
		case "name", "namespace", "image", "kind":
			if strings.Contains(f.Value.Str(), secret) {
				return true
			}
		}
		if strings.Contains(f.Key, secret) || named(f.Value, secret) {
			return true
		}
	}
	return false
}

// minMasked is the shortest text that is masked wherever it stands: a shorter
// one may be a part of any word.
const minMasked = 6

// Hide returns a line without the credentials, and without the halves of those
// that the line was cut in.
func (m Mask) Hide(line string) string {
	for _, s := range m {
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
