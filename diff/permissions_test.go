// SPDX-License-Identifier: Apache-2.0

package diff_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sconce.dev/sconce/diff"
	"sconce.dev/sconce/facts/rbac"
)

// A small world, so that random rules meet each other.
var (
	verbsOf     = []string{"get", "list", "create", "*"}
	groupsOf    = []string{"", "apps", "*"}
	resourcesOf = []string{"pods", "pods/log", "*", "*/log"}
	namesOf     = []string{"a", "b"}
	pathsOf     = []string{"/healthz", "/healthz/*", "/metrics", "*"}
	spacesOf    = []string{"x", "w"}
	subjectsOf  = []rbac.Subject{
		{Kind: rbac.ServiceAccount, Namespace: "x", Name: "web"}, {Kind: rbac.User, Name: "jane"}, {Kind: rbac.Group, Name: "devs"},
		{Kind: rbac.Group, Name: rbac.Authenticated}, {Kind: rbac.Group, Name: "system:serviceaccounts:x"},
	}
)

func some(from []string) *rapid.Generator[[]string] {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(from), 1, 2, rapid.ID[string])
}

func quoted(list []string) string {
	var out []string
	for _, s := range list {
		out = append(out, fmt.Sprintf("%q", s))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// ruleOf draws a rule as YAML.
func ruleOf(t *rapid.T) string {
	if rapid.IntRange(0, 4).Draw(t, "path") == 0 {
		return fmt.Sprintf("- {verbs: %s, nonResourceURLs: %s}\n", quoted(some(verbsOf).Draw(t, "verbs")), quoted(some(pathsOf).Draw(t, "paths")))
	}
	names := ""
	if rapid.IntRange(0, 2).Draw(t, "named") == 0 {
		names = ", resourceNames: " + quoted(some(namesOf).Draw(t, "names"))
	}
	return fmt.Sprintf("- {verbs: %s, apiGroups: %s, resources: %s%s}\n", quoted(some(verbsOf).Draw(t, "verbs")), quoted(some(groupsOf).Draw(t, "groups")), quoted(some(resourcesOf).Draw(t, "resources")), names)
}

// rbacTree draws roles and bindings.
func rbacTree(t *rapid.T, label string) tree {
	files := tree{}
	for i := range rapid.IntRange(0, 3).Draw(t, label+" bindings") {
		rules := ""
		for range rapid.IntRange(1, 2).Draw(t, "rules") {
			rules += ruleOf(t)
		}
		s := rapid.SampledFrom(subjectsOf).Draw(t, "subject")
		subject := fmt.Sprintf("{kind: %s, name: %q}", s.Kind, s.Name)
		if s.Namespace != "" {
			subject = fmt.Sprintf("{kind: %s, name: %q, namespace: %s}", s.Kind, s.Name, s.Namespace)
		}
		meta, prefix := fmt.Sprintf("{name: r%d}", i), "Cluster"
		if rapid.Bool().Draw(t, "namespaced") {
			meta, prefix = fmt.Sprintf("{name: r%d, namespace: %s}", i, rapid.SampledFrom(spacesOf).Draw(t, "namespace")), ""
		}
		files[fmt.Sprintf("%d.yaml", i)] = fmt.Sprintf(`apiVersion: rbac.authorization.k8s.io/v1
kind: %[1]sRole
metadata: %[2]s
rules:
%[3]s---
apiVersion: rbac.authorization.k8s.io/v1
kind: %[1]sRoleBinding
metadata: %[2]s
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: %[1]sRole, name: r%[4]d}
subjects: [%[5]s]
`, prefix, meta, rules, i, subject)
	}
	return files
}

// requests are one for each thing that rules of the small world tell apart; the
// names that no rule has stand for all others.
func requests() []rbac.Request {
	var out []rbac.Request
	for _, verb := range []string{"get", "list", "create", "patch"} {
		for _, space := range []string{"", "x", "w", "z"} {
			for _, group := range []string{"", "apps", "batch"} {
				for _, name := range []string{"", "a", "b", "c"} {
					for _, sub := range []string{"", "log", "exec"} {
						for _, resource := range []string{"pods", "jobs"} {
							out = append(out, rbac.Request{Verb: verb, Group: group, Resource: resource, Subresource: sub, Name: name, Namespace: space})
						}
					}
				}
			}
		}
		for _, path := range []string{"/healthz", "/healthz/x", "/metrics", "/other"} {
			out = append(out, rbac.Request{Verb: verb, Path: path})
		}
	}
	return out
}

// permits says whether a permission is for a request of a subject.
func permits(p *diff.Permission, s rbac.Subject, q rbac.Request) bool {
	mine := p.Subject == s || p.Subject.Kind == rbac.Group && slices.Contains(s.Groups(), p.Subject.Name)
	if !mine || !p.ClusterWide && (p.Namespace != q.Namespace || q.Path != "") {
		return false
	}
	any := func(list []string, value string) bool {
		return slices.Contains(list, "*") || slices.Contains(list, value)
	}
	if !any(p.Verbs, q.Verb) {
		return false
	}
	if q.Path != "" {
		return slices.ContainsFunc(p.Paths, func(path string) bool {
			prefix, wild := strings.CutSuffix(path, "*")
			return path == q.Path || wild && strings.HasPrefix(q.Path, prefix)
		})
	}
	if len(p.Names) > 0 && !slices.Contains(p.Names, q.Name) {
		return false
	}
	return slices.ContainsFunc(p.Resources, func(r string) bool {
		if r == "*" {
			return true
		}
		r, sub, _ := strings.Cut(r, "/")
		resource, group, _ := strings.Cut(r, ".")
		if group == "core" {
			group = ""
		}
		return any([]string{resource}, q.Resource) && any([]string{group}, q.Group) && (resource == "*" && sub == "" || sub == q.Subresource)
	})
}

// TestPermissionsExact: what a subject may do and might not before is what is
// told as gained of it or of its groups, no less; and of all that is told at
// least something was not permitted.
func TestPermissionsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, head := side(t, "base", rbacTree(t, "base")), side(t, "head", rbacTree(t, "head"))
		c := diff.Compare(base, head)
		then, now := base.Posture.Identity, head.Posture.Identity
		useful := map[*diff.Permission]bool{}
		for _, q := range requests() {
			for _, s := range subjectsOf {
				may, might := now.Can(s, nil, q).Allowed, then.Can(s, nil, q).Allowed
				told := false
				for i := range c.Permissions.Gained {
					p := &c.Permissions.Gained[i]
					if permits(p, s, q) {
						told = true
						useful[p] = useful[p] || may && !might
						if !may {
							t.Fatalf("%s may not %+v, but %+v is told", s, q, p)
						}
					}
				}
				if may && !might && !told {
					t.Fatalf("%s may %+v, which is not told: %+v", s, q, c.Permissions.Gained)
				}
			}
		}
		for i := range c.Permissions.Gained {
			if p := &c.Permissions.Gained[i]; !useful[p] {
				t.Fatalf("%+v is told, and nothing of it is new", p)
			}
		}
	})
}

// TestPermissionsTurn: what is gained one way is lost the other way.
func TestPermissionsTurn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, head := side(t, "base", rbacTree(t, "base")), side(t, "head", rbacTree(t, "head"))
		there, back := diff.Compare(base, head), diff.Compare(head, base)
		for i := range 2 {
			gained, lost := there.Permissions.Gained, back.Permissions.Lost
			if i == 1 {
				gained, lost = back.Permissions.Gained, there.Permissions.Lost
			}
			if a, b := bare(gained), bare(lost); !slices.Equal(a, b) {
				t.Fatalf("gained %q, lost %q", a, b)
			}
		}
		if same := diff.Compare(head, head); len(same.Permissions.Gained)+len(same.Permissions.Lost)+len(same.Permissions.Unclear) > 0 {
			t.Fatalf("a side differs from itself: %+v", same.Permissions)
		}
	})
}

// bare writes permissions without their causes.
func bare(list []diff.Permission) []string {
	var out []string
	for _, p := range list {
		p.By = nil
		out = append(out, fmt.Sprintf("%+v", p))
	}
	slices.Sort(out)
	return out
}

func roles(rules, bindings string) tree {
	return tree{"rbac.yaml": "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: r, namespace: x}\nrules:\n" + rules + "---\n" + bindings}
}

func bind(name, role string) string {
	return fmt.Sprintf("apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: %s, namespace: x}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: %s}\nsubjects: [{kind: User, name: jane}]\n", name, role)
}

// TestPermissionsRewritten: what is written in another way grants the same.
func TestPermissionsRewritten(t *testing.T) {
	const whole = "- {apiGroups: ['', apps], resources: [pods, deployments], verbs: [get, list]}\n"
	for _, c := range []struct {
		name string
		head tree
	}{
		{"in another order", roles("- {verbs: [list, get, get], resources: [deployments, pods], apiGroups: [apps, '']}\n", bind("b", "r"))},
		{"in two rules", roles("- {apiGroups: ['', apps], resources: [pods, deployments], verbs: [get]}\n- {apiGroups: ['', apps], resources: [pods, deployments], verbs: [list]}\n", bind("b", "r"))},
		{"by a binding of another name", roles(whole, bind("c", "r"))},
		{"by two bindings", roles(whole, bind("b", "r")+"---\n"+bind("c", "r"))},
		{"by a role of another name", tree{"z.yaml": strings.Replace(roles(whole, bind("b", "q"))["rbac.yaml"], "name: r,", "name: q,", 1)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := compare(t, roles(whole, bind("b", "r")), c.head).Permissions; len(got.Gained)+len(got.Lost)+len(got.Unclear) > 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestPermissionsUnread: a binding that may stand in a file which cannot be read
// is not taken for gone, and a role that is not there grants what is not known.
func TestPermissionsUnread(t *testing.T) {
	const rule = "- {apiGroups: [''], resources: [pods], verbs: [get]}\n"
	got := compare(t, roles(rule, bind("b", "r")), tree{"rbac.yaml": broken}).Permissions
	if len(got.Lost) > 0 || len(got.Unclear) != 1 || !strings.Contains(got.Unclear[0].Why, "rbac.yaml") {
		t.Errorf("a broken file: %+v", got)
	}
	got = compare(t, roles(rule, ""), roles(rule, bind("b", "elsewhere"))).Permissions
	if len(got.Gained) != 1 || got.Gained[0].All == nil || got.Gained[0].All.Name != "elsewhere" {
		t.Errorf("a role that is not there: %+v", got)
	}
	got = compare(t, roles(rule, bind("b", "elsewhere")), roles(rule+"---\n"+strings.Replace(roles(rule, bind("b", "elsewhere"))["rbac.yaml"], "name: r,", "name: elsewhere,", 1), "")).Permissions
	if len(got.Gained)+len(got.Lost) > 0 || len(got.Unclear) != 1 {
		t.Errorf("a role that was not there: %+v", got)
	}
}
