// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
)

// guardPrefix is what the names of guarded functions begin with once the calls
// of a template are renamed.
const guardPrefix = "__guarded"

// maxResult is how large a value a function may build, in bytes or elements.
const maxResult = 4 << 20

// bounds are the functions whose results may be far larger than their operands,
// and how large.
var bounds = map[string]func(operands []*ast.Term) int{
	"bits.lsh":                  func(o []*ast.Term) int { return intOf(o, 1) / 8 },
	"concat":                    func(o []*ast.Term) int { return sized(len(stringOf(o, 0))*lengthOf(o, 1), totalOf(o, 1)) },
	"graph.reachable_paths":     pathsOf,
	"json.filter":               writtenSize,
	"json.marshal":              writtenSize,
	"json.marshal_with_options": writtenSize,
	"json.patch":                writtenSize,
	"json.remove":               writtenSize,
	"net.cidr_expand":           cidrSize,
	"numbers.range":             rangeSize,
	"numbers.range_step":        rangeSize,
	"regex.replace":             func(o []*ast.Term) int { return (len(stringOf(o, 0)) + 1) * (len(stringOf(o, 2)) + 1) },
	"replace": func(o []*ast.Term) int {
		return (strings.Count(stringOf(o, 0), stringOf(o, 1)) + 1) * len(stringOf(o, 2))
	},
	"sprintf":           func(o []*ast.Term) int { return sized(sprintfSize(o), writtenSize(o)) },
	"strings.replace_n": func(o []*ast.Term) int { return (len(stringOf(o, 1)) + 1) * (totalOf(o, 0) + 1) },
	"walk":              writtenSize,
	"yaml.marshal":      writtenSize,
}

// impure are the functions that look at more than their operands, and at what.
var impure = map[string]source{
	"crypto.x509.parse_and_verify_certificates":              theTime,
	"crypto.x509.parse_and_verify_certificates_with_options": theTime,
	"http.send":            theNetwork,
	"io.jwt.decode_verify": theTime,
	"net.lookup_ip_addr":   theNetwork,
	"opa.runtime":          theEnvironment,
	"rand.intn":            chance,
	"time.now_ns":          theTime,
	"uuid.rfc4122":         chance,
	externalData.Name:      aProvider,
}

// fetching are the functions that look at the network where their operands refer
// to something there.
var fetching = map[string]bool{"json.match_schema": true, "json.verify_schema": true}

// source is what a function looks at.
type source string

const (
	theNetwork     source = "the network"
	theTime        source = "the time"
	theEnvironment source = "the environment"
	chance         source = "chance"
	aProvider      source = "a provider of external data"
)

// externalData is what Gatekeeper adds to Rego.
var externalData = &ast.Builtin{Name: "external_data", Decl: types.NewFunction(types.Args(types.A), types.A)}

// declared are the functions of Rego that are guarded, by their names.
var declared = sync.OnceValue(func() map[string]*ast.Builtin {
	out := map[string]*ast.Builtin{}
	for _, b := range append(slices.Clone(ast.Builtins), externalData) {
		if bounds[b.Name] != nil || impure[b.Name] != "" || fetching[b.Name] {
			guarded := *b
			guarded.Name = guardPrefix + "." + b.Name
			out[b.Name] = &guarded
		}
	}
	return out
})

// capabilities returns what templates can call. None fetches anything unless the
// network may be used.
func capabilities(networkAllowed bool) *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	if !networkAllowed {
		c.AllowNet = []string{}
	}
	functions := declared()
	for _, name := range slices.Sorted(maps.Keys(functions)) {
		c.Builtins = append(c.Builtins, functions[name])
	}
	return c
}

// guardCalls makes the calls of a module go through the guards.
func guardCalls(m *ast.Module) {
	own := map[string]bool{}
	for _, r := range m.Rules {
		own[r.Head.Ref().String()] = true
	}
	functions := declared()
	rename := func(operator *ast.Term) {
		ref, ok := operator.Value.(ast.Ref)
		if !ok || own[ref.String()] || functions[ref.String()] == nil {
			return
		}
		renamed := functions[ref.String()].Ref()
		for i := range renamed {
			renamed[i].Location = operator.Location
		}
		operator.Value = renamed
	}
	for _, r := range m.Rules {
		ast.WalkNodes(r, func(n ast.Node) bool {
			if e, ok := n.(*ast.Expr); ok && e.IsCall() {
				rename(e.Terms.([]*ast.Term)[0])
			}
			return false
		})
		ast.WalkTerms(r, func(t *ast.Term) bool {
			if call, ok := t.Value.(ast.Call); ok {
				rename(call[0])
			}
			return false
		})
	}
}

// guards are what run in the place of guarded functions, by whether the time is
// known and the network may be used.
var guards [2][2]func() map[string]*topdown.Builtin

func init() {
	for i := range guards {
		for j := range guards[i] {
			guards[i][j] = sync.OnceValue(func() map[string]*topdown.Builtin { return newGuards(i == 1, j == 1) })
		}
	}
}

// guarded returns what runs in the place of guarded functions.
func guarded(timeKnown, networkAllowed bool) map[string]*topdown.Builtin {
	i, j := 0, 0
	if timeKnown {
		i = 1
	}
	if networkAllowed {
		j = 1
	}
	return guards[i][j]()
}

func newGuards(timeKnown, networkAllowed bool) map[string]*topdown.Builtin {
	out := map[string]*topdown.Builtin{}
	for name, decl := range declared() {
		f := topdown.GetBuiltin(name)
		switch looksAt := impure[name]; {
		case bounds[name] != nil:
			f = bounded(name, bounds[name], f)
		case fetching[name]:
			f = unfetched(name, f)
		case looksAt == theTime && timeKnown, looksAt == theNetwork && networkAllowed:
		default:
			f = refused(name, looksAt)
		}
		out[decl.Name] = &topdown.Builtin{Decl: decl, Func: f}
	}
	return out
}

// refused ends the evaluation: what a function looks at is not known.
func refused(name string, looksAt source) topdown.BuiltinFunc {
	err := topdown.Halt{Err: &UnknownError{fmt.Sprintf("the template calls %s, which looks at %s", name, looksAt)}}
	return func(topdown.BuiltinContext, []*ast.Term, func(*ast.Term) error) error { return err }
}

// unfetched ends the evaluation where a function would fetch what its operands
// refer to and is not let.
func unfetched(name string, f topdown.BuiltinFunc) topdown.BuiltinFunc {
	halt := refused(name, theNetwork)
	return func(b topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
		found := false
		err := f(b, operands, func(t *ast.Term) error {
			found = strings.Contains(t.String(), notFetched)
			if found {
				return nil
			}
			return iter(t)
		})
		if found || err != nil && strings.Contains(err.Error(), notFetched) {
			return halt(b, operands, iter)
		}
		return err
	}
}

// notFetched is what OPA says where a schema refers to one that is elsewhere.
const notFetched = "remote reference loading disabled"

// bounded ends the evaluation where a result would be too large.
func bounded(name string, size func([]*ast.Term) int, f topdown.BuiltinFunc) topdown.BuiltinFunc {
	err := topdown.Halt{Err: &UnknownError{fmt.Sprintf("the template calls %s for a result of more than %d bytes", name, maxResult)}}
	return func(b topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
		if n := size(operands); n > maxResult || n < 0 {
			return err
		}
		return f(b, operands, iter)
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
	n := 0
	each(operands, i, func(*ast.Term) { n++ })
	return n
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
			n *= max(lengthOf([]*ast.Term{edges}, 0), 1)
		}
	})
	return n
}

func rangeSize(operands []*ast.Term) int {
	from, to := intOf(operands, 0), intOf(operands, 1)
	return max(from, to) - min(from, to)
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
