// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"sconce.dev/sconce/test/controlplane"
)

// allow grants a user a rule in a namespace, and returns who acts as the user.
func allow(t *testing.T, c *controlplane.ControlPlane, namespace, user string, rule rbacv1.PolicyRule) *rest.Config {
	t.Helper()
	roles := c.Client(t).RbacV1()
	meta := metav1.ObjectMeta{Name: user, Namespace: namespace}
	if _, err := roles.Roles(namespace).Create(t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{rule}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
	}
	if _, err := roles.RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return c.ConfigFor(t, user)
}

// TestSecretsAreReadByWriting holds two verbs of the edge secret-read against an
// API server: who may only patch Secrets, or delete them all, reads them without
// changing one.
func TestSecretsAreReadByWriting(t *testing.T) {
	c := controlplane.Shared(t)
	namespace := c.Namespace(t)
	admin := c.Client(t).CoreV1().Secrets(namespace)
	if _, err := admin.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "db"}, StringData: map[string]string{"password": "sesame"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	read := map[string]func(config *rest.Config) (string, error){
		"patch": func(config *rest.Config) (string, error) {
			s, err := kubernetes.NewForConfigOrDie(config).CoreV1().Secrets(namespace).Patch(t.Context(), "db", types.MergePatchType, []byte("{}"), metav1.PatchOptions{})
			if err != nil {
				return "", err
			}
			return string(s.Data["password"]), nil
		},
		"deletecollection": func(config *rest.Config) (string, error) {
			var list corev1.SecretList
			err := kubernetes.NewForConfigOrDie(config).CoreV1().RESTClient().Delete().Namespace(namespace).Resource("secrets").
				Body(&metav1.DeleteOptions{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"}, DryRun: []string{metav1.DryRunAll}}).Do(t.Context()).Into(&list)
			if err != nil || len(list.Items) != 1 {
				return "", err
			}
			return string(list.Items[0].Data["password"]), nil
		},
	}
	for verb, ask := range read {
		t.Run(verb, func(t *testing.T) {
			rule := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{verb}}
			config := allow(t, c, namespace, "only-"+verb, rule)
			if _, err := kubernetes.NewForConfigOrDie(config).CoreV1().Secrets(namespace).Get(t.Context(), "db", metav1.GetOptions{}); !apierrors.IsForbidden(err) {
				t.Fatalf("get: %v; want it to be forbidden", err)
			}
			if got, err := ask(config); err != nil || got != "sesame" {
				t.Errorf("%s shows %q, %v; want the Secret's content", verb, got, err)
			}
		})
	}
	if _, err := admin.Get(t.Context(), "db", metav1.GetOptions{}); err != nil {
		t.Errorf("the Secret is no longer as it was: %v", err)
	}
}

// TestGroupsAreImpersonatedWithUsers holds the edge impersonate-group against an
// API server: the verb on groups alone is no way to a group.
func TestGroupsAreImpersonatedWithUsers(t *testing.T) {
	c := controlplane.Shared(t)
	roles := c.Client(t).RbacV1()
	for user, resources := range map[string][]string{"groups-alone": {"groups"}, "groups-and-accounts": {"groups", "serviceaccounts"}} {
		meta := metav1.ObjectMeta{Name: user}
		rule := rbacv1.PolicyRule{APIGroups: []string{""}, Resources: resources, Verbs: []string{"impersonate"}}
		if _, err := roles.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{rule}}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
			Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}},
		}
		if _, err := roles.ClusterRoleBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = roles.ClusterRoles().Delete(context.Background(), user, metav1.DeleteOptions{})
			_ = roles.ClusterRoleBindings().Delete(context.Background(), user, metav1.DeleteOptions{})
		})
	}
	list := func(user string, as rest.ImpersonationConfig) error {
		config := rest.CopyConfig(c.ConfigFor(t, user))
		config.Impersonate = as
		_, err := kubernetes.NewForConfigOrDie(config).CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{})
		return err
	}
	masters := []string{"system:masters"}
	if err := list("groups-alone", rest.ImpersonationConfig{UserName: "anyone", Groups: masters}); !apierrors.IsForbidden(err) {
		t.Errorf("the verb on groups alone: %v; want it to be forbidden", err)
	}
	if err := list("groups-and-accounts", rest.ImpersonationConfig{UserName: "system:serviceaccount:default:default", Groups: masters}); err != nil {
		t.Errorf("the verb on groups and ServiceAccounts: %v", err)
	}
}
