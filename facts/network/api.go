// SPDX-License-Identifier: Apache-2.0

package network

import (
	"net/netip"

	"sconce.dev/sconce/object"
)

// Class is pods that nothing in the model tells apart: those of one owner that
// have the same labels, ports and network.
type Class struct {
	// ID is the class's number in the model; it stays while the class does.
	ID        int               `json:"id"`
	Namespace string            `json:"namespace,omitempty"`
	Workload  string            `json:"workload"` // Deployment/web
	Refs      []object.Ref      `json:"refs"`     // of the objects that hold its pods
	Labels    map[string]string `json:"labels,omitempty"`
	// Pods counts the pods that are there, else those that are asked for.
	Pods        int    `json:"pods"`
	HostNetwork bool   `json:"hostNetwork,omitempty"`
	Ports       []Port `json:"ports,omitempty"` // that its containers declare
	// Unknown says what of the pods could not be read.
	Unknown string `json:"unknown,omitempty"`
}

// String names the class as it is asked for: shop/Deployment/web.
func (c *Class) String() string {
	if c.Namespace == "" {
		return c.Workload
	}
	return c.Namespace + "/" + c.Workload
}

// Peer is one end of a connection: a class, or addresses outside the cluster.
// The zero Peer is anywhere outside the cluster.
type Peer struct {
	Class *Class       `json:"class,omitempty"`
	CIDR  netip.Prefix `json:"cidr,omitzero"`
}

// Verdict is whether a connection is allowed, and who decides that.
type Verdict struct {
	// Allowed says that it surely is; of addresses, that it is for some of them.
	Allowed bool `json:"allowed"`
	// Partly says that it is not for all addresses of the peer.
	Partly bool `json:"partly,omitempty"`
	// Unknown says why it may be allowed, where that is not known.
	Unknown string   `json:"unknown,omitempty"`
	Egress  Decision `json:"egress"`
	Ingress Decision `json:"ingress"`
}

// Decision is that of one end of a connection.
type Decision struct {
	Allowed bool     `json:"allowed"`
	Unknown string   `json:"unknown,omitempty"`
	By      []Reason `json:"by,omitempty"`
}

// Reason is a policy that decides, or what does where none does.
type Reason struct {
	// Policy is the zero Ref where no policy decides.
	Policy object.Ref `json:"policy,omitzero"`
	// Rule is the rule's place in the policy's list for the direction; -1 where
	// it is the policy that decides, by selecting the pods and allowing nothing.
	Rule int `json:"rule"`
	// Name is that of the rule, if it has one.
	Name     string          `json:"name,omitempty"`
	Position object.Position `json:"position,omitzero"`
	// Words say it in a sentence without a full stop.
	Words string `json:"words"`
}

// Way is how traffic from outside gets to pods.
type Way string

// The ways in.
const (
	LoadBalancer Way = "LoadBalancer"
	NodePort     Way = "NodePort"
	ExternalIP   Way = "ExternalIP"
	Ingress      Way = "Ingress"
	Route        Way = "Route"
	HostPort     Way = "HostPort"
	HostNetwork  Way = "HostNetwork"
)

// Exposure is a way in from outside to pods.
type Exposure struct {
	Class *Class `json:"class"`
	// Port is the port of the pods that is reached; number 0 of a pod on the
	// network of its node that declares no ports stands for all.
	Port Port `json:"port"`
	Way  Way  `json:"way"`
	// Outside is the port that is open to the outside; 0 where it is not known.
	Outside int32 `json:"outside,omitempty"`
	// Via are the objects that make the way, from the outside inwards.
	Via []object.Ref `json:"via,omitempty"`
	// Host is the host name that leads here; empty for any.
	Host string `json:"host,omitempty"`
	// Sources are the addresses that it is open to, where these are limited.
	Sources []string `json:"sources,omitempty"`
	// Internal says that a load balancer is asked to stay inside the networks of
	// the provider.
	Internal bool `json:"internal,omitempty"`
	// Allowed says that the policies surely let it through; By who decides, and
	// Unknown why it is not known.
	Allowed bool     `json:"allowed"`
	By      []Reason `json:"by,omitempty"`
	Unknown string   `json:"unknown,omitempty"`
}
