// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// nameLabel is the label that every namespace has by itself.
const nameLabel = "kubernetes.io/metadata.name"

// space is a namespace and what is in it.
type space struct {
	name   string // empty where objects name none
	object *object.Object
	// labels are those of its Namespace object, and the one that it has by
	// itself.
	labels    labels
	first     *object.Object // of its workloads
	workloads int
	classes   []*class
	byID      map[string]*class
	policies  []*policy
	services  map[string]*object.Object
	quota     bool
	limits    bool
	// near are the namespaces that may be the same one: those that objects of
	// the same source name, of what names none, and the other way round.
	near []*space
}

// class is the pods of a namespace that have the same labels.
type class struct {
	labels labels
	ports  map[string]bool // names
	// selected says, by direction, whether a policy selects them; it is worked
	// out once.
	selected *[2]truth
}

// subject is the object at which facts about the namespace stand.
func (s *space) subject() *object.Object {
	if s.object != nil {
		return s.object
	}
	return s.first
}

// index finds what is in a namespace.
type index struct {
	env       *facts.Env
	part      string
	ask       func(key string) []any // what is not of this part
	spaces    map[string]*space
	order     []*space
	elsewhere []*space                     // of other parts, as far as they are told of
	nameless  map[string]*space            // by source
	named     map[string]map[string]*space // by source
	above     []*policy                    // policies above namespaces
	tier      *object.Object               // what shows that there may be some
	admission []*object.Object
	classes   map[*workload]*class
	hosts     map[string][]claim
	found     map[string]truth // what selectors choose anywhere
	// What is in no named namespace, wherever it stands: it may be in the same
	// one.
	strayPolicies []*policy
	strayClasses  map[string]*class
	strayServices map[string]bool
}

func newIndex(p *facts.Part, env *facts.Env) *index {
	x := &index{
		env: env, part: p.Name, ask: p.Ask, classes: map[*workload]*class{}, spaces: map[string]*space{}, nameless: map[string]*space{}, named: map[string]map[string]*space{},
		hosts: map[string][]claim{}, found: map[string]truth{},
		strayClasses: map[string]*class{}, strayServices: map[string]bool{},
	}
	for _, k := range p.Kept {
		switch k := k.(type) {
		case *workload:
			x.workload(k)
		case *object.Object:
			x.object(k)
		}
	}
	x.join()
	x.askPolicies()
	return x
}

// source is what objects that name no namespace share one by: their chart or
// overlay, or the folder of their file.
func source(o *object.Object) string {
	name := o.Origin.Source
	if o.Origin.Renderer == "" {
		name = name[:strings.LastIndexAny(name, `/\`)+1]
	}
	return name
}

// space returns the namespace that an object is in.
func (x *index) space(o *object.Object) *space {
	from := source(o)
	if o.Namespace == "" {
		s := x.nameless[from]
		if s == nil {
			s = x.add("")
			x.nameless[from] = s
		}
		return s
	}
	s := x.called(o.Namespace)
	by := x.named[from]
	if by == nil {
		by = map[string]*space{}
		x.named[from] = by
	}
	by[s.name] = s
	return s
}

// called returns the namespace of a name.
func (x *index) called(name string) *space {
	s := x.spaces[name]
	if s == nil {
		s = x.add(name)
		x.spaces[name] = s
	}
	return s
}

func (x *index) add(name string) *space {
	s := &space{name: name, labels: labels{unread: true}, byID: map[string]*class{}, services: map[string]*object.Object{}}
	if name != "" {
		s.labels = s.labels.with(pair{key: nameLabel, value: name})
	}
	x.order = append(x.order, s)
	return s
}

// join finds the namespaces that may be the same.
func (x *index) join() {
	for _, s := range x.order {
		if s.name != "" {
			continue
		}
		x.strayPolicies = append(x.strayPolicies, s.policies...)
		for id, c := range s.byID {
			x.strayClasses[id] = c
		}
		for name := range s.services {
			x.strayServices[name] = true
		}
	}
	for from, nameless := range x.nameless {
		for _, s := range x.named[from] {
			nameless.near = append(nameless.near, s)
			s.near = append(s.near, nameless)
		}
	}
	place := make(map[*space]int, len(x.order))
	for i, s := range x.order {
		place[s] = i
	}
	for _, s := range x.order {
		slices.SortFunc(s.near, func(a, b *space) int { return place[a] - place[b] })
	}
}

func (x *index) workload(w *workload) {
	s := x.space(w.o)
	if s.first == nil {
		s.first = w.o
	}
	s.workloads++
	id := w.labels.id()
	c := s.byID[id]
	if c == nil {
		c = &class{labels: w.labels, ports: map[string]bool{}}
		s.byID[id] = c
		s.classes = append(s.classes, c)
	}
	for _, p := range w.ports {
		c.ports[p] = true
	}
	x.classes[w] = c
}

func (x *index) object(o *object.Object) {
	switch kind := kindOf(o); kind {
	case declaration:
		x.declaration(o)
	case networkPolicy, ciliumPolicy, calicoPolicy:
		s := x.space(o)
		s.policies = append(s.policies, readPolicies(kind, o)...)
	case ciliumClusterPolicy, calicoClusterPolicy, adminPolicy, baselinePolicy:
		x.above = append(x.above, readPolicies(kind, o)...)
		x.tiered(o)
	case resourceDefinition:
		x.tiered(o)
	case quota:
		x.space(o).quota = true
	case limitRange:
		x.space(o).limits = true
	case service:
		x.space(o).services[o.Name] = o
	case ingress:
		x.claim(x.space(o), o)
	case route:
		x.space(o) // before join
	case admissionPolicy:
		x.admission = append(x.admission, o)
	}
}

// declaration adds a Namespace object. Where there are two, as in a base and a
// patch, what either says holds.
func (x *index) declaration(o *object.Object) {
	s := x.called(o.Name)
	own := readLabels(o.Root.At("metadata", "labels"))
	if s.object == nil {
		s.object = o
		s.labels.unread = false
	}
	s.labels = s.labels.merge(own)
}

func (x *index) tiered(o *object.Object) {
	if x.tier == nil {
		x.tier = o
	}
}

// first is the object at which facts about the cluster stand: the first
// Namespace, else the first workload.
func (x *index) first() *object.Object {
	var workload *object.Object
	for _, s := range slices.Concat(x.order, x.elsewhere) {
		if s.object != nil {
			return s.object
		}
		if workload == nil {
			workload = s.first
		}
	}
	return workload
}

// node is a truth as a value of a fact: what was not found is absent where the
// objects are complete, and else not known for the reason given.
func (x *index) node(t truth, format string, args ...any) *object.Node {
	switch t {
	case yes:
		return object.NewBool(true)
	case no:
		if x.env.Complete {
			return object.NewBool(false)
		}
		return object.NewUnknown(fmt.Sprintf(format, args...) + " is not among what was read")
	}
	return object.NewUnknown(fmt.Sprintf(format, args...) + ": what decides it is not said, or could not be read")
}

// String is the namespace as a person reads it.
func (s *space) String() string {
	if s.name == "" {
		return "(not named)"
	}
	return s.name
}

// namespace is the fact about a namespace.
func (x *index) namespace(s *space, of *object.Object) *object.Object {
	at := object.Path(nil).Fields("metadata", "name")
	if s.object == nil && of.Root.At("metadata", "namespace") != nil {
		at = object.Path(nil).Fields("metadata", "namespace")
	}
	egress := x.defaultDeny(s, outgoing)
	return facts.New("Namespace", of, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("name", object.NewString(s.name)),
		facts.Field("workloads", object.NewInt(int64(s.workloads))),
		facts.Field("ingress", facts.Map(facts.Field("defaultDeny", x.defaultDeny(s, incoming)))),
		facts.Field("egress", facts.Map(facts.Field("defaultDeny", egress), facts.Field("dns", x.dns(s, egress)))),
		facts.Field("quota", x.node(s.has(func(s *space) truth { return truthOf(s.quota) }), "a ResourceQuota of the namespace %s", s)),
		facts.Field("limits", x.node(s.has(func(s *space) truth { return truthOf(s.limits) }), "a LimitRange of the namespace %s", s)),
	))}, facts.Place{Fact: object.Path(nil).Fields("facts"), Source: at})
}

// has says whether something holds for the namespace. What holds for one that
// may be the same may hold for it.
func (s *space) has(holds func(*space) truth) truth {
	out := holds(s)
	for _, near := range s.near {
		out = max(out, min(holds(near), unknown))
	}
	return out
}

// cluster is the fact about the cluster's admission.
func (x *index) cluster(of *object.Object) *object.Object {
	return facts.New("Cluster", of, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("admission", x.node(x.refuses(), "a policy engine that refuses what breaks its policies")),
	))}, facts.Place{Fact: object.Path(nil).Fields("facts"), Source: object.Path(nil).Fields("metadata", "name")})
}

// The labels and levels of Pod Security admission.
const (
	enforceLabel = "pod-security.kubernetes.io/enforce"
	baseline     = "baseline"
	restricted   = "restricted"
)

// refuses says whether something is set up that refuses objects: a level of the
// Pod Security Standards in a namespace, or a policy that is more than a warning.
func (x *index) refuses() truth {
	out := no
	for _, s := range slices.Concat(x.order, x.elsewhere) {
		level, has, known := s.labels.get(enforceLabel)
		switch {
		case s.object == nil || has == no:
		case known == yes:
			out = max(out, truthOf(level == baseline || level == restricted))
		default:
			out = max(out, unknown)
		}
	}
	for _, o := range x.admission {
		out = max(out, refuses(o))
	}
	return out
}

// refuses says whether a policy, or what binds one, refuses what breaks it.
func refuses(o *object.Object) truth {
	if o.Root.Get("spec").HasUnknown() {
		return unknown
	}
	switch o.Group() {
	case constraintGroup:
		action := o.Root.At("spec", "enforcementAction").Str()
		return truthOf(action == "" || action == "deny")
	case "kyverno.io":
		action := o.Root.At("spec", "validationFailureAction").Str()
		out := truthOf(strings.EqualFold(action, "enforce"))
		for _, rule := range facts.Items(o.Root.At("spec", "rules")) {
			own := rule.At("validate", "failureAction").Str()
			out = max(out, truthOf(strings.EqualFold(own, "enforce")))
		}
		return out
	}
	for _, action := range facts.Items(o.Root.At("spec", "validationActions")) {
		if action.Str() == "Deny" {
			return yes
		}
	}
	return no
}
