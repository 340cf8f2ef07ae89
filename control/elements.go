// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"

	"sconce.dev/sconce/object"
)

// elements is what a control goes through: a root and fields below it, every
// list on the way being gone through.
type elements struct {
	// set is false where the control judges the object, or the pod, as a whole.
	set        bool
	containers bool // begin at each container
	pod        bool // begin at the pod, else at the object
	fields     []string
}

// entries stands in a path for every entry of a map.
const entries = "*"

// parseElements reads spec.forEach.
func parseElements(forEach string, pods bool) (elements, error) {
	if forEach == "" {
		return elements{pod: pods}, nil
	}
	fields, err := object.ParseFields(forEach)
	if err != nil {
		return elements{}, err
	}
	e := elements{set: true, fields: fields[1:]}
	switch fields[0] {
	case "containers":
		e.containers = true
	case varPod:
		e.pod = true
	case varObject:
	default:
		return e, fmt.Errorf("%q begins with %q; want containers, pod or object", forEach, fields[0])
	}
	if (e.containers || e.pod) && !pods {
		return e, fmt.Errorf("%q goes through pods, but match.pods is not set", forEach)
	}
	if !e.containers && len(e.fields) == 0 {
		return e, fmt.Errorf("%q names no list", forEach)
	}
	return e, nil
}

// base says what a place is relative to.
type base uint8

const (
	atElement base = iota
	atContainer
	atPod
	atObject
)

// place is a path of at or fix.
type place struct {
	base   base
	fields []string
}

// place reads a path: relative to the element, or absolute with object., pod.
// or container. in front; "." is the element itself.
func (e *elements) place(s string) (place, error) {
	if s == "." {
		return place{}, nil
	}
	fields, err := object.ParseFields(s)
	if err != nil {
		return place{}, err
	}
	if len(fields) == 0 {
		return place{}, fmt.Errorf("empty path; write . for the element itself")
	}
	p := place{fields: fields}
	switch fields[0] {
	case varObject:
		p.base = atObject
	case varPod:
		p.base = atPod
	case varContainer:
		if !e.containers {
			return p, fmt.Errorf("path %q: the control does not go through containers", s)
		}
		p.base = atContainer
	default:
		return p, nil
	}
	p.fields = fields[1:]
	return p, nil
}

// step is one step towards the current element. Its key is worked out only when
// a path is asked for: most elements pass.
type step struct {
	field string
	list  *object.Node
	index int
}

// steps leads to the current element.
type steps struct {
	prefix object.Path
	steps  []step
	buffer [8]step
}

func (s *steps) push(st step) { s.steps = append(s.steps, st) }
func (s *steps) pop()         { s.steps = s.steps[:len(s.steps)-1] }

// path returns the way to the current element; nil where that is the whole
// object or pod.
func (s *steps) path() object.Path { return s.upTo(len(s.steps)) }

// container returns the way to the current container: spec, its list, its item.
func (s *steps) container() object.Path { return s.upTo(3) }

func (s *steps) upTo(n int) object.Path {
	if len(s.steps) == 0 {
		return nil
	}
	out := s.prefix.Append()
	for _, st := range s.steps[:min(n, len(s.steps))] {
		if st.list != nil {
			out = append(out, object.ItemStep(st.list, st.index))
		} else {
			out = append(out, object.Step{Field: st.field})
		}
	}
	return out
}

// each goes through the elements and judges each.
func (e *elements) each(j *judgement) {
	s := &j.steps
	s.steps = s.buffer[:0]
	if e.pod || e.containers {
		s.prefix = j.podPath
	}
	switch {
	case !e.set:
		j.element(s)
	case e.containers:
		e.eachContainer(j, s)
	case e.pod:
		e.walk(j, s, j.pod, e.fields)
	default:
		e.walk(j, s, j.o.Root, e.fields)
	}
}

// eachContainer goes through the three lists of containers.
func (e *elements) eachContainer(j *judgement, s *steps) {
	spec := j.pod.Get("spec")
	s.push(step{field: "spec"})
	if spec == nil || spec.Kind != object.Map {
		j.unknown(nil, s.path(), "the pod has no spec")
		return
	}
	for _, name := range object.ContainerLists {
		list := spec.Get(name)
		if list == nil {
			continue
		}
		s.push(step{field: name})
		if !isList(j, s, list) {
			s.pop()
			continue
		}
		for i, container := range list.Items {
			s.push(step{list: list, index: i})
			if container.Kind == object.Map {
				j.scope.container = toCEL(container)
				e.walk(j, s, container, e.fields)
			} else {
				j.unknown(s.path(), s.path(), notA(container, "a container"))
			}
			s.pop()
		}
		s.pop()
	}
	j.scope.container = nil
	s.pop()
}

// walk follows the fields, going through every list, and judges what they lead
// to.
func (e *elements) walk(j *judgement, s *steps, n *object.Node, fields []string) {
	if len(fields) == 0 {
		if n.Kind == object.List {
			e.items(j, s, n, nil)
			return
		}
		j.scope.item = toCEL(n)
		j.element(s)
		return
	}
	switch {
	case n.Kind == object.Map:
	case n.Kind == object.Null && fields[0] == entries:
		return // as if it were not there
	case n.Kind == object.Unknown:
		j.unknown(s.path(), s.path(), "not known: "+n.Text)
		return
	default:
		j.unknown(s.path(), s.path(), notA(n, "a map"))
		return
	}
	if fields[0] == entries {
		e.entries(j, s, n, fields[1:])
		return
	}
	next := n.Get(fields[0])
	if next == nil {
		return // no such list: no elements
	}
	s.push(step{field: fields[0]})
	defer s.pop()
	if next.Kind == object.List {
		e.items(j, s, next, fields[1:])
		return
	}
	if len(fields) == 1 && !isList(j, s, next) {
		return
	}
	e.walk(j, s, next, fields[1:])
}

// entries goes through the entries of a map. The item is what stands there, as
// {key, value}; the path leads to the value.
func (e *elements) entries(j *judgement, s *steps, n *object.Node, fields []string) {
	for _, f := range n.Fields {
		s.push(step{field: f.Key})
		switch {
		case len(fields) > 0:
			e.walk(j, s, f.Value, fields)
		case f.Value.Kind == object.Unknown:
			j.unknown(s.path(), s.path(), "not known: "+f.Value.Text)
		default:
			j.scope.item = toCEL(&object.Node{Kind: object.Map, Fields: []object.Field{
				{Key: "key", Value: object.NewString(f.Key)}, {Key: "value", Value: f.Value},
			}})
			j.element(s)
		}
		s.pop()
	}
}

func (e *elements) items(j *judgement, s *steps, list *object.Node, fields []string) {
	for i, item := range list.Items {
		s.push(step{list: list, index: i})
		if item.Kind == object.Unknown {
			j.unknown(s.path(), s.path(), "not known: "+item.Text)
		} else {
			e.walk(j, s, item, fields)
		}
		s.pop()
	}
}

// isList says whether a value can be gone through; if not, that is unknown.
func isList(j *judgement, s *steps, n *object.Node) bool {
	switch n.Kind {
	case object.List:
		return true
	case object.Unknown:
		j.unknown(s.path(), s.path(), "not known: "+n.Text)
	default:
		j.unknown(s.path(), s.path(), notA(n, "a list"))
	}
	return false
}

func notA(n *object.Node, want string) string {
	return fmt.Sprintf("%s stands where %s is expected", n.Kind.A(), want)
}
