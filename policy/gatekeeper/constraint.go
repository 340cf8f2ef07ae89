// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"sconce.dev/sconce/object"
)

// Constraint is a constraint of a template: what objects it is about, and with
// which parameters. It is safe for concurrent use.
type Constraint struct {
	Object   *object.Object
	Template *Template
	// Action is what is done where it is violated: deny, warn, dryrun, or scoped,
	// which says it for each point of enforcement.
	Action string
	// Scoped are the actions by the points of enforcement, of which "*" is all.
	Scoped map[string][]string

	match      match
	parameters *ast.Term
	tree       *unstructured.Unstructured
}

// Constraint reads a constraint of the template. Its error is a ParseError, and
// a SchemaError too where the constraint does not fit the schema of the template.
func (t *Template) Constraint(o *object.Object) (*Constraint, error) {
	wrong := func(fields []string, err error) error {
		return fault(o, fields, "constraint %s %s: %w", o.Kind, o.Name, err)
	}
	switch {
	case o.Kind != t.Kind || o.Group() != constraintsGroup:
		return nil, wrong(nil, fmt.Errorf("its template is of %s", t.Kind))
	case versionOf(o) != "v1beta1" && versionOf(o) != "v1alpha1":
		return nil, wrong([]string{"apiVersion"}, fmt.Errorf("there is no version %q of constraints; want v1beta1", versionOf(o)))
	case o.Root.HasUnknown():
		return nil, wrong(nil, fmt.Errorf("it has a value that is not known: %s", o.Root.FirstUnknown()))
	}
	c := &Constraint{Object: o, Template: t}
	tree, _ := o.Root.Any().(map[string]any)
	c.tree = &unstructured.Unstructured{Object: tree}
	if err := c.readMatch(o); err != nil {
		return nil, wrong([]string{"spec", "match"}, err)
	}
	if err := t.schema.check(tree, o.Root.At("metadata", "name").Str()); err != nil {
		return nil, wrong([]string{"spec"}, err)
	}
	if err := c.readActions(); err != nil {
		return nil, wrong([]string{"spec", "scopedEnforcementActions"}, err)
	}
	parameters, _, _ := unstructured.NestedFieldNoCopy(tree, "spec", "parameters")
	if parameters == nil {
		parameters = map[string]any{}
	}
	value, err := ast.InterfaceToValue(parameters)
	if err != nil {
		return nil, wrong([]string{"spec", "parameters"}, err)
	}
	c.parameters = ast.NewTerm(value)
	return c, nil
}

// readMatch reads spec.match. What has not the types that it should have is left
// to the schema to tell.
func (c *Constraint) readMatch(o *object.Object) error {
	given := o.Root.At("spec", "match")
	if given == nil {
		return nil
	}
	var wrongType *json.UnmarshalTypeError
	if err := json.Unmarshal(given.JSON(), &c.match); errors.As(err, &wrongType) {
		return nil
	} else if err != nil {
		return err
	}
	return c.match.prepare()
}

// readActions reads what is done where the constraint is violated.
func (c *Constraint) readActions() error {
	c.Action, _, _ = unstructured.NestedString(c.tree.Object, "spec", "enforcementAction")
	c.Action = cmp.Or(c.Action, "deny")
	if c.Action != "scoped" {
		return nil
	}
	list, found, err := unstructured.NestedSlice(c.tree.Object, "spec", "scopedEnforcementActions")
	if err != nil || !found {
		return errors.New("spec.enforcementAction is scoped, and there are no spec.scopedEnforcementActions")
	}
	c.Scoped = map[string][]string{}
	for _, item := range list {
		tree, _ := item.(map[string]any)
		action, _, _ := unstructured.NestedString(tree, "action")
		points, _, _ := unstructured.NestedSlice(tree, "enforcementPoints")
		for _, p := range points {
			point, _ := p.(map[string]any)
			if name, _, _ := unstructured.NestedString(point, "name"); name != "" && action != "" {
				c.Scoped[name] = append(c.Scoped[name], action)
			}
		}
	}
	return nil
}

// Enforced says whether the constraint is enforced at a point, such as
// gator.gatekeeper.sh.
func (c *Constraint) Enforced(point string) bool {
	return c.Action != "scoped" || len(c.Scoped[point]) > 0 || len(c.Scoped["*"]) > 0
}

// actions returns all the actions that the constraint names, for any point.
func (c *Constraint) actions() []string {
	if c.Action != "scoped" {
		return []string{c.Action}
	}
	var out []string
	for _, actions := range c.Scoped {
		out = append(out, actions...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// admissionPoints are where requests are enforced: by Gatekeeper's webhook, or by
// the API server.
var admissionPoints = []string{"*", "validation.gatekeeper.sh", "vap.k8s.io"}

// atAdmission returns the actions at admission: none but telling where the
// constraint is for other points alone.
func (c *Constraint) atAdmission() []string {
	if c.Action != "scoped" {
		return []string{c.Action}
	}
	out := []string{"dryrun"}
	for _, point := range admissionPoints {
		out = append(out, c.Scoped[point]...)
	}
	return out
}

// Review says what the constraint finds wrong with a request. Applies is false
// where the constraint is not about it. The error says why it cannot be
// evaluated; an UnknownError that something is not known.
func (c *Constraint) Review(ctx context.Context, r *Review) (found []Violation, applies bool, err error) {
	if !operation(r, c.Template) {
		return nil, false, nil
	}
	matches, unmatched := c.match.review(r)
	if !matches && unmatched == nil {
		return nil, false, nil
	}
	if unmatched != nil && r.Literal {
		return nil, true, unmatched
	}
	found, err = c.Template.engine.violations(ctx, c, r)
	if unmatched != nil && (err != nil || len(found) > 0) {
		return nil, true, &UnknownError{What: unmatched.Error()}
	}
	return found, true, err
}
