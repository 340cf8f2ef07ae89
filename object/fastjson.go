// SPDX-License-Identifier: Apache-2.0

package object

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// ReadJSON parses one JSON value of at most maxNodes values, as ParseJSON does
// and several times as fast, but for places: what a program sent has no lines
// that a person could edit. It is stricter than the API server, which has
// written what it sends and so never repeats a key.
//
// The tree's strings are parts of one copy of the data: what outlives the tree
// must be cloned.
//
// A parser of our own, since nothing else makes our tree. Values of encoding/json
// or sigs.k8s.io/json take twice as long before they are turned into it, tokens of
// encoding/json (ParseJSON) eight times. Tokens of jsontext would come near, and
// can take its place once that is in the standard library and no experiment.
// FuzzReadJSON holds it against ParseJSON and the API server's own reader.
func ReadJSON(data []byte, maxNodes int) (*Node, error) {
	if len(data) > MaxDocument {
		return nil, &SyntaxError{1, 1, fmt.Sprintf("JSON of %d MiB; at most %d MiB are read", len(data)>>20, MaxDocument>>20)}
	}
	if err := checkUTF8(Text{Bytes: data, Line: 1}); err != nil {
		return nil, err
	}
	p := fastReader{text: string(data), left: min(maxNodes, MaxNodes), max: min(maxNodes, MaxNodes)}
	p.space()
	n := p.value(0)
	p.space()
	if p.fault == "" && p.pos < len(p.text) {
		p.fail("%s after the value", p.here())
	}
	if p.fault != "" {
		return nil, p.syntaxError()
	}
	return n, nil
}

// fastReader reads JSON from a text. Once it has met a fault, what it returns
// means nothing.
type fastReader struct {
	text      string
	pos       int
	left, max int // values

	fault string

	nodes  []Node  // memory for values
	fields []Field // memory for entries
	items  []*Node
	// open are the entries and items of the maps and lists that have not ended.
	openFields []Field
	openItems  []*Node
}

// fail notes the first fault, which is at pos.
func (p *fastReader) fail(format string, args ...any) *Node {
	if p.fault == "" {
		p.fault = fmt.Sprintf(format, args...)
	}
	return nil
}

// syntaxError returns the fault with its place.
func (p *fastReader) syntaxError() error {
	before := p.text[:min(p.pos, len(p.text))]
	start := strings.LastIndexByte(before, '\n') + 1
	return &SyntaxError{1 + strings.Count(before, "\n"), 1 + utf8.RuneCountInString(before[start:]), p.fault}
}

// here names what stands at pos.
func (p *fastReader) here() string {
	if p.pos >= len(p.text) {
		return "the end of the text"
	}
	r, _ := utf8.DecodeRuneInString(p.text[p.pos:])
	return strconv.QuoteRune(r)
}

func (p *fastReader) space() {
	for p.pos < len(p.text) {
		switch p.text[p.pos] {
		case ' ', '\t', '\n', '\r':
			p.pos++
		default:
			return
		}
	}
}

// peek returns the next byte, and 0 at the end, which no text holds.
func (p *fastReader) peek() byte {
	if p.pos < len(p.text) {
		return p.text[p.pos]
	}
	return 0
}

// slab is how many values memory is taken for at once, at the most.
const slab = 256

// take returns memory for a value.
func (p *fastReader) take() *Node {
	if len(p.nodes) == 0 {
		// A value of Kubernetes takes some 20 bytes on average.
		p.nodes = make([]Node, min(slab, 1+(len(p.text)-p.pos)/20))
	}
	n := &p.nodes[0]
	p.nodes = p.nodes[1:]
	return n
}

// value reads the value that begins at pos.
func (p *fastReader) value(depth int) *Node {
	if p.left--; p.left < 0 {
		return p.fail("more than %d values", p.max)
	}
	if depth > MaxDepth {
		return p.fail("nested deeper than %d levels", MaxDepth)
	}
	n := p.take()
	switch c := p.peek(); {
	case c == '"':
		n.Kind, n.Text = String, p.string()
	case c == '{':
		p.mapOf(n, depth)
	case c == '[':
		p.listOf(n, depth)
	case c == '-' || c >= '0' && c <= '9':
		p.number(n)
	case c == 't':
		p.word("true")
		n.Kind, n.num = Bool, 1
	case c == 'f':
		p.word("false")
		n.Kind = Bool
	case c == 'n':
		p.word("null")
	default:
		return p.fail("%s where a value was expected", p.here())
	}
	if p.fault != "" {
		return nil
	}
	return n
}

func (p *fastReader) word(w string) {
	if !strings.HasPrefix(p.text[p.pos:], w) {
		p.fail("%s where %s was expected", p.here(), w)
		return
	}
	p.pos += len(w)
}

func (p *fastReader) mapOf(n *Node, depth int) {
	n.Kind = Map
	base := len(p.openFields)
	p.pos++
	for p.space(); p.peek() != '}'; p.space() {
		if len(p.openFields) > base && !p.comma() {
			return
		}
		if p.peek() != '"' {
			p.fail("%s where a key was expected", p.here())
			return
		}
		key := p.string()
		p.space()
		if p.fault == "" && p.peek() != ':' {
			p.fail("%s where a colon was expected", p.here())
		}
		p.pos++
		p.space()
		v := p.value(depth + 1)
		if p.fault != "" {
			p.pos = min(p.pos, len(p.text))
			return
		}
		p.openFields = append(p.openFields, Field{Key: key, Value: v})
	}
	p.pos++
	n.Fields = p.closeMap(base)
	if first, second := duplicate(n.Fields); second >= 0 {
		p.fail("key %q stands twice in this object, at places %d and %d: keep one", n.Fields[second].Key, first+1, second+1)
	}
}

// comma moves past the comma between two entries.
func (p *fastReader) comma() bool {
	if p.peek() != ',' {
		p.fail("%s where a comma was expected", p.here())
		return false
	}
	p.pos++
	p.space()
	return true
}

// closeMap moves the entries above base to where they stay.
func (p *fastReader) closeMap(base int) []Field {
	open := p.openFields[base:]
	if len(open) > len(p.fields) {
		p.fields = make([]Field, max(len(open), min(slab, 1+(len(p.text)-p.pos)/30)))
	}
	out := p.fields[:len(open):len(open)]
	p.fields = p.fields[len(open):]
	copy(out, open)
	p.openFields = p.openFields[:base]
	return out
}

func (p *fastReader) listOf(n *Node, depth int) {
	n.Kind = List
	base := len(p.openItems)
	p.pos++
	for p.space(); p.peek() != ']'; p.space() {
		if len(p.openItems) > base && !p.comma() {
			return
		}
		item := p.value(depth + 1)
		if p.fault != "" {
			return
		}
		p.openItems = append(p.openItems, item)
	}
	p.pos++
	n.Items = p.closeList(base)
}

// closeList moves the items above base to where they stay.
func (p *fastReader) closeList(base int) []*Node {
	open := p.openItems[base:]
	if len(open) > len(p.items) {
		p.items = make([]*Node, max(len(open), min(slab, 1+(len(p.text)-p.pos)/100)))
	}
	out := p.items[:len(open):len(open)]
	p.items = p.items[len(open):]
	copy(out, open)
	p.openItems = p.openItems[:base]
	return out
}

// number reads a number: an Int where it is written as one and fits into 64
// bits.
func (p *fastReader) number(n *Node) {
	start := p.pos
	if p.peek() == '-' {
		p.pos++
	}
	whole := p.digits()
	if whole == 0 || whole > 1 && p.text[p.pos-whole] == '0' {
		p.fail("%s is no number as JSON writes them", p.text[start:p.pos])
		return
	}
	integer := true
	if p.peek() == '.' {
		integer = false
		p.pos++
		if p.digits() == 0 {
			p.fail("%s where a digit was expected", p.here())
			return
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		integer = false
		p.pos++
		if c := p.peek(); c == '+' || c == '-' {
			p.pos++
		}
		if p.digits() == 0 {
			p.fail("%s where a digit was expected", p.here())
			return
		}
	}
	p.convert(n, p.text[start:p.pos], integer)
}

// digits moves past digits and returns how many there were.
func (p *fastReader) digits() int {
	start := p.pos
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.pos++
	}
	return p.pos - start
}

func (p *fastReader) convert(n *Node, text string, integer bool) {
	if integer {
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			n.Kind, n.num = Int, uint64(i)
			return
		}
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		p.fail("number %s does not fit into 64 bits", shortened(text))
		return
	}
	n.Kind, n.num = Float, math.Float64bits(f)
}

// shortened keeps an error readable.
func shortened(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// string reads the string that begins at pos.
func (p *fastReader) string() string {
	p.pos++
	start := p.pos
	for i := start; i < len(p.text); i++ {
		switch c := p.text[i]; {
		case c == '"':
			p.pos = i + 1
			return p.text[start:i]
		case c == '\\':
			return p.escaped(start, i)
		case c < ' ':
			p.pos = i
			p.fail("%s inside a string", p.here())
			return ""
		}
	}
	p.pos = len(p.text)
	p.fail("the text ends inside a string")
	return ""
}

// escaped reads the rest of a string whose first backslash stands at i.
func (p *fastReader) escaped(start, i int) string {
	end := i
	for end < len(p.text) && p.text[end] != '"' {
		if p.text[end] == '\\' {
			end++
		}
		end++
	}
	out := make([]byte, 0, min(end, len(p.text))-start)
	out = append(out, p.text[start:i]...)
	p.pos = i
	for p.pos < len(p.text) {
		switch c := p.text[p.pos]; {
		case c == '"':
			p.pos++
			return string(out)
		case c == '\\':
			if out = p.escape(out); p.fault != "" {
				return ""
			}
		case c < ' ':
			p.fail("%s inside a string", p.here())
			return ""
		default:
			out = append(out, c)
			p.pos++
		}
	}
	p.fail("the text ends inside a string")
	return ""
}

var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads what a backslash begins.
func (p *fastReader) escape(out []byte) []byte {
	p.pos++
	c := p.peek()
	if c == 'u' {
		return p.unicode(out)
	}
	plain, ok := escapes[c]
	if !ok {
		p.fail("%s after a backslash", p.here())
		return out
	}
	p.pos++
	return append(out, plain)
}

// unicode reads the four digits after \u and, where they are half of a pair, the
// other half. A half that stands alone becomes U+FFFD, as in encoding/json.
func (p *fastReader) unicode(out []byte) []byte {
	p.pos++
	r, ok := p.hex(p.pos)
	if !ok {
		p.fail("four hexadecimal digits do not follow \\u")
		return out
	}
	p.pos += 4
	if !utf16.IsSurrogate(r) {
		return utf8.AppendRune(out, r)
	}
	pair := rune(utf8.RuneError)
	if strings.HasPrefix(p.text[p.pos:], `\u`) {
		if low, ok := p.hex(p.pos + 2); ok {
			pair = utf16.DecodeRune(r, low)
		}
	}
	if pair != utf8.RuneError {
		p.pos += 6
	}
	return utf8.AppendRune(out, pair)
}

// hex reads four hexadecimal digits.
func (p *fastReader) hex(at int) (rune, bool) {
	if at+4 > len(p.text) {
		return 0, false
	}
	var r rune
	for i := at; i < at+4; i++ {
		switch c := p.text[i]; {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
