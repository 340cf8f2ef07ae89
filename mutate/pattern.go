// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
)

// patternEdit is one change of a regular expression.
type patternEdit struct {
	before, after string
	source        string
}

// patterns returns every change of a regular expression that is tried.
func patterns(source string) []patternEdit {
	root, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return nil
	}
	var out []patternEdit
	seen := map[string]bool{root.String(): true}
	var walk func(re *syntax.Regexp, whole func(*syntax.Regexp) *syntax.Regexp)
	walk = func(re *syntax.Regexp, whole func(*syntax.Regexp) *syntax.Regexp) {
		for _, c := range patternChanges(re) {
			s := whole(c.by).String()
			if _, err := syntax.Parse(s, syntax.Perl); err != nil || seen[s] {
				continue
			}
			seen[s] = true
			out = append(out, patternEdit{c.before, c.after, s})
		}
		for i, sub := range re.Sub {
			walk(sub, func(by *syntax.Regexp) *syntax.Regexp { return whole(with(re, i, by)) })
		}
	}
	walk(root, func(by *syntax.Regexp) *syntax.Regexp { return by })
	return out
}

// with returns a copy of the expression with another i-th part.
func with(re *syntax.Regexp, i int, sub *syntax.Regexp) *syntax.Regexp {
	out := *re
	out.Sub = slices.Clone(re.Sub)
	out.Sub[i] = sub
	return &out
}

type patternChange struct {
	before, after string
	by            *syntax.Regexp
}

// patternChanges returns what is tried in the place of one part.
func patternChanges(re *syntax.Regexp) []patternChange {
	nothing := &syntax.Regexp{Op: syntax.OpEmptyMatch}
	change := func(by *syntax.Regexp) patternChange { return patternChange{plain(re), plain(by), by} }
	dropped := func(what string, by *syntax.Regexp) patternChange { return patternChange{what, "(dropped)", by} }
	repeat := func(op syntax.Op, lo, hi int) *syntax.Regexp {
		return &syntax.Regexp{Op: op, Flags: re.Flags, Sub: re.Sub, Min: lo, Max: hi}
	}
	var out []patternChange
	switch re.Op {
	case syntax.OpBeginLine, syntax.OpEndLine, syntax.OpBeginText, syntax.OpEndText, syntax.OpWordBoundary, syntax.OpNoWordBoundary:
		out = append(out, dropped(anchors[re.Op], nothing))
	case syntax.OpAlternate:
		for i, sub := range re.Sub {
			rest := *re
			rest.Sub = slices.Concat(re.Sub[:i:i], re.Sub[i+1:])
			if len(rest.Sub) == 1 {
				rest = *rest.Sub[0]
			}
			out = append(out, dropped(plain(sub)+" of "+plain(re), &rest))
		}
	case syntax.OpQuest:
		out = append(out, change(re.Sub[0]), dropped(plain(re), nothing))
	case syntax.OpStar:
		out = append(out, change(repeat(syntax.OpPlus, 0, 0)), dropped(plain(re), nothing))
	case syntax.OpPlus:
		out = append(out, change(re.Sub[0]), change(repeat(syntax.OpStar, 0, 0)))
	case syntax.OpRepeat:
		out = append(out, change(repeat(syntax.OpRepeat, re.Min+1, max(re.Max, -1))))
		if re.Min > 0 {
			out = append(out, change(repeat(syntax.OpRepeat, re.Min-1, re.Max)))
		}
		if re.Max > re.Min {
			out = append(out, change(repeat(syntax.OpRepeat, re.Min, re.Max-1)))
		}
		if re.Max > 0 {
			out = append(out, change(repeat(syntax.OpRepeat, re.Min, re.Max+1)))
		}
	case syntax.OpCharClass:
		out = classChanges(re)
	}
	return out
}

// plain returns a part as people write it, without the flags that hold for it.
func plain(re *syntax.Regexp) string {
	s := re.String()
	for _, flags := range []string{"(?-s:", "(?-m:", "(?s:", "(?i:"} {
		if rest, ok := strings.CutPrefix(s, flags); ok {
			return strings.TrimSuffix(rest, ")")
		}
	}
	return s
}

// anchors are the anchors as people write them.
var anchors = map[syntax.Op]string{
	syntax.OpBeginLine: "^", syntax.OpBeginText: "^", syntax.OpEndLine: "$", syntax.OpEndText: "$",
	syntax.OpWordBoundary: `\b`, syntax.OpNoWordBoundary: `\B`,
}

// maxClass is how many ranges of a class are tried one by one; classes of more
// are those of Unicode.
const maxClass = 12

// classChanges tries a class without each of its ranges; one that says what it
// has not, with each of these.
func classChanges(re *syntax.Regexp) []patternChange {
	ranges, negated := re.Rune, false
	if n := len(ranges); n > 0 && ranges[n-1] == unicode.MaxRune && ranges[0] == 0 {
		negated = true
		ranges = nil
		for i := 1; i+1 < n; i += 2 {
			ranges = append(ranges, re.Rune[i]+1, re.Rune[i+1]-1)
		}
	}
	units := classUnits(ranges)
	if len(units) > maxClass || len(units) < 2 && !negated {
		return nil
	}
	var out []patternChange
	for _, unit := range units {
		by := *re
		by.Rune = nil
		for i := 0; i < len(ranges); i += 2 {
			if !slices.Contains(unit, ranges[i]) {
				by.Rune = append(by.Rune, ranges[i], ranges[i+1])
			}
		}
		if negated {
			by.Rune = complement(by.Rune)
		}
		out = append(out, patternChange{plain(re), plain(&by), &by})
	}
	return out
}

// classUnits returns the beginnings of the ranges of a class, those together
// that people write as one: \s, \w.
func classUnits(ranges []rune) [][]rune {
	var begin []rune
	for i := 0; i < len(ranges); i += 2 {
		begin = append(begin, ranges[i])
	}
	var out [][]rune
	for _, unit := range [][]rune{{'\t', '\f', ' '}, {'0', 'A', '_', 'a'}} {
		if !slices.ContainsFunc(unit, func(r rune) bool { return !slices.Contains(begin, r) }) {
			out = append(out, unit)
			begin = slices.DeleteFunc(begin, func(r rune) bool { return slices.Contains(unit, r) })
		}
	}
	for _, r := range begin {
		out = append(out, []rune{r})
	}
	return out
}

func complement(ranges []rune) []rune {
	var out []rune
	from := rune(0)
	for i := 0; i < len(ranges); i += 2 {
		if ranges[i] > from {
			out = append(out, from, ranges[i]-1)
		}
		from = ranges[i+1] + 1
	}
	return append(out, from, unicode.MaxRune)
}

// samples returns strings that a regular expression matches, at most limit of
// them: each part of it is met by one of them if the limit allows.
func samples(source string, limit int) []string {
	re, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return nil
	}
	return sample(re, limit)
}

func sample(re *syntax.Regexp, limit int) []string {
	switch re.Op {
	case syntax.OpLiteral:
		return []string{string(re.Rune)}
	case syntax.OpCharClass:
		return classSamples(re)
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return []string{"x"}
	case syntax.OpCapture:
		return sample(re.Sub[0], limit)
	case syntax.OpQuest:
		return cut(append([]string{""}, sample(re.Sub[0], limit)...), limit)
	case syntax.OpStar:
		some := sample(re.Sub[0], limit)
		return cut(append([]string{""}, some...), limit)
	case syntax.OpPlus:
		some := sample(re.Sub[0], limit)
		if len(some) > 0 {
			some = append(some, some[0]+some[0])
		}
		return cut(some, limit)
	case syntax.OpRepeat:
		return repeated(re, limit)
	case syntax.OpAlternate:
		var out []string
		for _, sub := range re.Sub {
			out = append(out, sample(sub, max(1, limit/len(re.Sub)))...)
		}
		return cut(out, limit)
	case syntax.OpConcat:
		return concatenated(re, limit)
	}
	return []string{""}
}

func classSamples(re *syntax.Regexp) []string {
	var out []string
	if n := len(re.Rune); n > 0 && re.Rune[n-1] == unicode.MaxRune {
		out = append(out, "x")
		for i := 1; i+2 < n && i < 2*maxClass; i += 2 { // what it has not tells, too
			out = append(out, string(re.Rune[i]+1))
		}
		return out
	}
	for i := 0; i < len(re.Rune) && len(out) < maxClass; i += 2 {
		out = append(out, string(re.Rune[i]), string(re.Rune[i+1]))
	}
	return cut(out, maxClass)
}

func repeated(re *syntax.Regexp, limit int) []string {
	var out []string
	for _, n := range []int{re.Min, re.Max, re.Min - 1, re.Min + 1, re.Max + 1} {
		for _, one := range sample(re.Sub[0], 2) {
			if n >= 0 && n <= 1000 {
				out = append(out, strings.Repeat(one, n))
			}
		}
	}
	return cut(out, limit)
}

// concatenated varies one part at a time beside the first of the others.
func concatenated(re *syntax.Regexp, limit int) []string {
	parts := make([][]string, len(re.Sub))
	for i, sub := range re.Sub {
		if parts[i] = sample(sub, limit); len(parts[i]) == 0 {
			return nil
		}
	}
	var out []string
	for i := range parts {
		for k, s := range parts[i] {
			if i > 0 && k == 0 {
				continue
			}
			var b strings.Builder
			for j := range parts {
				if j == i {
					b.WriteString(s)
				} else {
					b.WriteString(parts[j][0])
				}
			}
			out = append(out, b.String())
		}
	}
	return cut(out, limit)
}

func cut(list []string, limit int) []string {
	var out []string
	for _, s := range list {
		if len(out) < limit && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
