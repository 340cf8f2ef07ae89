// SPDX-License-Identifier: Apache-2.0

package answer

import (
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
)

// BindingKinds are what can be asked of bindings.
var BindingKinds = []string{"dangling", "unused", "all"}

// CheckBindings says whether something can be asked of bindings.
func CheckBindings(which string) error {
	if slices.Contains(BindingKinds, which) {
		return nil
	}
	return fmt.Errorf("--bindings %q: want %s", which, strings.Join(BindingKinds, ", "))
}

// Bindings are those that grant nothing to anything that runs or exists.
type Bindings struct {
	Source
	Which    string   `json:"which"`
	Bindings []Idle   `json:"bindings"`
	Of       int      `json:"of"` // all that there are
	Unknown  []string `json:"unknown"`
}

// Idle is a binding that grants nothing to anything.
type Idle struct {
	Binding  object.Ref      `json:"binding"`
	Position object.Position `json:"position,omitzero"`
	Role     object.Ref      `json:"role"`
	Subjects []rbac.Subject  `json:"subjects"`
	// Why is dangling or unused, and Words say what is not there.
	Why   string   `json:"why"`
	Words []string `json:"words"`
}

// AskBindings answers which bindings grant nothing to anything: those that are
// dangling, unused, or both.
func AskBindings(m *rbac.Model, src Source, which string) *Bindings {
	a := &Bindings{Source: src, Which: which, Bindings: []Idle{}}
	accounts := map[rbac.Subject]*rbac.Account{}
	for _, account := range m.Accounts() {
		accounts[account.Subject] = account
	}
	for _, b := range m.Bindings() {
		a.Of++
		if b.Unknown != "" {
			a.Unknown = append(a.Unknown, b.Unknown)
		}
		why, words := idle(b, accounts)
		if why == "" || which != "all" && which != why {
			continue
		}
		a.Bindings = append(a.Bindings, Idle{b.Ref, b.Position(), b.Role, b.Subjects, why, words})
	}
	a.Unknown = distinct(a.Unknown)
	return a
}

// idle says why a binding grants nothing to anything.
func idle(b *rbac.Binding, accounts map[rbac.Subject]*rbac.Account) (why string, words []string) {
	if !b.RoleFound {
		return "dangling", []string{"there is no " + qualified(b.Role)}
	}
	if len(b.Subjects) == 0 {
		return "dangling", []string{"it names no subject"}
	}
	missing, notRun := 0, 0
	for _, s := range b.Subjects {
		account := accounts[s]
		switch {
		case s.Kind != rbac.ServiceAccount:
			return "", nil
		case account == nil || !account.Found:
			missing++
			words = append(words, "there is no "+s.String())
		case len(account.RunBy) == 0:
			notRun++
			words = append(words, "nothing runs as "+s.String())
		default:
			return "", nil
		}
	}
	if missing == len(b.Subjects) {
		return "dangling", words
	}
	return "unused", words
}

// Text implements Answer.
func (a *Bindings) Text(p *Page) {
	title := a.Which
	if title == "all" {
		title = "dangling or unused"
	}
	p.heading("%d of %s %s %s", len(a.Bindings), count(a.Of, "binding", "bindings"), map[bool]string{true: "is", false: "are"}[len(a.Bindings) == 1], title)
	var rows []row
	for _, b := range a.Bindings {
		below := cell{{"→ " + qualified(b.Role), dim, at(b.Position)}}
		rows = append(rows, row{[]cell{text(qualified(b.Binding)), text(b.Why), text(some(b.Words, maxLines)...)}, below})
	}
	if len(rows) > 0 {
		p.table([]string{"BINDING", "", "WHY"}, rows[:min(len(rows), maxRows)])
		p.more(len(rows)-maxRows, "binding", "bindings")
	}
	a.footer(p, a.Unknown)
}
