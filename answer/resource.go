// SPDX-License-Identifier: Apache-2.0

package answer

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"sync"

	"sconce.dev/sconce/facts/rbac"
)

// Resource is what the API serves under a name.
type Resource struct {
	Name, Group, Kind string
	Short             []string
	Namespaced        bool
}

//go:embed resources.txt
var resourcesText string

// builtIn are the resources of Kubernetes itself.
var builtIn = sync.OnceValue(func() []Resource {
	var out []Resource
	for line := range strings.Lines(resourcesText) {
		f := strings.Fields(line)
		if len(f) != 5 || f[0] == "#" {
			continue
		}
		r := Resource{Name: f[0], Kind: f[2], Namespaced: f[3] == "namespaced"}
		if f[1] != "-" {
			r.Group = f[1]
		}
		if f[4] != "-" {
			r.Short = strings.Split(f[4], ",")
		}
		out = append(out, r)
	}
	return out
})

// Question is a request as a person asks about it.
type Question struct {
	rbac.Request
	// Anywhere says that no namespace was named: the answer says where.
	Anywhere bool `json:"anywhere,omitempty"`
	// Scoped says that the resource is in no namespace.
	Scoped bool `json:"clusterScoped,omitempty"`
	// Note says what was made of the words, where that is not plain.
	Note string `json:"note,omitempty"`
}

// Ask reads a request in the words of kubectl: VERB, RESOURCE (pods, po, Pod,
// deployments.apps, pods/exec, secret/token, */scale, *) or a path (/metrics),
// and NAME; the API serves the resources beside those of Kubernetes itself.
func Ask(verb, resource, name, subresource, namespace string, served []Resource) (Question, error) {
	q := Question{Request: rbac.Request{Verb: strings.ToLower(verb), Name: name, Namespace: namespace}, Anywhere: namespace == ""}
	if !slices.Contains(verbs, q.Verb) && !strings.HasPrefix(q.Verb, "impersonate") {
		q.note(fmt.Sprintf("%q is no verb of Kubernetes itself, and is taken as it is%s", verb, near(verb, verbs)))
	}
	if strings.HasPrefix(resource, "/") {
		return q.ofPath(resource, name, subresource)
	}
	what, rest, slash := strings.Cut(resource, "/")
	if what == "" || slash && rest == "" || strings.ContainsAny(resource, " \t,") {
		return q, fmt.Errorf("%q is no resource; want one like pods, deployments.apps, pods/exec, secret/NAME or /metrics", resource)
	}
	r, known := find(what, served)
	q.Resource, q.Group = r.Name, r.Group
	q.Scoped = known && !r.Namespaced && r.Name != "*"
	switch {
	case !slash:
	case name == "" && subresource == "" && !isSubresource(r, rest):
		q.Name = rest // TYPE/NAME
	case subresource != "":
		q.Name = rest
		if name != "" {
			return q, fmt.Errorf("both %q and %q are a name", rest, name)
		}
	default:
		q.Subresource = rest
	}
	if subresource != "" {
		q.Subresource = subresource
	}
	if q.Scoped {
		if q.Anywhere = false; namespace != "" {
			q.note(fmt.Sprintf("%s are in no namespace: what is asked is who may do it in the cluster", r.Name))
		}
		// A namespace is, to the API server, in itself.
		if q.Namespace = ""; r.Name == "namespaces" {
			q.Namespace = q.Name
		}
	}
	if !known {
		q.note(fmt.Sprintf("%q is not among the resources that are known, and is taken as it is%s", what, near(what, names(served))))
	}
	return q, nil
}

// verbs are those that Kubernetes itself asks about.
var verbs = []string{
	"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "*",
	"use", "bind", "escalate", "impersonate", "approve", "sign", "attest",
	"post", "put", "head", "options", "connect", "proxy",
}

// note adds to what was made of the words.
func (q *Question) note(s string) { q.Note = joined(q.Note, "; ", s) }

// noteNamespace says where nothing that was read is in the namespace that is
// asked of, which may be no such namespace.
func (q *Question) noteNamespace(m *rbac.Model) {
	if q.Namespace == "" || q.Scoped {
		return
	}
	var there []string
	for _, a := range m.Accounts() {
		there = append(there, a.Subject.Namespace)
	}
	for _, b := range m.Bindings() {
		there = append(there, b.Ref.Namespace)
	}
	if there = distinct(there); !slices.Contains(there, q.Namespace) {
		q.note(fmt.Sprintf("no ServiceAccount and no RoleBinding that was read is in the namespace %s%s", q.Namespace, near(q.Namespace, there)))
	}
}

func (q Question) ofPath(path, name, subresource string) (Question, error) {
	if name != "" || subresource != "" {
		return q, fmt.Errorf("the path %s takes no name and no subresource", path)
	}
	q.Path, q.Anywhere, q.Scoped, q.Namespace = path, false, true, ""
	return q, nil
}

// find returns the resource that somebody means.
func find(what string, served []Resource) (Resource, bool) {
	if what == "*" {
		return Resource{Name: "*", Group: "*", Namespaced: true}, true
	}
	word, group, _ := strings.Cut(what, ".")
	lower := strings.ToLower(word)
	for _, r := range slices.Concat(builtIn(), served) {
		if strings.Contains(what, ".") && r.Group != group && !versioned(group, r.Group) {
			continue
		}
		if lower == r.Name || lower == strings.ToLower(r.Kind) || slices.Contains(r.Short, lower) {
			return r, true
		}
	}
	return Resource{Name: lower, Group: group, Namespaced: true}, false
}

// versioned says whether a text is a version and a group, as in v1.apps.
func versioned(text, group string) bool {
	version, rest, ok := strings.Cut(text, ".")
	return ok && rest == group && strings.HasPrefix(version, "v")
}

// subresources are those of Kubernetes itself.
var subresources = []string{
	"status", "scale", "exec", "attach", "log", "portforward", "proxy", "eviction", "binding", "ephemeralcontainers", "resize",
	"token", "finalize", "finalizers", "approval", "rollback", "metrics", "stats", "spec", "checkpoint", "configz", "healthz", "pods", "*",
}

// isSubresource says whether what stands behind a slash is a subresource, and
// not the name of an object.
func isSubresource(r Resource, rest string) bool {
	return r.Name == "*" || r.Group == "authentication.k8s.io" || slices.Contains(subresources, rest)
}

func names(served []Resource) []string {
	var out []string
	for _, r := range slices.Concat(builtIn(), served) {
		out = append(out, r.Name)
	}
	return out
}

// near returns a question for what somebody may have meant; nothing where no
// name is near.
func near(typed string, known []string) string {
	best, least := "", max(1, len(typed)/3)+1
	for _, k := range known {
		if d := distance(strings.ToLower(typed), strings.ToLower(k)); d < least {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// distance is how many letters must be put in, left out, replaced or swapped
// with their neighbour to make one word of another.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	rows := make([][]int, len(x)+1)
	for i := range rows {
		rows[i] = make([]int, len(y)+1)
		rows[i][0] = i
	}
	for j := range y {
		rows[0][j+1] = j + 1
	}
	for i := 1; i <= len(x); i++ {
		for j := 1; j <= len(y); j++ {
			cost := 1
			if x[i-1] == y[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && x[i-1] == y[j-2] && x[i-2] == y[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(x)][len(y)]
}
