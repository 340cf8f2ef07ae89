// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"fmt"
	"strconv"
	"strings"
)

// location is the place in an object that a mutator changes, as in
// spec.containers[name: web].image.
type location []locationStep

// locationStep goes into a field, or, where key is set, into those items of a
// list whose field of that name has a value; into all of them where any is set.
type locationStep struct {
	field string
	key   string
	value any
	any   bool
}

func (s *locationStep) list() bool { return s.key != "" }

// parseLocation reads a location.
func parseLocation(text string) (location, error) {
	p := &locationParser{rest: text}
	var out location
	for {
		field, err := p.word()
		if err != nil {
			return nil, fmt.Errorf("the location %q: %w", text, err)
		}
		out = append(out, locationStep{field: field})
		if p.take('[') {
			step, err := p.items()
			if err != nil {
				return nil, fmt.Errorf("the location %q: %w", text, err)
			}
			out = append(out, step)
		}
		if p.done() {
			return out, nil
		}
		if !p.take('.') {
			return nil, fmt.Errorf("the location %q: %q stands where a dot would", text, p.rest)
		}
	}
}

// prefixOf says whether a location leads to another.
func (l location) prefixOf(other location) bool {
	if len(l) > len(other) {
		return false
	}
	for i := range l {
		if l[i] != other[i] {
			return false
		}
	}
	return true
}

// locationParser reads a location from its beginning.
type locationParser struct{ rest string }

func (p *locationParser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

func (p *locationParser) done() bool {
	p.space()
	return p.rest == ""
}

// take takes a character, if it is the next.
func (p *locationParser) take(c byte) bool {
	p.space()
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func wordCharacter(r rune) bool {
	return r == '_' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}

// word takes a name, or one in quotes.
func (p *locationParser) word() (string, error) {
	p.space()
	if p.take('"') {
		return p.quoted('"')
	}
	if p.take('\'') {
		return p.quoted('\'')
	}
	end := strings.IndexFunc(p.rest, func(r rune) bool { return !wordCharacter(r) })
	if end < 0 {
		end = len(p.rest)
	}
	if end == 0 {
		return "", fmt.Errorf("%q stands where a name would", p.rest)
	}
	out := p.rest[:end]
	p.rest = p.rest[end:]
	return out, nil
}

// quoted takes what stands before a quote; a backslash makes what follows it a
// part of it.
func (p *locationParser) quoted(quote byte) (string, error) {
	var out strings.Builder
	for i := 0; i < len(p.rest); i++ {
		switch p.rest[i] {
		case quote:
			p.rest = p.rest[i+1:]
			return out.String(), nil
		case '\\':
			if i++; i == len(p.rest) {
				continue
			}
		}
		out.WriteByte(p.rest[i])
	}
	return "", fmt.Errorf("a %c has no other", quote)
}

// items takes what stands in brackets: key: value, key: *.
func (p *locationParser) items() (locationStep, error) {
	var step locationStep
	var err error
	if step.key, err = p.word(); err != nil {
		return step, err
	}
	if !p.take(':') {
		return step, fmt.Errorf("%q stands where the colon after %s would", p.rest, step.key)
	}
	p.space()
	switch {
	case p.take('*'):
		step.any = true
	case p.rest != "" && '0' <= p.rest[0] && p.rest[0] <= '9':
		digits := p.rest[:len(p.rest)-len(strings.TrimLeft(p.rest, "0123456789"))]
		p.rest = p.rest[len(digits):]
		if step.value, err = strconv.ParseInt(digits, 10, 64); err != nil {
			return step, err
		}
	default:
		if step.value, err = p.word(); err != nil {
			return step, err
		}
	}
	if !p.take(']') {
		return step, fmt.Errorf("%q stands where a ] would", p.rest)
	}
	return step, nil
}
