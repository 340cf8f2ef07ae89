// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// TestYAML holds what a document looks like, and that comments cannot break out
// of their lines.
func TestYAML(t *testing.T) {
	role := &rbacv1.Role{
		TypeMeta:   metav1.TypeMeta{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "Role"},
		ObjectMeta: metav1.ObjectMeta{Name: "on", Namespace: "shop"},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get", "*"}, APIGroups: []string{""}, Resources: []string{"pods"}}, {Verbs: []string{"list"}}},
	}
	d := &Document{Object: role, Head: []string{"first\nkind: Evil"}}
	d.Note("rules.0", "seen %d times", 3)
	d.Note("rules.0", "seen %d times", 3)
	d.Note("rules.0.resources", "why\r\nnot")
	d.Note("rules.1", "another")
	got, err := YAML([]*Document{d, {Object: role}})
	if err != nil {
		t.Fatal(err)
	}
	want := `# first kind: Evil
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: "on"
  namespace: shop
rules:
  # seen 3 times
  - apiGroups:
      - ""
    # why  not
    resources:
      - pods
    verbs:
      - get
      - "*"
  # another
  - verbs:
      - list
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: "on"
  namespace: shop
rules:
  - apiGroups:
      - ""
    resources:
      - pods
    verbs:
      - get
      - "*"
  - verbs:
      - list
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	var back rbacv1.Role
	first, _, _ := bytes.Cut(got, []byte("---"))
	if err := yaml.UnmarshalStrict(first, &back); err != nil || back.Name != "on" {
		t.Errorf("read back the name %q, and the error %v", back.Name, err)
	}
}
