// SPDX-License-Identifier: Apache-2.0

package object

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"
)

// Object is one Kubernetes object. It is immutable.
type Object struct {
	Ref
	// Root is the object; Within is where it stands in its document: empty for
	// the whole of it, items[i] in a List.
	Root   *Node
	Within Path
	// Origin is where the object came from.
	Origin *Origin
	// Small says that the object holds no more than SmallSize bytes, aliases
	// expanded.
	Small bool

	// of and places are set for a fact: see NewFact.
	of     *Object
	places *places
}

// SmallSize is what nearly every object that people write stays below, in
// bytes: what is done once for each of its values is done quickly.
const SmallSize = 64 << 10

// Ref names an object within its cluster or tree.
type Ref struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	// Name is metadata.name, or metadata.generateName followed by "*".
	Name string `json:"name,omitempty"`
}

// Group returns the API group; "" for the core group.
func (r Ref) Group() string {
	group, _, ok := strings.Cut(r.APIVersion, "/")
	if !ok {
		return ""
	}
	return group
}

// String returns kind, group and name as kubectl writes them:
// Deployment.apps shop/web.
func (r Ref) String() string {
	var b strings.Builder
	b.WriteString(r.Kind)
	if g := r.Group(); g != "" {
		b.WriteString("." + g)
	}
	b.WriteByte(' ')
	if r.Namespace != "" {
		b.WriteString(r.Namespace + "/")
	}
	if r.Name == "" {
		b.WriteString("(no name)")
	}
	b.WriteString(r.Name)
	return b.String()
}

// Origin says which source an object was read from.
type Origin struct {
	// Source is the file, chart or overlay that was read, as the user named it.
	Source string
	// Renderer is "" for a file, "helm" or "kustomize".
	Renderer string
	// Text is what Root's lines count in: the file, or the rendered text. It
	// may be nil where no text exists.
	Text []byte
	// FirstLine is the line of the source at which Text begins, from 1.
	FirstLine int
	// Locate, where it is set, maps a place in rendered text to the file that a
	// person edits.
	Locate func(root *Node, path Path) Position

	once  sync.Once
	index *lineIndex
}

// Position is where a person edits a value.
type Position struct {
	File string `json:"file"`
	// Line and Column count from 1; Line is 0 where the line cannot be known,
	// Column 0 where only the line is.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
	// Note says why Line is 0, or what else must be known to edit here.
	Note string `json:"note,omitempty"`
	// Quote is the text of the line, and QuoteColumn where in it, in
	// characters from 1, the value begins (0: not known).
	Quote       string `json:"quote,omitempty"`
	QuoteColumn int    `json:"quoteColumn,omitempty"`
}

// Position returns where a person edits the value at the path; where it does
// not exist yet, the nearest value above it.
func (o *Object) Position(path Path) Position {
	if o.of != nil {
		return o.of.Position(o.SourcePath(path))
	}
	if o.Origin.Locate != nil {
		return o.Origin.Locate(o.Root, path)
	}
	spot, _ := o.Root.SpotOf(path)
	p := Position{File: o.Origin.Source, Line: spot.Line, Column: spot.Col}
	if spot.Line > 0 {
		p.Quote, p.QuoteColumn = o.Origin.lines().quote(spot.Line-o.Origin.FirstLine+1, spot.Col)
	}
	return p
}

// lines returns the index of the origin's lines.
func (o *Origin) lines() *lineIndex {
	o.once.Do(func() { o.index = newLineIndex(o.Text) })
	return o.index
}

// lineIndex finds lines of a text without looking at those before.
type lineIndex struct {
	text   []byte
	starts []int
	ascii  bool // columns are bytes
}

func newLineIndex(text []byte) *lineIndex {
	x := &lineIndex{text: text, starts: []int{0}, ascii: true}
	for i, c := range text {
		if c == '\n' {
			x.starts = append(x.starts, i+1)
		}
		x.ascii = x.ascii && c < utf8.RuneSelf
	}
	return x
}

// longLine is the longest line in which a column is looked for character by
// character, in bytes.
const longLine = 16 << 10

// quote returns what of line n, from 1, is quoted for a column.
func (x *lineIndex) quote(n, col int) (string, int) {
	if n < 1 || n > len(x.starts) {
		return "", 0
	}
	end := len(x.text)
	if n < len(x.starts) {
		end = x.starts[n]
	}
	line := bytes.TrimRight(x.text[x.starts[n-1]:end], "\r\n")
	switch {
	case len(line) <= longLine:
		return Window(string(line), col)
	case !x.ascii:
		return "", 0
	}
	// Minified JSON: thousands of findings may point into one line.
	start := min(max(0, col-quoteWidth), len(line))
	quote, column := Window(string(line[start:min(len(line), start+2*quoteWidth)]), col-start)
	return quote, column
}

// quoteWidth is how much of a line is quoted, in characters: minified JSON is
// one line.
const quoteWidth = 300

// Window returns what of a line is quoted for a column, and where in that the
// column is.
func Window(line string, col int) (quote string, column int) {
	if len(line) <= quoteWidth {
		return line, col
	}
	runes := []rune(line)
	start := max(0, min(col-1-quoteWidth/4, len(runes)-quoteWidth))
	end := min(len(runes), start+quoteWidth)
	return string(runes[start:end]), col - start
}

// LineOf returns line n of a text, from 1, without its line break.
func LineOf(text []byte, n int) string {
	for ; n > 1; n-- {
		i := bytes.IndexByte(text, '\n')
		if i < 0 {
			return ""
		}
		text = text[i+1:]
	}
	text, _, _ = bytes.Cut(text, []byte("\n"))
	return strings.TrimSuffix(string(text), "\r")
}

// NotObject says why a document is not a Kubernetes object.
type NotObject struct {
	SyntaxError
	// Plain is set for a document that never meant to be one: it has neither
	// apiVersion nor kind (Helm values, a compose file).
	Plain bool
}

// FromNode returns the objects of a document: one, or the items of a List.
func FromNode(root *Node, origin *Origin) ([]*Object, error) {
	if root.Kind != Map {
		return nil, notObject(root, true, "the document is %s, not a Kubernetes object", root.Kind.A())
	}
	apiVersion, kind := root.Get("apiVersion"), root.Get("kind")
	if apiVersion.Str() == "" || kind.Str() == "" {
		plain := apiVersion.Str() == "" && kind.Str() == "" || root.Get("metadata") == nil && root.Get("spec") == nil
		return nil, notObject(root, plain, "apiVersion and kind are not both set")
	}
	if items := root.Get("items"); items != nil && strings.HasSuffix(kind.Text, "List") {
		if items.Kind != List {
			return nil, notObject(items, false, "the items of the %s are %s, not a list", kind.Text, items.Kind.A())
		}
		return fromList(root, items, origin)
	}
	return []*Object{New(root, origin)}, nil
}

// New returns the object of a tree, whatever its kind: what is called a list may
// be a custom resource of that name.
func New(root *Node, origin *Origin) *Object {
	apiVersion, kind := root.Get("apiVersion").Str(), root.Get("kind").Str()
	o := &Object{Root: root, Origin: origin, Ref: Ref{APIVersion: apiVersion, Kind: kind}}
	o.Small = root.weigh(SmallSize) > 0
	meta := root.Get("metadata")
	o.Namespace = meta.Get("namespace").Str()
	switch o.Name = meta.Get("name").Str(); {
	case o.Name != "":
	case meta.Get("generateName").Str() != "":
		o.Name = meta.Get("generateName").Text + "*"
	}
	return o
}

// fromList returns a List's items, and what is wrong with those that are no
// objects. The items of a typed list (PodList) may leave out what the list's own
// kind says.
func fromList(root, items *Node, origin *Origin) ([]*Object, error) {
	kind := strings.TrimSuffix(root.Get("kind").Str(), "List")
	var out []*Object
	var errs []error
	for i, item := range items.Items {
		objects, err := fromItem(root, item, kind, origin)
		for _, o := range objects {
			o.Within = Path{{Field: "items"}, {Item: true, Index: i}}.Append(o.Within...)
		}
		out = append(out, objects...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

func fromItem(root, item *Node, kind string, origin *Origin) ([]*Object, error) {
	if item.Kind != Map {
		return nil, notObject(item, false, "an item of the List is %s, not an object", item.Kind.A())
	}
	if kind != "" && item.Get("kind") == nil && item.Get("apiVersion") == nil {
		typed := *item
		typed.Fields = append([]Field{
			{Key: "apiVersion", Value: root.Get("apiVersion")},
			{Key: "kind", Value: NewString(kind)},
		}, item.Fields...)
		item = &typed
	}
	objects, err := FromNode(item, origin)
	var no *NotObject
	if errors.As(err, &no) {
		no.Plain = false
	}
	return objects, err
}

func notObject(n *Node, plain bool, format string, args ...any) error {
	return &NotObject{SyntaxError{int(n.Line), int(n.Col), fmt.Sprintf(format, args...)}, plain}
}

// Text returns the text of the document that the object stands in.
func (o *Object) Text() Text { return Text{Bytes: o.Origin.Text, Line: o.Origin.FirstLine} }
