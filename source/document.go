// SPDX-License-Identifier: Apache-2.0

// Package source is where objects come from: files, folders, globs, standard
// input and Git revisions, and the charts and overlays among them. It finds
// what there is, decides which file is read as what (a chart's templates are
// never parsed as manifests), and yields objects that know where a person edits
// them. What cannot be read is yielded as a problem, never left out.
//
// It judges nothing. Rendering is done by the packages below it: helm,
// kustomize, and render, which keeps them in processes of their own.
package source

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// documents yields the objects of a text that is a stream of YAML or JSON
// documents. Broken documents are problems; the others are still yielded. It
// returns how many documents were no Kubernetes objects.
func documents(name string, data []byte, others *Documents, sink snapshot.Sink) int {
	stray := others.stray(sink)
	if object.IsJSON(data) {
		if other, ok := jsonDocuments(name, data, stray, sink); ok {
			return other
		}
	}
	other := 0
	for text := range object.Split(data) {
		root, err := object.ParseYAML(text)
		if err != nil {
			sink.Problem(parseProblem(name, text, err))
			continue
		}
		if root == nil {
			continue
		}
		origin := &object.Origin{Source: name, Text: text.Bytes, FirstLine: text.Line}
		other += objects(root, origin, stray, sink)
	}
	return other
}

// jsonDocuments yields the objects of a text as JSON. It returns false, having
// yielded nothing, where the text is no JSON but may be YAML.
func jsonDocuments(name string, data []byte, stray func(*object.Node, *object.Origin), sink snapshot.Sink) (other int, ok bool) {
	roots, err := object.ParseJSON(data)
	if err != nil {
		return 0, false
	}
	origin := &object.Origin{Source: name, Text: data, FirstLine: 1}
	for _, root := range roots {
		other += objects(root, origin, stray, sink)
	}
	return other, true
}

// objects yields what a document holds and returns 1 if that is no object, unless
// stray takes it.
func objects(root *object.Node, origin *object.Origin, stray func(*object.Node, *object.Origin), sink snapshot.Sink) int {
	list, err := object.FromNode(root, origin)
	for _, o := range list {
		sink.Object(o)
	}
	other := 0
	for _, err := range flatten(err) {
		var no *object.NotObject
		switch {
		case !errors.As(err, &no):
			sink.Problem(problemf(verdict.Parsing, origin.Source, "%s", err))
		case no.Plain && stray != nil:
			stray(root, origin)
		case no.Plain:
			other++
		default:
			p := object.Position{File: origin.Source, Line: no.Line, Column: no.Col}
			p.Quote, p.QuoteColumn = object.Window(object.LineOf(origin.Text, no.Line-origin.FirstLine+1), no.Col)
			if sensitive(p.Quote) {
				p.Quote, p.QuoteColumn = "", 0
			}
			sink.Problem(verdict.Problem{Stage: verdict.Parsing, Position: p, Message: no.Msg})
		}
	}
	return other
}

// flatten returns the errors that were joined into one.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}

// parseProblem says where a document is broken, and what may be meant.
func parseProblem(name string, text object.Text, err error) verdict.Problem {
	p := verdict.Problem{Stage: verdict.Parsing, Position: object.Position{File: name, Line: text.Line}, Message: err.Error()}
	var se *object.SyntaxError
	if errors.As(err, &se) {
		p.Message = se.Msg
		if se.Line > 0 {
			p.Position.Line, p.Position.Column = se.Line, se.Col
		}
	}
	if strings.Contains(string(text.Bytes), "{{") {
		p.Message += "; the file holds {{, as templates do: scan the chart that it belongs to"
	}
	if secretKind.Match(text.Bytes) {
		// Whatever is broken may be a secret, and the message may quote it.
		p.Message = quoted.ReplaceAllString(p.Message, "…")
		return p
	}
	line := object.LineOf(text.Bytes, p.Position.Line-text.Line+1)
	if !sensitive(line) {
		p.Position.Quote, p.Position.QuoteColumn = object.Window(verdict.Redact(line), p.Position.Column)
	}
	// The parser's own words are no secret; what it quotes of the file may be.
	p.Message = quoted.ReplaceAllStringFunc(p.Message, verdict.Redact)
	return p
}

var (
	secretKind = regexp.MustCompile(`(?m)^\s*["']?kind["']?\s*:\s*["']?Secret`)
	quoted     = regexp.MustCompile("'[^']*'|\"[^\"]*\"|`[^`]*`")
)

// sensitive says whether a line of a text that could not be parsed may hold
// something secret.
func sensitive(line string) bool {
	line = strings.ToLower(line)
	for _, word := range [...]string{"password", "passwd", "secret", "token", "key", "credential", "data:"} {
		if strings.Contains(line, word) {
			return true
		}
	}
	return false
}

// problemf is a problem with a file as a whole.
func problemf(stage verdict.Stage, name, format string, args ...any) verdict.Problem {
	return verdict.Problem{Stage: stage, Position: object.Position{File: name}, Message: fmt.Sprintf(format, args...)}
}
