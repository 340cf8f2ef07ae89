// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"strings"
	"sync"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// typeKey names an API as an object does.
type typeKey struct{ apiVersion, kind string }

// apiTable finds APIs.
type apiTable struct {
	byType map[typeKey]*api
	// byGroup has the APIs of a group that objects are made of, by resource and
	// by kind.
	byGroup map[string]*group
	// byKind has them by kind alone.
	byKind map[string][]*api
}

type group struct {
	resources, kinds map[string][]*api
	all              []*api
}

var apis = sync.OnceValue(func() *apiTable {
	file := read[apisFile]("apis")
	t := &apiTable{byType: map[typeKey]*api{}, byGroup: map[string]*group{}, byKind: map[string][]*api{}}
	t.add("", file.APIs)
	t.add("", file.Files)
	for _, p := range read[customFile]("custom").Products {
		t.add(p.Product, p.APIs)
	}
	return t
})

func (t *apiTable) add(product string, list []groupVersion) {
	for i := range list {
		for k := range list[i].Kinds {
			a := &list[i].Kinds[k]
			a.product = product
			t.addKind(list[i], a)
		}
	}
}

func (t *apiTable) addKind(gv groupVersion, a *api) {
	a.group, a.version, a.apiVersion = gv.Group, gv.Version, gv.apiVersion()
	t.byType[typeKey{gv.apiVersion(), a.Kind}] = a
	if a.Resource == "" {
		return // a file, or a custom resource
	}
	g := t.byGroup[gv.Group]
	if g == nil {
		g = &group{resources: map[string][]*api{}, kinds: map[string][]*api{}}
		t.byGroup[gv.Group] = g
	}
	g.all = append(g.all, a)
	g.resources[a.Resource] = append(g.resources[a.Resource], a)
	g.kinds[a.Kind] = append(g.kinds[a.Kind], a)
	t.byKind[a.Kind] = append(t.byKind[a.Kind], a)
}

// The places in which an API is named.
const (
	inObject    = "object"    // the object's own apiVersion and kind
	inRole      = "role"      // the rules of a Role
	inMatch     = "match"     // what a webhook or a policy is called for
	inParameter = "parameter" // the kind of a policy's parameters
	inTarget    = "target"    // what an autoscaler scales
	inOwner     = "owner"     // an owner reference
)

// use is one place in which an object names an API of which there is something
// to say.
type use struct {
	in string
	a  *api
	// named is how the object names it.
	named string
	path  object.Path
}

// uses returns the places in an object at which it names an API that the target
// version does not serve, or of which it warns.
func uses(o *object.Object, e *kindEntry, target minor) []use {
	var out []use
	if e != nil {
		for _, a := range e.apis {
			if a.apiVersion == o.APIVersion && tells(a, target) && !managed(o) {
				out = append(out, use{inObject, a, o.APIVersion + " " + o.Kind, object.Path{{Field: "apiVersion"}}})
			}
		}
		if e.references != nil {
			out = e.references(o, target, out)
		}
	}
	switch {
	case strings.HasPrefix(o.APIVersion, "constraints.gatekeeper.sh/"):
		out = matchKinds(o, target, out, facts.Path("spec", "match"))
	case strings.HasPrefix(o.APIVersion, "policies.kyverno.io/"):
		out = matchResources(o, target, out, facts.Path("spec", "matchConstraints"))
	}
	return owners(o, target, out)
}

// tells says whether there is something to say of an API at a version.
func tells(a *api, target minor) bool {
	return !a.served(target) || a.Deprecated > 0 && target >= a.Deprecated
}

// managed says whether the control plane made the object, not a person: it
// writes Endpoints for as long as there are any.
func managed(o *object.Object) bool {
	if o.Kind != "Endpoints" {
		return false
	}
	meta := o.Root.Get("metadata")
	labels, annotations := meta.Get("labels"), meta.Get("annotations")
	return labels.Get("endpoints.kubernetes.io/managed-by") != nil ||
		labels.Get("endpointslice.kubernetes.io/skip-mirror") != nil ||
		annotations.Get("endpoints.kubernetes.io/last-change-trigger-time") != nil ||
		annotations.Get("control-plane.alpha.kubernetes.io/leader") != nil
}

// apiUse returns the fact about an object that has uses.
func apiUse(o *object.Object, e *kindEntry, target minor) []*object.Object {
	found := uses(o, e, target)
	if len(found) == 0 {
		return nil
	}
	list := facts.List()
	var places []facts.Place
	for i, u := range found {
		list.Items = append(list.Items, u.node(target))
		places = append(places, facts.Place{
			Fact:   object.Path{{Field: "facts"}, {Field: "uses"}, {Item: true, Index: i}},
			Source: u.path,
		})
	}
	return []*object.Object{facts.New("APIUse", o, []object.Field{facts.Field("facts", facts.Map(
		text("target", target.String()),
		facts.Field("uses", list),
	))}, places...)}
}

// node returns what a fact says of a use.
func (u use) node(target minor) *object.Node {
	out := facts.Map(
		text("place", u.in),
		text("api", u.named),
		yes("served", u.a.served(target)),
		text("deprecated", u.a.Deprecated.String()),
		text("introduced", u.a.Introduced.String()),
		text("replacement", u.a.replacement()),
		text("advice", u.a.advice()),
	)
	switch {
	case u.a.product != "":
		out.Fields = append(out.Fields, text("by", u.a.product), text("removed", u.a.RemovedIn))
	case u.a.gone(target):
		out.Fields = append(out.Fields, text("by", "Kubernetes "+target.String()), text("removed", u.a.Removed.String()))
	default:
		out.Fields = append(out.Fields, text("by", "Kubernetes "+target.String()), text("removed", ""))
	}
	return out
}

// replacement returns what took the API's place: apps/v1, or with the kind where
// that is another one.
func (a *api) replacement() string {
	if a.ReplacementKind == "" {
		return a.Replacement
	}
	return a.Replacement + " " + a.ReplacementKind
}

// advice returns what to do, as the end of a sentence; "" where nothing took the
// API's place yet.
func (a *api) advice() string {
	switch r := a.replacement(); {
	case r != "" && a.Unchanged:
		return "; use " + r + ", which has the same fields"
	case r != "":
		return "; use " + r
	case a.Note != "":
		return "; " + a.Note
	}
	return ""
}

// owners adds owner references that name an API which is gone: the garbage
// collector cannot look their owners up any more.
func owners(o *object.Object, target minor, out []use) []use {
	list := o.Root.At("metadata", "ownerReferences")
	if list == nil {
		return out
	}
	for i, item := range facts.Items(list) {
		if u, ok := typed(item, target); ok {
			u.in, u.path = inOwner, facts.Path("metadata", "ownerReferences").Append(object.ItemStep(list, i)).Fields("apiVersion")
			out = append(out, u)
		}
	}
	return out
}

// typed returns the use of a reference with apiVersion and kind to an API that
// is gone.
func typed(ref *object.Node, target minor) (use, bool) {
	apiVersion, kind := ref.Get("apiVersion").Str(), ref.Get("kind").Str()
	a := apis().byType[typeKey{apiVersion, kind}]
	if a == nil || a.Resource == "" || !a.gone(target) {
		return use{}, false
	}
	return use{a: a, named: apiVersion + " " + kind}, true
}

// texts returns the strings of a list; it says false where one of them could not
// be read.
func texts(n *object.Node) (out []string, ok bool) {
	for _, item := range facts.Items(n) {
		if item.Kind != object.String {
			return nil, false
		}
		out = append(out, item.Text)
	}
	return out, n == nil || n.Kind == object.List
}

// groupOf returns the group of an apiVersion.
func groupOf(apiVersion string) string {
	group, _, ok := strings.Cut(apiVersion, "/")
	if !ok {
		return ""
	}
	return group
}
