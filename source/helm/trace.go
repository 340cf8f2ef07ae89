// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"helm.sh/helm/v4/pkg/chart/common"
)

// Why lines of a Doc are not known.
const (
	noteBroken = "the chart does not render with marks in its templates: lines are not known"
	noteMarks  = "the chart uses the characters that Sconce marks lines with: lines are not known"
)

// trace fills in the lines of the docs. It renders with marks in every template
// whose output no other reads and, where that changes what comes out, once more
// with marks in the files alone.
func (r *renderer) trace(docs []Doc) {
	for i := range docs {
		docs[i].Lines = unknown(docs[i])
	}
	m := &marker{trees: map[string]*tree{}}
	if !m.choose(docs) {
		for i := range docs {
			docs[i].Note = noteMarks
		}
		return
	}
	files := r.parse(m)
	m.flow()
	mains := map[*tree]bool{}
	for name, p := range files {
		mains[p.main] = !strings.HasPrefix(path.Base(name), "_")
	}
	complete, rendered := r.attempt(m, docs, files, func(t *tree) bool { return !t.read })
	if !complete {
		_, again := r.attempt(m, docs, files, func(t *tree) bool { return mains[t] })
		rendered = rendered || again
	}
	if !rendered {
		for i := range docs {
			docs[i].Note = noteBroken
		}
	}
}

// unknown returns the lines of a doc of which nothing is known.
func unknown(d Doc) []Line {
	lines := make([]Line, strings.Count(strings.TrimSuffix(string(d.Text), "\n"), "\n")+1)
	for i := range lines {
		lines[i].File = d.File
	}
	return lines
}

// choose takes brackets that do not occur in the docs.
func (m *marker) choose(docs []Doc) bool {
next:
	for _, pair := range brackets {
		for _, d := range docs {
			if strings.ContainsRune(string(d.Text), pair[0]) || strings.ContainsRune(string(d.Text), pair[1]) {
				continue next
			}
		}
		m.open, m.close = pair[0], pair[1]
		return true
	}
	return false
}

// parse parses every template once, under the name that Helm knows it by.
func (r *renderer) parse(m *marker) map[string]*parsed {
	files := map[string]*parsed{}
	seen := map[*common.File]bool{}
	for name, f := range r.files {
		if seen[f] {
			continue
		}
		seen[f] = true
		if p := m.parse(name, r.source.fileOf(f), f.Data); p != nil {
			files[name] = p
		}
	}
	return files
}

// attempt renders with marks in the trees that keep says and fills in the lines
// that were not known. The first result says that every line of every doc came
// out as it should, the second that the chart rendered.
func (r *renderer) attempt(m *marker, docs []Doc, files map[string]*parsed, keep func(*tree) bool) (complete, rendered bool) {
	m.marks = nil
	originals := map[*common.File][]byte{}
	for name, p := range files {
		f := r.files[name]
		originals[f] = f.Data
		f.Data = m.instrument(p, keep)
	}
	out, err := r.render()
	for f, data := range originals {
		f.Data = data
	}
	if err != nil {
		return false, false
	}
	complete = true
	for i := range docs {
		if !m.fill(&docs[i], out[docs[i].Template]) {
			complete = false
		}
	}
	return complete, true
}

// fill takes over the origin of each line that came out alike. Where the number
// of lines differs, those from the beginning and those from the end are alike
// up to the first that is not.
func (m *marker) fill(d *Doc, marked string) bool {
	got, sound := m.read(marked)
	if !sound {
		return false
	}
	want := strings.Split(strings.TrimSuffix(string(d.Text), "\n"), "\n")
	take := func(i, j int) bool {
		if i >= len(want) || j >= len(got) || want[i] != got[j].text {
			return false
		}
		if d.Lines[i].Line == 0 && got[j].Line.Line > 0 {
			d.Lines[i] = got[j].Line
		}
		return true
	}
	same := len(want) == len(got)
	if same {
		for i := range want {
			same = take(i, i) && same
		}
		return same
	}
	n := 0
	for n < len(want) && take(n, n) {
		n++
	}
	for i, j := len(want)-1, len(got)-1; i >= n && j >= n && take(i, j); i, j = i-1, j-1 {
		continue
	}
	return false
}

// traced is a line of a marked rendering, without its marks.
type traced struct {
	Line
	text string
}

// frame is an action that is putting something out; the outermost one is the
// file itself.
type frame struct{ action, text int }

// reader follows the marks through a rendering.
type reader struct {
	*marker
	stack []frame
	line  strings.Builder
	// text is the outermost text on the line, depth how many actions were open
	// around it; actions are what else the line was made by.
	text, depth int
	actions     []int
	out         []traced
}

// read takes the marks out of a rendering and says where its lines came from.
// It reports false where marks are missing or out of order: a template has cut
// or sorted what another put out.
func (m *marker) read(marked string) ([]traced, bool) {
	r := &reader{marker: m, stack: []frame{{-1, -1}}, text: -1}
	for i := 0; i < len(marked); {
		c, size := utf8.DecodeRuneInString(marked[i:])
		if c == m.open {
			n := strings.IndexRune(marked[i:], m.close)
			if n < 0 || !r.mark(marked[i+size:i+n]) {
				return nil, false
			}
			i += n + utf8.RuneLen(m.close)
			continue
		}
		r.char(c, marked[i:i+size])
		i += size
	}
	if len(r.stack) != 1 {
		return nil, false
	}
	if r.line.Len() > 0 || len(r.out) == 0 {
		r.end()
	}
	return r.out, true
}

// mark follows one mark: text begins, an action opens, an action closes.
func (r *reader) mark(s string) bool {
	if len(s) < 2 {
		return false
	}
	id, err := strconv.Atoi(s[1:])
	if err != nil || id < 0 || id >= len(r.marks) {
		return false
	}
	top := &r.stack[len(r.stack)-1]
	switch s[0] {
	case 't':
		top.text = id
	case 'o':
		top.text = -1
		r.stack = append(r.stack, frame{id, -1})
	case 'c':
		if top.action != id {
			return false
		}
		r.stack = r.stack[:len(r.stack)-1]
	default:
		return false
	}
	return true
}

// char follows one character of the rendering.
func (r *reader) char(c rune, s string) {
	if c == '\n' {
		r.stack[len(r.stack)-1].text = -1
		r.end()
		return
	}
	r.line.WriteString(s)
	if c == ' ' || c == '\t' || c == '\r' {
		return
	}
	depth := len(r.stack)
	if text := r.stack[depth-1].text; text >= 0 {
		if r.text < 0 || depth < r.depth {
			r.text, r.depth = text, depth
		}
		return
	}
	if action := r.action(); action >= 0 && (len(r.actions) == 0 || r.actions[len(r.actions)-1] != action) {
		r.actions = append(r.actions, action)
	}
}

// action chooses among the open actions the one that a person edits: the
// innermost that reads a value or stands among text; helpers that only pass on
// what they are given are passed over.
func (r *reader) action() int {
	for i := len(r.stack) - 1; i > 0; i-- {
		m := r.marks[r.stack[i].action]
		if m.values != "" || !m.bare {
			return r.stack[i].action
		}
	}
	if len(r.stack) > 1 {
		return r.stack[1].action
	}
	return -1
}

// end finishes a line.
func (r *reader) end() {
	t := traced{text: r.line.String()}
	at := r.text
	if at < 0 && len(r.actions) > 0 {
		at = r.actions[0]
	}
	if at >= 0 {
		t.File, t.Line.Line = r.marks[at].file, r.marks[at].line
		if values := r.values(); values != "" {
			t.Values = values
		}
	}
	r.out = append(r.out, t)
	r.line.Reset()
	r.text, r.depth, r.actions = -1, 0, r.actions[:0]
}

// values returns the path that the line's one action reads.
func (r *reader) values() string {
	if len(r.actions) == 0 {
		return ""
	}
	first := r.actions[0]
	for _, a := range r.actions[1:] {
		if a != first {
			return ""
		}
	}
	return r.marks[first].values
}
