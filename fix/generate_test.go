// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// author writes a random document as people write them, badly.
type author struct {
	t        *rapid.T
	b        strings.Builder
	comments int
	// anchors are used where it is not nil: the names of those given, and
	// whether each is on a mapping.
	anchors map[string]bool
	open    int
	// fed says that the last value was a block scalar: a comment that stands
	// deep would be part of it.
	fed bool
}

func (a *author) n(lo, hi int) int        { return rapid.IntRange(lo, hi).Draw(a.t, "n") }
func (a *author) maybe(percent int) bool  { return a.n(1, 100) <= percent }
func (a *author) pick(s ...string) string { return rapid.SampledFrom(s).Draw(a.t, "pick") }
func (a *author) put(s ...string)         { a.b.WriteString(strings.Join(s, "")) }
func (a *author) indent(col int)          { a.put(strings.Repeat(" ", col)) }
func (a *author) comment() string         { a.comments++; return fmt.Sprintf("# c%d é", a.comments) }

// endLine ends a line, perhaps with a comment.
func (a *author) endLine() {
	if a.maybe(15) {
		a.put(a.pick(" ", "  ", "\t"), a.comment())
	}
	a.put(a.pick("", "", "", "", " "), "\n")
}

// between writes blank lines and comments between entries.
func (a *author) between(col int) {
	if a.maybe(75) {
		return
	}
	for range a.n(1, 2) {
		if a.maybe(30) {
			a.put("\n")
			continue
		}
		at := col + a.n(-2, 3)
		if a.fed {
			at = min(at, col)
		}
		a.indent(max(0, at))
		a.put(a.comment(), "\n")
	}
}

var scalars = []string{"x", "true", "no", "0777", "1.5", "web:1.2", "a b c", `"q # \" é"`, "'it''s'", "~", `""`, "http://x/y", "2024-01-01", "ALL"}

// randomDocument returns the text of a mapping with two keys at least, with anchors,
// aliases and merge keys if asked for.
func randomDocument(t *rapid.T, anchors bool) string {
	a := &author{t: t}
	if anchors {
		a.anchors = map[string]bool{}
	}
	switch a.n(0, 9) {
	case 0:
		a.put("---\n")
	case 1:
		a.put("--- ", a.comment(), "\n\n")
	case 2:
		a.put(a.comment(), "\n")
	case 3:
		a.put("--- ", a.flow(3, -1), "\n")
		return a.b.String()
	case 4:
		return a.json()
	}
	a.mapping(0, 3, 2)
	if a.maybe(15) {
		a.put(a.comment(), "\n")
	}
	text := a.b.String()
	switch {
	case a.maybe(10):
		text += a.pick("...\n", "\n\n")
	case a.maybe(15):
		text = strings.TrimRight(text, "\n")
	}
	if a.maybe(15) {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	if a.maybe(5) {
		text = bom + text
	}
	return text
}

// json returns a JSON text.
func (a *author) json() string {
	v := a.data(3, true)
	out, _ := json.Marshal(v)
	if a.maybe(60) {
		out, _ = json.MarshalIndent(v, "", a.pick(" ", "  ", "\t"))
	}
	return string(out) + a.pick("", "\n")
}

func (a *author) data(depth int, root bool) any {
	switch k := a.n(0, 3); {
	case root || depth > 0 && k == 0:
		out := map[string]any{"first": 1, "second": "😀/"}
		for _, key := range a.keys(0, 3) {
			out[key] = a.data(depth-1, false)
		}
		return out
	case depth > 0 && k == 1:
		out := []any{}
		for range a.n(0, 3) {
			out = append(out, a.data(depth-1, false))
		}
		return out
	}
	return rapid.SampledFrom([]any{true, 1, "x", nil, 1.5, map[string]any{}}).Draw(a.t, "data")
}

func (a *author) keys(lo, hi int) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d", "name", "image", "x/y", "ключ"}), lo, hi, rapid.ID).Draw(a.t, "keys")
}

// mapping writes a block mapping; the cursor is at its column.
func (a *author) mapping(col, depth, least int) {
	for i, key := range a.keys(least, 4) {
		if i > 0 {
			a.between(col)
			a.indent(col)
		}
		a.fed = false
		if i == 1 && a.merge() {
			a.indent(col)
		}
		switch a.n(0, 9) {
		case 0:
			key = `"` + key + `"`
		case 1:
			key = "'" + key + "'"
		}
		a.put(key, a.pick("", "", "", "", " "), ":")
		a.value(col, depth, false)
	}
}

// merge writes a merge key, if there is a mapping to merge.
func (a *author) merge() bool {
	for _, name := range slices.Sorted(maps.Keys(a.anchors)) {
		if a.anchors[name] && a.maybe(50) {
			a.put("<<: *", name, "\n")
			return true
		}
	}
	return false
}

// anchored writes an alias, and says so, or an anchor before a value.
func (a *author) anchored() bool {
	switch {
	case a.anchors == nil || a.maybe(70):
	case len(a.anchors) > 0 && a.maybe(60):
		a.put(" *", a.pick(slices.Sorted(maps.Keys(a.anchors))...))
		a.endLine()
		return true
	default:
		a.open++
		a.put(fmt.Sprintf(" &a%d", a.open))
	}
	return false
}

// value writes what follows a key's colon, or a dash, at a column.
func (a *author) value(col, depth int, item bool) {
	if a.anchored() {
		return
	}
	if n := a.open; n > 0 && strings.HasSuffix(a.b.String(), fmt.Sprintf(" &a%d", n)) {
		kind := a.plainValue(col, depth, false)
		a.anchors[fmt.Sprintf("a%d", n)] = kind >= 9 && kind <= 11
		return
	}
	a.plainValue(col, depth, item)
}

// plainValue writes a value and returns which kind.
func (a *author) plainValue(col, depth int, item bool) int {
	kind := a.n(0, 13)
	if depth <= 0 {
		kind = a.n(0, 8)
	}
	switch kind {
	case 0:
		a.endLine() // null
	case 1:
		a.block(col)
	case 2:
		a.put(a.pick(" one\n", " \"one\n", " 'one\n"))
		text := a.b.String()
		quote := strings.Trim(text[len(text)-5:len(text)-4], " ")
		a.indent(col + a.n(1, 4))
		a.put("two", quote)
		a.endLine()
	case 3:
		a.endLine()
		a.indent(col + a.n(1, 4))
		a.put(a.pick(scalars...))
		a.endLine()
	case 4:
		a.put(" ", a.flow(2, col))
		a.endLine()
	case 5:
		a.put(" ", a.pick("{}", "[]", "{ }"))
		a.endLine()
	case 6, 7, 8:
		a.put(" ", a.pick(scalars...))
		a.endLine()
	case 9, 10, 11:
		a.nested(col, a.n(1, 4), item, func(at int) { a.mapping(at, depth-1, 1) })
	default:
		least := 0
		if item {
			least = 1
		}
		a.nested(col, a.n(least, 2), item, func(at int) { a.sequence(at, depth-1) })
	}
	return kind
}

// nested writes a block collection below a key, or after a dash.
func (a *author) nested(col, deeper int, item bool, write func(col int)) {
	if item && a.maybe(80) {
		a.indent(deeper)
		write(col + 1 + deeper)
		return
	}
	a.endLine()
	if a.maybe(10) {
		a.indent(col + a.n(0, 3))
		a.put(a.comment(), "\n")
	}
	a.indent(col + deeper)
	write(col + deeper)
}

func (a *author) sequence(col, depth int) {
	for i := range a.n(1, 3) {
		if i > 0 {
			a.between(col)
			a.indent(col)
		}
		a.fed = false
		a.put("-")
		a.value(col, depth, true)
	}
}

// block writes a literal or folded scalar.
func (a *author) block(col int) {
	at := col + a.n(1, 4)
	mark := a.pick("", "", fmt.Sprint(at-max(col, 0)))
	a.put(" ", a.pick("|", ">"), mark, a.pick("", "-", "+"), a.pick("", " "+a.comment()), "\n")
	for i := range a.n(1, 3) {
		if i > 0 && a.maybe(30) {
			a.put("\n")
		}
		a.indent(at)
		a.put("line: ", fmt.Sprint(i), "\n")
	}
	if a.maybe(20) {
		a.put("\n")
	}
	a.fed = true
}

// flow returns a collection in brackets, on one line or, inside a block at a
// column, over several.
func (a *author) flow(depth, col int) string {
	var parts []string
	isMap := col < 0 || a.maybe(50)
	least := 0
	if col < 0 {
		least = 2
	}
	for _, key := range a.keys(least, 4) {
		v := a.pick("x", "true", `"a, b"`, "'}'", "1", "web")
		if depth > 0 && a.maybe(40) {
			v = a.flow(depth-1, max(col, 0))
		}
		switch {
		case !isMap:
			parts = append(parts, v)
		case a.maybe(10):
			parts = append(parts, key)
		default:
			parts = append(parts, key+": "+v)
		}
	}
	open, end := "[", "]"
	if isMap {
		open, end = "{", "}"
	}
	if len(parts) > 0 && a.maybe(30) {
		pad := "\n" + strings.Repeat(" ", col+2)
		for i := range parts {
			if parts[i] += ","; i == len(parts)-1 && a.maybe(70) {
				parts[i] = strings.TrimSuffix(parts[i], ",")
			}
			if a.maybe(30) {
				parts[i] += " " + a.comment()
			}
		}
		return open + pad + strings.Join(parts, pad) + a.pick("\n"+strings.Repeat(" ", col+1), pad) + end
	}
	return open + strings.Join(parts, a.pick(", ", ", ", " , ")) + end
}

// randomEdits returns edits on paths of the tree.
func randomEdits(t *rapid.T, root *object.Node) []verdict.Edit {
	var out []verdict.Edit
	for range rapid.IntRange(1, 3).Draw(t, "edits") {
		path, n := randomPath(t, root)
		value := rapid.SampledFrom([]string{"false", "1", `"RuntimeDefault"`, `"yes"`, `["ALL"]`, `{"type":"x y","list":[{"a":1,"b":[]},2]}`, `{}`, "null"}).Draw(t, "value")
		switch op := rapid.IntRange(0, 5).Draw(t, "op"); {
		case op == 0 && len(path) > 0:
			out = append(out, edit1(verdict.Remove, path, ""))
		case n.Kind == object.Map || n.Kind == object.Null && op < 3:
			path = path.Fields(rapid.SliceOfN(rapid.SampledFrom([]string{"s", "p", "on"}), 1, 3).Draw(t, "fields")...)
			out = append(out, edit1(rapid.SampledFrom([]verdict.EditOp{verdict.Set, verdict.Add}).Draw(t, "kind"), path, value))
		case n.Kind == object.List || n.Kind == object.Null:
			out = append(out, edit1(verdict.Add, path, value))
		default:
			out = append(out, edit1(verdict.Set, path, value))
		}
	}
	return out
}

// randomPath returns a path of the tree and what it leads to.
func randomPath(t *rapid.T, n *object.Node) (object.Path, *object.Node) {
	var path object.Path
	for rapid.IntRange(0, 4).Draw(t, "down") > 0 {
		switch {
		case len(n.Fields) > 0:
			f := rapid.SampledFrom(n.Fields).Draw(t, "field")
			path, n = path.Fields(f.Key), f.Value
		case len(n.Items) > 0:
			i := rapid.IntRange(0, len(n.Items)-1).Draw(t, "item")
			path, n = path.Append(object.ItemStep(n, i)), n.Items[i]
		default:
			return path, n
		}
	}
	return path, n
}
