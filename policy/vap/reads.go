// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"slices"
	"strconv"
	"strings"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"

	"sconce.dev/sconce/object"
)

// What an expression reads is told from its syntax: every chain of fields that
// begins at a variable of the request, through the variables of the policy and
// those of loops. It is never less than what is read at run time.

// origin is a place that a value may come from.
type origin struct {
	root string // object, oldObject, params, ...
	path []place
}

// place is one step of an origin.
type place struct {
	field string // of a map
	kind  placeKind
	index int // of an item, where it is written
}

type placeKind uint8

const (
	aField  placeKind = iota
	anItem            // the item of a list that has the index
	someOne           // any item of a list, any value of a map
	wrapped           // the value is an item of a list that the expression makes
)

func (o origin) key() string {
	var b strings.Builder
	b.WriteString(o.root)
	for _, p := range o.path {
		b.WriteByte("./*@"[p.kind])
		b.WriteString(p.field)
		b.WriteString(strconv.Itoa(p.index))
	}
	return b.String()
}

// to returns the origin of what is one step further down.
func (o origin) to(p place) origin {
	if n := len(o.path); n > 0 && o.path[n-1].kind == wrapped {
		if p.kind == someOne || p.kind == anItem {
			return origin{o.root, o.path[:n-1]}
		}
		return o
	}
	return origin{o.root, append(slices.Clip(o.path), p)}
}

// wrap returns the origin of a list that holds what is there. Of an item of a
// list, that is the list.
func (o origin) wrap() origin {
	if n := len(o.path); n > 0 && o.path[n-1].kind == someOne {
		return origin{o.root, o.path[:n-1]}
	}
	return origin{o.root, append(slices.Clip(o.path), place{kind: wrapped})}
}

// read is something that an expression looks at.
type read struct {
	origin
	matters matter
}

// matter is what of a value an expression looks at.
type matter uint8

const (
	contents matter = iota
	length          // whether it is there, and how long it is
	presence        // whether it is there
)

// reads are all of an expression.
type reads struct {
	list []read
	// origins are where the expression's own value may come from; they are the
	// last of the list, after those on the way.
	origins  []origin
	onTheWay int
	// everything says that there are too many to be told apart.
	everything bool
}

// mentions says whether anything of a root is read.
func (r *reads) mentions(root string, fields ...string) bool {
	return r.everything || slices.ContainsFunc(r.list, func(x read) bool {
		if x.root != root {
			return false
		}
		for i, f := range fields {
			if i < len(x.path) && (x.path[i].kind != aField || x.path[i].field != f) {
				return false
			}
		}
		return true
	})
}

// maxReads is how many reads of one expression are told apart.
const maxReads = 1000

// roots are the variables of a request.
var roots = []string{"object", "oldObject", "params", "request", "namespaceObject", "authorizer"}

// reader goes through the syntax of one expression.
type reader struct {
	variables map[string]*reads // those of the policy that come before
	scope     map[string][]origin
	seen      map[string]bool
	out       reads
}

// readsOf says what an expression reads.
func readsOf(e ast.Expr, variables map[string]*reads) *reads {
	r := &reader{variables: variables, scope: map[string][]origin{}, seen: map[string]bool{}}
	r.out.origins = r.visit(e)
	r.out.onTheWay = len(r.out.list)
	r.all(r.out.origins, contents)
	return &r.out
}

// all notes that values of origins are read.
func (r *reader) all(origins []origin, matters matter) {
	for _, o := range origins {
		r.note(read{o, matters})
	}
}

func (r *reader) note(x read) {
	key := x.key() + strconv.Itoa(int(x.matters))
	if r.seen[key] || r.out.everything {
		return
	}
	r.seen[key] = true
	r.out.list = append(r.out.list, x)
	r.out.everything = len(r.out.list) > maxReads
}

// union joins origins, each once.
func (r *reader) union(lists ...[]origin) []origin {
	var out []origin
	seen := map[string]bool{}
	for _, l := range lists {
		for _, o := range l {
			if key := o.key(); !seen[key] {
				seen[key] = true
				out = append(out, o)
			}
		}
	}
	if len(out) > maxReads {
		r.out.everything = true
		return nil
	}
	return out
}

// visit notes what an expression reads by the way, and returns where its value
// may come from: whoever asks notes what becomes of that.
func (r *reader) visit(e ast.Expr) []origin {
	if r.out.everything {
		return nil
	}
	switch e.Kind() {
	case ast.IdentKind:
		return r.ident(e.AsIdent())
	case ast.SelectKind:
		s := e.AsSelect()
		out := r.step(r.visit(s.Operand()), place{field: s.FieldName()})
		if s.IsTestOnly() {
			r.all(out, presence)
			return nil
		}
		return out
	case ast.CallKind:
		return r.call(e.AsCall())
	case ast.ListKind:
		var out []origin
		for _, item := range e.AsList().Elements() {
			for _, o := range r.visit(item) {
				out = append(out, o.wrap())
			}
		}
		return r.union(out)
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			r.use(entry.AsMapEntry().Key(), entry.AsMapEntry().Value())
		}
	case ast.StructKind:
		for _, f := range e.AsStruct().Fields() {
			r.use(f.AsStructField().Value())
		}
	case ast.ComprehensionKind:
		return r.loop(e.AsComprehension())
	}
	return nil
}

// use notes that expressions are read whole.
func (r *reader) use(es ...ast.Expr) {
	r.look(es, contents)
}

func (r *reader) ident(name string) []origin {
	if o, ok := r.scope[name]; ok {
		return o
	}
	if name == "variables" || slices.Contains(roots, name) {
		return []origin{{root: name}}
	}
	return nil
}

// step returns the origins one step further down, through variables.
func (r *reader) step(from []origin, p place) []origin {
	var out []origin
	for _, o := range from {
		if o.root != "variables" || len(o.path) > 0 {
			out = append(out, o.to(p))
			continue
		}
		v := r.variables[p.field]
		if v == nil {
			continue
		}
		r.out.everything = r.out.everything || v.everything
		for _, x := range v.list[:v.onTheWay] {
			r.note(x)
		}
		out = append(out, v.origins...)
	}
	return r.union(out)
}

// call returns where the result of a function may come from: nowhere, for most.
func (r *reader) call(c ast.CallExpr) []origin {
	args := c.Args()
	if c.IsMemberFunction() {
		args = append([]ast.Expr{c.Target()}, args...)
	}
	switch name := c.FunctionName(); name {
	case operators.Conditional:
		r.use(args[0])
		return r.union(r.visit(args[1]), r.visit(args[2]))
	case operators.Index, operators.OptIndex, operators.OptSelect:
		return r.index(args[0], args[1])
	case operators.Add, "orValue", "or", "value", "dyn", "optional.of", "of":
		var out [][]origin
		for _, a := range args {
			out = append(out, r.visit(a))
		}
		return r.union(out...)
	case "size":
		r.look(args, length)
	case "hasValue":
		r.look(args, presence)
	case operators.Equals, operators.NotEquals:
		if slices.ContainsFunc(args, isNull) {
			r.look(args, presence)
			return nil
		}
		r.use(args...)
	default:
		r.use(args...)
	}
	return nil
}

// look notes what of expressions matters.
func (r *reader) look(es []ast.Expr, matters matter) {
	for _, e := range es {
		r.all(r.visit(e), matters)
	}
}

func isNull(e ast.Expr) bool {
	return e.Kind() == ast.LiteralKind && e.AsLiteral() == types.NullValue
}

// index returns where what stands at an index comes from.
func (r *reader) index(operand, index ast.Expr) []origin {
	from := r.visit(operand)
	if index.Kind() == ast.LiteralKind {
		switch v := index.AsLiteral().(type) {
		case types.String:
			return r.step(from, place{field: string(v)})
		case types.Int:
			return r.step(from, place{kind: anItem, index: int(v)})
		}
	}
	r.use(index)
	if slices.ContainsFunc(from, func(o origin) bool { return o.root == "variables" && len(o.path) == 0 }) {
		r.out.everything = true
	}
	return r.step(from, place{kind: someOne})
}

// loop goes through a comprehension, which all macros are made of.
func (r *reader) loop(c ast.ComprehensionExpr) []origin {
	from := r.visit(c.IterRange())
	r.all(from, length)
	items := r.step(from, place{kind: someOne})
	initial := r.visit(c.AccuInit())
	names := []string{c.IterVar(), c.AccuVar()}
	if c.HasIterVar2() {
		names = append(names, c.IterVar2())
	}
	defer r.shadow(names)()
	r.scope[c.IterVar()] = items
	if c.HasIterVar2() {
		r.scope[c.IterVar()], r.scope[c.IterVar2()] = nil, items
	}
	r.scope[c.AccuVar()] = initial
	r.use(c.LoopCondition())
	r.scope[c.AccuVar()] = r.union(initial, r.visit(c.LoopStep()))
	return r.visit(c.Result())
}

// shadow keeps what names mean, and returns what gives it back.
func (r *reader) shadow(names []string) func() {
	before := map[string][]origin{}
	for _, n := range names {
		if o, ok := r.scope[n]; ok {
			before[n] = o
		}
	}
	return func() {
		for _, n := range names {
			delete(r.scope, n)
			if o, ok := before[n]; ok {
				r.scope[n] = o
			}
		}
	}
}

// blank is a value of an object that is not known.
type blank struct {
	path   object.Path
	reason string
	// placed says that the map which it stands in is there whatever it is.
	placed bool
}

// blanks are the values below a node that are not known.
func blanks(n *object.Node) []blank {
	var out []blank
	var walk func(n *object.Node, path object.Path)
	walk = func(n *object.Node, path object.Path) {
		switch {
		case n.Kind == object.Unknown:
			out = append(out, blank{path: path, reason: n.Text})
		case !n.HasUnknown():
		case n.Kind == object.Map:
			for i := range n.Fields {
				walk(n.Fields[i].Value, path.Fields(n.Fields[i].Key))
			}
		case n.Kind == object.List:
			for i, item := range n.Items {
				walk(item, path.Append(object.Step{Item: true, Index: i}))
			}
		}
	}
	walk(n, nil)
	return out
}

// meets says whether a read may look at a value that is not known.
func (x read) meets(b blank) bool {
	path := b.path
	for i, p := range x.path {
		if i >= len(path) {
			return true // inside of it
		}
		switch s := path[i]; {
		case p.kind == wrapped:
			return true
		case p.kind == someOne:
		case p.kind == anItem:
			if !s.Item || s.Index != p.index {
				return false
			}
		case s.Item || s.Field != p.field:
			return false
		}
	}
	switch {
	case x.matters == contents:
		return true
	case x.matters == presence && b.placed:
		return len(path) <= len(x.path)
	}
	return len(path) <= len(x.path)+1
}

// hidden returns why what is read of a root may not be known, or "".
func (r *reads) hidden(root string, all []blank) string {
	for _, b := range all {
		if r.everything {
			return b.reason
		}
		for _, x := range r.list {
			if x.root == root && x.meets(b) {
				return b.reason
			}
		}
	}
	return ""
}
