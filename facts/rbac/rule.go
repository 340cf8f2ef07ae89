// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"encoding/binary"
	"slices"
	"strings"
	"unique"

	"sconce.dev/sconce/object"
)

// all is the wildcard of verbs, groups, resources and paths.
const all = "*"

// Request is what somebody asks the API server for, in the words of a
// SubjectAccessReview. Resources are named as in a URL: pods, not Pod.
//
// Two things about real requests that its fields do not show: a request about one
// Namespace object has that namespace in Namespace (so that a RoleBinding there
// can allow to delete it), and a list, watch or deletecollection that is limited
// to one object by the field selector metadata.name has that name in Name, which
// a rule with resourceNames then allows.
type Request struct {
	Verb        string `json:"verb"`
	Group       string `json:"group,omitempty"`
	Resource    string `json:"resource,omitempty"`
	Subresource string `json:"subresource,omitempty"`
	// Name is empty for what is about no single object: list, create.
	Name string `json:"name,omitempty"`
	// Namespace is empty for what is cluster-wide: all namespaces, or a
	// resource that is in none.
	Namespace string `json:"namespace,omitempty"`
	// Path is that of a URL which is no resource, /metrics; all else but Verb
	// counts for nothing then.
	Path string `json:"path,omitempty"`
}

// combined is the resource as rules name it: pods/log.
func (r *Request) combined() string {
	if r.Subresource == "" {
		return r.Resource
	}
	return r.Resource + "/" + r.Subresource
}

// namespace is where the request is; paths are nowhere.
func (r *Request) namespace() string {
	if r.Path != "" {
		return ""
	}
	return r.Namespace
}

// Rule is one rule of a role, as the role says it. Rules are shared and must not
// be changed.
type Rule struct {
	Verbs, Groups, Resources, Names, Paths []string
	// Index is its place in the rules of the role that it stands in.
	Index int

	text unique.Handle[string] // the same for rules that say the same
	in   *keptRole
}

// Position is where a person edits the rule. A rule of a role that Kubernetes
// brings by itself has none; its note says so.
func (r *Rule) Position() object.Position {
	if r.in == nil {
		return object.Position{}
	}
	return r.in.place.position(object.Path(nil).Fields("rules").Append(object.Step{Item: true, Index: r.Index}))
}

// Role is the role that the rule stands in: of an aggregated ClusterRole, one of
// those that it is put together from.
func (r *Rule) Role() object.Ref {
	if r.in == nil {
		return object.Ref{}
	}
	return r.in.ref
}

// Allows says whether the rule allows a request, wherever it is bound. It decides
// as the API server does.
func (r *Rule) Allows(q Request) bool {
	if q.Path != "" {
		return has(r.Verbs, q.Verb) && slices.ContainsFunc(r.Paths, func(p string) bool { return coversPath(p, q.Path) })
	}
	return r.allowsSome(&q) && (len(r.Names) == 0 || slices.Contains(r.Names, q.Name))
}

// allowsSome says whether the rule allows a request about a resource for some
// name.
func (r *Rule) allowsSome(q *Request) bool {
	return has(r.Verbs, q.Verb) && has(r.Groups, q.Group) &&
		slices.ContainsFunc(r.Resources, func(s string) bool { return coversResource(s, q) })
}

// has says whether a list names something, or everything.
func has(list []string, s string) bool {
	return slices.ContainsFunc(list, func(v string) bool { return v == all || v == s })
}

// coversResource says whether what a rule names is the resource of a request:
// everything, the resource with its subresource, or that of any resource.
func coversResource(rule string, q *Request) bool {
	if rule == all || q.Subresource == "" {
		return rule == all || rule == q.Resource
	}
	resource, ok := strings.CutSuffix(rule, q.Subresource)
	resource, slash := strings.CutSuffix(resource, "/")
	return ok && slash && (resource == all || resource == q.Resource)
}

func coversPath(rule, path string) bool {
	if prefix := strings.TrimRight(rule, all); prefix != rule {
		return strings.HasPrefix(path, prefix)
	}
	return rule == path
}

// lists are the five lists of a rule, in the order in which they are written
// down.
func (r *Rule) lists() [5]*[]string {
	return [...]*[]string{&r.Verbs, &r.Groups, &r.Resources, &r.Names, &r.Paths}
}

// write writes down what a rule says, so that rules which say the same are kept
// once, however many roles have them.
func (r *Rule) write(to []byte) []byte {
	for _, list := range r.lists() {
		to = binary.AppendUvarint(to, uint64(len(*list)))
		for _, s := range *list {
			to = binary.AppendUvarint(to, uint64(len(s)))
			to = append(to, s...)
		}
	}
	return to
}

// readRule reads what write has written.
func readRule(text string) Rule {
	var r Rule
	count := func() int {
		n, size := binary.Uvarint([]byte(text[:min(len(text), binary.MaxVarintLen64)]))
		text = text[size:]
		return int(n)
	}
	for _, list := range r.lists() {
		n := count()
		if n == 0 {
			continue
		}
		*list = make([]string, n)
		for i := range *list {
			size := count()
			(*list)[i], text = text[:size], text[size:]
		}
	}
	return r
}
