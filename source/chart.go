// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/source/helm"
	"sconce.dev/sconce/verdict"
)

// chart is a Helm chart.
type chart struct {
	found
	opts *Options
}

// Read implements snapshot.Unit.
func (c *chart) Read(ctx context.Context, sink snapshot.Sink) snapshot.Tally {
	tally := snapshot.Tally{Charts: 1, Owned: c.owned}
	rendered, err := c.opts.Renderer.Chart(ctx, c.path, c.opts.Helm)
	if err != nil {
		sink.Problem(c.renderProblem(err))
		return tally
	}
	files := &sources{opts: c.opts}
	for i := range rendered.Docs {
		c.document(&rendered.Docs[i], files, sink)
	}
	return tally
}

// renderProblem says why the chart does not render, where in it if that is
// known.
func (c *chart) renderProblem(err error) verdict.Problem {
	p := problemf(verdict.Rendering, c.name, "%s", err)
	var he *helm.Error
	if errors.As(err, &he) {
		p.Message = he.Msg
		if he.File != "" {
			p.Position = object.Position{File: c.opts.shown(he.File), Line: he.Line, Column: he.Col}
		}
	}
	p.Message = verdict.Redact(fmt.Sprintf("rendering the chart %s: %s", c.name, c.opts.relative(p.Message)))
	return p
}

// document yields the objects that one template rendered to.
func (c *chart) document(doc *helm.Doc, files *sources, sink snapshot.Sink) {
	locate := func(line, col int) object.Position { return files.template(doc, line, col) }
	for text := range object.Split(doc.Text) {
		root, err := object.ParseYAML(text)
		if err != nil {
			p := parseProblem(c.name, text, err)
			note := verdict.Redact(p.Position.Quote)
			p.Position = locate(p.Position.Line, 0)
			p.Message = "what the template renders to is no YAML: " + p.Message
			if note != "" {
				p.Message += fmt.Sprintf("; it renders to %q", strings.TrimSpace(note))
			}
			sink.Problem(p)
			continue
		}
		if root == nil {
			continue
		}
		origin := &object.Origin{
			Source: c.name, Renderer: "helm", Text: text.Bytes, FirstLine: text.Line,
			Locate: func(root *object.Node, path object.Path) object.Position {
				spot, _ := root.SpotOf(path)
				return locate(spot.Line, spot.Col)
			},
		}
		objects(root, origin, nil, snapshot.Sink{Problem: sink.Problem, Object: func(o *object.Object) {
			if randomName(o, doc) {
				o.Name = RandomName
			}
			sink.Object(o)
		}})
	}
}

// RandomName stands for a name that a chart makes up anew each time it is
// rendered: the findings of such an object stay the same from scan to scan.
const RandomName = "(random)"

// randomName says whether the two renderings of a chart differ in an object's
// name, while its other lines are known.
func randomName(o *object.Object, doc *helm.Doc) bool {
	spot, ok := o.Root.SpotOf(object.Path(nil).Fields("metadata", "name"))
	kind, _ := o.Root.SpotOf(object.Path(nil).Fields("kind"))
	return ok && doc.Line(spot.Line).Line == 0 && doc.Line(kind.Line).Line > 0
}

// sources are the files that a person edits, read when a finding quotes them.
type sources struct {
	opts  *Options
	texts map[string][]byte
}

// text returns a file's text; nil where it cannot be read, as inside an
// archive.
func (s *sources) text(file string) []byte {
	if data, ok := s.texts[file]; ok {
		return data
	}
	data, err := os.ReadFile(file)
	if err != nil {
		data = nil // the position is still right; only the quote is missing
	}
	if s.texts == nil {
		s.texts = map[string][]byte{}
	}
	s.texts[file] = data
	return data
}

// template returns where in a chart's sources a rendered place comes from.
func (s *sources) template(doc *helm.Doc, line, col int) object.Position {
	from := doc.Line(line)
	p := object.Position{File: s.opts.shown(from.File), Line: from.Line}
	if from.Line == 0 {
		p.Note = "the line of the template is not known"
		if doc.Note != "" {
			p.Note += ": " + doc.Note
		}
		return p
	}
	if from.Values != "" {
		p.Note = "set from " + from.Values
	}
	quote := object.LineOf(s.text(from.File), from.Line)
	if sameUpTo(quote, object.LineOf(doc.Text, line), col) {
		p.Column = col
	}
	p.Quote, p.QuoteColumn = object.Window(quote, p.Column)
	return p
}

// sameUpTo says whether two lines are the same up to a column, so that what
// begins there in one begins there in the other.
func sameUpTo(a, b string, col int) bool {
	x, y := []rune(a), []rune(b)
	return col > 0 && col <= len(x) && col <= len(y) && slices.Equal(x[:col], y[:col])
}

// relative takes the folder that stands for the working directory out of a
// message, where what is read stands elsewhere.
func (o *Options) relative(message string) string {
	if o.Base == "" {
		return message
	}
	return strings.ReplaceAll(message, o.Base+string(filepath.Separator), "")
}

// shown returns a file's path as it is shown: relative to the folder that was
// read, if that stands elsewhere than the working directory.
func (o *Options) shown(path string) string {
	if o.Base == "" {
		return path
	}
	if rel, err := filepath.Rel(o.Base, path); err == nil && !strings.HasPrefix(rel, "..") {
		return rel
	}
	return path
}
