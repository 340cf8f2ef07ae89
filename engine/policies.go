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
	kinds map[object.GroupKind]bool
	every bool // objects of any kind may be looked up
}

var namespaceKind = object.GroupKind{Kind: "Namespace"}

// gathering says what the rules of a baseline need of other objects.
func gathering(rules []*baseline.Rule) (out gathers) {
	out.kinds = map[object.GroupKind]bool{}
	for i, r := range rules {
		if r.Policy == nil {
			continue
		}
		needs := &r.Policy.Info().Needs
		if needs.Alone() {
			continue
		}
		out.rules = append(out.rules, i)
		out.every = out.every || needs.AnyKind
		for _, gk := range needed(needs) {
			out.kinds[gk] = true
		}
	}
	return out
}

// needed are the kinds that a rule looks up.
func needed(needs *policy.Needs) []object.GroupKind {
	out := slices.Clone(needs.Kinds)
	if needs.Namespaces {
		out = append(out, namespaceKind)
	}
	if needs.Authorizer {
		for _, kind := range []string{"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} {
			out = append(out, object.GroupKind{Group: "rbac.authorization.k8s.io", Kind: kind})
		}
	}
	return out
}

// Gathers says whether an object must be kept until all were seen, since rules of
// policies look it up, or judge it among others; lookedUp says that what others
// come to may depend on it.
func (e *Engine) Gathers(gk object.GroupKind) (gathers, lookedUp bool) {
	if len(e.gathered.rules) == 0 || gk.Group == facts.Group {
		return false, false
	}
	lookedUp = e.gathered.every || e.gathered.kinds[gk]
	return lookedUp || e.judgedAmong(gk), lookedUp
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

// JudgeAmong judges an object by those rules that need other objects, too.
func (e *Engine) JudgeAmong(o *object.Object, cluster policy.Cluster) *Result {
	out := &Result{Object: o, only: onlyAmong, inline: e.baseline.Inline(o, e.env.Today), request: &policy.Request{Object: o, Operation: policy.Create, Cluster: cluster, Now: e.env.Today}}
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
	if why := rule.Policy.Info().Unsupported; why != "" {
		return policy.Unknown("Sconce cannot run this rule: " + why), true
	}
	if out.request == nil {
		out.request = &policy.Request{Object: o, Operation: policy.Create, Now: e.env.Today}
	}
	if out.request.Cluster == nil && out.namespace != nil {
		out.request.Cluster = oneNamespace{object.New(out.namespace, o.Origin)}
	}
	if unknown := policy.Once(out.request, unknownKey{}, o.Root.FirstUnknown); unknown != "" {
		return policy.Unknown("a part of the object is not known: " + unknown), true
	}
	return rule.Policy.Judge(context.Background(), out.request)
}

type unknownKey struct{}

// oneNamespace is a cluster of which the object's namespace is known.
type oneNamespace struct{ namespace *object.Object }

func (c oneNamespace) Objects(gk object.GroupKind, _ string) ([]*object.Object, bool) {
	if gk == namespaceKind {
		return []*object.Object{c.namespace}, false
	}
	return nil, false
}

func (c oneNamespace) Kinds() ([]object.GroupKind, bool) {
	return []object.GroupKind{namespaceKind}, false
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
func (c *cluster) Kinds() ([]object.GroupKind, bool) {
	out := make([]object.GroupKind, 0, len(c.byKind))
	for gk := range c.byKind {
		out = append(out, gk)
	}
	slices.SortFunc(out, func(a, b object.GroupKind) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Kind, b.Kind))
	})
	return out, c.all(object.GroupKind{})
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
		env.Complete = c.all(object.GroupKind{Group: "rbac.authorization.k8s.io", Kind: "ClusterRoleBinding"})
		c.roles = rbac.NewModel(kept, &env)
	})
	answer := c.roles.Can(rbac.Subject{Kind: "User", Name: who.Username}, who.Groups, what)
	return answer.Allowed, answer.Allowed || len(answer.Unknown) == 0
}

// Complete says of which kinds nothing is missing, given those that could not be
// read.
func (e *Engine) Complete(unread map[object.GroupKind]bool) func(object.GroupKind) bool {
	return func(gk object.GroupKind) bool {
		if gk == (object.GroupKind{}) {
			return e.env.Complete && len(unread) == 0
		}
		return e.env.Complete && !unread[object.GroupKind{}] && !unread[gk] && !unread[object.GroupKind{Group: gk.Group, Kind: facts.AnyKind}]
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
				results[i] = e.JudgeAmong(some[i], cluster)
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
