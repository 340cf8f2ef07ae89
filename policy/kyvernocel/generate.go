// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"context"
	"fmt"

	"github.com/google/cel-go/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/kyverno/api/api/policies.kyverno.io/v1alpha1"
)

// generation makes objects: by an expression, or of a template.
type generation struct {
	expression *expression
	template   *template
}

// maxGenerated is the most objects that a policy makes of one request.
const maxGenerated = 1000

func (b *builder) generations() {
	for i, g := range b.spec.generations {
		switch {
		case b.err != nil:
			return
		case g.Template != nil && g.Expression != "":
			b.err = &compileError{item("generate", i), fmt.Errorf("expression and template are both set; want one of them")}
		case g.Template != nil:
			t, err := newTemplate(b.compilation, g.Template.Value, g.Template.Interpolate == v1alpha1.InterpolationModeCEL)
			if err != nil {
				b.err = &compileError{item("generate", i, "template", "value"), err}
			}
			b.out.generations = append(b.out.generations, &generation{template: t})
		default:
			e := b.add(item("generate", i, "expression"), g.Expression, cel.BoolType)
			b.out.generations = append(b.out.generations, &generation{expression: e})
		}
	}
}

// generate makes the objects that the policy makes of the request.
func (v *variant) generate(ctx context.Context, a *activation, p *program) Response {
	for _, g := range p.generations {
		var err error
		if g.template != nil {
			err = v.fromTemplate(ctx, a, g.template)
		} else {
			_, err = g.expression.eval(ctx, a)
		}
		if err == nil && len(a.lookup.generated) > maxGenerated {
			err = fmt.Errorf("the policy makes more than %d objects of one request", maxGenerated)
		}
		if err != nil {
			return failure(v.policy.Name, err)
		}
	}
	if err := evaluateAnnotations(ctx, a, p); err != nil {
		return failure(v.policy.Name, err)
	}
	return Response{Rule: v.policy.Name, Status: Pass, Generated: a.lookup.generated}
}

// fromTemplate makes the objects of a template, each in the namespace that it
// names. A policy of a namespace makes them there and nowhere else.
func (v *variant) fromTemplate(ctx context.Context, a *activation, t *template) error {
	trees, err := t.render(ctx, a)
	if err != nil {
		return err
	}
	for _, tree := range trees {
		u := unstructured.Unstructured{Object: tree}
		namespace := u.GetNamespace()
		if own := v.namespace(); own != "" {
			if namespace != "" && namespace != own {
				return fmt.Errorf("a policy of the namespace %s cannot make an object in %s", own, namespace)
			}
			namespace = own
		}
		if err := a.lookup.GenerateResources(namespace, []map[string]any{tree}); err != nil {
			return err
		}
	}
	return nil
}
