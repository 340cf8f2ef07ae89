// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
)

// Find returns the classes that are named: "shop" are those of a namespace,
// "shop/web" those of its workloads of a name, "shop/deployment/web" of a kind
// too. "web" and "deployment/web" name workloads of which there is one in all.
func (m *Model) Find(what string) ([]*Class, error) {
	parts := strings.Split(strings.TrimSpace(what), "/")
	if len(parts) > 3 || slices.Contains(parts, "") {
		return nil, notUnderstood(what)
	}
	var out []*Class
	for _, c := range m.Classes() {
		if c.isNamed(parts) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, m.notFound(what, parts)
	}
	return out, m.oneNamespace(what, parts, out)
}

func notUnderstood(what string) error {
	return fmt.Errorf("%q names no pods; want NAMESPACE, NAMESPACE/NAME or NAMESPACE/KIND/NAME, such as shop/web or shop/deployment/web", what)
}

// isNamed says whether the parts of a name are one of the class's.
func (c *Class) isNamed(parts []string) bool {
	kind, name, _ := strings.Cut(c.Workload, "/")
	called := func(part string) bool {
		if part == name {
			return true
		}
		for _, r := range c.Refs {
			if r.Name == part {
				return true
			}
		}
		return false
	}
	of := func(part string) bool {
		return strings.EqualFold(part, kind) || strings.EqualFold(part, kind+"s") || shortKinds[strings.ToLower(part)] == kind ||
			slices.ContainsFunc(c.Refs, func(r object.Ref) bool { return strings.EqualFold(part, r.Kind) })
	}
	switch len(parts) {
	case 1:
		return parts[0] == c.Namespace || called(parts[0])
	case 2:
		return parts[0] == c.Namespace && called(parts[1]) || of(parts[0]) && called(parts[1])
	}
	return parts[0] == c.Namespace && of(parts[1]) && called(parts[2])
}

// shortKinds are what kubectl lets people write.
var shortKinds = map[string]string{
	"deploy": "Deployment", "po": "Pod", "rs": "ReplicaSet", "ds": "DaemonSet", "sts": "StatefulSet", "cj": "CronJob", "rc": "ReplicationController",
}

// oneNamespace says what is wrong with a name that leaves the namespace open and
// is found in several.
func (m *Model) oneNamespace(what string, parts []string, found []*Class) error {
	var in []string
	for _, c := range found {
		if len(parts) < 3 && parts[0] != c.Namespace && !slices.Contains(in, c.Namespace) {
			in = append(in, c.Namespace)
		}
	}
	if len(in) < 2 || slices.ContainsFunc(found, func(c *Class) bool { return c.Namespace == parts[0] }) {
		return nil
	}
	return fmt.Errorf("%q is in several namespaces (%s); say which: %s/%s", what, shortened(in), in[0], what)
}

// notFound says what there is instead.
func (m *Model) notFound(what string, parts []string) error {
	var namespaces, here []string
	for _, c := range m.Classes() {
		if !slices.Contains(namespaces, c.Namespace) {
			namespaces = append(namespaces, c.Namespace)
		}
		if _, name, _ := strings.Cut(c.Workload, "/"); c.Namespace == parts[0] && !slices.Contains(here, name) {
			here = append(here, name)
		}
	}
	switch {
	case len(here) > 0:
		return fmt.Errorf("no pods are called %q; namespace %s has %s", what, parts[0], shortened(here))
	case len(namespaces) > 0:
		return fmt.Errorf("no pods are called %q; there are some in the namespaces %s", what, shortened(namespaces))
	}
	return fmt.Errorf("no pods are called %q: there are none at all in what was read", what)
}

// shortened lists a few of many.
func shortened(names []string) string {
	const few = 8
	more := ""
	if len(names) > few {
		more = fmt.Sprintf(" and %d more", len(names)-few)
		names = names[:few]
	}
	return strings.Join(names, ", ") + more
}
