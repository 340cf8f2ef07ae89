// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/clipperhouse/displaywidth"
)

// visible returns a text in which nothing acts: control characters, and
// characters that change the order of others or have no width, are replaced by
// their escapes.
func visible(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if !strings.ContainsFunc(s, hidden) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case !hidden(r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

func hidden(r rune) bool {
	switch {
	case r < 0x20, 0x7f <= r && r < 0xa0, r == 0xfffe, r == 0xffff:
		return true
	case r < 0xa0, r == '\u200c', r == '\u200d': // joiners, which scripts and emoji need
		return false
	}
	return unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// line returns a text of several words as one visible line.
func line(s string) string {
	return visible(strings.Join(strings.Fields(s), " "))
}

// clip shortens a text to so many columns, with an ellipsis where it ends.
func clip(s string, max int) string {
	return displaywidth.TruncateString(s, max, "…")
}
