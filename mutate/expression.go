// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/google/cel-go/common"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/parser"
)

// The operators that change an expression.
const (
	opNegate     = "negate"     // a condition, or a part of one, the other way round
	opConnective = "connective" // && for ||, and back
	opOperand    = "operand"    // one side of an operator, one branch, one alternative alone
	opGuard      = "guard"      // an optional field becomes a required one
	opDefault    = "default"    // what stands for an absent field
	opElement    = "element"    // an element of a list, or an entry of a map, is gone
	opLiteral    = "literal"    // another string
	opBound      = "bound"      // a number one more or less, < for <=
	opQuantifier = "quantifier" // all for exists, and back
	opPattern    = "pattern"    // a part of a regular expression
	opCall       = "call"       // a function that only adjusts, or narrows, is gone
)

// stranger is a string that no control means.
const stranger = "mutant"

// edit is one change of an expression.
type edit struct {
	op            string
	offset        int // where in the source it changes, in characters
	before, after string
	source        string // the expression after it
}

// celParser parses expressions as they are written: macros stay calls, so that an
// expression can be changed and written down again.
var celParser = sync.OnceValues(func() (*parser.Parser, error) {
	return parser.NewParser(parser.EnableOptionalSyntax(true), parser.EnableIdentEscapeSyntax(true))
})

// parse parses an expression.
func parse(source string) (*ast.AST, error) {
	p, err := celParser()
	if err != nil {
		return nil, err
	}
	tree, issues := p.Parse(common.NewTextSource(source))
	if e := issues.GetErrors(); len(e) > 0 {
		return nil, errors.New(e[0].Message)
	}
	return tree, nil
}

// rewriter collects the edits of one expression.
type rewriter struct {
	root ast.Expr
	info *ast.SourceInfo
	make ast.ExprFactory
	seen map[string]bool
	out  []edit
}

// edits returns every change of an expression that is tried, given how it is
// used.
func edits(source string, in context) ([]edit, error) {
	tree, err := parse(source)
	if err != nil {
		return nil, err
	}
	r := &rewriter{root: tree.Expr(), info: tree.SourceInfo(), make: ast.NewExprFactory(), seen: map[string]bool{}}
	r.seen[r.print(r.root)] = true
	r.walk(r.root, in)
	slices.SortStableFunc(r.out, func(a, b edit) int { return a.offset - b.offset })
	return r.out, nil
}

// context is what the expression above says of one.
type context struct {
	condition bool // it is used as true or false
	negated   bool // it stands below a !
	chain     string
	optional  bool // a further optional field is read of it
	branch    bool // it is what a conditional gives, or part of a sum
	listed    bool // it is an element of a list
	// against is what it is compared with.
	against *comparison
	// variable says that it is what a variable holds.
	variable bool
}

// comparison is an operator and the literals on its other side.
type comparison struct {
	op       string
	literals []any
}

func (r *rewriter) print(e ast.Expr) string {
	s, err := parser.Unparse(e, r.info, parser.WrapOnColumn(math.MaxInt32))
	if err != nil {
		return ""
	}
	return s
}

// replace tries another expression in the place of one.
func (r *rewriter) replace(op string, old, by ast.Expr) {
	r.describe(op, old, by, r.print(old), r.print(by))
}

// describe is replace for a change that is told in other words.
func (r *rewriter) describe(op string, old, by ast.Expr, before, after string) {
	whole := r.make.CopyExpr(r.root)
	by = r.make.CopyExpr(by)
	ast.PostOrderVisit(whole, ast.NewExprVisitor(func(e ast.Expr) {
		if e.ID() == old.ID() {
			e.SetKindCase(by)
		}
	}))
	source := r.print(whole)
	if source == "" || r.seen[source] {
		return
	}
	r.seen[source] = true
	r.out = append(r.out, edit{op, r.start(old), before, after, source})
}

// start returns where an expression begins in the source.
func (r *rewriter) start(e ast.Expr) int {
	first := int32(math.MaxInt32)
	ast.PreOrderVisit(e, ast.NewExprVisitor(func(e ast.Expr) {
		if at, ok := r.info.GetOffsetRange(e.ID()); ok {
			first = min(first, at.Start)
		}
	}))
	if first == math.MaxInt32 {
		return 0
	}
	return int(first)
}

// walk tries the changes of an expression and of all below it.
func (r *rewriter) walk(e ast.Expr, in context) {
	if (in.condition || isCondition(e)) && !in.negated && in.chain == "" {
		r.replace(opNegate, e, r.negation(e))
	}
	switch e.Kind() {
	case ast.LiteralKind:
		r.literal(e, in)
	case ast.ListKind:
		r.list(e)
	case ast.MapKind:
		r.entries(e)
	case ast.SelectKind:
		r.walk(e.AsSelect().Operand(), context{})
	case ast.CallKind:
		r.call(e, in)
	}
}

// conditions are the functions that say true or false.
var conditions = []string{
	operators.LogicalAnd, operators.LogicalOr, operators.LogicalNot, operators.In,
	operators.Equals, operators.NotEquals, operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals,
	"has", "all", "exists", "exists_one", "existsOne", "hasValue", "startsWith", "endsWith", "contains", "matches",
}

func isCondition(e ast.Expr) bool {
	return e.Kind() == ast.CallKind && slices.Contains(conditions, e.AsCall().FunctionName())
}

// opposite gives the operator that says the contrary.
var opposite = map[string]string{
	operators.Equals: operators.NotEquals, operators.NotEquals: operators.Equals,
	operators.Less: operators.GreaterEquals, operators.GreaterEquals: operators.Less,
	operators.Greater: operators.LessEquals, operators.LessEquals: operators.Greater,
}

func (r *rewriter) negation(e ast.Expr) ast.Expr {
	switch e.Kind() {
	case ast.LiteralKind:
		if b, ok := e.AsLiteral().(types.Bool); ok {
			return r.make.NewLiteral(e.ID(), !b)
		}
	case ast.CallKind:
		call := e.AsCall()
		if call.FunctionName() == operators.LogicalNot {
			return call.Args()[0]
		}
		if other, ok := opposite[call.FunctionName()]; ok {
			return r.make.NewCall(e.ID(), other, call.Args()...)
		}
	}
	return r.make.NewCall(0, operators.LogicalNot, e)
}

func (r *rewriter) call(e ast.Expr, in context) {
	call := e.AsCall()
	name, args := call.FunctionName(), call.Args()
	switch name {
	case operators.LogicalAnd, operators.LogicalOr:
		r.logical(e, name, args)
	case operators.LogicalNot:
		r.walk(args[0], context{condition: true, negated: true})
	case operators.Conditional:
		r.replace(opOperand, e, args[1])
		r.replace(opOperand, e, args[2])
		r.walk(args[0], context{condition: true})
		r.walk(args[1], context{branch: true, condition: in.condition, against: in.against})
		r.walk(args[2], context{branch: true, condition: in.condition, against: in.against})
	case operators.Equals, operators.NotEquals, operators.In,
		operators.Less, operators.LessEquals, operators.Greater, operators.GreaterEquals:
		r.comparison(e, name, args)
	case operators.Add, operators.Subtract, operators.Multiply, operators.Divide, operators.Modulo:
		r.replace(opOperand, e, args[0])
		r.replace(opOperand, e, args[1])
		r.walk(args[0], context{branch: name == operators.Add})
		r.walk(args[1], context{branch: name == operators.Add})
	case operators.OptSelect, operators.OptIndex:
		r.optional(e, name, args, in)
	default:
		r.function(e, in)
	}
}

// logical tries && and || the other way, and without each of their operands.
// The parser makes a balanced tree of a chain: an operand is what is no link of
// it.
func (r *rewriter) logical(e ast.Expr, name string, args []ast.Expr) {
	other := operators.LogicalOr
	if name == other {
		other = operators.LogicalAnd
	}
	r.replace(opConnective, e, r.make.NewCall(e.ID(), other, args...))
	for i, arg := range args {
		link := arg.Kind() == ast.CallKind && arg.AsCall().FunctionName() == name
		chain := ""
		if link {
			chain = name
		} else {
			r.describeAt(opOperand, arg, e, args[1-i], r.print(arg), "(dropped)")
		}
		r.walk(arg, context{condition: true, chain: chain})
	}
}

func (r *rewriter) comparison(e ast.Expr, name string, args []ast.Expr) {
	bound := false
	for i, arg := range args {
		against := &comparison{op: name, literals: literals(args[1-i])}
		bound = bound || arg.Kind() == ast.LiteralKind && arg.AsLiteral().Type() == types.IntType
		r.walk(arg, context{against: against})
	}
	other := map[string]string{
		operators.Less: operators.LessEquals, operators.LessEquals: operators.Less,
		operators.Greater: operators.GreaterEquals, operators.GreaterEquals: operators.Greater,
	}[name]
	if other != "" && !bound { // else the bound itself is moved
		r.replace(opBound, e, r.make.NewCall(e.ID(), other, args...))
	}
}

// literals returns the values that an expression is, or lists.
func literals(e ast.Expr) []any {
	switch e.Kind() {
	case ast.LiteralKind:
		return []any{e.AsLiteral().Value()}
	case ast.ListKind:
		var out []any
		for _, x := range e.AsList().Elements() {
			if x.Kind() == ast.LiteralKind {
				out = append(out, x.AsLiteral().Value())
			}
		}
		return out
	}
	return nil
}

// optional tries to require an optional field: the first of a chain by reading
// it as if it had to be there, the others where what is above them is there.
func (r *rewriter) optional(e ast.Expr, name string, args []ast.Expr, in context) {
	switch by := r.required(e, args[0]); {
	case isOptional(args[0]):
		v := r.make.NewIdent(0, "it")
		r.describe(opGuard, e, r.make.NewMemberCall(0, "optMap", args[0], v, r.required(e, v)), r.print(e), r.print(by)+" (required)")
	case in.optional:
		r.describe(opGuard, e, by, r.print(e), r.print(by)+" (required)")
	}
	r.walk(args[0], context{optional: true})
	if name == operators.OptIndex {
		r.walk(args[1], context{})
	}
}

// required returns a step to an optional field as one to a field of another
// value that must be there.
func (r *rewriter) required(e, of ast.Expr) ast.Expr {
	if e.Kind() == ast.SelectKind {
		return r.make.NewSelect(e.ID(), of, e.AsSelect().FieldName())
	}
	args := e.AsCall().Args()
	if name, ok := stringLiteral(args[1]); ok && e.AsCall().FunctionName() == operators.OptSelect {
		return r.make.NewSelect(e.ID(), of, name)
	}
	return r.make.NewCall(e.ID(), operators.Index, of, args[1])
}

// isOptional says whether an expression is an optional value.
func isOptional(e ast.Expr) bool {
	switch e.Kind() {
	case ast.SelectKind:
		return isOptional(e.AsSelect().Operand())
	case ast.CallKind:
		switch call := e.AsCall(); call.FunctionName() {
		case operators.OptSelect, operators.OptIndex, "or", "optMap", "optFlatMap", "optional.of", "optional.none":
			return true
		case operators.Index:
			return isOptional(call.Args()[0])
		}
	}
	return false
}

// list tries a list without each of its elements.
func (r *rewriter) list(e ast.Expr) {
	elements := e.AsList().Elements()
	for i, x := range elements {
		if len(e.AsList().OptionalIndices()) == 0 {
			without := slices.Concat(elements[:i:i], elements[i+1:])
			r.describeAt(opElement, x, e, r.make.NewList(e.ID(), without, nil), r.print(x), "(dropped)")
		}
		r.walk(x, context{listed: true})
	}
}

// entries tries a map without each of its entries.
func (r *rewriter) entries(e ast.Expr) {
	entries := e.AsMap().Entries()
	for i, x := range entries {
		without := slices.Concat(entries[:i:i], entries[i+1:])
		entry := x.AsMapEntry()
		r.describeAt(opElement, entry.Key(), e, r.make.NewMap(e.ID(), without), r.print(entry.Key()), "(dropped)")
		r.walk(entry.Value(), context{})
	}
}

// describeAt is describe for a change that is shown at another place.
func (r *rewriter) describeAt(op string, at, old, by ast.Expr, before, after string) {
	n := len(r.out)
	r.describe(op, old, by, before, after)
	if len(r.out) > n {
		r.out[n].offset = r.start(at)
	}
}

// adjusting are the functions that give what they are called on in another
// form.
var adjusting = []string{"lowerAscii", "upperAscii", "trim", "substring", "replace"}

// macros are the functions whose last argument is an expression over the
// variables before it.
var macros = []string{"all", "exists", "exists_one", "existsOne", "filter", "map", "optMap", "optFlatMap"}

func (r *rewriter) function(e ast.Expr, in context) {
	call := e.AsCall()
	name, args := call.FunctionName(), call.Args()
	if !call.IsMemberFunction() {
		if name == "string" && len(args) == 1 {
			r.replace(opCall, e, args[0])
			r.walk(args[0], context{against: in.against})
			return
		}
		for _, arg := range args {
			r.walk(arg, context{})
		}
		return
	}
	target := call.Target()
	switch {
	case name == "orValue" && len(args) == 1:
		r.orValue(e, target, args[0], in)
		return
	case name == "or" && len(args) == 1:
		r.replace(opOperand, e, target)
		r.replace(opOperand, e, args[0])
		r.walk(target, context{})
		r.walk(args[0], context{})
		return
	case slices.Contains(macros, name) && len(args) >= 2:
		r.macro(e, name, target, args)
		return
	}
	under := context{}
	switch name {
	case "startsWith", "endsWith", "contains":
		under.against = &comparison{op: name, literals: literals(args[0])}
		r.affix(e, name, target, args)
	case "matches", "find", "findAll":
		r.pattern(args[0])
	default:
		if slices.Contains(adjusting, name) {
			r.replace(opCall, e, target)
			under.against = in.against
		}
		for _, arg := range args {
			r.walk(arg, context{})
		}
	}
	r.walk(target, under)
}

// affix tries a comparison of a part of a string with less.
func (r *rewriter) affix(e ast.Expr, name string, target ast.Expr, args []ast.Expr) {
	if name != "contains" {
		r.replace(opCall, e, r.make.NewMemberCall(e.ID(), "contains", target, args...))
	}
	s, ok := stringLiteral(args[0])
	if !ok {
		r.walk(args[0], context{})
		return
	}
	r.replace(opLiteral, args[0], r.make.NewLiteral(args[0].ID(), types.String(stranger)))
	if runes := []rune(s); len(runes) > 1 {
		switch name {
		case "startsWith":
			r.replace(opLiteral, args[0], r.make.NewLiteral(args[0].ID(), types.String(runes[:len(runes)-1])))
		case "endsWith":
			r.replace(opLiteral, args[0], r.make.NewLiteral(args[0].ID(), types.String(runes[1:])))
		}
	}
}

func stringLiteral(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

// macro tries a comprehension with another quantifier, or without its filter.
func (r *rewriter) macro(e ast.Expr, name string, target ast.Expr, args []ast.Expr) {
	other := map[string]string{"all": "exists", "exists": "all", "exists_one": "exists", "existsOne": "exists"}[name]
	if other != "" {
		n := len(r.out)
		r.replace(opQuantifier, e, r.make.NewMemberCall(e.ID(), other, target, args...))
		if len(r.out) > n {
			r.out[n].before, r.out[n].after = name, other
		}
	}
	last := args[len(args)-1]
	if name == "filter" {
		r.describe(opOperand, e, target, r.print(last), "(every element)")
	}
	if name == "map" && len(args) == 3 {
		r.walk(args[1], context{condition: true})
	}
	r.walk(target, context{})
	r.walk(last, context{condition: other != "" || name == "filter"})
}

// orValue tries to require the field, and another value where it is absent.
func (r *rewriter) orValue(e, target, value ast.Expr, in context) {
	if steps(target) == 1 {
		r.describe(opGuard, e, r.make.NewMemberCall(e.ID(), "value", target), r.print(target), r.print(r.required(target, of(target)))+" (required)")
	}
	r.walk(target, context{})
	if value.Kind() != ast.LiteralKind {
		if value.Kind() != ast.ListKind && value.Kind() != ast.MapKind {
			r.walk(value, context{})
		}
		return
	}
	for _, v := range otherDefault(value.AsLiteral().Value(), in) {
		r.describeAt(opDefault, value, value, r.make.NewLiteral(value.ID(), types.DefaultTypeAdapter.NativeToValue(v)),
			fmt.Sprint("absent: ", r.print(value)), fmt.Sprint("absent: ", r.print(r.make.NewLiteral(0, types.DefaultTypeAdapter.NativeToValue(v)))))
	}
}

// steps counts the optional fields on the way to a value that begins with none;
// it is 0 for any other.
func steps(e ast.Expr) int {
	switch e.Kind() {
	case ast.SelectKind:
		return steps(e.AsSelect().Operand())
	case ast.CallKind:
		call := e.AsCall()
		switch call.FunctionName() {
		case operators.OptSelect, operators.OptIndex:
			if of := call.Args()[0]; isOptional(of) {
				if n := steps(of); n > 0 {
					return n + 1
				}
				return 0
			}
			return 1
		}
	}
	return 0
}

// of returns what a field is read of.
func of(e ast.Expr) ast.Expr {
	if e.Kind() == ast.SelectKind {
		return e.AsSelect().Operand()
	}
	return e.AsCall().Args()[0]
}

// otherDefault returns values that an absent field is judged by the other way
// than by its default.
func otherDefault(value any, in context) []any {
	if b, ok := value.(bool); ok {
		return []any{!b}
	}
	if in.against == nil || len(in.against.literals) == 0 {
		if n, ok := value.(int64); ok && in.against == nil && !in.variable {
			if n == 0 {
				return []any{int64(1)}
			}
			return []any{int64(0)}
		}
		return nil
	}
	first := in.against.literals[0]
	switch in.against.op {
	case operators.Equals, operators.NotEquals, operators.In:
		if !slices.Contains(in.against.literals, value) {
			return []any{first}
		}
		switch v := value.(type) {
		case string:
			return []any{stranger}
		case int64:
			return []any{v + 1}
		}
	case "startsWith", "endsWith", "contains":
		if s, ok := value.(string); ok && s == "" {
			return []any{first}
		}
	default:
		n, ok := value.(int64)
		m, isInt := first.(int64)
		if ok && isInt {
			// One of these lies on the other side of the bound.
			if n <= m {
				return []any{m + 1}
			}
			return []any{m - 1}
		}
	}
	return nil
}

// literal tries another value.
func (r *rewriter) literal(e ast.Expr, in context) {
	if in.listed {
		return // the list without it is tried
	}
	switch v := e.AsLiteral().(type) {
	case types.Int:
		r.replace(opBound, e, r.make.NewLiteral(e.ID(), v+1))
		r.replace(opBound, e, r.make.NewLiteral(e.ID(), v-1))
	case types.String:
		if !in.branch {
			r.replace(opLiteral, e, r.make.NewLiteral(e.ID(), types.String(stranger)))
		}
	}
}

// pattern tries the parts of a regular expression.
func (r *rewriter) pattern(e ast.Expr) {
	s, ok := stringLiteral(e)
	if !ok {
		r.walk(e, context{})
		return
	}
	for _, p := range patterns(s) {
		r.describe(opPattern, e, r.make.NewLiteral(e.ID(), types.String(p.source)), p.before, p.after)
	}
}

// usage returns what a variable is compared with in the expressions that read
// it.
func usage(variable string, sources []string) context {
	in := context{variable: true}
	reads := func(e ast.Expr) bool {
		return e.Kind() == ast.SelectKind && e.AsSelect().FieldName() == variable &&
			e.AsSelect().Operand().Kind() == ast.IdentKind && e.AsSelect().Operand().AsIdent() == "variables"
	}
	for _, s := range sources {
		tree, err := parse(s)
		if err != nil {
			continue
		}
		ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
			if e.Kind() != ast.CallKind || in.against != nil {
				return
			}
			call := e.AsCall()
			args := call.Args()
			name := call.FunctionName()
			switch {
			case len(args) == 2 && isCondition(e) && reads(args[0]):
				in.against = &comparison{op: name, literals: literals(args[1])}
			case len(args) == 2 && isCondition(e) && reads(args[1]):
				in.against = &comparison{op: name, literals: literals(args[0])}
			case len(args) == 1 && call.IsMemberFunction() && isCondition(e) && reads(call.Target()):
				in.against = &comparison{op: name, literals: literals(args[0])}
			}
		}))
	}
	return in
}

// names returns the variables of a control that an expression reads.
func names(source string) []string {
	tree, err := parse(source)
	if err != nil {
		return nil
	}
	var out []string
	ast.PreOrderVisit(tree.Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.SelectKind {
			return
		}
		if of := e.AsSelect().Operand(); of.Kind() == ast.IdentKind && of.AsIdent() == "variables" {
			out = append(out, strings.TrimSpace(e.AsSelect().FieldName()))
		}
	}))
	return out
}
