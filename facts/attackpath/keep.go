// SPDX-License-Identifier: Apache-2.0

package attackpath

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

	"sconce.dev/sconce/control"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/controlplane"
	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/facts/upgrade"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Kept is what the graph needs of an object. It is not changed once it is made.
type Kept struct {
	ref               object.Ref
	identity, network any

	workload  *workload
	account   *accountInfo
	secret    *secretInfo
	node      *nodeInfo
	namespace *namespaceInfo
	service   *serviceInfo
	claim     bool
	// matches are edges whose condition the object does not meet; of a workload
	// they stand in its spec.
	matches   []match
	positions []object.Position
	backends  []serviceRef
	// unclear is why it may call other Services than these.
	unclear string
	// about is the object, as far as facts about it need it.
	about *object.Object
}

// match says that a condition is not met, or that this is not known.
type match struct {
	edge      int
	container int // -1: not of one container
	path      object.Path
	words     string
	name      string // of what the edge leads to
	possible  string // why it is not known
}

// workload is an object that holds a pod.
type workload struct {
	*spec
	owner string // Deployment/web: what its pods are known by
	pod   bool   // it is a Pod itself
	node  string
	rank  int8 // of what its pods are made from, owners come first
}

// accountInfo is a ServiceAccount.
type accountInfo struct {
	mounts  *bool
	unknown string
}

// secretInfo is a Secret; account is whose token it holds, and unknown why it may
// be that of any of the namespace.
type secretInfo struct{ account, unknown string }

// nodeInfo is a Node; unknown is why it may be one of the control plane.
type nodeInfo struct {
	controlPlane bool
	unknown      string
}

// namespaceInfo is a Namespace, with the level of Pod Security that it enforces.
type namespaceInfo struct{ level, unknown string }

// serviceInfo is a Service; unknown is why it may select other pods.
type serviceInfo struct {
	selector map[string]string
	unknown  string
}

// serviceRef names a Service.
type serviceRef struct{ namespace, name string }

// Keep returns what the graph needs of an object, for clusters of the newest
// version; nil for nothing.
func Keep(o *object.Object) any { return keeperFor(-1).keep(o) }

// KeepFor returns Keep for clusters of version 1.minor.
func KeepFor(env *facts.Env) func(o *object.Object) any {
	if env == nil || env.Minor <= 0 {
		return Keep
	}
	return keeperFor(env.Minor).keep
}

// keeper holds the conditions for a version of clusters.
type keeper struct {
	env   facts.Env
	pods  []*condition                      // about what holds a pod
	kinds map[object.GroupKind][]*condition // about other kinds
	facts map[object.GroupKind][]*condition // about facts
	memo  specs
}

type condition struct {
	edge    *Edge
	control *control.Control
}

var keepers sync.Map // int -> *keeper

func keeperFor(minor int) *keeper {
	if k, ok := keepers.Load(minor); ok {
		return k.(*keeper)
	}
	k, _ := keepers.LoadOrStore(minor, newKeeper(minor))
	return k.(*keeper)
}

// newest stands for the newest version in what derives facts.
const newest = 1 << 20

func newKeeper(minor int) *keeper {
	k := &keeper{env: facts.Env{Minor: minor, Patch: -1}, kinds: map[object.GroupKind][]*condition{}, facts: map[object.GroupKind][]*condition{}}
	if minor < 0 {
		k.env.Minor = newest
	}
	for _, e := range mustEdges() {
		if e.Condition == nil {
			continue
		}
		c := &condition{e, e.control}
		if len(e.Condition.Versions) > 0 && minor >= 0 {
			if at, err := e.Condition.controlOf(e.Name, control.Options{KubernetesVersion: control.Minor(minor)}); err == nil {
				c.control = at
			}
		}
		switch {
		case e.Condition.ofPods():
			k.pods = append(k.pods, c)
		default:
			for _, kind := range e.Condition.Match.Kinds {
				gk := object.GroupKind{Group: kind.Group, Kind: kind.Kind}
				of := k.kinds
				if gk.Group == facts.Group {
					of = k.facts
				}
				of[gk] = append(of[gk], c)
			}
		}
	}
	return k
}

// singles are what derives the facts that conditions may be about.
var singles = []facts.Single{controlplane.Single, upgrade.Single}

func (k *keeper) keep(o *object.Object) any {
	out := &Kept{ref: o.Ref, identity: rbac.Keep(o), network: network.Keep(o)}
	k.keepOwn(out, o)
	if out.identity == nil && out.network == nil && !out.more() {
		return nil
	}
	return out
}

// more says whether anything beside what the models keep is kept.
func (k *Kept) more() bool {
	return k.workload != nil || k.account != nil || k.secret != nil || k.node != nil || k.namespace != nil || k.service != nil || k.claim || len(k.matches) > 0
}

func (k *keeper) keepOwn(out *Kept, o *object.Object) {
	if path, ok := object.PodPath(o.GroupKind()); ok {
		k.keepWorkload(out, o, path)
		return
	}
	out.matches = k.judge(o, k.kinds[o.GroupKind()], nil)
	out.matches = append(out.matches, k.judgeFacts(o, nil)...)
	for _, m := range out.matches {
		out.positions = append(out.positions, positionOf(o, m.path))
	}
	if len(out.matches) > 0 {
		out.backends, out.unclear = backendsOf(o.Root)
	}
	out.readCore(o)
}

// readCore reads the kinds of the core group.
func (k *Kept) readCore(o *object.Object) {
	if o.Group() != "" {
		if o.Group() == "rbac.authorization.k8s.io" && strings.HasSuffix(o.Kind, "Binding") {
			k.about = facts.Slim(o, []string{"roleRef"})
		}
		return
	}
	switch o.Kind {
	case "ServiceAccount":
		k.account = readAccount(o.Root.Get("automountServiceAccountToken"))
		k.about = facts.Slim(o)
	case "Secret":
		k.secret = readSecret(o.Root)
	case "Node":
		k.node = &nodeInfo{}
		if labels := o.Root.Seek(facts.Path("metadata", "labels")); labels != nil && labels.Kind == object.Unknown {
			k.node.unknown = labels.Text
		}
		for _, role := range [...]string{"control-plane", "master"} {
			k.node.controlPlane = k.node.controlPlane || o.Root.At("metadata", "labels", "node-role.kubernetes.io/"+role) != nil
		}
	case "Namespace":
		k.namespace = readNamespace(o.Root.At("metadata", "labels"))
	case "PersistentVolumeClaim":
		k.claim = true
	case "Service":
		k.service = &serviceInfo{selector: stringsOf(o.Root.At("spec", "selector")), unknown: unknownOf(o.Root.Get("spec"), "selector")}
	}
}

func readSecret(root *object.Node) *secretInfo {
	s := &secretInfo{}
	kind, account := root.Get("type"), root.Seek(facts.Path("metadata", "annotations", "kubernetes.io/service-account.name"))
	switch {
	case kind.HasUnknown() && account != nil:
		s.unknown = kind.Text
	case kind.Str() != "kubernetes.io/service-account-token":
	case account != nil && account.Kind != object.String:
		s.unknown = why(account, "the annotation kubernetes.io/service-account.name", "a name")
	default:
		s.account = strings.Clone(account.Str())
	}
	return s
}

func readAccount(mounts *object.Node) *accountInfo {
	a := &accountInfo{}
	switch {
	case mounts == nil:
	case mounts.Kind == object.Bool:
		b := mounts.Bool()
		a.mounts = &b
	default:
		a.unknown = why(mounts, "automountServiceAccountToken", "true or false")
	}
	return a
}

func readNamespace(labels *object.Node) *namespaceInfo {
	level := labels.Get("pod-security.kubernetes.io/enforce")
	n := &namespaceInfo{level: strings.Clone(level.Str())}
	switch {
	case labels != nil && labels.Kind != object.Map:
		n.unknown = why(labels, "metadata.labels", "a map")
	case level != nil && level.Kind != object.String:
		n.unknown = why(level, "the label pod-security.kubernetes.io/enforce", "a level")
	}
	return n
}

// why says why a value cannot be used.
func why(n *object.Node, what, want string) string {
	if n.Kind == object.Unknown {
		return n.Text
	}
	return what + " is " + n.Kind.A() + ", not " + want
}

// stringsOf reads a map of strings; what is none is left out.
func stringsOf(n *object.Node) map[string]string {
	if n == nil || n.Kind != object.Map || len(n.Fields) == 0 {
		return nil
	}
	out := make(map[string]string, len(n.Fields))
	for _, f := range n.Fields {
		if f.Value.Kind == object.String {
			out[strings.Clone(f.Key)] = strings.Clone(f.Value.Text)
		}
	}
	return out
}

// backendsOf finds the Services that an object calls: those of the client
// configurations of its webhooks, of a conversion, or of an APIService; and why
// there may be others.
func backendsOf(root *object.Node) (out []serviceRef, unclear string) {
	add := func(n *object.Node) {
		if ref := (serviceRef{strings.Clone(n.Get("namespace").Str()), strings.Clone(n.Get("name").Str())}); ref.name != "" && !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	for _, w := range facts.Items(root.Get("webhooks")) {
		add(w.At("clientConfig", "service"))
	}
	add(root.At("spec", "conversion", "webhook", "clientConfig", "service"))
	add(root.At("spec", "service"))
	for _, w := range facts.Items(root.Get("webhooks")) {
		unclear = cmp.Or(unclear, unknownOf(w, "clientConfig", "service"))
	}
	return out, cmp.Or(unclear, unknownOf(root, "webhooks"), unknownOf(root, "spec", "service"), unknownOf(root, "spec", "conversion", "webhook", "clientConfig", "service"))
}

// unknownOf is why the value at the end of some fields is not known: it, a part
// of it, or what it would stand in is not; "" where it is known.
func unknownOf(n *object.Node, fields ...string) string {
	for _, f := range fields {
		if n != nil && n.Kind == object.Unknown {
			break
		}
		n = n.Get(f)
	}
	if n != nil && n.Kind == object.List {
		for _, item := range n.Items {
			if item.Kind == object.Unknown {
				return item.Text
			}
		}
		return ""
	}
	return n.FirstUnknown()
}

// judge returns how an object does not meet conditions.
func (k *keeper) judge(o *object.Object, conditions []*condition, containers []container) []match {
	var out []match
	for _, c := range conditions {
		v := c.control.Judge(o, nil)
		for _, f := range v.Findings {
			m := match{edge: c.edge.index, container: containerAt(containers, f.Element), path: f.Path}
			if f.Outcome == verdict.Unknown {
				m.possible = f.Message
			} else {
				m.words, m.name, _ = strings.Cut(f.Message, nameMark)
			}
			out = append(out, m)
		}
	}
	return out
}

// judgeFacts judges the facts that are derived from an object.
func (k *keeper) judgeFacts(o *object.Object, containers []container) []match {
	var out []match
	for _, s := range singles {
		if !slices.ContainsFunc(s.Kinds, k.wants) {
			continue
		}
		for _, fact := range s.Derive(o, &k.env) {
			for _, m := range k.judge(fact, k.facts[fact.GroupKind()], nil) {
				m.path = fact.SourcePath(m.path)
				m.container = containerAt(containers, m.path)
				out = append(out, m)
			}
		}
	}
	return out
}

func (k *keeper) wants(kind string) bool {
	return len(k.facts[object.GroupKind{Group: facts.Group, Kind: kind}]) > 0
}

func (k *keeper) keepWorkload(out *Kept, o *object.Object, path object.Path) {
	pod := o.Root.Seek(path)
	if pod != nil && pod.Kind == object.Unknown {
		pod = facts.Map(facts.Field("metadata", pod), facts.Field("spec", pod))
	}
	isPod := len(path) == 0
	if phase := o.Root.At("status", "phase").Str(); isPod && (phase == "Succeeded" || phase == "Failed") {
		return
	}
	owner := ownerOf(o)
	if replicas := o.Root.At("spec", "replicas"); o.Kind == "ReplicaSet" && owner != o.Kind+"/"+o.Name && replicas != nil && replicas.Kind == object.Int && replicas.Int() == 0 {
		return // an old revision, which runs nothing
	}
	w := &workload{spec: k.spec(pod), owner: owner, pod: isPod, node: strings.Clone(pod.At("spec", "nodeName").Str())}
	switch {
	case isPod:
		w.rank = 2
	case owner != o.Kind+"/"+o.Name:
		w.rank = 1
	}
	out.workload = w
	out.about = facts.Slim(o)
	if len(w.matches) > 0 {
		out.positions = make([]object.Position, len(w.matches))
		for i, m := range w.matches {
			out.positions[i] = positionOf(o, path.Append(m.path...))
		}
	}
}

// ownerOf is what the pods of an object are known by: the controller that people
// name. A ReplicaSet of a Deployment is called after it and a hash.
func ownerOf(o *object.Object) string {
	for _, ref := range facts.Items(o.Root.At("metadata", "ownerReferences")) {
		kind, name := ref.Get("kind").Str(), ref.Get("name").Str()
		if !ref.Get("controller").Bool() || kind == "" || name == "" || kind == "Node" {
			continue
		}
		hash := o.Root.At("metadata", "labels", "pod-template-hash").Str()
		if deployment, ok := strings.CutSuffix(name, "-"+hash); ok && hash != "" && kind == "ReplicaSet" {
			return "Deployment/" + deployment
		}
		return kind + "/" + name
	}
	return o.Kind + "/" + o.Name
}

// positionOf is where a person edits the value at a path, without the text that
// stands there.
func positionOf(o *object.Object, path object.Path) object.Position {
	switch {
	case o.Origin == nil:
		return object.Position{}
	case o.Origin.Locate != nil:
		p := o.Origin.Locate(o.Root, path)
		p.Quote, p.QuoteColumn = "", 0
		return p
	}
	spot, _ := o.Root.SpotOf(path)
	return object.Position{File: o.Origin.Source, Line: spot.Line, Column: spot.Col}
}

// sortedKeys are the keys of a map, sorted.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
