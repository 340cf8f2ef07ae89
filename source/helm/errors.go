// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Error says why a chart cannot be rendered, and where.
type Error struct {
	// File is the file on disk that a person edits, or the chart's folder.
	File string `json:"file"`
	// Line and Col count from 1; they are 0 where they are not known.
	Line int    `json:"line,omitempty"`
	Col  int    `json:"col,omitempty"`
	Msg  string `json:"msg"`
}

// Error returns the place and the reason.
func (e *Error) Error() string {
	switch {
	case e.Line == 0:
		return e.File + ": " + e.Msg
	case e.Col == 0:
		return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Msg)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Col, e.Msg)
}

// place finds "web/templates/pod.yaml:12:5" in Helm's messages.
var place = regexp.MustCompile(`([^\s()<>":]+):(\d+)(?::(\d+))?`)

// explain turns an error of Helm's engine into one that names the file. The
// engine names every template on the way to the fault; the last one is where a
// person looks, the first one how it came to be used.
func (r *renderer) explain(err error) error {
	text := err.Error()
	msg := r.source.redact(message(text))
	out := &Error{File: r.source.dir, Msg: msg}
	var first string
	for _, m := range place.FindAllStringSubmatch(text, -1) {
		file, ok := r.files[m[1]]
		if !ok {
			continue
		}
		out.File = r.source.fileOf(file)
		out.Line, _ = strconv.Atoi(m[2])
		out.Col, _ = strconv.Atoi(m[3])
		if out.Col > 0 {
			out.Col++ // text/template counts bytes of the line from 0
		}
		if here := fmt.Sprintf("%s:%d", out.File, out.Line); first == "" {
			first = here
		} else if here != first && !strings.HasSuffix(out.Msg, first+")") {
			out.Msg = msg + " (used from " + first + ")"
		}
	}
	return out
}

var (
	noFunction = regexp.MustCompile(`function ("[^"]+") not defined`)
	ofNothing  = regexp.MustCompile(`nil pointer evaluating .*\.(\S+)$`)
	noTemplate = regexp.MustCompile(`(?:no template|template: no template) ("[^"]+")`)
)

// message returns the reason in an engine's error, in plain words where the
// engine's are those of a Go program.
func message(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	last := strings.TrimSpace(lines[len(lines)-1])
	if strings.HasPrefix(text, "execution error at (") || strings.HasPrefix(text, "parse error at (") {
		if _, after, ok := strings.Cut(text, "): "); ok {
			last = strings.TrimSpace(after)
		}
	}
	if m := noTemplate.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("no template %s is defined; a library chart that defines it may be missing", m[1])
	}
	if m := noFunction.FindStringSubmatch(last); m != nil {
		return fmt.Sprintf("Helm has no function %s", m[1])
	}
	if m := ofNothing.FindStringSubmatch(last); m != nil {
		return fmt.Sprintf("%q is asked of a value that is not set", "."+m[1])
	}
	switch {
	case strings.Contains(text, "nested reference name"):
		return "a template includes itself without end"
	case strings.Contains(text, "exceeded maximum template depth"):
		return "a template calls itself without end"
	}
	if i := strings.LastIndex(last, ">: "); strings.HasPrefix(last, "template: ") && i > 0 {
		last = last[i+3:]
	}
	return last
}
