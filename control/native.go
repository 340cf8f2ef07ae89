// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
)

// Native is a control in the words of a ValidatingAdmissionPolicy: the same
// expressions, with the names that a control adds bound to variables and loops.
type Native struct {
	// Variables are read as variables.NAME, each after those it uses.
	Variables []v1alpha1.Variable
	// Require is true for an object that meets the control.
	Require string
	// Messages are what is there when it is not: a list with a text for each
	// element that fails, and the path to look at. Paths are the paths alone.
	Messages, Paths string
}

// NativeOptions adjust a Native.
type NativeOptions struct {
	// Ratchet lets elements go on failing that failed before an update.
	Ratchet bool
	// Excuse, where it is set, is given the expression of the name of the
	// element that stands first on the way to what is judged and returns a
	// condition that excuses it.
	Excuse func(name string) string
}

// Native returns the control in the words of a ValidatingAdmissionPolicy, or why
// it has none.
func (c *Control) Native(opts NativeOptions) (*Native, error) {
	if err := c.Compile(); err != nil {
		return nil, err
	}
	now := &side{object: varObject, pod: "pod", prefix: ""}
	w := &nativeWriter{c: c, opts: opts}
	check, err := w.check(now)
	if err != nil {
		return nil, err
	}
	if opts.Excuse != nil {
		if check, err = w.excused(check); err != nil {
			return nil, err
		}
	}
	var before []v1alpha1.Variable
	if opts.Ratchet {
		old := &side{object: "oldObject", pod: "oldPod", prefix: "old_"}
		oldCheck, err := w.check(old)
		if err != nil {
			return nil, err
		}
		failed := w.list(old, "!("+oldCheck+")", w.elementPath())
		before = append(w.variables(old), v1alpha1.Variable{
			Name: "failedBefore", Expression: "request.operation == 'UPDATE' ? " + failed + " : []",
		})
		check = "(" + check + ") || " + w.elementPath() + " in variables.failedBefore"
	}
	message, err := w.message(now)
	if err != nil {
		return nil, err
	}
	path := w.place(now)
	all := w.all(now, check)
	messages := w.list(now, "!("+check+")", message+" + ' (' + "+path+" + ')'")
	paths := w.list(now, "!("+check+")", path)
	out := &Native{Require: all, Messages: messages, Paths: paths}
	out.Variables = append(w.variables(now), before...)
	return out, nil
}

// side is the object as it is to be, or as it was before an update.
type side struct {
	object, pod, prefix string
	// reads are the control's variables that are read from the VAP's.
	reads   map[string]string
	order   []string
	usesPod bool
}

// variable returns how one of the policy's own variables is read.
func (s *side) variable(name string) string { return varVariables + "." + name }

// nativeWriter writes the expressions of one policy.
type nativeWriter struct {
	c       *Control
	opts    NativeOptions
	params  bool
	podPath bool
}

// ownNames are the policy's own variables.
var ownNames = []string{"pod", "oldPod", "podPath", "params", "failedBefore", "passes", "messages", "paths"}

// nameOf returns the name of a control's variable in the policy.
func (s *side) nameOf(name string) string {
	if slices.Contains(ownNames, name) {
		name += "_"
	}
	return s.prefix + name
}

// check returns the condition that one element meets.
func (w *nativeWriter) check(s *side) (string, error) {
	require, err := w.rewrite(s, w.c.require)
	if err != nil {
		return "", err
	}
	if !w.c.require.ast.OutputType().IsExactType(cel.BoolType) {
		require = "(" + require + ") ? true : false" // an error, where it is neither
	}
	if w.c.when == nil {
		return require, nil
	}
	when, err := w.rewrite(s, w.c.when)
	return "(" + when + ") ? (" + require + ") : true", err
}

// excused adds what excuses an element to its condition.
func (w *nativeWriter) excused(check string) (string, error) {
	name, ok := w.firstName()
	if !ok {
		return "", fmt.Errorf("an exception names elements, and %s has none with names", cmp.Or(w.c.Spec.ForEach, "the object as a whole"))
	}
	return w.opts.Excuse(name) + " || (" + check + ")", nil
}

// namedLists are lists whose items have names, and the field of those.
var namedLists = map[string]string{
	"volumes": "name", "env": "name", "volumeMounts": "mountPath", "webhooks": "name", "listeners": "name",
	"initContainers": "name", "containers": "name", "ephemeralContainers": "name",
}

// firstName returns the expression of the name of the first element on the way.
func (w *nativeWriter) firstName() (string, bool) {
	e := &w.c.elements
	if e.containers {
		return "container.name", true
	}
	for i, f := range e.fields {
		if key, ok := namedLists[f]; ok {
			return loopVar(i, len(e.fields)) + "." + key, true
		}
		if !mapFields[f] {
			return "", false
		}
	}
	return "", false
}

// mapFields are fields that hold a map in every kind that has them, so that a
// path through them needs no look at what is there.
var mapFields = map[string]bool{
	"spec": true, "metadata": true, "securityContext": true, "capabilities": true, "dnsConfig": true, "projected": true,
	"secret": true, "template": true, "aggregationRule": true, "http": true, "trafficPolicy": true, "parameters": true,
}

// loopVar names what the loop over the field at i is bound to.
func loopVar(i, n int) string {
	if i == n-1 {
		return varItem
	}
	return "above" + strconv.Itoa(i)
}

func indexVar(i int) string { return "at" + strconv.Itoa(i) }

// listOrNone ends the expression of a list. A list that the API server must
// have is null, not absent, where it is empty.
const listOrNone = ".optMap(v, dyn(v) == null ? [] : dyn(v)).orValue([])"

// containerList is bound to the names of the three lists of containers.
const containerList = "containerList"

// loop is one list on the way to the elements.
type loop struct {
	list      string // the expression of the list
	item      string // what its items are bound to
	index     string
	container bool // the loop over the three lists of containers
}

// loops returns the lists to go through, from the outermost.
func (w *nativeWriter) loops(s *side) []loop {
	e := &w.c.elements
	var out []loop
	base := s.object
	switch {
	case !e.set:
		return nil
	case e.containers:
		base = varContainer
		out = append(out,
			loop{list: "['initContainers', 'containers', 'ephemeralContainers']", item: containerList, container: true},
			loop{list: w.podOf(s) + ".spec[?" + containerList + "]" + listOrNone, item: varContainer, index: "at"})
	case e.pod:
		base = w.podOf(s)
	}
	chain := base
	for i, f := range e.fields {
		last := i == len(e.fields)-1
		if f == entries {
			chain += ".optMap(v, dyn(v) == null ? {} : dyn(v)).orValue({})"
			as := "{'key': dyn(key), 'value': dyn(value)}"
			if !last {
				as = "value"
			}
			out = append(out, loop{list: chain + ".transformList(key, value, " + as + ")", item: loopVar(i, len(e.fields)), index: indexVar(i)})
			chain = loopVar(i, len(e.fields))
			continue
		}
		chain += ".?" + field(f)
		next := i+1 < len(e.fields) && e.fields[i+1] == entries
		switch {
		case last:
			out = append(out, loop{list: chain + listOrNone, item: varItem, index: indexVar(i)})
		case next || mapFields[f]:
		default:
			list := chain + ".optMap(v, dyn(v) == null ? [] : type(v) == list ? dyn(v) : [v]).orValue([])"
			out = append(out, loop{list: list, item: loopVar(i, len(e.fields)), index: indexVar(i)})
			chain = loopVar(i, len(e.fields))
		}
	}
	return out
}

// field returns a field as it is selected: names that are no identifiers in
// quotes.
func field(name string) string {
	for i, r := range name {
		if r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (i == 0 || r < '0' || r > '9') {
			return "`" + name + "`"
		}
	}
	return name
}

// podOf returns the pod of a side, and notes that it is needed.
func (w *nativeWriter) podOf(s *side) string {
	s.usesPod = true
	return s.variable(s.pod)
}

// all returns the condition that every element meets a condition.
func (w *nativeWriter) all(s *side, check string) string {
	out := check
	for _, l := range slices.Backward(w.loops(s)) {
		switch {
		case l.index != "" && w.opts.Ratchet:
			out = l.list + ".all(" + l.index + ", " + l.item + ", " + out + ")"
		default:
			out = l.list + ".all(" + l.item + ", " + out + ")"
		}
	}
	return out
}

// list returns the list of a value for each element that meets a condition.
func (w *nativeWriter) list(s *side, condition, value string) string {
	loops := w.loops(s)
	if len(loops) == 0 {
		return "(" + condition + " ? [" + value + "] : [])"
	}
	out := ""
	for i, l := range slices.Backward(loops) {
		switch {
		case i == len(loops)-1:
			out = l.list + ".transformList(" + l.index + ", " + l.item + ", " + condition + ", " + value + ")"
		case l.container:
			out = l.list + ".map(" + l.item + ", " + out + ").flatten()"
		default:
			out = l.list + ".transformList(" + l.index + ", " + l.item + ", " + out + ").flatten()"
		}
	}
	return out
}

// elementPath returns the expression of the path of an element.
func (w *nativeWriter) elementPath() string {
	e := &w.c.elements
	var parts []string
	text := ""
	flush := func(expr string) {
		if text != "" {
			parts = append(parts, quote(text))
			text = ""
		}
		parts = append(parts, expr)
	}
	switch {
	case e.containers:
		w.podPath = true
		parts = append(parts, "variables.podPath")
		text = "spec."
		flush(containerList)
		text = "["
		flush("container.name")
		text = "]"
	case e.pod && e.set:
		w.podPath = true
		parts = append(parts, "variables.podPath")
	case e.pod:
		w.podPath = true
		parts = append(parts, "variables.podPath + 'spec'")
	}
	for i, f := range e.fields {
		if f == entries {
			text += "[*]"
			continue
		}
		if text != "" || len(parts) > 0 && (e.containers || i > 0) {
			text += "."
		}
		text += f
		item := loopVar(i, len(e.fields))
		switch _, loops := namedLists[f]; {
		case i+1 < len(e.fields) && (mapFields[f] || e.fields[i+1] == entries):
		case loops:
			text += "["
			flush("string(" + item + ".?" + namedLists[f] + ".orValue(" + indexVar(i) + "))")
			text += "]"
		default:
			text += "["
			flush("string(" + indexVar(i) + ")")
			text += "]"
		}
	}
	if text != "" || len(parts) == 0 {
		parts = append(parts, quote(text))
	}
	return "(" + strings.Join(parts, " + ") + ")"
}

// place returns the expression of the path to look at: the first place of the
// control that exists, else the first.
func (w *nativeWriter) place(s *side) string {
	if len(w.c.at) == 0 {
		return w.elementPath()
	}
	first, _ := w.at(s, w.c.at[0])
	out := first
	for _, p := range slices.Backward(w.c.at) {
		path, exists := w.at(s, p)
		if exists == "" {
			out = path
			continue
		}
		if len(w.c.at) > 1 {
			out = exists + " ? " + path + " : " + out
		}
	}
	return "(" + out + ")"
}

// at returns the expressions of a place's path and of whether it exists; the
// latter is empty where it always does.
func (w *nativeWriter) at(s *side, p place) (path, exists string) {
	e := &w.c.elements
	base, from := w.elementPath(), varItem
	switch {
	case p.base == atObject:
		base, from = "", s.object
	case p.base == atPod, p.base == atElement && !e.set && w.c.Spec.Match.Pods:
		w.podPath = true
		base, from = "variables.podPath", w.podOf(s)
	case p.base == atElement && !e.set:
		base, from = "", s.object
	case p.base == atContainer:
		w.podPath = true
		base, from = "variables.podPath + 'spec.' + "+containerList+" + '[' + container.name + ']'", varContainer
	case e.containers && len(e.fields) == 0:
		from = varContainer
	}
	suffix := object.Path(nil).Fields(p.fields...).String()
	switch {
	case suffix == "" && base == "":
		return quote("."), ""
	case suffix == "" && base == "variables.podPath":
		return base + " + 'spec'", ""
	case suffix == "":
		return base, ""
	case base == "":
		path = quote(suffix)
	case base == "variables.podPath":
		path = base + " + " + quote(suffix)
	default:
		path = base + " + " + quote("."+suffix)
	}
	exists = from
	for _, f := range p.fields {
		exists += ".?" + field(f)
	}
	return path, exists + ".hasValue()"
}

// message returns the expression of the text about one element.
func (w *nativeWriter) message(s *side) (string, error) {
	if w.c.Spec.Sensitive {
		return quote("does not hold: " + w.c.Spec.Title), nil
	}
	m := &w.c.message
	var parts []string
	for i, t := range m.texts {
		if t != "" {
			parts = append(parts, quote(strings.ReplaceAll(t, "\n", " ")))
		}
		if i == len(m.exprs) {
			break
		}
		expr, err := w.rewrite(s, m.exprs[i])
		if err != nil {
			return "", err
		}
		parts = append(parts, shown(expr, m.exprs[i].ast.OutputType()))
	}
	if len(parts) == 0 {
		return "''", nil
	}
	return strings.Join(parts, " + "), nil
}

// shown returns the expression of a value as a message shows it.
func shown(expr string, t *cel.Type) string {
	switch t.Kind() {
	case cel.StringKind:
		return "(" + expr + ")"
	case cel.BoolKind, cel.IntKind, cel.UintKind, cel.DoubleKind:
		return "string(" + expr + ")"
	case cel.ListKind:
		return "(" + expr + ").map(v, string(dyn(v))).join(', ')"
	}
	return "[dyn(" + expr + ")].map(v, type(v) == list ? v.map(e, string(dyn(e))).join(', ') : string(v))[0]"
}

// variables returns the policy's variables that a side reads, in their order.
func (w *nativeWriter) variables(s *side) []v1alpha1.Variable {
	var out []v1alpha1.Variable
	if w.params && s.prefix == "" {
		out = append(out, v1alpha1.Variable{Name: varParams, Expression: literal(w.c.params.(*mapView).node())})
	}
	if w.podPath && s.prefix == "" {
		out = append(out, v1alpha1.Variable{Name: "podPath", Expression: w.podCase(func(p object.Path) string {
			if len(p) == 0 {
				return "''"
			}
			return quote(p.String() + ".")
		}, "''")})
	}
	if s.usesPod {
		out = append(out, v1alpha1.Variable{Name: s.pod, Expression: w.podCase(func(p object.Path) string {
			expr := s.object
			for _, step := range p {
				expr += "." + field(step.Field)
			}
			return expr
		}, "dyn(null)")})
	}
	for _, name := range s.order {
		out = append(out, v1alpha1.Variable{Name: s.nameOf(name), Expression: s.reads[name]})
	}
	return out
}

// podCase returns the expression that chooses by the kind of the object. Most
// kinds hold their template at the same path.
func (w *nativeWriter) podCase(value func(object.Path) string, none string) string {
	const most = "spec.template"
	var b strings.Builder
	for _, k := range w.c.PodKinds() {
		if p, _ := w.c.podPath(k); p.String() != most {
			fmt.Fprintf(&b, "request.kind.kind == %s && request.kind.group == %s ? %s : ", quote(k.Kind), quote(k.Group), value(p))
		}
	}
	for _, k := range w.c.Kinds() {
		if _, ok := w.c.podPath(k); !ok {
			fmt.Fprintf(&b, "request.kind.kind == %s && request.kind.group == %s ? %s : ", quote(k.Kind), quote(k.Group), none)
		}
	}
	return b.String() + value(object.ParsePath(most))
}

// PodKinds are the kinds that hold a pod for the control, sorted.
func (c *Control) PodKinds() []object.GroupKind {
	if !c.Spec.Match.Pods {
		return nil
	}
	out := object.PodKinds()
	for k := range c.pods {
		if _, ok := object.PodPath(k); !ok {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, compareKinds)
	return out
}

// Kinds are all kinds that the control is about, sorted.
func (c *Control) Kinds() []object.GroupKind {
	out := c.PodKinds()
	for k := range c.kinds {
		if !slices.Contains(out, k) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, compareKinds)
	return out
}

func compareKinds(a, b object.GroupKind) int {
	return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind))
}

// literal returns a parameter's value as CEL. Everything is dyn, as it is where
// a control reads it.
func literal(n *object.Node) string {
	switch n.Kind {
	case object.Map:
		var parts []string
		for _, f := range n.Fields {
			parts = append(parts, quote(f.Key)+": dyn("+literal(f.Value)+")")
		}
		return "dyn({" + strings.Join(parts, ", ") + "})"
	case object.List:
		var parts []string
		for _, item := range n.Items {
			parts = append(parts, literal(item))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case object.String:
		return quote(n.Text)
	}
	return n.Scalar()
}

// quote returns a string as CEL writes it.
func quote(s string) string {
	q := strconv.Quote(s)
	if !strings.ContainsAny(s, `"'\`) && len(q) == len(s)+2 {
		return "'" + s + "'"
	}
	return q
}

// rewrite returns an expression's text with the names that a control adds
// replaced by those of the policy.
func (w *nativeWriter) rewrite(s *side, e *expression) (string, error) {
	if err := e.compile(); err != nil {
		return "", err
	}
	text := []rune(e.source)
	edits := map[int]edit{}
	var failed error
	free(e.ast.NativeRep().Expr(), nil, func(x ast.Expr, ident, name string) {
		at, ok := e.ast.NativeRep().SourceInfo().GetOffsetRange(identOf(x).ID())
		if !ok || failed != nil {
			return
		}
		start := int(at.Start)
		ed, err := w.replacement(s, text, start, ident, name)
		if err != nil {
			failed = err
		} else if ed.text != "" {
			edits[start] = ed
		}
	})
	if failed != nil {
		return "", failed
	}
	var b strings.Builder
	last := 0
	for _, start := range sortedInts(edits) {
		b.WriteString(string(text[last:start]))
		b.WriteString(edits[start].text)
		last = edits[start].end
	}
	b.WriteString(string(text[last:]))
	return orNull.ReplaceAllString(strings.TrimSpace(b.String()), ".?$1"+listOrNone), nil
}

// orNull finds where a control reads a list that the API server never leaves
// out of an object of its own: it is null there, not absent.
var orNull = regexp.MustCompile(`\.\?(rules|sources|limits)\.orValue\(\[\]\)`)

// edit replaces the text up to end.
type edit struct {
	end  int
	text string
}

// replacement returns what stands for a name that is read at start.
func (w *nativeWriter) replacement(s *side, text []rune, start int, ident, name string) (edit, error) {
	end := start + len([]rune(ident))
	if end > len(text) || string(text[start:end]) != ident {
		return edit{}, nil // a copy that a macro made; the original is there, too
	}
	switch ident {
	case varObject:
		return edit{end, s.object}, nil
	case varPod:
		return edit{end, w.podOf(s)}, nil
	case varParams:
		w.params = true
		return edit{end, "variables.params"}, nil
	case varItem:
		if w.c.elements.containers && len(w.c.elements.fields) == 0 {
			return edit{end, varContainer}, nil
		}
	case varVariables:
		if name == "" {
			return edit{}, fmt.Errorf("an expression reads variables other than by variables.NAME")
		}
		dot := end
		for dot < len(text) && string(text[dot:min(dot+len([]rune(name)), len(text))]) != name {
			dot++
		}
		expr, err := w.readVariable(s, name)
		return edit{dot + len([]rune(name)), expr}, err
	}
	return edit{}, nil
}

// maxNative is how long an expression may get: the API server's parser takes no
// more.
const maxNative = 100_000

// readVariable returns how a control's variable is read: by its name, or, where
// it is about the element, as its expression.
func (w *nativeWriter) readVariable(s *side, name string) (string, error) {
	i := slices.Index(w.c.varNames, name)
	if i < 0 {
		return "", fmt.Errorf("variables.%s is not declared", name)
	}
	if w.aboutElement(i) {
		expr, err := w.rewrite(s, w.c.vars[i])
		if len(expr) > maxNative {
			return "", fmt.Errorf("variable %s is used by others so often that the expression grows beyond %d characters", name, maxNative)
		}
		return "(" + expr + ")", err
	}
	if _, ok := s.reads[name]; !ok {
		expr, err := w.rewrite(s, w.c.vars[i])
		if err != nil {
			return "", err
		}
		if t := w.c.vars[i].ast.OutputType(); !t.IsExactType(cel.DynType) {
			expr = "dyn(" + expr + ")"
		}
		if s.reads == nil {
			s.reads = map[string]string{}
		}
		s.reads[name] = expr
		s.order = append(s.order, name)
	}
	return s.variable(s.nameOf(name)), nil
}

// aboutElement says whether a variable reads the element, itself or by others.
func (w *nativeWriter) aboutElement(i int) bool {
	found := false
	free(w.c.vars[i].ast.NativeRep().Expr(), nil, func(_ ast.Expr, ident, name string) {
		switch ident {
		case varItem, varContainer:
			found = true
		case varVariables:
			if k := slices.Index(w.c.varNames, name); k >= 0 && k < i {
				found = found || w.aboutElement(k)
			}
		}
	})
	return found
}

func sortedInts(m map[int]edit) []int {
	out := make([]int, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// identOf returns the identifier of what free visits.
func identOf(x ast.Expr) ast.Expr {
	if x.Kind() == ast.SelectKind {
		return x.AsSelect().Operand()
	}
	return x
}

// free visits the names that an expression reads and no macro of it binds;
// variables.NAME is visited with its name.
func free(x ast.Expr, bound []string, visit func(x ast.Expr, ident, name string)) {
	switch x.Kind() {
	case ast.IdentKind:
		if name := x.AsIdent(); !slices.Contains(bound, name) {
			visit(x, name, "")
		}
	case ast.SelectKind:
		of, name := selected(x)
		if of == varVariables && !slices.Contains(bound, of) {
			visit(x, of, name)
			return
		}
		free(x.AsSelect().Operand(), bound, visit)
	case ast.CallKind:
		call := x.AsCall()
		if call.IsMemberFunction() {
			free(call.Target(), bound, visit)
		}
		for _, a := range call.Args() {
			free(a, bound, visit)
		}
	case ast.ListKind:
		for _, item := range x.AsList().Elements() {
			free(item, bound, visit)
		}
	case ast.MapKind:
		for _, entry := range x.AsMap().Entries() {
			free(entry.AsMapEntry().Key(), bound, visit)
			free(entry.AsMapEntry().Value(), bound, visit)
		}
	case ast.StructKind:
		for _, f := range x.AsStruct().Fields() {
			free(f.AsStructField().Value(), bound, visit)
		}
	case ast.ComprehensionKind:
		c := x.AsComprehension()
		free(c.IterRange(), bound, visit)
		free(c.AccuInit(), bound, visit)
		inner := append(slices.Clip(bound), c.AccuVar(), c.IterVar())
		if c.HasIterVar2() {
			inner = append(inner, c.IterVar2())
		}
		free(c.LoopCondition(), inner, visit)
		free(c.LoopStep(), inner, visit)
		free(c.Result(), append(slices.Clip(bound), c.AccuVar()), visit)
	}
}
