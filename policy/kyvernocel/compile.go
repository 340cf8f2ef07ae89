// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"fmt"

	"github.com/google/cel-go/cel"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	admissionregistrationv1alpha1 "k8s.io/api/admissionregistration/v1alpha1"

	"sconce.dev/sconce/object"
)

// compileError is what is wrong with an expression of a policy, and where.
type compileError struct {
	path object.Path
	err  error
}

// Error implements error.
func (e *compileError) Error() string { return fmt.Sprintf("%s: %v", e.path, e.err) }

// program is a policy with all its expressions compiled.
type program struct {
	conditions  []*expression
	names       []string
	variables   map[string]*expression
	validations []*validation
	annotations []*expression
	exceptions  []*excuse
	patches     []*patch
	generations []*generation
	targets     *expression   // of targetMatchConstraints
	targetIf    []*expression // targetMatchConditions
	selector    *matcher      // of targetMatchConstraints
	images      *imageProgram
}

// validation is a requirement, and what is said where it is not met.
type validation struct {
	expression *expression
	message    string
	words      *expression
}

// excuse is an exception with its conditions compiled.
type excuse struct {
	*exception
	conditions []*expression
}

// compile compiles the policy. What is generated of it is compiled when it is
// first needed.
func (p *Policy) compile(exceptions []*exception) *compileError {
	for _, v := range p.variants {
		for _, e := range exceptions {
			if e.names(p) {
				v.exceptions = append(v.exceptions, e)
			}
		}
	}
	_, err := p.variants[0].compiled()
	return err
}

// compiled returns the variant's program.
func (v *variant) compiled() (*program, *compileError) {
	v.once.Do(func() { v.program, v.err = v.compile() })
	return v.program, v.err
}

func (v *variant) compile() (*program, *compileError) {
	c, done, err := newCompilation(flavour{v.policy.Type, v.namespace()})
	if err != nil {
		return nil, &compileError{object.Path{{Field: "spec"}}, err}
	}
	defer done()
	c.coverage, c.document = v.policy.coverage, v.policy.Object
	b := &builder{compilation: c, out: &program{}, spec: &v.spec, deleting: v.policy.Type == Deleting}
	first, second := b.conditions, b.declare
	if v.policy.Type == Mutating || v.policy.Type == Deleting {
		first, second = second, first
	}
	first()
	second()
	b.validations()
	b.annotations()
	b.mutations()
	b.generations()
	if v.policy.Type == ImageValidating {
		b.images()
	}
	for _, e := range v.exceptions {
		b.excuse(e)
	}
	return b.out, b.err
}

// namespace is the one that a policy of a namespace is confined to.
func (v *variant) namespace() string {
	switch {
	case kindTypes[v.policy.Kind] == "" || len(v.policy.Kind) < 10 || v.policy.Kind[:10] != "Namespaced":
		return ""
	case v.policy.Namespace == "":
		return "default"
	}
	return v.policy.Namespace
}

// builder compiles what a policy holds, up to the first error.
type builder struct {
	*compilation
	spec     *spec
	out      *program
	err      *compileError
	deleting bool
}

func at(fields ...string) object.Path { return object.Path{{Field: "spec"}}.Fields(fields...) }

func item(list string, i int, fields ...string) object.Path {
	return at(list).Append(object.Step{Item: true, Index: i}).Fields(fields...)
}

// add compiles an expression; nil once there was an error.
func (b *builder) add(path object.Path, source string, want ...*cel.Type) *expression {
	if b.err != nil {
		return nil
	}
	b.at = path
	e, err := b.compile(source, want...)
	b.at = nil
	if err != nil {
		b.err = &compileError{path, err}
	}
	return e
}

func (b *builder) list(field string, conditions []admissionregistrationv1.MatchCondition) []*expression {
	var out []*expression
	for i, c := range conditions {
		out = append(out, b.add(item(field, i, "expression"), c.Expression, cel.BoolType))
	}
	return out
}

func (b *builder) conditions() {
	field := "matchConditions"
	if b.deleting {
		field = "conditions"
	}
	b.out.conditions = b.list(field, b.spec.conditions)
}

func (b *builder) declare() {
	for i, v := range b.spec.variables {
		if b.err != nil {
			return
		}
		b.at = item("variables", i, "expression")
		err := b.variable(v.Name, v.Expression)
		b.at = nil
		if err != nil {
			b.err = &compileError{item("variables", i, "expression"), err}
		}
	}
	b.out.names, b.out.variables = b.names, b.variables
}

func (b *builder) validations() {
	for i, v := range b.spec.validations {
		out := &validation{message: v.Message, expression: b.add(item("validations", i, "expression"), v.Expression, cel.BoolType)}
		if v.MessageExpression != "" {
			out.words = b.add(item("validations", i, "messageExpression"), v.MessageExpression, cel.StringType)
		}
		b.out.validations = append(b.out.validations, out)
	}
}

func (b *builder) annotations() {
	for i, a := range b.spec.annotations {
		b.out.annotations = append(b.out.annotations, b.add(item("auditAnnotations", i, "valueExpression"), a.ValueExpression, cel.StringType, cel.NullType))
	}
}

func (b *builder) mutations() {
	for i, m := range b.spec.mutations {
		switch {
		case m.PatchType == admissionregistrationv1alpha1.PatchTypeJSONPatch && m.JSONPatch != nil:
			e := b.add(item("mutations", i, "jsonPatch", "expression"), m.JSONPatch.Expression, cel.ListType(jsonPatchType))
			b.out.patches = append(b.out.patches, &patch{expression: e})
		case m.PatchType == admissionregistrationv1alpha1.PatchTypeApplyConfiguration && m.ApplyConfiguration != nil:
			e := b.add(item("mutations", i, "applyConfiguration", "expression"), m.ApplyConfiguration.Expression, objectType)
			b.out.patches = append(b.out.patches, &patch{expression: e, apply: true, atomic: b.spec.atomic})
		}
	}
	b.out.targetIf = b.list("targetMatchConditions", b.spec.targetConditions)
	if b.spec.target == nil {
		return
	}
	if b.spec.target.Expression != "" {
		b.out.targets = b.add(at("targetMatchConstraints", "expression"), b.spec.target.Expression, cel.MapType(cel.StringType, cel.AnyType))
	}
	if b.err == nil && len(b.spec.target.ResourceRules) > 0 {
		m, err := newMatcher(&b.spec.target.MatchResources)
		if err != nil {
			b.err = &compileError{at("targetMatchConstraints"), err}
			return
		}
		m.anyOperation = true
		b.out.selector = m
	}
}

func (b *builder) excuse(e *exception) {
	out := &excuse{exception: e}
	for _, c := range e.spec.MatchConditions {
		if b.err != nil {
			return
		}
		x, err := b.compile(c.Expression, cel.BoolType)
		if err != nil {
			b.err = &compileError{at(), fmt.Errorf("exception %s: condition %s: %w", e.Ref, c.Name, err)}
			return
		}
		out.conditions = append(out.conditions, x)
	}
	b.out.exceptions = append(b.out.exceptions, out)
}
