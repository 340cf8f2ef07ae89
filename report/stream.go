// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"

	"sconce.dev/sconce/verdict"
)

// jsonWriter prints the stream itself: one message per line, each a JSON object
// with exactly one field, whose name says what the message is:
//
//	{"config":{"stream":"v1alpha1",…}}     the first line
//	{"control":{"name":…,"title":…}}       before the first finding that names it
//	{"finding":{"control":…,"outcome":…}}
//	{"problem":{"stage":…,"message":…}}
//	{"notice":{"kind":…,"message":…}}
//	{"summary":{"verdicts":…}}             the last line
//
// A stream without a summary is of a scan that did not end. Characters that
// could act on a terminal are written as \u escapes. docs/json.md documents the
// fields.
type jsonWriter struct {
	out *bufio.Writer
	buf bytes.Buffer
	enc *json.Encoder
}

func newJSON(w io.Writer, _ Options) Writer {
	j := &jsonWriter{out: bufio.NewWriterSize(w, 64<<10)}
	j.enc = json.NewEncoder(&j.buf)
	j.enc.SetEscapeHTML(false)
	return j
}

func (j *jsonWriter) Write(m *verdict.Message) error {
	j.buf.Reset()
	if err := j.enc.Encode(m); err != nil {
		return fmt.Errorf("writing a message as JSON: %w", err)
	}
	_, err := j.out.Write(escapeJSON(j.buf.Bytes()))
	return err
}

func (j *jsonWriter) Close() error {
	return j.out.Flush()
}

// escapeJSON writes hidden characters of a JSON text as \u escapes. Outside of
// strings JSON is plain ASCII, so whatever is found is inside of one.
func escapeJSON(line []byte) []byte {
	if plainASCII(line) || !bytes.ContainsFunc(line, escapedInJSON) {
		return line
	}
	out := make([]byte, 0, len(line)+32)
	for _, r := range string(line) {
		switch {
		case !escapedInJSON(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

// plainASCII says quickly that nothing in a line can be hidden.
func plainASCII(line []byte) bool {
	for _, c := range line {
		if c != '\n' && (c < ' ' || c > '~') {
			return false
		}
	}
	return true
}

func escapedInJSON(r rune) bool {
	return r != '\n' && hidden(r)
}

// maxLine is the longest line of a stream that Convert reads, in bytes.
const maxLine = 16 << 20

// Convert reads a JSON stream and writes its messages to w, which the caller
// closes. A stream that is broken, of another version or without a summary is
// an error that names the line; what came before it has been written.
func Convert(r io.Reader, w Writer) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	var c checker
	n := 0
	for lines.Scan() {
		n++
		m, err := c.message(lines.Bytes())
		if err != nil {
			return fmt.Errorf("reading the stream: line %d: %w", n, err)
		}
		if err := w.Write(m); err != nil {
			return err
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("reading the stream: line %d: longer than %d MiB", n+1, maxLine>>20)
	case err != nil:
		return fmt.Errorf("reading the stream: line %d: %w", n+1, err)
	case !c.ended:
		return fmt.Errorf("reading the stream: line %d: ends without a summary; the scan that wrote it did not finish, or its end is cut off", n)
	}
	return nil
}

// checker holds a stream against its contract.
type checker struct {
	begun, ended bool
	controls     map[string]bool
}

// message parses one line. Fields that it does not know are of a newer Sconce
// and left out.
func (c *checker) message(line []byte) (*verdict.Message, error) {
	if !utf8.Valid(line) {
		return nil, errors.New("not UTF-8")
	}
	m := new(verdict.Message)
	if err := json.Unmarshal(line, m); err != nil {
		return nil, fmt.Errorf("not a message of the JSON that sconce scan -o json writes: %w", err)
	}
	if n := fields(m); n != 1 {
		return nil, fmt.Errorf("%d of config, control, finding, problem, notice and summary; want exactly one", n)
	}
	return m, c.order(m)
}

func fields(m *verdict.Message) int {
	n := 0
	for _, set := range []bool{m.Config != nil, m.Control != nil, m.Finding != nil, m.Problem != nil, m.Notice != nil, m.Summary != nil} {
		if set {
			n++
		}
	}
	return n
}

// order checks what a message must be after those before it.
func (c *checker) order(m *verdict.Message) error {
	switch {
	case c.ended:
		return errors.New("a message after the summary; is this more than one stream?")
	case !c.begun && m.Config == nil:
		return errors.New("the first message is not config")
	case c.begun && m.Config != nil:
		return errors.New("a second config; is this more than one stream?")
	case m.Config != nil && m.Config.Stream != verdict.StreamVersion:
		return fmt.Errorf("stream version %q; this sconce reads %q", m.Config.Stream, verdict.StreamVersion)
	case m.Config != nil:
		c.begun, c.controls = true, map[string]bool{}
	case m.Control != nil:
		c.controls[m.Control.Name] = true
	case m.Finding != nil:
		return c.finding(m.Finding)
	case m.Summary != nil:
		c.ended = true
	}
	return nil
}

func (c *checker) finding(f *verdict.Finding) error {
	if f.Outcome != verdict.Fail && f.Outcome != verdict.Unknown {
		return fmt.Errorf("finding with outcome %q; want %s or %s", f.Outcome, verdict.Fail, verdict.Unknown)
	}
	if !c.controls[f.Control] {
		return fmt.Errorf("finding of control %q, which no line before describes", f.Control)
	}
	return nil
}
