// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	authenticationv1 "k8s.io/api/authentication/v1"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/facts/secret"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// gathers is what rules of policies need beside the object that they judge.
type gathers struct {
	rules []int // those that one object alone does not decide
	// looks describes, for each of them, the kinds that it looks up; own says
	// that of Namespaces it looks at none but that of the object.
	looks [][]object.GroupKind
	own   []bool
}

var namespaceKind = object.GroupKind{Kind: "Namespace"}

// gathering says what the rules of a baseline need of other objects.
func gathering(rules []*baseline.Rule) (out gathers) {
	for i, r := range rules {
		if r.Policy == nil {
			continue
		}
		needs := &r.Policy.Info().Needs
		if needs.Alone() {
			continue
		}
		out.rules = append(out.rules, i)
		out.looks = append(out.looks, needed(needs))
		out.own = append(out.own, needs.Namespaces && !needs.LooksUp(namespaceKind))
	}
	return out
}

// needed describes the kinds that a rule looks up.
func needed(needs *policy.Needs) []object.GroupKind {
	if needs.AnyKind {
		return []object.GroupKind{policy.AnyKind}
	}
	out := slices.Clone(needs.Kinds)
	if needs.Namespaces {
		out = append(out, namespaceKind)
	}
	if needs.Authorizer {
		out = append(out, rightsKinds...)
	}
	return out
}

// rightsKinds are the kinds that say who may do what.
var rightsKinds = []object.GroupKind{
	{Group: "rbac.authorization.k8s.io", Kind: "Role"}, {Group: "rbac.authorization.k8s.io", Kind: "RoleBinding"},
	{Group: "rbac.authorization.k8s.io", Kind: "ClusterRole"}, {Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"},
}

// Gathers says whether an object must be kept until all were seen, since rules of
// policies look it up, or judge it among others; lookedUp says that what others
// come to may depend on it.
func (e *Engine) Gathers(gk object.GroupKind) (gathers, lookedUp bool) {
	if len(e.gathered.rules) == 0 || gk.Group == facts.Group {
		return false, false
	}
	k := e.ofKind(gk)
	return len(k.lookers)+len(k.own) > 0 || e.judgedAmong(gk), len(k.lookers)+len(k.own) > 0
}

// Lookers are the rules that look objects of a kind up, by their indexes; own
// those that look up none but the namespace of the object that they judge.
func (e *Engine) Lookers(gk object.GroupKind) (lookers, own []int) {
	k := e.ofKind(gk)
	return k.lookers, k.own
}

// lookers finds what Lookers tells.
func (g *gathers) lookers(gk object.GroupKind) (lookers, own []int) {
	for i, rule := range g.rules {
		switch {
		case !slices.ContainsFunc(g.looks[i], func(of object.GroupKind) bool { return policy.Covers(of, gk) }):
		case gk == namespaceKind && g.own[i]:
			own = append(own, rule)
		default:
			lookers = append(lookers, rule)
		}
	}
	return lookers, own
}

// holds says whether all objects of the kinds that are described are gathered.
func (g *gathers) holds(of object.GroupKind) bool {
	return slices.ContainsFunc(g.looks, func(looks []object.GroupKind) bool {
		return slices.ContainsFunc(looks, func(wide object.GroupKind) bool { return policy.Covers(wide, of) })
	})
}

// judgedAmong says whether a rule that needs other objects is about a kind.
func (e *Engine) judgedAmong(gk object.GroupKind) bool {
	return slices.ContainsFunc(e.matching(gk), func(i int) bool { return e.among(i) })
}

// among says whether a rule needs other objects.
func (e *Engine) among(i int) bool {
	_, found := slices.BinarySearch(e.gathered.rules, i)
	return found
}

// Among are the rules about a kind that need other objects, too, by their indexes.
func (e *Engine) Among(gk object.GroupKind) []int {
	return slices.DeleteFunc(slices.Clone(e.matching(gk)), func(i int) bool { return !e.among(i) })
}

// JudgeAmong judges an object by those rules that need other objects, too; by some
// of them, where they are given in the order of their indexes.
func (e *Engine) JudgeAmong(o *object.Object, cluster policy.Cluster, some []int) *Result {
	return e.amongOthers(context.Background(), o, cluster, some)
}

// amongOthers is JudgeAmong until the context ends.
func (e *Engine) amongOthers(ctx context.Context, o *object.Object, cluster policy.Cluster, some []int) *Result {
	out := &Result{ctx: ctx, Object: o, only: onlyAmong, some: some, inline: e.baseline.Inline(o, e.env.Today), request: &policy.Request{Object: o, Operation: policy.Create, Cluster: cluster, Now: e.env.Today}}
	e.judgeOne(out, o)
	return out
}

// which of the rules are run.
type which uint8

const (
	allRules  which = iota
	onlyAlone       // those that the object alone decides
	onlyAmong       // the others
)

// runs says whether a rule is run.
func (e *Engine) runs(r *Result, i int) bool {
	if r.asked != nil {
		return asks(e.rules[i], r.asked)
	}
	if r.some != nil {
		_, found := slices.BinarySearch(r.some, i)
		return found
	}
	return r.only == allRules || (r.only == onlyAmong) == e.among(i)
}

// ask returns what a rule says of an object, and whether it is about it at all.
func (e *Engine) ask(out *Result, rule *baseline.Rule, o *object.Object) (v control.Verdict, applies bool) {
	if rule.Policy == nil {
		return rule.Control.Judge(o, out.namespace), true
	}
	defer func() {
		if r := recover(); r != nil {
			v, applies = policy.Unknown(fmt.Sprintf("a fault in Sconce kept this from being judged; please report it: %v", r)), true
		}
	}()
	if out.request == nil {
		out.request = &policy.Request{Object: o, Operation: policy.Create, Now: e.env.Today}
	}
	out.request.Network = e.baseline.Network
	if out.request.Cluster == nil && out.namespace != nil {
		out.request.Cluster = oneNamespace{object.New(out.namespace, o.Origin)}
	}
	ctx := out.ctx
	if ctx == nil {
		ctx = context.Background()
	}
	v, applies = rule.Policy.Judge(ctx, out.request)
	if why := rule.Policy.Info().Unsupported; applies && why != "" {
		v = policy.Unknown("Sconce cannot run this rule: " + why)
	}
	return v, applies
}

// oneNamespace is a cluster of which the object's namespace is known.
type oneNamespace struct{ namespace *object.Object }

func (c oneNamespace) Objects(gk object.GroupKind, _ string) ([]*object.Object, bool) {
	if gk == namespaceKind {
		return []*object.Object{c.namespace}, false
	}
	return nil, false
}

func (c oneNamespace) Kinds(of object.GroupKind) ([]object.GroupKind, bool) {
	if policy.Covers(of, namespaceKind) {
		return []object.GroupKind{namespaceKind}, false
	}
	return nil, false
}

func (c oneNamespace) Can(*authenticationv1.UserInfo, rbac.Request) (allowed, known bool) {
	return false, false
}

// cluster is the objects that were gathered.
type cluster struct {
	byKind map[object.GroupKind][]*object.Object // by namespace and name
	all    func(object.GroupKind) bool
	env    facts.Env

	once  sync.Once
	roles *rbac.Model

	maskOnce sync.Once
	mask     secret.Mask
}

// secrets returns the mask of the values of all Secrets.
func (c *cluster) secrets() secret.Mask {
	c.maskOnce.Do(func() { c.mask = secret.MaskOfSecrets(c.byKind[secretKind]) })
	return c.mask
}

// NewCluster returns what is known of objects; all says of which kinds there are
// no others.
func (e *Engine) NewCluster(objects []*object.Object, all func(object.GroupKind) bool) policy.Cluster {
	out := &cluster{byKind: map[object.GroupKind][]*object.Object{}, all: all, env: *e.env}
	for _, o := range objects {
		out.byKind[o.GroupKind()] = append(out.byKind[o.GroupKind()], o)
	}
	for _, list := range out.byKind {
		slices.SortStableFunc(list, func(a, b *object.Object) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
		})
	}
	return out
}

// Objects implements policy.Cluster.
func (c *cluster) Objects(gk object.GroupKind, namespace string) ([]*object.Object, bool) {
	list := c.byKind[gk]
	if namespace == "" {
		return list, c.all(gk)
	}
	first, _ := slices.BinarySearchFunc(list, namespace, func(o *object.Object, n string) int { return cmp.Compare(o.Namespace, n) })
	last := first
	for last < len(list) && list[last].Namespace == namespace {
		last++
	}
	return list[first:last], c.all(gk)
}

// Kinds implements policy.Cluster.
func (c *cluster) Kinds(of object.GroupKind) ([]object.GroupKind, bool) {
	var out []object.GroupKind
	for gk := range c.byKind {
		if policy.Covers(of, gk) {
			out = append(out, gk)
		}
	}
	slices.SortFunc(out, func(a, b object.GroupKind) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind))
	})
	return out, c.all(of)
}

// Can implements policy.Cluster.
func (c *cluster) Can(who *authenticationv1.UserInfo, what rbac.Request) (allowed, known bool) {
	if who == nil {
		return false, false
	}
	c.once.Do(func() {
		var kept []any
		for _, list := range c.byKind {
			for _, o := range list {
				if k := rbac.Keep(o); k != nil {
					kept = append(kept, k)
				}
			}
		}
		env := c.env
		env.Complete = !slices.ContainsFunc(rightsKinds, func(gk object.GroupKind) bool { return !c.all(gk) })
		c.roles = rbac.NewModel(kept, &env)
	})
	answer := c.roles.Can(rbac.Subject{Kind: "User", Name: who.Username}, who.Groups, what)
	return answer.Allowed, answer.Allowed || len(answer.Unknown) == 0
}

// Complete says of which of the kinds that are looked up nothing is missing, given
// those that could not be read: facts.AnyKind is all of a group, without a group
// all kinds that there are.
func (e *Engine) Complete(unread map[object.GroupKind]bool) func(of object.GroupKind) bool {
	var missing []object.GroupKind
	for gk := range unread {
		if gk.Group == "" && (gk.Kind == "" || gk.Kind == facts.AnyKind) {
			gk = policy.AnyKind
		}
		missing = append(missing, gk)
	}
	return func(of object.GroupKind) bool {
		return e.env.Complete && e.gathered.holds(of) && !slices.ContainsFunc(missing, func(gk object.GroupKind) bool { return policy.Overlap(gk, of) })
	}
}

// together judges what needs other objects, once all were seen.
func (e *Engine) together(ctx context.Context, t *total, folds *folds, keep int) (out *perUnit) {
	out = e.newUnit()
	defer out.recover()
	if len(t.gathered) == 0 {
		return out
	}
	cluster := e.NewCluster(t.gathered, e.Complete(t.unread))
	for start := 0; start < len(t.gathered) && ctx.Err() == nil; start += ahead {
		some := t.gathered[start:min(start+ahead, len(t.gathered))]
		results := make([]*Result, len(some))
		inParallel(len(some), func(i int) {
			if e.judgedAmong(some[i].GroupKind()) && !OldRevision(some[i]) {
				results[i] = e.amongOthers(ctx, some[i], cluster, nil)
			}
		})
		for i, r := range results {
			if r == nil || len(r.Outcomes) == 0 {
				continue
			}
			n := folds.of(some[i].Ref)
			folds.put(n, r.Findings)
			if n == nil || n.owner == 0 || len(r.Findings) == 0 || !e.wait(out, r, some[i], n) {
				e.count(out, r, some[i], keep)
			}
		}
	}
	for _, w := range out.waiting {
		out.folded += folds.fold(w.node, w.result)
		e.count(out, w.result, w.object, keep)
	}
	out.waiting = nil
	t.gathered = nil
	return out
}
