// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"sconce.dev/sconce/api/v1alpha1"
)

func init() { suites["kubescape"] = kubescape }

// kubescape reads rules/RULE/test/CASE/{input,expected.json}: the alerts that
// are expected.
func kubescape(dir string) ([]caze, error) {
	expected, err := filepath.Glob(filepath.Join(dir, "rules", "*", "test", "*", "expected.json"))
	if err != nil {
		return nil, err
	}
	var out []caze
	for _, file := range expected {
		c, err := kubescapeCase(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, *c)
	}
	return out, nil
}

func kubescapeCase(expected string) (*caze, error) {
	folder := filepath.Dir(expected)
	c := &caze{name: filepath.Base(folder), rule: filepath.Base(filepath.Dir(filepath.Dir(folder)))}
	data, err := os.ReadFile(expected)
	if err != nil {
		return nil, err
	}
	var alerts []any
	if len(strings.TrimSpace(string(data))) > 0 {
		if err := json.Unmarshal(data, &alerts); err != nil {
			return nil, err
		}
	}
	c.fails = len(alerts) > 0
	if data, err := os.ReadFile(filepath.Join(folder, "data.json")); err == nil {
		if c.parameters, err = kubescapeParameters(data); err != nil {
			return nil, err
		}
	}
	files, err := manifests(filepath.Join(folder, "input"), filepath.Join(folder, "*.yaml"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		config, ok := kubeletInfo(file)
		switch {
		case !ok:
			c.files = append(append(c.files, file), controlPlaneInfo(file, len(files) == 1)...)
		case config == nil:
			c.rule += unread // nothing is left to judge
		default:
			c.files = append(c.files, config)
		}
	}
	return c, nil
}

// unread ends the name of the rule of a case in which a file could not be read.
const unread = "#unread"

// kubescapeParameters says what the settings of a case mean for our controls.
func kubescapeParameters(data []byte) (map[string]map[string]v1alpha1.Value, error) {
	var settings struct{ PostureControlInputs map[string][]string }
	if err := json.Unmarshal(data, &settings); err != nil {
		return nil, err
	}
	out := map[string]map[string]v1alpha1.Value{}
	set := func(control, parameter string, value any) error {
		data, err := json.Marshal(value)
		if out[control] == nil {
			out[control] = map[string]v1alpha1.Value{}
		}
		out[control][parameter] = v1alpha1.Value{RawMessage: data}
		return err
	}
	for name, values := range settings.PostureControlInputs {
		if len(values) == 0 {
			continue
		}
		var err error
		switch name {
		case "imageRepositoryAllowList":
			err = set("image-registry", "registries", values)
		case "untrustedRegistries", "publicRegistries":
			err = set("image-registry", "denied", values)
		case "imageDigestExemptRepositories":
			err = set("image-not-pinned", "repositories", values)
		case "cpu_limit_max", "cpu_request_max", "memory_limit_max", "memory_request_max", "sandbox_cpu_limit_max", "sandbox_memory_limit_max":
			control := strings.TrimPrefix(strings.TrimSuffix(name, "_max"), "sandbox_")
			err = set(strings.ReplaceAll(control, "_", "-"), "maximum", values[0])
		case "floatingImageTags":
			err = set("image-tag-latest", "tags", append(values, "latest"))
		case "hardenedSandboxRuntimeClasses":
			err = errors.Join(set("sandboxed-runtime", "runtimeClasses", values), set("sandboxed-runtime", "untrusted", []string{""}))
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
