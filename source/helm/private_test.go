// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestPrivate looks for the user's values in errors.
func TestPrivate(t *testing.T) {
	const secret = "hunter2-hunter2"
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, []byte("password: "+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, template string
		opts           Options
		want           string
	}{
		{"set-json", "", Options{SetJSON: []string{"dbPassword=" + secret}}, `--set-json: "dbPassword": the value is not JSON`},
		{"set-json object", "", Options{SetJSON: []string{`{"a": "` + secret}}, `--set-json: the value is not JSON`},
		{"set", "", Options{Set: []string{"a=x," + secret}}, `--set: "a": a key in it has no value`},
		{"set without a key", "", Options{Set: []string{secret}}, `--set: an argument has no value`},
		{"set list", "", Options{Set: []string{"a={" + secret}}, `--set: "a": a list must end`},
		{"set index", "", Options{Set: []string{"a=x,b[" + secret + "]=1"}}, `--set: "a": an index`},
		{"set-string", "", Options{SetString: []string{"a=x," + secret}}, `--set-string: "a": a key in it`},
		{"set-file", "", Options{SetFile: []string{"a=/gone/" + secret}}, `--set-file: "a": the file cannot be read: no such file`},
		{"fail", `{{ fail (printf "bad password %s!" .Values.password) }}`, Options{ValueFiles: []string{file}}, "bad password ****!"},
		{"required", `{{ required (printf "bad password %q!" .Values.password) nil }}`, Options{Set: []string{"password=" + secret}}, `bad password "****"!`},
		{"number", `{{ fail (printf "bad pin %d" .Values.pin) }}`, Options{Set: []string{"pin=12345678"}}, "bad pin ****"},
		{"lines", `{{ fail .Values.key }}`, Options{Set: []string{"key=first-line\n" + secret}}, "****"},
		{"schema", "", Options{Set: []string{"code=" + secret}}, "do not fit the schema"},
	} {
		dir := writeChart(t, []txtar.File{
			{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: a\nversion: 1.0.0\n")},
			{Name: "values.schema.json", Data: []byte(`{"properties": {"code": {"pattern": "^[0-9]+$", "enum": ["1"]}}}`)},
			{Name: "templates/a.yaml", Data: []byte(test.template)},
		})
		_, err := Render(dir, test.opts)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got %v; want %s", test.name, err, test.want)
		}
	}
}

// TestIrregular reads a device in the place of files; one that ends, so that
// the test does too.
func TestIrregular(t *testing.T) {
	dir := writeChart(t, []txtar.File{{Name: "Chart.yaml", Data: []byte("apiVersion: v2\nname: a\nversion: 1.0.0\n")}})
	for name, opts := range map[string]Options{
		"values":   {ValueFiles: []string{os.DevNull}},
		"set-file": {SetFile: []string{"a=" + os.DevNull}},
	} {
		_, err := Render(dir, opts)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Msg, "not a regular file") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := Render(os.DevNull, Options{}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("chart: got %v", err)
	}
}
