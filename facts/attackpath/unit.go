// SPDX-License-Identifier: Apache-2.0

package attackpath

import (
	"sconce.dev/sconce/object"
)

// unitKey names what links are made from.
type unitKey struct {
	kind unitKind
	a, b string
	of   any // what else tells units apart: comparable
}

type unitKind uint8

const (
	unitStatic unitKind = iota
	unitGroup
	unitObject
	unitAccount
	unitNamespace
	unitNode
	unitBinding
	unitRole
	unitTogether
	unitNetwork
)

// unit is what was made from one thing, and is made again when that changes.
type unit struct{ links []link }

// link is an edge of the graph between numbered things.
type link struct {
	from, to int32
	// edge is nil where nothing is done: a container is in its pod.
	edge    *Edge
	because *because
	// possible says why the link may not be there.
	possible string
}

// because says where a link comes from. Words and place are worked out when they
// are asked for.
type because struct {
	object   object.Ref
	words    string
	position func() object.Position
}

func (b *because) cause() Cause {
	c := Cause{Object: b.object, Words: b.words}
	if b.position != nil {
		c.Position = b.position()
	}
	return c
}

func at(p object.Position) func() object.Position { return func() object.Position { return p } }

// maker makes the links of a unit.
type maker struct {
	g *Graph
	u *unit
	// late says that a link names objects, which come and go.
	late bool
}

// remake makes the links of a unit anew; what makes none is gone.
func (g *Graph) remake(key unitKey, make func(m *maker)) {
	m := &maker{g: g, u: &unit{}}
	make(m)
	if len(m.u.links) == 0 {
		delete(g.units, key)
		return
	}
	g.units[key] = m.u
}

func (m *maker) link(from, to thing, e *Edge, b *because, possible string) {
	m.u.links = append(m.u.links, link{m.g.names.of(from), m.g.names.of(to), e, b, possible})
}

// plain links what follows without an act.
func (m *maker) plain(from, to thing) { m.link(from, to, nil, nil, "") }

// change notes what a person can change at a vertex.
func (m *maker) change(at thing, c *Change) {
	i := m.g.names.of(at)
	for int(i) >= len(m.g.changes) {
		m.g.changes = append(m.g.changes, nil)
	}
	m.g.changes[i] = c
}

// through links two things through a setting that a person can change; directly
// where the edge has nothing that takes it away.
func (m *maker) through(from, to thing, e *Edge, setting thing, b *because, possible string) {
	mitigation := e.mitigation()
	if mitigation == nil {
		m.link(from, to, e, b, possible)
		return
	}
	setting.kind, setting.of = Setting, mitigation.key(e)
	m.link(from, setting, nil, nil, "")
	m.link(setting, to, e, b, possible)
	c := &Change{Control: mitigation.Control, Words: mitigation.words(e)}
	if b != nil {
		c.Object = b.object
		if b.position != nil {
			c.Position = b.position()
		}
	}
	c.Key = setting.of + " " + c.Object.String()
	if of := setting.container(); of != "" {
		c.Key += " " + of
	}
	m.change(setting, c)
}

// container is the container that a setting is of; "" for none.
func (a thing) container() string {
	for i := 0; i < len(a.name); i++ {
		if a.name[i] == containerMark {
			return a.name[i+1:]
		}
	}
	return ""
}

// containerMark stands in the name of a setting between a workload and its
// container.
const containerMark = '\x01'

// mitigation is what to advise; nil for nothing.
func (e *Edge) mitigation() *Mitigation {
	if len(e.Mitigations) == 0 {
		return nil
	}
	return &e.Mitigations[0]
}

// key is the same for mitigations that are the same change.
func (m *Mitigation) key(e *Edge) string {
	if m.Control != "" {
		return m.Control
	}
	return e.Name
}

func (m *Mitigation) words(e *Edge) string {
	if m.Change != "" {
		return m.Change
	}
	return "make the control " + m.key(e) + " pass"
}
