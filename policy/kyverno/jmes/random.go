// SPDX-License-Identifier: Apache-2.0

package jmes

import (
	"errors"
	"regexp/syntax"
	"strings"
)

const (
	// maxRandom is how long a random text may become, maxRepeat how often what may be
	// repeated without end is.
	maxRandom = 64 << 10
	maxRepeat = 32
)

// random makes a text that a regular expression matches.
func random(r *run, args []any) (any, error) {
	s := args[0].(string)
	switch {
	case s == "":
		return nil, errors.New("the argument is empty")
	case len(s) > maxRegex:
		return nil, errString
	case r.env.Random == nil:
		return nil, &UnknownError{"a random text"}
	}
	re, err := syntax.Parse(s, syntax.Perl)
	if err != nil {
		return nil, err
	}
	g := generator{random: r.env.Random}
	if err := g.write(re); err != nil {
		return nil, err
	}
	return g.out.String(), r.spendText(g.out.Len())
}

type generator struct {
	random func() uint64
	out    strings.Builder
	parts  int
}

func (g *generator) below(n int) int { return int(g.random() % uint64(n)) }

// write writes what a part of a regular expression matches.
func (g *generator) write(re *syntax.Regexp) error {
	if g.parts++; g.parts > maxRandom || g.out.Len() > maxRandom {
		return errString
	}
	switch re.Op {
	case syntax.OpNoMatch:
		return errors.New("nothing matches the argument")
	case syntax.OpLiteral:
		g.out.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		return g.writeClass(re.Rune)
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		g.out.WriteByte(byte(' ' + g.below('~'-' '+1)))
	case syntax.OpCapture, syntax.OpConcat:
		return g.writeAll(re.Sub)
	case syntax.OpAlternate:
		return g.write(re.Sub[g.below(len(re.Sub))])
	case syntax.OpStar:
		return g.repeat(re.Sub[0], 0, -1)
	case syntax.OpPlus:
		return g.repeat(re.Sub[0], 1, -1)
	case syntax.OpQuest:
		return g.repeat(re.Sub[0], 0, 1)
	case syntax.OpRepeat:
		return g.repeat(re.Sub[0], re.Min, re.Max)
	}
	return nil
}

func (g *generator) writeAll(parts []*syntax.Regexp) error {
	for _, part := range parts {
		if err := g.write(part); err != nil {
			return err
		}
	}
	return nil
}

func (g *generator) repeat(re *syntax.Regexp, least, most int) error {
	if most < 0 {
		most = least + maxRepeat
	}
	for range least + g.below(most-least+1) {
		if err := g.write(re); err != nil {
			return err
		}
	}
	return nil
}

// writeClass writes a character of a class, which is pairs of the first and the last
// of ranges.
func (g *generator) writeClass(ranges []rune) error {
	n := 0
	for i := 0; i < len(ranges); i += 2 {
		n += int(ranges[i+1]-ranges[i]) + 1
	}
	if n == 0 {
		return errors.New("nothing matches the argument")
	}
	k := g.below(n)
	for i := 0; i < len(ranges); i += 2 {
		size := int(ranges[i+1]-ranges[i]) + 1
		if k < size {
			g.out.WriteRune(ranges[i] + rune(k))
			break
		}
		k -= size
	}
	return nil
}
