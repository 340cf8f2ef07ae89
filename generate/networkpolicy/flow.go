// SPDX-License-Identifier: Apache-2.0

package networkpolicy

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/generate/recording"
)

// Endpoint is one end of a connection as a recording tells it: as much of it as
// is known.
type Endpoint struct {
	Namespace string `json:"namespace,omitempty"`
	// Workload is Deployment/web, or the name alone; Pod the name of the pod,
	// which may end in * where the recording cuts it.
	Workload string            `json:"workload,omitempty"`
	Pod      string            `json:"pod,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	// Address is that of what is no pod; without one it is anywhere outside.
	Address netip.Prefix `json:"address,omitzero"`
	// Node says that it is a node, which may be the pod's own: the kubelet, or what
	// shares its network.
	Node bool `json:"node,omitempty"`
	// Outside says that it is no pod.
	Outside bool `json:"outside,omitempty"`
}

// String says the endpoint in words.
func (e *Endpoint) String() string {
	switch {
	case e.Node && e.Address.IsValid():
		return "the node " + e.Address.Addr().String()
	case e.Node:
		return "a node"
	case e.Address.IsValid() && e.Address.IsSingleIP():
		return e.Address.Addr().String()
	case e.Address.IsValid():
		return e.Address.String()
	case e.Outside:
		return "outside"
	case e.Workload != "":
		return e.Namespace + "/" + e.Workload
	case e.Pod != "":
		return e.Namespace + "/" + e.Pod
	}
	return fmt.Sprintf("%s/%v", e.Namespace, labelText(e.Labels))
}

func labelText(labels map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		out = append(out, k+"="+labels[k])
	}
	return strings.Join(out, ",")
}

// anywhere says that the address of what is no pod is not told.
func (e *Endpoint) anywhere() bool {
	return !e.Address.IsValid() || e.Address.Bits() == 0
}

// Flow is connections of one kind that were recorded.
type Flow struct {
	From  Endpoint     `json:"from"`
	To    Endpoint     `json:"to"`
	Port  network.Port `json:"port"`
	Count int          `json:"count"`
	Last  time.Time    `json:"last,omitzero"`
}

// String says the flow in words.
func (f *Flow) String() string { return fmt.Sprintf("%s → %s %s", &f.From, &f.To, f.Port) }

// Flows are what recordings tell.
type Flows struct {
	// Window is the time of the records that count.
	Window recording.Window `json:"window"`
	// Records were read. Of these, Replies are of connections that are told
	// anyway, Undirected do not tell whether they are such, NoPort have no port
	// that a policy could name (ICMP), and Undecided no verdict.
	Records    int `json:"records"`
	Replies    int `json:"replies"`
	Undirected int `json:"undirected"`
	NoPort     int `json:"noPort"`
	Undecided  int `json:"undecided"`
	// TooMany are of more kinds than are kept.
	TooMany int              `json:"tooMany,omitempty"`
	Faults  recording.Faults `json:"faults"`

	allowed, dropped map[string]*Flow
}

// maxFlows is how many kinds of flows are kept.
const maxFlows = 200_000

// NewFlows returns an empty recording.
func NewFlows() *Flows { return &Flows{allowed: map[string]*Flow{}, dropped: map[string]*Flow{}} }

// Allowed are the flows that got through, Dropped those that did not; sorted.
func (f *Flows) Allowed() []*Flow { return sortedFlows(f.allowed) }

// Dropped are the flows that did not get through.
func (f *Flows) Dropped() []*Flow { return sortedFlows(f.dropped) }

func sortedFlows(m map[string]*Flow) []*Flow {
	out := make([]*Flow, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[k])
	}
	return out
}

// Read adds a recording: Hubble's flows as JSON, Calico's flow logs as JSON, or
// the form of our own, as JSON or CSV (from, to, protocol, port, time). It may be
// packed with gzip. What is malformed is counted; the error is that of the
// reader.
func (f *Flows) Read(r *bufio.Reader, file string) error {
	if head, _ := r.Peek(5); bytes.EqualFold(head, []byte("from,")) {
		return f.readCSV(r, file)
	}
	return recording.Values(r, file, &f.Faults, func(line int, value []byte) {
		if err := f.value(value, 0); err != nil {
			f.Faults.Add(file, line, "%v", err)
		}
	})
}

// record is a record of any of the formats.
type record struct {
	Flow json.RawMessage `json:"flow"` // Hubble, as it is exported
	hubble
	calico
	From     string          `json:"from"`
	To       string          `json:"to"`
	Protocol string          `json:"protocol"`
	Port     json.RawMessage `json:"port"`
	Time     json.RawMessage `json:"time"`
	Result   json.RawMessage `json:"result"` // Hubble's gateway
	// Hubble tells more than flows in the same stream.
	NodeStatus  json.RawMessage `json:"node_status"`
	LostEvents  json.RawMessage `json:"lost_events"`
	AgentEvent  json.RawMessage `json:"agent_event"`
	SourceIndex json.RawMessage `json:"_source"` // Elasticsearch
}

// maxWraps is how many envelopes a record may stand in.
const maxWraps = 3

func (f *Flows) value(value []byte, wraps int) error {
	var r record
	if err := json.Unmarshal(value, &r); err != nil {
		return fmt.Errorf("this is no flow: %s", typeError(err))
	}
	for _, inner := range []json.RawMessage{r.Flow, r.Result, r.SourceIndex} {
		if len(inner) > 0 && inner[0] == '{' && wraps < maxWraps {
			return f.value(inner, wraps+1)
		}
	}
	switch {
	case r.From != "" || r.To != "":
		return f.plain(r.From, r.To, r.Protocol, strings.Trim(string(r.Port), `"`), at(r.Time))
	case r.SourceType != "" || r.DestType != "" || r.DestNamespace != "" || r.SourceNamespace != "" || r.Action != "":
		return f.addCalico(&r.calico, r.Protocol)
	case r.L4 != nil || r.Verdict != "" || r.Source != nil:
		return f.addHubble(&r.hubble, at(r.Time))
	case r.NodeStatus != nil || r.LostEvents != nil || r.AgentEvent != nil:
		return nil
	}
	return errors.New("this is JSON, but no flow of Hubble or Calico, and has no from and to")
}

// typeError says which field has another type than it should.
func typeError(err error) string {
	var t *json.UnmarshalTypeError
	if errors.As(err, &t) && t.Field != "" {
		return "its " + t.Field + " is a " + t.Value
	}
	return "it cannot be decoded"
}

// add adds a flow.
func (f *Flows) add(flow Flow, dropped bool, at time.Time) {
	f.Window.Add(at)
	into := f.allowed
	if dropped {
		into = f.dropped
	}
	key := flow.String() + "\x00" + labelText(flow.From.Labels) + "\x00" + labelText(flow.To.Labels)
	known := into[key]
	if known == nil {
		if len(into) == maxFlows {
			f.TooMany++
			return
		}
		known = &flow
		into[key] = known
	}
	known.Count++
	if at.After(known.Last) {
		known.Last = at
	}
}

// plain adds a flow in the form of our own.
func (f *Flows) plain(from, to, protocol, port, at string) error {
	f.Records++
	source, err := plainEndpoint(from)
	if err != nil {
		return fmt.Errorf("from: %w", err)
	}
	target, err := plainEndpoint(to)
	if err != nil {
		return fmt.Errorf("to: %w", err)
	}
	number, err := strconv.ParseInt(port, 10, 32)
	if err != nil || number < 1 || number > 65535 {
		return fmt.Errorf("port: want a number from 1 to 65535")
	}
	protocol, ok := protocolOf(protocol)
	if !ok {
		return fmt.Errorf("protocol: want TCP, UDP or SCTP")
	}
	when := time.Time{}
	if at != "" {
		if when, err = time.Parse(time.RFC3339Nano, at); err != nil {
			return errors.New("time: want RFC 3339, as in 2026-03-01T08:00:00Z, or none")
		}
	}
	f.add(Flow{From: source, To: target, Port: network.Port{Protocol: protocol, Number: int32(number)}}, false, when)
	return nil
}

// plainEndpoint reads NAMESPACE/NAME, NAMESPACE/KIND/NAME, an address, a range
// of addresses, or the word outside.
func plainEndpoint(s string) (Endpoint, error) {
	s = strings.TrimSpace(s)
	if strings.EqualFold(s, "outside") {
		return Endpoint{Outside: true}, nil
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		return outsideAt(addr), nil
	}
	if prefix, err := netip.ParsePrefix(s); err == nil {
		return Endpoint{Outside: true, Address: prefix.Masked()}, nil
	}
	namespace, name, ok := strings.Cut(s, "/")
	if !ok || namespace == "" || name == "" || strings.Count(name, "/") > 1 || strings.ContainsAny(s, " \t") {
		return Endpoint{}, errors.New("want NAMESPACE/NAME, NAMESPACE/KIND/NAME, an address, a CIDR or outside")
	}
	return Endpoint{Namespace: namespace, Workload: name}, nil
}

func outsideAt(addr netip.Addr) Endpoint {
	addr = addr.Unmap().WithZone("")
	return Endpoint{Outside: true, Address: netip.PrefixFrom(addr, addr.BitLen())}
}

// noPod returns the endpoint of what is no pod.
func noPod(address string, node bool) Endpoint {
	e := Endpoint{Outside: true}
	if addr, err := netip.ParseAddr(address); err == nil {
		e = outsideAt(addr)
	}
	e.Node = node
	return e
}

// protocolOf returns a protocol as policies name it.
func protocolOf(s string) (string, bool) {
	switch strings.ToUpper(strings.TrimSpace(s)) {
	case "TCP", "6", "":
		return network.TCP, true
	case "UDP", "17":
		return network.UDP, true
	case "SCTP", "132":
		return network.SCTP, true
	}
	return "", false
}

// maxLine is the longest line of CSV, in bytes.
const maxLine = 64 << 10

// readCSV reads the form of our own as CSV, by the names in its first line.
func (f *Flows) readCSV(r *bufio.Reader, file string) error {
	var columns map[string]int
	for line := 1; ; line++ {
		text, err := readLine(r)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, errLong) {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		switch fields, bad := csvFields(text); {
		case errors.Is(err, errLong):
			f.Faults.Add(file, line, "a line of more than %d KiB", maxLine>>10)
		case bad != nil:
			f.Faults.Add(file, line, "this is no CSV")
		case len(fields) == 0:
		case columns == nil:
			columns = map[string]int{}
			for i, name := range fields {
				columns[strings.ToLower(strings.TrimSpace(name))] = i
			}
		default:
			get := func(name string) string {
				if i, ok := columns[name]; ok && i < len(fields) {
					return strings.TrimSpace(fields[i])
				}
				return ""
			}
			if err := f.plain(get("from"), get("to"), get("protocol"), get("port"), get("time")); err != nil {
				f.Faults.Add(file, line, "%v", err)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
	}
}

var errLong = errors.New("the line is too long")

// readLine reads a line; of one that is too long nothing is kept.
func readLine(r *bufio.Reader) (string, error) {
	var out []byte
	long := false
	for {
		part, more, err := r.ReadLine()
		if err != nil {
			return "", err
		}
		if long = long || len(out)+len(part) > maxLine; !long {
			out = append(out, part...)
		}
		if !more {
			break
		}
	}
	if long {
		return "", errLong
	}
	return string(out), nil
}

func csvFields(line string) ([]string, error) {
	if strings.TrimSpace(line) == "" {
		return nil, nil
	}
	return csv.NewReader(strings.NewReader(line)).Read()
}
