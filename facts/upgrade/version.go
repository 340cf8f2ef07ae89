// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"fmt"
	"strconv"
	"strings"
)

// version is up to four numbers: 1.30.2, 6.6.51.1. Numbers that are left out
// are 0.
type version struct {
	n [4]int
	// len is how many numbers were written.
	len int
	// text is what was written: 22.04, not 22.4.
	text string
	// pre marks what comes before the version: an alpha, a beta, a candidate.
	pre bool
}

// parseVersion reads the version that a text begins with, behind a v where there
// is one, and returns what follows it.
func parseVersion(s string) (v version, rest string, ok bool) {
	rest = strings.TrimPrefix(s, "v")
	begin := rest
	for v.len < len(v.n) {
		number := rest
		if v.len > 0 {
			if number == "" || number[0] != '.' {
				break
			}
			number = number[1:]
		}
		end := 0
		for end < len(number) && digit(number[end]) {
			end++
		}
		if end == 0 || end > 9 {
			break
		}
		v.n[v.len], _ = strconv.Atoi(number[:end])
		v.len++
		rest = number[end:]
	}
	v.text = begin[:len(begin)-len(rest)]
	for _, p := range [...]string{"-alpha", "-beta", "-rc", "-pre", "-snapshot"} {
		v.pre = v.pre || strings.HasPrefix(rest, p)
	}
	return v, rest, v.len > 0
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// compare returns -1, 0 or 1.
func (v version) compare(w version) int {
	for i := range v.n {
		switch {
		case v.n[i] < w.n[i]:
			return -1
		case v.n[i] > w.n[i]:
			return 1
		}
	}
	switch {
	case v.pre == w.pre:
		return 0
	case v.pre:
		return -1
	}
	return 1
}

// String returns the numbers as they were written.
func (v version) String() string { return v.text }

// span is a range of versions; a bound that is not set has no numbers.
type span struct {
	from version // the first that belongs to it
	to   version // the first that does not
}

// UnmarshalText reads ">= 1.2 < 1.3.4", or one half of that.
func (s *span) UnmarshalText(text []byte) error {
	words := strings.Fields(string(text))
	for ; len(words) >= 2; words = words[2:] {
		v, rest, ok := parseVersion(words[1])
		switch {
		case !ok || rest != "":
			return fmt.Errorf("range %q: %q is not a version", text, words[1])
		case words[0] == ">=" && s.from.len == 0:
			s.from = v
		case words[0] == "<" && s.to.len == 0:
			s.to = v
		default:
			return fmt.Errorf("range %q: want >=, then <", text)
		}
	}
	if len(words) > 0 || s.from.len+s.to.len == 0 {
		return fmt.Errorf("range %q is not like >= 1.2 < 1.3.4", text)
	}
	return nil
}

func (s span) holds(v version) bool {
	return v.compare(s.from) >= 0 && (s.to.len == 0 || v.compare(s.to) < 0)
}

// minor is the n of Kubernetes 1.n; the zero minor stands for none.
type minor int

// UnmarshalText reads "1.30".
func (m *minor) UnmarshalText(text []byte) error {
	v, rest, ok := parseVersion(string(text))
	if !ok || rest != "" || v.len != 2 || v.n[0] != 1 {
		return fmt.Errorf("%q is not a minor version of Kubernetes, as in 1.30", text)
	}
	*m = minor(v.n[1])
	return nil
}

// String returns the version as people write it; "" for none.
func (m minor) String() string {
	if m == 0 {
		return ""
	}
	return "1." + strconv.Itoa(int(m))
}
