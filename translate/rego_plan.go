// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// plan is how the values are found that a part of Rego comes to: under
// conditions, for each item of a list, in one way or another. As a condition it
// says that there is one.
type plan struct {
	op   planOp
	cond string // of a guard
	// list is what an each goes over, item the name of an item or of a key, index
	// that of its number.
	list, item, index string
	rest              []*plan
	out               value // of a leaf
}

type planOp uint8

const (
	isLeaf planOp = iota
	isGuard
	isEach
	isAlt
)

func leaf(v value) *plan { return &plan{op: isLeaf, out: v} }

var nothingFound = &plan{op: isAlt}

func (p *plan) empty() bool { return p.op == isAlt && len(p.rest) == 0 }

func guard(cond string, p *plan) *plan {
	switch {
	case cond == always:
		return p
	case cond == never || p.empty():
		return nothingFound
	}
	return &plan{op: isGuard, cond: cond, rest: []*plan{p}}
}

func each(list, item, index string, p *plan) *plan {
	if p.empty() || list == "[]" || list == "{}" {
		return nothingFound
	}
	return &plan{op: isEach, list: list, item: item, index: index, rest: []*plan{p}}
}

func alternatives(list ...*plan) *plan {
	var out []*plan
	for _, p := range list {
		switch {
		case p.op == isAlt:
			out = append(out, p.rest...)
		default:
			out = append(out, p)
		}
	}
	if len(out) == 1 {
		return out[0]
	}
	return &plan{op: isAlt, rest: out}
}

// simplified returns the plan without conditions that hold already.
func (p *plan) simplified(held []string) *plan {
	switch p.op {
	case isLeaf:
		return p
	case isGuard:
		if slices.Contains(held, p.cond) {
			return p.rest[0].simplified(held)
		}
		if slices.Contains(held, not(p.cond)) {
			return nothingFound
		}
		return guard(p.cond, p.rest[0].simplified(append(slices.Clone(held), p.cond)))
	case isEach:
		return each(p.list, p.item, p.index, p.rest[0].simplified(held))
	}
	out := make([]*plan, 0, len(p.rest))
	for _, r := range p.rest {
		out = append(out, r.simplified(held))
	}
	return alternatives(out...)
}

// ways returns the alternatives of a plan, each as a plan of its own.
func (p *plan) ways() []*plan {
	var out []*plan
	switch p.op {
	case isAlt:
		for _, r := range p.rest {
			out = append(out, r.ways()...)
		}
	case isGuard:
		for _, r := range p.rest[0].ways() {
			out = append(out, guard(p.cond, r))
		}
	default:
		out = []*plan{p}
	}
	return out
}

// then goes on from every value.
func (p *plan) then(k func(value) (*plan, error)) (*plan, error) {
	switch p.op {
	case isLeaf:
		return k(p.out)
	case isAlt:
		out := make([]*plan, 0, len(p.rest))
		for _, r := range p.rest {
			x, err := r.then(k)
			if err != nil {
				return nil, err
			}
			out = append(out, x)
		}
		return alternatives(out...), nil
	}
	rest, err := p.rest[0].then(k)
	if err != nil {
		return nil, err
	}
	if p.op == isGuard {
		return guard(p.cond, rest), nil
	}
	return each(p.list, p.item, p.index, rest), nil
}

// leaves returns the values, and whether they are found without a loop.
func (p *plan) leaves() (out []value, plain bool) {
	plain = p.op != isEach
	if p.op == isLeaf {
		return []value{p.out}, true
	}
	for _, r := range p.rest {
		more, ok := r.leaves()
		out, plain = append(out, more...), plain && ok
	}
	return out, plain
}

// condition says that there is a value.
func (p *plan) condition() string {
	switch p.op {
	case isLeaf:
		return always
	case isGuard:
		return and(p.cond, p.rest[0].condition())
	case isAlt:
		parts := make([]string, 0, len(p.rest))
		for _, r := range p.rest {
			parts = append(parts, r.condition())
		}
		return or(parts...)
	}
	return exists(p.list, p.item, p.index, p.rest[0].condition())
}

func exists(list, item, index, cond string) string {
	if cond == always {
		return "size(" + list + ") > 0"
	}
	if one, ok := strings.CutPrefix(list, "["); ok && strings.HasSuffix(list, "]") && index == "" && strings.Trim(one, "'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.]") == "" && plainPath.MatchString(strings.TrimSuffix(one, "]")) {
		return replaceName(cond, item, strings.TrimSuffix(one, "]"))
	}
	if index == "" {
		if m := regexp.MustCompile(`^` + item + ` == ('[^']*')$`).FindStringSubmatch(cond); m != nil {
			return m[1] + " in " + wrap(list, isUnary)
		}
		return wrap(list, isUnary) + ".exists(" + item + ", " + cond + ")"
	}
	return wrap(list, isUnary) + ".exists(" + index + ", " + item + ", " + cond + ")"
}

var plainPath = regexp.MustCompile(`^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$`)

// replaceName puts another expression where a name stands, outside of texts.
func replaceName(expr, name, by string) string {
	var b strings.Builder
	word := regexp.MustCompile(`^\w+`)
	for i := 0; i < len(expr); {
		switch c := expr[i]; {
		case c == '\'':
			j := i + 1
			for ; j < len(expr) && expr[j] != '\''; j++ {
				if expr[j] == '\\' {
					j++
				}
			}
			j = min(j+1, len(expr))
			b.WriteString(expr[i:j])
			i = j
		default:
			w := word.FindString(expr[i:])
			if w == "" {
				b.WriteByte(c)
				i++
				continue
			}
			field := i > 0 && (expr[i-1] == '.' || expr[i-1] == '?')
			if w == name && !field {
				b.WriteString(by)
			} else {
				b.WriteString(w)
			}
			i += len(w)
		}
	}
	return b.String()
}

var errNested = errors.New("a list is collected from lists within lists, which CEL does not join")

// collected is the expression of the list of all values.
func (p *plan) collected() (string, error) {
	switch p.op {
	case isLeaf:
		v, err := p.out.text()
		return "[dyn(" + v + ")]", err
	case isGuard:
		rest, err := p.rest[0].collected()
		return "(" + p.cond + " ? " + rest + " : [])", err
	case isAlt:
		if len(p.rest) == 0 {
			return "[]", nil
		}
		parts := make([]string, 0, len(p.rest))
		for _, r := range p.rest {
			s, err := r.collected()
			if err != nil {
				return "", err
			}
			parts = append(parts, s)
		}
		return "(" + strings.Join(parts, " + ") + ")", nil
	}
	rest := p.rest[0]
	cond := always
	for rest.op == isGuard {
		cond, rest = and(cond, rest.cond), rest.rest[0]
	}
	if rest.op != isLeaf {
		return "", errNested
	}
	v, err := rest.out.text()
	if err != nil {
		return "", err
	}
	list := wrap(p.list, isUnary)
	if p.index != "" {
		if cond == always {
			return list + ".transformList(" + p.index + ", " + p.item + ", dyn(" + v + "))", nil
		}
		return list + ".transformList(" + p.index + ", " + p.item + ", " + cond + ", dyn(" + v + "))", nil
	}
	if cond != always {
		list += ".filter(" + p.item + ", " + cond + ")"
	}
	return list + ".map(" + p.item + ", dyn(" + v + "))", nil
}

// first is the expression of the first value, where there is one.
func (p *plan) first() (string, error) {
	switch p.op {
	case isLeaf:
		return p.out.text()
	case isGuard:
		return p.rest[0].first()
	case isAlt:
		out, err := p.rest[len(p.rest)-1].first()
		if err != nil {
			return "", err
		}
		for _, r := range slices.Backward(p.rest[:len(p.rest)-1]) {
			s, err := r.first()
			if err != nil {
				return "", err
			}
			if s != out {
				out = "(" + r.condition() + " ? " + s + " : " + out + ")"
			}
		}
		return out, nil
	}
	s, err := p.rest[0].first()
	if err != nil {
		return "", err
	}
	if !regexp.MustCompile(`\b(`+p.item+`|_`+p.index+`)\b`).MatchString(s) && (p.index == "" || !strings.Contains(s, p.index)) {
		return s, nil
	}
	list, cond := wrap(p.list, isUnary), p.rest[0].condition()
	switch {
	case p.index != "":
		return list + ".transformList(" + p.index + ", " + p.item + ", " + cond + ", " + s + ")[0]", nil
	case cond != always:
		list += ".filter(" + p.item + ", " + cond + ")"
	}
	return list + ".map(" + p.item + ", " + s + ")[0]", nil
}

// value is a value of Rego: one that is known, or one that is worked out in CEL.
type value struct {
	known ast.Value
	// within is a part of the input that is no value by itself: input, or
	// input.review and what is below it.
	within string
	// expr is its expression; option, where it is not empty, that of an optional
	// value, and maybe says that it may be none.
	expr, option string
	maybe        bool
	shape        shape
	// fields and items are those of objects and arrays that Rego makes.
	fields map[string]value
	items  []value
	isList bool
	// all finds the values of a comprehension; set says that they are a set.
	all *plan
	set bool
	// counted is what it is the number of.
	counted *plan
	// nullable says that it may be null where there are no items.
	nullable bool
	// message says that it is made for people, loose that the text is not what Rego would make: it is good for
	// messages alone.
	message, loose bool
}

// there is the condition that an optional value is one.
func (v value) there() string {
	if i := strings.LastIndex(v.option, ".?"); i > 0 && v.option[:i]+"."+v.option[i+2:] == v.expr {
		return "has(" + v.expr + ")"
	}
	return v.option + ".hasValue()"
}

func constant(v ast.Value) value { return value{known: v} }

// text is the expression of a value that there is.
func (v value) text() (string, error) {
	switch {
	case v.known != nil:
		x, err := ast.JSON(v.known)
		if err != nil {
			return "", err
		}
		if s, ok := literal(plainNumbers(x)); ok {
			return s, nil
		}
		return "", errors.New("a constant of a kind that CEL has not")
	case v.all != nil:
		return v.all.collected()
	case v.isList:
		parts := make([]string, 0, len(v.items))
		for _, i := range v.items {
			s, err := i.text()
			if err != nil {
				return "", err
			}
			parts = append(parts, "dyn("+s+")")
		}
		return "[" + strings.Join(parts, ", ") + "]", nil
	case v.fields != nil:
		parts := make([]string, 0, len(v.fields))
		for _, k := range sortedKeys(v.fields) {
			s, err := v.fields[k].text()
			if err != nil {
				return "", err
			}
			parts = append(parts, quote(k)+": dyn("+s+")")
		}
		return "{" + strings.Join(parts, ", ") + "}", nil
	case v.within != "":
		return "", errors.New("all of " + v.within + " is taken for a value")
	case v.expr == "":
		return "", errors.New("a number of things is used other than compared with 0")
	}
	return v.expr, nil
}

// kind returns what is known of the value's type.
func (v value) kind() valueKind {
	switch {
	case v.known != nil:
		switch v.known.(type) {
		case ast.Boolean:
			return boolValue
		case ast.String:
			return stringValue
		case ast.Number:
			return intValue
		case *ast.Array, ast.Set:
			return listValue
		case ast.Object:
			return mapValue
		}
		return anyValue
	case v.all != nil || v.isList:
		return listValue
	case v.fields != nil || v.within != "":
		return mapValue
	case v.counted != nil:
		return intValue
	}
	switch k := v.shape.kind(); k {
	case structValue:
		return mapValue
	case quantityValue, timeValue, bytesValue:
		return stringValue
	case floatValue:
		return intValue
	case intOrString:
		return anyValue
	default:
		return k
	}
}
