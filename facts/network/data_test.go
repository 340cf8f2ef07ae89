// SPDX-License-Identifier: Apache-2.0

package network_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/facts/network"
)

// dataCase is a case of testdata: objects, changes to them, and which connections
// are allowed.
type dataCase struct {
	Name string `json:"name"`
	// Objects stand in the place of those that all cases have: see house.
	Objects  []js       `json:"objects"`
	Policies []js       `json:"policies"`
	Steps    []dataStep `json:"steps"`
}

type dataStep struct {
	Changes []dataChange `json:"changes"`
	// Probes are written "red-0 > blue-0 TCP 80: allowed", denied or unknown;
	// what follows in brackets is among the reasons.
	Probes []string `json:"probes"`
	// Exposures are written "red/Pod/red-0 TCP 80 Ingress example.com: allowed".
	Exposures []string `json:"exposures"`
}

// dataChange is one change: of the order of rules, of a field, of the rules, of
// the labels of a namespace, or that a policy goes.
type dataChange struct {
	Policy    string         `json:"policy"`
	Swap      string         `json:"swap"`
	Rules     []int          `json:"rules"`
	Set       []any          `json:"set"`
	Value     any            `json:"value"`
	Prepend   string         `json:"prepend"`
	Rule      any            `json:"rule"`
	Namespace string         `json:"namespace"`
	Labels    map[string]any `json:"labels"`
	Delete    string         `json:"delete"`
}

func TestData(t *testing.T) {
	for _, file := range []string{"conformance.yaml", "cases.yaml"} {
		data, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range bytes.Split(data, []byte("\n---\n"))[1:] {
			var c dataCase
			if err := yaml.UnmarshalStrict(text, &c); err != nil {
				t.Fatalf("%s: %v\n%s", file, err, text)
			}
			t.Run(strings.ReplaceAll(c.Name, " ", "-"), c.hold)
		}
	}
}

func (c *dataCase) hold(t *testing.T) {
	objects := c.Objects
	if objects == nil {
		objects = house()
	}
	objects = append(objects, c.Policies...)
	m := network.NewModel(nil, complete)
	put := func(v js) {
		o := newObject(v)
		m.Set(o.Ref, network.Keep(o))
	}
	for _, v := range objects {
		put(v)
	}
	for i, s := range c.Steps {
		for _, change := range s.Changes {
			for _, v := range objects {
				meta := v["metadata"].(js)
				switch {
				case v["kind"] == "Namespace" && meta["name"] == change.Namespace:
					meta["labels"] = change.Labels
				case !strings.HasSuffix(v["kind"].(string), "Policy"):
					continue
				case change.Delete == meta["name"]:
					m.Set(newObject(v).Ref, nil)
					continue
				case change.Policy == meta["name"]:
					change.apply(t, v)
				}
				put(v)
			}
		}
		for _, p := range s.Probes {
			probe(t, m, fmt.Sprintf("step %d: %s", i, p), p)
		}
		if s.Exposures != nil {
			var got []string
			for _, e := range m.Exposures() {
				verdict := "denied"
				if e.Allowed {
					verdict = "allowed"
				} else if e.Unknown != "" {
					verdict = "unknown"
				}
				got = append(got, strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s", e.Class, e.Port, e.Way, e.Host)), " ")+": "+verdict)
			}
			if !slices.Equal(got, s.Exposures) {
				t.Errorf("step %d: exposures are\n%s\nwant\n%s", i, strings.Join(got, "\n"), strings.Join(s.Exposures, "\n"))
			}
		}
	}
}

func (c *dataChange) apply(t *testing.T, v js) {
	t.Helper()
	spec := v["spec"].(js)
	switch {
	case c.Swap != "":
		rules := spec[c.Swap].([]any)
		i, j := c.Rules[0], c.Rules[1]
		rules[i], rules[j] = rules[j], rules[i]
	case c.Prepend != "":
		spec[c.Prepend] = append([]any{c.Rule}, spec[c.Prepend].([]any)...)
	case c.Set != nil:
		var at any = v
		for _, key := range c.Set[:len(c.Set)-1] {
			at = child(at, key)
		}
		at.(js)[c.Set[len(c.Set)-1].(string)] = c.Value
	default:
		t.Fatalf("a change of %s that changes nothing", c.Policy)
	}
}

func child(v, key any) any {
	if name, ok := key.(string); ok {
		return v.(js)[name]
	}
	return v.([]any)[int(key.(float64))]
}

// house are the objects of a case that has none of its own: two pods in each of
// four namespaces, and two on the network of their nodes.
func house() []js {
	var out []js
	ip := 0
	for _, team := range []string{"red", "green", "yellow", "blue", "metal"} {
		out = append(out, js{"apiVersion": "v1", "kind": "Namespace", "metadata": js{"name": team, "labels": js{"team": team}}})
		for i := range 2 {
			ip++
			pod := js{
				"apiVersion": "v1", "kind": "Pod", "metadata": js{"name": fmt.Sprintf("%s-%d", team, i), "namespace": team, "labels": js{"team": team, "number": strconv.Itoa(i)}},
				"spec": js{"containers": []any{js{"name": "c", "ports": []any{
					js{"containerPort": 80, "name": "web"}, js{"containerPort": 53, "name": "dns", "protocol": "UDP"},
				}}}},
				"status": js{"podIP": fmt.Sprintf("10.0.0.%d", ip)},
			}
			if team == "metal" {
				pod["spec"].(js)["hostNetwork"] = true
				pod["status"] = js{"podIP": fmt.Sprintf("172.18.0.%d", i+2)}
			}
			out = append(out, pod)
		}
	}
	for i := range 2 {
		out = append(out, js{
			"apiVersion": "v1", "kind": "Node", "metadata": js{"name": fmt.Sprintf("node-%d", i), "labels": js{"kubernetes.io/os": "linux"}},
			"status": js{"addresses": []any{js{"type": "InternalIP", "address": fmt.Sprintf("172.18.0.%d", i+2)}}},
		})
	}
	return out
}

var probeForm = regexp.MustCompile(`^(\S+) > (\S+) (TCP|UDP|SCTP) (\d+): (allowed|denied|unknown)(?: \[(.*)\])?$`)

// probe holds one connection against what is said of it.
func probe(t *testing.T, m *network.Model, where, text string) {
	t.Helper()
	parts := probeForm.FindStringSubmatch(text)
	if parts == nil {
		t.Fatalf("%s: not a probe", where)
	}
	number, err := strconv.ParseInt(parts[4], 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	v := m.Connects(peerOf(t, m, parts[1]), peerOf(t, m, parts[2]), network.Port{Protocol: parts[3], Number: int32(number)})
	got := "denied"
	if v.Allowed {
		got = "allowed"
	} else if v.Unknown != "" {
		got = "unknown"
	}
	if got != parts[5] {
		t.Errorf("%s: %s (%s)\negress: %+v\ningress: %+v", where, got, v.Unknown, v.Egress, v.Ingress)
	}
	if reasons := fmt.Sprint(v.Egress.By, v.Ingress.By, v.Unknown); !strings.Contains(reasons, parts[6]) {
		t.Errorf("%s: %q is not among the reasons: %s", where, parts[6], reasons)
	}
}

// peerOf returns the end of a connection that a probe names: pods, addresses, or
// "outside".
func peerOf(t *testing.T, m *network.Model, name string) network.Peer {
	t.Helper()
	if name == "outside" {
		return network.Peer{}
	}
	if prefix, err := netip.ParsePrefix(name); err == nil {
		return network.Peer{CIDR: prefix}
	}
	found, err := m.Find(name)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %d classes, %v", name, len(found), err)
	}
	return network.Peer{Class: found[0]}
}

// TestProbesAreMany says how much testdata holds.
func TestProbesAreMany(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "conformance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(regexp.MustCompile(`\d: (allowed|denied)`).FindAll(data, -1)); n != 301 {
		t.Errorf("conformance.yaml has %d probes, want the 301 of the suite", n)
	}
}
