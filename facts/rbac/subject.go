// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	"cmp"
	"fmt"
	"strings"
)

// The kinds of subjects.
const (
	User           = "User"
	Group          = "Group"
	ServiceAccount = "ServiceAccount"
)

// The groups and users that Kubernetes knows by itself.
const (
	Authenticated   = "system:authenticated"
	Unauthenticated = "system:unauthenticated"
	Anonymous       = "system:anonymous"
	Masters         = "system:masters"
	Nodes           = "system:nodes"
	AllAccounts     = "system:serviceaccounts"
)

// Subject is who holds permissions: a user, a group or a ServiceAccount. A
// ServiceAccount is always said as one, never as the user that it is to the API
// server; its namespace is empty where a manifest does not say it.
type Subject struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// userSubject is a user, or the ServiceAccount that is meant by its name.
func userSubject(name string) Subject {
	if rest, ok := strings.CutPrefix(name, accountUser); ok {
		if ns, account, ok := strings.Cut(rest, ":"); ok && ns != "" && account != "" && !strings.Contains(account, ":") {
			return Subject{ServiceAccount, ns, account}
		}
	}
	return Subject{Kind: User, Name: name}
}

// ParseSubject reads a subject as people write it: sa:shop/web,
// serviceaccount:shop/web, system:serviceaccount:shop:web, user:jane,
// group:devs; a bare name is a user.
func ParseSubject(s string) (Subject, error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch strings.ToLower(kind) {
	case "sa", "serviceaccount":
		ns, name, ok := strings.Cut(rest, "/")
		if !ok || ns == "" || name == "" || strings.ContainsAny(name, "/:") || strings.Contains(ns, ":") {
			return Subject{}, fmt.Errorf("subject %q: want %s:NAMESPACE/NAME", s, kind)
		}
		return Subject{ServiceAccount, ns, name}, nil
	case "user", "group":
		if rest == "" {
			return Subject{}, fmt.Errorf("subject %q: want %s:NAME", s, kind)
		}
		if strings.EqualFold(kind, Group) {
			return Subject{Kind: Group, Name: rest}, nil
		}
		return userSubject(rest), nil
	}
	if s == "" {
		return Subject{}, fmt.Errorf("the subject is empty: want sa:NAMESPACE/NAME, user:NAME or group:NAME")
	}
	if strings.HasPrefix(s, accountUser) && userSubject(s).Kind == User {
		return Subject{}, fmt.Errorf("subject %q: want %sNAMESPACE:NAME", s, accountUser)
	}
	return userSubject(s), nil
}

// String says the subject: "ServiceAccount shop/web", "User jane", "Group devs".
func (s Subject) String() string {
	return s.Kind + " " + qualified(s.Namespace, s.Name)
}

// UserName is the name by which the API server knows a user or ServiceAccount;
// it is empty for a group.
func (s Subject) UserName() string {
	switch s.Kind {
	case ServiceAccount:
		return accountUser + s.Namespace + ":" + s.Name
	case User:
		return s.Name
	}
	return ""
}

// Groups are the groups that the API server puts the subject in by itself; of a
// group, those that its members are in too.
func (s Subject) Groups() []string {
	switch {
	case s.Kind == ServiceAccount && s.Namespace == "":
		return []string{AllAccounts, Authenticated}
	case s.Kind == ServiceAccount:
		return []string{AllAccounts, accountGroup + s.Namespace, Authenticated}
	case s.Kind == User && s.Name == Anonymous:
		return []string{Unauthenticated}
	case s.Kind == User:
		return []string{Authenticated}
	case s.Name == Authenticated || s.Name == Unauthenticated:
		return nil
	case strings.HasPrefix(s.Name, accountGroup):
		return []string{AllAccounts, Authenticated}
	}
	return []string{Authenticated}
}

// compare orders subjects by kind, namespace and name.
func (s Subject) compare(o Subject) int {
	return cmp.Or(cmp.Compare(s.Kind, o.Kind), cmp.Compare(s.Namespace, o.Namespace), cmp.Compare(s.Name, o.Name))
}
