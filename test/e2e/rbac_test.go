// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/test/controlplane"
)

var updateRoles = flag.Bool("update-roles", false, "write the roles that Kubernetes brings into facts/rbac/builtin.json")

// brought is what facts/rbac/builtin.json says of a role.
type brought struct {
	Name       string              `json:"name"`
	Namespace  string              `json:"namespace,omitempty"`
	Labels     map[string]string   `json:"labels,omitempty"`
	Aggregates []map[string]string `json:"aggregates,omitempty"`
	Rules      []broughtRule       `json:"rules,omitempty"`
}

type broughtRule struct {
	Verbs     []string `json:"verbs"`
	Groups    []string `json:"groups,omitempty"`
	Resources []string `json:"resources,omitempty"`
	Names     []string `json:"names,omitempty"`
	Paths     []string `json:"paths,omitempty"`
}

func rulesBrought(rules []rbacv1.PolicyRule) []broughtRule {
	var out []broughtRule
	for _, r := range rules {
		out = append(out, broughtRule{r.Verbs, r.APIGroups, r.Resources, r.ResourceNames, r.NonResourceURLs})
	}
	return out
}

// TestBuiltInRoles holds the table of the roles that Kubernetes brings by itself
// to what an API server has created.
func TestBuiltInRoles(t *testing.T) {
	client := controlplane.Shared(t).Client(t).RbacV1()
	bootstrap := metav1.ListOptions{LabelSelector: "kubernetes.io/bootstrapping=rbac-defaults"}
	clusterRoles, err := client.ClusterRoles().List(t.Context(), bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	roles, err := client.Roles("").List(t.Context(), bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	var all []brought
	for _, r := range clusterRoles.Items {
		b := brought{Name: r.Name, Labels: r.Labels, Rules: rulesBrought(r.Rules)}
		if r.AggregationRule != nil {
			b.Rules = nil
			for _, s := range r.AggregationRule.ClusterRoleSelectors {
				if len(s.MatchExpressions) > 0 {
					t.Fatalf("ClusterRole %s selects by expressions, which the table has no place for", r.Name)
				}
				b.Aggregates = append(b.Aggregates, s.MatchLabels)
			}
		}
		all = append(all, b)
	}
	for _, r := range roles.Items {
		all = append(all, brought{Name: r.Name, Namespace: r.Namespace, Labels: r.Labels, Rules: rulesBrought(r.Rules)})
	}
	slices.SortFunc(all, func(a, b brought) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	var text strings.Builder
	for i, b := range all {
		line, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(map[bool]string{true: "[\n", false: ",\n"}[i == 0])
		text.Write(line)
	}
	text.WriteString("\n]\n")
	const file = "../../facts/rbac/builtin.json"
	if *updateRoles {
		if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if table, err := os.ReadFile(file); err != nil || string(table) != text.String() {
		t.Errorf("%s is not what the API server has created: %v; go test ./test/e2e -run TestBuiltInRoles -update-roles writes it", file, err)
	}
}

// asker asks a model and a real API server the same.
type asker struct {
	*rand.Rand
	client kubernetes.Interface
	spaces []string
	rules  []rbacv1.PolicyRule // that questions are made from
}

func oneOf[T any](r *asker, values ...T) T { return values[r.IntN(len(values))] }

// some returns up to three of the values, and at least one.
func some(r *asker, values ...string) []string {
	out := []string{oneOf(r, values...)}
	for range r.IntN(3) {
		if v := oneOf(r, values...); !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

var (
	askedVerbs     = []string{"get", "list", "create", "delete", "deletecollection", "*", "escalate", "bind", "impersonate", "impersonate:user-info", "impersonate-on:user-info:get", "use"}
	askedGroups    = []string{"", "apps", "rbac.authorization.k8s.io", "example.com", "authentication.k8s.io", "*"}
	askedResources = []string{"pods", "secrets", "deployments", "widgets", "*", "users", "clusterroles", "userextras", "namespaces"}
	askedSubs      = []string{"", "", "log", "scale", "status", "a/b", "*"}
	askedNames     = []string{"", "", "web", "db", "cluster-admin", "*"}
	askedPaths     = []string{"/healthz", "/healthz/etcd", "/metrics", "/logs/a/b", "/", "/api", "/version", "*", "/healthz*"}
	askedUsers     = []string{"jane", "bob", "system:anonymous", "system:kube-scheduler", "system:serviceaccount", "system:serviceaccount:a:b:c"}
	askedGroupsOf  = []string{"devs", "ops", "system:masters", "system:nodes", "system:serviceaccounts", "system:monitoring"}
	askedAccounts  = []string{"web", "db", "default"}
)

// rule returns a random rule.
func (r *asker) rule(cluster bool) rbacv1.PolicyRule {
	if cluster && r.IntN(4) == 0 {
		return rbacv1.PolicyRule{Verbs: some(r, askedVerbs...), NonResourceURLs: some(r, "/healthz", "/healthz/*", "/met*", "*", "/logs/**", "/version")}
	}
	resources := make([]string, 0, len(askedResources)*2)
	for _, res := range askedResources {
		resources = append(resources, res, res+"/"+oneOf(r, askedSubs[2:]...))
	}
	out := rbacv1.PolicyRule{Verbs: some(r, askedVerbs...), APIGroups: some(r, askedGroups...), Resources: some(r, resources...)}
	if r.IntN(3) == 0 {
		out.ResourceNames = some(r, askedNames[1:]...)
	}
	return out
}

func (r *asker) rulesOf(cluster bool) []rbacv1.PolicyRule {
	out := make([]rbacv1.PolicyRule, r.IntN(4))
	for i := range out {
		out[i] = r.rule(cluster)
	}
	r.rules = append(r.rules, out...)
	return out
}

// subject returns a random subject of a binding.
func (r *asker) subject(cluster bool) rbacv1.Subject {
	switch r.IntN(5) {
	case 0:
		return rbacv1.Subject{Kind: "User", Name: oneOf(r, append(askedUsers, "system:serviceaccount:"+oneOf(r, r.spaces...)+":web")...)}
	case 1:
		return rbacv1.Subject{Kind: "Group", Name: oneOf(r, append(askedGroupsOf, "system:serviceaccounts:"+oneOf(r, r.spaces...), "system:unauthenticated")...)}
	}
	space := oneOf(r, r.spaces...)
	if !cluster && r.IntN(3) == 0 {
		space = "" // that of the binding
	}
	return rbacv1.Subject{Kind: "ServiceAccount", Namespace: space, Name: oneOf(r, askedAccounts...)}
}

func (r *asker) subjects(cluster bool) []rbacv1.Subject {
	out := make([]rbacv1.Subject, r.IntN(4))
	for i := range out {
		out[i] = r.subject(cluster)
	}
	return out
}

// manifests returns random roles and bindings.
func (r *asker) manifests() []any {
	var out []any
	meta := func(kind, space, name string, labels map[string]string) (metav1.TypeMeta, metav1.ObjectMeta) {
		return metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: kind}, metav1.ObjectMeta{Namespace: space, Name: name, Labels: labels}
	}
	tiers, clusterRoles := []string{"a", "b", "c"}, []string{"view", "edit", "admin", "cluster-admin", "system:node", "absent", "chosen-0", "chosen-1", "chosen-2", "chosen-3"}
	for i := range 16 {
		o := &rbacv1.ClusterRole{Rules: r.rulesOf(true)}
		labels := map[string]string{"tier": oneOf(r, tiers...)}
		if r.IntN(3) == 0 {
			labels["rbac.authorization.k8s.io/aggregate-to-view"] = "true"
		}
		o.TypeMeta, o.ObjectMeta = meta("ClusterRole", "", fmt.Sprintf("random-%d", i), labels)
		out, clusterRoles = append(out, o), append(clusterRoles, o.Name)
	}
	for i, selectors := range [][]metav1.LabelSelector{
		{{MatchLabels: map[string]string{"tier": "a"}}, {MatchLabels: map[string]string{"tier": "b", "absent": "x"}}},
		{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: "In", Values: []string{"b", "c"}}, {Key: "rbac.authorization.k8s.io/aggregate-to-view", Operator: "DoesNotExist"}}}},
		{{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "chosen", Operator: "Exists"}}}, {MatchLabels: map[string]string{"tier": "b"}, MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: "NotIn", Values: []string{"a"}}}}},
		{{MatchLabels: map[string]string{"nobody": "has"}}},
	} {
		o := &rbacv1.ClusterRole{AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: selectors}}
		labels := map[string]string{"chosen": fmt.Sprint(i % 2)} // chosen-2 is put together from the others and is one of its own
		o.TypeMeta, o.ObjectMeta = meta("ClusterRole", "", fmt.Sprintf("chosen-%d", i), labels)
		if i != 2 {
			// Which the controller replaces; for chosen-3 it finds none, and leaves
			// them.
			o.Rules = r.rulesOf(true)
		}
		out = append(out, o)
	}
	for _, space := range r.spaces {
		for i := range 4 {
			o := &rbacv1.Role{Rules: r.rulesOf(false)}
			o.TypeMeta, o.ObjectMeta = meta("Role", space, oneOf(r, "random-0", "local")+fmt.Sprint(i), nil)
			out = append(out, o)
		}
		for i := range 14 {
			o := &rbacv1.RoleBinding{Subjects: r.subjects(false), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: oneOf(r, clusterRoles...)}}
			if r.IntN(2) == 0 {
				o.RoleRef = rbacv1.RoleRef{Kind: "Role", Name: oneOf(r, "random-0", "local") + fmt.Sprint(r.IntN(5))}
			}
			o.TypeMeta, o.ObjectMeta = meta("RoleBinding", space, fmt.Sprintf("random-%d", i), nil)
			out = append(out, o)
		}
	}
	for i := range 24 {
		o := &rbacv1.ClusterRoleBinding{Subjects: r.subjects(true), RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: oneOf(r, clusterRoles...)}}
		if o.RoleRef.Name == "cluster-admin" && r.IntN(4) > 0 {
			o.RoleRef.Name = "view" // or everything is allowed
		}
		o.TypeMeta, o.ObjectMeta = meta("ClusterRoleBinding", "", fmt.Sprintf("random-%d", i), nil)
		out = append(out, o)
	}
	return out
}

// question is somebody, with all groups, and a request.
type question struct {
	who     rbac.Subject
	groups  []string
	request rbac.Request
}

func (r *asker) question() question {
	var q question
	switch r.IntN(6) {
	case 0:
		q.who = rbac.Subject{Kind: rbac.Group, Name: oneOf(r, append(askedGroupsOf, "system:authenticated", "system:unauthenticated", "system:serviceaccounts:"+r.spaces[0])...)}
	case 1, 2:
		who, err := rbac.ParseSubject("user:" + oneOf(r, append(askedUsers, "system:serviceaccount:"+r.spaces[0]+":web", "system:kube-controller-manager")...))
		if err != nil {
			panic(err)
		}
		q.who = who
	default:
		q.who = rbac.Subject{Kind: rbac.ServiceAccount, Namespace: oneOf(r, append(r.spaces, "kube-system")...), Name: oneOf(r, append(askedAccounts, "job-controller", "namespace-controller")...)}
	}
	if r.IntN(3) == 0 {
		q.groups = some(r, askedGroupsOf...)
		if i := slices.Index(q.groups, "system:masters"); i >= 0 && r.IntN(8) > 0 {
			q.groups[i] = "others"
		}
	}
	rule := oneOf(r, r.rules...)
	near := func(list []string, others ...string) string {
		if len(list) > 0 && r.IntN(4) > 0 {
			return oneOf(r, list...)
		}
		return oneOf(r, others...)
	}
	q.request.Verb = near(rule.Verbs, askedVerbs...)
	if len(rule.NonResourceURLs) > 0 {
		if q.request.Path = near(rule.NonResourceURLs, askedPaths...); r.IntN(2) == 0 {
			q.request.Path = strings.TrimRight(q.request.Path, "*") + oneOf(r, "", "x", "/y")
		}
		if q.request.Path != "" {
			return q
		}
	}
	q.request.Group = near(rule.APIGroups, askedGroups...)
	q.request.Resource, q.request.Subresource, _ = strings.Cut(near(rule.Resources, askedResources...), "/")
	if r.IntN(4) == 0 {
		q.request.Resource = oneOf(r, askedResources...)
	}
	if r.IntN(4) == 0 {
		q.request.Subresource = oneOf(r, askedSubs...)
	}
	if r.IntN(20) == 0 {
		q.request.Resource, q.request.Subresource = q.request.Resource+"/log", ""
	}
	q.request.Name = near(rule.ResourceNames, askedNames...)
	q.request.Namespace = oneOf(r, append(r.spaces, "", "kube-system")...)
	return q
}

// ask asks the API server.
func (r *asker) ask(t *testing.T, q question) bool {
	spec := authorizationv1.SubjectAccessReviewSpec{User: q.who.UserName(), Groups: append(q.who.Groups(), q.groups...)}
	if q.who.Kind == rbac.Group {
		spec.Groups = append(spec.Groups, q.who.Name)
	}
	if q.request.Path != "" {
		spec.NonResourceAttributes = &authorizationv1.NonResourceAttributes{Verb: q.request.Verb, Path: q.request.Path}
	} else {
		spec.ResourceAttributes = &authorizationv1.ResourceAttributes{
			Verb: q.request.Verb, Group: q.request.Group, Resource: q.request.Resource, Subresource: q.request.Subresource,
			Name: q.request.Name, Namespace: q.request.Namespace,
		}
	}
	answer, err := r.client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		t.Error(err)
		return false
	}
	return answer.Status.Allowed
}

// modelOf returns the model of texts in JSON.
func modelOf(t *testing.T, texts ...string) *rbac.Model {
	t.Helper()
	var kept []any
	for _, text := range texts {
		roots, err := object.ParseJSON([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		objects, err := object.FromNode(roots[0], &object.Origin{Source: "cluster"})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range objects {
			kept = append(kept, rbac.Keep(o))
		}
	}
	return rbac.NewModel(kept, &facts.Env{Complete: true})
}

// TestIdentityAsTheAPIServer holds that the model answers as the API server
// does: read from the cluster, and read from the manifests alone with the roles
// that Kubernetes brings taken from the table.
func TestIdentityAsTheAPIServer(t *testing.T) {
	c := controlplane.Start(t, controlplane.Options{})
	r := &asker{Rand: rand.New(rand.NewPCG(37, 1)), client: c.Client(t)}
	r.spaces = []string{c.Namespace(t), c.Namespace(t), c.Namespace(t)}
	bindings := c.Kubectl(t, "get", "rolebindings,clusterrolebindings", "-A", "-o", "json") // that Kubernetes brings
	bootstrap, err := r.client.RbacV1().ClusterRoles().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]any{"apiVersion": "v1", "kind": "List", "items": r.manifests()}
	manifests, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	c.Apply(t, string(manifests))
	fromFiles := modelOf(t, string(manifests), bindings)
	for _, role := range bootstrap.Items {
		r.rules = append(r.rules, role.Rules[:min(2, len(role.Rules))]...)
	}
	r.settle(t)
	cluster := c.Kubectl(t, "get", "roles,clusterroles,rolebindings,clusterrolebindings,serviceaccounts", "-A", "-o", "json")
	fromCluster := modelOf(t, cluster)
	sameRules(t, r, fromFiles)
	r.compare(t, 4000, map[string]*rbac.Model{"the cluster": fromCluster, "the manifests": fromFiles})
}

// settle waits until the controllers have put roles together, and until what
// was written so far counts.
func (r *asker) settle(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		all, err := r.client.RbacV1().ClusterRoles().List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, role := range all.Items {
			if want, err := aggregated(role, all.Items); err != nil || len(want) > 0 && !equality.Semantic.DeepEqual(want, role.Rules) {
				return fmt.Errorf("ClusterRole %s is not put together: %w", role.Name, cmp.Or(err, fmt.Errorf("%d rules, not %d", len(role.Rules), len(want))))
			}
		}
		return nil
	})
	rule := []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{"settled.example.com"}, Resources: []string{"things"}}}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "settled"}, Rules: rule}
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "settled"}, RoleRef: rbacv1.RoleRef{Kind: "ClusterRole", Name: "settled"}, Subjects: []rbacv1.Subject{{Kind: "User", Name: "settled"}}}
	if _, err := r.client.RbacV1().ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.client.RbacV1().RoleBindings(r.spaces[0]).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		q := question{who: rbac.Subject{Kind: rbac.User, Name: "settled"}, request: rbac.Request{Verb: "get", Group: "settled.example.com", Resource: "things", Namespace: r.spaces[0]}}
		if !r.ask(t, q) {
			return fmt.Errorf("what was written last does not count yet")
		}
		return nil
	})
}

// aggregated is what the controller is to make of a ClusterRole.
func aggregated(role rbacv1.ClusterRole, all []rbacv1.ClusterRole) ([]rbacv1.PolicyRule, error) {
	out := []rbacv1.PolicyRule{}
	if role.AggregationRule == nil {
		return out, nil
	}
	for _, s := range role.AggregationRule.ClusterRoleSelectors {
		selector, err := metav1.LabelSelectorAsSelector(&s)
		if err != nil {
			return nil, err
		}
		for _, other := range all {
			if other.Name == role.Name || !selector.Matches(labels.Set(other.Labels)) {
				continue
			}
			for _, rule := range other.Rules {
				if !slices.ContainsFunc(out, func(r rbacv1.PolicyRule) bool { return equality.Semantic.DeepEqual(r, rule) }) {
					out = append(out, rule)
				}
			}
		}
	}
	return out, nil
}

// sameRules holds that a model put roles together as the controller did.
func sameRules(t *testing.T, r *asker, m *rbac.Model) {
	t.Helper()
	all, err := r.client.RbacV1().ClusterRoles().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]rbacv1.ClusterRole{}
	for _, role := range all.Items {
		want[role.Name] = role
	}
	checked := map[string]bool{}
	for _, b := range m.Bindings() {
		if b.Role.Kind != "ClusterRole" || checked[b.Role.Name] {
			continue
		}
		checked[b.Role.Name] = true
		var got []string
		for _, rule := range b.Rules {
			got = append(got, fmt.Sprint(rule.Verbs, rule.Groups, rule.Resources, rule.Names, rule.Paths))
		}
		var wanted []string
		for _, rule := range want[b.Role.Name].Rules {
			wanted = append(wanted, fmt.Sprint(rule.Verbs, rule.APIGroups, rule.Resources, rule.ResourceNames, rule.NonResourceURLs))
		}
		slices.Sort(got)
		slices.Sort(wanted)
		if want[b.Role.Name].AggregationRule != nil {
			got, wanted = slices.Compact(got), slices.Compact(wanted)
		}
		if !slices.Equal(got, wanted) {
			t.Errorf("ClusterRole %s has the rules\n%s\nnot\n%s", b.Role.Name, strings.Join(got, "\n"), strings.Join(wanted, "\n"))
		}
	}
	if len(checked) < 20 {
		t.Errorf("only %d ClusterRoles are bound", len(checked))
	}
}

// compare asks questions of the API server and of models, also who may do it.
func (r *asker) compare(t *testing.T, count int, models map[string]*rbac.Model) {
	t.Helper()
	questions := make(chan question, count)
	for range count {
		questions <- r.question()
	}
	close(questions)
	var wg sync.WaitGroup
	var mu sync.Mutex
	allowed := 0
	for range 8 {
		wg.Go(func() {
			for q := range questions {
				want := r.ask(t, q)
				for name, m := range models {
					a := m.Can(q.who, q.groups, q.request)
					if a.Allowed != want {
						t.Errorf("by %s: %s in %q: %+v: the model says %t, the API server %t", name, q.who, q.groups, q.request, a.Allowed, want)
					}
					if may := amongThose(m, q); may != want {
						t.Errorf("by %s: %s in %q: %+v: named among those who can: %t, the API server says %t", name, q.who, q.groups, q.request, may, want)
					}
				}
				mu.Lock()
				if want {
					allowed++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if allowed < count/10 || allowed > count*9/10 {
		t.Errorf("%d of %d questions are allowed: not a test of both answers", allowed, count)
	}
	t.Logf("%d of %d questions are allowed", allowed, count)
}

// amongThose says whether the subject of a question, or a group of it, is among those
// who can.
func amongThose(m *rbac.Model, q question) bool {
	who, _ := m.WhoCan(q.request)
	groups := append(q.who.Groups(), q.groups...)
	return slices.ContainsFunc(who, func(g rbac.Grantee) bool {
		return g.Subject == q.who || g.Kind == rbac.Group && slices.Contains(groups, g.Name)
	})
}
