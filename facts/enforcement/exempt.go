// SPDX-License-Identifier: Apache-2.0

package enforcement

import (
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// nameLabel is the label that every namespace has by itself.
const nameLabel = "kubernetes.io/metadata.name"

// maxNames is how many namespaces are named for one expression.
const maxNames = 16

// selector is a selector of namespaces; nil chooses all.
type selector struct {
	all labels.Selector
	// out are the expressions by which a namespace is left out, others those
	// by which it is chosen in the first place.
	out    []labels.Requirement
	others labels.Selector
}

// readSelector reads a selector of labels.
func readSelector(n *object.Node) (*selector, error) {
	if n == nil {
		return nil, nil
	}
	if n.HasUnknown() {
		return nil, fmt.Errorf("%s", n.FirstUnknown())
	}
	raw, err := json.Marshal(n.Any())
	if err != nil {
		return nil, err
	}
	var doc metav1.LabelSelector
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("reading a namespaceSelector: %w", err)
	}
	s := &selector{others: labels.NewSelector()}
	if s.all, err = metav1.LabelSelectorAsSelector(&doc); err != nil {
		return nil, fmt.Errorf("reading a namespaceSelector: %w", err)
	}
	requirements, _ := s.all.Requirements()
	for _, r := range requirements {
		switch r.Operator() {
		case "notin", "!":
			s.out = append(s.out, r)
		default:
			s.others = s.others.Add(r)
		}
	}
	return s, nil
}

// leavesOut returns the label by which a namespace is left out; "" where it is
// chosen, or was never meant.
func (s *selector) leavesOut(sp *space) string {
	if s == nil || !s.others.Matches(labels.Set(sp.labels)) {
		return ""
	}
	for _, r := range s.out {
		if !r.Matches(labels.Set(sp.labels)) {
			return r.Key()
		}
	}
	return ""
}

// chooses says whether the selector chooses a namespace.
func (s *selector) chooses(sp *space) bool {
	return s == nil || s.all.Matches(labels.Set(sp.labels))
}

// left collects namespaces that are left out by the label that does it.
type left struct {
	keys  []string
	names map[string][]string
}

func (l *left) add(key, name string) {
	if key == "" {
		return
	}
	if l.names == nil {
		l.names = map[string][]string{}
	}
	if !slices.Contains(l.keys, key) {
		l.keys = append(l.keys, key)
	}
	if len(l.names[key]) < maxNames {
		l.names[key] = append(l.names[key], name)
	}
}

// exemptFromWebhook are the namespaces that a webhook's selector leaves out, by
// the label that does.
func (x *index) exemptFromWebhook(w *object.Node) []*object.Node {
	s, err := readSelector(w.Get("namespaceSelector"))
	if err != nil {
		return []*object.Node{object.NewUnknown(err.Error())}
	}
	var l left
	for _, sp := range x.spaces {
		if !sp.unread {
			l.add(s.leavesOut(sp), sp.name)
		}
	}
	var out []*object.Node
	for _, key := range l.keys {
		fields := []object.Field{
			facts.Field("webhook", object.NewString(w.Get("name").Str())),
			facts.Field("key", object.NewString(key)),
			facts.Field("names", facts.Strings(l.names[key])),
			facts.Field("own", object.NewString(w.At("clientConfig", "service", "namespace").Str())),
		}
		if rules := w.Get("rules"); rules != nil {
			fields = append(fields, facts.Field("rules", rules))
		}
		out = append(out, facts.Map(fields...))
	}
	return out
}

// exemptFromPolicy are the namespaces in which no binding makes a policy hold,
// by the label that leaves them out.
func (x *index) exemptFromPolicy(o *object.Object, bindings []*object.Object) (*object.Node, []facts.Place) {
	own, err := readSelector(o.Root.At("spec", "matchConstraints", "namespaceSelector"))
	if err != nil {
		return object.NewUnknown(err.Error()), nil
	}
	selectors := make([]*selector, len(bindings))
	for i, b := range bindings {
		if selectors[i], err = readSelector(b.Root.At("spec", "matchResources", "namespaceSelector")); err != nil {
			return object.NewUnknown(err.Error()), nil
		}
	}
	var byPolicy, byBinding left
	for _, sp := range x.spaces {
		switch key := own.leavesOut(sp); {
		case sp.unread:
		case key != "":
			byPolicy.add(key, sp.name)
		case own.chooses(sp):
			byBinding.add(leftOutByAll(selectors, sp), sp.name)
		}
	}
	list := facts.List()
	var places []facts.Place
	for i, l := range []left{byPolicy, byBinding} {
		source := [...]object.Path{facts.Path("spec", "matchConstraints", "namespaceSelector"), facts.Path("spec")}[i]
		for _, key := range l.keys {
			names := facts.Strings(l.names[key])
			if i == 1 {
				names = x.env.Absent(names, fmt.Sprintf("a binding of the policy %q for other namespaces is not among what was read", o.Name))
			}
			places = append(places, facts.Place{Fact: facts.Path("facts", "exempt").Append(object.Step{Item: true, Index: len(list.Items)}), Source: source})
			list.Items = append(list.Items, facts.Map(facts.Field("key", object.NewString(key)), facts.Field("names", names)))
		}
	}
	return list, places
}

// leftOutByAll returns the label by which the first of the selectors that leaves
// a namespace out does so; "" if one of them chooses it, or none was meant for
// it.
func leftOutByAll(selectors []*selector, sp *space) string {
	key := ""
	for _, s := range selectors {
		if s.chooses(sp) {
			return ""
		}
		if k := s.leavesOut(sp); key == "" {
			key = k
		}
	}
	return key
}
