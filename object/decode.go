// SPDX-License-Identifier: Apache-2.0

package object

import (
	gojson "encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"sigs.k8s.io/json"
)

// Decode fills a Go type from a document, strictly: a field that the type does
// not have and a value of the wrong type are errors, each with its place.
func Decode(root *Node, into any) []*SyntaxError {
	w := jsonWriter{at: map[int]*Node{}}
	w.value(root)
	strict, err := json.UnmarshalStrict(w.buf, into)
	if err != nil {
		return []*SyntaxError{decodeError(root, &w, err)}
	}
	var out []*SyntaxError
	for _, err := range strict {
		out = append(out, strictError(root, err))
	}
	return out
}

// strictError gives a strict decoding error its place.
func strictError(root *Node, err error) *SyntaxError {
	var fe json.FieldError
	if !errors.As(err, &fe) {
		return &SyntaxError{int(root.Line), int(root.Col), err.Error()}
	}
	spot, _ := root.SpotOf(ParsePath(fe.FieldPath()))
	return &SyntaxError{spot.Line, spot.Col, fmt.Sprintf("unknown field %q", fe.FieldPath())}
}

var goTypes = regexp.MustCompile(`^json: cannot unmarshal (\S+)( \S+)? into Go (struct field (\S+) of type|value of type) (\S+)$`)

// decodeError gives a type error its place and says it in plain words.
func decodeError(root *Node, w *jsonWriter, err error) *SyntaxError {
	n, msg := root, strings.TrimPrefix(err.Error(), "json: ")
	var te *gojson.UnmarshalTypeError
	if errors.As(err, &te) {
		if at := w.at[int(te.Offset)]; at != nil {
			n = at
		}
	}
	if m := goTypes.FindStringSubmatch(err.Error()); m != nil {
		field := m[4]
		if _, after, ok := strings.Cut(field, "."); ok {
			field = after
		}
		msg = fmt.Sprintf("%s is %s, but must be %s", field, n.Kind.A(), jsonType(m[5]))
	}
	return &SyntaxError{int(n.Line), int(n.Col), msg}
}

// jsonType names a Go type as a person who writes YAML would.
func jsonType(goType string) string {
	switch {
	case strings.HasPrefix(goType, "[]"):
		return "a list"
	case strings.HasPrefix(goType, "map["):
		return "a map"
	case strings.HasPrefix(goType, "int"):
		return "an integer"
	case goType == "bool":
		return "a boolean"
	case goType == "string":
		return "a string"
	}
	_, name, _ := strings.Cut(goType, ".")
	switch name {
	case "Severity", "Layer", "Phase", "Action", "ParameterType", "PodSecurityLevel":
		return "a string"
	}
	return "a map (" + name + ")"
}

// ParsePath reads a path as Path.String writes it: spec.containers[0].name,
// items by index or by key.
func ParsePath(s string) Path {
	var out Path
	for s != "" {
		switch {
		case strings.HasPrefix(s, "['"):
			field, rest, _ := strings.Cut(s[2:], "']")
			out = append(out, Step{Field: field})
			s = rest
		case s[0] == '[':
			key, rest, _ := strings.Cut(s[1:], "]")
			if i, err := strconv.Atoi(key); err == nil {
				out = append(out, Step{Item: true, Index: i})
			} else {
				out = append(out, Step{Item: true, Key: key})
			}
			s = rest
		default:
			s = strings.TrimPrefix(s, ".")
			end := strings.IndexAny(s, ".[")
			if end < 0 {
				end = len(s)
			}
			out = append(out, Step{Field: s[:end]})
			s = s[end:]
		}
	}
	return out
}

// jsonWriter writes a tree as JSON and remembers which value stands where.
type jsonWriter struct {
	buf []byte
	at  map[int]*Node // by the offset after a value, and after its first byte
}

// JSON returns the value as JSON. An Unknown becomes null.
func (n *Node) JSON() []byte {
	var w jsonWriter
	w.value(n)
	return w.buf
}

func (w *jsonWriter) value(n *Node) {
	start := len(w.buf) + 1
	switch n.Kind {
	case String:
		w.string(n.Text)
	case List:
		w.buf = append(w.buf, '[')
		for i, item := range n.Items {
			if i > 0 {
				w.buf = append(w.buf, ',')
			}
			w.value(item)
		}
		w.buf = append(w.buf, ']')
	case Map:
		w.buf = append(w.buf, '{')
		for i, f := range n.Fields {
			if i > 0 {
				w.buf = append(w.buf, ',')
			}
			w.string(f.Key)
			w.buf = append(w.buf, ':')
			w.value(f.Value)
		}
		w.buf = append(w.buf, '}')
	case Null, Unknown:
		w.buf = append(w.buf, "null"...)
	default:
		w.buf = append(w.buf, n.Scalar()...)
	}
	if w.at != nil {
		w.at[start] = n
		w.at[len(w.buf)] = n
	}
}

// string writes s as a JSON string.
func (w *jsonWriter) string(s string) {
	const hex = "0123456789abcdef"
	w.buf = append(w.buf, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			w.buf = append(w.buf, '\\', c)
		case c < 0x20:
			w.buf = append(w.buf, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			w.buf = append(w.buf, c)
		}
	}
	w.buf = append(w.buf, '"')
}
