// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/api/v1alpha1"
)

func init() { suites["trivy"] = trivy }

var (
	regoTest     = regexp.MustCompile(`(?m)^(test_\w+)(\[name\])?( if)? \{$`)
	regoCount    = regexp.MustCompile(`count\(\w+\) *(==|=|>=?|!=) *(\d+|tc\.expected)|assert_count\(\w+, tc\.expected\)`)
	regoMessage  = regexp.MustCompile(`r\[_\]\.msg ==`)
	regoInput    = regexp.MustCompile(`with input as (\w*)`)
	regoSome     = regexp.MustCompile(`some (\w+) in (\w+)`)
	regoVersion  = regexp.MustCompile(`with data\.k8s\.version as (\S+)`)
	regoRegistry = regexp.MustCompile(`with data\.ksv0125\.trusted_registries as (\[.*\])`)
	// anyVersion is what Sconce reads of a version.
	anyVersion = regexp.MustCompile(`1\.\d+(\.\d+)?`)
)

// trivy reads the unit tests of checks/kubernetes: the input of each, and
// whether it expects results; and the samples that a check gives.
func trivy(dir string) ([]caze, error) {
	names, err := filepath.Glob(filepath.Join(dir, "checks", "kubernetes", "*"))
	if err != nil {
		return nil, err
	}
	var out []caze
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // a folder
		}
		var cases []caze
		base := filepath.Base(name)
		if rule, ok := strings.CutSuffix(base, "_test.rego"); ok {
			cases, err = regoCases(rule, string(data))
		} else if rule, ok := strings.CutSuffix(base, ".yaml"); ok {
			cases, err = regoSamples(rule, data)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, cases...)
	}
	return out, nil
}

// regoSamples reads the samples of a check.
func regoSamples(rule string, data []byte) ([]caze, error) {
	var samples struct {
		Kubernetes struct{ Good, Bad []string }
	}
	if err := yaml.Unmarshal(data, &samples); err != nil {
		return nil, err
	}
	var out []caze
	for i, s := range slices.Concat(samples.Kubernetes.Good, samples.Kubernetes.Bad) {
		c := caze{rule: rule, name: fmt.Sprintf("good-%d", i+1)}
		if good := len(samples.Kubernetes.Good); i >= good {
			c.name, c.fails = fmt.Sprintf("bad-%d", i+1-good), true
		}
		file, err := trivyInput(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		c.files = [][]byte{file}
		out = append(out, c)
	}
	return out, nil
}

// regoCases reads the tests of a file of Rego. The input of each is a literal:
// JSON with trailing commas and comments, which YAML reads. It may stand under a
// name, in a function, or hold fields of a row of a table.
func regoCases(rule, text string) ([]caze, error) {
	var out []caze
	starts := regoTest.FindAllStringSubmatchIndex(text, -1)
	for i, m := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		name, body := text[m[2]:m[3]], text[m[1]:end]
		input, count := regoInput.FindStringSubmatchIndex(body), regoCount.FindStringSubmatch(body)
		if input == nil || count == nil && !regoMessage.MatchString(body) {
			continue
		}
		literal := regoLiteral(text, body, body[input[2]:input[3]], body[input[3]:])
		rows, err := regoRows(text, body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, row := range rows {
			c := caze{rule: rule, name: strings.TrimSuffix(name+"/"+row.name, "/")}
			c.fails = count == nil || count[1] != "==" && count[1] != "=" || count[2] != "0"
			if row.fails != nil {
				c.fails = *row.fails
			}
			file, err := trivyInput(row.fill(literal))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			c.files = [][]byte{file}
			if v := regoVersion.FindStringSubmatch(body); v != nil {
				c.kubernetesVersion = regoKubernetes(text, v[1])
			}
			if r := regoRegistry.FindStringSubmatch(body); r != nil {
				// Images that name no registry are trusted whatever is.
				list := strings.TrimSuffix(r[1], "]") + `, "docker.io/library"]`
				c.parameters = map[string]map[string]v1alpha1.Value{"image-registry": {"registries": {RawMessage: []byte(list)}}}
			}
			out = append(out, c)
		}
	}
	return out, nil
}

// regoLiteral returns the literal that a test has as its input: what follows, if
// it has no name; what a name of the test stands for; the value of a function
// with its argument.
func regoLiteral(text, body, name, rest string) string {
	if name == "" {
		return balanced(rest)
	}
	if name == "case" {
		name = "cases"
	}
	if _, after, ok := strings.Cut(body, name+" := "); ok {
		return balanced(after)
	}
	function := regexp.MustCompile(`(?m)^` + name + `\((\w+)\) := `).FindStringSubmatchIndex(text)
	if function == nil {
		return ""
	}
	return regexp.MustCompile(`\b`+text[function[2]:function[3]]+`\b`).ReplaceAllLiteralString(balanced(text[function[1]:]), balanced(rest))
}

// regoRow is a row of a test's table: what stands in the literal in its stead.
type regoRow struct {
	name   string
	values map[string]any
	fails  *bool
}

// fill puts the row's values into a literal.
func (r *regoRow) fill(literal string) string {
	for name, v := range r.values {
		data, _ := json.Marshal(v)
		literal = regexp.MustCompile(`\b`+regexp.QuoteMeta(name)+`\b`).ReplaceAllLiteralString(literal, string(data))
	}
	return literal
}

// regoRows returns the rows of a test's table; one without values, if it has
// none.
func regoRows(text, body string) ([]regoRow, error) {
	if _, table, ok := strings.Cut(body, "some name, tc in "); ok {
		var cases map[string]map[string]any
		if err := yaml.Unmarshal(flow(balanced(table)), &cases); err != nil {
			return nil, err
		}
		var out []regoRow
		for _, name := range slices.Sorted(maps.Keys(cases)) {
			row := regoRow{name: name, values: map[string]any{}}
			for k, v := range cases[name] {
				row.values["tc."+k] = v
			}
			fails := fmt.Sprint(cases[name]["expected"]) != "0"
			row.fails = &fails
			out = append(out, row)
		}
		return out, nil
	}
	some := regoSome.FindStringSubmatch(body)
	if some == nil {
		return []regoRow{{}}, nil
	}
	_, set, _ := strings.Cut(text, some[2]+" := ")
	var values map[string]any
	if err := yaml.Unmarshal(flow(balanced(set)), &values); err != nil {
		return nil, err
	}
	var out []regoRow
	for _, v := range slices.Sorted(maps.Keys(values)) {
		out = append(out, regoRow{name: v, values: map[string]any{some[1]: v}})
	}
	return out, nil
}

// flow makes a literal what YAML reads.
func flow(literal string) []byte { return []byte(strings.ReplaceAll(literal, "\t", "  ")) }

// regoKubernetes returns the version that a test judges for: a literal, or a
// name for one.
func regoKubernetes(text, value string) string {
	if !strings.HasPrefix(value, `"`) {
		_, after, _ := strings.Cut(text, value+" := ")
		value, _, _ = strings.Cut(after, "\n")
	}
	return anyVersion.FindString(value)
}

// balanced returns the text from the first brace up to the one that closes it.
func balanced(s string) string {
	s = s[max(0, strings.IndexByte(s, '{')):]
	depth, quote := 0, byte(0)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quote != 0:
			if c == '\\' && quote == '"' {
				i++
			} else if c == quote {
				quote = 0
			}
		case c == '#':
			if n := strings.IndexByte(s[i:], '\n'); n > 0 {
				i += n
			}
		case c == '"' || c == '`':
			quote = c
		case c == '{':
			depth++
		case c == '}':
			if depth--; depth == 0 {
				return s[:i+1]
			}
		}
	}
	return s
}

// trivyInput reads an input, as the object that is meant where there is no such
// one: checks do not look at groups, so that cases may have any.
func trivyInput(text string) ([]byte, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(flow(text), &doc); err != nil {
		return nil, err
	}
	if subject, ok := doc["subjects"].(map[string]any); ok {
		doc["subjects"] = []any{subject}
	}
	switch doc["kind"] {
	case "pod":
		doc["apiVersion"], doc["kind"] = "v1", "Pod"
	case "Ingress", "NetworkPolicy":
		if doc["apiVersion"] == "v1" {
			doc["apiVersion"] = "networking.k8s.io/v1"
		}
	case "ClusterRolebinding":
		doc["kind"] = "ClusterRoleBinding"
	case "NodeInfo":
		if config := trivyKubelet(doc); config != nil {
			doc = config
		}
	}
	return json.Marshal(doc)
}

// trivyKubelet turns what a collector says of a setting of the kubelet into the
// configuration that says so; nil if it is no setting.
func trivyKubelet(info map[string]any) map[string]any {
	known, _ := info["info"].(map[string]any)
	for name, v := range known {
		field := trivyFields[strings.TrimSuffix(strings.TrimPrefix(name, "kubelet"), "ArgumentSet")]
		entry, _ := v.(map[string]any)
		values, _ := entry["values"].([]any)
		if field == "" {
			return nil
		}
		// What the collector did not find is not said anywhere: no fragment.
		config := map[string]any{"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "authentication": map[string]any{}}
		switch {
		case len(values) > 0 && strings.HasPrefix(field, "tls") && strings.HasSuffix(field, "File"):
			// The one file is of no use without the other.
			set(config, "tlsCertFile", values[0])
			set(config, "tlsPrivateKeyFile", values[0])
		case field == "tlsCipherSuites":
			set(config, field, values)
		case len(values) > 0 && field == "streamingConnectionIdleTimeout":
			set(config, field, fmt.Sprintf("%vm", values[0]))
		case len(values) > 0:
			set(config, field, scalar(fmt.Sprint(values[0])))
		}
		return config
	}
	return nil
}

// trivyFields are the fields of a KubeletConfiguration by what the collector
// calls them.
var trivyFields = map[string]string{
	"AnonymousAuth": "authentication.anonymous.enabled", "AuthorizationMode": "authorization.mode",
	"ClientCaFile": "authentication.x509.clientCAFile", "EventQps": "eventRecordQPS",
	"MakeIptablesUtilChains": "makeIPTablesUtilChains", "OnlyUseStrongCryptographic": "tlsCipherSuites",
	"ProtectKernelDefaults": "protectKernelDefaults", "ReadOnlyPort": "readOnlyPort", "RotateCertificates": "rotateCertificates",
	"RotateKubeletServerCertificate": "featureGates.RotateKubeletServerCertificate",
	"StreamingConnectionIdleTimeout": "streamingConnectionIdleTimeout", "TlsCertFileTls": "tlsCertFile",
	"TlsPrivateKeyFile": "tlsPrivateKeyFile",
}
