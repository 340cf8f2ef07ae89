// SPDX-License-Identifier: Apache-2.0

// Package baseline turns documents of the public format into the set of rules
// that a scan runs: it reads and checks Controls, Baselines and Exceptions as a
// whole, resolves which controls a baseline turns on with what parameters,
// severity and action, and says which exception excuses a finding.
//
// It judges nothing and reads no files.
package baseline

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// Library is a set of controls, baselines and exceptions by name.
type Library struct {
	controls   map[string]*entry[v1alpha1.Control]
	baselines  map[string]*entry[v1alpha1.Baseline]
	exceptions map[string]*entry[v1alpha1.Exception]
	frameworks map[string]*entry[v1alpha1.Framework]
	policies   policies
}

// entry is a document and where it was read from.
type entry[T any] struct {
	doc  *T
	file string
	root *object.Node
	text object.Text
	// builtIn marks what came with the program, and was tested with it.
	builtIn bool
}

// NewLibrary returns an empty library.
func NewLibrary() *Library {
	return &Library{
		controls:   map[string]*entry[v1alpha1.Control]{},
		baselines:  map[string]*entry[v1alpha1.Baseline]{},
		exceptions: map[string]*entry[v1alpha1.Exception]{},
		frameworks: map[string]*entry[v1alpha1.Framework]{},
	}
}

// Error is a mistake in a document of the format.
type Error struct {
	File      string
	Line, Col int
	Msg       string
}

// Error returns the place and the reason.
func (e *Error) Error() string {
	if e.Line == 0 { // it is about the whole file
		return fmt.Sprintf("%s: %s", e.File, e.Msg)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
}

// Errors are all mistakes that were found, in the order of their places.
type Errors []*Error

// Error returns one line for each.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// orNil returns the mistakes as an error, sorted, or nil if there are none.
func (es Errors) orNil() error {
	if len(es) == 0 {
		return nil
	}
	slices.SortStableFunc(es, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
	return es
}

// Read adds the documents of one file. Documents that are not of the format are
// errors: what stands in a folder of configuration is meant to count.
func (l *Library) Read(file string, data []byte) error { return l.read(file, data, false) }

// ReadBuiltIn is Read for what comes with the program: its tests have compiled
// it, so that Check leaves it for when it is needed.
func (l *Library) ReadBuiltIn(file string, data []byte) error { return l.read(file, data, true) }

func (l *Library) read(file string, data []byte, builtIn bool) error {
	var errs Errors
	for text := range object.Split(data) {
		root, err := object.ParseYAML(text)
		if err != nil {
			errs = append(errs, place(file, text, err))
			continue
		}
		if root != nil {
			errs = append(errs, l.add(file, text, root, builtIn)...)
		}
	}
	return errs.orNil()
}

func place(file string, text object.Text, err error) *Error {
	var se *object.SyntaxError
	if errors.As(err, &se) {
		return &Error{file, max(se.Line, 1), max(se.Col, 1), se.Msg}
	}
	return &Error{file, text.Line, 1, err.Error()}
}

func (l *Library) add(file string, text object.Text, root *object.Node, builtIn bool) Errors {
	if v := root.Get("apiVersion").Str(); v != v1alpha1.APIVersion {
		if l.policies.takes(file, text, root) {
			return nil
		}
		spot, _ := root.SpotOf(object.ParsePath("apiVersion"))
		return Errors{{file, spot.Line, spot.Col, fmt.Sprintf("apiVersion is %q; want %s", v, v1alpha1.APIVersion)}}
	}
	switch kind := root.Get("kind").Str(); kind {
	case "Control":
		return add(l.controls, entry[v1alpha1.Control]{new(v1alpha1.Control), file, root, text, builtIn})
	case "Baseline":
		return add(l.baselines, entry[v1alpha1.Baseline]{new(v1alpha1.Baseline), file, root, text, builtIn})
	case "Exception":
		return add(l.exceptions, entry[v1alpha1.Exception]{new(v1alpha1.Exception), file, root, text, builtIn})
	case "Framework":
		return add(l.frameworks, entry[v1alpha1.Framework]{new(v1alpha1.Framework), file, root, text, builtIn})
	default:
		spot, _ := root.SpotOf(object.ParsePath("kind"))
		return Errors{{file, spot.Line, spot.Col, fmt.Sprintf("kind is %q; want Control, Baseline, Framework or Exception", kind)}}
	}
}

// add decodes a document strictly and puts it under its name.
func add[T any](into map[string]*entry[T], e entry[T]) Errors {
	var errs Errors
	for _, err := range object.Decode(e.root, e.doc) {
		errs = append(errs, &Error{e.file, err.Line, err.Col, err.Msg})
	}
	name := e.root.At("metadata", "name").Str()
	if !validName(name) {
		return append(errs, e.errorf("metadata.name", "the name %q must be lower case words joined by dashes, as in privileged-container", name))
	}
	if first, ok := into[name]; ok {
		return append(errs, e.errorf("metadata.name", "%s %q is defined twice, first at %s:%d: names are the only identifiers, choose another", e.root.Get("kind").Str(), name, first.file, first.root.Line))
	}
	into[name] = &e
	return errs
}

// validName says whether a name can be a file, a page and an object's name.
func validName(name string) bool {
	if name == "" || len(name) > 63 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return false
	}
	return !strings.ContainsRune("-.", rune(name[0])) && !strings.ContainsRune("-.", rune(name[len(name)-1]))
}

// errorf returns a mistake at a field of the entry.
func (e *entry[T]) errorf(field, format string, args ...any) *Error {
	spot, _ := e.root.SpotOf(object.ParsePath(field))
	return &Error{e.file, spot.Line, spot.Col, fmt.Sprintf(format, args...)}
}

// mistake gives an error of package control its place: that of the field, or
// inside the field's text where the error knows its place there.
func (e *entry[T]) mistake(err error) *Error {
	var fe *control.FieldError
	if !errors.As(err, &fe) {
		return &Error{e.file, int(e.root.Line), int(e.root.Col), err.Error()}
	}
	path := object.ParsePath(fe.Field)
	spot, _ := e.root.SpotOf(path)
	if n := e.root.Lookup(path); n != nil {
		spot = object.Spot{Line: int(n.Line), Col: int(n.Col)}
		var ce *control.CELError
		if errors.As(err, &ce) && ce.Line > 0 {
			spot = inside(e.text, spot, ce.Line, ce.Col)
		}
	}
	return &Error{e.file, spot.Line, spot.Col, fe.Error()}
}

// inside returns the place of line and col of a scalar's value in the text that
// the scalar stands in.
func inside(text object.Text, at object.Spot, line, col int) object.Spot {
	source := object.LineOf(text.Bytes, at.Line-text.Line+1)
	runes := []rune(source)
	if at.Col < 1 || at.Col > len(runes) {
		return at
	}
	switch runes[at.Col-1] {
	case '"', '\'':
		if line == 1 {
			return object.Spot{Line: at.Line, Col: at.Col + col}
		}
	case '|', '>':
		body := object.LineOf(text.Bytes, at.Line-text.Line+1+line)
		indent := len(body) - len(strings.TrimLeft(body, " "))
		return object.Spot{Line: at.Line + line, Col: indent + col}
	default:
		if line == 1 {
			return object.Spot{Line: at.Line, Col: at.Col + col - 1}
		}
	}
	return at
}

// Controls returns the names of all controls, sorted.
func (l *Library) Controls() []string { return names(l.controls) }

// Baselines returns the names of all baselines, sorted.
func (l *Library) Baselines() []string { return names(l.baselines) }

// Control returns a control by its name, or nil.
func (l *Library) Control(name string) *v1alpha1.Control {
	if e := l.controls[name]; e != nil {
		return e.doc
	}
	return nil
}

// Baseline returns a baseline by its name, or nil.
func (l *Library) Baseline(name string) *v1alpha1.Baseline {
	if e := l.baselines[name]; e != nil {
		return e.doc
	}
	return nil
}

// Frameworks returns the names of all frameworks, sorted.
func (l *Library) Frameworks() []string { return names(l.frameworks) }

// Framework returns a framework by its name, or nil.
func (l *Library) Framework(name string) *v1alpha1.Framework {
	if e := l.frameworks[name]; e != nil {
		return e.doc
	}
	return nil
}

// FrameworkTitles returns the title of every framework by its name.
func (l *Library) FrameworkTitles() map[string]string {
	out := make(map[string]string, len(l.frameworks))
	for name, e := range l.frameworks {
		out[name] = e.doc.Spec.Title
	}
	return out
}

// BaselineFile returns the file that a baseline was read from.
func (l *Library) BaselineFile(name string) string { return l.baselines[name].file }

// FrameworkFile returns the file that a framework was read from.
func (l *Library) FrameworkFile(name string) string { return l.frameworks[name].file }

// BuiltIn says whether a control came with the program.
func (l *Library) BuiltIn(control string) bool {
	e := l.controls[control]
	return e != nil && e.builtIn
}

// File returns the file that a control was read from.
func (l *Library) File(control string) string {
	if e := l.controls[control]; e != nil {
		return e.file
	}
	return ""
}

func names[T any](m map[string]*entry[T]) []string {
	out := make([]string, 0, len(m))
	for name := range m {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Check checks everything that was read as a whole: values, expressions, the
// names that documents use of each other, and that every exception still holds
// on the day (a zero day leaves that out).
func (l *Library) Check(today time.Time) error {
	errs := l.policies.load()
	l.policies.absent = nil
	for _, name := range names(l.controls) {
		if e := l.controls[name]; !e.builtIn {
			errs = append(errs, checkControl(e)...)
			errs = append(errs, l.checkReferences(e)...)
		}
	}
	for _, name := range names(l.frameworks) {
		if e := l.frameworks[name]; !e.builtIn {
			errs = append(errs, checkFramework(e)...)
		}
	}
	for _, name := range names(l.baselines) {
		errs = append(errs, l.checkBaseline(l.baselines[name])...)
	}
	for _, name := range names(l.exceptions) {
		errs = append(errs, l.checkException(l.exceptions[name], today)...)
	}
	return errs.orNil()
}

func checkControl(e *entry[v1alpha1.Control]) Errors {
	s := &e.doc.Spec
	var errs Errors
	required := func(field, value string) {
		if strings.TrimSpace(value) == "" {
			errs = append(errs, e.errorf("spec."+field, "spec.%s is missing", field))
		}
	}
	required("title", s.Title)
	required("description", s.Description)
	required("remediation", s.Remediation)
	required("require", s.Require)
	required("message", s.Message)
	required("topic", s.Topic)
	enum(&errs, e, "spec.severity", s.Severity, v1alpha1.Critical, v1alpha1.High, v1alpha1.Medium, v1alpha1.Low)
	enum(&errs, e, "spec.layer", s.Layer, v1alpha1.Application, v1alpha1.Cluster, v1alpha1.Infrastructure)
	enum(&errs, e, "spec.phase", s.Phase, v1alpha1.Build, v1alpha1.Operate)
	if !s.Match.Pods && len(s.Match.Kinds) == 0 {
		errs = append(errs, e.errorf("spec.match", "spec.match chooses nothing: set pods, or kinds"))
	}
	if len(s.Match.PodTemplates) > 0 && !s.Match.Pods {
		errs = append(errs, e.errorf("spec.match.podTemplates", "spec.match.podTemplates needs spec.match.pods"))
	}
	if len(errs) > 0 {
		return errs
	}
	c, err := control.New(e.doc, control.Options{})
	if err == nil {
		err = c.Compile()
	}
	if err != nil {
		errs = append(errs, e.mistake(err))
	}
	return errs
}

// checkReferences checks that the sections that a control names are there.
func (l *Library) checkReferences(e *entry[v1alpha1.Control]) Errors {
	var errs Errors
	for _, name := range slices.Sorted(maps.Keys(e.doc.Spec.References)) {
		f := l.frameworks[name]
		if f == nil {
			errs = append(errs, e.errorf("spec.references", "unknown framework %q; there are %s", name, strings.Join(l.Frameworks(), ", ")))
			continue
		}
		for _, id := range e.doc.Spec.References[name] {
			if !slices.ContainsFunc(f.doc.Spec.Sections, func(s v1alpha1.Section) bool { return s.ID == id }) {
				errs = append(errs, e.errorf("spec.references", "framework %s has no section %q", name, id))
			}
		}
	}
	return errs
}

func checkFramework(e *entry[v1alpha1.Framework]) Errors {
	var errs Errors
	if strings.TrimSpace(e.doc.Spec.Title) == "" {
		errs = append(errs, e.errorf("spec.title", "spec.title is missing"))
	}
	if len(e.doc.Spec.Sections) == 0 {
		errs = append(errs, e.errorf("spec.sections", "spec.sections is empty"))
	}
	seen := map[string]bool{}
	for i, s := range e.doc.Spec.Sections {
		field := fmt.Sprintf("spec.sections[%d]", i)
		if s.ID == "" || strings.TrimSpace(s.Title) == "" {
			errs = append(errs, e.errorf(field, "%s: id and title are needed", field))
		}
		if seen[s.ID] {
			errs = append(errs, e.errorf(field+".id", "section %q is there twice", s.ID))
		}
		seen[s.ID] = true
		if s.Assessment != "" {
			enum(&errs, e, field+".assessment", s.Assessment, v1alpha1.Automated, v1alpha1.Manual)
		}
	}
	return errs
}

// enum checks that a value is one of those that are allowed.
func enum[T any, S ~string](errs *Errors, e *entry[T], field string, value S, allowed ...S) {
	if slices.Contains(allowed, value) {
		return
	}
	words := make([]string, len(allowed))
	for i, a := range allowed {
		words[i] = string(a)
	}
	*errs = append(*errs, e.errorf(field, "%s is %q; want %s", field, value, strings.Join(words, ", ")))
}

func (l *Library) checkBaseline(e *entry[v1alpha1.Baseline]) Errors {
	var errs Errors
	s := &e.doc.Spec
	if strings.TrimSpace(s.Title) == "" {
		errs = append(errs, e.errorf("spec.title", "spec.title is missing"))
	}
	checkActions(&errs, e, "spec", s.Action, s.FailurePolicy)
	checkRollout(&errs, e, "spec.rollout", s.Rollout)
	checkNetwork(&errs, e, s.Network)
	if s.KubernetesVersion != "" {
		if _, err := control.ParseVersion(s.KubernetesVersion); err != nil {
			errs = append(errs, e.errorf("spec.kubernetesVersion", "spec.kubernetesVersion: %v", err))
		}
	}
	for i, name := range s.Extends {
		if l.baselines[name] == nil {
			errs = append(errs, e.errorf(fmt.Sprintf("spec.extends[%d]", i), "unknown baseline %q; there are %s", name, strings.Join(l.Baselines(), ", ")))
		}
	}
	for i, t := range s.PodTemplates {
		if _, err := object.ParseFields(t.Path); err != nil || t.Path == "" {
			errs = append(errs, e.errorf(fmt.Sprintf("spec.podTemplates[%d].path", i), "spec.podTemplates[%d].path is %q; want a path of fields, as in spec.template", i, t.Path))
		}
	}
	for i := range s.Controls {
		errs = append(errs, l.checkSelection(e, fmt.Sprintf("spec.controls[%d]", i), &s.Controls[i])...)
	}
	if loop := l.loop(e.doc.Name); loop != nil {
		errs = append(errs, e.errorf("spec.extends", "baselines extend each other in a circle: %s", strings.Join(loop, " -> ")))
	}
	return errs
}

// loop returns the circle in which a baseline extends itself, or nil.
func (l *Library) loop(start string) []string {
	done := map[string]bool{}
	var walk func(name string, way []string) []string
	walk = func(name string, way []string) []string {
		if len(way) > 0 && name == start {
			return append(way, name)
		}
		if done[name] || l.baselines[name] == nil {
			return nil
		}
		done[name] = true
		for _, parent := range l.baselines[name].doc.Spec.Extends {
			if loop := walk(parent, append(slices.Clip(way), name)); loop != nil {
				return loop
			}
		}
		return nil
	}
	return walk(start, nil)
}

// checkActions checks what is to happen, where that is said.
func checkActions(errs *Errors, e *entry[v1alpha1.Baseline], field string, action v1alpha1.Action, failurePolicy v1alpha1.FailurePolicy) {
	if action != "" {
		enum(errs, e, field+".action", action, v1alpha1.Audit, v1alpha1.Warn, v1alpha1.Ratchet, v1alpha1.Deny)
	}
	if failurePolicy != "" {
		enum(errs, e, field+".failurePolicy", failurePolicy, v1alpha1.FailClosed, v1alpha1.FailOpen)
	}
}

func (l *Library) checkSelection(e *entry[v1alpha1.Baseline], field string, s *v1alpha1.Selection) Errors {
	var errs Errors
	if (s.Name == "") == (s.Select == nil) {
		return Errors{e.errorf(field, "%s: set either name or select", field)}
	}
	if s.Severity != "" {
		enum(&errs, e, field+".severity", s.Severity, v1alpha1.Critical, v1alpha1.High, v1alpha1.Medium, v1alpha1.Low)
	}
	checkActions(&errs, e, field, s.Action, s.FailurePolicy)
	checkRollout(&errs, e, field+".rollout", s.Rollout)
	if s.Select != nil {
		errs = append(errs, l.checkSelector(e, field+".select", s.Select)...)
		if len(s.Parameters) > 0 {
			errs = append(errs, e.errorf(field+".parameters", "%s.parameters belong to one control: use name instead of select", field))
		}
		return errs
	}
	c := l.controls[s.Name]
	switch {
	case l.policies.byName[s.Name] != nil:
		if len(s.Parameters) > 0 {
			errs = append(errs, e.errorf(field+".parameters", "%s.parameters: %s is a rule of a policy, which takes its parameters from its own documents", field, s.Name))
		}
		return errs
	case c == nil:
		return append(errs, l.unknown(e.errorf(field+".name", "unknown control %q%s", s.Name, suggestion(s.Name, l.named())), s.Name)...)
	}
	if _, err := control.New(c.doc, control.Options{Parameters: s.Parameters}); err != nil {
		var fe *control.FieldError
		if errors.As(err, &fe) && strings.HasPrefix(fe.Field, "parameters") {
			err = &control.FieldError{Field: field + "." + fe.Field, Err: fe.Err}
			errs = append(errs, e.mistake(err))
		}
	}
	return errs
}

// checkSelector checks the words of a selector, and that it chooses something.
func (l *Library) checkSelector(e *entry[v1alpha1.Baseline], field string, s *v1alpha1.Selector) Errors {
	var errs Errors
	for i, v := range s.Severities {
		enum(&errs, e, fmt.Sprintf("%s.severities[%d]", field, i), v, v1alpha1.Critical, v1alpha1.High, v1alpha1.Medium, v1alpha1.Low)
	}
	for i, v := range s.Layers {
		enum(&errs, e, fmt.Sprintf("%s.layers[%d]", field, i), v, v1alpha1.Application, v1alpha1.Cluster, v1alpha1.Infrastructure)
	}
	if len(errs) > 0 {
		return errs
	}
	for _, c := range l.controls {
		if selects(s, &c.doc.Spec) {
			return nil
		}
	}
	for _, p := range l.policies.byName {
		if selects(s, policySpec(p)) {
			return nil
		}
	}
	return l.unknown(e.errorf(field, "%s chooses no control; sconce list controls shows topics and severities", field), "")
}

// unknown returns a mistake about a name that is none, or about a choice of
// nothing, unless that is tolerated.
func (l *Library) unknown(mistake *Error, name string) Errors {
	if l.policies.tolerates(name, mistake) {
		return nil
	}
	return Errors{mistake}
}

// suggestion names the entry that was probably meant.
func suggestion(name string, among []string) string {
	name = strings.ToLower(name) // as all names are
	for _, a := range among {
		if strings.Contains(a, name) || strings.Contains(name, a) || distance(a, name) <= 2 {
			return fmt.Sprintf("; did you mean %s?", a)
		}
	}
	if policy.IsName(name) {
		return "; sconce list policies shows those of this project, and with -p FOLDER those of a folder"
	}
	return "; sconce list controls shows them all"
}

// distance is the number of letters by which two words differ (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
