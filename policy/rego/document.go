// SPDX-License-Identifier: Apache-2.0

package rego

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"sconce.dev/sconce/object"
)

// format reads a kind of file.
type format struct {
	name  string
	parse func(data []byte) ([]any, error)
}

// formats are the files that Parse reads, by the ends of their names.
var formats = map[string]format{
	".yaml":         {"YAML", parseYAML},
	".yml":          {"YAML", parseYAML},
	".json":         {"JSON", parseJSON},
	".toml":         {"TOML", parseTOML},
	".hcl":          {"HCL", parseHCL},
	".tf":           {"HCL", parseHCL},
	".tfvars":       {"HCL", parseHCL},
	".dockerfile":   {"Dockerfile", parseDockerfile},
	".ini":          {"INI", parseINI},
	".properties":   {"properties", parseProperties},
	".env":          {"dotenv", parseDotenv},
	".xml":          {"XML", parseXML},
	".gitignore":    {"ignore", parseIgnore},
	".dockerignore": {"ignore", parseIgnore},
}

// unsupported are formats that conftest reads and Parse does not, by the ends of
// the names of files. Two programs have files that end in .conf.
var unsupported = map[string]string{
	".conf": "nginx or HOCON", ".nginx": "nginx", ".hocon": "HOCON",
	".cue": "CUE", ".edn": "EDN", ".jsonnet": "Jsonnet", ".libsonnet": "Jsonnet", ".vcl": "VCL",
	".groovy": "Groovy", ".spdx": "SPDX",
	".textproto": "textproto", ".textpb": "textproto", ".txtpb": "textproto", ".pbtxt": "textproto", ".prototxt": "textproto",
}

// Unsupported is the format of a file, by its name, where rules could judge it
// elsewhere and Parse does not read it; "" for any other.
func Unsupported(name string) string {
	base := baseOf(name)
	switch {
	case base == "nginx.conf":
		return "nginx"
	case base == "jenkinsfile" || strings.HasPrefix(base, "jenkinsfile."):
		return "Groovy"
	case Reads(name):
		return ""
	}
	return unsupported[path.Ext(base)]
}

// baseOf is the name of a file without its folder, in lower case.
func baseOf(name string) string {
	return strings.ToLower(path.Base(strings.ReplaceAll(name, "\\", "/")))
}

// ErrFormat says that files of a name are not read.
var ErrFormat = errors.New("is not supported")

// Parse reads a file that rules judge, as what its name says it is: YAML, JSON,
// TOML, HCL (Terraform), a Dockerfile, INI, properties, dotenv, XML, or a list of
// files to ignore. The shapes are those of conftest: a document for each of
// YAML's, and for each element of a JSON list; of a Dockerfile, the list of its
// instructions.
func Parse(name string, data []byte) (docs []any, err error) {
	f, ok := formatOf(name)
	if !ok {
		format := "of this file"
		if known := Unsupported(name); known != "" {
			format = known
		}
		return nil, fmt.Errorf("%s: the format %s %w; files that are read end in %s, or are named Dockerfile", name, format, ErrFormat, strings.Join(Endings(), ", "))
	}
	if len(data) > object.MaxDocument {
		return nil, fmt.Errorf("%s: %d MiB; at most %d MiB are read", name, len(data)>>20, object.MaxDocument>>20)
	}
	defer recovered(&err, "reading "+name)
	docs, err = f.parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s is no %s that can be read: %w", name, f.name, err)
	}
	return docs, nil
}

// Reads says whether Parse reads files of a name.
func Reads(name string) bool {
	_, ok := formatOf(name)
	return ok
}

// Endings returns the ends of the names of files that Parse reads.
func Endings() []string {
	out := make([]string, 0, len(formats))
	for e := range formats {
		out = append(out, e)
	}
	slices.Sort(out)
	return out
}

// formatOf returns what a file of a name is.
func formatOf(name string) (format, bool) {
	base := baseOf(name)
	switch {
	case base == "dockerfile" || strings.HasPrefix(base, "dockerfile."):
		return formats[".dockerfile"], true
	case base == ".env" || strings.HasPrefix(base, ".env."):
		return formats[".env"], true
	}
	f, ok := formats[path.Ext(base)]
	return f, ok
}

func parseYAML(data []byte) ([]any, error) {
	var out []any
	for text := range object.Split(data) {
		n, err := object.ParseYAML(text)
		if err != nil {
			return nil, err
		}
		if n != nil {
			out = append(out, n.Any())
		}
	}
	return out, nil
}

func parseJSON(data []byte) ([]any, error) {
	nodes, err := object.ParseJSON(data)
	if err != nil {
		return nil, err
	}
	var out []any
	for _, n := range nodes {
		if list, ok := n.Any().([]any); ok {
			out = append(out, list...)
			continue
		}
		out = append(out, n.Any())
	}
	return out, nil
}

func parseTOML(data []byte) ([]any, error) {
	var out map[string]any
	if err := toml.Unmarshal(data, &out); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			row, column := at.Position()
			return nil, fmt.Errorf("line %d, column %d: %w", row, column, err)
		}
		return nil, err
	}
	return []any{plain(out)}, nil
}

// plain makes texts of the times in a tree.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = plain(v[k])
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case time.Time:
		return v.Format(time.RFC3339Nano)
	case fmt.Stringer:
		return v.String()
	}
	return v
}
