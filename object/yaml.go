// SPDX-License-Identifier: Apache-2.0

package object

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Limits on one document. They bound what hostile input can cost, far above
// what the API server would take (3 MiB a request).
const (
	// MaxDocument is the largest document that is parsed, in bytes.
	MaxDocument = 16 << 20
	// MaxDepth is the deepest nesting that is followed. The API server's own
	// decoders stop at 10,000; nothing that a person wrote comes near 500.
	MaxDepth = 500
	// MaxNodes is how many values a document may hold once its aliases are
	// expanded.
	MaxNodes = 2_000_000
)

// SyntaxError says why a text is not a document, and where.
type SyntaxError struct {
	Line, Col int
	Msg       string
}

// Error returns the place and the reason.
func (e *SyntaxError) Error() string {
	switch {
	case e.Line == 0:
		return e.Msg
	case e.Col == 0:
		return fmt.Sprintf("line %d: %s", e.Line, e.Msg)
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Col, e.Msg)
}

// Text is one document's bytes inside a stream of documents.
type Text struct {
	// Bytes include the document's own "---" line, if it has one.
	Bytes []byte
	// Line is where the bytes begin in the stream, from 1; Offset the same in
	// bytes, from 0.
	Line, Offset int
}

// Split yields the documents of a YAML stream without parsing them: "---" at
// the start of a line can only be a document marker. Texts without content are
// left out.
func Split(data []byte) iter.Seq[Text] {
	return func(yield func(Text) bool) {
		mark := len(data)
		data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
		mark -= len(data)
		start, startLine, line := 0, 1, 1
		text := func(end int) Text {
			return Text{Bytes: data[start:end:end], Line: startLine, Offset: mark + start}
		}
		content, directives := false, false
		for pos := 0; pos < len(data); {
			end := len(data)
			if i := bytes.IndexByte(data[pos:], '\n'); i >= 0 {
				end = pos + i + 1
			}
			this := data[pos:end]
			switch {
			case marker(this, "---") && !directives:
				if content && !yield(text(pos)) {
					return
				}
				start, startLine = pos, line
				content = len(bytes.TrimSpace(this)) > 3 && !comment(this[3:])
			case marker(this, "---"):
				directives = false
				content = len(bytes.TrimSpace(this)) > 3 && !comment(this[3:])
			case marker(this, "..."):
				if content && !yield(text(end)) {
					return
				}
				start, startLine, content = end, line+1, false
			case this[0] == '%' && !content:
				directives = true
			case !content && len(bytes.TrimSpace(this)) > 0 && !comment(this):
				content = true
			}
			pos = end
			line++
		}
		if content {
			yield(text(len(data)))
		}
	}
}

// marker says whether the line begins with a document marker.
func marker(line []byte, m string) bool {
	return bytes.HasPrefix(line, []byte(m)) &&
		(len(line) == len(m) || strings.IndexByte(" \t\r\n", line[len(m)]) >= 0)
}

// comment says whether the line holds nothing but a comment.
func comment(line []byte) bool {
	line = bytes.TrimSpace(line)
	return len(line) > 0 && line[0] == '#'
}

// ParseYAML parses one document, as kubectl would read it: YAML 1.1 booleans
// and octals, merge keys, keys as strings. It returns nil for a document
// without content. Positions count from the first line of the stream that the
// text was split from.
func ParseYAML(text Text) (*Node, error) {
	if len(text.Bytes) > MaxDocument {
		return nil, &SyntaxError{text.Line, 1, fmt.Sprintf("document of %d MiB; at most %d MiB are read: split it into several documents", len(text.Bytes)>>20, MaxDocument>>20)}
	}
	if err := checkUTF8(text); err != nil {
		return nil, err
	}
	root, err := load(text)
	if err != nil || root == nil || len(root.Content) == 0 {
		return nil, err
	}
	r := reader{line: int32(text.Line) - 1}
	n, _, err := r.node(root.Content[0], 0)
	if err != nil {
		return nil, err
	}
	return n, nil
}

// load parses the text, which must hold one document: a line break that only
// YAML knows (U+0085) can hide another from Split.
func load(text Text) (*yaml.Node, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(text.Bytes))
	if err != nil {
		return nil, syntaxError(err, text.Line)
	}
	var root, more yaml.Node
	if err := loader.Load(&root); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, syntaxError(err, text.Line)
	}
	switch err := loader.Load(&more); {
	case errors.Is(err, io.EOF):
		return &root, nil
	case err != nil:
		return nil, syntaxError(err, text.Line)
	}
	return nil, &SyntaxError{more.Line + text.Line - 1, more.Column, "another document begins here, after a line break that is neither LF nor CRLF: use those"}
}

// checkUTF8 finds bytes that no YAML or JSON text can hold.
func checkUTF8(text Text) error {
	b := text.Bytes
	if utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 {
		return nil
	}
	line, col := text.Line, 1
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		switch {
		case r == 0:
			return &SyntaxError{line, col, "byte 0x00: the file is binary, or text in UTF-16; YAML for Kubernetes is UTF-8"}
		case r == utf8.RuneError && size == 1:
			return &SyntaxError{line, col, fmt.Sprintf("byte 0x%02x is not UTF-8: save the file as UTF-8", b[0])}
		case r == '\n':
			line, col = line+1, 1
		default:
			col++
		}
		b = b[size:]
	}
	return nil
}

// syntaxError turns the YAML library's error into one with its place in the
// stream.
func syntaxError(err error, firstLine int) error {
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		return &SyntaxError{Msg: err.Error()}
	}
	mark, msg := load.Mark, load.Message
	if load.ContextMsg != "" {
		msg = load.ContextMsg + ": " + msg
		if load.ContextMark.Line > 0 && load.ContextMark.Line < mark.Line {
			msg += fmt.Sprintf(" (it begins at line %d)", load.ContextMark.Line+firstLine-1)
		}
	}
	if mark.Line == 0 {
		mark = load.ContextMark
	}
	if mark.Line == 0 {
		return &SyntaxError{firstLine, 0, msg}
	}
	return &SyntaxError{mark.Line + firstLine - 1, mark.Column, msg}
}

// reader turns the library's tree into ours.
type reader struct {
	line  int32 // added to every line
	done  map[*yaml.Node]*aliased
	slab  []Node
	field []Field
}

// aliased is an anchored value that was read before, and how many values it
// expands to.
type aliased struct {
	node *Node
	size int
}

// alloc returns a new Node from a slab: one allocation for many values.
func (r *reader) alloc() *Node {
	if len(r.slab) == 0 {
		r.slab = make([]Node, 64)
	}
	n := &r.slab[0]
	r.slab = r.slab[1:]
	return n
}

func (r *reader) errorf(y *yaml.Node, format string, args ...any) error {
	return &SyntaxError{y.Line + int(r.line), y.Column, fmt.Sprintf(format, args...)}
}

// node converts y and returns how many values it holds, aliases expanded.
func (r *reader) node(y *yaml.Node, depth int) (*Node, int, error) {
	if depth > MaxDepth {
		return nil, 0, r.errorf(y, "nested deeper than %d levels", MaxDepth)
	}
	if y.Kind == yaml.AliasNode {
		return r.alias(y, depth)
	}
	if y.Anchor != "" {
		if r.done == nil {
			r.done = map[*yaml.Node]*aliased{}
		}
		r.done[y] = &aliased{}
	}
	n := r.alloc()
	n.Line, n.Col = int32(y.Line)+r.line, int32(y.Column)
	size := 1
	var err error
	switch y.Kind {
	case yaml.ScalarNode:
		err = r.scalar(n, y)
	case yaml.SequenceNode:
		n.Kind = List
		n.Items = make([]*Node, len(y.Content))
		for i, c := range y.Content {
			item, s, err := r.node(c, depth+1)
			if err != nil {
				return nil, 0, err
			}
			n.Items[i] = item
			size += s
		}
	case yaml.MappingNode:
		n.Kind = Map
		size, err = r.mapping(n, y, depth)
	default:
		err = r.errorf(y, "unexpected YAML node")
	}
	if err != nil {
		return nil, 0, err
	}
	if size > MaxNodes {
		return nil, 0, r.errorf(y, "aliases expand to more than %d values", MaxNodes)
	}
	if y.Anchor != "" {
		*r.done[y] = aliased{n, size}
	}
	return n, size, nil
}

// alias shares the anchored value: what it says is edited where it is anchored.
func (r *reader) alias(y *yaml.Node, depth int) (*Node, int, error) {
	if y.Alias == nil {
		return nil, 0, r.errorf(y, "unknown anchor %q", y.Value)
	}
	if a, ok := r.done[y.Alias]; ok {
		if a.node == nil {
			return nil, 0, r.errorf(y, "anchor %q holds itself", y.Value)
		}
		return a.node, a.size, nil
	}
	return r.node(y.Alias, depth)
}

// mapping converts a mapping as kubectl does: keys are strings, no key stands
// twice, and a merge key puts its fields where it stands: over those before it,
// under those after it. Of several merged mappings the first wins.
func (r *reader) mapping(n *Node, y *yaml.Node, depth int) (int, error) {
	size, merged := 1, false
	if cap(r.field) < len(y.Content)/2 {
		r.field = make([]Field, 0, max(64, len(y.Content)/2))
	}
	n.Fields, r.field = r.field[:0:len(y.Content)/2], r.field[len(y.Content)/2 : cap(r.field)][:0]
	for i := 0; i+1 < len(y.Content); i += 2 {
		k, v := y.Content[i], y.Content[i+1]
		value, s, err := r.node(v, depth+1)
		if err != nil {
			return 0, err
		}
		if size += s; size > MaxNodes {
			return 0, r.errorf(y, "aliases expand to more than %d values", MaxNodes)
		}
		if k.Kind == yaml.ScalarNode && k.Value == "<<" && k.Style&quoted == 0 {
			merged = true
			n.Fields = append(n.Fields, Field{mergeKey, int32(k.Line) + r.line, int32(k.Column), value})
			continue
		}
		key, err := r.key(k)
		if err != nil {
			return 0, err
		}
		n.Fields = append(n.Fields, Field{key, int32(k.Line) + r.line, int32(k.Column), value})
	}
	if first, second := duplicate(n.Fields); second >= 0 {
		d := n.Fields[second]
		return 0, &SyntaxError{int(d.KeyLine), int(d.KeyCol), fmt.Sprintf("key %q stands twice in this mapping, first at line %d: keep one", d.Key, n.Fields[first].KeyLine)}
	}
	if merged {
		return size, merge(n)
	}
	return size, nil
}

// mergeKey stands for << until merge takes it away. No key of a document can be
// the same: YAML has no such character.
const mergeKey = "\x00<<"

// merge puts the fields of merge keys where those stand.
func merge(n *Node) error {
	var out []Field
	at := map[string]int{}
	put := func(f Field) {
		if i, ok := at[f.Key]; ok {
			out[i] = f
			return
		}
		at[f.Key] = len(out)
		out = append(out, f)
	}
	budget := MaxNodes
	for _, f := range n.Fields {
		if f.Key != mergeKey {
			put(f)
			continue
		}
		sources := []*Node{f.Value}
		if f.Value.Kind == List {
			sources = f.Value.Items
		}
		for i := len(sources) - 1; i >= 0; i-- { // the first is put last, and wins
			if sources[i].Kind != Map {
				return &SyntaxError{int(f.KeyLine), int(f.KeyCol), "merge key << wants a mapping, not " + sources[i].Kind.A()}
			}
			if budget -= len(sources[i].Fields); budget < 0 {
				return &SyntaxError{int(f.KeyLine), int(f.KeyCol), fmt.Sprintf("more than %d fields are merged", MaxNodes)}
			}
			for _, m := range sources[i].Fields {
				put(m)
			}
		}
	}
	n.Fields = out
	return nil
}

// duplicate returns the places of two fields of one key, or -1, -1.
func duplicate(fields []Field) (int, int) {
	if len(fields) > 16 {
		seen := make(map[string]int, len(fields))
		for i := range fields {
			if fields[i].Key == mergeKey {
				continue
			}
			if j, ok := seen[fields[i].Key]; ok {
				return j, i
			}
			seen[fields[i].Key] = i
		}
		return -1, -1
	}
	for i := 1; i < len(fields); i++ {
		for j := range i {
			if fields[i].Key == fields[j].Key && fields[i].Key != mergeKey {
				return j, i
			}
		}
	}
	return -1, -1
}

// key returns a mapping's key as JSON has it: a string.
func (r *reader) key(k *yaml.Node) (string, error) {
	if k.Kind == yaml.AliasNode && k.Alias != nil {
		k = k.Alias
	}
	if k.Kind != yaml.ScalarNode {
		return "", r.errorf(k, "a mapping's key must be a string")
	}
	if plainString(k) {
		return k.Value, nil
	}
	var n Node
	if err := r.scalar(&n, k); err != nil {
		return "", err
	}
	switch n.Kind {
	case Null:
		return "null", nil
	case String:
		return n.Text, nil
	}
	return n.Scalar(), nil
}

const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle

// plainString says quickly that a scalar is a string.
func plainString(y *yaml.Node) bool {
	if y.Style&yaml.TaggedStyle != 0 {
		return false
	}
	return y.Style&quoted != 0 || (y.Value != "" && !mayResolve[y.Value[0]])
}

// mayResolve holds the bytes with which a plain scalar that is not a string can
// begin.
var mayResolve = func() (t [256]bool) {
	for _, c := range "+-.0123456789yYnNtTfFoO~" {
		t[c] = true
	}
	return t
}()

// scalar resolves a scalar by the rules of YAML 1.1 that kubectl goes by. They
// differ from the library's own (YAML 1.2): `hostNetwork: yes` is true.
func (r *reader) scalar(n *Node, y *yaml.Node) error {
	if plainString(y) {
		n.Kind, n.Text = String, y.Value
		return nil
	}
	tag := ""
	if y.Style&yaml.TaggedStyle != 0 {
		tag = y.ShortTag()
	}
	switch tag {
	case "":
	case "!!str":
		n.Kind, n.Text = String, y.Value
		return nil
	case "!!binary":
		raw, err := base64.StdEncoding.DecodeString(y.Value)
		if err != nil {
			return r.errorf(y, "!!binary holds invalid base64")
		}
		n.Kind, n.Text = String, string(raw)
		return nil
	case "!!int", "!!float", "!!bool", "!!null":
		return r.tagged(n, y, tag)
	default: // timestamps and local tags stay strings, as they do for kubectl
		n.Kind, n.Text = String, y.Value
		return nil
	}
	if y.Style&quoted != 0 {
		n.Kind, n.Text = String, y.Value
		return nil
	}
	resolve(n, y.Value)
	if n.Kind == Float {
		return r.float(n, y)
	}
	return nil
}

// tagged resolves a scalar that says what it is.
func (r *reader) tagged(n *Node, y *yaml.Node, tag string) error {
	resolve(n, y.Value)
	want := map[string]Kind{"!!int": Int, "!!float": Float, "!!bool": Bool, "!!null": Null}[tag]
	if tag == "!!float" && n.Kind == Int {
		return nil // written as JSON, it is an integer again
	}
	if n.Kind != want {
		return r.errorf(y, "a %s is tagged %s", n.Kind, tag)
	}
	if n.Kind == Float {
		return r.float(n, y)
	}
	return nil
}

// float makes of a number what is left of it once kubectl has written it as
// JSON: 1.0 is written 1, and read as an integer.
func (r *reader) float(n *Node, y *yaml.Node) error {
	f := n.Float()
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0):
		return r.errorf(y, "%s cannot be a value of a Kubernetes object: JSON has no such number", y.Value)
	case f == math.Trunc(f) && f >= math.MinInt64 && f < math.MaxInt64:
		n.Kind, n.num = Int, uint64(int64(f))
	}
	return nil
}

// resolve gives a plain scalar its YAML 1.1 value.
func resolve(n *Node, s string) {
	switch s {
	case "", "~", "null", "Null", "NULL":
		n.Kind = Null
		return
	case "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON":
		n.Kind, n.num = Bool, 1
		return
	case "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF":
		n.Kind, n.num = Bool, 0
		return
	case ".nan", ".NaN", ".NAN":
		n.Kind, n.num = Float, math.Float64bits(math.NaN())
		return
	case ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF":
		n.Kind, n.num = Float, math.Float64bits(math.Inf(1))
		return
	case "-.inf", "-.Inf", "-.INF":
		n.Kind, n.num = Float, math.Float64bits(math.Inf(-1))
		return
	}
	switch c := s[0]; {
	case c == '.':
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			n.Kind, n.num = Float, math.Float64bits(f)
			return
		}
	case c >= '0' && c <= '9', c == '+', c == '-':
		if number(n, s) {
			return
		}
	}
	n.Kind, n.Text = String, s
}

// number reads a scalar that begins with a digit or a sign. Integers beyond 64
// bits become floats, as they do in JSON.
func number(n *Node, s string) bool {
	if timestamp(s) {
		return false
	}
	plain := s
	if strings.IndexByte(s, '_') >= 0 {
		plain = strings.ReplaceAll(s, "_", "")
	}
	if i, err := strconv.ParseInt(plain, 0, 64); err == nil {
		n.Kind, n.num = Int, uint64(i)
		return true
	}
	if u, err := strconv.ParseUint(plain, 0, 64); err == nil {
		n.Kind, n.num = Float, math.Float64bits(float64(u))
		return true
	}
	if yamlFloat(plain) {
		if f, err := strconv.ParseFloat(plain, 64); err == nil {
			n.Kind, n.num = Float, math.Float64bits(f)
			return true
		}
	}
	return false
}

// yamlFloat says whether s has the form [-+]?(.d+|d+(.d*)?)([eE][-+]?d+)?
func yamlFloat(s string) bool {
	s = strings.TrimLeft(s[:1], "+-") + s[1:]
	digits := func() int {
		i := 0
		for i < len(s) && s[i] >= '0' && s[i] <= '9' {
			i++
		}
		s = s[i:]
		return i
	}
	whole := digits()
	if rest, ok := strings.CutPrefix(s, "."); ok {
		s = rest
		if digits() == 0 && whole == 0 {
			return false
		}
	} else if whole == 0 {
		return false
	}
	if s == "" {
		return true
	}
	if s[0] != 'e' && s[0] != 'E' {
		return false
	}
	s = s[1:]
	if s != "" && (s[0] == '+' || s[0] == '-') {
		s = s[1:]
	}
	return digits() > 0 && s == ""
}

// timestamp says whether s is a YAML 1.1 timestamp, which kubectl keeps as the
// string it is.
func timestamp(s string) bool {
	if len(s) < 8 || s[4] != '-' {
		return false
	}
	for _, layout := range [...]string{"2006-1-2T15:4:5.999999999Z07:00", "2006-1-2t15:4:5.999999999Z07:00", "2006-1-2 15:4:5.999999999", "2006-1-2"} {
		if _, err := time.Parse(layout, s); err == nil {
			return true
		}
	}
	return false
}
