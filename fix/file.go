// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"errors"
	"iter"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Outcome is what became of one finding of a file.
type Outcome struct {
	Finding verdict.Finding
	// Fixed says that the edit was made and proven.
	Fixed bool
	// Why says why it was not, where the finding has a fix at all.
	Why string
}

// File makes every fix in a stream of documents, one after the other, each
// proven before the next: its finding is gone and nothing new has come. It
// returns the new stream and what became of every finding that want accepts.
// What cannot be parsed stays as it is, and is told in the error, which the
// other results come with.
func File(name string, data []byte, judge Judge, want func(*verdict.Finding) bool) ([]byte, []Outcome, error) {
	var out bytes.Buffer
	var outcomes []Outcome
	var errs []error
	end := 0
	for text := range texts(data) {
		out.Write(data[end:text.Offset])
		d := document{name: name, text: text, judge: judge, want: want}
		if err := d.run(); err != nil {
			errs = append(errs, err)
		}
		out.Write(d.text.Bytes)
		outcomes = append(outcomes, d.outcomes...)
		end = text.Offset + len(text.Bytes)
	}
	out.Write(data[end:])
	return out.Bytes(), outcomes, errors.Join(errs...)
}

// texts yields the documents of a stream, as they are read: one of JSON is a
// document as a whole.
func texts(data []byte) iter.Seq[object.Text] {
	if object.IsJSON(data) {
		if _, err := object.ParseJSON(data); err == nil {
			return func(yield func(object.Text) bool) { yield(object.Text{Bytes: data, Line: 1}) }
		}
	}
	return object.Split(data)
}

// document is a document whose fixes are being made.
type document struct {
	name     string
	text     object.Text
	judge    Judge
	want     func(*verdict.Finding) bool
	outcomes []Outcome
	tried    map[string]bool
}

// run makes fixes until none is left that was not tried. It returns why the
// document cannot be read, if so.
func (d *document) run() error {
	d.tried = map[string]bool{}
	if _, err := parse(d.text); err != nil {
		return err
	}
	for _, o := range d.objects() {
		for d.step(o.Within.String()) {
		}
	}
	return nil
}

// objects returns the document's objects as the text now stands.
func (d *document) objects() []*object.Object {
	root, err := parse(d.text)
	if err != nil || root == nil {
		return nil
	}
	objects, _ := object.FromNode(root, &object.Origin{Source: d.name, Text: d.text.Bytes, FirstLine: d.text.Line})
	return objects
}

// step tries one finding of the object at a place in the document, and returns
// whether there was one to try. It ends: every fix leaves fewer findings, and
// what could not be fixed is not tried again.
func (d *document) step(within string) bool {
	for _, o := range d.objects() {
		if o.Within.String() != within {
			continue
		}
		findings := d.judge(o)
		for i := range findings {
			f := &findings[i]
			key := within + "\x00" + f.Fingerprint
			if d.tried[key] || f.Outcome != verdict.Fail || f.Excepted != nil || !d.want(f) {
				continue
			}
			if !d.try(o, f, identities(findings)) {
				d.tried[key] = true
			}
			return true
		}
	}
	return false
}

// try makes one fix and keeps it if it is proven: then the finding is gone, and
// another may have its place in a list.
func (d *document) try(o *object.Object, f *verdict.Finding, before map[string]int) (fixed bool) {
	outcome := Outcome{Finding: *f}
	defer func() { d.outcomes = append(d.outcomes, outcome) }()
	if f.Fix == nil || len(f.Fix.Edits) == 0 {
		return false
	}
	p := prover{judge: d.judge}
	text, err := p.clear(o, f, before)
	if err != nil {
		outcome.Why = err.Error()
		return false
	}
	d.text = text
	outcome.Fixed = true
	return true
}
