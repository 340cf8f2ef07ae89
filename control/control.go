// SPDX-License-Identifier: Apache-2.0

// Package control makes a Control of the public format into something that
// judges objects: it checks the document, compiles its CEL expressions in the
// environment of the API server's admission policies, goes through the elements
// that the control names, and says of each pass, fail or unknown, with the
// place, the evidence and the edit that would mend it.
//
// It holds the only evaluator of controls that there is. It does no I/O and
// knows nothing of how or where a control is run.
package control

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Control is a control that is ready to judge. It is safe for concurrent use.
type Control struct {
	*v1alpha1.Control
	// Position is where the control was read from.
	Position object.Position

	kinds    map[object.GroupKind]bool
	pods     map[object.GroupKind]object.Path // further kinds with pod templates
	elements elements
	when     *expression
	require  *expression
	varNames []string
	vars     []*expression
	message  message
	at       []place
	set      []setEdit
	remove   []place
	add      []addEdit
	params   ref.Val
	shared   *Expressions
}

// Options say what a control is compiled for.
type Options struct {
	// KubernetesVersion is the version of the clusters that are judged; the
	// newest, if it is zero.
	KubernetesVersion Version
	// Parameters take the place of the control's defaults.
	Parameters map[string]v1alpha1.Value
	// PodTemplates are further kinds that hold pod templates.
	PodTemplates []v1alpha1.PodTemplate
	// Expressions, where it is set, is what controls that have most of their
	// expressions in common compile them into.
	Expressions *Expressions
}

type setEdit struct {
	place
	value v1alpha1.Value
}

type addEdit struct {
	place
	values []v1alpha1.Value
}

// New prepares a control. It reads paths, parameters and versions, and leaves
// the CEL expressions to be compiled when they are first needed; Compile does
// that at once.
func New(c *v1alpha1.Control, opts Options) (*Control, error) {
	out := &Control{Control: c, kinds: map[object.GroupKind]bool{}, shared: opts.Expressions}
	for _, k := range c.Spec.Match.Kinds {
		out.kinds[object.GroupKind{Group: k.Group, Kind: k.Kind}] = true
	}
	if err := out.templates(slices.Concat(c.Spec.Match.PodTemplates, opts.PodTemplates)); err != nil {
		return nil, err
	}
	var err error
	if out.elements, err = parseElements(c.Spec.ForEach, c.Spec.Match.Pods); err != nil {
		return nil, fieldError("spec.forEach", err)
	}
	require, err := requirement(&c.Spec, opts.KubernetesVersion)
	if err != nil {
		return nil, err
	}
	out.require = out.shared.expression(require, cel.BoolType)
	if c.Spec.When != "" {
		out.when = out.shared.expression(c.Spec.When, cel.BoolType)
	}
	for _, v := range c.Spec.Variables {
		out.varNames = append(out.varNames, v.Name)
		out.vars = append(out.vars, out.shared.expression(v.Expression, nil))
	}
	if out.message, err = parseMessage(c.Spec.Message, out.shared); err != nil {
		return nil, fieldError("spec.message", err)
	}
	if err := out.places(); err != nil {
		return nil, err
	}
	params, err := parameters(&c.Spec, opts.Parameters)
	if err != nil {
		return nil, err
	}
	out.params = toCEL(params)
	return out, nil
}

// templates adds kinds that hold a pod template.
func (c *Control) templates(templates []v1alpha1.PodTemplate) error {
	if !c.Spec.Match.Pods || len(templates) == 0 {
		return nil
	}
	c.pods = map[object.GroupKind]object.Path{}
	for _, t := range templates {
		fields, err := object.ParseFields(t.Path)
		if err != nil {
			return fieldError("spec.match.podTemplates", err)
		}
		c.pods[object.GroupKind{Group: t.Group, Kind: t.Kind}] = object.Path(nil).Fields(fields...)
	}
	return nil
}

// places reads the paths of at and fix.
func (c *Control) places() error {
	for i, p := range c.Spec.At {
		at, err := c.elements.place(p)
		if err != nil {
			return fieldError(fmt.Sprintf("spec.at[%d]", i), err)
		}
		c.at = append(c.at, at)
	}
	fix := c.Spec.Fix
	if fix == nil {
		return nil
	}
	for _, p := range sortedKeys(fix.Set) {
		at, err := c.elements.place(p)
		if err != nil {
			return fieldError("spec.fix.set", err)
		}
		c.set = append(c.set, setEdit{at, fix.Set[p]})
	}
	for _, p := range fix.Remove {
		at, err := c.elements.place(p)
		if err != nil {
			return fieldError("spec.fix.remove", err)
		}
		c.remove = append(c.remove, at)
	}
	for _, p := range sortedKeys(fix.Add) {
		at, err := c.elements.place(p)
		if err != nil {
			return fieldError("spec.fix.add", err)
		}
		c.add = append(c.add, addEdit{at, fix.Add[p]})
	}
	return nil
}

// Compile compiles every expression of the control, and those of versions that
// it was not made for, and says what is wrong with them.
func (c *Control) Compile() error {
	if err := c.CompileMatch(); err != nil {
		return err
	}
	named := map[string]*expression{"spec.require": c.shared.expression(c.Spec.Require, cel.BoolType)}
	if c.when != nil {
		named["spec.when"] = c.when
	}
	for i, v := range c.vars {
		named[fmt.Sprintf("spec.variables[%d].expression", i)] = v
	}
	for i, v := range c.Spec.Versions {
		named[fmt.Sprintf("spec.versions[%d].require", i)] = c.shared.expression(v.Require, cel.BoolType)
	}
	for _, field := range sortedKeys(named) {
		err := named[field].compile()
		if err == nil {
			err = c.checkNames(named[field])
		}
		if err != nil {
			return fieldError(field, err)
		}
	}
	for i, e := range c.message.exprs {
		err := e.compile()
		if err == nil {
			err = c.checkNames(e)
		}
		if err != nil {
			return fieldError("spec.message", fmt.Errorf("expression %d, {%s}: %w", i+1, e.source, err))
		}
	}
	return nil
}

// CompileMatch compiles what judging needs, and leaves the message, which only
// a finding needs.
func (c *Control) CompileMatch() error {
	if c.when != nil {
		if err := c.when.compile(); err != nil {
			return fieldError("spec.when", err)
		}
	}
	if err := c.require.compile(); err != nil {
		return fieldError("spec.require", err)
	}
	for i, v := range c.vars {
		if err := v.compile(); err != nil {
			return fieldError(fmt.Sprintf("spec.variables[%d].expression", i), err)
		}
	}
	return nil
}

// Matches says whether the control is about objects of this kind.
func (c *Control) Matches(gk object.GroupKind) bool {
	if c.kinds[gk] {
		return true
	}
	_, ok := c.podPath(gk)
	return ok
}

// MatchesGroup says whether the control is about objects of any kind of a group.
func (c *Control) MatchesGroup(group string) bool {
	in := func(gk object.GroupKind) bool { return gk.Group == group }
	if slices.ContainsFunc(slices.Collect(maps.Keys(c.kinds)), in) {
		return true
	}
	return c.Spec.Match.Pods && (slices.ContainsFunc(object.PodKinds(), in) || slices.ContainsFunc(slices.Collect(maps.Keys(c.pods)), in))
}

// PodPath returns where the kind holds a pod that the control judges.
func (c *Control) PodPath(gk object.GroupKind) (object.Path, bool) { return c.podPath(gk) }

func (c *Control) podPath(gk object.GroupKind) (object.Path, bool) {
	if !c.Spec.Match.Pods {
		return nil, false
	}
	if p, ok := object.PodPath(gk); ok {
		return p, true
	}
	p, ok := c.pods[gk]
	return p, ok
}

// Verdict is what a control says of one object.
type Verdict struct {
	// Outcome is the worst of the elements': fail, then unknown, then pass.
	Outcome verdict.Outcome
	// Findings are those elements that do not pass, in the order of the
	// object. Positions are not filled in yet.
	Findings []Finding
}

// Finding is an element that does not pass.
type Finding struct {
	Outcome verdict.Outcome
	// Element is where the element is; empty for the object itself.
	Element object.Path
	// Path is the field to look at; Missing says that it is not there.
	Path     object.Path
	Missing  bool
	Message  string
	Evidence []verdict.Evidence
	Edits    []verdict.Edit
}

// judgement is one run of a control over one object.
type judgement struct {
	c       *Control
	o       *object.Object
	pod     *object.Node
	podPath object.Path
	scope   scope
	steps   steps
	out     Verdict
}

var judgements = sync.Pool{New: func() any { return new(judgement) }}

// Judge judges an object of a kind that the control matches. What is not known
// of the object's namespace is given as nil.
func (c *Control) Judge(o *object.Object, namespace *object.Node) Verdict {
	out, cost := c.judge(o, namespace, false)
	if cost > CostLimit {
		// The bounds that were charged may be far above what was spent.
		out, _ = c.judge(o, namespace, true)
	}
	return out
}

// judge judges an object and returns what that cost, exactly or at the most.
func (c *Control) judge(o *object.Object, namespace *object.Node, exact bool) (Verdict, uint64) {
	j := judgements.Get().(*judgement)
	*j = judgement{c: c, o: o, out: Verdict{Outcome: verdict.Pass}}
	defer judgements.Put(j)
	j.scope.small, j.scope.exact = o.Small, exact
	j.scope.object, j.scope.root = toCEL(o.Root), o.Root
	j.scope.params = c.params
	j.scope.namespace = noNamespace()
	if namespace != nil {
		j.scope.namespace = toCEL(namespace)
	}
	if path, ok := c.podPath(o.GroupKind()); ok {
		j.podPath = path
		j.pod = o.Root
		for _, s := range path {
			j.pod = j.pod.Get(s.Field)
		}
		if j.pod == nil || j.pod.Kind != object.Map {
			j.unknown(nil, path, fmt.Sprintf("%s is missing, so there is no pod to judge", path))
			return j.out, 0
		}
		j.scope.pod = toCEL(j.pod)
	}
	c.elements.each(j)
	return j.out, j.scope.cost
}

// noNamespace stands for a namespace of which nothing is known.
var noNamespace = sync.OnceValue(func() ref.Val {
	return unknown("namespaceObject: the namespace is not among what was read")
})

// element judges one element; it is called by elements.each with the scope set
// to it.
func (j *judgement) element(steps *steps) {
	c := j.c
	if len(c.vars) > 0 {
		j.scope.variables = &variables{scope: &j.scope, names: c.varNames, exprs: c.vars, values: make([]ref.Val, len(c.vars))}
	}
	if c.when != nil {
		switch applies := j.scope.eval(c.when); {
		case applies == types.False:
			return
		case applies != types.True:
			j.undecided(steps, applies)
			return
		}
	}
	switch holds := j.scope.eval(c.require); {
	case holds == types.True:
	case holds == types.False:
		j.fail(steps)
	default:
		j.undecided(steps, holds)
	}
}

// fail adds a finding for the current element.
func (j *judgement) fail(steps *steps) {
	f := j.finding(steps)
	f.Outcome = verdict.Fail
	f.Message = j.c.message.text(&j.scope)
	f.Edits = j.edits(steps)
	j.out.Outcome = verdict.Fail
	j.out.Findings = append(j.out.Findings, f)
}

// undecided adds an unknown finding for the current element.
func (j *judgement) undecided(steps *steps, v ref.Val) {
	f := j.finding(steps)
	f.Outcome = verdict.Unknown
	f.Message = reason(v)
	j.add(f)
}

// unknown adds an unknown finding for a place that keeps elements from being
// gone through.
func (j *judgement) unknown(element, path object.Path, why string) {
	j.add(Finding{Outcome: verdict.Unknown, Element: element, Path: path, Message: why})
}

func (j *judgement) add(f Finding) {
	if j.out.Outcome == verdict.Pass {
		j.out.Outcome = verdict.Unknown
	}
	j.out.Findings = append(j.out.Findings, f)
}

var quotedText = regexp.MustCompile(`"[^"]*"`)

// reason says why a value is not a verdict.
func reason(v ref.Val) string {
	switch v := v.(type) {
	case *types.Unknown:
		var names []string
		for _, id := range v.IDs() {
			trails, _ := v.GetAttributeTrails(id)
			for _, t := range trails {
				names = append(names, t.Variable())
			}
		}
		slices.Sort(names)
		return "not known: " + strings.Join(slices.Compact(names), "; ")
	case *types.Err:
		if strings.Contains(v.Error(), "no such overload") {
			return "cannot be decided: a value is not of the type that belongs there (" + quotedText.ReplaceAllString(v.Error(), `"…"`) + ")"
		}
		// Libraries quote the value that they could not read; it may be secret.
		return "cannot be decided: " + quotedText.ReplaceAllString(v.Error(), `"…"`)
	}
	return fmt.Sprintf("cannot be decided: the expression gave a %s, not true or false", v.Type().TypeName())
}

// finding begins a finding for the current element: where it is and what was
// read there.
func (j *judgement) finding(steps *steps) Finding {
	f := Finding{Element: steps.path()}
	f.Path = f.Element
	if len(f.Path) == 0 {
		f.Path = j.podPath
	}
	for i, p := range j.c.at {
		path := j.resolve(p, f.Element, steps)
		n := j.o.Root.Lookup(path)
		f.Evidence = append(f.Evidence, verdict.Evidence{Path: path.String(), Value: j.c.show(n)})
		if i == 0 || f.Missing && n != nil {
			f.Path, f.Missing = path, n == nil
		}
	}
	return f
}

// maxEvidence is how long a value may be to be shown whole.
const maxEvidence = 120

// show returns a value as evidence.
func (c *Control) show(n *object.Node) string {
	if n != nil && c.Spec.Sensitive && n.Kind != object.Null {
		return "(masked)"
	}
	s := n.Scalar()
	if len(s) > maxEvidence {
		s = strings.ToValidUTF8(s[:maxEvidence], "") + "…"
	}
	return s
}

// resolve returns the path that a place means for the current element.
func (j *judgement) resolve(p place, element object.Path, steps *steps) object.Path {
	switch p.base {
	case atObject:
		return object.Path(nil).Fields(p.fields...)
	case atPod:
		return j.podPath.Fields(p.fields...)
	case atContainer:
		return steps.container().Fields(p.fields...)
	}
	if len(element) == 0 && j.c.Spec.Match.Pods {
		element = j.podPath
	}
	return element.Fields(p.fields...)
}

// edits returns what the control's fix does to the current element.
func (j *judgement) edits(steps *steps) []verdict.Edit {
	c := j.c
	if c.Spec.Fix == nil {
		return nil
	}
	element := steps.path()
	var out []verdict.Edit
	edit := func(op verdict.EditOp, p place, value v1alpha1.Value) {
		path := j.resolve(p, element, steps)
		out = append(out, verdict.Edit{Op: op, Path: path.String(), Steps: path, Value: value})
	}
	for _, r := range c.remove {
		if j.o.Root.Lookup(j.resolve(r, element, steps)) != nil {
			edit(verdict.Remove, r, v1alpha1.Value{})
		}
	}
	for _, s := range c.set {
		edit(verdict.Set, s.place, s.value)
	}
	for _, a := range c.add {
		for _, v := range a.values {
			edit(verdict.Add, a.place, v)
		}
	}
	return out
}
