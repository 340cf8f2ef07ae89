// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"hash/fnv"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"sconce.dev/sconce/object"
)

// varier makes objects of others: fields are taken away and added, values are
// replaced by those that the policy mentions, items are doubled. What the API
// server knows the type of keeps it: no other object would ever be judged.
type varier struct {
	rand  *rand.Rand
	words *vocabulary
}

func newVarier(seed uint64, name string, words *vocabulary) *varier {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name))
	slices.Sort(words.texts)
	return &varier{rand.New(rand.NewPCG(seed, h.Sum64())), words}
}

func (g *varier) chance(percent int) bool { return g.rand.IntN(100) < percent }

func pick[T any](g *varier, list []T) T { return list[g.rand.IntN(len(list))] }

// clone copies maps and lists.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = clone(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = clone(x)
		}
		return out
	}
	return v
}

// kept are fields that no variation takes away: no object is without them.
var kept = []string{"apiVersion", "kind", "metadata", "name", "spec", "template", "jobTemplate", "containers", "image"}

// vary changes an object in a few places.
func (g *varier) vary(o map[string]any) map[string]any {
	out := clone(o).(map[string]any)
	sh := shapeOf(gkOf(out))
	for range 1 + g.rand.IntN(3) {
		g.change(out, sh, g.words.sketch, 0)
	}
	return out
}

func gkOf(o map[string]any) object.GroupKind {
	apiVersion, _ := o["apiVersion"].(string)
	kind, _ := o["kind"].(string)
	return object.Ref{APIVersion: apiVersion, Kind: kind}.GroupKind()
}

// change makes one change, somewhere below a map.
func (g *varier) change(m map[string]any, sh shape, s *sketch, depth int) {
	keys := g.favoured(sortedKeys(m))
	if depth > 0 && (len(keys) == 0 || g.chance(25)) {
		g.changeHere(m, sh, s, keys)
		return
	}
	key := pick(g, keys)
	if key == "apiVersion" || key == "kind" {
		if depth == 0 {
			g.change(m, sh, s, 1)
		}
		return
	}
	below, _ := sh.field(key)
	m[key] = g.changed(m[key], below, fieldOf(s, key), depth+1)
}

// favoured returns the keys among which one is chosen: those that the policy
// speaks of stand in it more than once.
func (g *varier) favoured(keys []string) []string {
	var out []string
	for _, k := range keys {
		out = append(out, k)
		if g.words.names[k] {
			out = append(out, k, k, k)
		}
	}
	return out
}

func fieldOf(s *sketch, key string) *sketch {
	if s == nil {
		return nil
	}
	return s.fields[key]
}

// changeHere takes a field away, or adds one.
func (g *varier) changeHere(m map[string]any, sh shape, s *sketch, keys []string) {
	if len(keys) > 0 && g.chance(40) {
		if key := pick(g, keys); !slices.Contains(kept, key) {
			delete(m, key)
		}
		return
	}
	switch sh.kind() {
	case structValue:
		var add []string
		for _, f := range sh.fields() {
			if _, ok := m[f]; !ok && g.words.names[f] && f != "status" && f != "managedFields" {
				add = append(add, f)
			}
		}
		if len(add) > 0 {
			f := pick(g, add)
			below, _ := sh.field(f)
			m[f] = g.value(below, fieldOf(s, f), 0)
		}
	case mapValue:
		m[g.keyOf(s)] = g.value(sh.elem(), nil, 0)
	default:
		g.addSketched(m, s)
	}
}

// addSketched adds a field that the policy speaks of to an object of an unknown
// kind.
func (g *varier) addSketched(m map[string]any, s *sketch) {
	if s == nil || len(s.fields) == 0 {
		return
	}
	f := pick(g, sortedKeys(s.fields))
	if slices.Contains(kept, f) {
		return
	}
	m[f] = g.value(shape{}, s.fields[f], 0)
}

// keyOf returns a key of a map: often one that the policy reads in it.
func (g *varier) keyOf(s *sketch) string {
	if s != nil && len(s.fields) > 0 && g.chance(60) {
		return pick(g, sortedKeys(s.fields))
	}
	return g.key()
}

// key returns a key of a map.
func (g *varier) key() string {
	if len(g.words.keys) > 0 && g.chance(80) {
		return pick(g, g.words.keys)
	}
	return pick(g, []string{"app", "team", "cpu", "memory"})
}

// changed returns a value that is not as it was, somewhere.
func (g *varier) changed(v any, sh shape, s *sketch, depth int) any {
	switch v := v.(type) {
	case map[string]any:
		if g.chance(3) && depth > 1 && !slices.ContainsFunc(kept, func(k string) bool { return v[k] != nil }) {
			return map[string]any{}
		}
		g.change(v, sh, s, depth)
		return v
	case []any:
		return g.changedList(v, sh, s, depth)
	}
	return g.scalar(v, sh, s)
}

func (g *varier) changedList(list []any, sh shape, s *sketch, depth int) []any {
	var item *sketch
	if s != nil {
		item = s.item
	}
	switch n := len(list); {
	case n == 0 || g.chance(15):
		return append(list, g.value(sh.elem(), item, 0))
	case n > 1 && g.chance(15):
		i := g.rand.IntN(n)
		return slices.Delete(list, i, i+1)
	case g.chance(10):
		return append(list, g.changed(clone(pick(g, list)), sh.elem(), item, depth+1))
	}
	i := g.rand.IntN(len(list))
	list[i] = g.changed(list[i], sh.elem(), item, depth+1)
	return list
}

// scalar returns another value of the same type.
func (g *varier) scalar(old any, sh shape, s *sketch) any {
	if sh.kind() != anyValue {
		return g.value(sh, s, 0)
	}
	switch old.(type) {
	case bool:
		return g.chance(50)
	case int64, int, float64:
		return g.number()
	}
	if s != nil && len(s.values) > 0 && g.chance(70) {
		return pick(g, s.values)
	}
	return g.text()
}

func (g *varier) number() int64 {
	if len(g.words.numbers) > 0 && g.chance(70) {
		return pick(g, g.words.numbers)
	}
	return pick(g, []int64{0, 1, 2, 80, 1000, 65534})
}

func (g *varier) text() string {
	out := pick(g, []string{"", "a", "web", "nginx:1.25", "default", "5", "*"})
	if len(g.words.texts) > 0 && g.chance(75) {
		out = pick(g, g.words.texts)
	}
	if g.words.plain {
		return strings.NewReplacer("*", "", "?", "").Replace(out)
	}
	return out
}

// maxDepth is how deep a value is made up.
const maxDepth = 6

// value makes a value of a shape up.
func (g *varier) value(sh shape, s *sketch, depth int) any {
	switch sh.kind() {
	case boolValue:
		return g.chance(50)
	case intValue:
		return g.number()
	case floatValue:
		return float64(g.number())
	case stringValue:
		return g.text()
	case bytesValue:
		return "YQ=="
	case timeValue:
		return "2026-01-01T00:00:00Z"
	case intOrString:
		if g.chance(50) {
			return g.number()
		}
		return strconv.FormatInt(g.number(), 10) + pick(g, []string{"", "%"})
	case quantityValue:
		return g.quantity()
	case listValue:
		return g.listValue(sh, s, depth)
	case mapValue:
		out := map[string]any{}
		for range g.rand.IntN(3) {
			out[g.keyOf(s)] = g.value(sh.elem(), nil, depth+1)
		}
		return out
	case structValue:
		return g.structValue(sh, s, depth)
	}
	return g.sketched(s, depth)
}

func (g *varier) quantity() any {
	var out []string
	for _, t := range g.words.texts {
		if quantityText.MatchString(t) {
			out = append(out, t)
		}
	}
	out = append(out, "0", "100m", "1", "64Mi", "2Gi", "4000m")
	return pick(g, out)
}

func (g *varier) listValue(sh shape, s *sketch, depth int) any {
	out := []any{}
	var item *sketch
	if s != nil {
		item = s.item
	}
	if depth > maxDepth {
		return out
	}
	for range g.rand.IntN(3) {
		out = append(out, g.value(sh.elem(), item, depth+1))
	}
	return out
}

func (g *varier) structValue(sh shape, s *sketch, depth int) any {
	out := map[string]any{}
	isContainer := strings.HasSuffix(sh.t.Name(), "Container")
	if isContainer {
		out["name"], out["image"] = "c"+strconv.Itoa(g.rand.IntN(9)), cmp.Or(g.text(), "nginx")
	}
	if depth > maxDepth {
		return out
	}
	for _, f := range sh.fields() {
		below, _ := sh.field(f)
		required := sh.required(f)
		if isContainer && (f == "name" || f == "image") {
			continue
		}
		if required || g.words.names[f] && f != "status" && f != "managedFields" && g.chance(60) {
			out[f] = g.value(below, fieldOf(s, f), depth+1)
		}
		if list, ok := out[f].([]any); ok && required && len(list) == 0 {
			out[f] = []any{g.value(below.elem(), nil, depth+1)}
		}
	}
	if sh.t == podSpecType && out["containers"] == nil {
		out["containers"] = []any{map[string]any{"name": "main", "image": "nginx:1.25"}}
	}
	return out
}

var podSpecType = reflect.TypeFor[corev1.PodSpec]()

// sketched makes a value of an unknown kind up.
func (g *varier) sketched(s *sketch, depth int) any {
	switch {
	case s == nil || depth > maxDepth:
		return g.text()
	case len(s.fields) > 0:
		out := map[string]any{}
		for _, f := range sortedKeys(s.fields) {
			if g.chance(75) {
				out[f] = g.value(shape{}, s.fields[f], depth+1)
			}
		}
		return out
	case s.item != nil:
		out := []any{}
		for range g.rand.IntN(3) {
			out = append(out, g.value(shape{}, s.item, depth+1))
		}
		return out
	case len(s.values) > 0 && g.chance(85):
		return pick(g, s.values)
	}
	return g.text()
}

// fresh makes an object of a kind up.
func (g *varier) fresh(apiVersion, kind string) map[string]any {
	out := map[string]any{"apiVersion": apiVersion, "kind": kind}
	sh := shapeOf(gkOf(out))
	if made, ok := g.value(sh, g.words.sketch, 0).(map[string]any); ok {
		for k, v := range made {
			if k != "apiVersion" && k != "kind" {
				out[k] = v
			}
		}
	}
	meta, ok := out["metadata"].(map[string]any)
	if !ok {
		meta = map[string]any{}
		out["metadata"] = meta
	}
	for _, f := range []string{"name", "namespace"} {
		if text, ok := meta[f].(string); !ok || text == "" {
			meta[f] = pick(g, []string{"web", "default", "shop"})
		}
	}
	if !object.Namespaced(gkOf(out)) {
		delete(meta, "namespace")
	}
	g.podOf(out)
	return out
}

// podOf gives what holds a pod one.
func (g *varier) podOf(o map[string]any) {
	spec := map[string]any{}
	if old, ok := o["spec"].(map[string]any); ok {
		spec = old
	}
	path, ok := object.PodPath(gkOf(o))
	if !ok {
		return
	}
	o["spec"] = spec
	at := o
	for _, step := range path {
		below, ok := at[step.Field].(map[string]any)
		if !ok {
			below = map[string]any{}
			at[step.Field] = below
		}
		at = below
	}
	if len(path) > 0 && at["metadata"] == nil {
		at["metadata"] = map[string]any{"labels": map[string]any{"app": "web"}}
	}
	podSpec, ok := at["spec"].(map[string]any)
	if !ok {
		podSpec, _ = g.value(shape{podSpecType}, nil, 1).(map[string]any)
		at["spec"] = podSpec
	}
	if _, ok := podSpec["containers"].([]any); !ok {
		podSpec["containers"] = []any{map[string]any{"name": "main", "image": "nginx:1.25"}}
	}
}
