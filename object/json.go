// SPDX-License-Identifier: Apache-2.0

package object

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"unicode/utf8"
)

// IsJSON says whether a stream begins as JSON does.
func IsJSON(data []byte) bool {
	data = bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), " \t\r\n")
	return len(data) > 0 && data[0] == '{'
}

// ParseJSON parses a stream of JSON documents. Where one is broken it returns
// those before it and the error.
func ParseJSON(data []byte) ([]*Node, error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if len(data) > MaxDocument {
		return nil, &SyntaxError{1, 1, fmt.Sprintf("JSON of %d MiB; at most %d MiB are read", len(data)>>20, MaxDocument>>20)}
	}
	if err := checkUTF8(Text{Bytes: data, Line: 1}); err != nil {
		return nil, err
	}
	r := &jsonReader{data: data, dec: json.NewDecoder(bytes.NewReader(data)), line: 1, col: 1}
	r.dec.UseNumber()
	var out []*Node
	for {
		tok, err := r.token()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		n, err := r.value(tok, 0)
		if err != nil {
			return out, err
		}
		out = append(out, n)
	}
}

// jsonReader follows the decoder's tokens through the text, so that every value
// gets its line and column.
type jsonReader struct {
	data      []byte
	dec       *json.Decoder
	pos       int // what line and col were counted up to
	count     int // values so far
	line, col int32
}

// place moves to an offset of the text.
func (r *jsonReader) place(offset int) {
	for r.pos < offset && r.pos < len(r.data) {
		c, size := utf8.DecodeRune(r.data[r.pos:])
		r.pos += size
		if c == '\n' {
			r.line, r.col = r.line+1, 1
		} else {
			r.col++
		}
	}
}

// token returns the next token and moves to where it begins.
func (r *jsonReader) token() (json.Token, error) {
	start := int(r.dec.InputOffset())
	tok, err := r.dec.Token()
	for start < len(r.data) && bytes.IndexByte([]byte(" \t\r\n,:"), r.data[start]) >= 0 {
		start++
	}
	if err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			start = max(start, int(syntax.Offset)-1)
		}
		r.place(start)
		if errors.Is(err, io.EOF) {
			return nil, err
		}
		return nil, &SyntaxError{int(r.line), int(r.col), err.Error()}
	}
	r.place(start)
	return tok, nil
}

// inner is token for a place where the text must not end.
func (r *jsonReader) inner() (json.Token, error) {
	tok, err := r.token()
	if errors.Is(err, io.EOF) {
		return nil, &SyntaxError{int(r.line), int(r.col), "the text ends inside a value"}
	}
	return tok, err
}

// value returns the value that begins with tok.
func (r *jsonReader) value(tok json.Token, depth int) (*Node, error) {
	n := &Node{Line: r.line, Col: r.col}
	if r.count++; r.count > MaxNodes {
		return nil, &SyntaxError{int(r.line), int(r.col), fmt.Sprintf("more than %d values", MaxNodes)}
	}
	if depth > MaxDepth {
		return nil, &SyntaxError{int(r.line), int(r.col), fmt.Sprintf("nested deeper than %d levels", MaxDepth)}
	}
	switch tok := tok.(type) {
	case nil:
	case bool:
		*n = Node{Kind: Bool, Line: n.Line, Col: n.Col}
		if tok {
			n.num = 1
		}
	case string:
		n.Kind, n.Text = String, tok
	case json.Number:
		if i, err := strconv.ParseInt(tok.String(), 10, 64); err == nil {
			n.Kind, n.num = Int, uint64(i)
			break
		}
		f, err := tok.Float64()
		if err != nil {
			return nil, &SyntaxError{int(n.Line), int(n.Col), fmt.Sprintf("number %s does not fit into 64 bits", tok)}
		}
		n.Kind, n.num = Float, math.Float64bits(f)
	case json.Delim:
		if tok == '[' {
			return r.list(n, depth)
		}
		return r.object(n, depth)
	}
	return n, nil
}

func (r *jsonReader) list(n *Node, depth int) (*Node, error) {
	n.Kind = List
	for {
		tok, err := r.inner()
		if err != nil {
			return nil, err
		}
		if tok == json.Delim(']') {
			return n, nil
		}
		item, err := r.value(tok, depth+1)
		if err != nil {
			return nil, err
		}
		n.Items = append(n.Items, item)
	}
}

func (r *jsonReader) object(n *Node, depth int) (*Node, error) {
	n.Kind = Map
	for {
		tok, err := r.inner()
		if err != nil {
			return nil, err
		}
		if tok == json.Delim('}') {
			break
		}
		key, ok := tok.(string)
		if !ok {
			return nil, &SyntaxError{int(r.line), int(r.col), fmt.Sprintf("%v where a key was expected", tok)}
		}
		f := Field{Key: key, KeyLine: r.line, KeyCol: r.col}
		if tok, err = r.inner(); err != nil {
			return nil, err
		}
		if f.Value, err = r.value(tok, depth+1); err != nil {
			return nil, err
		}
		n.Fields = append(n.Fields, f)
	}
	if first, second := duplicate(n.Fields); second >= 0 {
		d := n.Fields[second]
		return nil, &SyntaxError{int(d.KeyLine), int(d.KeyCol), fmt.Sprintf("key %q stands twice in this object, first at line %d: keep one", d.Key, n.Fields[first].KeyLine)}
	}
	return n, nil
}
