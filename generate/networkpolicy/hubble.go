// SPDX-License-Identifier: Apache-2.0

package networkpolicy

import (
	"encoding/json"
	"errors"
	"strings"
	"time"

	"sconce.dev/sconce/facts/network"
)

// hubble is a flow of Cilium's Hubble, by the field names of its flow.proto.
type hubble struct {
	Verdict     string          `json:"verdict"`
	IP          *hubbleIP       `json:"IP"`
	L4          *hubbleL4       `json:"l4"`
	Source      *hubbleEndpoint `json:"source"`
	Destination *hubbleEndpoint `json:"destination"`
	IsReply     *bool           `json:"is_reply"`
	Reply       bool            `json:"reply"` // before is_reply
}

type hubbleIP struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
}

type hubbleL4 struct {
	TCP  *hubblePorts `json:"TCP"`
	UDP  *hubblePorts `json:"UDP"`
	SCTP *hubblePorts `json:"SCTP"`
}

type hubblePorts struct {
	Destination int32 `json:"destination_port"`
	Flags       struct {
		SYN, ACK bool
	} `json:"flags"`
}

type hubbleEndpoint struct {
	Namespace string   `json:"namespace"`
	Labels    []string `json:"labels"`
	Pod       string   `json:"pod_name"`
	Workloads []struct {
		Name string `json:"name"`
		Kind string `json:"kind"`
	} `json:"workloads"`
}

// port returns the port of the connection's end.
func (l *hubbleL4) port() (network.Port, *hubblePorts) {
	switch {
	case l == nil:
	case l.TCP != nil:
		return network.Port{Protocol: network.TCP, Number: l.TCP.Destination}, l.TCP
	case l.UDP != nil:
		return network.Port{Protocol: network.UDP, Number: l.UDP.Destination}, l.UDP
	case l.SCTP != nil:
		return network.Port{Protocol: network.SCTP, Number: l.SCTP.Destination}, l.SCTP
	}
	return network.Port{}, nil
}

func (f *Flows) addHubble(h *hubble, at string) error {
	f.Records++
	port, ports := h.L4.port()
	if ports == nil || port.Number < 1 || port.Number > 65535 {
		f.NoPort++
		return nil
	}
	dropped := false
	switch h.Verdict {
	case "FORWARDED", "REDIRECTED", "AUDIT": // AUDIT: only told, and let through
	case "DROPPED":
		dropped = true
	default:
		f.Undecided++
		return nil
	}
	switch {
	case h.Reply, h.IsReply != nil && *h.IsReply:
		f.Replies++
		return nil
	case h.IsReply == nil && (!ports.Flags.SYN || ports.Flags.ACK):
		f.Undirected++
		return nil
	}
	if h.Source == nil || h.Destination == nil {
		return errors.New("this is a flow without a source or a destination")
	}
	var ip hubbleIP
	if h.IP != nil {
		ip = *h.IP
	}
	when, _ := time.Parse(time.RFC3339Nano, at) // none is counted as such
	f.add(Flow{From: h.Source.endpoint(ip.Source), To: h.Destination.endpoint(ip.Destination), Port: port}, dropped, when)
	return nil
}

// endpoint returns what Hubble tells of one end.
func (h *hubbleEndpoint) endpoint(address string) Endpoint {
	e := Endpoint{Namespace: h.Namespace, Pod: h.Pod}
	if len(h.Workloads) == 1 && h.Workloads[0].Name != "" {
		e.Workload = strings.TrimPrefix(h.Workloads[0].Kind+"/"+h.Workloads[0].Name, "/")
	}
	for _, l := range h.Labels {
		key, value, _ := strings.Cut(l, "=")
		source, key, ok := strings.Cut(key, ":")
		switch {
		case !ok:
		case source == "reserved":
			// Policies hold for what comes from another node (remote-node).
			if key == "host" || key == "health" {
				e.Node = true
			}
		case source == "k8s" && key == "io.kubernetes.pod.namespace":
			e.Namespace = value
		case source == "k8s" && !strings.HasPrefix(key, "io.cilium.") && !strings.HasPrefix(key, "io.kubernetes.") && !unstable(key):
			if e.Labels == nil {
				e.Labels = map[string]string{}
			}
			e.Labels[key] = value
		}
	}
	if e.Node || e.Namespace == "" {
		return noPod(address, e.Node)
	}
	return e
}

// at returns the time of a record, which formats write as a string or a number
// of seconds.
func at(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	var seconds float64
	if json.Unmarshal(raw, &seconds) == nil && seconds > 0 && seconds < 1e11 {
		return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339Nano)
	}
	return ""
}
