// SPDX-License-Identifier: Apache-2.0

package networkpolicy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/generate/recording"
)

// flowsOf reads a text as a recording.
func flowsOf(t testing.TB, text string) *Flows {
	t.Helper()
	f := NewFlows()
	r, err := recording.Open(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Read(r, "flows"); err != nil {
		t.Fatal(err)
	}
	return f
}

// hubbleFlow is a flow as hubble observe -o json prints it.
const hubbleFlow = `{"flow":{"time":"2026-03-01T08:00:00.123Z","uuid":"x","verdict":%q,"ethernet":{},"IP":{"source":"10.0.1.1","destination":%q,"ipVersion":"IPv4"},` +
	`"l4":{"TCP":{"source_port":40000,"destination_port":5432,"flags":{"SYN":true}}},"source":{"ID":1,"identity":2,"namespace":"shop","labels":["k8s:app=web","k8s:io.kubernetes.pod.namespace=shop","k8s:pod-template-hash=abc"],"pod_name":"web-abc-x7k2p","workloads":[{"name":"web","kind":"Deployment"}]},` +
	`"destination":%s,"Type":"L3_L4","node_name":"n1"%s,"traffic_direction":"EGRESS","Summary":"TCP Flags: SYN"},"node_name":"n1","time":"2026-03-01T08:00:00.123Z"}`

const (
	hubbleDB    = `{"namespace":"shop","labels":["k8s:app=db"],"pod_name":"db-0","workloads":[{"name":"db","kind":"StatefulSet"}]}`
	hubbleWorld = `{"identity":2,"labels":["reserved:world"]}`
	hubbleHost  = `{"identity":1,"labels":["reserved:host"]}`
)

// TestFlows holds what is read of each format.
func TestFlows(t *testing.T) {
	reply := func(b string) string { return `,"is_reply":` + b }
	calico := func(action, port, dest string) string {
		return `{"start_time":1772352000,"end_time":1772352300,"source_ip":null,"source_name":"-","source_name_aggr":"web-6d4b75cb6d-*","source_namespace":"shop","source_port":null,"source_type":"wep","source_labels":{"labels":["app=web","pod-template-hash=6d4b75cb6d"]},` +
			`"dest_port":` + port + `,` + dest + `,"proto":"tcp","action":"` + action + `","reporter":"src","num_flows":3}`
	}
	calicoDB := `"dest_ip":null,"dest_name":"-","dest_name_aggr":"db-*","dest_namespace":"shop","dest_type":"wep","dest_labels":null`
	for _, tc := range []struct {
		name, text       string
		allowed, dropped []string
		check            func(*Flows) bool
	}{
		{"Hubble", fmt.Sprintf(hubbleFlow, "FORWARDED", "10.0.1.2", hubbleDB, reply("false")), []string{"shop/Deployment/web → shop/StatefulSet/db TCP 5432"}, nil, nil},
		{"Hubble, a reply", fmt.Sprintf(hubbleFlow, "FORWARDED", "10.0.1.2", hubbleDB, reply("true")), nil, nil, func(f *Flows) bool { return f.Replies == 1 }},
		{"Hubble, dropped", fmt.Sprintf(hubbleFlow, "DROPPED", "10.0.1.2", hubbleDB, reply("false")), nil, []string{"shop/Deployment/web → shop/StatefulSet/db TCP 5432"}, nil},
		{"Hubble, no direction but a SYN", fmt.Sprintf(hubbleFlow, "FORWARDED", "10.0.1.2", hubbleDB, ""), []string{"shop/Deployment/web → shop/StatefulSet/db TCP 5432"}, nil, nil},
		{"Hubble, no direction", strings.Replace(fmt.Sprintf(hubbleFlow, "FORWARDED", "10.0.1.2", hubbleDB, ""), `"SYN":true`, `"ACK":true`, 1), nil, nil, func(f *Flows) bool { return f.Undirected == 1 }},
		{"Hubble, to the world", fmt.Sprintf(hubbleFlow, "FORWARDED", "198.51.100.7", hubbleWorld, reply("false")), []string{"shop/Deployment/web → 198.51.100.7 TCP 5432"}, nil, nil},
		{"Hubble, to a node", fmt.Sprintf(hubbleFlow, "FORWARDED", "10.9.9.9", hubbleHost, reply("false")), []string{"shop/Deployment/web → the node 10.9.9.9 TCP 5432"}, nil, nil},
		{"Hubble, ICMP", strings.Replace(fmt.Sprintf(hubbleFlow, "FORWARDED", "10.0.1.2", hubbleDB, reply("false")), `"TCP"`, `"ICMPv4"`, 1), nil, nil, func(f *Flows) bool { return f.NoPort == 1 }},
		{"Hubble, no verdict", fmt.Sprintf(hubbleFlow, "TRACED", "10.0.1.2", hubbleDB, reply("false")), nil, nil, func(f *Flows) bool { return f.Undecided == 1 }},
		{"Hubble, lost events", `{"lost_events":{"source":"PERF_EVENT_RING_BUFFER","num_events_lost":"3"},"node_name":"n1"}`, nil, nil, nil},
		{"Calico", calico("allow", "5432", calicoDB), []string{"shop/web-6d4b75cb6d-* → shop/db-* TCP 5432"}, nil, nil},
		{"Calico, denied", calico("deny", "5432", calicoDB), nil, []string{"shop/web-6d4b75cb6d-* → shop/db-* TCP 5432"}, nil},
		{"Calico, outside", calico("allow", "443", `"dest_ip":"198.51.100.7","dest_name":"-","dest_name_aggr":"pub","dest_namespace":"-","dest_type":"net"`), []string{"shop/web-6d4b75cb6d-* → 198.51.100.7 TCP 443"}, nil, nil},
		{"Calico, outside, aggregated", calico("allow", "443", `"dest_ip":null,"dest_name":"-","dest_name_aggr":"pub","dest_namespace":"-","dest_type":"net"`), []string{"shop/web-6d4b75cb6d-* → outside TCP 443"}, nil, nil},
		{"our own JSON", `{"from":"shop/web","to":"shop/statefulset/db","protocol":"tcp","port":5432,"time":"2026-03-01T08:00:00Z"}`, []string{"shop/web → shop/statefulset/db TCP 5432"}, nil, nil},
		{"our own CSV", "From,to,port,protocol,time\nshop/web,198.51.100.0/24,443,,\n\"shop/web\",outside,53,udp,2026-03-01T08:00:00Z\n", []string{"shop/web → 198.51.100.0/24 TCP 443", "shop/web → outside UDP 53"}, nil, nil},
		{"what is wrong in CSV", "from,to,port\nweb,shop/db,1\nshop/web,shop/db,x\nshop/web,shop/db,70000\n\"shop\nshop/web,shop/db,80\n", []string{"shop/web → shop/db TCP 80"}, nil, func(f *Flows) bool { return f.Faults.Count == 4 }},
		{"what is no flow", "{\"a\":1}\nhello\n[1]\n", nil, nil, func(f *Flows) bool { return f.Faults.Count == 3 }},
		{"fields of another type", `{"flow":{"verdict":7}}`, nil, nil, func(f *Flows) bool { return f.Faults.Count == 1 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := flowsOf(t, tc.text)
			said := func(flows []*Flow) (out []string) {
				for _, x := range flows {
					out = append(out, x.String())
				}
				return out
			}
			if got := said(f.Allowed()); !slices.Equal(got, tc.allowed) {
				t.Errorf("got %q as allowed, want %q", got, tc.allowed)
			}
			if got := said(f.Dropped()); !slices.Equal(got, tc.dropped) {
				t.Errorf("got %q as dropped, want %q", got, tc.dropped)
			}
			if tc.check != nil && !tc.check(f) {
				t.Errorf("got %+v", f)
			} else if tc.check == nil && f.Faults.Count > 0 {
				t.Errorf("got the faults %v", f.Faults)
			}
		})
	}
}

// FuzzFlows holds that no recording makes the reader or the generator panic, and
// that what is not read is counted.
func FuzzFlows(f *testing.F) {
	f.Add(fmt.Sprintf(hubbleFlow, "FORWARDED", "10.0.1.2", hubbleDB, `,"is_reply":false`))
	f.Add(`{"from":"shop/web","to":"shop/db","port":5432}`)
	f.Add("from,to,port\nshop/web,outside,443\n")
	f.Add(`{"start_time":1,"source_type":"wep","source_namespace":"shop","source_name_aggr":"web-*","dest_type":"net","dest_namespace":"-","dest_port":1,"proto":17,"action":"allow"}`)
	kept := keptOf(f, shop)
	f.Fuzz(func(t *testing.T, text string) {
		if strings.HasPrefix(text, "\x1f\x8b") {
			return
		}
		flows := flowsOf(t, text)
		if _, err := Generate(kept, flows, facts.Env{Complete: true}, Options{}); err != nil {
			t.Fatal(err)
		}
	})
}
