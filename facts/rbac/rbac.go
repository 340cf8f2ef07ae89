// SPDX-License-Identifier: Apache-2.0

// Package rbac is the exact model of RBAC, and the facts that follow from roles,
// bindings, ServiceAccounts and workloads together.
//
// The Model answers who may do what and by which bindings (Can, WhoCan,
// Permissions), and who could come to: by impersonating, by a token, by binding
// or by escalating (Gains, Indirect). It decides as the API server's RBAC
// authorizer does, which a test against a real one holds it to. It does not know
// other authorizers.
//
// Two analysers state facts. Whole says whether what is named exists, and what
// is used; it does not look into the rules of roles. About everything that holds
// a pod:
//
//	kind: PodIdentity
//	facts:
//	  account: shop              # the ServiceAccount that the pod runs as
//	  accountFound: true
//	  tokenMounted: true         # what the pod says, else what the ServiceAccount says
//	  roles: [shop/reader, view] # that it holds, by groups too; Roles as NAMESPACE/NAME; 16 at the most
//
// About every RoleBinding and ClusterRoleBinding:
//
//	kind: BindingReferences
//	roleRef: …
//	facts:
//	  roleFound: true
//	  accounts: # the subjects that are ServiceAccounts
//	  - {name: shop, namespace: shop, found: true}
//
// About every ServiceAccount:
//
//	kind: AccountUse
//	facts:
//	  used: true   # something runs as it
//	  roles: [shop/reader, view] # that are bound to it, not to its groups
//
// Effective says what may be done. About every ServiceAccount, and about every
// user and group at the first binding that names it:
//
//	kind: Identity
//	facts:
//	  kind: ServiceAccount
//	  name: web
//	  namespace: shop
//	  external: false # a user, or a group that is not one of ServiceAccounts or of everyone
//	  everyone: false # all who can ask, all who are authenticated, or all ServiceAccounts
//	  found: true
//	  used: true      # something runs as it; of what is external that is supposed
//	  permissions:    # that are bound to it, not to its groups; each rule once, 64 at the most
//	  - verbs: [get]
//	    groups: [""]
//	    resources: [secrets]
//	    names: [web]        # none: any
//	    paths: []           # of URLs that are no resources
//	    anyVerb: false      # "*" is among the verbs; likewise anyGroup and anyResource
//	    anyGroup: false
//	    anyResource: false
//	    anyName: false      # the rule is about resources and names none of them
//	    anyPath: false
//	    clusterWide: false  # by a ClusterRoleBinding
//	    namespace: shop     # the first in which the rule is bound, of this many
//	    namespaces: 1
//	    binding: RoleBinding shop/web
//	    role: Role shop/web # in which the rule stands
//	    via: ServiceAccount shop/web # the subject of the binding
//	    certain: true       # false where a file does not say a namespace
//
// About everything that holds a pod:
//
//	kind: PodPermissions
//	facts:
//	  account: web
//	  tokenMounted: true
//	  permissions: # as of an Identity, and those of the groups of ServiceAccounts
//
// About every RoleBinding and ClusterRoleBinding:
//
//	kind: Grant
//	facts:
//	  clusterWide: true
//	  role: {kind: ClusterRole, name: view, found: true}
//	  rules:    # that it grants: the fields of a permission from verbs to anyPath, and role
//	  subjects: # as the fields of an Identity from kind to used, and
//	  - refused: "" # why the API server takes no such subject
//	  used: true    # by one of the subjects
//	  refused: ""   # why the API server takes no such binding
//
// About every Role and ClusterRole:
//
//	kind: RoleUse
//	facts:
//	  role: ClusterRole view
//	  kind: ClusterRole
//	  bound: true   # by itself, or as a part of an aggregated ClusterRole
//	  boundTo: ["ServiceAccount shop/web, which Deployment shop/web runs as, by RoleBinding shop/web"] # 4 at the most
//	  bindings: 1
//	  subjects: 1
//	  used: true
//	  aggregated: false    # it is put together from others
//	  aggregatesInto: []   # the ClusterRoles that it is a part of
//	  rules:               # that it grants, as of a Grant
//
// At the end of a list stands a value that is not known where there may be more:
// where objects are not complete, a binding could not be read, or more would have
// to be listed than are.
//
// What is not among the objects is absent where they are complete, and else
// unknown. The namespace of an object that names none is chosen when it is
// applied, and may be any: what is there in some namespace may be what it means.
// What Kubernetes brings by itself (ServiceAccounts called default, its own
// roles) is there without being among them. Roles that everyone holds by default
// (system:discovery and its like) are not counted.
package rbac

import (
	"slices"
	"strings"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// Whole derives the facts from all objects.
var Whole = facts.Whole{
	Kinds:  []string{"PodIdentity", "BindingReferences", "AccountUse"},
	From:   facts.From(facts.Sources{Pods: true, Kinds: []object.GroupKind{role, clusterRole, roleBinding, clusterRoleBinding, serviceAccount}}),
	Keep:   slim,
	Derive: facts.AllOf(derive),
	Parts:  &facts.Parts{Of: namespaceOf, Tell: tell, Derive: derive},
}

const group = "rbac.authorization.k8s.io"

// The kinds that are looked at beside those that hold pods.
var (
	role               = object.GroupKind{Group: group, Kind: "Role"}
	clusterRole        = object.GroupKind{Group: group, Kind: "ClusterRole"}
	roleBinding        = object.GroupKind{Group: group, Kind: "RoleBinding"}
	clusterRoleBinding = object.GroupKind{Group: group, Kind: "ClusterRoleBinding"}
	serviceAccount     = object.GroupKind{Kind: "ServiceAccount"}
	secret             = object.GroupKind{Kind: "Secret"}
)

// The fields of a pod's spec that say what it runs as.
const (
	accountField    = "serviceAccountName"
	oldAccountField = "serviceAccount"
	automountField  = "automountServiceAccountToken"
)

// mirror is the annotation of what stands in the API for a static pod, which
// has no ServiceAccount.
const mirror = "kubernetes.io/config.mirror"

// slim returns the few fields of an object that these facts come from. Of a
// role, its name is enough.
func slim(o *object.Object) any {
	switch o.GroupKind() {
	case role:
		return name{o.Namespace, o.Name}
	case clusterRole:
		return clusterRoleName(o.Name)
	case roleBinding, clusterRoleBinding:
		return facts.Slim(o, []string{"roleRef"}, []string{"subjects"})
	case serviceAccount:
		return facts.Slim(o, []string{automountField})
	}
	path, ok := object.PodPath(o.GroupKind())
	if !ok || isMirror(o) {
		return nil
	}
	spec := append(keys(path), "spec")
	with := func(field string) []string { return append(slices.Clip(spec), field) }
	return facts.Slim(o, with(accountField), with(oldAccountField), with(automountField))
}

// keys returns a path of fields.
func keys(path object.Path) []string {
	var out []string
	for _, s := range path {
		out = append(out, s.Field)
	}
	return out
}

// derive yields a fact about each object that has one, in the order of the
// sources.
func derive(p *facts.Part, env *facts.Env, yield func(*object.Object)) {
	x := newIndex(p, env)
	for _, k := range p.Kept {
		o, ok := k.(*object.Object)
		if !ok {
			continue
		}
		switch o.GroupKind() {
		case roleBinding, clusterRoleBinding:
			yield(x.references(o))
		case serviceAccount:
			yield(x.use(o))
		default:
			yield(x.identity(o))
		}
	}
}

// references is the fact about a binding.
func (x *index) references(o *object.Object) *object.Object {
	accounts, places := x.subjects(o.Root.Get("subjects"))
	fields := []object.Field{facts.Field("facts", facts.Map(
		facts.Field("roleFound", x.roleFound(o)),
		facts.Field("accounts", accounts),
	))}
	if ref := o.Root.Get("roleRef"); ref != nil {
		fields = append(fields, facts.Field("roleRef", ref))
	}
	return facts.New("BindingReferences", o, fields, places...)
}

// subjects are those subjects of a binding that are ServiceAccounts.
func (x *index) subjects(subjects *object.Node) (*object.Node, []facts.Place) {
	list := facts.List()
	if subjects == nil {
		return list, nil
	}
	if subjects.HasUnknown() {
		return object.NewUnknown(subjects.FirstUnknown()), nil
	}
	var places []facts.Place
	under := object.Path(nil).Fields("facts", "accounts")
	for i, s := range subjects.Items {
		if s.Get("kind").Str() != "ServiceAccount" {
			continue
		}
		n := name{s.Get("namespace").Str(), s.Get("name").Str()}
		places = append(places, facts.Place{
			Fact:   under.Append(object.Step{Item: true, Index: len(list.Items)}),
			Source: object.Path(nil).Fields("subjects").Append(object.ItemStep(subjects, i)),
		})
		list.Items = append(list.Items, facts.Map(
			facts.Field("name", object.NewString(n.name)),
			facts.Field("namespace", object.NewString(n.namespace)),
			facts.Field("found", x.accountFound(n)),
		))
	}
	return list, places
}

// use is the fact about a ServiceAccount.
func (x *index) use(o *object.Object) *object.Object {
	n := name{o.Namespace, o.Name}
	return facts.New("AccountUse", o, []object.Field{facts.Field("facts", facts.Map(
		facts.Field("used", x.used(n)),
		facts.Field("roles", x.roles(n, false)),
	))})
}

// identity is the fact about what holds a pod.
func (x *index) identity(o *object.Object) *object.Object {
	path, _ := object.PodPath(o.GroupKind())
	spec := path.Fields("spec")
	root := object.Path(nil).Fields("facts")
	account, field := accountOf(o)
	fields := []object.Field{facts.Field("account", account)}
	if account.Kind == object.Unknown {
		fields = append(fields,
			facts.Field("accountFound", account), facts.Field("tokenMounted", account), facts.Field("roles", account))
	} else {
		n := name{o.Namespace, account.Text}
		fields = append(fields,
			facts.Field("accountFound", x.accountFound(n)),
			facts.Field("tokenMounted", x.mounted(n, o.Root.At(append(keys(spec), automountField)...))),
			facts.Field("roles", x.roles(n, true)))
	}
	return facts.New("PodIdentity", o, []object.Field{facts.Field("facts", facts.Map(fields...))},
		facts.Place{Fact: root.Fields("account"), Source: spec.Fields(field)},
		facts.Place{Fact: root.Fields("accountFound"), Source: spec.Fields(field)},
		facts.Place{Fact: root.Fields("roles"), Source: spec.Fields(field)},
		facts.Place{Fact: root.Fields("tokenMounted"), Source: spec.Fields(automountField)})
}

// accountOf returns the ServiceAccount that a pod runs as, and the field that
// says so; the old field counts where the new one is empty.
func accountOf(o *object.Object) (account *object.Node, field string) {
	path, _ := object.PodPath(o.GroupKind())
	spec := o.Root.Seek(path.Fields("spec"))
	if spec != nil && spec.Kind == object.Unknown {
		return spec, accountField
	}
	for _, field := range []string{accountField, oldAccountField} {
		switch n := spec.Get(field); {
		case n == nil || n.Kind == object.String && n.Text == "":
		case n.Kind == object.String || n.Kind == object.Unknown:
			return n, field
		default:
			return object.NewUnknown(field + " is " + n.Kind.A() + ", not a name"), field
		}
	}
	return object.NewString("default"), accountField
}

// everyones are the roles that are bound to everyone in every cluster.
var everyones = []string{
	"system:basic-user", "system:cluster-trust-bundle-discovery", "system:discovery", "system:public-info-viewer",
	"system:service-account-issuer-discovery",
}

// builtInClusterRole says whether Kubernetes brings a ClusterRole by itself.
func builtInClusterRole(name string) bool {
	return strings.HasPrefix(name, "system:") || slices.Contains([]string{"admin", "cluster-admin", "edit", "view"}, name)
}

// builtInRole says whether Kubernetes brings a Role by itself.
func builtInRole(n name) bool {
	return n.namespace == "kube-system" && n.name == "extension-apiserver-authentication-reader" ||
		(n.namespace == "kube-system" || n.namespace == "kube-public") && strings.HasPrefix(n.name, "system:")
}
