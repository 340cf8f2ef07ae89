// SPDX-License-Identifier: Apache-2.0

// Package controltest is the one test of every control: it holds the manifests
// of a fixture against the control and compares what is found, line by line,
// with what the fixture's comments say is expected.
//
// A comment at the end of a line says that a finding is expected at that line:
//
//	privileged: true # want "privileged-container"
//
// `# unknown "NAME"` expects a verdict of unknown. What follows a colon and a
// space inside the quotes must be part of the message. Several quoted texts
// expect several findings. A document holds the comment
//
//	# with: {kubernetesVersion: "1.30", parameters: {registries: [example.com]}}
//
// on a line of its own where it is to be judged with other settings.
package controltest

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Result is what came of one fixture.
type Result struct {
	// Errors say where findings and expectations differ, by line.
	Errors []string
	// Passed, Failed and Unknown count the objects by outcome.
	Passed, Failed, Unknown int
	// Cases are the objects with what was found.
	Cases []Case
}

// Case is an object of a fixture.
type Case struct {
	Object  *object.Object
	Text    object.Text
	Control *control.Control
	Verdict control.Verdict
}

// want is an expected finding.
type want struct {
	line    int
	outcome verdict.Outcome
	name    string
	message string
}

// Run holds a fixture against a control.
func Run(c *v1alpha1.Control, name string, fixture []byte) (*Result, error) {
	out := &Result{}
	for text := range object.Split(fixture) {
		if err := out.document(c, name, text); err != nil {
			return nil, fmt.Errorf("fixture %s: %w", name, err)
		}
	}
	return out, nil
}

// document judges one document of a fixture.
func (r *Result) document(c *v1alpha1.Control, name string, text object.Text) error {
	root, err := object.ParseYAML(text)
	if err != nil || root == nil {
		return err
	}
	objects, err := object.FromNode(root, &object.Origin{Source: name, Text: text.Bytes, FirstLine: text.Line})
	if err != nil {
		return err
	}
	opts, err := settings(text)
	if err != nil {
		return err
	}
	compiled, err := control.New(c, opts)
	if err != nil {
		return err
	}
	wants, err := expectations(text)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if !compiled.Matches(o.GroupKind()) {
			continue // not what the control is about: no case
		}
		v := compiled.Judge(o, nil)
		r.Cases = append(r.Cases, Case{o, text, compiled, v})
		switch v.Outcome {
		case verdict.Pass:
			r.Passed++
		case verdict.Fail:
			r.Failed++
		case verdict.Unknown:
			r.Unknown++
		}
		for _, f := range v.Findings {
			wants = r.compare(c.Name, o, f, wants)
		}
	}
	for _, w := range wants {
		r.Errors = append(r.Errors, fmt.Sprintf("%s:%d: %s was expected, nothing was found", name, w.line, w))
	}
	return nil
}

func (w want) String() string {
	s := map[verdict.Outcome]string{verdict.Fail: "want", verdict.Unknown: "unknown"}[w.outcome] + " " + w.name
	if w.message != "" {
		s += ": " + w.message
	}
	return s
}

// compare takes the expectation that a finding meets from the list.
func (r *Result) compare(name string, o *object.Object, f control.Finding, wants []want) []want {
	p := o.Position(f.Path)
	for i, w := range wants {
		if w.line == p.Line && w.outcome == f.Outcome && w.name == name && strings.Contains(f.Message, w.message) {
			return slices.Delete(wants, i, i+1)
		}
	}
	r.Errors = append(r.Errors, fmt.Sprintf("%s:%d: unexpected %s: %s", p.File, p.Line, f.Outcome, f.Message))
	return wants
}

var (
	wantComment = regexp.MustCompile(`# (want|unknown) (".*)$`)
	quotedText  = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
	withComment = regexp.MustCompile(`^\s*# with: (.*)$`)
)

// expectations reads the comments of a document.
func expectations(text object.Text) ([]want, error) {
	var out []want
	for i, line := range strings.Split(string(text.Bytes), "\n") {
		m := wantComment.FindStringSubmatch(strings.TrimRight(line, "\r"))
		if m == nil {
			if _, rest, ok := strings.Cut(line, "# want"); ok && !strings.HasPrefix(strings.TrimSpace(rest), "\"") {
				return nil, fmt.Errorf("line %d: the comment wants names in quotes, as in # want \"privileged-container\"", text.Line+i)
			}
			continue
		}
		outcome := verdict.Fail
		if m[1] == "unknown" {
			outcome = verdict.Unknown
		}
		for _, q := range quotedText.FindAllString(m[2], -1) {
			s, err := strconv.Unquote(q)
			if err != nil {
				return nil, fmt.Errorf("line %d: %s is not a quoted text", text.Line+i, q)
			}
			name, message, _ := strings.Cut(s, ": ")
			out = append(out, want{text.Line + i, outcome, name, message})
		}
	}
	return out, nil
}

// settings reads a document's "with" comment.
func settings(text object.Text) (control.Options, error) {
	var opts control.Options
	for i, line := range strings.Split(string(text.Bytes), "\n") {
		m := withComment.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		node, err := object.ParseYAML(object.Text{Bytes: []byte(m[1]), Line: text.Line + i})
		if err != nil {
			return opts, err
		}
		var with struct {
			KubernetesVersion string                     `json:"kubernetesVersion"`
			Parameters        map[string]json.RawMessage `json:"parameters"`
		}
		if errs := object.Decode(node, &with); len(errs) > 0 {
			return opts, errors.Join(errs[0])
		}
		if with.KubernetesVersion != "" {
			if opts.KubernetesVersion, err = control.ParseVersion(with.KubernetesVersion); err != nil {
				return opts, err
			}
		}
		opts.Parameters = map[string]v1alpha1.Value{}
		for k, v := range with.Parameters {
			opts.Parameters[k] = v1alpha1.Value{RawMessage: v}
		}
	}
	return opts, nil
}
