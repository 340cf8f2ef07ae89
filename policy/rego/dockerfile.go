// SPDX-License-Identifier: Apache-2.0

package rego

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// dockerfile is a Dockerfile that is being read.
type dockerfile struct {
	lines    []string
	next     int // the line that is read next
	escape   byte
	stages   int
	comments []string
	out      []any
}

// instruction is what an instruction comes to: the names of its fields in rules
// are Cmd, SubCmd, Flags, Value, JSON and Stage.
type instruction struct {
	cmd, sub string
	flags    []any
	value    []any
	json     bool
}

// arguments are how the arguments of instructions are split.
var arguments = map[string]func(d *dockerfile, i *instruction, rest string) error{
	"add":         (*dockerfile).jsonOrFields,
	"arg":         (*dockerfile).words,
	"cmd":         (*dockerfile).jsonOrText,
	"copy":        (*dockerfile).jsonOrFields,
	"entrypoint":  (*dockerfile).jsonOrText,
	"env":         (*dockerfile).pairs,
	"expose":      (*dockerfile).fields,
	"from":        (*dockerfile).fields,
	"healthcheck": (*dockerfile).healthcheck,
	"label":       (*dockerfile).pairs,
	"maintainer":  (*dockerfile).text,
	"run":         (*dockerfile).jsonOrText,
	"shell":       (*dockerfile).jsonOrText,
	"stopsignal":  (*dockerfile).text,
	"user":        (*dockerfile).text,
	"volume":      (*dockerfile).jsonOrFields,
	"workdir":     (*dockerfile).text,
}

func parseDockerfile(data []byte) ([]any, error) {
	text := string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	d := &dockerfile{lines: strings.Split(text, "\n"), escape: '\\'}
	if err := d.directives(); err != nil {
		return nil, err
	}
	for d.next < len(d.lines) {
		start := d.next + 1
		if err := d.one(); err != nil {
			return nil, fmt.Errorf("line %d: %w", start, err)
		}
	}
	if len(d.out) == 0 {
		return nil, errors.New("it has no instructions")
	}
	return []any{d.out}, nil
}

var directive = regexp.MustCompile(`^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$`)

// directives reads the comments at the top that say how the rest is read.
func (d *dockerfile) directives() error {
	for _, line := range d.lines {
		found := directive.FindStringSubmatch(strings.TrimSpace(line))
		if found == nil {
			return nil
		}
		switch strings.ToLower(found[1]) {
		case "syntax", "check":
		case "escape":
			if found[2] != "`" && found[2] != `\` {
				return fmt.Errorf("the escape character is %q; it is ` or \\", found[2])
			}
			d.escape = found[2][0]
		default:
			return nil
		}
	}
	return nil
}

// one reads a comment, an empty line or an instruction.
func (d *dockerfile) one() error {
	line := strings.TrimLeftFunc(d.take(), unicode.IsSpace)
	switch {
	case line == "":
		return nil
	case line[0] == '#':
		if comment := strings.TrimSpace(line[1:]); comment == "" {
			d.comments = nil
		} else {
			d.comments = append(d.comments, comment)
		}
		return nil
	}
	line, more := d.continued(line)
	for more && d.next < len(d.lines) {
		following := d.take()
		if t := strings.TrimSpace(following); t == "" || t[0] == '#' {
			continue
		}
		var part string
		part, more = d.continued(following)
		line += part
	}
	return d.add(strings.TrimSpace(line))
}

func (d *dockerfile) take() string {
	line := strings.TrimSuffix(d.lines[d.next], "\r")
	d.next++
	return line
}

// continued cuts the character at the end of a line that says that it goes on.
func (d *dockerfile) continued(line string) (string, bool) {
	trimmed := strings.TrimRight(line, " \t")
	if strings.HasSuffix(trimmed, string(d.escape)) {
		return trimmed[:len(trimmed)-1], true
	}
	return line, false
}

// add adds an instruction, and the comments before it.
func (d *dockerfile) add(line string) error {
	if line == "" {
		return nil
	}
	i, err := d.instruction(line)
	if err != nil {
		return err
	}
	if strings.EqualFold(i.cmd, "from") {
		d.stages++
	}
	for _, c := range d.comments {
		d.emit(&instruction{cmd: "comment", value: []any{c}})
	}
	d.comments = nil
	d.emit(i)
	d.heredocs(line, i)
	return nil
}

func (d *dockerfile) emit(i *instruction) {
	list := func(values []any) any {
		if values == nil {
			return nil
		}
		return values
	}
	d.out = append(d.out, map[string]any{
		"Cmd": i.cmd, "SubCmd": i.sub, "JSON": i.json, "Flags": list(i.flags), "Value": list(i.value), "Stage": max(0, d.stages-1),
	})
}

// instruction reads an instruction and its arguments.
func (d *dockerfile) instruction(line string) (*instruction, error) {
	cmd, rest, _ := cutSpace(line)
	i := &instruction{cmd: strings.ToLower(cmd), flags: []any{}}
	if i.cmd == "onbuild" {
		sub, err := d.instruction(rest)
		if err != nil || rest == "" {
			return nil, errors.Join(errors.New("ONBUILD needs an instruction"), err)
		}
		name, _, _ := cutSpace(rest)
		return &instruction{cmd: "onbuild", sub: name, flags: []any{}, value: sub.value}, nil
	}
	split := arguments[i.cmd]
	if split == nil {
		return nil, fmt.Errorf("unknown instruction %s", strings.ToUpper(cmd))
	}
	for strings.HasPrefix(rest, "--") {
		var flag string
		flag, rest, _ = cutSpace(rest)
		i.flags = append(i.flags, flag)
	}
	if strings.TrimSpace(rest) == "" {
		return i, nil
	}
	return i, split(d, i, rest)
}

// cutSpace cuts a text at the first white space.
func cutSpace(s string) (before, after string, found bool) {
	at := strings.IndexFunc(s, unicode.IsSpace)
	if at < 0 {
		return s, "", false
	}
	return s[:at], strings.TrimLeftFunc(s[at:], unicode.IsSpace), true
}

func (d *dockerfile) text(i *instruction, rest string) error {
	i.value = append(i.value, rest)
	return nil
}

func (d *dockerfile) fields(i *instruction, rest string) error {
	for _, f := range strings.Fields(rest) {
		i.value = append(i.value, f)
	}
	return nil
}

// list reads the form of a JSON list.
func (d *dockerfile) list(i *instruction, rest string) (bool, error) {
	if !strings.HasPrefix(rest, "[") {
		return false, nil
	}
	var values []any
	if json.Unmarshal([]byte(rest), &values) != nil {
		return false, nil
	}
	for _, v := range values {
		if _, ok := v.(string); !ok {
			return false, errors.New("the JSON list holds what is no text")
		}
	}
	i.value, i.json = append(i.value, values...), true
	return true, nil
}

func (d *dockerfile) jsonOrText(i *instruction, rest string) error {
	if ok, err := d.list(i, rest); ok || err != nil {
		return err
	}
	return d.text(i, rest)
}

func (d *dockerfile) jsonOrFields(i *instruction, rest string) error {
	if ok, err := d.list(i, rest); ok || err != nil {
		return err
	}
	return d.fields(i, rest)
}

func (d *dockerfile) healthcheck(i *instruction, rest string) error {
	kind, command, _ := cutSpace(rest)
	i.value = append(i.value, kind)
	if command == "" {
		return nil
	}
	return d.jsonOrText(i, command)
}

func (d *dockerfile) words(i *instruction, rest string) error {
	for _, w := range d.split(rest) {
		i.value = append(i.value, w)
	}
	return nil
}

// pairs reads name=value name=value, and the old form of one name and a value.
func (d *dockerfile) pairs(i *instruction, rest string) error {
	words := d.split(rest)
	if len(words) > 0 && !strings.Contains(words[0], "=") {
		name, value, ok := cutSpace(rest)
		if !ok {
			return fmt.Errorf("%s needs a name and a value", strings.ToUpper(i.cmd))
		}
		i.value = append(i.value, name, value, "")
		return nil
	}
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok {
			return fmt.Errorf("%s: a word has no =; want name=value", strings.ToUpper(i.cmd))
		}
		i.value = append(i.value, name, value, "=")
	}
	return nil
}

// split splits words at white space outside of quotes, which stay.
func (d *dockerfile) split(s string) []string {
	var out []string
	var word strings.Builder
	quote, started := byte(0), false
	for at := 0; at < len(s); at++ {
		c := s[at]
		switch {
		case c == d.escape && quote != '\'' && at+1 < len(s):
			word.WriteByte(c)
			at++
			c = s[at]
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case unicode.IsSpace(rune(c)):
			if started {
				out = append(out, word.String())
			}
			word.Reset()
			started = false
			continue
		}
		started = true
		word.WriteByte(c)
	}
	if started {
		out = append(out, word.String())
	}
	return out
}

var heredoc = regexp.MustCompile(`<<(-?)\s*(["']?)([a-zA-Z][a-zA-Z0-9_.]*)["']?`)

// heredocs skips the lines of documents that stand below an instruction.
func (d *dockerfile) heredocs(line string, i *instruction) {
	if i.cmd != "run" && i.cmd != "copy" && i.cmd != "add" {
		return
	}
	for _, found := range heredoc.FindAllStringSubmatch(line, -1) {
		for d.next < len(d.lines) {
			end := d.take()
			if found[1] == "-" {
				end = strings.TrimLeft(end, "\t")
			}
			if end == found[3] {
				break
			}
		}
	}
}
