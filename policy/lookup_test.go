// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// TestDescriptions holds what descriptions of kinds mean.
func TestDescriptions(t *testing.T) {
	kind := func(group, kind string) object.GroupKind { return object.GroupKind{Group: group, Kind: kind} }
	const any = policy.Any
	for _, c := range []struct {
		a, b            object.GroupKind
		covers, overlap bool
	}{
		{kind("apps", "Deployment"), kind("apps", "Deployment"), true, true},
		{kind("apps", "Deployment"), kind("", "Deployment"), false, false},
		{kind(any, "Ingress"), kind("networking.k8s.io", "Ingress"), true, true},
		{kind(any, "Ingress"), kind("networking.k8s.io", "NetworkPolicy"), false, false},
		{kind("apps", any), kind("apps", "Deployment"), true, true},
		{kind("apps", any), kind("batch", "Job"), false, false},
		{kind("apps", "Deployment"), kind("apps", any), false, true},
		{kind(any, "Ingress"), kind("apps", any), false, true},
		{kind(any, "Ingress"), policy.AnyKind, false, true},
		{policy.AnyKind, kind(any, "Ingress"), true, true},
	} {
		if covers, overlap := policy.Covers(c.a, c.b), policy.Overlap(c.a, c.b); covers != c.covers || overlap != c.overlap || policy.Overlap(c.b, c.a) != overlap {
			t.Errorf("%v and %v: covers %v, overlap %v", c.a, c.b, covers, overlap)
		}
	}
}

// TestKindOf holds which kinds are meant by the plural names of the API.
func TestKindOf(t *testing.T) {
	for path, want := range map[[2]string]object.GroupKind{
		{"", "endpoints"}:                                     {Kind: "Endpoints"},
		{"", "configmaps"}:                                    {Kind: "ConfigMap"},
		{"networking.k8s.io", "ingresses"}:                    {Group: "networking.k8s.io", Kind: "Ingress"},
		{"networking.k8s.io", "networkpolicies"}:              {Group: "networking.k8s.io", Kind: "NetworkPolicy"},
		{"storage.k8s.io", "storageclasses"}:                  {Group: "storage.k8s.io", Kind: "StorageClass"},
		{"gateway.networking.k8s.io", "gateways"}:             {Group: "gateway.networking.k8s.io", Kind: policy.Any},
		{"k8s.cni.cncf.io", "network-attachment-definitions"}: {Group: "k8s.cni.cncf.io", Kind: policy.Any},
	} {
		if got := policy.KindOf(path[0], path[1]); got != want {
			t.Errorf("%v: got %v, want %v", path, got, want)
		}
	}
}

// some is a cluster of which all kinds are known, or those of one group are not.
type some struct {
	objects []*object.Object
	dark    string
}

func (s some) Objects(gk object.GroupKind, _ string) (out []*object.Object, all bool) {
	for _, o := range s.objects {
		if o.GroupKind() == gk {
			out = append(out, o)
		}
	}
	return out, gk.Group != s.dark
}

func (s some) Kinds(of object.GroupKind) (out []object.GroupKind, all bool) {
	for _, o := range s.objects {
		if policy.Covers(of, o.GroupKind()) {
			out = append(out, o.GroupKind())
		}
	}
	return out, of.Group != s.dark && of.Group != policy.Any
}

func (some) Can(*authenticationv1.UserInfo, rbac.Request) (allowed, known bool) { return false, false }

// TestFind holds that what is not found by the name of the API is taken for absent
// only where nothing that there is can be it.
func TestFind(t *testing.T) {
	gateway := &object.Object{Ref: object.Ref{APIVersion: "gateway.networking.k8s.io/v1", Kind: "Gateway", Name: "a"}}
	odd := &object.Object{Ref: object.Ref{APIVersion: "k8s.cni.cncf.io/v1", Kind: "NetworkAttachmentDefinition", Name: "a"}}
	there := some{objects: []*object.Object{gateway, odd}, dark: "apps"}
	for _, c := range []struct {
		group, resource string
		found           int
		known           bool
	}{
		{"gateway.networking.k8s.io", "gateways", 1, true},
		{"gateway.networking.k8s.io", "grpcroutes", 0, false}, // a Gateway may be called so
		{"k8s.cni.cncf.io", "network-attachment-definitions", 0, false},
		{"example.com", "things", 0, true},
		{"", "configmaps", 0, true},
		{"apps", "deployments", 0, false},
		{"apps", "others", 0, false},
	} {
		_, found, known := policy.Find(there, c.group, c.resource, "")
		if len(found) != c.found || known != c.known {
			t.Errorf("%s/%s: found %d, known %v", c.group, c.resource, len(found), known)
		}
	}
}
