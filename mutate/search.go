// SPDX-License-Identifier: Apache-2.0

package mutate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/controltest"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// The search for missing cases is bounded by how many objects are judged, not
// by time, so that it finds the same on every machine.
const (
	nearBudget    = 20_000 // objects that differ from one of the fixture
	combineBudget = 20_000 // objects that are made of several changes
	pairLimit     = 120    // changes of which two are made at once
	tripleLimit   = 24     // and three
	maxCombined   = 6      // values of one place in such changes
)

// searcher looks for objects that tell mutants from the control. It begins with
// the objects of the fixture and the smallest of their kinds, and changes them:
// a value is gone, or another that the expressions know stands in its place.
type searcher struct {
	in       Input
	judge    *judge
	original *controltest.Result
	settings map[*control.Control]control.Options
	open     []*Mutant // for which no case was found yet
	seeds    []*object.Object

	// What follows is of the mutant that is searched for.
	mutant *Mutant
	reads  []*read
	budget int
	found  bool // a case whose verdict is known
}

// setting is what a case is judged with.
type setting struct {
	comment string // the comment of the fixture that says so, or ""
	opts    control.Options
	control *control.Control
	mutant  *control.Control
}

// search looks for the cases that kill the survivors.
func search(in Input, j *judge, original *controltest.Result, settings map[*control.Control]control.Options, survivors []*Mutant) {
	s := &searcher{in: in, judge: j, original: original, settings: settings, open: survivors}
	s.seeds = s.objects()
	for len(s.open) > 0 {
		s.mutant, s.found = s.open[0], false
		s.open = s.open[1:]
		s.hunt()
	}
}

// hunt looks for a case for one mutant.
func (s *searcher) hunt() {
	specs := []*v1alpha1.ControlSpec{&s.in.Control.Spec}
	if s.mutant.control != nil {
		specs = []*v1alpha1.ControlSpec{&s.mutant.control.Spec, &s.in.Control.Spec}
	}
	s.reads = readsOf(specs)
	settings := s.cases()
	s.budget = nearBudget
	for _, seed := range s.seeds {
		for _, set := range settings {
			s.near(set, seed)
		}
	}
	s.budget = combineBudget
	for _, seed := range s.blanks() {
		for _, set := range settings {
			s.combine(set, seed)
		}
	}
	if s.derives() {
		s.huntDerived()
	}
}

// cases returns the settings of the fixture's cases, and those of the
// versions at which something changes.
func (s *searcher) cases() []*setting {
	out := []*setting{{}}
	seen := map[string]bool{"": true}
	add := func(comment string, opts control.Options) {
		if !seen[comment] {
			seen[comment] = true
			out = append(out, &setting{comment: comment, opts: opts})
		}
	}
	for _, v := range s.in.Control.Spec.Versions {
		before, err := control.ParseVersion(v.Before)
		if err != nil || strings.HasPrefix(s.mutant.Field, "versions[") && s.mutant.Field != "versions["+v.Before+"]" {
			continue
		}
		for _, n := range []int{before.Minor() - 1, before.Minor()} {
			add(fmt.Sprintf("# with: {kubernetesVersion: \"1.%d\"}", n), control.Options{KubernetesVersion: control.Minor(n)})
		}
	}
	for _, c := range s.original.Cases {
		add(settingComment(c.Text), s.settings[c.Control])
	}
	return slices.DeleteFunc(out, func(set *setting) bool { return !s.prepare(set) })
}

// settingComment returns the comment that holds a document's settings.
func settingComment(text object.Text) string {
	for line := range strings.Lines(string(text.Bytes)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "# with: ") {
			return line
		}
	}
	return ""
}

// prepare makes the control and the mutant ready for a setting.
func (s *searcher) prepare(set *setting) bool {
	var err error
	if set.control, err = s.judge.ready(s.in.Control, set.opts); err != nil {
		return false
	}
	if s.mutant.control != nil {
		set.mutant, err = s.judge.ready(s.mutant.control, set.opts)
	}
	return err == nil
}

// objects returns the objects of the fixture, the smallest first.
func (s *searcher) objects() []*object.Object {
	var out []*object.Object
	for _, c := range s.original.Cases {
		if c.Object.Subject() == c.Object && !c.Object.Root.HasUnknown() {
			out = append(out, c.Object)
		}
	}
	slices.SortStableFunc(out, func(a, b *object.Object) int { return cmp.Compare(len(paths(a.Root, nil)), len(paths(b.Root, nil))) })
	return out
}

// blanks returns the smallest object of each kind: nothing but a name and, in a
// pod, a container.
func (s *searcher) blanks() []*object.Object {
	var out []*object.Object
	seen := map[object.GroupKind]bool{}
	for _, o := range s.seeds {
		gk := o.GroupKind()
		_, isPod := s.podPath(gk)
		if seen[gk] || isPod && gk.Kind != "Pod" {
			continue
		}
		seen[gk] = true
		root := object.FromAny(map[string]any{"apiVersion": o.APIVersion, "kind": o.Kind, "metadata": map[string]any{"name": "case"}})
		if isPod {
			root = put(root, []readStep{{field: "spec"}, {field: "containers"}}, object.FromAny([]any{map[string]any{"name": "app", "image": "example.com/app:1"}}), false)
		}
		out = append(out, o.WithRoot(root))
	}
	return out
}

func (s *searcher) podPath(gk object.GroupKind) (object.Path, bool) {
	if !s.in.Control.Spec.Match.Pods {
		return nil, false
	}
	return object.PodPath(gk)
}

func fields(p object.Path) []readStep {
	var out []readStep
	for _, st := range p {
		out = append(out, readStep{field: st.Field})
	}
	return out
}

// near tries objects that differ from one in one place.
func (s *searcher) near(set *setting, o *object.Object) {
	if !set.control.Matches(o.GroupKind()) {
		return
	}
	s.try(set, o)
	for _, p := range paths(o.Root, nil) {
		s.try(set, o.WithRoot(replace(o.Root, p, nil)))
		old := o.Root.Lookup(p)
		for _, v := range s.instead(old) {
			s.try(set, o.WithRoot(replace(o.Root, p, v)))
		}
	}
	for _, other := range s.elsewhere(o) {
		s.try(set, other)
	}
	for _, c := range s.changes(o, maxValues) {
		s.try(set, o.WithRoot(c(o.Root)))
	}
}

// instead returns what is tried in the place of a scalar.
func (s *searcher) instead(old *object.Node) []*object.Node {
	if old == nil {
		return nil
	}
	switch old.Kind {
	case object.Bool:
		return []*object.Node{object.NewBool(!old.Bool())}
	case object.Int:
		return []*object.Node{object.NewInt(0), object.NewInt(old.Int() + 1), object.NewInt(old.Int() - 1)}
	case object.String:
		out := []*object.Node{object.NewString(""), object.NewString(old.Text + "x"), object.NewString("x" + old.Text)}
		if up := strings.ToUpper(old.Text); up != old.Text {
			out = append(out, object.NewString(up))
		}
		if low := strings.ToLower(old.Text); low != old.Text {
			out = append(out, object.NewString(low))
		}
		return out
	case object.List:
		return []*object.Node{{Kind: object.List}}
	case object.Map:
		return []*object.Node{{Kind: object.Map}}
	}
	return nil
}

// elsewhere returns the object with its containers in other lists, and its pod
// in another kind.
func (s *searcher) elsewhere(o *object.Object) []*object.Object {
	at, isPod := s.podPath(o.GroupKind())
	if !isPod {
		return nil
	}
	pod := o.Root.Lookup(at)
	var out []*object.Object
	for _, from := range object.ContainerLists {
		for _, to := range object.ContainerLists {
			list := pod.At("spec", from)
			if from == to || list == nil || list.Kind != object.List {
				continue
			}
			root := replace(o.Root, at.Fields("spec", from), nil)
			for _, c := range list.Items {
				root = put(root, append(fields(at.Fields("spec", to)), readStep{}), c, true)
			}
			out = append(out, o.WithRoot(root))
		}
	}
	apart, _ := object.PodPath(object.GroupKind{Group: "apps", Kind: "Deployment"})
	move := func(apiVersion, kind string, to object.Path) {
		root := object.FromAny(map[string]any{"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": "case"}})
		for _, f := range pod.Fields {
			if f.Key == "metadata" || f.Key == "spec" {
				root = put(root, fields(to.Fields(f.Key)), f.Value, false)
			}
		}
		moved := *o
		moved.APIVersion, moved.Kind, moved.Root = apiVersion, kind, root
		out = append(out, &moved)
	}
	if pod != nil {
		move("v1", "Pod", nil)
		move("apps/v1", "Deployment", apart)
	}
	return out
}

// change returns an object's tree with one thing changed.
type change func(*object.Node) *object.Node

// changes returns the ways in which a value that the expressions read can be
// made one that they tell from others.
func (s *searcher) changes(o *object.Object, limit int) []change {
	var out []change
	for _, r := range s.reads {
		steps := s.stepsOf(o, r)
		if steps == nil {
			continue
		}
		values := spread(r.values, limit)
		if len(values) == 0 {
			values = []any{map[string]any{}, stranger}
		}
		for _, v := range values {
			node := object.FromAny(v)
			out = append(out, func(root *object.Node) *object.Node { return put(root, steps, node, false) })
			if slices.ContainsFunc(steps, func(st readStep) bool { return st.field == "" }) {
				out = append(out, func(root *object.Node) *object.Node { return put(root, steps, node, true) })
			}
		}
	}
	return out
}

// stepsOf returns the way to what is read from the root of an object, or nil.
func (s *searcher) stepsOf(o *object.Object, r *read) []readStep {
	out := slices.Clone(s.fromRoot(o, r))
	for i := 1; i < len(out); i++ {
		out[i].container = slices.Contains(object.ContainerLists[:], out[i-1].field)
	}
	return out
}

func (s *searcher) fromRoot(o *object.Object, r *read) []readStep {
	at, isPod := s.podPath(o.GroupKind())
	pod := fields(at)
	container := slices.Concat(pod, []readStep{{field: "spec"}, {field: "containers"}, {}})
	switch r.root {
	case "object":
		return r.steps
	case "pod":
		if isPod {
			return slices.Concat(pod, r.steps)
		}
	case "container":
		if isPod {
			return slices.Concat(container, r.steps)
		}
	case "item":
		names, err := object.ParseFields(s.in.Control.Spec.ForEach)
		if err != nil || len(names) == 0 {
			return nil
		}
		var base []readStep
		switch names[0] {
		case "containers":
			base = container
		case "pod":
			base = pod
		}
		var below []readStep
		for i, n := range names[1:] {
			if n == "*" {
				below = append(below, readStep{entry: true})
				continue
			}
			below = append(below, readStep{field: n})
			if i == len(names)-2 || s.isList(names[0], below) {
				below = append(below, readStep{})
			}
		}
		return slices.Concat(base, below, r.steps)
	}
	return nil
}

// isList says whether an object of the fixture has a list at the end of the
// steps from its root, its pod or a container.
func (s *searcher) isList(from string, steps []readStep) bool {
	return slices.ContainsFunc(s.seeds, func(o *object.Object) bool {
		at, _ := s.podPath(o.GroupKind())
		switch from {
		case "pod":
			return leadsToList(o.Root.Lookup(at), steps)
		case "containers":
			inSpec := slices.Concat([]readStep{{field: "containers"}, {}}, steps)
			return leadsToList(o.Root.Lookup(at).At("spec"), inSpec)
		}
		return leadsToList(o.Root, steps)
	})
}

func leadsToList(n *object.Node, steps []readStep) bool {
	switch {
	case n == nil:
		return false
	case len(steps) == 0:
		return n.Kind == object.List
	case steps[0].field != "":
		return leadsToList(n.Get(steps[0].field), steps[1:])
	}
	return slices.ContainsFunc(n.Items, func(item *object.Node) bool { return leadsToList(item, steps[1:]) }) ||
		slices.ContainsFunc(n.Fields, func(f object.Field) bool { return leadsToList(f.Value, steps[1:]) })
}

// combine tries objects that differ from a blank one in two and three places.
func (s *searcher) combine(set *setting, o *object.Object) {
	all := s.changes(o, maxCombined)
	some := spread(all, pairLimit)
	for i, a := range some {
		for j, b := range some {
			if i != j {
				s.try(set, o.WithRoot(b(a(o.Root))))
			}
		}
	}
	few := spread(all, tripleLimit)
	for i, a := range few {
		for j, b := range few {
			for k, c := range few {
				if i != j && j != k {
					s.try(set, o.WithRoot(c(b(a(o.Root)))))
				}
			}
		}
	}
}

// spread takes n of a list, evenly.
func spread[T any](list []T, n int) []T {
	if len(list) <= n {
		return list
	}
	out := make([]T, 0, n)
	for i := range n {
		out = append(out, list[i*len(list)/n])
	}
	return out
}

// try judges an object by the control and the mutant, and makes it a case if
// that tells one from the other.
func (s *searcher) try(set *setting, o *object.Object) {
	if s.found || s.budget <= 0 || o.Root == nil || o.Root.Kind != object.Map {
		return
	}
	s.budget--
	v := set.control.Judge(o, nil)
	weak := v.Outcome == verdict.Unknown
	if weak && s.mutant.Case != "" || !s.tells(set, o, v) {
		return
	}
	text, f := s.write(set, o, v)
	if text == "" {
		return
	}
	s.mutant.Case, s.found = text, !weak
	if s.found {
		s.share(f)
	}
}

// share notes the other mutants that a case tells from the control.
func (s *searcher) share(f *controltest.Fixture) {
	original, _, err := s.judge.run(f, s.in.Control)
	if err != nil {
		return
	}
	s.open = slices.DeleteFunc(s.open, func(m *Mutant) bool {
		if s.judge.survives(m, f, original) {
			return false
		}
		m.CaseOf = s.mutant.ID
		return true
	})
}

// tells says whether an object tells the mutant from the control.
func (s *searcher) tells(set *setting, o *object.Object, v control.Verdict) bool {
	if s.mutant.noticed != nil {
		return s.mutant.noticed(&controltest.Result{Cases: []controltest.Case{{Object: o, Verdict: v}}})
	}
	if !set.mutant.Matches(o.GroupKind()) {
		return v.Outcome != verdict.Pass
	}
	return !same(o.Root, v, set.mutant.Judge(o, nil))
}

// same says whether two verdicts look the same to a fixture, which knows lines.
func same(root *object.Node, a, b control.Verdict) bool {
	return a.Outcome == b.Outcome && slices.EqualFunc(a.Findings, b.Findings, func(f, g control.Finding) bool {
		return f.Outcome == g.Outcome && slices.Equal(line(root, f.Path), line(root, g.Path))
	})
}

// line returns the path of what a case shows at the line of a path: what is
// missing is shown where it would be, and an item's only field beside its dash.
func line(root *object.Node, path object.Path) object.Path {
	_, n := root.Nearest(path)
	path = path[:n]
	for len(path) > 1 && !path[len(path)-1].Item && path[len(path)-2].Item {
		if item := root.Lookup(path[:len(path)-1]); item == nil || len(item.Fields) > 1 {
			break
		}
		path = path[:len(path)-1]
	}
	return path
}

// kept are fields that a case keeps for its reader's sake.
var kept = []string{"apiVersion", "kind", "metadata", "name", "image", "containers"}

// write returns the object as a case of the fixture, without what does not
// matter, or "" where a fixture could not tell the two apart by it.
func (s *searcher) write(set *setting, o *object.Object, v control.Verdict) (string, *controltest.Fixture) {
	if o.Root.At("metadata", "name") != nil {
		named := o.WithRoot(put(o.Root, []readStep{{field: "metadata"}, {field: "name"}}, object.NewString(s.mutant.ID), false))
		if w := set.control.Judge(named, nil); w.Outcome == v.Outcome && s.tells(set, named, w) {
			o, v = named, w
		}
	}
	for again := true; again; {
		again = false
		for _, p := range paths(o.Root, nil) {
			if last := p[len(p)-1]; !last.Item && slices.Contains(kept, last.Field) || o.Root.Lookup(p) == nil {
				continue
			}
			less := o.WithRoot(replace(o.Root, p, nil))
			w := set.control.Judge(less, nil)
			simpler := w.Outcome == v.Outcome || w.Outcome == verdict.Pass
			if simpler && len(w.Findings) <= len(v.Findings) && s.tells(set, less, w) {
				o, v, again = less, w, true
				break
			}
		}
	}
	text := render(o.Root, v)
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	written, err := object.ParseYAML(object.Text{Bytes: []byte(text), Line: 1})
	if err != nil {
		return "", nil
	}
	for _, f := range v.Findings {
		spot, _ := written.SpotOf(f.Path)
		s.want(lines, spot.Line, f.Outcome)
	}
	text = "---\n"
	if set.comment != "" {
		text += set.comment + "\n"
	}
	text += strings.Join(lines, "\n") + "\n"
	return s.proven(text)
}
