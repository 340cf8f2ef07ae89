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
//
// A control that judges facts (kinds of the group facts.sconce.dev) is held
// against the facts that the fixture's objects tell, alone or together. The
// comment
//
//	# snapshot: {complete: true, kubernetesVersion: "1.30.2", today: 2026-11-01}
//
// on a line of its own in a document begins a new set of objects, which ends
// where the next begins. Parameters that it names hold for all of its documents.
package controltest

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/all"
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
	Env     facts.Env // what facts about it depend on
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
	f, err := Read(name, fixture)
	if err != nil {
		return nil, err
	}
	return f.Run(c, control.New)
}

// Fixture is a fixture that was read and can be run many times.
type Fixture struct {
	name      string
	snapshots []*snapshot
}

// snapshot is what facts are derived from together.
type snapshot struct {
	env       facts.Env
	with      settings // of facts about all of its objects
	documents []*document
	wants     []want
	derived   map[string][]*object.Object // by kind
}

// document is one document of a fixture.
type document struct {
	text    object.Text
	objects []*object.Object
	with    settings
	singles map[string][]*object.Object // facts about one object, by kind
}

// Read reads a fixture.
func Read(name string, data []byte) (*Fixture, error) {
	f := &Fixture{name: name}
	var s *snapshot
	for text := range object.Split(data) {
		if err := f.document(&s, text); err != nil {
			return nil, fmt.Errorf("fixture %s: %w", name, err)
		}
	}
	return f, nil
}

// document reads one document into the snapshot that it belongs to.
func (f *Fixture) document(s **snapshot, text object.Text) error {
	root, err := object.ParseYAML(text)
	if err != nil || root == nil {
		return err
	}
	begins, ok, err := comment(text, snapshotComment)
	if err != nil {
		return err
	}
	if ok || *s == nil {
		env, err := begins.env()
		if err != nil {
			return err
		}
		*s = &snapshot{env: env, with: begins}
		f.snapshots = append(f.snapshots, *s)
	}
	with, ok, err := comment(text, withComment)
	if err != nil {
		return err
	}
	if !ok {
		with = (*s).with
	}
	wants, err := expectations(text)
	if err != nil {
		return err
	}
	objects, err := object.FromNode(root, &object.Origin{Source: f.name, Text: text.Bytes, FirstLine: text.Line})
	if err != nil {
		return err
	}
	(*s).wants = append((*s).wants, wants...)
	(*s).documents = append((*s).documents, &document{text: text, objects: objects, with: with})
	return nil
}

// Compile makes a control ready to judge; it is control.New but where a control
// is tested in other forms of it.
type Compile func(*v1alpha1.Control, control.Options) (*control.Control, error)

// Run holds the fixture against a control.
func (f *Fixture) Run(c *v1alpha1.Control, compile Compile) (*Result, error) {
	r := &Result{}
	for _, s := range f.snapshots {
		if err := r.snapshot(f, s, c, compile); err != nil {
			return nil, fmt.Errorf("fixture %s: %w", f.name, err)
		}
	}
	return r, nil
}

// snapshot judges the objects of a snapshot and the facts about them.
func (r *Result) snapshot(f *Fixture, s *snapshot, c *v1alpha1.Control, compile Compile) error {
	wants := slices.Clone(s.wants)
	judge := func(objects []*object.Object, text object.Text, with settings) error {
		if len(objects) == 0 {
			return nil
		}
		opts, err := with.options()
		if err != nil {
			return err
		}
		compiled, err := compile(c, opts)
		if err != nil {
			return err
		}
		env, err := with.over(s.env)
		if err != nil {
			return err
		}
		for _, o := range objects {
			if compiled.Matches(o.GroupKind()) { // else not what the control is about: no case
				wants = r.judge(c, Case{Object: o, Text: text, Control: compiled, Env: env}, wants)
			}
		}
		return nil
	}
	for _, d := range s.documents {
		if err := judge(d.objects, d.text, d.with); err != nil {
			return err
		}
		derived, err := d.facts(c, s.env)
		if err != nil {
			return err
		}
		if err := judge(derived, d.text, d.with); err != nil {
			return err
		}
	}
	if err := judge(s.facts(c), object.Text{}, s.with); err != nil {
		return err
	}
	for _, w := range wants {
		r.Errors = append(r.Errors, fmt.Sprintf("%s:%d: %s was expected, nothing was found", f.name, w.line, w))
	}
	return nil
}

// judge judges one object and takes what it was expected to come to from the
// list.
func (r *Result) judge(c *v1alpha1.Control, one Case, wants []want) []want {
	one.Verdict = one.Control.Judge(one.Object, nil)
	r.Cases = append(r.Cases, one)
	switch one.Verdict.Outcome {
	case verdict.Pass:
		r.Passed++
	case verdict.Fail:
		r.Failed++
	case verdict.Unknown:
		r.Unknown++
	}
	for _, f := range one.Verdict.Findings {
		wants = r.compare(c.Name, one.Object, f, wants)
	}
	return wants
}

// factKinds are the kinds of facts that a control is about.
func factKinds(c *v1alpha1.Control) []string {
	var out []string
	for _, k := range c.Spec.Match.Kinds {
		if k.Group == facts.Group {
			out = append(out, k.Kind)
		}
	}
	return out
}

// facts are what each object of the document tells alone.
func (d *document) facts(c *v1alpha1.Control, env facts.Env) ([]*object.Object, error) {
	env, err := d.with.over(env)
	if err != nil {
		return nil, err
	}
	key := strings.Join(factKinds(c), ",")
	out, ok := d.singles[key]
	if !ok {
		for _, o := range d.objects {
			out = append(out, aboutOne(c, o, &env)...)
		}
		if d.singles == nil {
			d.singles = map[string][]*object.Object{}
		}
		d.singles[key] = out
	}
	return out, nil
}

// aboutOne returns the facts that one object tells, of the kinds that a control
// is about.
func aboutOne(c *v1alpha1.Control, o *object.Object, env *facts.Env) []*object.Object {
	var out []*object.Object
	for _, s := range all.Singles {
		if overlap(s.Kinds, factKinds(c)) {
			out = append(out, s.Derive(o, env)...)
		}
	}
	return out
}

// facts are what the objects of the snapshot tell together.
func (s *snapshot) facts(c *v1alpha1.Control) []*object.Object {
	var out []*object.Object
	for _, w := range all.Wholes {
		if !overlap(w.Kinds, factKinds(c)) {
			continue
		}
		key := strings.Join(w.Kinds, ",")
		if _, ok := s.derived[key]; !ok {
			var kept []any
			for _, d := range s.documents {
				for _, o := range d.objects {
					if k := w.Keep(o); k != nil {
						kept = append(kept, k)
					}
				}
			}
			var derived []*object.Object
			w.Derive(kept, &s.env, func(o *object.Object) { derived = append(derived, o) })
			if s.derived == nil {
				s.derived = map[string][]*object.Object{}
			}
			s.derived[key] = derived
		}
		out = append(out, s.derived[key]...)
	}
	return out
}

func overlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return slices.Contains(b, s) })
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

	snapshotComment = regexp.MustCompile(`^# snapshot(?:: (.*))?$`)
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

// settings are what a comment sets.
type settings struct {
	KubernetesVersion string                     `json:"kubernetesVersion"`
	Parameters        map[string]json.RawMessage `json:"parameters"`
	Complete          bool                       `json:"complete"`
	Today             string                     `json:"today"`
}

// comment reads the settings of a comment, if the document has one.
func comment(text object.Text, pattern *regexp.Regexp) (settings, bool, error) {
	var out settings
	for i, line := range strings.Split(string(text.Bytes), "\n") {
		m := pattern.FindStringSubmatch(strings.TrimRight(line, "\r"))
		if m == nil {
			continue
		}
		if m[1] == "" {
			return out, true, nil
		}
		node, err := object.ParseYAML(object.Text{Bytes: []byte(m[1]), Line: text.Line + i})
		if err != nil {
			return out, true, err
		}
		if errs := object.Decode(node, &out); len(errs) > 0 {
			return out, true, errors.Join(errs[0])
		}
		return out, true, nil
	}
	return out, false, nil
}

// options are the settings as a control takes them.
func (s settings) options() (control.Options, error) {
	opts := control.Options{Parameters: map[string]v1alpha1.Value{}}
	for k, v := range s.Parameters {
		opts.Parameters[k] = v1alpha1.Value{RawMessage: v}
	}
	if s.KubernetesVersion == "" {
		return opts, nil
	}
	var err error
	opts.KubernetesVersion, err = control.ParseVersion(s.KubernetesVersion)
	return opts, err
}

// defaultToday is the day for which facts are derived where a snapshot names
// none.
var defaultToday = time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)

// over is what facts depend on in a document with these settings.
func (s settings) over(env facts.Env) (facts.Env, error) {
	if s.KubernetesVersion == "" {
		return env, nil
	}
	v, err := control.ParseVersion(s.KubernetesVersion)
	if err != nil {
		return env, err
	}
	env.Minor, env.Patch, env.Named = v.Minor(), v.Patch(), true
	return env, nil
}

// env is what facts depend on.
func (s settings) env() (facts.Env, error) {
	env := facts.Env{Minor: control.Newest.Minor(), Patch: -1, Today: defaultToday, Complete: s.Complete}
	if s.KubernetesVersion != "" {
		v, err := control.ParseVersion(s.KubernetesVersion)
		if err != nil {
			return env, err
		}
		env.Minor, env.Patch, env.Named = v.Minor(), v.Patch(), true
	}
	if s.Today != "" {
		var err error
		if env.Today, err = time.Parse(time.DateOnly, s.Today); err != nil {
			return env, err
		}
	}
	return env, nil
}
