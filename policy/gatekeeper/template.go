// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// The engines that the code of a template may be for, as templates name them.
const (
	Rego = "Rego"
	CEL  = "K8sNativeValidation"
)

// target is the only target that Gatekeeper has.
const target = "admission.k8s.gatekeeper.sh"

// maxSource is how long the code of a template may be, in bytes: what a cluster
// stores of one object is hardly more.
const maxSource = 1 << 20

// Options adjust how templates are read.
type Options struct {
	policy.Options
	// Engine is the only engine that there is: Rego or CEL. Empty for both; then
	// a template that has code for both is run with CEL, as Gatekeeper runs it.
	Engine string
	// Observe, where it is set, gets every step of Rego that is run.
	Observe Observer

	providers map[string]*provider
}

// Template is a ConstraintTemplate: what constraints of its kind mean. It is
// safe for concurrent use.
type Template struct {
	Object *object.Object
	// Kind is that of its constraints.
	Kind string
	// Engine is the one that runs it: Rego or CEL.
	Engine string

	operations []string
	deletion   bool // its code tells deletions from other operations
	schema     *schema
	engine     engine
}

// engine runs the code of a template.
type engine interface {
	// violations returns what a constraint finds wrong.
	violations(ctx context.Context, c *Constraint, r *Review) ([]Violation, error)
	// needs is what the code reads beside the object.
	needs() needs
}

// needs is what the code of a template reads beside the object.
type needs struct {
	namespace, user bool
	inventory       []wanted
}

// Violation is what a constraint finds wrong.
type Violation struct {
	Message string
	// Details is what the template says further, of JSON's types.
	Details any
	// Unknown says that the constraint could not be evaluated, and that the
	// message says why. Gatekeeper counts that as a violation unless the template
	// says otherwise.
	Unknown bool
}

// ParseError is why a document is not valid, and where.
type ParseError struct {
	Position object.Position
	Err      error
}

// Error implements error.
func (e *ParseError) Error() string {
	where := e.Position.File
	if e.Position.Line > 0 {
		where = fmt.Sprintf("%s:%d", where, e.Position.Line)
	}
	if where == "" {
		return e.Err.Error()
	}
	return where + ": " + e.Err.Error()
}

// Unwrap returns the reason.
func (e *ParseError) Unwrap() error { return e.Err }

// fault returns a ParseError about a field of a document.
func fault(o *object.Object, fields []string, format string, args ...any) error {
	return &ParseError{o.Position(object.Path(nil).Fields(fields...)), fmt.Errorf(format, args...)}
}

// ParseTemplate reads a ConstraintTemplate and compiles its code. Its error is a
// ParseError.
func ParseTemplate(o *object.Object, opts Options) (*Template, error) {
	if o.Kind != "ConstraintTemplate" || o.Group() != templatesGroup {
		return nil, fault(o, nil, "the %s %s is not a ConstraintTemplate of %s", o.Kind, o.Name, templatesGroup)
	}
	if v := versionOf(o); v != "v1" && v != "v1beta1" && v != "v1alpha1" {
		return nil, fault(o, []string{"apiVersion"}, "ConstraintTemplate %s: there is no version %q of %s; want v1, v1beta1 or v1alpha1", o.Name, v, templatesGroup)
	}
	if why := o.Root.FirstUnknown(); o.Root.HasUnknown() {
		return nil, fault(o, nil, "ConstraintTemplate %s has a value that is not known: %s", o.Name, why)
	}
	t := &Template{Object: o}
	names := []string{"spec", "crd", "spec", "names", "kind"}
	switch t.Kind = o.Root.At(names...).Str(); {
	case t.Kind == "":
		return nil, fault(o, names, "ConstraintTemplate %s names no kind for its constraints; set spec.crd.spec.names.kind", o.Name)
	case !strings.EqualFold(t.Kind, o.Name):
		return nil, fault(o, []string{"metadata", "name"}, "the ConstraintTemplate is named %q; want the kind of its constraints in lower case, %q", o.Name, strings.ToLower(t.Kind))
	}
	at, err := t.target()
	if err != nil {
		return nil, err
	}
	if t.schema, err = templateSchema(o, t.Kind); err != nil {
		return nil, err
	}
	return t, t.code(at, opts)
}

// target returns the place of the one target of a template.
func (t *Template) target() (object.Path, error) {
	o, fields := t.Object, []string{"spec", "targets"}
	targets := o.Root.At(fields...)
	if targets == nil || targets.Kind != object.List || len(targets.Items) != 1 {
		return nil, fault(o, fields, "ConstraintTemplate %s must have exactly one target in spec.targets", o.Name)
	}
	path := object.Path(nil).Fields(fields...).Append(object.Step{Item: true})
	node := o.Root.Lookup(path)
	if name := node.Get("target").Str(); name != target {
		return nil, &ParseError{o.Position(path), fmt.Errorf("ConstraintTemplate %s has the target %q; want %q", o.Name, name, target)}
	}
	if operations := node.Get("operations"); operations != nil {
		for _, item := range operations.Items {
			t.operations = append(t.operations, item.Str())
		}
	}
	return path, nil
}

// code compiles the code that is run: as Gatekeeper chooses it, CEL where there
// is some.
func (t *Template) code(at object.Path, opts Options) error {
	rego, cel := t.sources(at)
	var err error
	switch {
	case cel != nil && opts.Engine != Rego:
		t.Engine = CEL
		t.deletion = strings.Contains(string(t.Object.Root.Lookup(*cel).JSON()), string(policy.Delete))
		t.engine, err = newCEL(t.Object, *cel, opts.Coverage)
	case rego != nil && opts.Engine != CEL:
		t.Engine = Rego
		var e *regoEngine
		if e, err = newRego(t.Object, rego, opts); err == nil {
			t.engine, t.deletion = e, e.names(string(policy.Delete))
		}
	default:
		return &ParseError{t.Object.Position(at), fmt.Errorf("ConstraintTemplate %s has no code for an engine that can run it; want %s or %s", t.Object.Name, Rego, CEL)}
	}
	return err
}

// sources returns the Rego of a template, and the place of its CEL; nil where it
// has none. Rego in the target itself goes before the one in its code.
func (t *Template) sources(at object.Path) (rego *regoSource, cel *object.Path) {
	node := t.Object.Root.Lookup(at)
	if code := node.Get("code"); code != nil {
		for i, item := range code.Items {
			source := at.Append(object.Step{Field: "code"}, object.Step{Item: true, Index: i}, object.Step{Field: "source"})
			switch engine := item.Get("engine").Str(); {
			case engine == Rego && rego == nil:
				rego = &regoSource{at: source, version: item.At("source", "version").Str()}
			case engine == CEL && cel == nil:
				cel = &source
			}
		}
	}
	if node.Get("rego").Str() != "" {
		rego = &regoSource{at: at}
	}
	return rego, cel
}

// deletes says whether constraints of the template are about deletions: where it
// does not say about which operations they are, whether its code knows of any.
func (t *Template) deletes() bool {
	if len(t.operations) > 0 {
		return t.operation(policy.Delete)
	}
	return t.deletion
}

// operation says whether constraints of the template are about an operation.
func (t *Template) operation(o policy.Operation) bool {
	return len(t.operations) == 0 || slices.Contains(t.operations, "*") || slices.Contains(t.operations, string(o))
}
