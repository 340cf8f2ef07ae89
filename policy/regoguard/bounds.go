// SPDX-License-Identifier: Apache-2.0

package regoguard

import (
	"errors"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxResult is how large a value a function may build, in bytes or elements.
const maxResult = 4 << 20

// maxDigits is how long the numbers may be that a function computes with.
const maxDigits = 64 << 10

// bounds are the functions whose results may be far larger than their operands,
// and how large. No operand is looked at further than the bound.
var bounds = map[string]func(operands []*ast.Term) int{
	"array.concat":            func(o []*ast.Term) int { return sized(lengthOf(o, 0), lengthOf(o, 1)) },
	"array.flatten":           flatSize,
	"base64.encode":           encodedSize,
	"base64url.encode":        encodedSize,
	"base64url.encode_no_pad": encodedSize,
	"bits.lsh":                func(o []*ast.Term) int { return numbersOf(digitsOf(o), max(intOf(o, 1), 0)/3) },
	"concat":                  func(o []*ast.Term) int { return sized(product(len(stringOf(o, 0)), lengthOf(o, 1)), totalOf(o, 1)) },
	"glob.match": func(o []*ast.Term) int {
		return product(len(stringOf(o, 0))/4, len(stringOf(o, 2))/4)
	},
	"graph.reachable_paths":     pathsOf,
	"graphql.is_valid":          parsedSize,
	"graphql.parse":             parsedSize,
	"graphql.parse_and_verify":  parsedSize,
	"graphql.parse_query":       parsedSize,
	"graphql.parse_schema":      parsedSize,
	"graphql.schema_is_valid":   parsedSize,
	"hex.encode":                encodedSize,
	"indexof":                   searchSize,
	"indexof_n":                 searchSize,
	"json.filter":               writtenSize,
	"json.marshal":              writtenSize,
	"json.marshal_with_options": writtenSize,
	"json.patch":                writtenSize,
	"json.remove":               writtenSize,
	"net.cidr_contains_matches": func(o []*ast.Term) int { return product(max(lengthOf(o, 0), 1), max(lengthOf(o, 1), 1)) },
	"net.cidr_expand":           cidrSize,
	"numbers.range":             rangeSize,
	"numbers.range_step":        rangeSize,
	"regex.find_all_string_submatch_n": func(o []*ast.Term) int {
		return product(strings.Count(stringOf(o, 0), "(")+1, len(stringOf(o, 1))+1)
	},
	"regex.replace": func(o []*ast.Term) int { return product(len(stringOf(o, 0))+1, len(stringOf(o, 2))+1) },
	"replace": func(o []*ast.Term) int {
		return product(strings.Count(stringOf(o, 0), stringOf(o, 1))+1, len(stringOf(o, 2)))
	},
	"sprintf":                 func(o []*ast.Term) int { return sized(sprintfSize(o), writtenSize(o), numbersOf(digitsOf(o[1:]))) },
	"strings.render_template": renderedSize,
	"strings.replace_n":       func(o []*ast.Term) int { return product(len(stringOf(o, 1))+1, totalOf(o, 0)+1) },
	"sum":                     func(o []*ast.Term) int { return numbersOf(longest(o)) },
	"urlquery.encode":         encodedSize,
	"urlquery.encode_object":  writtenSize,
	"walk":                    writtenSize,
	"yaml.marshal":            writtenSize,
}

// numeric are the functions that compute with numbers of any length.
var numeric = []string{
	"abs", "bits.and", "bits.negate", "bits.or", "bits.rsh", "bits.xor", "ceil", "div", "floor", "format_int",
	"minus", "mul", "plus", "product", "rem", "round", "units.parse", "units.parse_bytes",
}

func init() {
	for _, name := range numeric {
		bounds[name] = func(o []*ast.Term) int { return numbersOf(digitsOf(o)) }
	}
}

// sized adds sizes.
func sized(sizes ...int) int {
	n := 0
	for _, s := range sizes {
		if s < 0 || s > maxResult {
			return maxResult + 1
		}
		n += s
	}
	return n
}

func stringOf(operands []*ast.Term, i int) string {
	if i < len(operands) {
		if s, ok := operands[i].Value.(ast.String); ok {
			return string(s)
		}
	}
	return ""
}

// intOf returns a number; more than any bound where it is no small integer.
func intOf(operands []*ast.Term, i int) int {
	if i < len(operands) {
		if n, ok := operands[i].Value.(ast.Number); ok {
			if v, ok := n.Int(); ok {
				return v
			}
			return 16 * maxResult
		}
	}
	return 0
}

// each calls f with the elements of a collection.
func each(operands []*ast.Term, i int, f func(*ast.Term)) {
	if i >= len(operands) {
		return
	}
	switch v := operands[i].Value.(type) {
	case *ast.Array:
		v.Foreach(f)
	case ast.Set:
		v.Foreach(f)
	case ast.Object:
		v.Foreach(func(_, value *ast.Term) { f(value) })
	}
}

func lengthOf(operands []*ast.Term, i int) int {
	if i < len(operands) {
		if v, ok := operands[i].Value.(interface{ Len() int }); ok {
			return v.Len()
		}
	}
	return 0
}

// totalOf returns how long the strings of a collection are together.
func totalOf(operands []*ast.Term, i int) int {
	n := 0
	each(operands, i, func(t *ast.Term) {
		if s, ok := t.Value.(ast.String); ok {
			n += len(s)
		}
	})
	return n
}

// TooLarge says whether a value is too large to be written out.
func TooLarge(t *ast.Term) bool { return writtenSize([]*ast.Term{t}) > maxResult }

// writtenSize returns how large operands are once they are written out: a value
// that holds another twice is small as long as it is not.
func writtenSize(operands []*ast.Term) int {
	left := maxResult + 1
	for _, o := range operands {
		left = spelt(o, left)
	}
	return maxResult + 1 - left
}

// spelt returns what is left of a size when a term is written out; 0 for
// nothing.
func spelt(t *ast.Term, left int) int {
	if left--; left <= 0 {
		return 0
	}
	switch v := t.Value.(type) {
	case ast.String:
		return max(left-len(v), 0)
	case ast.Number:
		return max(left-len(v), 0)
	case *ast.Array:
		v.Until(func(item *ast.Term) bool { left = spelt(item, left); return left == 0 })
	case ast.Set:
		v.Until(func(item *ast.Term) bool { left = spelt(item, left); return left == 0 })
	case ast.Object:
		v.Until(func(key, value *ast.Term) bool { left = spelt(value, spelt(key, left)); return left == 0 })
	}
	return left
}

// pathsOf returns how many paths a graph may have.
func pathsOf(operands []*ast.Term) int {
	n := 1
	each(operands, 0, func(edges *ast.Term) {
		if n <= maxResult {
			n = product(n, max(lengthOf([]*ast.Term{edges}, 0), 1))
		}
	})
	return n
}

func rangeSize(operands []*ast.Term) int {
	from, to := intOf(operands, 0), intOf(operands, 1)
	return sized(max(from, to)-min(from, to), numbersOf(digitsOf(operands)))
}

// product multiplies sizes.
func product(a, b int) int {
	if a != 0 && b > maxResult/a {
		return maxResult + 1
	}
	return a * b
}

// searchSize stands for how long it takes to look for one text in another.
func searchSize(operands []*ast.Term) int {
	return product(len(stringOf(operands, 0))/16, len(stringOf(operands, 1))/16)
}

// encodedSize returns how large a text is that is written in another way.
func encodedSize(operands []*ast.Term) int { return product(3, len(stringOf(operands, 0))) }

// flatSize returns how many elements the lists in a list have.
func flatSize(operands []*ast.Term) int {
	n := 0
	each(operands, 0, func(t *ast.Term) { n = sized(n, max(lengthOf([]*ast.Term{t}, 0), 1)) })
	return n
}

// parsedSize bounds a text that a parser reads which calls itself for each level.
func parsedSize(operands []*ast.Term) int {
	n := 0
	for i := range operands {
		n = sized(n, product(64, len(stringOf(operands, i))))
	}
	return n
}

// looping are the words by which a template of Go may come to a text of any
// size.
var looping = []string{"template", "block", "printf", "define"}

// renderedSize returns how large a template of Go may come to be.
func renderedSize(operands []*ast.Term) int {
	text := stringOf(operands, 0)
	for _, word := range looping {
		if strings.Contains(text, word) {
			return maxResult + 1
		}
	}
	values := writtenSize(operands[1:])
	n := product(strings.Count(text, "{{"), values+1)
	for range strings.Count(text, "range") {
		n = product(n, values+1)
	}
	return sized(n, len(text))
}

// numbersOf makes a size of how many digits numbers have.
func numbersOf(digits ...int) int {
	if n := sized(digits...); n > maxDigits {
		return maxResult + 1
	}
	return 0
}

// digitsOf returns how many digits operands have that are numbers, or collections
// of them, once they are written out without exponents.
func digitsOf(operands []*ast.Term) int {
	n := 0
	for i, o := range operands {
		switch v := o.Value.(type) {
		case ast.Number:
			n = sized(n, digits(string(v)))
		case ast.String:
			if i == 0 && strings.ContainsAny(string(v), "eE") {
				n = sized(n, digits(strings.TrimRight(string(v), "abcdfghijklmnopqrstuvwxyzABCDFGHIJKLMNOPQRSTUVWXYZ\"")))
			}
		default:
			each(operands, i, func(t *ast.Term) {
				if v, ok := t.Value.(ast.Number); ok {
					n = sized(n, digits(string(v)))
				}
			})
		}
	}
	return n
}

// longest returns how many digits the longest of the numbers in a collection has.
func longest(operands []*ast.Term) int {
	n := 0
	each(operands, 0, func(t *ast.Term) { n = max(n, digitsOf([]*ast.Term{t})) })
	return n
}

// digits returns how many digits a number has that is written with an exponent
// or without.
func digits(number string) int {
	i := strings.IndexAny(number, "eE")
	if i < 0 {
		return len(number)
	}
	exponent, err := strconv.Atoi(strings.TrimSpace(number[i+1:]))
	switch {
	case errors.Is(err, strconv.ErrRange):
		return maxResult + 1
	case err != nil:
		return len(number)
	}
	return sized(i, max(exponent, -exponent))
}

func cidrSize(operands []*ast.Term) int {
	prefix, err := netip.ParsePrefix(stringOf(operands, 0))
	if err != nil {
		return 0
	}
	if free := prefix.Addr().BitLen() - prefix.Bits(); free < 20 {
		return 1 << free
	}
	return maxResult + 1
}

// widths are the widths and precisions of a format.
var widths = regexp.MustCompile(`%[-+# 0]*(?:\[\d+\])?(\*|\d*)(?:\.(?:\[\d+\])?(\*|\d*))?`)

// sprintfSize returns how far a format widens what it prints.
func sprintfSize(operands []*ast.Term) int {
	format := stringOf(operands, 0)
	if !strings.ContainsAny(format, "0123456789*") {
		return 0
	}
	n := 0
	for _, m := range widths.FindAllStringSubmatch(format, -1) {
		for _, w := range m[1:] {
			width, err := strconv.Atoi(w)
			switch {
			case w == "":
			case err != nil:
				width = largest(operands)
			}
			n = sized(n, width)
		}
	}
	return n
}

// largest returns the largest of the numbers that a format is given.
func largest(operands []*ast.Term) int {
	n := 0
	each(operands, 1, func(t *ast.Term) { n = max(n, intOf([]*ast.Term{t}, 0)) })
	return n
}
