// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"helm.sh/helm/v4/pkg/chart/common"
	chart "helm.sh/helm/v4/pkg/chart/v2"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/strvals"

	"sconce.dev/sconce/object"
)

// userValues merges what the caller set, in Helm's order: files, JSON, values,
// strings, files' contents.
func userValues(opts Options) (map[string]any, error) {
	values := map[string]any{}
	for _, name := range opts.ValueFiles {
		more, err := valueFile(name)
		if err != nil {
			return nil, err
		}
		values = loader.MergeMaps(values, more)
	}
	for _, set := range opts.SetJSON {
		var err error
		if values, err = setJSON(set, values); err != nil {
			return nil, setError("--set-json", set, err)
		}
	}
	readFile := func(name []rune) (any, error) {
		data, err := readRegular(string(name))
		return string(data), err
	}
	for _, group := range []struct {
		flag  string
		sets  []string
		parse func(string, map[string]any) error
	}{
		{"--set", opts.Set, strvals.ParseInto},
		{"--set-string", opts.SetString, strvals.ParseIntoString},
		{"--set-file", opts.SetFile, func(s string, v map[string]any) error { return strvals.ParseIntoFile(s, v, readFile) }},
	} {
		for _, set := range group.sets {
			if err := group.parse(set, values); err != nil {
				return nil, setError(group.flag, set, err)
			}
		}
	}
	return values, nil
}

// valueFile reads a file of values.
func valueFile(name string) (map[string]any, error) {
	if strings.Contains(name, "://") {
		return nil, &Error{File: name, Msg: "values are read from files only: fetch it first"}
	}
	data, err := readRegular(name)
	if err != nil {
		return nil, &Error{File: name, Msg: plain(err)}
	}
	values, err := loader.LoadValues(bytes.NewReader(data))
	if err != nil {
		return nil, yamlError(name, err.Error(), data)
	}
	return values, nil
}

// setJSON takes an object, or name=JSON.
func setJSON(set string, values map[string]any) (map[string]any, error) {
	if !strings.HasPrefix(strings.TrimSpace(set), "{") {
		return values, strvals.ParseJSON(set, values)
	}
	var more map[string]any
	if err := json.Unmarshal([]byte(set), &more); err != nil {
		return nil, err
	}
	return loader.MergeMaps(values, more), nil
}

var yamlLine = regexp.MustCompile(`(?:cannot unmarshal yaml document: )?(?:error converting YAML to JSON: )?yaml: line \d+: `)

// yamlError says why a file of YAML was not taken. The parser that Helm uses is
// a line off at times, so the file is read again with one that is not.
func yamlError(file, text string, data []byte) *Error {
	for doc := range object.Split(data) {
		var syntax *object.SyntaxError
		if _, err := object.ParseYAML(doc); errors.As(err, &syntax) {
			return &Error{File: file, Line: syntax.Line, Col: syntax.Col, Msg: syntax.Msg}
		}
	}
	return &Error{File: file, Msg: yamlLine.ReplaceAllString(text, "")}
}

// errElsewhere is why a schema that refers to another document is not used.
var errElsewhere = errors.New("refers to another document")

// offline loads no schema from anywhere. Helm takes a urn: that it cannot
// resolve for a schema that allows everything.
type offline struct{}

func (offline) Load(url string) (any, error) {
	if strings.HasPrefix(url, "urn:") {
		return true, nil
	}
	return nil, errElsewhere
}

// validate checks the values against the schemas of a chart and of those below
// it. It returns notes for the schemas that cannot be used without a network.
func validate(src *source, c *chart.Chart, values map[string]any) ([]string, error) {
	var notes []string
	if c.Schema != nil {
		note, err := validateOne(c.Schema, values)
		if err != nil {
			return nil, &Error{File: src.schemaFile(c), Msg: fmt.Sprintf("the values do not fit the schema of chart %s: %s", c.Name(), src.redact(err.Error()))}
		}
		if note != "" {
			notes = append(notes, fmt.Sprintf("%s: %s; the values were not checked against it", src.schemaFile(c), note))
		}
	}
	for _, sub := range c.Dependencies() {
		raw, ok := values[sub.Name()]
		if !ok || raw == nil {
			continue
		}
		below, ok := asMap(raw)
		if !ok {
			return nil, &Error{File: src.file("values.yaml"), Msg: fmt.Sprintf("the values of subchart %s are not a map", sub.Name())}
		}
		more, err := validate(src, sub, below)
		if err != nil {
			return nil, err
		}
		notes = append(notes, more...)
	}
	return notes, nil
}

// schemaFile returns where a chart's schema came from.
func (s *source) schemaFile(c *chart.Chart) string {
	for _, f := range c.Raw {
		if f.Name == "values.schema.json" {
			return s.fileOf(f)
		}
	}
	return s.dir
}

// validateOne returns a note where the schema cannot be used here.
func validateOne(schema []byte, values map[string]any) (note string, err error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return "", fmt.Errorf("the schema is not JSON: %w", err)
	}
	const url = "file:///values.schema.json"
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(offline{})
	if err := compiler.AddResource(url, doc); err != nil {
		return "", err
	}
	compiled, err := compiler.Compile(url)
	var load *jsonschema.LoadURLError
	switch {
	case errors.As(err, &load):
		return fmt.Sprintf("the schema refers to %s, and Sconce fetches nothing", load.URL), nil
	case err != nil:
		return "", err
	}
	if err := compiled.Validate(plainMaps(values)); err != nil {
		return "", errors.New(strings.TrimPrefix(err.Error(), "jsonschema validation failed with '"+url+"#'\n"))
	}
	return "", nil
}

// asMap returns a value as a map, whichever of Helm's map types it has.
func asMap(v any) (map[string]any, bool) {
	m, ok := plainMaps(v).(map[string]any)
	return m, ok
}

// plainMaps returns a value in which every map is a plain one.
func plainMaps(v any) any {
	switch v := v.(type) {
	case common.Values:
		return plainMaps(map[string]any(v))
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = plainMaps(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = plainMaps(e)
		}
		return out
	}
	return v
}
