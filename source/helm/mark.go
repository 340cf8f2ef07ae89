// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"
)

// How lines are mapped. The chart is rendered a second time with marks in its
// templates: one before each piece of text that stands on a line, and one on
// each side of every action that puts something out. The marks come out where
// the text does. Without them the second rendering must be the first one, line
// by line; where it is not, the marks have changed what the templates did, and
// nothing is said of that line.

// mark is a place in a template.
type mark struct {
	file string
	line int
	// values is the one path below .Values that the action reads, or "".
	values string
	// bare says that the action stands in a template without text of its own,
	// one that only passes on what others put out.
	bare bool
}

// brackets are what marks may be written in: characters that Go's %q, YAML and
// JSON leave as they are. The first pair that the chart does not use is taken.
var brackets = [][2]rune{{'⦃', '⦄'}, {'⦗', '⦘'}, {'⟬', '⟭'}, {'⧼', '⧽'}}

// marker writes marks into templates.
type marker struct {
	open, close rune
	marks       []mark
	trees       map[string]*tree
}

// tree is one template: a file, or a define in one.
type tree struct {
	root *parse.ListNode
	// calls are the templates that it puts out or reads.
	calls []string
	// blocks are the {{ block }}s in it: unlike a {{ template }} they cannot be
	// put between marks.
	blocks []string
	// read says that its output is read by another template (compared, cut,
	// parsed), where a mark would do harm.
	read bool
}

// parsed is a file with its trees.
type parsed struct {
	file  string
	src   []byte
	trees []*tree
	main  *tree
}

// parse reads a template as Helm's engine will; it returns nil for one that
// the engine would refuse.
func (m *marker) parse(name, file string, src []byte) *parsed {
	set := map[string]*parse.Tree{}
	t := parse.New(name)
	t.Mode = parse.SkipFuncCheck
	if _, err := t.Parse(string(src), "", "", set); err != nil {
		return nil
	}
	p := &parsed{file: file, src: src}
	for define, parseTree := range set {
		tr := &tree{root: parseTree.Root, blocks: blocks(parseTree.Root, src)}
		if define == name {
			p.main = tr
		}
		p.trees = append(p.trees, tr)
		m.trees[define] = tr
	}
	return p
}

// blocks returns the names of the {{ block }}s in a tree.
func blocks(l *parse.ListNode, src []byte) []string {
	var names []string
	visit(l, func(n parse.Node) {
		if c, ok := n.(*parse.TemplateNode); ok && !bytes.HasSuffix(bytes.TrimRight(src[:c.Pos], " \t\r\n"), []byte("template")) {
			names = append(names, c.Name)
		}
	})
	return names
}

// flow finds the templates whose output is read by others: those, and what
// they call, stay without marks.
func (m *marker) flow() {
	var reads []string
	for _, t := range m.trees {
		u := uses{}
		u.list(t.root)
		t.calls = u.puts
		reads = append(reads, u.reads...)
		t.calls = append(t.calls, u.reads...)
	}
	for len(reads) > 0 {
		name := reads[len(reads)-1]
		reads = reads[:len(reads)-1]
		if t := m.trees[name]; t != nil && !t.read {
			t.read = true
			reads = append(reads, t.calls...)
		}
	}
	m.spread()
}

// spread takes the marks from a template that holds a block without marks: an
// output of which nobody knows where it ends.
func (m *marker) spread() {
	for changed := true; changed; {
		changed = false
		for _, t := range m.trees {
			for _, name := range t.blocks {
				callee := m.trees[name]
				if !t.read && callee != nil && callee.read {
					t.read, changed = true, true
				}
			}
		}
	}
}

// uses are the templates that a template puts out, and those that it reads.
type uses struct{ puts, reads []string }

// list goes through a list of nodes.
func (u *uses) list(l *parse.ListNode) {
	visit(l, func(n parse.Node) {
		switch n := n.(type) {
		case *parse.ActionNode:
			u.action(n.Pipe)
		case *parse.TemplateNode:
			u.puts = append(u.puts, n.Name)
			u.pipe(n.Pipe)
		case *parse.IfNode:
			u.pipe(n.Pipe)
		case *parse.WithNode:
			u.pipe(n.Pipe)
		case *parse.RangeNode:
			u.pipe(n.Pipe)
		}
	})
}

// action takes {{ include "x" . | nindent 4 }} for putting x out, and any other
// include for reading.
func (u *uses) action(p *parse.PipeNode) {
	if name, args, ok := putsOut(p); ok {
		u.puts = append(u.puts, name)
		for _, arg := range args {
			u.arg(arg)
		}
		return
	}
	u.pipe(p)
}

func putsOut(p *parse.PipeNode) (name string, args []parse.Node, ok bool) {
	if len(p.Decl) > 0 || len(p.Cmds) == 0 {
		return "", nil, false
	}
	name, ok = included(p.Cmds[0])
	if !ok {
		return "", nil, false
	}
	for _, c := range p.Cmds[1:] {
		fn, ok := c.Args[0].(*parse.IdentifierNode)
		if !ok || !slices.Contains([]string{"indent", "nindent", "trim"}, fn.Ident) {
			return "", nil, false
		}
	}
	return name, p.Cmds[0].Args[2:], true
}

// included returns the name in `include "name" …`.
func included(c *parse.CommandNode) (string, bool) {
	if len(c.Args) < 2 {
		return "", false
	}
	fn, ok := c.Args[0].(*parse.IdentifierNode)
	name, isString := c.Args[1].(*parse.StringNode)
	if !ok || !isString || fn.Ident != "include" {
		return "", false
	}
	return name.Text, true
}

// pipe takes every include in a pipeline for reading.
func (u *uses) pipe(p *parse.PipeNode) {
	if p == nil {
		return
	}
	for _, c := range p.Cmds {
		if name, ok := included(c); ok {
			u.reads = append(u.reads, name)
		}
		for _, arg := range c.Args {
			u.arg(arg)
		}
	}
}

func (u *uses) arg(n parse.Node) {
	switch n := n.(type) {
	case *parse.PipeNode:
		u.pipe(n)
	case *parse.ChainNode:
		u.arg(n.Node)
	}
}

// visit calls f for every node that puts something out or decides.
func visit(l *parse.ListNode, f func(parse.Node)) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		f(n)
		switch n := n.(type) {
		case *parse.IfNode:
			visit(n.List, f)
			visit(n.ElseList, f)
		case *parse.WithNode:
			visit(n.List, f)
			visit(n.ElseList, f)
		case *parse.RangeNode:
			visit(n.List, f)
			visit(n.ElseList, f)
		}
	}
}

// edit is text to put into a template.
type edit struct {
	at   int
	text string
}

// instrument returns the file with marks in the trees that keep says.
func (m *marker) instrument(p *parsed, keep func(*tree) bool) []byte {
	w := &writer{marker: m, parsed: p}
	for i, c := range p.src {
		if c == '\n' {
			w.breaks = append(w.breaks, i)
		}
	}
	for _, t := range p.trees {
		if keep(t) {
			w.bare = !hasText(t.root)
			w.list(t.root, "")
		}
	}
	slices.SortStableFunc(w.edits, func(a, b edit) int { return a.at - b.at })
	var out bytes.Buffer
	last := 0
	for _, e := range w.edits {
		out.Write(p.src[last:e.at])
		out.WriteString(e.text)
		last = e.at
	}
	out.Write(p.src[last:])
	return out.Bytes()
}

func hasText(l *parse.ListNode) bool {
	found := false
	visit(l, func(n parse.Node) {
		if t, ok := n.(*parse.TextNode); ok && len(bytes.TrimSpace(t.Text)) > 0 {
			found = true
		}
	})
	return found
}

// writer collects the edits of one file.
type writer struct {
	*marker
	*parsed
	// breaks are the offsets of the line breaks.
	breaks []int
	bare   bool
	edits  []edit
}

// list marks a list of nodes. dot is the path below .Values that "." stands
// for there, or "".
func (w *writer) list(l *parse.ListNode, dot string) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.TextNode:
			w.text(int(n.Pos), n.Text)
		case *parse.ActionNode:
			if len(n.Pipe.Decl) == 0 {
				w.action(int(n.Pos), int(n.Pos), valuesPath(n.Pipe, dot))
			}
		case *parse.TemplateNode:
			w.template(int(n.Pos), valuesPath(n.Pipe, dot))
		case *parse.IfNode:
			w.list(n.List, dot)
			w.list(n.ElseList, dot)
		case *parse.WithNode:
			w.list(n.List, valuesPath(n.Pipe, dot))
			w.list(n.ElseList, dot)
		case *parse.RangeNode:
			w.list(n.List, valuesPath(n.Pipe, dot))
			w.list(n.ElseList, dot)
		}
	}
}

// text marks the first character of each line of a text.
func (w *writer) text(pos int, text []byte) {
	if pos < 0 || pos+len(text) > len(w.src) || !bytes.Equal(w.src[pos:pos+len(text)], text) {
		return
	}
	for len(text) > 0 {
		line := text
		if i := bytes.IndexByte(text, '\n'); i >= 0 {
			line = text[:i+1]
		}
		if i := len(line) - len(bytes.TrimLeft(line, " \t\r\n")); i < len(line) {
			w.edits = append(w.edits, edit{pos + i, w.note('t', pos+i, "")})
		}
		pos, text = pos+len(line), text[len(line):]
	}
}

// action puts marks around the action whose first word stands at pos; from is
// where its text begins.
func (w *writer) action(from, pos int, values string) {
	before := bytes.TrimRight(w.src[:from], " \t\r\n")
	opened := bytes.HasSuffix(before, []byte("{{")) || bytes.HasSuffix(before, []byte("{{-"))
	end := actionEnd(w.src, pos)
	if !opened || end < 0 {
		return
	}
	open := w.note('o', from, values)
	id := len(w.marks) - 1
	w.edits = append(w.edits,
		edit{from, strconv.Quote(open) + " }}{{ "},
		edit{end, " }}{{ " + strconv.Quote(w.written('c', id))})
}

// template marks {{ template "x" . }}; a {{ block }} it leaves as it is.
func (w *writer) template(pos int, values string) {
	before := bytes.TrimRight(w.src[:pos], " \t\r\n")
	if bytes.HasSuffix(before, []byte("template")) {
		w.action(len(before)-len("template"), pos, values)
	}
}

// note makes a mark for the place and returns how it is written.
func (w *writer) note(kind byte, at int, values string) string {
	line, _ := slices.BinarySearch(w.breaks, at)
	w.marks = append(w.marks, mark{file: w.file, line: line + 1, values: values, bare: w.bare})
	return w.written(kind, len(w.marks)-1)
}

func (m *marker) written(kind byte, id int) string {
	return fmt.Sprintf("%c%c%d%c", m.open, kind, id, m.close)
}

// actionEnd returns where the action's right delimiter begins, with its trim
// marker, or -1.
func actionEnd(src []byte, pos int) int {
	for i := pos; i < len(src); i++ {
		switch c := src[i]; {
		case c == '`':
			n := bytes.IndexByte(src[i+1:], '`')
			if n < 0 {
				return -1
			}
			i += n + 1
		case c == '"' || c == '\'':
			for i++; i < len(src) && src[i] != c; i++ {
				if src[i] == '\\' {
					i++
				}
			}
		case bytes.HasPrefix(src[i:], []byte("}}")):
			return i
		case strings.IndexByte(" \t\r\n", c) >= 0 && bytes.HasPrefix(src[i+1:], []byte("-}}")):
			return i
		}
	}
	return -1
}

// valuesPath returns the one path below .Values that a pipeline reads, or "".
func valuesPath(p *parse.PipeNode, dot string) string {
	found := map[string]bool{}
	collectPaths(p, dot, found)
	if len(found) != 1 {
		return ""
	}
	for path := range found {
		return path
	}
	return ""
}

func collectPaths(n parse.Node, dot string, found map[string]bool) {
	switch n := n.(type) {
	case *parse.PipeNode:
		if n == nil {
			return
		}
		for _, c := range n.Cmds {
			for _, arg := range c.Args {
				collectPaths(arg, dot, found)
			}
		}
	case *parse.FieldNode:
		switch {
		case n.Ident[0] == "Values" && len(n.Ident) > 1:
			found["."+strings.Join(n.Ident, ".")] = true
		case dot != "":
			found[dot+"."+strings.Join(n.Ident, ".")] = true
		}
	case *parse.VariableNode:
		if len(n.Ident) > 2 && n.Ident[1] == "Values" {
			found["."+strings.Join(n.Ident[1:], ".")] = true
		}
	case *parse.DotNode:
		if dot != "" {
			found[dot] = true
		}
	case *parse.ChainNode:
		collectPaths(n.Node, dot, found)
	}
}
