// SPDX-License-Identifier: Apache-2.0

package networkpolicy

import (
	"encoding/json"
	"strings"
	"time"

	"sconce.dev/sconce/facts/network"
)

// calico is a flow log of Calico. What is aggregated away is null or "-".
type calico struct {
	Start           json.RawMessage `json:"start_time"`
	Action          string          `json:"action"`
	SourceType      string          `json:"source_type"` // wep, net, ns, hep
	SourceNamespace string          `json:"source_namespace"`
	SourceName      string          `json:"source_name"`
	SourceAggregate string          `json:"source_name_aggr"`
	SourceIP        string          `json:"source_ip"`
	SourceLabels    json.RawMessage `json:"source_labels"`
	DestType        string          `json:"dest_type"`
	DestNamespace   string          `json:"dest_namespace"`
	DestName        string          `json:"dest_name"`
	DestAggregate   string          `json:"dest_name_aggr"`
	DestIP          string          `json:"dest_ip"`
	DestLabels      json.RawMessage `json:"dest_labels"`
	DestPort        json.Number     `json:"dest_port"`
	Proto           json.RawMessage `json:"proto"`
}

func (f *Flows) addCalico(c *calico, protocol string) error {
	f.Records++
	if len(c.Proto) > 0 {
		protocol = strings.Trim(string(c.Proto), `"`)
	}
	name, ok := protocolOf(protocol)
	number, err := c.DestPort.Int64()
	if !ok || err != nil || number < 1 || number > 65535 {
		f.NoPort++
		return nil
	}
	dropped := false
	switch strings.ToLower(c.Action) {
	case "allow":
	case "deny":
		dropped = true
	default:
		f.Undecided++
		return nil
	}
	when, _ := time.Parse(time.RFC3339Nano, at(c.Start)) // none is counted as such
	f.add(Flow{
		From: calicoEndpoint(c.SourceType, c.SourceNamespace, c.SourceName, c.SourceAggregate, c.SourceIP, c.SourceLabels),
		To:   calicoEndpoint(c.DestType, c.DestNamespace, c.DestName, c.DestAggregate, c.DestIP, c.DestLabels),
		Port: network.Port{Protocol: name, Number: int32(number)},
	}, dropped, when)
	return nil
}

func calicoEndpoint(kind, namespace, name, aggregate, address string, labels json.RawMessage) Endpoint {
	if namespace == "-" || namespace == "" || kind == "net" || kind == "ns" || kind == "hep" {
		e := noPod(address, false)
		switch {
		case e.Address.IsValid():
		case kind == "hep":
			e.Node = true // which node's is not told
		case aggregate == "pvt":
			e.Address = allIPv4
		}
		return e
	}
	e := Endpoint{Namespace: namespace, Pod: name, Labels: calicoLabels(labels)}
	if e.Pod == "" || e.Pod == "-" {
		e.Pod = aggregate
	}
	return e
}

// calicoLabels reads labels as a list in an object, a list, or a text.
func calicoLabels(raw json.RawMessage) map[string]string {
	var object struct {
		Labels []string `json:"labels"`
	}
	var list []string
	var text string
	switch {
	case json.Unmarshal(raw, &object) == nil && object.Labels != nil:
		list = object.Labels
	case json.Unmarshal(raw, &list) == nil:
	case json.Unmarshal(raw, &text) == nil:
		list = strings.FieldsFunc(text, func(r rune) bool { return r == '|' || r == ',' })
	}
	out := map[string]string{}
	for _, l := range list {
		if key, value, ok := strings.Cut(strings.TrimSpace(l), "="); ok && !unstable(key) {
			out[key] = value
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
