// SPDX-License-Identifier: Apache-2.0

// Package manifest writes objects that were generated as YAML in which comments
// say why a part is there.
package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
	"k8s.io/apimachinery/pkg/runtime"
)

// Document is an object with what is said of its parts.
type Document struct {
	Object runtime.Object
	// Head is said above the object, a line each.
	Head []string
	// Notes are said above a part, by its path: "rules.0", "spec.ingress.1".
	Notes map[string][]string
}

// Note adds a line above a part.
func (d *Document) Note(path, format string, args ...any) {
	if d.Notes == nil {
		d.Notes = map[string][]string{}
	}
	if line := fmt.Sprintf(format, args...); !slices.Contains(d.Notes[path], line) {
		d.Notes[path] = append(d.Notes[path], line)
	}
}

// Tree returns the object as it is in JSON, without what only a server says.
func (d *Document) Tree() (map[string]any, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(d.Object)
	if err != nil {
		return nil, fmt.Errorf("writing a generated object: %w", err)
	}
	delete(content, "status")
	return content, nil
}

// YAML returns documents one after another.
func YAML(documents []*Document) ([]byte, error) {
	var b bytes.Buffer
	for i, d := range documents {
		if i > 0 {
			b.WriteString("---\n")
		}
		text, err := d.yaml()
		if err != nil {
			return nil, err
		}
		b.Write(text)
	}
	return b.Bytes(), nil
}

func (d *Document) yaml() ([]byte, error) {
	tree, err := d.Tree()
	if err != nil {
		return nil, err
	}
	data, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("writing a generated object: %w", err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil {
		return nil, fmt.Errorf("writing a generated object as YAML: %w", err)
	}
	body := root.Content[0]
	d.dress(body, nil)
	order(body)
	var b bytes.Buffer
	for _, line := range d.Head {
		b.WriteString("# " + oneLine(line) + "\n")
	}
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(body); err != nil {
		return nil, fmt.Errorf("writing a generated object as YAML: %w", err)
	}
	if err := e.Close(); err != nil {
		return nil, fmt.Errorf("writing a generated object as YAML: %w", err)
	}
	return visible(b.Bytes()), nil
}

// visible writes characters that do not show themselves by their escapes. They
// stand in quotes: what is plain has none, nor have comments.
func visible(text []byte) []byte {
	var out []byte
	for _, r := range string(text) {
		switch {
		case !hidden(r):
			out = utf8.AppendRune(out, r)
		case r <= 0xffff:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = fmt.Appendf(out, `\U%08x`, r)
		}
	}
	return out
}

func hidden(r rune) bool {
	return r != '\n' && unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp)
}

// dress writes a node and what is in it in blocks, each string quoted only where
// it must be, under what is said of it.
func (d *Document) dress(n *yaml.Node, path []string) {
	n.Style = 0
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" && !plain(n.Value) {
		n.Style = yaml.DoubleQuotedStyle
	}
	said := d.Notes[strings.Join(path, ".")]
	if len(said) > 0 && len(path) > 0 {
		lines := make([]string, len(said))
		for i, line := range said {
			lines[i] = "# " + oneLine(line)
		}
		n.HeadComment = strings.Join(lines, "\n")
	}
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			if key.Style = 0; !plain(key.Value) {
				key.Style = yaml.DoubleQuotedStyle
			}
			d.dress(value, append(slices.Clip(path), key.Value))
			key.HeadComment, value.HeadComment = value.HeadComment, ""
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			d.dress(item, append(slices.Clip(path), strconv.Itoa(i)))
		}
	}
}

// safe is a text that no version of YAML takes for anything else, but for some
// words.
var safe = regexp.MustCompile(`^[A-Za-z/][A-Za-z0-9_./-]*$`)

// plain says whether a text needs no quotes, in YAML 1.1 too, which has more
// words for true and false.
func plain(s string) bool {
	if !safe.MatchString(s) {
		return false
	}
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return false
	}
	return true
}

// order puts what names an object before the rest of it.
func order(n *yaml.Node) {
	rank := func(key string) int {
		if i := slices.Index([]string{"apiVersion", "kind", "metadata"}, key); i >= 0 {
			return i
		}
		return 3
	}
	type field struct{ key, value *yaml.Node }
	var fields []field
	for i := 0; i < len(n.Content); i += 2 {
		fields = append(fields, field{n.Content[i], n.Content[i+1]})
	}
	slices.SortStableFunc(fields, func(a, b field) int { return rank(a.key.Value) - rank(b.key.Value) })
	n.Content = n.Content[:0]
	for _, f := range fields {
		n.Content = append(n.Content, f.key, f.value)
	}
}

// oneLine keeps what is quoted in a comment from ending it, and from acting at a
// terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || hidden(r) {
			return ' '
		}
		return r
	}, s)
}
