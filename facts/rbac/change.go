// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"strings"

	"sconce.dev/sconce/object"
)

// changes are the objects about which there may be other facts than there were,
// as far as objects say their namespaces. A nil one takes no notice.
type changes struct {
	all  bool
	refs map[object.Ref]bool
	// accounts are those that may be used or found now and were not, or the
	// other way round, with what they were.
	accounts map[name]standing
}

// standing is what others say of a ServiceAccount.
type standing struct {
	found, runs bool
	runner      *keptRunner // what is named of what runs as it
}

func newChanges() *changes {
	return &changes{refs: map[object.Ref]bool{}, accounts: map[name]standing{}}
}

// role is called when the rules of a role are settled again.
func (c *changes) role(m *Model, s *roleState) {
	if c == nil {
		return
	}
	c.objects(s)
	if !s.differs {
		return
	}
	c.sources(s)
	for _, b := range s.bound.all() {
		c.refs[b.Ref] = true
		for _, subject := range b.Subjects {
			c.subject(m, subject)
		}
	}
}

// objects are what a role is.
func (c *changes) objects(s *roleState) {
	for _, k := range s.kept {
		c.refs[k.ref] = true
	}
}

// sources are the roles that one is put together from.
func (c *changes) sources(s *roleState) {
	for of := range s.from {
		c.objects(of)
	}
}

// selectors is called when a role has come, gone or changed, with what it was
// and is: if others are aggregated than were, any role may be one of them.
func (c *changes) selectors(changed []*keptRole) {
	if c == nil || len(changed) == 0 {
		return
	}
	was, is := changed[0].selected(), changed[len(changed)-1].selected()
	if len(changed) == 1 {
		was = ""
	}
	c.all = c.all || was != is
}

// selected writes down what selects, and is selected by, an aggregated role;
// nothing for another.
func (k *keptRole) selected() string {
	if !k.aggregate {
		return ""
	}
	var b strings.Builder
	b.WriteString(k.labels.String() + "\n")
	for _, s := range k.selectors {
		b.WriteString(s.String() + "\n")
	}
	return b.String()
}

// binding is called before and after a binding comes or goes.
func (c *changes) binding(m *Model, b *Binding) {
	if c == nil {
		return
	}
	if b.kept.unknown != "" {
		c.all = true
		return
	}
	c.refs[b.Ref] = true
	if b.role != nil {
		c.objects(b.role)
		c.sources(b.role)
	}
	for _, s := range b.Subjects {
		c.subject(m, s)
	}
}

// subject is called when somebody may hold other permissions.
func (c *changes) subject(m *Model, s Subject) {
	switch s.Kind {
	case ServiceAccount:
		c.running(m, name{s.Namespace, s.Name})
	default:
		if first := m.first(s); first != nil {
			c.refs[first.Ref] = true
		}
		for n := range m.accounts.all {
			if s.Name == Authenticated || s.Name == AllAccounts || s.Name == accountGroup+n.namespace {
				c.running(m, n)
			}
		}
	}
}

// running names a ServiceAccount and what runs as it.
func (c *changes) running(m *Model, n name) {
	if s := m.accounts.all[n]; s != nil {
		c.accountObjects(s)
		for k := range s.runners {
			c.refs[k.ref] = true
		}
	}
}

func (c *changes) accountObjects(s *accountState) {
	for _, k := range s.kept {
		c.refs[k.ref] = true
	}
}

// account is called before a ServiceAccount, or what runs as one, comes or goes.
func (c *changes) account(m *Model, kept any) {
	if c == nil {
		return
	}
	ref, _ := refOf(kept)
	c.refs[ref] = true
	n := accountName(kept)
	if k, ok := kept.(*keptRunner); ok && k.unknown != "" {
		c.all = true
		return
	}
	if _, seen := c.accounts[n]; !seen {
		c.accounts[n] = m.standing(n)
	}
	if _, ok := kept.(*keptAccount); ok {
		c.running(m, n)
	}
}

// standing is what others say of a ServiceAccount now.
func (m *Model) standing(n name) standing {
	return standing{m.accounts.found(n), m.accounts.runs(n), m.accounts.runner(Subject{ServiceAccount, n.namespace, n.name})}
}

// close follows up ServiceAccounts that do not stand as they did.
func (c *changes) close(m *Model) {
	for n, was := range c.accounts {
		is := m.standing(n)
		if is == was {
			continue
		}
		is.runner, was.runner = nil, nil
		if s := m.accounts.all[n]; s != nil {
			c.accountObjects(s)
		}
		for _, s := range []Subject{{ServiceAccount, n.namespace, n.name}, {Kind: Group, Name: accountGroup + n.namespace}} {
			h := m.held[s]
			if h == nil {
				continue
			}
			for _, b := range h.all() {
				if is != was {
					c.refs[b.Ref] = true // which names no runner
				}
				c.objects(b.role)
				c.sources(b.role)
			}
		}
	}
}
