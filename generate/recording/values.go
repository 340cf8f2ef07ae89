// SPDX-License-Identifier: Apache-2.0

// Package recording reads what was recorded of a cluster (audit events, network
// flows) as a stream of JSON values, and says which time that covers. It knows
// nothing of what the values mean, and opens no files.
package recording

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The limits of a recording. What is beyond them is told as a fault.
const (
	// MaxValue is the size of the largest value, in bytes. Lists at the top are
	// no values: their items are.
	MaxValue = 32 << 20
	// maxDepth is how deeply values may be nested.
	maxDepth = 200
	// maxFaults is how many faults are kept one by one; all are counted.
	maxFaults = 20
)

// Fault is a part of a recording that could not be read.
type Fault struct {
	File string `json:"file"`
	Line int    `json:"line"`
	// Problem says why, without what stands there.
	Problem string `json:"problem"`
}

// String says where the fault is, and which.
func (f Fault) String() string { return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Problem) }

// Faults counts what could not be read, and keeps the first of it.
type Faults struct {
	Count int     `json:"count"`
	First []Fault `json:"first,omitempty"`
}

// Add adds a fault.
func (f *Faults) Add(file string, line int, format string, args ...any) {
	f.Count++
	if len(f.First) < maxFaults {
		f.First = append(f.First, Fault{file, line, fmt.Sprintf(format, args...)})
	}
}

// Open returns what reads a recording, unpacked if it was packed with gzip.
func Open(r io.Reader) (*bufio.Reader, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	magic, err := b.Peek(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return b, nil
	}
	z, err := gzip.NewReader(b)
	if err != nil {
		return nil, fmt.Errorf("unpacking gzip: %w", err)
	}
	return bufio.NewReaderSize(z, 64<<10), nil
}

// Values yields the JSON objects of a recording, each with the line at which it
// begins: one a line, one over several lines, one after another, or as the items
// of a list. What is no JSON is a fault, and reading goes on with the next line.
// A value is valid only until the function returns. The error is that of the
// reader.
func Values(r *bufio.Reader, file string, faults *Faults, yield func(line int, value []byte)) error {
	s := &splitter{file: file, faults: faults, yield: yield, line: 1}
	for {
		c, err := r.ReadByte()
		if err != nil {
			s.end()
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("reading %s: %w", file, err)
		}
		s.feed(c)
	}
}

// splitter cuts a stream of bytes into values.
type splitter struct {
	file   string
	faults *Faults
	yield  func(line int, value []byte)

	line int // that the next byte stands on
	// bad says that the rest of the line is skipped.
	bad bool

	value         []byte // what has been read of a value
	start         int    // the line at which it begins
	open          []byte // the brackets that are open in it
	quoted, slash bool
	last          byte // the last byte that was no space, outside a string
}

func (s *splitter) feed(c byte) {
	switch {
	case s.bad:
		s.bad = c != '\n'
	case len(s.open) == 0:
		s.between(c)
	default:
		s.inside(c)
	}
	if c == '\n' {
		s.line++
	}
}

// between takes a byte between values.
func (s *splitter) between(c byte) {
	switch c {
	case '{':
		s.value, s.open, s.start, s.last = append(s.value[:0], c), append(s.open[:0], c), s.line, c
		s.quoted, s.slash = false, false
	case ' ', '\t', '\r', '\n', ',', '[', ']':
	case 0xEF, 0xBB, 0xBF: // the byte order mark
	default:
		s.faults.Add(s.file, s.line, "this is no JSON object")
		s.bad = true
	}
}

// inside takes a byte of a value.
func (s *splitter) inside(c byte) {
	if problem := s.wrong(c); problem != "" {
		s.abandon(problem, c)
		return
	}
	s.value = append(s.value, c)
	switch {
	case s.slash:
		s.slash = false
	case s.quoted && c == '\\':
		s.slash = true
	case c == '"':
		s.quoted = !s.quoted
		s.last = c
	case s.quoted, c == ' ', c == '\t', c == '\r', c == '\n':
	default:
		s.last = c
		s.bracket(c)
	}
}

func (s *splitter) bracket(c byte) {
	switch c {
	case '{', '[':
		s.open = append(s.open, c)
	case '}', ']':
		if s.open = s.open[:len(s.open)-1]; len(s.open) == 0 {
			s.whole()
		}
	}
}

// wrong says why a byte cannot stand where it does: what shows that a value was
// cut off.
func (s *splitter) wrong(c byte) string {
	innermost := s.open[len(s.open)-1]
	switch {
	case len(s.value) >= MaxValue:
		return fmt.Sprintf("a JSON object of more than %d MiB", MaxValue>>20)
	case s.quoted && c == '\n':
		return "a JSON object that is cut off in a string"
	case s.quoted:
	case c == '{' && s.last != ':' && (innermost != '[' || s.last != '[' && s.last != ','):
		return "a JSON object that is cut off"
	case (c == '{' || c == '[') && len(s.open) == maxDepth:
		return fmt.Sprintf("a JSON object with more than %d levels", maxDepth)
	case c == '}' && innermost != '{', c == ']' && innermost != '[':
		return "a JSON object whose brackets do not match"
	}
	return ""
}

// whole hands over a value that is complete.
func (s *splitter) whole() {
	if !json.Valid(s.value) {
		s.faults.Add(s.file, s.start, "this is no valid JSON")
		return
	}
	s.yield(s.start, s.value)
}

// abandon gives up a value, and reads again what stands on the lines after its
// first, and the byte that came.
func (s *splitter) abandon(problem string, c byte) {
	s.faults.Add(s.file, s.start, "%s", problem)
	_, rest, more := bytes.Cut(s.value, []byte("\n"))
	s.open = s.open[:0]
	if !more {
		s.bad = c != '\n'
		return
	}
	here := s.line
	s.line = s.start + 1
	s.bad = false
	for _, c := range bytes.Clone(rest) {
		s.feed(c)
	}
	s.line = here
	switch {
	case s.bad:
		s.bad = c != '\n'
	case len(s.open) == 0:
		s.between(c)
	default:
		s.inside(c)
	}
}

// end is the end of the stream.
func (s *splitter) end() {
	for len(s.open) > 0 {
		s.faults.Add(s.file, s.start, "a JSON object that is cut off")
		_, rest, more := bytes.Cut(s.value, []byte("\n"))
		s.open = s.open[:0]
		if !more {
			return
		}
		s.line = s.start + 1
		s.bad = false
		for _, c := range bytes.Clone(rest) {
			s.feed(c)
		}
	}
}
