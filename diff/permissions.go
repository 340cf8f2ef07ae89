// SPDX-License-Identifier: Apache-2.0

package diff

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
)

// Permissions are what subjects may do on one side and not on the other. What a
// group is given is told of the group, not of each of its members; and what a
// subject holds by itself instead of by a group is no change.
type Permissions struct {
	Gained []Permission `json:"gained"`
	Lost   []Permission `json:"lost"`
	// Unclear may be gained or lost: a role or a binding could not be read.
	Unclear []Permission `json:"unclear"`
}

// Permission is what a subject may do: every verb on every resource, or path, of
// the lists.
type Permission struct {
	Subject rbac.Subject `json:"subject"`
	// Namespace is that of the RoleBinding; with ClusterWide, it is everywhere.
	Namespace   string   `json:"namespace,omitempty"`
	ClusterWide bool     `json:"clusterWide,omitempty"`
	Verbs       []string `json:"verbs,omitempty"`
	// Resources are written RESOURCE.GROUP, as in deployments.apps; *.core is all
	// of the core group, * all of every group.
	Resources []string `json:"resources,omitempty"`
	// Names are those of the objects that it is limited to.
	Names []string `json:"names,omitempty"`
	// Paths are those of the API that are no resources.
	Paths []string `json:"paths,omitempty"`
	// All stands for whatever a role grants whose rules are not known.
	All *object.Ref `json:"allOf,omitempty"`
	// By are the bindings that cause it.
	By []Cause `json:"by"`
	// Why says what keeps it from being clear.
	Why string `json:"why,omitempty"`
}

// Cause is a binding that gives a permission, and the role that holds the rule.
type Cause struct {
	Binding  object.Ref      `json:"binding"`
	Position object.Position `json:"position"`
	Role     object.Ref      `json:"role"`
	// Rule is where the rule stands.
	Rule object.Position `json:"rule,omitzero"`
	// Change says what of it is not as on the other side.
	Change string `json:"change,omitempty"`
}

// scope is where a binding gives what it gives.
type scope struct {
	clusterWide bool
	namespace   string
}

func scopeOf(b *rbac.Binding) scope {
	return scope{b.Ref.Kind == "ClusterRoleBinding", b.Ref.Namespace}
}

// covers says whether what holds in one scope holds in another.
func (s scope) covers(o scope) bool { return s.clusterWide || s == o }

// atom is the smallest thing that a rule grants: one verb on one resource, by
// one name (=NAME) or, where that is empty, by any, or on one path; * where the
// rule has it. A resource holds its subresource: pods/log. Unknown is a role
// whose rules are not known.
//
// All atoms are of endless sets, so an atom that several others cover together
// is covered by one of them: what is compared atom by atom is compared exactly.
type atom struct {
	verb, group, resource, name, path string
	unknown                           object.Ref
}

// covers says whether an atom grants all that another does.
func (a *atom) covers(b *atom) bool {
	switch {
	case a.path != "" || b.path != "":
		return a.path != "" && b.path != "" && wide(a.verb, b.verb) && coversPath(a.path, b.path)
	case a.unknown != object.Ref{}:
		return a.unknown == b.unknown
	case b.unknown != object.Ref{}:
		return a.verb == "*" && a.group == "*" && a.resource == "*" && a.name == ""
	}
	return wide(a.verb, b.verb) && wide(a.group, b.group) && coversResource(a.resource, b.resource) && (a.name == "" || a.name == b.name)
}

func wide(a, b string) bool { return a == "*" || a == b }

// coversResource knows that * is every resource and subresource, and */sub a
// subresource of every resource.
func coversResource(a, b string) bool {
	if sub, ok := strings.CutPrefix(a, "*/"); ok {
		_, of, has := strings.Cut(b, "/")
		return has && of == sub
	}
	return wide(a, b)
}

func coversPath(a, b string) bool {
	prefix := strings.TrimRight(a, "*")
	return a == b || prefix != a && strings.HasPrefix(b, prefix)
}

// wild says whether an atom covers others than itself and what it covers by
// name.
func (a *atom) wild() bool {
	return a.verb == "*" || a.group == "*" || strings.HasPrefix(a.resource, "*") || strings.HasSuffix(a.path, "*")
}

// cover is what a subject holds in a scope.
type cover struct {
	exact map[atom]bool
	wild  []atom
	// unknown are roles among it whose rules are not known; huge says that a
	// rule is too large to be compared.
	unknown []object.Ref
	huge    bool
}

func (c *cover) has(a *atom) bool {
	unnamed := *a
	unnamed.name = ""
	return c.exact[*a] || c.exact[unnamed] || slices.ContainsFunc(c.wild, func(w atom) bool { return w.covers(a) })
}

func (c *cover) add(a *atom) {
	c.exact[*a] = true
	if a.wild() {
		c.wild = append(c.wild, *a)
	}
}

// maxAtoms is how many atoms one rule is taken apart into. One that holds more
// was not written for people; it is compared as a whole.
const maxAtoms = 50_000

// atoms takes a rule apart.
func atoms(r *rbac.Rule, clusterWide bool) (out []atom, ok bool) {
	names := []string{""}
	if len(r.Names) > 0 {
		names = nil
	}
	for _, n := range r.Names {
		names = append(names, "="+n)
	}
	if n := len(r.Verbs) * (len(r.Groups)*len(r.Resources)*len(names) + len(r.Paths)); n > maxAtoms {
		return nil, false
	}
	for _, verb := range r.Verbs {
		for _, group := range r.Groups {
			for _, resource := range r.Resources {
				for _, name := range names {
					out = append(out, atom{verb: verb, group: group, resource: resource, name: name})
				}
			}
		}
		if !clusterWide {
			continue // a path is in no namespace
		}
		for _, path := range r.Paths {
			out = append(out, atom{verb: verb, path: path})
		}
	}
	return out, true
}

// grant is a rule that a binding gives in a scope. Without a rule, it is whatever
// the binding's role grants.
type grant struct {
	scope   scope
	rule    *rbac.Rule
	role    object.Ref // that holds the rule, or whose rules are not known
	binding *rbac.Binding
}

// key is the same for what grants the same.
func (g *grant) key(keys map[*rbac.Rule]string) string {
	where := g.scope.namespace
	if g.scope.clusterWide {
		where = "*"
	}
	if g.rule == nil {
		return where + "\x00?" + g.role.String()
	}
	key, ok := keys[g.rule]
	if !ok {
		r := g.rule
		parts := make([]string, 0, 5)
		for _, list := range [][]string{r.Verbs, r.Groups, r.Resources, r.Names, r.Paths} {
			list = slices.Compact(slices.Sorted(slices.Values(list)))
			parts = append(parts, strings.Join(list, "\x01"))
		}
		key = strings.Join(parts, "\x02")
		keys[g.rule] = key
	}
	return where + "\x00" + key
}

// holder is one side of the comparison of permissions.
type holder struct {
	model    *rbac.Model
	direct   map[rbac.Subject][]grant
	bindings map[identity]*rbac.Binding
	keys     map[*rbac.Rule]string
}

func newHolder(m *rbac.Model) *holder {
	h := &holder{model: m, direct: map[rbac.Subject][]grant{}, bindings: map[identity]*rbac.Binding{}, keys: map[*rbac.Rule]string{}}
	for _, b := range m.Bindings() {
		h.bindings[identify(b.Ref)] = b
		given := grantsOf(b)
		told := map[rbac.Subject]bool{}
		for _, s := range b.Subjects {
			if !told[s] {
				told[s] = true
				h.direct[s] = append(h.direct[s], given...)
			}
		}
	}
	return h
}

// grantsOf are what a binding gives to each of its subjects.
func grantsOf(b *rbac.Binding) []grant {
	var out []grant
	for _, r := range b.Rules {
		out = append(out, grant{scopeOf(b), r, r.Role(), b})
	}
	if !b.RoleFound || b.Unknown != "" {
		out = append(out, grant{scope: scopeOf(b), role: b.Role, binding: b})
	}
	return out
}

// effective returns what a subject holds by itself and by its groups.
func (h *holder) effective(s rbac.Subject) []grant {
	out := h.direct[s]
	for _, group := range s.Groups() {
		out = append(slices.Clip(out), h.direct[rbac.Subject{Kind: rbac.Group, Name: group}]...)
	}
	return out
}

// comparePermissions compares who may do what.
func comparePermissions(from, to *rbac.Model, lost, added *unread) *Permissions {
	then, now := newHolder(from), newHolder(to)
	out := &Permissions{}
	gained := beyond(now, then, added, gainedWords)
	gone := beyond(then, now, lost, lostWords)
	for i, list := range [][]Permission{gained, gone} {
		for _, p := range list {
			switch {
			case p.Why != "":
				out.Unclear = append(out.Unclear, p)
			case i == 0:
				out.Gained = append(out.Gained, p)
			default:
				out.Lost = append(out.Lost, p)
			}
		}
	}
	for _, list := range []*[]Permission{&out.Gained, &out.Lost, &out.Unclear} {
		if *list == nil {
			*list = []Permission{}
		}
		slices.SortFunc(*list, Permission.compare)
	}
	return out
}

func (p Permission) compare(o Permission) int {
	return cmp.Or(
		cmp.Compare(p.Subject.Kind, o.Subject.Kind), cmp.Compare(p.Subject.Namespace, o.Subject.Namespace), cmp.Compare(p.Subject.Name, o.Subject.Name),
		-cmp.Compare(btoi(p.ClusterWide), btoi(o.ClusterWide)), cmp.Compare(p.Namespace, o.Namespace),
		slices.Compare(p.Resources, o.Resources), slices.Compare(p.Paths, o.Paths), slices.Compare(p.Names, o.Names), slices.Compare(p.Verbs, o.Verbs),
		cmp.Compare(p.Why, o.Why),
	)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// words say what of a binding causes a difference.
type words struct{ binding, subject, role string }

var (
	gainedWords = words{"the binding is new", "the subject was added to it", "its role grants more"}
	lostWords   = words{"the binding is gone", "the subject was taken out of it", "its role grants less"}
)

// beyond returns what subjects hold on a side beyond what they hold on the other.
func beyond(has, had *holder, missing *unread, w words) []Permission {
	var out []Permission
	for s, held := range has.direct {
		then := map[string]bool{}
		for i := range had.direct[s] {
			then[had.direct[s][i].key(had.keys)] = true
		}
		var candidates []grant
		for i := range held {
			if !then[held[i].key(has.keys)] {
				candidates = append(candidates, held[i])
			}
		}
		if len(candidates) > 0 {
			d := &holding{subject: s, had: had, effective: had.effective(s), covers: map[scope]*cover{}, missing: missing, words: w, found: map[place]map[atom][]Cause{}}
			for i := range candidates {
				d.take(&candidates[i])
			}
			out = append(out, d.permissions()...)
		}
	}
	return out
}

// holding is what one subject holds beyond what it held.
type holding struct {
	subject   rbac.Subject
	had       *holder
	effective []grant // what it held
	covers    map[scope]*cover
	missing   *unread
	words     words
	found     map[place]map[atom][]Cause
	huge      []Permission
}

// place is where something holds that is told together.
type place struct {
	scope scope
	why   string
}

// cover returns what the subject held in a scope.
func (h *holding) cover(in scope) *cover {
	if c := h.covers[in]; c != nil {
		return c
	}
	c := &cover{exact: map[atom]bool{}}
	h.covers[in] = c
	for i := range h.effective {
		e := &h.effective[i]
		if !e.scope.covers(in) {
			continue
		}
		if e.rule == nil {
			c.unknown = append(c.unknown, e.role)
			c.add(&atom{unknown: e.role})
			continue
		}
		c.add(&atom{unknown: e.binding.Role}) // whatever it grants, it is held
		all, ok := atoms(e.rule, e.scope.clusterWide)
		c.huge = c.huge || !ok
		for j := range all {
			c.add(&all[j])
		}
	}
	return c
}

// take notes what a grant gives that was not held before.
func (h *holding) take(g *grant) {
	all := []atom{{unknown: g.role}}
	if g.rule != nil {
		var ok bool
		if all, ok = atoms(g.rule, g.scope.clusterWide); !ok {
			r := g.rule
			h.huge = append(h.huge, Permission{
				Subject: h.subject, Namespace: g.scope.namespace, ClusterWide: g.scope.clusterWide,
				Verbs: r.Verbs, Resources: r.Resources, Names: r.Names, Paths: r.Paths, By: []Cause{h.cause(g)}, Why: tooLarge,
			})
			return
		}
	}
	before := h.cover(g.scope)
	why, cause := h.missing.why(g.binding.Ref), h.cause(g)
	for i := range all {
		a := &all[i]
		if before.has(a) {
			continue
		}
		at := place{g.scope, cmp.Or(why, unclear(g, a, before))}
		if h.found[at] == nil {
			h.found[at] = map[atom][]Cause{}
		}
		if causes := h.found[at][*a]; !slices.Contains(causes, cause) {
			h.found[at][*a] = append(causes, cause)
		}
	}
}

const tooLarge = "a rule of the role combines too many verbs, resources and names to be compared"

// unclear says why a subject may have held something that it is not known to
// have held.
func unclear(g *grant, a *atom, before *cover) string {
	switch {
	case g.rule == nil && g.binding.RoleFound:
		return g.binding.Unknown
	case a.unknown != (object.Ref{}):
		return "" // to be bound to one more role is a change, whatever that grants
	case len(before.unknown) > 0:
		return "on the other side it is bound to " + before.unknown[0].String() + ", whose rules are not known"
	case before.huge:
		return tooLarge
	}
	return ""
}

// cause says which binding gives it, and what of that is not as on the other
// side.
func (h *holding) cause(g *grant) Cause {
	c := Cause{Binding: g.binding.Ref, Position: g.binding.Position(), Role: g.role}
	if g.rule != nil {
		c.Rule = g.rule.Position()
	}
	switch other := h.had.bindings[identify(g.binding.Ref)]; {
	case other == nil:
		c.Change = h.words.binding
	case !slices.Contains(other.Subjects, h.subject):
		c.Change = h.words.subject
	case other.Role == g.binding.Role:
		c.Change = h.words.role
	}
	return c
}

// permissions folds what was found: verbs that hold on the same resources,
// resources on which the same verbs hold.
func (h *holding) permissions() []Permission {
	out := h.huge
	for at, found := range h.found {
		out = append(out, fold(h.subject, at, found)...)
	}
	return out
}

func fold(subject rbac.Subject, at place, found map[atom][]Cause) []Permission {
	// First the names and verbs on each resource, then the resources.
	type on struct {
		atom   atom // without its verb
		causes string
	}
	causes := map[string][]Cause{}
	verbs := map[on][]string{}
	for a, by := range found {
		slices.SortFunc(by, Cause.compare)
		key := causeKey(by)
		causes[key] = by
		thing := a
		thing.verb = ""
		verbs[on{thing, key}] = append(verbs[on{thing, key}], a.verb)
	}
	type same struct {
		verbs, name, causes, unknown string
		path                         bool
	}
	grouped := map[same]*Permission{}
	for o, v := range verbs {
		slices.Sort(v)
		k := same{strings.Join(v, "\x00"), o.atom.name, o.causes, "", o.atom.path != ""}
		if o.atom.unknown != (object.Ref{}) {
			k.unknown = o.atom.unknown.String()
		}
		p := grouped[k]
		if p == nil {
			p = &Permission{Subject: subject, Namespace: at.scope.namespace, ClusterWide: at.scope.clusterWide, Verbs: v, By: causes[o.causes], Why: at.why}
			if o.atom.name != "" {
				p.Names = []string{strings.TrimPrefix(o.atom.name, "=")}
			}
			grouped[k] = p
		}
		switch {
		case k.unknown != "":
			p.All, p.Verbs = &o.atom.unknown, nil
		case k.path:
			p.Paths = append(p.Paths, o.atom.path)
		default:
			p.Resources = append(p.Resources, resourceText(o.atom.group, o.atom.resource))
		}
	}
	return joinNames(slices.Collect(maps.Values(grouped)))
}

// joinNames tells what is the same of several names once.
func joinNames(all []*Permission) []Permission {
	type same struct{ verbs, resources, causes string }
	first := map[same]*Permission{}
	var out []*Permission
	for _, p := range all {
		slices.Sort(p.Resources)
		slices.Sort(p.Paths)
		k := same{strings.Join(p.Verbs, "\x00"), strings.Join(p.Resources, "\x00"), causeKey(p.By)}
		if f := first[k]; len(p.Names) > 0 && f != nil {
			f.Names = append(f.Names, p.Names...)
			continue
		} else if len(p.Names) > 0 {
			first[k] = p
		}
		out = append(out, p)
	}
	flat := make([]Permission, len(out))
	for i, p := range out {
		slices.Sort(p.Names)
		flat[i] = *p
	}
	return flat
}

// resourceText writes a resource with its group: deployments.apps,
// deployments.apps/scale, pods/log, *.core for all of the core group, * for all
// of every group.
func resourceText(group, resource string) string {
	name, sub, has := strings.Cut(resource, "/")
	switch {
	case group == "*" && resource == "*":
		return "*"
	case group == "" && name == "*":
		name += ".core"
	case group != "":
		name += "." + group
	}
	if has {
		name += "/" + sub
	}
	return name
}

func (c Cause) compare(o Cause) int {
	return cmp.Or(cmp.Compare(c.Binding.String(), o.Binding.String()), cmp.Compare(c.Role.String(), o.Role.String()), cmp.Compare(c.Rule.File, o.Rule.File), cmp.Compare(c.Rule.Line, o.Rule.Line))
}

// causeKey is the same for the same bindings and roles, whichever the rules.
func causeKey(by []Cause) string {
	var b strings.Builder
	for _, c := range by {
		b.WriteString(c.Binding.String() + "\x01" + c.Role.String() + "\x01" + c.Change + "\x00")
	}
	return b.String()
}
