// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	celcommon "github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/parser"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// native takes over a rule that is CEL already.
func (w *ruleWriter) native(p *admissionregistrationv1.ValidatingAdmissionPolicy) error {
	r := w.rules[0]
	c := r.Validation.CEL
	if len(r.Context) > 0 || r.Preconditions != nil {
		return errors.New("a rule in CEL has a context or preconditions in JMESPath, which Kyverno does not read")
	}
	rewrite := w.withoutOrValue
	if w.pods {
		p.Spec.Variables = append(p.Spec.Variables, admissionregistrationv1.Variable{Name: "pod", Expression: podOf("object")})
		if mentions(c, "oldObject.") || mentions(r.CELPreconditions, "oldObject.") {
			p.Spec.Variables = append(p.Spec.Variables, admissionregistrationv1.Variable{Name: "oldPod", Expression: podOf("oldObject")})
		}
		named := strings.NewReplacer(
			"request.object.spec", "variables.pod.spec", "request.object.metadata", "variables.pod.metadata",
			"oldObject.spec", "variables.oldPod.spec", "oldObject.metadata", "variables.oldPod.metadata",
			"object.spec", "variables.pod.spec", "object.metadata", "variables.pod.metadata",
		)
		rewrite = func(expr string) string { return named.Replace(w.withoutOrValue(expr)) }
	}
	excused, err := w.excused(w.searcher(false))
	if err != nil {
		return err
	}
	applies := always
	switch excused = w.about.tidy(excused); {
	case excused == never:
	case strings.Contains(excused, "variables."):
		applies = not(excused)
	default:
		p.Spec.MatchConditions = append(p.Spec.MatchConditions, admissionregistrationv1.MatchCondition{Name: "exceptions", Expression: not(excused)})
	}
	for _, m := range r.CELPreconditions {
		expr := rewrite(m.Expression)
		if expr != m.Expression {
			applies = and(applies, "("+expr+")")
			continue
		}
		p.Spec.MatchConditions = append(p.Spec.MatchConditions, m)
	}
	p.Spec.ParamKind = c.ParamKind
	for _, v := range c.Variables {
		p.Spec.Variables = append(p.Spec.Variables, admissionregistrationv1.Variable{Name: v.Name, Expression: rewrite(v.Expression)})
	}
	for _, v := range c.Expressions {
		v.Expression, v.MessageExpression = rewrite(v.Expression), rewrite(v.MessageExpression)
		v.Message = oneLine(cmp.Or(v.Message, r.Validation.Message))
		if applies != always {
			v.Expression = "!(" + applies + ") || (" + v.Expression + ")"
		}
		p.Spec.Validations = append(p.Spec.Validations, v)
	}
	for _, a := range c.AuditAnnotations {
		a.ValueExpression = rewrite(a.ValueExpression)
		p.Spec.AuditAnnotations = append(p.Spec.AuditAnnotations, a)
	}
	return nil
}

// withoutOrValue takes .orValue() away from fields that are selected as if they were
// there: the value of such a field is no optional one, which Kyverno takes as it is
// and the API server's CEL does not.
func (w *ruleWriter) withoutOrValue(expr string) string {
	calls, err := needlessOrValues(expr)
	if err != nil || len(calls) == 0 {
		return expr // what does not compile is told when the whole is compiled
	}
	w.note("it calls .orValue() of values that are not optional, which Kyverno takes as they are and the API server does not: the call is left out")
	text := []rune(expr)
	for _, open := range slices.Backward(calls) {
		end := closing(text, open)
		start := open
		for start > 0 && text[start] != '.' {
			start--
		}
		text = slices.Delete(text, start, end+1)
	}
	return string(text)
}

func (w *ruleWriter) note(text string) { w.notes = appendNew(w.notes, text) }

// needlessOrValues returns where the parentheses of such calls open, in order.
func needlessOrValues(expr string) ([]int, error) {
	p, err := parser.NewParser(parser.EnableOptionalSyntax(true))
	if err != nil {
		return nil, err
	}
	parsed, errs := p.Parse(celcommon.NewTextSource(expr))
	if len(errs.GetErrors()) > 0 {
		return nil, errors.New(errs.ToDisplayString())
	}
	var out []int
	ast.PreOrderVisit(parsed.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind || e.AsCall().FunctionName() != "orValue" || !e.AsCall().IsMemberFunction() || !isField(e.AsCall().Target()) {
			return
		}
		if at, ok := parsed.SourceInfo().GetOffsetRange(e.ID()); ok {
			out = append(out, int(at.Start))
		}
	}))
	slices.Sort(out)
	return slices.Compact(out), nil
}

// isField says whether an expression is a field of an object or of an item, selected
// without asking whether it is there. Variables may be optional values themselves.
func isField(e ast.Expr) bool {
	if e.Kind() != ast.SelectKind || e.AsSelect().IsTestOnly() {
		return false
	}
	below := e.AsSelect().Operand()
	return isField(below) || below.Kind() == ast.IdentKind && below.AsIdent() != "variables" && below.AsIdent() != "params"
}

// closing returns where what opens at a place closes.
func closing(text []rune, open int) int {
	depth := 0
	var inQuote rune
	for i := open; i < len(text); i++ {
		switch c := text[i]; {
		case inQuote != 0 && c == '\\':
			i++
		case inQuote != 0:
			if c == inQuote {
				inQuote = 0
			}
		case c == '\'' || c == '"':
			inQuote = c
		case c == '(':
			depth++
		case c == ')':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(text) - 1
}
