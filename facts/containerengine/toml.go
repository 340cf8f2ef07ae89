// SPDX-License-Identifier: Apache-2.0

package containerengine

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"sconce.dev/sconce/object"
)

// maxTOML is the largest file that is parsed, in bytes. The library takes time by
// the square of the number of keys.
const maxTOML = 256 << 10

// parseTOML returns the tree of a TOML document, with the place of every key and
// value. Dates and times are strings.
func parseTOML(data []byte) (*object.Node, error) {
	if len(data) > maxTOML {
		return nil, &object.SyntaxError{Line: 1, Col: 1, Msg: fmt.Sprintf("TOML of %d KiB; at most %d KiB are read", len(data)>>10, maxTOML>>10)}
	}
	// The library checks the document, and knows no places; its parser knows the
	// places, and checks little.
	if err := toml.Unmarshal(data, new(map[string]any)); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			line, col := at.Position()
			return nil, &object.SyntaxError{Line: line, Col: col, Msg: strings.TrimPrefix(at.Error(), "toml: ")}
		}
		return nil, &object.SyntaxError{Line: 1, Col: 1, Msg: strings.TrimPrefix(err.Error(), "toml: ")}
	}
	r := &tomlReader{data: data, line: 1, col: 1, fields: map[*object.Node]map[string]int{}}
	r.p.Reset(data)
	root := &object.Node{Kind: object.Map, Line: 1, Col: 1}
	table := root
	for r.p.NextExpression() {
		e := r.p.Expression()
		switch e.Kind {
		case unstable.Table:
			table = r.table(root, e, false)
		case unstable.ArrayTable:
			table = r.table(root, e, true)
		case unstable.KeyValue:
			r.set(table, e)
		}
	}
	if err := r.p.Error(); err != nil {
		return nil, &object.SyntaxError{Line: int(r.line), Msg: err.Error()}
	}
	return root, nil
}

// tomlReader makes nodes of what the parser yields, in the order of the text.
type tomlReader struct {
	p    unstable.Parser
	data []byte
	// line and col are those of offset.
	line, col int32
	offset    int
	// fields says where in a table a key is.
	fields map[*object.Node]map[string]int
}

// place returns line and column of an offset. Offsets grow, but for a table whose
// header is looked at twice.
func (r *tomlReader) place(offset int) (line, col int32) {
	if offset < r.offset {
		r.line, r.col, r.offset = 1, 1, 0
	}
	for ; r.offset < offset; r.offset++ {
		switch c := r.data[r.offset]; {
		case c == '\n':
			r.line, r.col = r.line+1, 1
		case utf8.RuneStart(c):
			r.col++
		}
	}
	return r.line, r.col
}

// table returns the table that a header names, and a new one where it is an
// element of an array of tables.
func (r *tomlReader) table(root *object.Node, e *unstable.Node, element bool) *object.Node {
	at := root
	for key := e.Key(); key.Next(); {
		k := key.Node()
		f := r.field(at, k)
		switch {
		case element && key.IsLast():
			if f.Value == nil {
				f.Value = &object.Node{Kind: object.List, Line: f.KeyLine, Col: f.KeyCol}
			}
			line, col := r.place(int(k.Raw.Offset))
			item := &object.Node{Kind: object.Map, Line: line, Col: col}
			f.Value.Items = append(f.Value.Items, item)
			return item
		case f.Value == nil:
			f.Value = &object.Node{Kind: object.Map, Line: f.KeyLine, Col: f.KeyCol}
		}
		at = inner(f.Value)
	}
	return at
}

// inner is the table that a key leads into: of an array of tables, the last.
func inner(n *object.Node) *object.Node {
	if n.Kind == object.List && len(n.Items) > 0 {
		return n.Items[len(n.Items)-1]
	}
	return n
}

// field returns the field of a table that a key names, making it if it is new.
func (r *tomlReader) field(table *object.Node, key *unstable.Node) *object.Field {
	name := string(key.Data)
	if i, ok := r.fields[table][name]; ok {
		return &table.Fields[i]
	}
	if r.fields[table] == nil {
		r.fields[table] = map[string]int{}
	}
	r.fields[table][name] = len(table.Fields)
	line, col := r.place(int(key.Raw.Offset))
	table.Fields = append(table.Fields, object.Field{Key: name, KeyLine: line, KeyCol: col})
	return &table.Fields[len(table.Fields)-1]
}

// set sets what a key and its value say in a table.
func (r *tomlReader) set(table *object.Node, e *unstable.Node) {
	for key := e.Key(); key.Next(); {
		f := r.field(table, key.Node())
		if key.IsLast() {
			f.Value = r.value(e.Value(), f)
			return
		}
		if f.Value == nil {
			f.Value = &object.Node{Kind: object.Map, Line: f.KeyLine, Col: f.KeyCol}
		}
		table = inner(f.Value)
	}
}

// value makes a node of a value. Where the parser keeps no place for it, it is
// that of its key.
func (r *tomlReader) value(v *unstable.Node, f *object.Field) *object.Node {
	out := r.scalar(v)
	out.Line, out.Col = f.KeyLine, f.KeyCol
	if v.Raw.Length > 0 {
		out.Line, out.Col = r.place(int(v.Raw.Offset))
	}
	switch v.Kind {
	case unstable.Array:
		for it := v.Children(); it.Next(); {
			if it.Node().Kind != unstable.Comment {
				out.Items = append(out.Items, r.value(it.Node(), f))
			}
		}
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				r.set(out, it.Node())
			}
		}
	}
	return out
}

// scalar makes a node without its place, and of an array or table an empty one.
func (r *tomlReader) scalar(v *unstable.Node) *object.Node {
	text := string(v.Data)
	switch v.Kind {
	case unstable.Array:
		return &object.Node{Kind: object.List}
	case unstable.InlineTable:
		return &object.Node{Kind: object.Map}
	case unstable.Bool:
		return object.NewBool(text == "true")
	case unstable.Integer:
		if n, err := strconv.ParseInt(text, 0, 64); err == nil {
			return object.NewInt(n)
		}
		// A sign and leading zeros of the exponent apart, TOML writes decimals as Go does.
		n, err := strconv.ParseInt(strings.ReplaceAll(text, "_", ""), 10, 64)
		if err == nil {
			return object.NewInt(n)
		}
	case unstable.Float:
		if n, err := strconv.ParseFloat(strings.ReplaceAll(text, "_", ""), 64); err == nil && !math.IsInf(n, 0) && !math.IsNaN(n) {
			return object.NewFloat(n)
		}
	}
	return object.NewString(text)
}
