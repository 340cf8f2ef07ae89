// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"helm.sh/helm/v4/pkg/strvals"
)

// minPrivate is the length, in bytes, from which on a value that the user set
// is kept out of messages; shorter ones stand in too many words.
const minPrivate = 6

// setError says why an argument of --set and the like was not taken. It shows
// the key and never the value, not even in the parser's words.
func setError(flag, set string, err error) *Error {
	key, _, ok := strings.Cut(set, "=")
	if json := strings.HasPrefix(strings.TrimSpace(set), "{"); json || !ok {
		if json && flag == "--set-json" {
			return &Error{File: flag, Msg: setReason(err)}
		}
		return &Error{File: flag, Msg: "an argument has no value: want key=value"}
	}
	return &Error{File: flag, Msg: fmt.Sprintf("%q: %s", key, setReason(err))}
}

// setReason says why in words that hold nothing of the argument.
func setReason(err error) string {
	var file *fs.PathError
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	text := err.Error()
	switch {
	case errors.As(err, &file):
		return "the file cannot be read: " + file.Err.Error()
	case errors.As(err, &syntax), errors.As(err, &kind), strings.Contains(text, "JSON"), strings.Contains(text, "EOF"), strings.Contains(text, "invalid character"):
		return "the value is not JSON"
	case errors.Is(err, strvals.ErrNotList):
		return "what it indexes is not a list"
	case strings.Contains(text, "list must terminate"):
		return "a list must end with }"
	case strings.Contains(text, "has no value"):
		return "a key in it has no value; a comma in a value is written \\,"
	case strings.Contains(text, "nested level"):
		return fmt.Sprintf("a key in it has more than %d levels", strvals.MaxNestedNameLevel)
	case strings.Contains(text, "index"):
		return "an index in it is none, or too large"
	}
	return "cannot be parsed"
}

// privates returns the values that the user set which no message may show, the
// longest first.
func privates(values map[string]any) []string {
	var out []string
	add := func(s string) {
		if len(s) >= minPrivate {
			out = append(out, s)
		}
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case nil, bool:
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		case string:
			add(v)
			for line := range strings.Lines(v) { // messages show single lines
				add(strings.TrimSpace(line))
			}
			quoted := strconv.Quote(v)
			add(quoted[1 : len(quoted)-1])
		default:
			add(fmt.Sprint(v))
		}
	}
	walk(plainMaps(values))
	slices.SortFunc(out, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return slices.Compact(out)
}

// redact takes what is private out of a message.
func (s *source) redact(text string) string {
	for _, value := range s.private {
		text = strings.ReplaceAll(text, value, "****")
	}
	return text
}
