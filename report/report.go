// SPDX-License-Identifier: Apache-2.0

// Package report is everything that Sconce prints of a scan: for people
// (table, markdown, html) and for programs (json, sarif, junit).
//
// A report is made from the stream of verdict.Message and nothing else: the
// package reads no file, no clock and no environment, so a scan that was stored
// as JSON can be shown later in any format, with the same bytes. It judges
// nothing and hides nothing: what is unknown and what could not be read stand
// in every format.
package report

import (
	"fmt"
	"io"
	"strings"

	"sconce.dev/sconce/verdict"
)

// Writer takes the messages of one scan in order. It keeps what it is given:
// a message must not be changed after Write.
type Writer interface {
	// Write takes the next message.
	Write(m *verdict.Message) error
	// Close writes what is left. It does not close the io.Writer below.
	Close() error
}

// Options are what a person can choose about a report.
type Options struct {
	// Color lets the table use ANSI colours.
	Color bool
	// Width is the number of columns that the table may use; 0 is 100, and at
	// least 72 are used. Places and commands are never broken.
	Width int
	// ShowExcepted lists excepted findings in the table and in markdown; they
	// are always counted, and always listed in the other formats.
	ShowExcepted bool
	// MaxFindings is how many findings table, markdown and html list; the rest
	// is counted. 0 is no limit of this kind.
	MaxFindings int
}

// format is one value of --output.
type format struct {
	name string
	make func(io.Writer, Options) Writer
}

func formats() []format {
	return []format{
		{"table", newTable},
		{"json", newJSON},
		{"sarif", newSARIF},
		{"junit", newJUnit},
		{"markdown", newMarkdown},
		{"html", newHTML},
	}
}

// Formats returns the names that New knows, the default first.
func Formats() []string {
	var names []string
	for _, f := range formats() {
		names = append(names, f.name)
	}
	return names
}

// New returns the Writer of a format.
func New(name string, w io.Writer, opts Options) (Writer, error) {
	for _, f := range formats() {
		if f.name == name {
			return f.make(w, opts), nil
		}
	}
	names := Formats()
	last := len(names) - 1
	return nil, fmt.Errorf("unknown output %q; want %s or %s", name, strings.Join(names[:last], ", "), names[last])
}
