// SPDX-License-Identifier: Apache-2.0

package rego

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"sconce.dev/sconce/object"
)

// parseHCL reads HCL, as Terraform uses it. Blocks become lists below their type
// and labels; expressions that are not constant stay texts: ${var.name}.
func parseHCL(data []byte) ([]any, error) {
	if err := shallow(data); err != nil {
		return nil, err
	}
	file, diagnostics := hclsyntax.ParseConfig(data, "", hcl.InitialPos)
	if diagnostics.HasErrors() {
		first := diagnostics.Errs()[0]
		var d *hcl.Diagnostic
		if errors.As(first, &d) && d.Subject != nil {
			return nil, fmt.Errorf("line %d, column %d: %s", d.Subject.Start.Line, d.Subject.Start.Column, d.Summary)
		}
		return nil, first
	}
	body, ok := file.Body.(*hclsyntax.Body)
	if !ok {
		return nil, errors.New("it has no body")
	}
	h := &hclReader{text: data}
	out, err := h.body(body)
	if err != nil {
		return nil, err
	}
	return []any{out}, nil
}

// maxBrackets is how deep brackets and operators may be nested: the parser of
// the library calls itself for each.
const maxBrackets = 500

// shallow refuses a text whose brackets are nested too deep, or that repeats an
// operator before a value too often.
func shallow(data []byte) error {
	depth, run := 0, 0
	for _, c := range data {
		switch c {
		case '(', '[', '{':
			depth++
		case ')', ']', '}':
			depth--
		}
		switch c {
		case '!', '-':
			run++
		case ' ', '\t':
		default:
			run = 0
		}
		if depth > maxBrackets || run > maxBrackets {
			return fmt.Errorf("it is nested more than %d deep", maxBrackets)
		}
	}
	return nil
}

type hclReader struct{ text []byte }

func (h *hclReader) body(body *hclsyntax.Body) (map[string]any, error) {
	out := map[string]any{}
	for _, b := range body.Blocks {
		if err := h.block(b, out); err != nil {
			return nil, err
		}
	}
	for _, name := range attributeNames(body) {
		v, err := h.expression(body.Attributes[name].Expr)
		if err != nil {
			return nil, err
		}
		out[name] = v
	}
	return out, nil
}

func attributeNames(body *hclsyntax.Body) []string {
	names := make([]string, 0, len(body.Attributes))
	for n := range body.Attributes {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// block adds a block to the list below its type and labels.
func (h *hclReader) block(b *hclsyntax.Block, out map[string]any) error {
	key := b.Type
	for _, label := range b.Labels {
		below, exists := out[key]
		if !exists {
			below = map[string]any{}
			out[key] = below
		}
		next, ok := below.(map[string]any)
		if !ok {
			return mixed(b)
		}
		out, key = next, label
	}
	value, err := h.body(b.Body)
	if err != nil {
		return err
	}
	current, exists := out[key]
	list, ok := current.([]any)
	if exists && !ok {
		return mixed(b)
	}
	out[key] = append(list, value)
	return nil
}

func mixed(b *hclsyntax.Block) error {
	at := b.Range().Start
	return fmt.Errorf("line %d: blocks %s stand with and without the label %q", at.Line, b.Type, strings.Join(b.Labels, "."))
}

func (h *hclReader) expression(e hclsyntax.Expression) (any, error) {
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		return fromCty(e.Val)
	case *hclsyntax.UnaryOpExpr:
		if _, ok := e.Val.(*hclsyntax.LiteralValueExpr); ok {
			v, diagnostics := e.Value(nil)
			if diagnostics.HasErrors() {
				return h.wrap(e), nil
			}
			return fromCty(v)
		}
	case *hclsyntax.TemplateExpr:
		return h.template(e)
	case *hclsyntax.TemplateWrapExpr:
		return h.expression(e.Wrapped)
	case *hclsyntax.TupleConsExpr:
		out := make([]any, 0, len(e.Exprs))
		for _, item := range e.Exprs {
			v, err := h.expression(item)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case *hclsyntax.ObjectConsExpr:
		return h.object(e)
	}
	text := h.source(e.Range())
	for _, t := range []string{"string", "number", "bool", "list", "set", "map", "object", "tuple"} {
		if strings.HasPrefix(text, t) {
			return text, nil
		}
	}
	return "${" + text + "}", nil
}

func (h *hclReader) object(e *hclsyntax.ObjectConsExpr) (any, error) {
	out := map[string]any{}
	for _, item := range e.Items {
		key, err := h.key(item.KeyExpr)
		if err != nil {
			return nil, err
		}
		if out[key], err = h.expression(item.ValueExpr); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (h *hclReader) key(e hclsyntax.Expression) (string, error) {
	if k, ok := e.(*hclsyntax.ObjectConsKeyExpr); ok {
		e = k.Wrapped
		if _, ok := e.(*hclsyntax.ScopeTraversalExpr); ok {
			return h.source(e.Range()), nil
		}
	}
	return h.part(e)
}

func (h *hclReader) template(e *hclsyntax.TemplateExpr) (string, error) {
	var b strings.Builder
	for _, p := range e.Parts {
		s, err := h.part(p)
		if err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

// part returns a part of a text as it is written in templates.
func (h *hclReader) part(e hclsyntax.Expression) (string, error) {
	switch e := e.(type) {
	case *hclsyntax.LiteralValueExpr:
		v, err := convert.Convert(e.Val, cty.String)
		if err != nil || v.IsNull() || !v.IsKnown() {
			return h.wrap(e), nil
		}
		return v.AsString(), nil
	case *hclsyntax.TemplateExpr:
		return h.template(e)
	case *hclsyntax.TemplateWrapExpr:
		return h.part(e.Wrapped)
	case *hclsyntax.ConditionalExpr:
		return h.conditional(e)
	case *hclsyntax.TemplateJoinExpr:
		if loop, ok := e.Tuple.(*hclsyntax.ForExpr); ok {
			return h.loop(loop)
		}
	}
	return h.wrap(e), nil
}

func (h *hclReader) conditional(e *hclsyntax.ConditionalExpr) (string, error) {
	yes, err := h.part(e.TrueResult)
	if err != nil {
		return "", err
	}
	no, err := h.part(e.FalseResult)
	if err != nil {
		return "", err
	}
	out := "%{if " + h.source(e.Condition.Range()) + "}" + yes
	if no != "" {
		out += "%{else}" + no
	}
	return out + "%{endif}", nil
}

func (h *hclReader) loop(e *hclsyntax.ForExpr) (string, error) {
	text, err := h.part(e.ValExpr)
	if err != nil {
		return "", err
	}
	names := e.ValVar
	if e.KeyVar != "" {
		names = e.KeyVar + ", " + names
	}
	return "%{for " + names + " in " + h.source(e.CollExpr.Range()) + "}" + text + "%{endfor}", nil
}

func (h *hclReader) wrap(e hclsyntax.Expression) string { return "${" + h.source(e.Range()) + "}" }

// source returns the text of a range; the closing bracket of a call, which the
// library leaves out, is added.
func (h *hclReader) source(r hcl.Range) string {
	end := r.End.Byte
	if end < len(h.text) && h.text[end] == ')' {
		end++
	}
	return string(h.text[r.Start.Byte:end])
}

// fromCty returns a constant as JSON holds it.
func fromCty(v cty.Value) (any, error) {
	data, err := ctyjson.Marshal(v, v.Type())
	if err != nil {
		return nil, fmt.Errorf("a constant: %w", err)
	}
	nodes, err := object.ParseJSON(data)
	if err != nil || len(nodes) != 1 {
		return nil, errors.Join(errors.New("a constant cannot be read"), err)
	}
	return nodes[0].Any(), nil
}
