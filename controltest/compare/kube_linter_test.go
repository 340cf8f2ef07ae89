// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
)

func init() { suites["kube-linter"] = kubeLinter }

var (
	batsTest  = regexp.MustCompile(`(?m)^@test "([^"]+)" \{$`)
	batsFile  = regexp.MustCompile(`tmp="(tests/checks/[^"]+)"`)
	batsKinds = regexp.MustCompile(`"\$\{message\d*\}" == "(\w+): `)
	batsQuiet = regexp.MustCompile(`"\$\{count\}" == "0"`)
)

// kubeLinter reads e2etests/bats-tests.sh: a file of tests/checks and the kinds
// of the objects that a check reports.
func kubeLinter(dir string) ([]caze, error) {
	data, err := os.ReadFile(filepath.Join(dir, "e2etests", "bats-tests.sh"))
	if err != nil {
		return nil, err
	}
	text := string(data)
	var out []caze
	starts := batsTest.FindAllStringSubmatchIndex(text, -1)
	for i, m := range starts {
		end := len(text)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		body := text[m[1]:end]
		file := batsFile.FindStringSubmatch(body)
		reported := batsKinds.FindAllStringSubmatch(body, -1)
		if file == nil || len(reported) == 0 && !batsQuiet.MatchString(body) {
			continue
		}
		manifest, err := os.ReadFile(filepath.Join(dir, file[1]))
		if err != nil {
			return nil, err
		}
		kinds := map[string]int{}
		for _, m := range reported {
			kinds[m[1]]++
		}
		out = append(out, kubeLinterCases(text[m[2]:m[3]], manifest, kinds)...)
	}
	return out, nil
}

// kubeLinterCases makes a case of each object of the kinds that are reported.
// What is named so does not fire. Where fewer are reported than there are, or
// where a binding is reported for its role, the file is one case.
func kubeLinterCases(rule string, manifest []byte, reported map[string]int) []caze {
	of := map[string][]string{} // names by kind
	for text := range object.Split(manifest) {
		n, err := object.ParseYAML(text)
		if err != nil || n == nil {
			continue
		}
		objects, _ := object.FromNode(n, &object.Origin{Text: text.Bytes, FirstLine: text.Line})
		for _, o := range objects {
			kind := o.GroupKind().Kind
			if !slices.Contains(of[kind], o.Name) {
				of[kind] = append(of[kind], o.Name)
			}
		}
	}
	var out []caze
	whole := []caze{{rule: rule, name: "file", files: [][]byte{manifest}, fails: len(reported) > 0}}
	for kind, names := range of {
		fire := 0
		for _, name := range names {
			quiet := strings.Contains(name, "dont-fire")
			if !quiet {
				fire++
			}
			if reported[kind] > 0 || quiet {
				out = append(out, caze{rule: rule, name: kind + "/" + name, subject: kind + "/" + name, files: [][]byte{manifest}, fails: !quiet})
			}
		}
		if n := reported[kind]; n > 0 && (n < fire || strings.HasSuffix(kind, "Binding")) {
			return whole
		}
	}
	if len(out) == 0 {
		return whole
	}
	slices.SortFunc(out, func(a, b caze) int { return strings.Compare(a.name, b.name) })
	return out
}
