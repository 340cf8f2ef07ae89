// SPDX-License-Identifier: Apache-2.0

package role

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"sconce.dev/sconce/facts/rbac"
)

// Options are how far roles may go beyond single requests.
type Options struct {
	// MaxNames is how many names of objects a rule lists at the most.
	MaxNames int
	// MaxNamespaces is how many namespaces get a Role each at the most, before
	// one ClusterRole stands for all.
	MaxNamespaces int
}

// DefaultOptions are those that are used where nothing is said.
var DefaultOptions = Options{MaxNames: 8, MaxNamespaces: 5}

// Wildcard is a place where a role allows more than was asked for, and why.
type Wildcard struct {
	// Role is the name of the role, Namespace that of a Role.
	Role      string `json:"role"`
	Namespace string `json:"namespace,omitempty"`
	// What is allowed: "get pods".
	What string `json:"what"`
	// Any is of what any is allowed: "name" or "namespace".
	Any    string `json:"any"`
	Reason string `json:"reason"`
}

// cell is the least that a rule can be about: a verb on a resource, or on a URL
// that is no resource.
type cell struct{ verb, group, resource, subresource, path string }

func (c cell) String() string {
	if c.path != "" {
		return c.verb + " " + c.path
	}
	return c.verb + " " + resourceName(c.group, c.resource, c.subresource)
}

// resourceName is a resource as people write it: deployments.apps/scale.
func resourceName(group, resource, subresource string) string {
	if group != "" {
		resource += "." + group
	}
	if subresource != "" {
		resource += "/" + subresource
	}
	return resource
}

// scope is where something is granted: in a namespace, or in the whole cluster
// where that is empty.
type scope string

// granted is what is granted of a cell in a scope.
type granted struct {
	names   []string // sorted; none stands for any
	count   int
	reasons []Wildcard
}

// synthesis makes the roles of one subject.
type synthesis struct {
	activity *Activity
	opts     Options
	// may says whether the subject may do something today; nil where that is
	// not known.
	may func(rbac.Request) bool

	grants map[scope]map[cell]*granted
	// common is what everyone may do by default, lost what was allowed and is
	// not today.
	common []Seen
	lost   []Seen
}

// Seen is a request that was seen, with how often.
type Seen struct {
	rbac.Request
	// Names is how many names of objects were seen with it.
	Names int `json:"names,omitempty"`
	Count int `json:"count"`
}

// String says the request: "get configmaps a in shop".
func (s Seen) String() string { return words(s.Request, s.Names) }

func words(r rbac.Request, names int) string {
	out := cell{r.Verb, r.Group, r.Resource, r.Subresource, r.Path}.String()
	switch {
	case r.Name != "":
		out += fmt.Sprintf(" %q", r.Name)
	case names > 0:
		out += fmt.Sprintf(" (%d names)", names)
	}
	if r.Namespace != "" {
		out += " in " + r.Namespace
	}
	return out
}

// request returns a request for what was seen; the name is empty for any.
func (w what) request(name string) rbac.Request {
	return rbac.Request{
		Verb: w.verb, Group: w.group, Resource: w.resource, Subresource: w.subresource, Namespace: w.namespace, Path: w.path, Name: name,
	}
}

func (w what) cell() cell { return cell{w.verb, w.group, w.resource, w.subresource, w.path} }

// requests returns each request of a use.
func (u *use) requests(w what) []rbac.Request {
	var out []rbac.Request
	if u.unnamed > 0 {
		out = append(out, w.request(""))
	}
	for _, name := range slices.Sorted(maps.Keys(u.names)) {
		out = append(out, w.request(name))
	}
	return out
}

// sortedUses goes through uses in a fixed order.
func sortedUses(m map[what]*use) []what {
	return slices.SortedFunc(maps.Keys(m), func(a, b what) int {
		return slices.Compare(
			[]string{a.namespace, a.path, a.group, a.resource, a.subresource, a.verb},
			[]string{b.namespace, b.path, b.group, b.resource, b.subresource, b.verb})
	})
}

// run finds what is to be granted.
func (s *synthesis) run() {
	s.grants = map[scope]map[cell]*granted{}
	byCell := map[cell][]what{}
	for _, w := range sortedUses(s.activity.allowed) {
		u := s.activity.allowed[w]
		if s.everyoneMay(w) {
			s.common = append(s.common, seen(w, u)...)
			continue
		}
		if s.keepAllowed(w, u) {
			byCell[w.cell()] = append(byCell[w.cell()], w)
		}
	}
	for _, c := range slices.SortedFunc(maps.Keys(byCell), compareCells) {
		s.grantCell(c, byCell[c])
	}
}

func compareCells(a, b cell) int {
	return slices.Compare([]string{a.path, a.group, a.resource, a.subresource, a.verb}, []string{b.path, b.group, b.resource, b.subresource, b.verb})
}

func seen(w what, u *use) []Seen {
	names := len(u.names)
	if names == 1 && u.unnamed == 0 {
		return []Seen{{Request: u.requests(w)[0], Count: u.count}}
	}
	return []Seen{{Request: w.request(""), Names: names, Count: u.count}}
}

// everyoneMay says whether everyone may do this by the roles that Kubernetes
// brings: it needs no role of its own.
func (s *synthesis) everyoneMay(w what) bool {
	return byDefault(w) && (s.may == nil || s.may(w.request("")))
}

// byDefault says whether the default roles system:discovery,
// system:public-info-viewer and system:basic-user allow it.
func byDefault(w what) bool {
	if w.path != "" {
		if w.verb != "get" {
			return false
		}
		for _, p := range []string{"/api", "/apis", "/healthz", "/livez", "/readyz", "/openapi", "/version"} {
			if w.path == p || strings.HasPrefix(w.path, p+"/") && (p == "/api" || p == "/apis" || p == "/openapi" || w.path == "/version/") {
				return true
			}
		}
		return false
	}
	if w.verb != "create" || w.subresource != "" || w.namespace != "" {
		return false
	}
	switch w.group {
	case "authorization.k8s.io":
		return w.resource == "selfsubjectaccessreviews" || w.resource == "selfsubjectrulesreviews"
	case "authentication.k8s.io":
		return w.resource == "selfsubjectreviews"
	}
	return false
}

// keepAllowed takes out what is not allowed today, and says whether anything is
// left.
func (s *synthesis) keepAllowed(w what, u *use) bool {
	if s.may == nil {
		return true
	}
	if u.unnamed > 0 && !s.may(w.request("")) {
		s.lost = append(s.lost, Seen{Request: w.request(""), Count: u.unnamed})
		u.unnamed = 0
	}
	for _, name := range slices.Sorted(maps.Keys(u.names)) {
		if !s.may(w.request(name)) {
			s.lost = append(s.lost, Seen{Request: w.request(name), Count: 1})
			delete(u.names, name)
		}
	}
	return u.unnamed > 0 || len(u.names) > 0
}

// grantCell grants a cell where it was asked for.
func (s *synthesis) grantCell(c cell, at []what) {
	everywhere := s.everywhere(c, at)
	if everywhere != nil {
		s.put("", c, everywhere)
	}
	for _, w := range at {
		if w.namespace == "" && c.path == "" && everywhere != nil {
			continue
		}
		g := s.named(c, []what{w}, w.request(""))
		if everywhere == nil || !covers(everywhere, g) {
			s.put(scope(w.namespace), c, g)
		}
	}
}

// covers says whether a grant in the whole cluster makes another needless.
func covers(wide, narrow *granted) bool {
	if len(wide.names) == 0 {
		return true
	}
	return len(narrow.names) > 0 && !slices.ContainsFunc(narrow.names, func(n string) bool { return !slices.Contains(wide.names, n) })
}

// everywhere returns what is granted in the whole cluster: what was asked for
// there, or in more namespaces than get a Role each.
func (s *synthesis) everywhere(c cell, at []what) *granted {
	var wide []what
	for _, w := range at {
		if w.namespace == "" {
			wide = append(wide, w)
		}
	}
	namespaces := len(at) - len(wide)
	if namespaces > s.opts.MaxNamespaces {
		all := what{c.verb, c.group, c.resource, c.subresource, "", c.path}
		g := s.named(c, at, all.request(""))
		if s.may == nil || s.all(all, g.names) {
			g.reasons = append(g.reasons, Wildcard{What: c.String(), Any: "namespace",
				Reason: fmt.Sprintf("seen in %d namespaces, and at most %d get a Role each", namespaces, s.opts.MaxNamespaces)})
			return g
		}
	}
	if len(wide) == 0 {
		return nil
	}
	return s.named(c, wide, wide[0].request(""))
}

// all says whether the subject may do something with all of the names, or with
// any where there are none.
func (s *synthesis) all(w what, names []string) bool {
	if len(names) == 0 {
		return s.may(w.request(""))
	}
	return !slices.ContainsFunc(names, func(n string) bool { return !s.may(w.request(n)) })
}

// named returns the grant for what was seen: by the names of objects where these
// are few and stable, or where any name is more than is allowed today.
func (s *synthesis) named(c cell, at []what, any rbac.Request) *granted {
	g := &granted{}
	names := map[string]struct{}{}
	unnamed, more := 0, false
	for _, w := range at {
		u := s.activity.allowed[w]
		g.count += u.count
		unnamed += u.unnamed
		more = more || u.more
		maps.Copy(names, u.names)
	}
	if c.path != "" {
		return g
	}
	g.names = slices.Sorted(maps.Keys(names))
	reason := s.anyName(c, g.names, unnamed, more)
	if reason == "" {
		return g
	}
	if unnamed == 0 && s.may != nil && !s.may(any) {
		return g // what is allowed today is held to names
	}
	g.names = nil
	g.reasons = []Wildcard{{What: c.String(), Any: "name", Reason: reason}}
	return g
}

// anyName says why a cell is granted for any name; empty where it is held to
// the names that were seen.
func (s *synthesis) anyName(c cell, names []string, unnamed int, more bool) string {
	switch {
	case unnamed > 0 && !nameCounts(c.verb, c.subresource):
		return c.verb + " is authorized without a name"
	case unnamed > 0:
		return fmt.Sprintf("was asked for without a name, %s", times(unnamed))
	case more:
		return fmt.Sprintf("seen with more than %d names", maxNames)
	case len(names) > s.opts.MaxNames:
		return fmt.Sprintf("seen with %d names, and at most %d are listed", len(names), s.opts.MaxNames)
	}
	if i := slices.IndexFunc(names, func(n string) bool { return generatedName(c.resource, n) }); i >= 0 {
		return fmt.Sprintf("the name %q looks generated, so that the next will be another", names[i])
	}
	return ""
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// The ends of names that the API server and controllers make up: five letters
// of an alphabet without vowels, a hash before that, a UUID, the minute of a
// CronJob's run.
var (
	randomEnd = regexp.MustCompile(`[-.]([0-9a-f]{6,10}-)?[bcdfghjklmnpqrstvwxz2456789]{5}$`)
	hashEnd   = regexp.MustCompile(`[-.][0-9a-f]{9,}$|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[-.][0-9]{8,}$`)
	digit     = regexp.MustCompile(`[0-9]`)
)

// generatedName says whether a name looks made up by a machine. Of pods and the
// like five letters are enough; elsewhere one must be a digit.
func generatedName(resource, name string) bool {
	if hashEnd.MatchString(name) {
		return true
	}
	end := randomEnd.FindString(name)
	switch resource {
	case "pods", "replicasets", "events", "endpointslices", "jobs":
		return end != ""
	}
	return digit.MatchString(end)
}

// put adds a grant.
func (s *synthesis) put(in scope, c cell, g *granted) {
	if s.grants[in] == nil {
		s.grants[in] = map[cell]*granted{}
	}
	s.grants[in][c] = g
}
