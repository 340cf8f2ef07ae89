// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
)

// Expansion is an ExpansionTemplate: which objects make others, as a Deployment
// makes pods, and what those are.
type Expansion struct {
	Object *object.Object
	Name   string
	// Action takes the place of what constraints say for what is generated.
	Action string

	applyTo   []applyTo
	source    []string
	generated object.Ref
}

// applyTo are kinds of objects.
type applyTo struct {
	Groups   []string `json:"groups"`
	Versions []string `json:"versions"`
	Kinds    []string `json:"kinds"`
}

func (a *applyTo) matches(r object.Ref) bool {
	return slices.Contains(a.Groups, r.Group()) && slices.Contains(a.Kinds, r.Kind) &&
		slices.Contains(a.Versions, strings.TrimPrefix(strings.TrimPrefix(r.APIVersion, r.Group()), "/"))
}

// maxExpansions is how far what is generated generates something in turn.
const maxExpansions = 30

// ParseExpansion reads an ExpansionTemplate. Its error is a ParseError.
func ParseExpansion(o *object.Object) (*Expansion, error) {
	wrong := func(field, format string, args ...any) error {
		fields := []string{"spec", field}
		if field == "" {
			fields = nil
		}
		return fault(o, fields, "ExpansionTemplate %s: %w", o.Name, fmt.Errorf(format, args...))
	}
	if o.Group() != expansionGroup || o.Kind != "ExpansionTemplate" {
		return nil, wrong("", "it is a %s of %q, not an ExpansionTemplate of %s", o.Kind, o.Group(), expansionGroup)
	}
	var spec struct {
		ApplyTo        []applyTo `json:"applyTo"`
		TemplateSource string    `json:"templateSource"`
		GeneratedGVK   struct {
			Group   string `json:"group"`
			Version string `json:"version"`
			Kind    string `json:"kind"`
		} `json:"generatedGVK"`
		EnforcementAction string `json:"enforcementAction"`
	}
	if given := o.Root.Get("spec"); given != nil {
		if err := json.Unmarshal(given.JSON(), &spec); err != nil {
			return nil, wrong("", "spec: %w", err)
		}
	}
	e := &Expansion{Object: o, Name: o.Root.At("metadata", "name").Str(), Action: spec.EnforcementAction, applyTo: spec.ApplyTo}
	e.source = strings.Split(spec.TemplateSource, ".")
	e.generated = object.Ref{APIVersion: spec.GeneratedGVK.Version, Kind: spec.GeneratedGVK.Kind}
	if spec.GeneratedGVK.Group != "" {
		e.generated.APIVersion = spec.GeneratedGVK.Group + "/" + spec.GeneratedGVK.Version
	}
	switch {
	case e.Name == "" || len(e.Name) >= 64:
		return nil, wrong("", "its name must have 1 to 63 characters")
	case spec.TemplateSource == "":
		return nil, wrong("templateSource", "spec.templateSource is not set")
	case e.generated.Kind == "" && e.generated.APIVersion == "":
		return nil, wrong("generatedGVK", "spec.generatedGVK is not set")
	case len(e.applyTo) == 0:
		return nil, wrong("applyTo", "spec.applyTo is not set")
	case e.applies(e.generated):
		return nil, wrong("generatedGVK", "it applies to what it generates, %s %s", e.generated.APIVersion, e.generated.Kind)
	}
	return e, nil
}

// applies says whether objects of a version and kind generate others.
func (e *Expansion) applies(r object.Ref) bool {
	return slices.ContainsFunc(e.applyTo, func(a applyTo) bool { return a.matches(r) })
}

// appliesToKind says whether objects of a kind, in some version, do.
func (e *Expansion) appliesToKind(gk object.GroupKind) bool {
	return slices.ContainsFunc(e.applyTo, func(a applyTo) bool {
		return slices.Contains(a.Groups, gk.Group) && slices.Contains(a.Kinds, gk.Kind)
	})
}

// Generated is what an object generates. Paths in it are found in that object by
// its SourcePath.
type Generated struct {
	*object.Object
	// By is the expansion that generated it.
	By *Expansion
}

// Expand returns what an object generates, and what that generates.
func Expand(o *object.Object, expansions []*Expansion) ([]Generated, error) {
	return expand(o, o, nil, expansions, 0)
}

// expand returns what an object generates that stands at a path of another.
func expand(o, root *object.Object, at object.Path, expansions []*Expansion, depth int) ([]Generated, error) {
	if depth >= maxExpansions {
		return nil, fmt.Errorf("expanding %s: more than %d expansions lead on from it", root.Ref, maxExpansions)
	}
	var out []Generated
	for _, e := range expansions {
		if !e.applies(o.Ref) {
			continue
		}
		path := at.Fields(e.source...)
		made, err := e.make(o, root, path)
		if err != nil {
			return nil, err
		}
		deeper, err := expand(made, root, path, expansions, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(append(out, deeper...), Generated{made, e})
	}
	return out, nil
}

// make returns what an object generates.
func (e *Expansion) make(o, root *object.Object, at object.Path) (*object.Object, error) {
	source := o.Root.At(e.source...)
	if source == nil || source.Kind != object.Map {
		if o.Root.HasUnknown() {
			return nil, &UnknownError{What: "what the object generates is not known: " + o.Root.FirstUnknown()}
		}
		return nil, fmt.Errorf("expanding %s by ExpansionTemplate %s: there is no map at %s", o.Ref, e.Name, strings.Join(e.source, "."))
	}
	ref := e.generated
	ref.Namespace = o.Namespace
	ref.Name = strings.ToLower(strings.TrimSuffix(o.Root.At("metadata", "name").Str()+"-"+ref.Kind, "-"))
	tree := *source
	tree.Fields = without(source.Fields, "apiVersion", "kind", "metadata")
	meta := &object.Node{Kind: object.Map}
	if given := source.Get("metadata"); given != nil && given.Kind == object.Map {
		*meta = *given
		meta.Fields = without(given.Fields, "name", "namespace", "ownerReferences")
	}
	add := func(n *object.Node, key string, v *object.Node) {
		n.Fields = append(n.Fields, object.Field{Key: key, Value: v})
	}
	add(meta, "name", object.NewString(ref.Name))
	if ref.Namespace != "" {
		add(meta, "namespace", object.NewString(ref.Namespace))
	}
	if owners := ownersOf(o, source); owners != nil {
		add(meta, "ownerReferences", owners)
	}
	add(&tree, "apiVersion", object.NewString(ref.APIVersion))
	add(&tree, "kind", object.NewString(ref.Kind))
	add(&tree, "metadata", meta)
	return object.NewFact(ref, &tree, root, []object.Place{{Source: at}}), nil
}

// ownersOf returns the owners of what an object generates: those that are
// written, and the object.
func ownersOf(o *object.Object, source *object.Node) *object.Node {
	out := &object.Node{Kind: object.List}
	given := source.At("metadata", "ownerReferences")
	if given != nil {
		out.Items = slices.Clone(given.Items)
	}
	name := o.Root.At("metadata", "name").Str()
	if name == "" {
		return given
	}
	for _, owner := range out.Items {
		if owner.Get("apiVersion").Str() == o.APIVersion && owner.Get("kind").Str() == o.Kind && owner.Get("name").Str() == name {
			return given
		}
	}
	out.Items = append(out.Items, object.FromAny(map[string]any{"apiVersion": o.APIVersion, "kind": o.Kind, "name": name, "uid": ""}))
	return out
}

// WithoutCycles returns the expansions that do not lead back to themselves, and
// those that do.
func WithoutCycles(all []*Expansion) (sound, cyclic []*Expansion) {
	for _, e := range all {
		if leadsTo(e, e, all, map[*Expansion]bool{}) {
			cyclic = append(cyclic, e)
		} else {
			sound = append(sound, e)
		}
	}
	return sound, cyclic
}

func leadsTo(from, to *Expansion, all []*Expansion, seen map[*Expansion]bool) bool {
	for _, next := range all {
		if !next.applies(from.generated) || seen[next] {
			continue
		}
		seen[next] = true
		if next == to || leadsTo(next, to, all, seen) {
			return true
		}
	}
	return false
}

// errCycle is why an expansion is refused.
var errCycle = errors.New("what it generates leads back to what it applies to")
