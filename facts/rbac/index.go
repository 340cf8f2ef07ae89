// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// name is what an object is found by. The namespace is empty for what has none,
// and for what does not say in a file.
type name struct{ namespace, name string }

// clusterRoleName is the name of a ClusterRole, which has no namespace.
type clusterRoleName string

// names are objects by their names. What names no namespace may be in any.
type names[T comparable] struct {
	exact map[name][]T
	by    map[string][]T // by name alone
}

func (m *names[T]) add(n name, v T) {
	if m.exact == nil {
		m.exact, m.by = map[name][]T{}, map[string][]T{}
	}
	m.exact[n] = appendOther(m.exact[n], v)
	m.by[n.name] = appendOther(m.by[n.name], v)
}

// appendOther adds what is not in the list. Two are enough to say that not all
// are the same.
func appendOther[T comparable](list []T, v T) []T {
	if len(list) == 2 || slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// find returns what has the name, or may have it: more than one where these are
// not the same.
func (m *names[T]) find(n name) []T {
	if n.namespace == "" {
		return m.by[n.name]
	}
	if all := m.exact[n]; len(all) > 0 {
		return all
	}
	return m.exact[name{"", n.name}]
}

// mount says whether a ServiceAccount has its token mounted, or why that is not
// known.
type mount struct {
	mounted bool
	why     string
}

func mountOf(said *object.Node) mount {
	switch {
	case said == nil:
		return mount{mounted: true}
	case said.Kind == object.Bool:
		return mount{mounted: said.Bool()}
	case said.Kind == object.Unknown:
		return mount{why: said.Text}
	}
	return mount{why: automountField + " is " + said.Kind.A() + ", not true or false"}
}

// index finds what objects name.
type index struct {
	env          *facts.Env
	ask          func(key string) []any // what is not of this part
	clusterRoles map[clusterRoleName]bool
	localRoles   names[bool]
	accounts     names[mount]
	running      names[bool] // the ServiceAccounts that something runs as
	// unclear and unbound say why it is not known what something runs as, and
	// what is bound to whom.
	unclear, unbound string
	// bound are roles by the ServiceAccount that they are bound to; the namespace
	// is empty where the subject names none.
	bound map[name][]string
	// byName are roles by the name of the ServiceAccount, whatever its namespace.
	byName map[string][]string
	// ofAll are roles that are bound to every ServiceAccount, ofNamespace to
	// those of one.
	ofAll       []string
	ofNamespace map[string][]string
}

func newIndex(p *facts.Part, env *facts.Env) *index {
	x := &index{
		env: env, ask: p.Ask, clusterRoles: map[clusterRoleName]bool{},
		bound: map[name][]string{}, byName: map[string][]string{}, ofNamespace: map[string][]string{},
	}
	for _, k := range p.Kept {
		switch k := k.(type) {
		case clusterRoleName:
			x.clusterRoles[k] = true
		case name:
			x.localRoles.add(k, true)
		case *object.Object:
			x.object(k)
		}
	}
	return x
}

func (x *index) object(o *object.Object) {
	switch o.GroupKind() {
	case serviceAccount:
		x.accounts.add(name{o.Namespace, o.Name}, mountOf(o.Root.Get(automountField)))
	case roleBinding, clusterRoleBinding:
		x.binding(o)
	default:
		account, _ := accountOf(o)
		if account.Kind == object.Unknown {
			x.unclear = fmt.Sprintf("%s: %s", o.Ref, account.Text)
			return
		}
		x.running.add(name{o.Namespace, account.Text}, true)
	}
}

// binding adds the role of a binding to those of its subjects.
func (x *index) binding(o *object.Object) {
	if o.Root.HasUnknown() {
		x.unbound = fmt.Sprintf("%s: %s", o.Ref, o.Root.FirstUnknown())
	}
	role, to := grants(o)
	for _, g := range to {
		switch {
		case g.all:
			x.ofAll = appendNew(x.ofAll, role)
		case g.name == "":
			x.ofNamespace[g.namespace] = appendNew(x.ofNamespace[g.namespace], role)
		default:
			x.bound[g.account()] = appendNew(x.bound[g.account()], role)
			x.byName[g.name] = appendNew(x.byName[g.name], role)
		}
	}
}

// grantee is a ServiceAccount, those of a namespace where the name is empty, or
// all of them.
type grantee struct {
	namespace, name string
	all             bool
}

func (g grantee) account() name { return name{g.namespace, g.name} }

// grants returns the role of a binding, and to which ServiceAccounts it is
// bound.
func grants(o *object.Object) (role string, to []grantee) {
	kind, role := o.Root.At("roleRef", "kind").Str(), o.Root.At("roleRef", "name").Str()
	if kind == "Role" {
		role = o.Namespace + "/" + role
	} else if slices.Contains(everyones, role) {
		return role, nil
	}
	subjects := o.Root.Get("subjects")
	if subjects == nil {
		return role, nil
	}
	for _, s := range subjects.Items {
		switch kind, n := s.Get("kind").Str(), s.Get("name").Str(); {
		case kind == "ServiceAccount":
			to = append(to, grantee{namespace: s.Get("namespace").Str(), name: n})
		case kind == "User" && strings.HasPrefix(n, accountUser):
			namespace, account, _ := strings.Cut(n[len(accountUser):], ":")
			to = append(to, grantee{namespace: namespace, name: account})
		case kind == "Group" && (n == "system:authenticated" || n == "system:serviceaccounts"):
			to = append(to, grantee{all: true})
		case kind == "Group" && strings.HasPrefix(n, accountGroup):
			to = append(to, grantee{namespace: n[len(accountGroup):]})
		}
	}
	return role, to
}

// What the user names of ServiceAccounts, and the groups of those of a
// namespace, begin with.
const (
	accountUser  = "system:serviceaccount:"
	accountGroup = "system:serviceaccounts:"
)

// maxRoles is how many roles of a ServiceAccount are told: an operator may hold
// one in each of 10,000 namespaces.
const maxRoles = 16

// appendNew adds a role to a sorted list, which keeps the first of them in that
// order, whatever the order of the objects.
func appendNew(list []string, s string) []string {
	i, has := slices.BinarySearch(list, s)
	switch {
	case has || i == maxRoles:
		return list
	case len(list) == maxRoles:
		list = list[:maxRoles-1]
	}
	return slices.Insert(list, i, s)
}

// absent stands for something that was not found; in any namespace, where the
// object that names it may be in any.
func (x *index) absent(value *object.Node, what string) *object.Node {
	return x.env.Absent(value, what+" is not among what was read")
}

// accountFound says whether there is a ServiceAccount; each namespace has one
// called default.
func (x *index) accountFound(n name) *object.Node {
	if len(x.accounts.find(n)) > 0 || n.name == "default" || len(x.ask(keyAccount(n))) > 0 {
		return object.NewBool(true)
	}
	return x.absent(object.NewBool(false), fmt.Sprintf("the ServiceAccount %s", qualified(n.namespace, n.name)))
}

// roleFound says whether the role of a binding is there.
func (x *index) roleFound(o *object.Object) *object.Node {
	if ref := o.Root.Get("roleRef"); ref != nil && ref.HasUnknown() {
		return object.NewUnknown(ref.FirstUnknown())
	}
	n := name{o.Namespace, o.Root.At("roleRef", "name").Str()}
	if o.Root.At("roleRef", "kind").Str() != "Role" {
		if builtInClusterRole(n.name) || x.clusterRoles[clusterRoleName(n.name)] || len(x.ask(keyClusterRole(n.name))) > 0 {
			return object.NewBool(true)
		}
		return x.env.Absent(object.NewBool(false), fmt.Sprintf("the ClusterRole %s is not among what was read", n.name))
	}
	if len(x.localRoles.find(n)) > 0 || builtInRole(n) {
		return object.NewBool(true)
	}
	return x.absent(object.NewBool(false), fmt.Sprintf("the Role %s", qualified(n.namespace, n.name)))
}

// mounted says whether a pod has the token of its ServiceAccount mounted: what
// the pod says decides, else what the ServiceAccount says.
func (x *index) mounted(n name, said *object.Node) *object.Node {
	m := mountOf(said)
	if said == nil {
		all := x.accounts.find(n)
		switch len(all) {
		case 0:
			return x.absent(object.NewBool(true), fmt.Sprintf("the ServiceAccount %s", qualified(n.namespace, n.name)))
		case 1:
			m = all[0]
		default:
			m.why = fmt.Sprintf("several ServiceAccounts may be %s, and they differ in %s", qualified(n.namespace, n.name), automountField)
		}
	}
	if m.why != "" {
		return object.NewUnknown(m.why)
	}
	return object.NewBool(m.mounted)
}

// used says whether something runs as a ServiceAccount.
func (x *index) used(n name) *object.Node {
	if len(x.running.find(n)) > 0 {
		return object.NewBool(true)
	}
	if x.unclear != "" {
		return object.NewUnknown("what runs as the ServiceAccount: " + x.unclear)
	}
	return x.absent(object.NewBool(false), fmt.Sprintf("what runs as the ServiceAccount %s", qualified(n.namespace, n.name)))
}

// roles are the roles that are bound to a ServiceAccount, or also those that are
// bound to the groups that it is in.
func (x *index) roles(n name, groups bool) *object.Node {
	of := [][]string{x.bound[n], x.bound[name{"", n.name}]}
	if n.namespace == "" {
		of[0] = x.byName[n.name]
	}
	elsewhere := x.ask(grantee{namespace: n.namespace, name: n.name}.key())
	if groups {
		of = append(of, x.ofNamespace[n.namespace], x.ofAll)
		elsewhere = slices.Concat(elsewhere, x.ask(grantee{namespace: n.namespace}.key()), x.ask(grantee{all: true}.key()))
	}
	var out []string
	for _, roles := range of {
		for _, r := range roles {
			out = appendNew(out, r)
		}
	}
	for _, r := range elsewhere {
		out = appendNew(out, r.(string))
	}
	switch {
	case len(out) > 0:
		return facts.Strings(out)
	case x.unbound != "":
		return object.NewUnknown("what is bound to the ServiceAccount: " + x.unbound)
	case groups && n.namespace == "" && len(x.ofNamespace) > 0:
		return object.NewUnknown("what is bound to the ServiceAccounts of the namespace: the object does not say in which namespace it is")
	}
	return x.absent(facts.List(), fmt.Sprintf("a binding of the ServiceAccount %s", qualified(n.namespace, n.name)))
}

// qualified returns NAMESPACE/NAME, or the name alone where the namespace is not
// said.
func qualified(namespace, name string) string {
	if namespace == "" {
		return name
	}
	return namespace + "/" + name
}
