// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/regoguard"
)

// Observer gets the steps of Rego, by the template that they are of.
type Observer func(*Template) topdown.QueryTracer

// regoSource is where a template has its Rego.
type regoSource struct {
	// at holds rego and libs.
	at      object.Path
	version string
}

// regoEngine runs the Rego of a template. It has a compiler of its own: what is
// wrong with one template is no business of others.
type regoEngine struct {
	compiler *ast.Compiler
	// modules are the template's own, by the names of their files.
	modules map[string]*ast.Module
	// texts are where in the template the files stand.
	texts map[string]object.Path
	query ast.Body
	reads reads
	opts  Options
	watch regoguard.Watch
}

// The files of a template's Rego, and the package of the first.
const (
	mainFile    = "rego"
	mainPackage = "template"
	libsPackage = "libs"
)

// parsed reads and checks the Rego of a template, and compiles nothing.
func parsed(o *object.Object, src *regoSource, opts Options) (*regoEngine, error) {
	e := &regoEngine{modules: map[string]*ast.Module{}, texts: map[string]object.Path{}, opts: opts}
	if err := e.parse(o, src); err != nil {
		return nil, err
	}
	for _, name := range e.files() {
		if err := e.check(o, name); err != nil {
			return nil, err
		}
	}
	for _, m := range e.modules {
		rewriteLibs(m)
	}
	return e, nil
}

// newRego compiles the Rego of a template.
func newRego(o *object.Object, src *regoSource, opts Options) (*regoEngine, error) {
	e, err := parsed(o, src, opts)
	if err != nil {
		return nil, err
	}
	guards := guarded(false)
	e.compiler = guards.Compiler(ast.NewCompiler().WithCapabilities(guards.Capabilities(capabilities())).WithEnablePrintStatements(false))
	e.compiler.Compile(e.modules)
	if e.compiler.Failed() {
		return nil, e.fault(o, e.compiler.Errors)
	}
	query, err := e.compiler.QueryCompiler().Compile(ast.NewBody(ast.NewExpr(ast.NewTerm(ast.Ref{
		ast.DefaultRootDocument, ast.StringTerm(mainPackage), ast.StringTerm("violation"), ast.VarTerm("r"),
	}))))
	if err != nil {
		return nil, fault(o, nil, "ConstraintTemplate %s: compiling the query for violations: %w", o.Name, err)
	}
	e.query = query
	e.reads = readsOf(e.compiler.Modules)
	return e, nil
}

// files returns the names of the files in their order.
func (e *regoEngine) files() []string {
	out := make([]string, 0, len(e.modules))
	for name := range e.modules {
		out = append(out, name)
	}
	slices.SortFunc(out, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	return out
}

// parse reads the modules.
func (e *regoEngine) parse(o *object.Object, src *regoSource) error {
	version := ast.RegoV0
	if src.version == "v1" {
		version = ast.RegoV1
	}
	texts := map[string]object.Path{mainFile: src.at.Fields("rego")}
	names := []string{mainFile}
	if libs := o.Root.Lookup(src.at).Get("libs"); libs != nil {
		for i := range libs.Items {
			name := fmt.Sprintf("libs[%d]", i)
			names = append(names, name)
			texts[name] = src.at.Append(object.Step{Field: "libs"}, object.Step{Item: true, Index: i})
		}
	}
	total := 0
	for _, name := range names {
		at := texts[name]
		text := o.Root.Lookup(at).Str()
		if total += len(text); total > maxSource {
			return &ParseError{o.Position(at), fmt.Errorf("ConstraintTemplate %s has more than %d bytes of Rego", o.Name, maxSource)}
		}
		e.texts[name] = at
		m, err := ast.ParseModuleWithOpts(name, text, ast.ParserOptions{RegoVersion: version})
		switch {
		case err != nil:
			return e.fault(o, err)
		case m == nil:
			return &ParseError{o.Position(at), fmt.Errorf("ConstraintTemplate %s: %s holds no Rego", o.Name, name)}
		}
		e.modules[name] = m
	}
	return nil
}

// fault returns the error of a parser or compiler with its place in the template.
func (e *regoEngine) fault(o *object.Object, err error) error {
	position := o.Position(nil)
	var errs ast.Errors
	var text string
	switch {
	case errors.As(err, &errs) && len(errs) > 0:
		first := errs[0]
		text = first.Message
		if first.Location != nil {
			if at, ok := e.texts[first.Location.File]; ok {
				position = linePosition(o, at, first.Location.Row)
			}
		}
		if len(errs) > 1 {
			text += fmt.Sprintf(" (and %d more)", len(errs)-1)
		}
	default:
		text = err.Error()
	}
	return &ParseError{position, fmt.Errorf("the Rego of ConstraintTemplate %s: %s", o.Name, text)}
}

// linePosition returns where line n of a text that stands in a document is.
func linePosition(o *object.Object, at object.Path, n int) object.Position {
	p := o.Position(at)
	node := o.Root.Lookup(at)
	if node == nil || o.Origin == nil || node.Line == 0 || p.Line == 0 {
		return p
	}
	first := int(node.Line) - p.Line // a field's position is its key's
	own := object.LineOf(o.Origin.Text, int(node.Line)-o.Origin.FirstLine+1)
	if i := int(node.Col) - 1; i < 0 || i >= len(own) || own[i] != '|' && own[i] != '>' {
		return p
	}
	p.Line += first + n
	p.Column, p.QuoteColumn = 0, 0
	p.Quote, _ = object.Window(object.LineOf(o.Origin.Text, int(node.Line)+n-o.Origin.FirstLine+1), 1)
	return p
}

// check holds a module against what Gatekeeper lets a template do: it has the
// rule violation, imports its own libraries, and reads nothing of data but them
// and the inventory.
func (e *regoEngine) check(o *object.Object, name string) error {
	m := e.modules[name]
	refuse := func(at *ast.Location, format string, args ...any) error {
		position := o.Position(e.texts[name])
		if at != nil {
			position = linePosition(o, e.texts[name], at.Row)
		}
		return &ParseError{position, fmt.Errorf("the Rego of ConstraintTemplate %s: %w", o.Name, fmt.Errorf(format, args...))}
	}
	switch {
	case name == mainFile && !slices.ContainsFunc(m.Rules, func(r *ast.Rule) bool { return r.Head.Name == "violation" }):
		return refuse(m.Package.Location, "there is no rule violation")
	case name != mainFile && (len(m.Package.Path) < 3 || !m.Package.Path.HasPrefix(libRef)):
		return refuse(m.Package.Location, "the package of a library is %s; want one below lib", packageName(m))
	}
	for _, i := range m.Imports {
		ref, ok := i.Path.Value.(ast.Ref)
		if !ok || !ref.HasPrefix(libRef) && !ref[0].Equal(futureTerm) {
			return refuse(i.Location, "import %s: only libraries of the template, below data.lib, can be imported", i.Path)
		}
	}
	var err error
	for _, rule := range m.Rules {
		ast.WalkRefs(rule, func(ref ast.Ref) bool {
			if err == nil && ref[0].Equal(ast.DefaultRootDocument) && !ref.HasPrefix(libRef) && !ref.HasPrefix(inventoryRef) {
				err = refuse(ref[0].Location, "%s: of data, only data.inventory and data.lib can be read", ref)
			}
			return true
		})
	}
	if err == nil && name == mainFile {
		m.Package.Path = ast.Ref{ast.DefaultRootDocument, ast.StringTerm(mainPackage)}
	}
	return err
}

func packageName(m *ast.Module) string {
	return strings.TrimPrefix(m.Package.Path.String(), "data.")
}

var (
	libRef       = ast.MustParseRef("data.lib")
	inventoryRef = ast.MustParseRef("data.inventory")
	futureTerm   = ast.VarTerm("future")
)

// rewriteLibs puts the libraries of a template where its own package cannot get
// in their way.
func rewriteLibs(m *ast.Module) {
	move := func(ref ast.Ref) ast.Ref {
		if !ref.HasPrefix(libRef) {
			return ref
		}
		return slices.Concat(ast.Ref{ref[0], ast.StringTerm(libsPackage)}, ref[1:])
	}
	m.Package.Path = move(m.Package.Path)
	terms := func(t *ast.Term) bool {
		if ref, ok := t.Value.(ast.Ref); ok {
			t.Value = move(ref)
		}
		return false
	}
	for _, i := range m.Imports {
		terms(i.Path)
	}
	for _, r := range m.Rules {
		ast.WalkTerms(r, terms)
	}
}

// names says whether the code holds a text.
func (e *regoEngine) names(text string) (found bool) {
	for _, m := range e.modules {
		ast.WalkTerms(m, func(t *ast.Term) bool {
			found = found || t.Value.Compare(ast.String(text)) == 0
			return found
		})
	}
	return found
}

// needs implements engine.
func (e *regoEngine) needs() needs {
	return needs{namespace: e.reads.namespace, user: e.reads.user, inventory: e.reads.inventory}
}

// violations implements engine. It gives up what does not stop.
func (e *regoEngine) violations(ctx context.Context, c *Constraint, r *Review) ([]Violation, error) {
	type outcome struct {
		found []Violation
		err   error
	}
	out := &outcome{}
	if err := e.watch.Do(e.timeout(r), func() { out.found, out.err = e.evaluate(ctx, c, r) }); err != nil {
		return nil, err
	}
	return out.found, out.err
}

// timeout bounds one evaluation.
func (e *regoEngine) timeout(r *Review) time.Duration {
	if n := r.Request.Network; n != nil && e.reads.network {
		return n.Limit()
	}
	return cmp.Or(e.opts.Timeout, defaultTimeout)
}

// evaluate returns what a constraint finds wrong. What the code reads and is not known may turn a
// verdict round: then the constraint holds only if it holds whatever that is.
func (e *regoEngine) evaluate(ctx context.Context, c *Constraint, r *Review) ([]Violation, error) {
	inventory := r.inventories.get(e.reads.inventory)
	run := &regoRun{engine: e, review: r, template: c.Template, inventory: inventory}
	missing := e.missing(r, inventory)
	input := ast.NewTerm(ast.NewObject([2]*ast.Term{reviewTerm, r.term()}, [2]*ast.Term{parametersTerm, c.parameters}))
	if len(missing) == 0 {
		return run.eval(ctx, input)
	}
	if e.reads.dynamic {
		return nil, &UnknownError{What: missing[0].what}
	}
	holds, err := run.holds(ctx, input, missing)
	if err != nil || holds {
		return nil, err
	}
	if len(missing) == 1 && missing[0].what == inventoryMissing && e.reads.monotone {
		found, err := run.eval(ctx, input)
		if err != nil || len(found) > 0 {
			return found, err
		}
	}
	return nil, &UnknownError{What: missing[0].what}
}

const inventoryMissing = "not all objects of the inventory that the template reads are known"

// absent is what the Rego reads and is not known.
type absent struct {
	what string
	ref  *ast.Term
}

// missing returns what the Rego reads and is not known.
func (e *regoEngine) missing(r *Review, in *inventory) (out []absent) {
	if e.reads.user && r.Request.User == nil && !r.Literal {
		out = append(out, absent{"the user who asks is not known", userRef})
	}
	if e.reads.namespace && !r.namespaceKnown() {
		out = append(out, absent{fmt.Sprintf("the namespace %s is not known", r.namespaceName()), namespaceRef}, absent{"", unstableRef})
	}
	if in != nil && !in.complete {
		out = append(out, absent{inventoryMissing, ast.NewTerm(inventoryRef)})
	}
	return out
}

var (
	userRef        = ast.NewTerm(ast.MustParseRef("input.review.userInfo"))
	namespaceRef   = ast.NewTerm(ast.MustParseRef("input.review.namespaceObject"))
	unstableRef    = ast.NewTerm(ast.MustParseRef("input.review._unstable"))
	reviewTerm     = ast.StringTerm("review")
	parametersTerm = ast.StringTerm("parameters")
)
