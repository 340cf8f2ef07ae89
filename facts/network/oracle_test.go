// SPDX-License-Identifier: Apache-2.0

package network_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/object"
)

// oracleCase is a case of a truth table of connections: pods, policies, and what
// is to become of every flow.
type oracleCase struct {
	Case, Step  int
	Description string
	Tags        []string
	Pods        map[string]struct {
		Labels          map[string]any
		NamespaceLabels map[string]any `json:"ns_labels"`
		IP              string
	}
	Policies []map[string]any
	Flows    [][]any // from, to, protocol, port, name of the port, allowed or blocked
}

// oracleFiles are the tables that stand beside the repository, if they do.
func oracleFiles(t *testing.T) []string {
	t.Helper()
	folder := os.Getenv("SCONCE_ORACLES")
	if folder == "" {
		folder = filepath.Join("..", "..", "..", "shared", "oracles")
	}
	files, err := filepath.Glob(filepath.Join(folder, "cyclonus-*.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// disagreements are flows of which the table says what the API does not, by
// "case step from to protocol port", each with the reason. There are none.
var disagreements = map[string]string{}

// TestOracle holds every flow of the truth tables of Cyclonus against the model.
// Flows of a pod to itself are in them as if policies were asked, and so they
// are here: Connects is about two pods of a class.
func TestOracle(t *testing.T) {
	files := oracleFiles(t)
	if len(files) == 0 {
		t.Skip("no cyclonus-*.jsonl.gz beside the repository or in SCONCE_ORACLES; testdata has cases of our own")
	}
	cases, flows := 0, 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(z)
		lines.Buffer(nil, 64<<20)
		for lines.Scan() {
			var c oracleCase
			if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
				t.Fatal(err)
			}
			cases++
			flows += c.hold(t)
		}
		if err := lines.Err(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d cases, %d flows", cases, flows)
}

func (c *oracleCase) hold(t *testing.T) int {
	t.Helper()
	m := c.model()
	peers := map[string]network.Peer{}
	for name := range c.Pods {
		found, err := m.Find(strings.Replace(name, "/", "/pod/", 1))
		if err != nil || len(found) != 1 {
			t.Fatalf("case %d: finding %s: %d, %v", c.Case, name, len(found), err)
		}
		peers[name] = network.Peer{Class: found[0]}
	}
	for _, f := range c.Flows {
		port := network.Port{Protocol: f[2].(string), Number: int32(f[3].(float64))}
		v := m.Connects(peers[f[0].(string)], peers[f[1].(string)], port)
		want := f[5] == "allowed"
		key := fmt.Sprintf("%d %d %v %v %v %v", c.Case, c.Step, f[0], f[1], f[2], f[3])
		if (v.Allowed != want || v.Unknown != "") && disagreements[key] == "" {
			t.Errorf("case %s (%s): allowed %t, unknown %q; want %t\negress: %+v\ningress: %+v", key, c.Description, v.Allowed, v.Unknown, want, v.Egress, v.Ingress)
		}
	}
	return len(c.Flows)
}

// model returns the model of the case.
func (c *oracleCase) model() *network.Model {
	var kept []any
	namespaces := map[string]bool{}
	for name, pod := range c.Pods {
		namespace, name, _ := strings.Cut(name, "/")
		if !namespaces[namespace] {
			namespaces[namespace] = true
			kept = append(kept, keep(map[string]any{
				"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace, "labels": pod.NamespaceLabels},
			}))
		}
		var ports []any
		for _, p := range []int64{80, 81} {
			for _, protocol := range []string{"TCP", "UDP", "SCTP"} {
				ports = append(ports, map[string]any{
					"containerPort": p, "protocol": protocol, "name": fmt.Sprintf("serve-%d-%s", p, strings.ToLower(protocol)),
				})
			}
		}
		kept = append(kept, keep(map[string]any{
			"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": name, "namespace": namespace, "labels": pod.Labels},
			"spec":   map[string]any{"containers": []any{map[string]any{"name": "c", "ports": ports}}},
			"status": map[string]any{"podIP": pod.IP},
		}))
	}
	for _, p := range c.Policies {
		p["apiVersion"], p["kind"] = "networking.k8s.io/v1", "NetworkPolicy"
		kept = append(kept, keep(p))
	}
	return network.NewModel(kept, &facts.Env{Complete: true})
}

// keep returns what the model keeps of an object that is given as JSON is.
func keep(v map[string]any) any {
	return network.Keep(newObject(v))
}

// newObject returns an object as it comes from a file: whole numbers are such.
func newObject(v map[string]any) *object.Object {
	return object.New(object.FromAny(whole(v)), &object.Origin{Source: "cluster"})
}

// whole makes whole numbers of those that encoding/json made of them.
func whole(v any) any {
	switch v := v.(type) {
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
	case int:
		return int64(v)
	case []any:
		for i := range v {
			v[i] = whole(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = whole(v[k])
		}
	}
	return v
}
