// SPDX-License-Identifier: Apache-2.0

package network_test

import (
	"encoding/json"
	"strings"
	"testing"

	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/object"
)

// TestFind holds how pods are named, and what is said where none are.
func TestFind(t *testing.T) {
	var objects []*object.Object
	for _, v := range house() {
		objects = append(objects, newObject(v))
	}
	for _, namespace := range []string{"red", "blue"} {
		objects = append(objects, newObject(js{
			"apiVersion": "apps/v1", "kind": "Deployment", "metadata": js{"name": "web", "namespace": namespace},
			"spec": js{"template": js{"metadata": js{"labels": js{"app": "web"}}, "spec": js{}}},
		}))
	}
	m := network.NewModel(keepAll(objects), complete)
	for _, c := range []struct {
		what  string
		found int
		err   string
	}{
		{"red", 3, ""},
		{"red-0", 1, ""},
		{"red/web", 1, ""},
		{"red/deploy/web", 1, ""},
		{"red/Deployments/web", 1, ""},
		{"red/pod/web", 0, "no pods are called"},
		{"web", 2, "is in several namespaces (blue, red); say which: blue/web"},
		{"red/nothing", 0, "namespace red has web, red-0, red-1"},
		{"nothing", 0, "there are some in the namespaces blue, green, metal, red, yellow"},
		{"a/b/c/d", 0, "want NAMESPACE, NAMESPACE/NAME or NAMESPACE/KIND/NAME"},
		{"", 0, "names no pods"},
	} {
		found, err := m.Find(c.what)
		if len(found) != c.found || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("finding %q: %d classes, %v; want %d, %q", c.what, len(found), err, c.found, c.err)
		}
	}
}

// TestPortSet holds the algebra of ports, and how they are written.
func TestPortSet(t *testing.T) {
	a := network.PortRange("TCP", 80, 90).Union(network.PortRange("UDP", 53, 53)).Union(network.PortRange("TCP", 91, 91))
	for _, c := range []struct {
		set  network.PortSet
		want string
	}{
		{a, "TCP 80-91; UDP 53"},
		{a.Minus(network.PortRange("TCP", 85, 85)), "TCP 80-84, 86-91; UDP 53"},
		{a.Intersect(network.PortRange("TCP", 90, 100)), "TCP 90-91"},
		{network.AllPorts(), "all"},
		{network.AllPorts().Minus(network.PortRange("TCP", 1, 65535)), "UDP; SCTP"},
		{network.PortRange("ICMP", 1, 1), "none"},
		{network.PortRange("TCP", 0, 70000), "TCP"},
	} {
		if c.set.String() != c.want {
			t.Errorf("got %q, want %q", c.set, c.want)
		}
	}
	if text, err := json.Marshal(a); err != nil || string(text) != `"TCP 80-91; UDP 53"` {
		t.Errorf("as JSON: %s, %v", text, err)
	}
}
