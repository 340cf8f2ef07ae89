// SPDX-License-Identifier: Apache-2.0

package object

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Path leads from a document's root to a value. It addresses list items by name
// where they have one, so that it stays the same when an item is injected
// before them.
type Path []Step

// Step is one step of a Path: a field of a Map, or an item of a List.
type Step struct {
	// Field is the key of a Map's entry; empty for an item of a List.
	Field string
	// Key is what names an item: the value of its name, key or the like.
	// Empty for items that have none.
	Key string
	// Index is the item's place in its list, from 0.
	Index int
	// Item says that this step goes into a List.
	Item bool
}

// String returns the path as it is shown and fingerprinted:
// spec.template.spec.containers[app].ports[0].hostPort.
func (p Path) String() string {
	var b strings.Builder
	b.Grow(16 * len(p)) // most fields are shorter
	for i, s := range p {
		switch {
		case s.Item && s.Key != "":
			b.WriteString("[" + s.Key + "]")
		case s.Item:
			b.WriteString("[" + strconv.Itoa(s.Index) + "]")
		case strings.ContainsAny(s.Field, ".[]"):
			b.WriteString("['" + s.Field + "']")
		default:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s.Field)
		}
	}
	return b.String()
}

// Append returns the path with steps added. It never writes to p's memory.
func (p Path) Append(steps ...Step) Path {
	return append(slices.Clip(p), steps...)
}

// Fields returns the path with fields added.
func (p Path) Fields(fields ...string) Path {
	out := slices.Clip(p)
	for _, f := range fields {
		out = append(out, Step{Field: f})
	}
	return out
}

// ParseFields reads a dotted path of fields, as controls write them:
// securityContext.capabilities, or metadata.labels['app.kubernetes.io/name'].
func ParseFields(s string) ([]string, error) {
	var out []string
	for rest := s; rest != ""; {
		if quoted, ok := strings.CutPrefix(rest, "['"); ok {
			field, after, ok := strings.Cut(quoted, "']")
			if !ok {
				return nil, fmt.Errorf("path %q: [' without ']", s)
			}
			out = append(out, field)
			rest = strings.TrimPrefix(after, ".")
			continue
		}
		end := strings.IndexAny(rest, ".[")
		if end < 0 {
			end = len(rest)
		}
		if end == 0 {
			return nil, fmt.Errorf("path %q: empty field", s)
		}
		out = append(out, rest[:end])
		rest = rest[end:]
		if strings.HasPrefix(rest, ".") {
			rest = rest[1:]
			if rest == "" {
				return nil, fmt.Errorf("path %q: ends with a dot", s)
			}
		}
	}
	return out, nil
}

// nameKeys are the fields that name an item of a list, in order of preference;
// they are the merge keys of Kubernetes' own lists.
var nameKeys = [...]string{"name", "mountPath", "devicePath", "containerPort", "port", "key", "ip", "topologyKey"}

// maxKeyed is the longest list whose items are addressed by their keys: finding
// out that a key is unique takes a look at all the others.
const maxKeyed = 512

// ItemStep returns the step into item i of a list, with the key that names it
// if it has one that no other item of the list has.
func ItemStep(list *Node, i int) Step {
	if len(list.Items) > maxKeyed {
		return Step{Item: true, Index: i}
	}
	step := Step{Item: true, Index: i, Key: list.Items[i].itemKey()}
	if step.Key == "" {
		return step
	}
	for j, other := range list.Items {
		if j != i && other.itemKey() == step.Key {
			step.Key = ""
			break
		}
	}
	return step
}

// itemKey returns what names an item of a list, or "". A string names itself
// only where it looks like a constant (a capability): other strings, arguments
// say, may hold what must not be shown.
func (n *Node) itemKey() string {
	switch n.Kind {
	case String:
		if strings.Trim(n.Text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == "" {
			return n.Text
		}
	case Map:
		field := n.NameField()
		if field == "" {
			return ""
		}
		if v := n.Get(field); v.Kind == Int {
			return strconv.FormatInt(v.Int(), 10)
		}
		return n.Get(field).Text
	}
	return ""
}

// NameField returns the field that names an item of a list, or "".
func (n *Node) NameField() string {
	for _, k := range nameKeys {
		if v := n.Get(k); v != nil && (v.Kind == String || v.Kind == Int) {
			return k
		}
	}
	return ""
}

// Lookup follows the path and returns the value, or nil. Items are looked up by
// key where the step has one, else by index.
func (n *Node) Lookup(p Path) *Node {
	for _, s := range p {
		n = n.step(s)
		if n == nil {
			return nil
		}
	}
	return n
}

// Seek follows the path as Lookup does, and stops at what is Unknown on the way:
// the value may be in there.
func (n *Node) Seek(p Path) *Node {
	for _, s := range p {
		if n != nil && n.Kind == Unknown {
			break
		}
		if n = n.step(s); n == nil {
			return nil
		}
	}
	return n
}

// Nearest follows the path as far as it leads. It returns the last value
// reached and how many steps were taken.
func (n *Node) Nearest(p Path) (*Node, int) {
	for i, s := range p {
		next := n.step(s)
		if next == nil {
			return n, i
		}
		n = next
	}
	return n, len(p)
}

func (n *Node) step(s Step) *Node {
	if !s.Item {
		return n.Get(s.Field)
	}
	if n == nil || n.Kind != List {
		return nil
	}
	if s.Key != "" {
		for _, item := range n.Items {
			if item.itemKey() == s.Key {
				return item
			}
		}
		return nil
	}
	if s.Index < len(n.Items) {
		return n.Items[s.Index]
	}
	return nil
}

// Spot is a place in the text of a document.
type Spot struct {
	Line, Col int
}

// SpotOf returns where a person looks for the value at the path: at the key of
// a field, at the beginning of an item; where the path ends early, at the
// nearest value above it. The second result says whether the value is there.
func (n *Node) SpotOf(p Path) (Spot, bool) {
	spot := Spot{int(n.Line), int(n.Col)}
	for _, s := range p {
		if s.Item {
			n = n.step(s)
			if n == nil {
				return spot, false
			}
			spot = Spot{int(n.Line), int(n.Col)}
			continue
		}
		f := n.field(s.Field)
		if f == nil {
			return spot, false
		}
		if f.KeyLine > 0 {
			spot = Spot{int(f.KeyLine), int(f.KeyCol)}
		}
		n = f.Value
	}
	return spot, true
}

func sortedKeys(m map[string]any) []string {
	return slices.Sorted(maps.Keys(m))
}
