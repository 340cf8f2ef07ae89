// SPDX-License-Identifier: Apache-2.0

package kustomize

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// HelmComplaint is what a HelmCommand may write to its standard error before an
// Error as JSON, to have Build return that error.
const HelmComplaint = "sconce-helm-error: "

// Error says why an overlay cannot be built, and where.
type Error struct {
	// File is the file that a person edits, or the overlay's folder.
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

var (
	// quotedFrom finds the entries on the way to a fault, the last one nearest.
	quotedFrom = regexp.MustCompile(`(?:from|path|file) ['"]([^'"]+)['"]|MalformedYAMLError: yaml: line \d+: .* in File: (\S+)`)
	malformed  = regexp.MustCompile(`(?:MalformedYAMLError: )?yaml: (?:line (\d+): )?(.*?) in File: (\S+)`)
	notFound   = regexp.MustCompile(`(?:stat|lstat|open) (\S+): no such file or directory`)
	notUnder   = regexp.MustCompile(`security; file '([^']+)' is not in or below '([^']+)'`)
)

// explain turns Kustomize's nested message into one that names a file.
func (c *checker) explain(top string, err error) error {
	text := err.Error()
	out := &Error{File: c.files[0], Msg: lastReason(text)}
	switch {
	case strings.Contains(text, "must specify --enable-helm"):
		out.Msg = "it inflates a Helm chart: pass --enable-helm to have Sconce render it"
		return out
	case strings.Contains(text, "no repo specified for pull"):
		out.Msg = "a Helm chart is not where chartHome says: put it there; Sconce does not use the network"
		return out
	}
	if _, after, ok := strings.Cut(text, HelmComplaint); ok {
		said := &Error{}
		if json.NewDecoder(strings.NewReader(after)).Decode(said) == nil {
			if said.File == "" {
				said.File = out.File
			}
			return said
		}
	}
	if strings.Contains(text, "out of memory") || strings.Contains(text, "cannot allocate memory") {
		out.Msg = "rendering its chart gave up: it needs more memory than it may have"
		return out
	}
	if m := notUnder.FindStringSubmatch(text); m != nil {
		out.Msg = fmt.Sprintf("%s lies outside of the folder of the kustomization that names it; Kustomize reads only files in or below it", m[1])
	} else if m := malformed.FindStringSubmatch(text); m != nil {
		out.File, out.Msg = c.find(top, m[3]), m[2]
		out.Line, _ = strconv.Atoi(m[1])
		return out
	} else if m := notFound.FindStringSubmatch(text); m != nil {
		out.Msg = fmt.Sprintf("%s is not there", m[1])
	}
	for _, m := range quotedFrom.FindAllStringSubmatch(text, -1) {
		if at, ok := c.entries[m[1]]; ok && m[1] != "" {
			out.File, out.Line, out.Col = at.file, at.line, at.col
		}
	}
	return out
}

// find returns the file of the build that a message's relative name means.
func (c *checker) find(top, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	for _, k := range c.files {
		if at := filepath.Join(filepath.Dir(k), name); exists(at) {
			return at
		}
	}
	return filepath.Join(top, name)
}

// lastReason returns the innermost of a chain of reasons that Kustomize wraps
// in quotes and colons.
func lastReason(text string) string {
	if i := strings.LastIndex(text, "err='"); i >= 0 && !strings.Contains(text[i:], "no such file") {
		text = text[i+len("err='"):]
	}
	text = strings.Join(strings.Fields(text), " ")
	text = strings.TrimPrefix(text, "accumulating resources: ")
	if len(text) > 400 {
		text = "…" + text[len(text)-400:]
	}
	return text
}

// plain returns an error without the path that the caller says anyway.
func plain(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
