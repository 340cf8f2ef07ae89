// SPDX-License-Identifier: Apache-2.0

package attackpath

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"sync"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// spec is what the graph needs to know of a pod, whatever holds it: the same for
// pods that say the same, of which there are thousands.
type spec struct {
	containers []container
	labels     map[string]string
	// unlabelled is why it may have other labels.
	unlabelled string
	// account is the ServiceAccount that it runs as; static says that it is none,
	// and unclear why that is not known.
	account, unclear string
	static           bool
	mount            mount
	secrets, claims  []string
	matches          []match
	// alike is the same for specs that are the same to the graph.
	alike string
}

type container struct {
	list  string
	index int
	name  string
}

// mount says what a pod says of the token of its ServiceAccount.
type mount struct {
	said    bool
	mounted bool
	unknown string
}

// specs are those that were read before, so that each is read once. Which of
// them are there changes nothing but the time.
type specs struct {
	mu   sync.Mutex
	seen map[[2]uint64]*spec
}

// maxSpecs bounds how many are kept.
const maxSpecs = 1 << 15

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

// generatedVolume begins the name of the volume that is added to every pod, and
// that is called differently in each.
const generatedVolume = "kube-api-access-"

func (k *keeper) spec(pod *object.Node) *spec {
	same := sameOf(pod)
	key := [2]uint64{}
	for i := range key {
		var h maphash.Hash
		h.SetSeed(seeds[i])
		hashNode(&h, same)
		key[i] = h.Sum64()
	}
	k.memo.mu.Lock()
	s := k.memo.seen[key]
	k.memo.mu.Unlock()
	if s != nil {
		return s
	}
	s = k.readSpec(same)
	k.memo.mu.Lock()
	defer k.memo.mu.Unlock()
	if k.memo.seen == nil || len(k.memo.seen) >= maxSpecs {
		k.memo.seen = map[[2]uint64]*spec{}
	}
	k.memo.seen[key] = s
	return s
}

// sameOf is a pod as its conditions see it: without what tells pods of one owner
// apart.
func sameOf(pod *object.Node) *object.Node {
	meta := facts.Map()
	for _, field := range [...]string{"labels", "annotations"} {
		if v := pod.Seek(facts.Path("metadata", field)); v != nil {
			meta.Fields = append(meta.Fields, object.Field{Key: field, Value: v})
		}
	}
	root := facts.Map(
		facts.Field("apiVersion", object.NewString("v1")), facts.Field("kind", object.NewString("Pod")), facts.Field("metadata", meta))
	s := pod.Get("spec")
	if s != nil && s.Kind == object.Map {
		without := &object.Node{Kind: object.Map, Line: s.Line, Col: s.Col, Fields: make([]object.Field, 0, len(s.Fields))}
		for _, f := range s.Fields {
			if f.Key != "nodeName" && f.Key != "hostname" {
				without.Fields = append(without.Fields, f)
			}
		}
		s = without
	}
	if s != nil {
		root.Fields = append(root.Fields, object.Field{Key: "spec", Value: s})
	}
	return root
}

func hashNode(h *maphash.Hash, n *object.Node) {
	if n == nil {
		_ = h.WriteByte(255)
		return
	}
	_ = h.WriteByte(byte(n.Kind))
	maphash.WriteComparable(h, n.Int())
	text := n.Text
	if strings.HasPrefix(text, generatedVolume) {
		text = generatedVolume
	}
	maphash.WriteComparable(h, len(text))
	_, _ = h.WriteString(text)
	maphash.WriteComparable(h, len(n.Items)<<32+len(n.Fields))
	for _, item := range n.Items {
		hashNode(h, item)
	}
	for i := range n.Fields {
		maphash.WriteComparable(h, len(n.Fields[i].Key))
		_, _ = h.WriteString(n.Fields[i].Key)
		hashNode(h, n.Fields[i].Value)
	}
}

func (k *keeper) readSpec(pod *object.Node) *spec {
	o := object.New(pod, &object.Origin{})
	in := pod.Get("spec")
	s := &spec{containers: containersOf(in), labels: stringsOf(pod.At("metadata", "labels")), unlabelled: unknownOf(pod, "metadata", "labels")}
	s.static = pod.At("metadata", "annotations", "kubernetes.io/config.mirror") != nil
	s.readAccount(in)
	s.readVolumes(in)
	for _, c := range facts.Items(in.Get("containers")) {
		s.readEnv(c)
	}
	for _, c := range facts.Items(in.Get("initContainers")) {
		s.readEnv(c)
	}
	s.secrets, s.claims = sortedSet(s.secrets), sortedSet(s.claims)
	s.matches = append(k.judge(o, k.pods, s.containers), k.judgeFacts(o, s.containers)...)
	slices.SortStableFunc(s.matches, func(a, b match) int { return cmp.Compare(a.edge, b.edge) })
	for i := range s.matches {
		s.matches[i].path = clonePath(s.matches[i].path)
	}
	s.alike = s.write()
	return s
}

// clonePath returns a path that does not hold the text of a document.
func clonePath(p object.Path) object.Path {
	out := slices.Clone(p)
	for i := range out {
		out[i].Field, out[i].Key = strings.Clone(out[i].Field), strings.Clone(out[i].Key)
	}
	return out
}

// write writes down what the graph sees of the spec.
func (s *spec) write() string {
	var b strings.Builder
	for _, c := range s.containers {
		b.WriteString(c.name + "\x01")
	}
	fmt.Fprintf(&b, "%s\x01%s\x01%t%v\x01%q\x01%q", s.account, s.unclear, s.static, s.mount, s.secrets, s.claims)
	for _, m := range s.matches {
		fmt.Fprintf(&b, "\x01%d.%d.%s.%s", m.edge, m.container, m.name, m.possible)
	}
	return b.String()
}

// containersOf are the containers of a pod. One without a name, or with that of
// another, is named by its place.
func containersOf(spec *object.Node) []container {
	var out []container
	taken := map[string]bool{}
	for _, list := range object.ContainerLists {
		for i, c := range facts.Items(spec.Get(list)) {
			name := strings.Clone(c.Get("name").Str())
			if name == "" || taken[name] {
				name = fmt.Sprintf("%s[%d]", list, i)
			}
			taken[name] = true
			out = append(out, container{list, i, name})
		}
	}
	return out
}

// containerAt is the container that a path leads into; -1 for none.
func containerAt(containers []container, path object.Path) int {
	if len(path) < 3 || path[0].Field != "spec" || !path[2].Item {
		return -1
	}
	return slices.IndexFunc(containers, func(c container) bool { return c.list == path[1].Field && c.index == path[2].Index })
}

func (s *spec) readAccount(in *object.Node) {
	if in != nil && in.Kind == object.Unknown {
		s.unclear, s.mount = in.Text, mount{said: true, unknown: in.Text}
		return
	}
	s.account = "default"
	for _, field := range [...]string{"serviceAccountName", "serviceAccount"} {
		n := in.Get(field)
		switch {
		case n == nil || n.Kind == object.String && n.Text == "":
			continue
		case n.Kind == object.String:
			s.account = strings.Clone(n.Text)
		default:
			s.account, s.unclear = "", why(n, field, "a name")
		}
		break
	}
	switch n := in.Get("automountServiceAccountToken"); {
	case n == nil:
	case n.Kind == object.Bool:
		s.mount = mount{said: true, mounted: n.Bool()}
	default:
		s.mount = mount{said: true, unknown: why(n, "automountServiceAccountToken", "true or false")}
	}
}

func (s *spec) readVolumes(in *object.Node) {
	for _, v := range facts.Items(in.Get("volumes")) {
		s.secret(v.At("secret", "secretName"))
		if claim := v.At("persistentVolumeClaim", "claimName").Str(); claim != "" {
			s.claims = append(s.claims, strings.Clone(claim))
		}
		for _, source := range facts.Items(v.At("projected", "sources")) {
			s.secret(source.At("secret", "name"))
			if token := source.Get("serviceAccountToken"); token != nil {
				s.token(token.Seek(facts.Path("audience")))
			}
		}
	}
}

// token notes a token in a projected volume: one for the API server, unless it
// is for somebody else.
func (s *spec) token(audience *object.Node) {
	switch {
	case audience == nil, audience.Kind == object.String && (audience.Text == "" || forServer(audience.Text)):
		s.mount = mount{said: true, mounted: true}
	case audience.Kind != object.String && s.mount.said && !s.mount.mounted:
		s.mount.unknown = why(audience, "the audience of a token", "a string")
	}
}

// forServer says whether an audience is the API server as it is called inside the
// cluster; one that is called otherwise cannot be told from others.
func forServer(audience string) bool {
	return strings.HasPrefix(strings.TrimPrefix(audience, "https://"), "kubernetes.default")
}

func (s *spec) readEnv(c *object.Node) {
	for _, e := range facts.Items(c.Get("env")) {
		s.secret(e.At("valueFrom", "secretKeyRef", "name"))
	}
	for _, e := range facts.Items(c.Get("envFrom")) {
		s.secret(e.At("secretRef", "name"))
	}
}

func (s *spec) secret(name *object.Node) {
	if name.Str() != "" {
		s.secrets = append(s.secrets, strings.Clone(name.Text))
	}
}

func sortedSet(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
