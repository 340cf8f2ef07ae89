// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/object"
)

// RoleName is what the role for a scan is called.
const RoleName = "sconce-scan"

// Rules are the least that listing the kinds needs: one rule for each group, and
// one for Secrets alone. With watch it is what a feed of them needs.
func Rules(kinds []Kind, watch bool) []rbacv1.PolicyRule {
	byGroup := map[string][]string{}
	var secrets []rbacv1.PolicyRule
	verbs := []string{"list"}
	if watch {
		verbs = append(verbs, "watch")
	}
	for _, k := range kinds {
		if k.GroupKind == (object.GroupKind{Kind: "Secret"}) {
			secrets = append(secrets, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{k.Resource}, Verbs: verbs})
			continue
		}
		byGroup[k.Group] = append(byGroup[k.Group], k.Resource)
	}
	var out []rbacv1.PolicyRule
	for _, group := range slices.Sorted(maps.Keys(byGroup)) {
		resources := byGroup[group]
		slices.Sort(resources)
		out = append(out, rbacv1.PolicyRule{APIGroups: []string{group}, Resources: slices.Compact(resources), Verbs: verbs})
	}
	return append(out, secrets...)
}

// Role returns a ClusterRole, as YAML, that a scan of the kinds needs, and no
// more; with a namespace, what is to be bound by a RoleBinding there. why names
// the controls for which a kind is read.
func Role(kinds []Kind, namespace string, why func(object.GroupKind) string) string {
	var b strings.Builder
	b.WriteString("# The least that `sconce scan cluster` needs for the baseline that was chosen.\n")
	if namespace != "" {
		fmt.Fprintf(&b, "# Bind it with a RoleBinding in the namespace %s.\n", namespace)
	}
	b.WriteString("# What every user may do (system:discovery, system:public-info-viewer) is needed too.\n")
	fmt.Fprintf(&b, "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata:\n  name: %s\nrules:\n", RoleName)
	for _, r := range rulesFor(kinds, namespace) {
		if slices.Contains(r.Resources, "secrets") {
			secret := object.GroupKind{Kind: "Secret"}
			fmt.Fprintf(&b, "# Secrets are read for %s. Values are never shown;\n# without this rule these controls are unknown, and with --skip the rule is not needed.\n", why(secret))
		}
		data, err := yaml.Marshal([]rbacv1.PolicyRule{r})
		if err == nil {
			b.Write(data)
		}
	}
	return b.String()
}

// rulesFor are the rules for a scan of all namespaces, or of one.
func rulesFor(kinds []Kind, namespace string) []rbacv1.PolicyRule {
	if namespace == "" {
		return Rules(kinds, false)
	}
	var own []Kind
	var out []rbacv1.PolicyRule
	for _, k := range kinds {
		switch {
		case k.Namespaced:
			own = append(own, k)
		case k.GroupKind == namespaceKind:
			out = append(out, rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{k.Resource}, ResourceNames: []string{namespace}, Verbs: []string{"get"}})
		}
	}
	return append(out, Rules(own, false)...)
}
