// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"sconce.dev/sconce/policy/gatekeeper"
)

// rego writes the code of a template in Rego as validations.
func (w *constraintWriter) rego() error {
	parameters := w.spec.Parameters
	if parameters == nil {
		parameters = map[string]any{}
	}
	known, err := ast.InterfaceToValue(parameters)
	if err != nil {
		return fmt.Errorf("the parameters: %w", err)
	}
	r := &regoWriter{code: w.code, parameters: known, object: common(w.about.kinds), kinds: w.about.kinds, names: map[string]int{}}
	if w.about.anyKind {
		r.object, r.kinds = shape{}, nil
	}
	plans, err := r.violations()
	if err != nil {
		w.at = w.code.Position(r.at)
		return err
	}
	w.source = nativeSource{FailurePolicy: string(admissionregistrationv1.Fail)}
	for _, p := range plans {
		for _, way := range p.simplified(nil).ways() {
			if err := w.validation(way); err != nil {
				return err
			}
		}
	}
	if len(w.source.Validations) == 0 {
		w.source.Validations = []admissionregistrationv1.Validation{{Expression: always}}
	}
	if strings.Contains(fmt.Sprint(w.source.Validations), "variables.before") {
		w.source.Variables = []admissionregistrationv1.Variable{{Name: "before", Expression: "oldObject == null ? dyn({}) : dyn(oldObject)"}}
	}
	return nil
}

// validation writes what one definition of violation forbids.
func (w *constraintWriter) validation(p *plan) error {
	found := w.about.tidy(p.condition())
	if found == never {
		return nil
	}
	if len(found) > maxExpression {
		return errTooLarge
	}
	v := admissionregistrationv1.Validation{Expression: boolean(not(found)), Message: w.message(p)}
	if leaves, _ := p.leaves(); slices.ContainsFunc(leaves, func(v value) bool { return v.known == nil }) {
		if text, err := p.first(); err == nil && len(text) <= maxMessage {
			v.MessageExpression = typedText(w.about.tidy(text))
		}
	}
	w.source.Validations = append(w.source.Validations, v)
	return nil
}

var texts = regexp.MustCompile(`'((?:[^'\\]|\\.)*)'`)

// message is the text of a violation without what it says of the object.
func (w *constraintWriter) message(p *plan) string {
	leaves, _ := p.leaves()
	for _, v := range leaves {
		if s, ok := v.known.(ast.String); ok {
			return oneLine(string(s))
		}
		if strings.HasPrefix(v.expr, "('") {
			var parts []string
			for _, m := range texts.FindAllStringSubmatch(v.expr, -1) {
				parts = append(parts, strings.NewReplacer(`\'`, "'", `\\`, `\`, `\n`, " ").Replace(m[1]))
			}
			if out := oneLine(strings.Join(parts, "…")); strings.Trim(out, "… ") != "" {
				return out
			}
		}
	}
	return ""
}

// readRego reads the code of a template that is in Rego.
func (w *constraintWriter) readRego() error {
	code, err := gatekeeper.ReadCode(w.template)
	var at *gatekeeper.ParseError
	if errors.As(err, &at) {
		w.at = at.Position
	}
	if err != nil {
		return err
	}
	if code == nil {
		return errors.New("its template has no source in Rego, and none in CEL (" + nativeEngine + ")")
	}
	w.code = code
	return nil
}
