// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// proof asks an original and its translation about the same objects.
type proof struct {
	original, translation []policy.Rule
	words                 *vocabulary
	kinds                 []apiKind
	operations            []policy.Operation
	opts                  *Options
	varier                *varier
	evidence              *Evidence
	// pods are asked about before others are made up: each is a little beside what
	// the rule asks for.
	pods []podSketch
	// passing and failing are objects that are varied, so that both come up.
	passing, failing []map[string]any
}

// apiKind is a kind in a version of it.
type apiKind struct{ apiVersion, kind string }

// The outcomes of a request beside those of verdicts.
const notAbout = "not about it"

// limits of a proof.
const (
	defaultTimeout = 30 * time.Second
	maxKept        = 64  // objects of each outcome that are varied
	maxShrinks     = 400 // attempts at a smaller object
)

// run asks both about the user's objects, those of tests, and objects that are
// made up, until enough were asked about or they differ.
func (p *proof) run(ctx context.Context, name string) *Evidence {
	p.evidence = &Evidence{}
	p.varier = newVarier(p.opts.Seed, name, p.words)
	timeout := p.opts.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	given := func(list []*object.Object, count *int) {
		for _, o := range list {
			if p.evidence.Difference != nil || ctx.Err() != nil || o.Root.HasUnknown() || !p.matches(o.GroupKind()) {
				continue
			}
			tree, ok := o.Root.Any().(map[string]any)
			if !ok {
				continue
			}
			same, denied, about := 0, p.evidence.Denied, p.evidence.About
			for _, op := range p.operations {
				p.ask(ctx, p.request(op, tree, tree), &same)
			}
			*count += min(same, 1) // objects, and not requests
			p.evidence.Denied, p.evidence.About = min(p.evidence.Denied, denied+1), min(p.evidence.About, about+1)
		}
	}
	given(p.opts.Objects, &p.evidence.Own)
	given(p.opts.Tests, &p.evidence.Tests)
	for _, k := range p.kinds {
		for range 4 {
			p.keep(p.varier.fresh(k.apiVersion, k.kind))
		}
	}
	for i, pod := range p.pods {
		p.askPod(ctx, pod, p.kinds[0])
		if n := len(p.kinds) - 1; n > 0 {
			p.askPod(ctx, pod, p.kinds[1+i%n])
		}
	}
	for tries := 0; len(p.passing)+len(p.failing) > 0 && p.evidence.Equal() < p.opts.Count && tries < 4*p.opts.Count; tries++ {
		if p.evidence.Difference != nil || ctx.Err() != nil {
			break
		}
		p.ask(ctx, p.next(), &p.evidence.Generated)
	}
	return p.evidence
}

// matches says whether either may be about a kind.
func (p *proof) matches(gk object.GroupKind) bool {
	return slices.ContainsFunc(append(slices.Clone(p.original), p.translation...), func(r policy.Rule) bool { return r.Matches(gk) })
}

// keep adds an object to those that are varied.
func (p *proof) keep(o map[string]any) { p.passing = append(p.passing, o) }

// askPod asks about an object of a kind with a pod.
func (p *proof) askPod(ctx context.Context, pod podSketch, k apiKind) {
	if p.evidence.Difference != nil || ctx.Err() != nil {
		return
	}
	if o, ok := pod.in(p.varier.fresh(k.apiVersion, k.kind)); ok {
		p.ask(ctx, p.request(p.operations[0], o, o), &p.evidence.Generated)
	}
}

// sent returns an object as the API server sends it, with the name and the
// namespace that each has. It returns false for one that the API server would not
// read.
func sent(tree map[string]any) (map[string]any, bool) {
	tree = named(tree)
	gvk := schema.FromAPIVersionAndKind(text(tree["apiVersion"]), text(tree["kind"]))
	typed, err := scheme.Scheme.New(gvk)
	if err != nil {
		return tree, true
	}
	data, err := json.Marshal(tree)
	if err != nil || json.Unmarshal(data, typed) != nil {
		return nil, false
	}
	out, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil || incomplete(out, "") {
		return nil, false
	}
	return out, true
}

// named gives an object a name and a namespace where it has none.
func named(tree map[string]any) map[string]any {
	meta, _ := tree["metadata"].(map[string]any)
	gk := gkOf(tree)
	meta, tree = maps.Clone(meta), maps.Clone(tree)
	if meta == nil {
		meta = map[string]any{}
	}
	meta["name"] = cmp.Or(dnsName(text(meta["name"])), "web")
	if object.Namespaced(gk) {
		meta["namespace"] = cmp.Or(dnsName(text(meta["namespace"])), "default")
	} else {
		delete(meta, "namespace")
	}
	tree["metadata"] = meta
	return tree
}

// dnsName returns a text without what no name holds.
func dnsName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("-.:", r) {
			return r
		}
		return -1
	}, strings.ToLower(s))
}

// mayBeNull are lists that may be empty and are sent even so, as null.
var mayBeNull = []string{"rules", "sources", "limits", "creationTimestamp", "managedFields"}

// incomplete says whether an object lacks what it must have, as the list of its
// containers, or the image of one: the API server's validation, which is not
// here, refuses it.
func incomplete(v any, key string) bool {
	switch v := v.(type) {
	case nil:
		return !slices.Contains(mayBeNull, key)
	case map[string]any:
		for k, x := range v {
			if k != "status" && incomplete(x, k) {
				return true
			}
		}
	case []any:
		containers := key == "containers" || key == "initContainers" || key == "ephemeralContainers"
		for _, x := range v {
			m, _ := x.(map[string]any)
			if incomplete(x, "") || containers && (text(m["name"]) == "" || text(m["image"]) == "") {
				return true
			}
		}
	}
	return false
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// next makes a request up.
func (p *proof) next() *policy.Request {
	op := pick(p.varier, p.operations)
	from := p.passing
	if len(p.failing) > 0 && (len(from) == 0 || p.varier.chance(50)) {
		from = p.failing
	}
	var now map[string]any
	switch {
	case p.varier.chance(10) && len(p.kinds) > 0:
		k := pick(p.varier, p.kinds)
		now = p.varier.fresh(k.apiVersion, k.kind)
	default:
		now = p.varier.vary(pick(p.varier, from))
	}
	old := now
	if op == policy.Update {
		old = p.before(now)
	}
	return p.request(op, now, old)
}

// before makes up what an object was.
func (p *proof) before(now map[string]any) map[string]any {
	all := append(slices.Clone(p.passing), p.failing...)
	same := slices.DeleteFunc(all, func(o map[string]any) bool { return o["kind"] != now["kind"] || o["apiVersion"] != now["apiVersion"] })
	if len(same) == 0 || p.varier.chance(50) {
		return p.varier.vary(now)
	}
	return pick(p.varier, same)
}

// request makes a request about objects.
func (p *proof) request(op policy.Operation, now, old map[string]any) *policy.Request {
	r := &policy.Request{Operation: op, User: &authenticationv1.UserInfo{Username: "alice", Groups: []string{"system:authenticated"}}}
	r.Cluster = namespaces{}
	if op != policy.Delete {
		r.Object = objectOf(now)
	}
	if op == policy.Update || op == policy.Delete {
		r.Old = objectOf(sameName(old, now))
	}
	return r
}

// sameName gives an object the name and namespace of another: no update changes
// them.
func sameName(o, like map[string]any) map[string]any {
	meta, _ := o["metadata"].(map[string]any)
	from, _ := like["metadata"].(map[string]any)
	if meta == nil || from == nil {
		return o
	}
	o, meta = maps.Clone(o), maps.Clone(meta)
	for _, f := range []string{"name", "namespace", "generateName"} {
		delete(meta, f)
		if from[f] != nil {
			meta[f] = from[f]
		}
	}
	o["metadata"] = meta
	return o
}

// objectOf makes an object of a tree, as the API server would send it: what it
// has built in, it reads and writes anew. It returns nil for what it would
// refuse.
func objectOf(tree map[string]any) *object.Object {
	tree, ok := sent(tree)
	if !ok {
		return nil
	}
	return object.New(object.FromAny(tree), &object.Origin{Source: "generated"})
}

// ask asks both, and counts what they say.
func (p *proof) ask(ctx context.Context, r *policy.Request, count *int) {
	if r.Subject() == nil || r.Operation == policy.Update && r.Old == nil || r.Operation != policy.Delete && r.Object == nil {
		return
	}
	original := said(ctx, p.original, r, false)
	if original.Outcome == string(verdict.Unknown) {
		p.evidence.Undecided++
		return
	}
	translation := said(ctx, p.translation, r, true)
	if !equal(original, translation) {
		if ctx.Err() == nil {
			p.evidence.Difference = p.shrunk(ctx, &Difference{r, original, translation})
		}
		return
	}
	*count++
	if original.Outcome != notAbout {
		p.evidence.About++
	}
	subject, _ := r.Subject().Root.Any().(map[string]any)
	if original.Outcome == string(verdict.Fail) {
		p.evidence.Denied++
		p.failing = remembered(p.failing, subject, p.varier)
		return
	}
	p.passing = remembered(p.passing, subject, p.varier)
}

// remembered adds an object to a list of bounded length.
func remembered(list []map[string]any, o map[string]any, g *varier) []map[string]any {
	if len(list) < maxKept {
		return append(list, o)
	}
	if g.chance(20) {
		list[g.rand.IntN(len(list))] = o
	}
	return list
}

// equal says whether two answers are the same: what is not about a request
// admits it, as what it passes.
func equal(a, b Said) bool { return admits(a) == admits(b) && b.Outcome != string(verdict.Unknown) }

func admits(s Said) bool { return s.Outcome != string(verdict.Fail) }

// said returns what some rules say together.
func said(ctx context.Context, rules []policy.Rule, r *policy.Request, translated bool) Said {
	out := Said{Outcome: notAbout}
	rank := map[string]int{notAbout: 0, string(verdict.Pass): 1, string(verdict.Unknown): 2, string(verdict.Fail): 3}
	for _, rule := range rules {
		if !rule.Matches(r.Subject().GroupKind()) {
			continue
		}
		v, applies := rule.Judge(ctx, r)
		outcome := decided(rule, &v, translated)
		if !applies || rank[outcome] <= rank[out.Outcome] {
			continue
		}
		out = Said{Outcome: outcome}
		if len(v.Findings) > 0 {
			out.Message = v.Findings[0].Message
		}
	}
	return out
}

// decided is what the API server makes of a verdict: an expression that fails
// denies or admits, as the policy's failurePolicy says.
func decided(rule policy.Rule, v *control.Verdict, translated bool) string {
	if v.Outcome != verdict.Unknown || !translated || len(v.Findings) == 0 || !policy.IsFailing(v.Findings[0].Message) {
		return string(v.Outcome)
	}
	if rule.Info().FailurePolicy == v1alpha1.FailOpen {
		return string(verdict.Pass)
	}
	return string(verdict.Fail)
}

// shrunk takes away what of an object does not matter for a difference.
func (p *proof) shrunk(ctx context.Context, d *Difference) *Difference {
	attempts := 0
	for _, old := range []bool{true, false} {
		for changed := true; changed; {
			changed = false
			root := rootOf(d.Request, old)
			if root == nil {
				break
			}
			for _, smaller := range smallerOf(root) {
				if attempts++; attempts > maxShrinks || ctx.Err() != nil {
					return d
				}
				r := p.replaced(d.Request, smaller, old)
				if r.Subject() == nil || r.Object == nil && d.Request.Object != nil || r.Old == nil && d.Request.Old != nil {
					continue
				}
				original, translation := said(ctx, p.original, r, false), said(ctx, p.translation, r, true)
				if original.Outcome != string(verdict.Unknown) && !equal(original, translation) {
					d, changed = &Difference{r, original, translation}, true
					break
				}
			}
		}
	}
	return d
}

// rootOf returns the object of a request, or what it was.
func rootOf(r *policy.Request, old bool) map[string]any {
	o := r.Object
	if old {
		o = r.Old
	}
	if o == nil {
		return nil
	}
	root, _ := o.Root.Any().(map[string]any)
	return root
}

func (p *proof) replaced(r *policy.Request, root map[string]any, old bool) *policy.Request {
	out := &policy.Request{Object: r.Object, Old: r.Old, Operation: r.Operation, User: r.User, Cluster: r.Cluster}
	switch {
	case old && r.Object != nil:
		out.Old = objectOf(sameName(root, rootOf(r, false)))
	case old:
		out.Old = objectOf(root)
	default:
		if out.Object = objectOf(root); r.Old != nil {
			out.Old = objectOf(sameName(rootOf(r, true), root))
		}
	}
	return out
}

// smallerOf returns trees that lack one thing, the largest things first.
func smallerOf(root map[string]any) []map[string]any {
	var out []map[string]any
	var walk func(at any, path []any)
	try := func(path []any) { out = append(out, removed(root, path).(map[string]any)) }
	walk = func(at any, path []any) {
		switch at := at.(type) {
		case map[string]any:
			for _, k := range sortedKeys(at) {
				below := append(slices.Clone(path), k)
				if !slices.Contains(kept, k) {
					try(below)
				}
				walk(at[k], below)
			}
		case []any:
			for i := range at {
				below := append(slices.Clone(path), i)
				try(below)
				walk(at[i], below)
			}
		}
	}
	walk(root, nil)
	return out
}

// removed returns a tree without what is at a path.
func removed(at any, path []any) any {
	switch at := at.(type) {
	case map[string]any:
		out := make(map[string]any, len(at))
		for k, v := range at {
			switch {
			case k != path[0]:
				out[k] = v
			case len(path) > 1:
				out[k] = removed(v, path[1:])
			}
		}
		return out
	case []any:
		out := make([]any, 0, len(at))
		for i, v := range at {
			switch {
			case i != path[0]:
				out = append(out, v)
			case len(path) > 1:
				out = append(out, removed(v, path[1:]))
			}
		}
		return out
	}
	return at
}

// namespaces is a cluster of which the namespaces are known, whatever their
// names.
type namespaces struct{}

// Objects returns no objects.
func (namespaces) Objects(object.GroupKind, string) ([]*object.Object, bool) { return nil, false }

// Kinds returns no kinds.
func (namespaces) Kinds(object.GroupKind) ([]object.GroupKind, bool) { return nil, false }

// Can knows nothing.
func (namespaces) Can(*authenticationv1.UserInfo, rbac.Request) (allowed, known bool) {
	return false, false
}
