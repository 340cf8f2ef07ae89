// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"cmp"
	"slices"
	"strings"
	"sync"
)

// nameWords stand in the names of credentials.
var nameWords = []string{"pass", "pwd", "secret", "token", "credential", "creds", "key", "psk", "_pat", "-pat", "_pw", "-pw", "masterauth"}

// words finds in a text, in one pass and whatever their case, the words of all
// formats and those of names.
type words struct {
	// first is the word that begins with three bytes, by the lowest five bits
	// of each, or 0; next are others that begin so.
	first [1 << 15]uint8
	all   []word
}

// word is a word of formats, or of names where it has none.
type word struct {
	text    string
	next    uint8
	formats []uint16 // indexes of formats()
}

var table = sync.OnceValue(func() *words {
	t := &words{all: make([]word, 1)}
	for i, f := range formats() {
		for _, w := range f.words {
			n := t.add(w)
			t.all[n].formats = append(t.all[n].formats, uint16(i))
		}
	}
	for _, w := range nameWords {
		t.add(w)
	}
	return t
})

// add returns the number of a word.
func (t *words) add(text string) uint8 {
	i := hash(text)
	for n := t.first[i]; n != 0; n = t.all[n].next {
		if t.all[n].text == text {
			return n
		}
	}
	if len(t.all) > 255 {
		panic("too many words for a byte")
	}
	n := uint8(len(t.all))
	t.all = append(t.all, word{text: text, next: t.first[i]})
	t.first[i] = n
	return n
}

func hash(s string) int { return int(s[0]&31)<<10 | int(s[1]&31)<<5 | int(s[2]&31) }

// search goes through the words of a text.
type search struct {
	*words
	text string
	at   int   // of the three bytes that are looked at
	h    uint  // their hash
	word uint8 // the next word that begins so
}

func (t *words) in(text string) search {
	s := search{words: t, text: text, at: -1}
	if len(text) >= 3 {
		s.h = uint(text[0]&31)<<5 | uint(text[1]&31)
	}
	return s
}

// next returns the next word and where it stands; nil if there is no more.
func (s *search) next() (w *word, at int) {
	for {
		for s.word != 0 {
			w := &s.all[s.word]
			s.word = w.next
			if foldPrefix(s.text[s.at:], w.text) {
				return w, s.at
			}
		}
		first, text, h, i := &s.first, s.text, s.h, s.at+3
		for ; i < len(text); i++ {
			h = (h<<5 | uint(text[i]&31)) & (1<<15 - 1)
			if s.word = first[h]; s.word != 0 {
				break
			}
		}
		s.h, s.at = h, i-2
		if i >= len(text) {
			return nil, 0
		}
	}
}

// foldPrefix says whether a text begins with a word, which is in lower case.
func foldPrefix(s, prefix string) bool {
	if len(s) < len(prefix) {
		return false
	}
	for i := range len(prefix) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}

// hits says what is looked for.
type hits struct {
	tokens, names bool
	syntax        Syntax
}

// maxFound is how many credentials of one text are told.
const maxFound = 100

// find returns the credentials of a text, in their order.
func find(text string, h hits) []Found {
	var out []Found
	var done []upTo
	named := 0 // up to where names were looked at
	all := formats()
	words := table().in(text)
	for w, at := words.next(); w != nil && len(out) < maxFound; w, at = words.next() {
		for _, i := range w.formats {
			if !h.tokens {
				break
			}
			if end := reached(&done, i); at >= *end {
				out, *end = all[i].find(text, at, out)
			}
		}
		if h.names && w.formats == nil && at >= named {
			var f Found
			var ok bool
			if f, named, ok = assigned(text, at, h.syntax); ok {
				out = append(out, f)
			}
		}
	}
	return settle(text, out)
}

// upTo says up to where a text was looked at for a format.
type upTo struct {
	format uint16
	end    int
}

// reached returns where it is noted for a format; of a text few are.
func reached(done *[]upTo, format uint16) *int {
	for k := range *done {
		if (*done)[k].format == format {
			return &(*done)[k].end
		}
	}
	*done = append(*done, upTo{format: format})
	return &(*done)[len(*done)-1].end
}

// settle sorts what was found, and keeps of what overlaps what says most.
func settle(text string, found []Found) []Found {
	if len(found) < 2 {
		return found
	}
	slices.SortStableFunc(found, func(a, b Found) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(rank(b), rank(a)), cmp.Compare(b.End, a.End))
	})
	serviceAccount := slices.ContainsFunc(found, func(f Found) bool { return f.Rule == "gcp-service-account-key" })
	out := found[:0]
	for _, f := range found {
		if serviceAccount && f.Kind == PrivateKey && strings.Contains(text[:f.Start], "private_key") {
			continue // the key of that file
		}
		if n := len(out); n > 0 && f.Start < out[n-1].End {
			last := &out[n-1]
			if rank(f) > rank(*last) {
				f.Name = cmp.Or(f.Name, last.Name)
				*last = f
			} else {
				last.Name = cmp.Or(last.Name, f.Name)
			}
			continue
		}
		out = append(out, f)
	}
	return out
}

func rank(f Found) int {
	switch {
	case f.Certain:
		return 2
	case f.Rule != byName:
		return 1
	}
	return 0
}

// knownValue returns what a value holds that is known by its format, the
// format's words standing in the value or in its name.
func knownValue(name, value string) []Found {
	if value == "" {
		return nil
	}
	lead := ""
	words := table().in(name)
	for w, _ := words.next(); w != nil; w, _ = words.next() {
		if w.formats != nil {
			lead = name + "="
		}
	}
	out := Known(lead + value)
	kept := out[:0]
	for _, f := range out {
		f.Start, f.End = f.Start-len(lead), f.End-len(lead)
		if f.Start >= 0 && !(slices.Contains(public, f.Rule) && isPublic(name)) {
			kept = append(kept, f)
		}
	}
	return kept
}
