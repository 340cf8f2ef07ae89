// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	jmespath "github.com/kyverno/go-jmespath"
)

// query is what a JMESPath comes to in CEL.
type query struct {
	expr string
	// maybe says that expr is an optional value. It is none where JMESPath finds
	// no such field, which is an error at the top of an expression; soft says that
	// it is null there, which is none.
	maybe, soft bool
	shape       shape
	// items is, for a list, the expression of its items: empty where there is no
	// list. orText says that an empty list stands for an empty text.
	items  string
	orText bool
	// there is the condition on which there is a list; empty where there always is
	// one. strict is an expression of the list that fails where there is none.
	there, strict string
	// lenient is the list, or an empty one where working it out fails: what
	// JMESPath flattens or filters may fail, and is null then.
	lenient string
	// noWildcard says that the text holds no * and no ?.
	noWildcard bool
}

// The shapes of what functions return.
var (
	textShape  = shape{reflect.TypeFor[string]()}
	boolShape  = shape{reflect.TypeFor[bool]()}
	intShape   = shape{reflect.TypeFor[int64]()}
	floatShape = shape{reflect.TypeFor[float64]()}
	textsShape = shape{reflect.TypeFor[[]string]()}
	anyList    = shape{reflect.TypeFor[[]any]()}
	anyMap     = shape{reflect.TypeFor[map[string]any]()}
)

func listOf(s shape) shape {
	if s.t == nil {
		return anyList
	}
	return shape{reflect.SliceOf(s.t)}
}

// value returns the expression of the value, null where there is none.
func (q query) value() string {
	if q.maybe {
		return "dyn(" + q.expr + ".orValue(null))"
	}
	return q.expr
}

// must returns the expression of the value, which fails where there is none.
func (q query) must() string {
	switch {
	case q.strict != "" && !q.soft:
		return q.strict
	case q.items != "" && !q.maybe:
		return q.items
	case !q.maybe:
		return q.expr
	case q.soft:
		return q.value()
	}
	return q.expr + ".value()"
}

// list returns the items; none where there is no list.
func (q query) list() string {
	switch {
	case q.items != "":
		return q.items
	case q.maybe:
		return q.expr + ".orValue([])"
	}
	return q.expr
}

// truthy is the condition that JMESPath takes the value for true.
func (q query) truthy() string {
	or := func(missing string) string {
		if q.maybe {
			return q.expr + ".orValue(" + missing + ")"
		}
		return q.expr
	}
	switch q.shape.kind() {
	case boolValue:
		return or("false")
	case stringValue:
		return or("''") + " != ''"
	case listValue:
		return q.list() + ".size() > 0"
	case mapValue:
		return or("{}") + ".size() > 0"
	case intValue, floatValue:
		if q.maybe {
			return q.expr + ".hasValue()"
		}
		return always
	}
	falsy := " in [dyn(null), dyn(false), dyn(''), dyn([]), dyn({})]"
	if q.maybe {
		return "!(" + q.expr + ".orValue(null)" + falsy + ")"
	}
	return "!(" + q.expr + falsy + ")"
}

// searcher writes JMESPath as CEL.
type searcher struct {
	// object and old are the object, and what it was; pod is set where spec and
	// metadata are those of the pod in it.
	object, pod query
	old, oldPod query
	hasPod      bool
	// variables are those of the rule; element is what a loop is at.
	variables map[string]query
	element   *query
	names     []string
	// readsOld says that an expression reads what the object was; created that the
	// request is taken for a creation.
	readsOld, created bool
	// quirk says that two values of objects are compared, of which Kyverno would
	// read wildcards in one.
	quirk bool
	// missing are the optional values without which an expression fails.
	missing []string
}

func (w *searcher) bind(list string) string {
	name := singular(list)
	for n := 2; slices.Contains(w.names, name); n++ {
		name = singular(list) + strconv.Itoa(n)
	}
	w.names = append(w.names, name)
	return name
}

func (w *searcher) unbind() { w.names = w.names[:len(w.names)-1] }

// search writes an expression.
func (w *searcher) search(text string) (query, error) {
	// Quotes keep Kyverno from making request.object that of a pod template.
	for quoted, q := range map[string]query{"object": w.object, "oldObject": w.old} {
		if strings.Contains(text, `request."`+quoted+`"`) {
			text = strings.ReplaceAll(text, `request."`+quoted+`"`, "whole_"+quoted)
			w.variables["whole_"+quoted] = q
		}
	}
	node, err := jmespath.NewParser().Parse(text)
	if err != nil {
		return query{}, fmt.Errorf("the JMESPath %s: %w", text, err)
	}
	q, err := w.node(&node, nil)
	if err != nil {
		return query{}, fmt.Errorf("the JMESPath %s: %w", strings.TrimSpace(text), err)
	}
	return q, nil
}

// node writes a part of an expression about the current value; nil at the root.
func (w *searcher) node(n *jmespath.ASTNode, cur *query) (query, error) {
	switch n.NodeType {
	case jmespath.ASTField:
		return w.field(n.Value.(string), cur)
	case jmespath.ASTSubexpression, jmespath.ASTIndexExpression:
		return w.sub(n, cur)
	case jmespath.ASTLiteral:
		return literalQuery(n.Value)
	case jmespath.ASTIdentity, jmespath.ASTCurrentNode:
		if cur == nil {
			return query{}, fmt.Errorf("it reads the whole context")
		}
		return *cur, nil
	case jmespath.ASTIndex:
		return indexed(cur, n.Value.(int))
	case jmespath.ASTProjection, jmespath.ASTFilterProjection:
		return w.projection(n, cur)
	case jmespath.ASTFlatten:
		return w.flatten(&n.Children[0], cur)
	case jmespath.ASTOrExpression:
		return w.or(n, cur)
	case jmespath.ASTAndExpression, jmespath.ASTNotExpression, jmespath.ASTComparator:
		cond, err := w.condition(n, cur)
		return query{expr: cond, shape: boolShape}, err
	case jmespath.ASTPipe:
		return w.pipe(n, cur)
	case jmespath.ASTFunctionExpression:
		return w.call(n, cur)
	case jmespath.ASTValueProjection:
		return w.valuesProjection(n, cur)
	}
	return query{}, fmt.Errorf("%s is not in the subset that is translated", strings.TrimPrefix(n.NodeType.String(), "AST"))
}

// sub writes a.b.
func (w *searcher) sub(n *jmespath.ASTNode, cur *query) (query, error) {
	left, right := &n.Children[0], &n.Children[1]
	if q, ok, err := w.request(n, cur); ok || err != nil {
		return q, err
	}
	l, err := w.node(left, cur)
	if err != nil {
		return query{}, err
	}
	if right.NodeType == jmespath.ASTFunctionExpression && l.maybe && !l.soft && l.items == "" {
		return w.applied(l, right)
	}
	return w.node(right, &l)
}

// applied writes a function of a field: where there is no field, there is no
// result.
func (w *searcher) applied(l query, right *jmespath.ASTNode) (query, error) {
	name := w.bind("value")
	defer w.unbind()
	r, err := w.node(right, &query{expr: name, shape: l.shape, noWildcard: l.noWildcard})
	if err != nil {
		return query{}, err
	}
	out := query{expr: l.expr + ".optMap(" + name + ", " + r.must() + ")", maybe: true, shape: r.shape, noWildcard: r.noWildcard}
	if r.items != "" {
		out.items = out.expr + ".orValue([])"
		out.there = l.expr + ".hasValue()"
		out.strict = strings.ReplaceAll(r.must(), name+".", l.expr+".value().")
		if strings.Count(r.must(), name) != 1 {
			out.strict = out.expr + ".value()"
		}
	}
	return out, nil
}

// swallowed is the list, empty where working it out fails.
func (q query) swallowed() query {
	if q.lenient != "" {
		q.expr, q.items, q.lenient = q.lenient, q.lenient, ""
	}
	return q
}

// exists returns the condition that there is a list.
func (q query) exists() string {
	switch {
	case q.there != "":
		return q.there
	case q.maybe:
		return q.expr + ".hasValue()"
	}
	return always
}

// request writes what begins with request.
func (w *searcher) request(n *jmespath.ASTNode, cur *query) (query, bool, error) {
	if cur != nil {
		return query{}, false, nil
	}
	names, ok := fieldNames(n)
	if !ok || names[0] != "request" {
		return query{}, false, nil
	}
	if len(names) == 1 {
		return query{}, true, fmt.Errorf("it reads the request as a whole")
	}
	base, rest := query{}, names[2:]
	switch names[1] {
	case "object", "oldObject":
		base = w.object
		pod := w.pod
		if names[1] == "oldObject" {
			base, pod = w.old, w.oldPod
			w.readsOld = true
		}
		if w.hasPod && len(rest) > 0 && (rest[0] == "spec" || rest[0] == "metadata") {
			base = pod
		}
	case "operation", "namespace", "name":
		if names[1] == "operation" && w.created {
			return query{expr: "'CREATE'", shape: textShape, noWildcard: true}, true, nil
		}
		base = query{expr: "request." + names[1], shape: textShape, noWildcard: true}
	case "userInfo":
		base = query{expr: "request.userInfo", shape: anyMap}
	case "kind", "resource":
		base = query{expr: "request." + names[1], shape: anyMap}
	default:
		return query{}, true, fmt.Errorf("request.%s is what Kyverno adds to the request", names[1])
	}
	for _, name := range rest {
		var err error
		if base, err = w.field(name, &base); err != nil {
			return query{}, true, err
		}
	}
	if len(rest) == 1 && (rest[0] == "kind" || rest[0] == "apiVersion") {
		base.noWildcard, base.shape = true, textShape
	}
	if len(rest) == 2 && rest[0] == "metadata" && (rest[1] == "name" || rest[1] == "namespace") {
		base.noWildcard, base.shape = true, textShape
	}
	return base, true, nil
}

// fieldNames returns the names of a chain of at least two fields.
func fieldNames(n *jmespath.ASTNode) ([]string, bool) {
	if n.NodeType == jmespath.ASTField {
		return []string{n.Value.(string)}, true
	}
	if n.NodeType != jmespath.ASTSubexpression {
		return nil, false
	}
	left, ok := fieldNames(&n.Children[0])
	if !ok || n.Children[1].NodeType != jmespath.ASTField {
		return nil, false
	}
	return append(left, n.Children[1].Value.(string)), true
}

// field writes a field of the current value.
func (w *searcher) field(name string, cur *query) (query, error) {
	if cur == nil {
		return w.variable(name)
	}
	sh, ok := cur.shape.field(name)
	if !ok {
		return query{}, fmt.Errorf("the kind has no field %s there", name)
	}
	out := query{expr: maybe(cur.expr, name), maybe: true, soft: cur.soft, shape: sh}
	if sh.kind() == listValue && cur.shape.sent(name) && slices.Contains(mayBeNull, name) {
		out.items = out.expr + ".optMap(found, found == null ? [] : found).orValue([])"
	}
	return out, nil
}

// variable reads a variable of the context.
func (w *searcher) variable(name string) (query, error) {
	if q, ok := w.variables[name]; ok {
		return q, nil
	}
	switch name {
	case "element":
		if w.element != nil {
			return *w.element, nil
		}
	case "request":
		return query{}, fmt.Errorf("it reads the request as a whole")
	case "images":
		return query{}, fmt.Errorf("images are taken apart by Kyverno, which CEL cannot")
	case "serviceAccountName", "serviceAccountNamespace":
		return serviceAccount(name), nil
	}
	return query{}, fmt.Errorf("the variable %s is not known", name)
}

// serviceAccount writes the parts of the name of a service account.
func serviceAccount(name string) query {
	part := "3"
	if name == "serviceAccountNamespace" {
		part = "2"
	}
	user := "request.userInfo.?username.orValue('')"
	return query{expr: "(" + user + ".startsWith('system:serviceaccount:') ? " + user + ".split(':')[" + part + "] : '')", shape: textShape, noWildcard: true}
}

// indexed writes an item of a list.
func indexed(cur *query, i int) (query, error) {
	switch {
	case cur == nil:
		return query{}, fmt.Errorf("an item of nothing")
	case i < 0:
		return query{}, fmt.Errorf("an item is counted from the end of its list")
	}
	k := cur.shape.kind()
	if k != listValue && k != anyValue {
		return query{}, fmt.Errorf("an item of what is no list")
	}
	base := cur.expr
	if cur.items != "" {
		base = "dyn(" + cur.items + ")"
	}
	return query{expr: base + "[?" + strconv.Itoa(i) + "]", maybe: true, soft: true, shape: cur.shape.elem()}, nil
}

// flatten writes the items of a list, and those of the lists in it.
func (w *searcher) flatten(n *jmespath.ASTNode, cur *query) (query, error) {
	if lists, base, ok := multiSelect(n); ok {
		return w.concat(lists, base, cur)
	}
	l, err := w.node(n, cur)
	if err != nil {
		return query{}, err
	}
	l = l.swallowed()
	switch l.shape.kind() {
	case listValue:
		elem := l.shape.elem()
		if elem.kind() == listValue || elem.kind() == anyValue {
			return query{expr: "dyn(" + l.list() + ".flatten())", items: "dyn(" + l.list() + ".flatten())", there: l.exists(), soft: true, shape: listOf(elem.elem())}, nil
		}
		return query{expr: l.expr, maybe: l.maybe, items: l.list(), there: l.exists(), soft: true, shape: l.shape, noWildcard: l.noWildcard}, nil
	case anyValue:
		return query{expr: l.expr, maybe: l.maybe, items: l.list(), there: l.exists(), soft: true, shape: anyList}, nil
	}
	return query{}, fmt.Errorf("what is no list is taken for one")
}

// multiSelect returns the lists of [a, b, c], and what they are fields of.
func multiSelect(n *jmespath.ASTNode) (lists []jmespath.ASTNode, base *jmespath.ASTNode, ok bool) {
	if n.NodeType == jmespath.ASTMultiSelectList {
		return n.Children, nil, true
	}
	if n.NodeType == jmespath.ASTSubexpression && n.Children[1].NodeType == jmespath.ASTMultiSelectList {
		return n.Children[1].Children, &n.Children[0], true
	}
	return nil, nil, false
}

// concat writes several lists as one.
func (w *searcher) concat(lists []jmespath.ASTNode, base *jmespath.ASTNode, cur *query) (query, error) {
	if base != nil {
		b, err := w.node(base, cur)
		if err != nil {
			return query{}, err
		}
		cur = &b
	}
	var parts []string
	elem := shape{}
	for i := range lists {
		l, err := w.node(&lists[i], cur)
		if err != nil {
			return query{}, err
		}
		switch k := l.shape.kind(); {
		case k != listValue && k != anyValue:
			return query{}, fmt.Errorf("what is no list is joined with lists")
		case i == 0:
			elem = l.shape.elem()
		case l.shape.elem() != elem && !similar(l.shape.elem(), elem):
			elem = shape{}
		}
		parts = append(parts, l.list())
	}
	all := "(" + strings.Join(parts, " + ") + ")"
	return query{expr: all, items: all, soft: true, shape: listOf(elem)}, nil
}

// similar says whether both are containers of a pod, whose fields are the same.
func similar(a, b shape) bool {
	container := func(s shape) bool { return s.t != nil && strings.HasSuffix(s.t.Name(), "Container") }
	return container(a) && container(b)
}

// projection writes list[].right and list[?condition].right.
func (w *searcher) projection(n *jmespath.ASTNode, cur *query) (query, error) {
	l, err := w.node(&n.Children[0], cur)
	if err != nil {
		return query{}, err
	}
	if k := l.shape.kind(); k != listValue && k != anyValue {
		return query{}, fmt.Errorf("what is no list is taken for one")
	}
	if n.NodeType == jmespath.ASTFilterProjection {
		l = l.swallowed()
	}
	if l.shape.kind() == anyValue {
		l.shape = anyList
	}
	item := w.bind("items")
	defer w.unbind()
	elem := query{expr: item, shape: l.shape.elem()}
	condition := always
	if n.NodeType == jmespath.ASTFilterProjection {
		if condition, err = w.condition(&n.Children[2], &elem); err != nil {
			return query{}, err
		}
	}
	right := &n.Children[1]
	if right.NodeType == jmespath.ASTIdentity {
		out := l
		if condition != always {
			out.items = l.list() + ".filter(" + item + ", " + condition + ")"
			out.there = l.exists()
			out.expr, out.maybe = out.items, false
		}
		out.soft = true
		return out, nil
	}
	r, err := w.node(right, &elem)
	if err != nil {
		return query{}, err
	}
	return projected(l, r, item, condition), nil
}

// projected writes the value of each item that meets a condition.
func projected(l, r query, item, condition string) query {
	value := r.expr
	switch {
	case r.items != "" && !r.maybe:
		value = r.items
	case r.maybe:
		condition = and(condition, r.expr+".hasValue()")
		value = r.expr + ".value()"
		if r.items != "" {
			value = r.items
		}
	}
	if plain := strings.ReplaceAll(r.expr, ".?", "."); r.maybe && r.items == "" && !strings.ContainsAny(plain, "[(") {
		value = plain
	}
	expr := l.list() + ".map(" + item + ", " + value + ")"
	if condition != always {
		expr = l.list() + ".map(" + item + ", " + condition + ", " + value + ")"
	}
	return query{expr: expr, items: expr, there: l.exists(), soft: true, shape: listOf(r.shape), noWildcard: r.noWildcard}
}

// valuesProjection writes the values of a map.
func (w *searcher) valuesProjection(n *jmespath.ASTNode, cur *query) (query, error) {
	m, err := w.node(&n.Children[0], cur)
	if err != nil {
		return query{}, err
	}
	if k := m.shape.kind(); k != mapValue && k != anyValue {
		return query{}, fmt.Errorf("the values of what is no map")
	}
	values := query{shape: listOf(m.shape.elem()), soft: true}
	values.there = m.exists()
	values.items = mapOf(m) + ".transformList(key, value, value)"
	values.expr = values.items
	if n.Children[1].NodeType == jmespath.ASTIdentity {
		return values, nil
	}
	item := w.bind("items")
	defer w.unbind()
	r, err := w.node(&n.Children[1], &query{expr: item, shape: m.shape.elem()})
	if err != nil {
		return query{}, err
	}
	return projected(values, r, item, always), nil
}

// mapOf returns a map; an empty one where there is none.
func mapOf(q query) string {
	if q.maybe {
		return q.expr + ".orValue({})"
	}
	return q.expr
}

// pipe writes a | b.
func (w *searcher) pipe(n *jmespath.ASTNode, cur *query) (query, error) {
	for i := range n.Children {
		q, err := w.node(&n.Children[i], cur)
		if err != nil {
			return query{}, err
		}
		q.soft = true
		cur = &q
	}
	return *cur, nil
}

// or writes a || b.
func (w *searcher) or(n *jmespath.ASTNode, cur *query) (query, error) {
	a, err := w.node(&n.Children[0], cur)
	if err != nil {
		return query{}, err
	}
	b, err := w.node(&n.Children[1], cur)
	if err != nil {
		return query{}, err
	}
	if a.shape.kind() == boolValue && b.shape.kind() == boolValue {
		return query{expr: or(a.truthy(), b.truthy()), shape: boolShape}, nil
	}
	if a.expr == "request.operation" || !a.maybe && a.noWildcard {
		return a, nil // it is always there
	}
	return either(a, b)
}

// either writes a || b for values of known kinds.
func either(a, b query) (query, error) {
	empty := b.expr == "''" || b.expr == "[]" || b.expr == "{}"
	switch k := a.shape.kind(); {
	case k == listValue && empty:
		a.items, a.soft, a.orText = a.list(), true, b.expr == "''"
		a.expr, a.maybe, a.there, a.strict = a.items, false, "", ""
		return a, nil
	case a.shape.kind() == anyValue && b.expr == "[]":
		return query{expr: a.expr + ".orValue([])", items: a.expr + ".orValue([])", shape: anyList}, nil
	case !a.maybe && a.items == "":
		return query{expr: "(" + a.truthy() + " ? dyn(" + a.expr + ") : dyn(" + b.value() + "))", shape: sameShape(a, b)}, nil
	case k == listValue:
		return query{expr: "(" + a.truthy() + " ? dyn(" + a.list() + ") : dyn(" + b.value() + "))"}, nil
	case k == stringValue && b.expr == "''", (k == mapValue || k == anyValue) && b.expr == "{}":
		a.expr, a.maybe = a.expr+".orValue("+b.expr+")", false
		if b.expr == "{}" {
			a.shape = anyMap
		}
		return a, nil
	case (k == intValue || k == floatValue || k == boolValue && b.expr == "false") && b.shape.kind() == k:
		return query{expr: a.expr + ".orValue(" + b.expr + ")", shape: a.shape}, nil
	case k == stringValue && b.shape.kind() == stringValue && !b.maybe:
		return query{expr: a.expr + ".optMap(text, text == '' ? " + b.expr + " : text).orValue(" + b.expr + ")", shape: textShape}, nil
	}
	return query{expr: "(" + a.truthy() + " ? dyn(" + a.value() + ") : dyn(" + b.value() + "))", shape: sameShape(a, b)}, nil
}

func sameShape(a, b query) shape {
	if a.shape.kind() == b.shape.kind() {
		return a.shape
	}
	return shape{}
}

// condition writes what is only asked whether it is true.
func (w *searcher) condition(n *jmespath.ASTNode, cur *query) (string, error) {
	switch n.NodeType {
	case jmespath.ASTAndExpression, jmespath.ASTOrExpression:
		a, err := w.condition(&n.Children[0], cur)
		if err != nil {
			return "", err
		}
		b, err := w.condition(&n.Children[1], cur)
		if n.NodeType == jmespath.ASTOrExpression {
			return or(a, b), err
		}
		return and(a, b), err
	case jmespath.ASTNotExpression:
		a, err := w.condition(&n.Children[0], cur)
		return not(a), err
	case jmespath.ASTComparator:
		return w.compare(n, cur)
	}
	q, err := w.node(n, cur)
	return q.truthy(), err
}

// comparators are JMESPath's operators by the names of its tokens.
var comparators = map[string]string{"tEQ": "==", "tNE": "!=", "tLT": "<", "tLTE": "<=", "tGT": ">", "tGTE": ">="}

func (w *searcher) compare(n *jmespath.ASTNode, cur *query) (string, error) {
	a, err := w.node(&n.Children[0], cur)
	if err != nil {
		return "", err
	}
	b, err := w.node(&n.Children[1], cur)
	if err != nil {
		return "", err
	}
	op := comparators[fmt.Sprint(n.Value)]
	if op == "==" || op == "!=" {
		if a.maybe && b.maybe {
			return a.expr + " " + op + " " + b.expr, nil
		}
		if a.maybe && b.expr != "null" && op == "==" && b.shape.kind() == stringValue && a.shape.kind() == stringValue {
			return a.expr + ".orValue('') == " + b.expr, notEmpty(b.expr)
		}
		return a.value() + " " + op + " " + b.value(), nil
	}
	for _, q := range []query{a, b} {
		if k := q.shape.kind(); k != intValue && k != floatValue || q.maybe {
			return "", fmt.Errorf("what may be no number is compared by %s", op)
		}
	}
	return a.expr + " " + op + " " + b.expr, nil
}

func notEmpty(literal string) error {
	if literal == "''" {
		return fmt.Errorf("a comparison with the empty text")
	}
	return nil
}

// literalQuery writes a literal.
func literalQuery(v any) (query, error) {
	text, ok := literal(v)
	if !ok {
		return query{}, fmt.Errorf("a literal of a kind that is not supported")
	}
	q := query{expr: text}
	switch kindOf(v) {
	case boolValue:
		q.shape = boolShape
	case stringValue:
		q.shape = textShape
	case intValue:
		q.shape = intShape
	case floatValue:
		q.shape = floatShape
		if !strings.Contains(text, ".") {
			q.shape = intShape
		}
	case listValue:
		q.shape, q.items = anyList, text
	case mapValue:
		q.shape = anyMap
	}
	return q, nil
}
