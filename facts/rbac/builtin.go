// SPDX-License-Identifier: Apache-2.0

package rbac

import (
	_ "embed"
	"encoding/json"
	"sync"
	"unique"

	"k8s.io/apimachinery/pkg/labels"
)

//go:embed builtin.json
var builtInJSON []byte

// builtIn are the Roles and ClusterRoles that the API server of Kubernetes
// 1.37.1 creates when it starts, with the feature gates that are on by default.
// They are read from a real one, and held to it, by TestBuiltInRoles of
// test/e2e. The rules of aggregated ones are not among them: they follow.
var builtIn = sync.OnceValue(func() []*keptRole {
	out, err := readBuiltIn(builtInJSON)
	if err != nil {
		panic("builtin.json: " + err.Error()) // a fault of the program itself, which tests find
	}
	return out
})

// broughtRole is a role of the table in builtin.json.
type broughtRole struct {
	Name      string            `json:"name"`
	Namespace string            `json:"namespace,omitempty"` // of a Role; empty for a ClusterRole
	Labels    map[string]string `json:"labels,omitempty"`
	// Aggregates are the labels of the ClusterRoles that it is put together
	// from, one of which is enough.
	Aggregates []map[string]string `json:"aggregates,omitempty"`
	Rules      []broughtRule       `json:"rules,omitempty"`
}

// broughtRule is a rule of a broughtRole.
type broughtRule struct {
	Verbs     []string `json:"verbs"`
	Groups    []string `json:"groups,omitempty"`
	Resources []string `json:"resources,omitempty"`
	Names     []string `json:"names,omitempty"`
	Paths     []string `json:"paths,omitempty"`
}

func readBuiltIn(text []byte) ([]*keptRole, error) {
	var all []broughtRole
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, err
	}
	var out []*keptRole
	for _, b := range all {
		key := roleKey{cluster: b.Namespace == "", namespace: b.Namespace, name: b.Name}
		k := &keptRole{ref: key.ref(), labels: b.Labels, aggregate: len(b.Aggregates) > 0}
		for _, set := range b.Aggregates {
			k.selectors = append(k.selectors, labels.SelectorFromSet(set))
		}
		for _, r := range b.Rules {
			rule := Rule{Verbs: r.Verbs, Groups: r.Groups, Resources: r.Resources, Names: r.Names, Paths: r.Paths}
			k.rules = append(k.rules, unique.Make(string(rule.write(nil))))
		}
		out = append(out, k)
	}
	return out, nil
}
