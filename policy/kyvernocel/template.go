// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"sconce.dev/sconce/object"
)

// template is a manifest whose strings may hold (( expressions )).
type template struct {
	documents []*object.Node
	// texts are the strings that hold expressions.
	texts map[*object.Node][]fragment
}

// fragment is a part of a string: words, or an expression.
type fragment struct {
	words      string
	expression *expression
}

// newTemplate reads the manifests of a template. Without interpolation, its
// strings are what they are.
func newTemplate(c *compilation, text string, interpolate bool) (*template, error) {
	t := &template{texts: map[*object.Node][]fragment{}}
	for doc := range object.Split([]byte(text)) {
		root, err := object.ParseYAML(doc)
		if err != nil {
			return nil, err
		}
		if root == nil {
			continue
		}
		if interpolate {
			if err := t.read(c, root); err != nil {
				return nil, err
			}
		}
		if root.Kind != object.Map && t.texts[root] == nil {
			return nil, fmt.Errorf("line %d: the document is %s, not an object", root.Line, root.Kind.A())
		}
		t.documents = append(t.documents, root)
	}
	if len(t.documents) == 0 {
		return nil, errors.New("the template is empty")
	}
	return t, nil
}

// read finds the expressions of a value and of what is below it.
func (t *template) read(c *compilation, n *object.Node) error {
	if n.Kind == object.String && strings.Contains(n.Text, "((") {
		fragments, err := fragmentsOf(c, n.Text)
		if err != nil {
			return fmt.Errorf("line %d: %w", n.Line, err)
		}
		t.texts[n] = fragments
	}
	for i := range n.Fields {
		f := &n.Fields[i]
		if begin, _, _ := nextExpression(f.Key); begin >= 0 {
			return fmt.Errorf("line %d: the key %q holds an expression; only values may: write one for the whole map", f.KeyLine, f.Key)
		}
		if err := t.read(c, f.Value); err != nil {
			return err
		}
	}
	for _, item := range n.Items {
		if err := t.read(c, item); err != nil {
			return err
		}
	}
	return nil
}

// nextExpression finds the first (( that is not written \((, and what stands
// before it.
func nextExpression(text string) (begin int, before, rest string) {
	var words strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], `\((`):
			words.WriteString("((")
			i += 2
		case strings.HasPrefix(text[i:], "(("):
			return i, words.String(), text[i+2:]
		default:
			words.WriteByte(text[i])
		}
	}
	return -1, words.String(), ""
}

// fragmentsOf splits a string into words and expressions.
func fragmentsOf(c *compilation, text string) ([]fragment, error) {
	out := []fragment{}
	for text != "" {
		begin, before, rest := nextExpression(text)
		if before != "" {
			out = append(out, fragment{words: before})
		}
		if begin < 0 {
			break
		}
		end, err := endOfExpression(rest)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		source := strings.TrimSpace(rest[:end])
		if source == "" {
			return nil, fmt.Errorf("%q: the expression is empty", text)
		}
		e, err := c.compile(source)
		if err != nil {
			return nil, err
		}
		out = append(out, fragment{expression: e})
		text = rest[end+2:]
	}
	return out, nil
}

// endOfExpression returns where the )) is that ends an expression: parentheses
// and strings of its own do not.
func endOfExpression(text string) (int, error) {
	depth := 0
	var quote byte
	for i := 0; i < len(text); i++ {
		switch b := text[i]; {
		case quote != 0 && b == '\\':
			i++
		case quote != 0:
			if b == quote {
				quote = 0
			}
		case b == '"' || b == '\'':
			quote = b
		case b == '(':
			depth++
		case b == ')' && depth > 0:
			depth--
		case b == ')' && strings.HasPrefix(text[i:], "))"):
			return i, nil
		case b == ')':
			return 0, errors.New("there is a ) too many in the expression")
		}
	}
	return 0, errors.New("the expression does not end: want ))")
}

// render returns the objects of the template.
func (t *template) render(ctx context.Context, a *activation) ([]map[string]any, error) {
	var out []map[string]any
	for i, doc := range t.documents {
		v, err := t.value(ctx, a, doc)
		if err != nil {
			return nil, fmt.Errorf("document %d of the template: %w", i+1, err)
		}
		tree, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("document %d of the template is no object", i+1)
		}
		out = append(out, tree)
	}
	return out, nil
}

func (t *template) value(ctx context.Context, a *activation, n *object.Node) (any, error) {
	if fragments, ok := t.texts[n]; ok {
		return text(ctx, a, fragments)
	}
	switch n.Kind {
	case object.Map:
		out := make(map[string]any, len(n.Fields))
		for i := range n.Fields {
			v, err := t.value(ctx, a, n.Fields[i].Value)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", n.Fields[i].Key, err)
			}
			out[n.Fields[i].Key] = v
		}
		return out, nil
	case object.List:
		out := make([]any, 0, len(n.Items))
		for i, item := range n.Items {
			v, err := t.value(ctx, a, item)
			if err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
			out = append(out, v)
		}
		return out, nil
	}
	return n.Any(), nil
}

// text evaluates a string: one expression alone may be of any type.
func text(ctx context.Context, a *activation, fragments []fragment) (any, error) {
	if len(fragments) == 1 && fragments[0].expression != nil {
		v, err := fragments[0].expression.eval(ctx, a)
		if err != nil {
			return nil, err
		}
		return toNative(v)
	}
	var b strings.Builder
	for _, f := range fragments {
		if f.expression == nil {
			b.WriteString(f.words)
			continue
		}
		v, err := f.expression.eval(ctx, a)
		if err != nil {
			return nil, err
		}
		native, err := toNative(v)
		if err != nil {
			return nil, err
		}
		switch native := native.(type) {
		case string:
			b.WriteString(native)
		case bool:
			b.WriteString(strconv.FormatBool(native))
		case int64:
			b.WriteString(strconv.FormatInt(native, 10))
		case float64:
			b.WriteString(strconv.FormatFloat(native, 'g', -1, 64))
		default:
			return nil, fmt.Errorf("an expression within a string is %s; want a string, a number or a boolean", v.Type().TypeName())
		}
	}
	return b.String(), nil
}
