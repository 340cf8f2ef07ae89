// SPDX-License-Identifier: Apache-2.0

package attackpath

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
)

// Edge is one way in which an attacker who holds one thing comes to hold
// another. Edges are data: a file edges/NAME.yaml each. What decides whether the
// edge is there is one of four things, or two of them together:
//
//   - Condition alone, about pods: something that a workload says of itself.
//   - Condition alone, about other kinds: something that an object says.
//   - Permission: what an identity must be allowed; with a Condition, only where
//     at least one object of the cluster does not meet it.
//   - Network: who can connect; with a Condition, only to workloads that do not
//     meet it.
//   - BuiltIn: the graph draws it by itself, since it joins objects of several
//     kinds (what a node hosts, what a subject is bound to).
type Edge struct {
	// Name is the edge's only identifier, as in POD_EXEC.
	Name string `json:"name"`
	// ID is its number in the list of attack steps, AT-017.
	ID string `json:"id"`
	// Title says in a few words what the attacker does: "runs a command in a pod".
	Title string `json:"title"`
	// Description says how, and what must hold for it.
	Description string `json:"description"`
	// Techniques are those of MITRE ATT&CK.
	Techniques []string `json:"techniques,omitempty"`
	// Effort is the edge's weight: 0 what needs no act, 1 one command, 3 some
	// work, 10 an exploit that must be found first.
	Effort int `json:"effort"`
	// From and To are places: see the constants.
	From string `json:"from"`
	To   string `json:"to"`

	Condition  *Condition  `json:"condition,omitempty"`
	Permission *Permission `json:"permission,omitempty"`
	Network    *Network    `json:"network,omitempty"`
	BuiltIn    bool        `json:"builtIn,omitempty"`

	// Mitigations are what takes the edge away, the first the one to advise.
	Mitigations []Mitigation `json:"mitigations,omitempty"`
	// Assumption says what the edge takes for granted and no object can show.
	Assumption string `json:"assumption,omitempty"`
	// Off says that the edge is left out unless somebody asks to assume it,
	// since nothing among the objects speaks for it. (In YAML 1.1 off is a
	// boolean and no key.)
	Off bool `json:"assumed,omitempty"`

	control  *control.Control
	required [][]access
	index    int
}

// Mitigation is a change that takes an edge away.
type Mitigation struct {
	// Control is the name of a control of the catalogue: once it passes for what
	// the edge comes from, the edge is gone. Empty where no control says so.
	Control string `json:"control,omitempty"`
	// Change says what to do, in words: "drop the capability".
	Change string `json:"change,omitempty"`
}

// Condition is what an object must meet for the edge not to be there, in the
// terms of a Control: the edge is there where Require is false, and possible
// where it is unknown. Without Match it is about pods; these are judged as Pods
// whatever they stand in, by metadata.annotations, metadata.labels and spec.
type Condition struct {
	Match     *v1alpha1.Match     `json:"match,omitempty"`
	Variables []v1alpha1.Variable `json:"variables,omitempty"`
	// ForEach is "containers" for an edge that begins in one container; any
	// other list is gone through, and each item that fails makes a cause.
	ForEach  string             `json:"forEach,omitempty"`
	When     string             `json:"when,omitempty"`
	Require  string             `json:"require"`
	Versions []v1alpha1.Version `json:"versions,omitempty"`
	// Message says what is there: container "{container.name}" runs privileged.
	Message string   `json:"message"`
	At      []string `json:"at,omitempty"`
	// Name is a CEL expression for what To names where that is one thing: the
	// role of a cloud identity. It stands in a message of its own.
	Name string `json:"name,omitempty"`
	// Facts says that the kinds of Match may be facts that are derived from one
	// object (Component, Kubelet, …): these are judged in its place.
	Facts bool `json:"facts,omitempty"`
}

// Permission is what an identity must be allowed. Each of AllOf is needed.
type Permission struct {
	AllOf []Access `json:"allOf"`
	// PodSecurity, where it is set, says that the namespace must not enforce a
	// level of Pod Security stricter than this: privileged or baseline.
	PodSecurity string `json:"podSecurity,omitempty"`
}

// Access is any of the verbs on any of the resources.
type Access struct {
	Verbs []string `json:"verbs"`
	// Resources are RESOURCE[.GROUP][/SUBRESOURCE]: pods/exec, deployments.apps.
	Resources []string `json:"resources"`
	// Names, where they are set, are the only objects that count.
	Names []string `json:"names,omitempty"`
	// Scope is "cluster" for what has no namespace, else "namespace" (the
	// default): what is held in one namespace counts there.
	Scope string `json:"scope,omitempty"`
	// Namespace is the only one that counts.
	Namespace string `json:"namespace,omitempty"`
	// Before is the first version of Kubernetes in which this is not enough any
	// more: "1.35". Since is the first in which it is.
	Before string `json:"before,omitempty"`
	Since  string `json:"since,omitempty"`
	// Or are others, each of which is enough in its place.
	Or []Access `json:"or,omitempty"`
}

// Network is who can connect to what.
type Network struct {
	// Ports are those of the target that count, TCP ones as numbers; all, if
	// there are none.
	Ports []int32 `json:"ports,omitempty"`
	// Address, where it is set, is what pods connect to, outside the pods'
	// network: 169.254.169.254. Nodes stands for the addresses of nodes.
	Address string `json:"address,omitempty"`
}

// Nodes is a Network's Address: those of the nodes.
const Nodes = "nodes"

// Places: what an edge begins at and ends at. Those of a workload are of the
// one that the condition is about; those of a scope are all of the namespace
// that a permission is held in, or all there are.
const (
	// Of a workload.
	PlaceContainer    = "container"     // the container that the condition is about
	PlacePod          = "pod"           // code in any of the pod's containers
	PlaceWorkload     = "workload"      // every container of the pod
	PlaceSiblings     = "siblings"      // the pod's other containers
	PlaceNode         = "node"          // root on the nodes that it runs on
	PlaceNodeTokens   = "node-tokens"   //nolint:gosec // the tokens of every pod on those nodes
	PlaceNodeIdentity = "node-identity" // the kubelets' identities of those nodes
	PlaceNodeCloud    = "node-cloud"    // what those nodes may do in the cloud
	PlaceAccount      = "account"       // the ServiceAccount that the pod runs as
	PlaceMounted      = "mounted"       // the Secrets that the pod mounts or has in its environment
	PlaceClaims       = "claims"        // the PersistentVolumeClaims that it mounts
	PlaceEndpoint     = "endpoint"      // being able to connect to it
	// Of an object: Secret, ServiceAccount, Node, Namespace, PersistentVolumeClaim.
	PlaceSelf     = "self"
	PlaceBackends = "backends" // the workloads behind what the object calls (webhooks, APIServices, conversions)
	PlaceSelected = "selected" // the workloads that a Service selects
	PlaceToken    = "token"    // the ServiceAccount whose token a Secret holds
	PlaceHosted   = "hosted"   // the workloads that may run on a Node; only From
	// Of a scope.
	PlaceIdentity      = "identity"       // who holds the permission; only From
	PlaceContainers    = "containers"     // every container
	PlaceEndpoints     = "endpoints"      // being able to connect to every pod
	PlaceAccounts      = "accounts"       // every ServiceAccount
	PlaceTokenAccounts = "token-accounts" //nolint:gosec // every ServiceAccount that has a token Secret
	PlaceSecrets       = "secrets"        // every Secret
	PlaceAllSecrets    = "all-secrets"    // every Secret of every namespace
	PlaceVolumes       = "volumes"        // every PersistentVolumeClaim
	PlaceNodes         = "nodes"          // root on every node
	PlaceNodesTokens   = "nodes-tokens"   //nolint:gosec // the tokens of every pod of every node
	PlacePrivileged    = "privileged"     // a privileged pod, where the namespace admits it
	PlacePermissions   = "permissions"    // everything that can be permitted in the scope
	PlaceRoles         = "roles"          // what the Roles of the scope grant that are bound
	PlaceUsers         = "users"          // every user that is bound to something
	PlaceGroups        = "groups"         // every group that is bound to something, system:masters too
	PlaceIdentities    = "identities"     // users and groups but system:masters
	// Of the condition of a permission or network edge.
	PlaceMatched         = "matched"          // the containers of workloads that do not meet the condition
	PlaceMatchedAccounts = "matched-accounts" // their ServiceAccounts
	// Of the cluster.
	PlaceCluster = "cluster" // everything: cluster-admin
	PlaceMasters = "masters" // the group system:masters
	PlaceOutside = "outside" // the internet
	PlaceAnyPod  = "any-pod" // every workload
	PlaceCloud   = "cloud"   // a cloud identity, named by the condition's Name
	// What leads nowhere further.
	PlaceTraffic      = "traffic"      // reading or redirecting what others send
	PlacePolicy       = "policy"       // what is enforced, out of force
	PlaceAudit        = "audit"        // what is recorded, gone
	PlaceAvailability = "availability" // what runs, stopped
	PlaceImages       = "images"       // private images
	PlacePodData      = "pod-data"     // what pods say of themselves
)

var places = []string{
	PlaceContainer, PlacePod, PlaceWorkload, PlaceSiblings, PlaceNode, PlaceNodeTokens, PlaceNodeIdentity, PlaceNodeCloud,
	PlaceAccount, PlaceMounted, PlaceClaims, PlaceEndpoint, PlaceSelf, PlaceBackends, PlaceSelected, PlaceToken, PlaceHosted,
	PlaceIdentity, PlaceContainers, PlaceEndpoints, PlaceAccounts, PlaceTokenAccounts, PlaceSecrets, PlaceAllSecrets, PlaceVolumes, PlaceNodes,
	PlaceNodesTokens, PlacePrivileged, PlacePermissions, PlaceRoles, PlaceUsers, PlaceGroups, PlaceIdentities, PlaceMatched, PlaceMatchedAccounts,
	PlaceCluster, PlaceMasters, PlaceOutside, PlaceAnyPod, PlaceCloud,
	PlaceTraffic, PlacePolicy, PlaceAudit, PlaceAvailability, PlaceImages, PlacePodData,
}

//go:embed edges/*.yaml
var files embed.FS

// Edges returns every edge by its ID, read once. An error is a mistake in the
// data, which a test would have found.
var Edges = sync.OnceValues(func() ([]*Edge, error) { return readEdges(files) })

// mustEdges are the edges, or none where the data is broken: the test of the
// data says so.
func mustEdges() []*Edge {
	all, _ := Edges()
	return all
}

func readEdges(data fs.FS) ([]*Edge, error) {
	names, err := fs.Glob(data, "edges/*.yaml")
	if err != nil {
		return nil, err
	}
	var out []*Edge
	for _, name := range names {
		text, err := fs.ReadFile(data, name)
		if err != nil {
			return nil, err
		}
		e, err := readEdge(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if want := strings.TrimSuffix(path.Base(name), ".yaml"); e.Name != want {
			return nil, fmt.Errorf("%s: name is %q; want %q, as the file", name, e.Name, want)
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *Edge) int { return strings.Compare(a.ID+a.Name, b.ID+b.Name) })
	for i, e := range out {
		e.index = i
	}
	return out, nil
}

func readEdge(text []byte) (*Edge, error) {
	root, err := object.ParseYAML(object.Text{Bytes: text, Line: 1})
	if err != nil {
		return nil, err
	}
	e := &Edge{}
	if wrong := object.Decode(root, e); len(wrong) > 0 {
		return nil, wrong[0]
	}
	return e, e.prepare()
}

// prepare checks the edge and makes its condition and permission ready.
func (e *Edge) prepare() error {
	for field, place := range map[string]string{"from": e.From, "to": e.To} {
		if !slices.Contains(places, place) {
			return fmt.Errorf("%s is %q; want one of %s", field, place, strings.Join(places, ", "))
		}
	}
	if !e.BuiltIn && e.Condition == nil && e.Permission == nil && e.Network == nil {
		return fmt.Errorf("nothing says when the edge is there; give it a condition, a permission, a network or builtIn")
	}
	if e.Condition != nil {
		if err := e.Condition.compile(e); err != nil {
			return fmt.Errorf("condition: %w", err)
		}
	}
	if e.Permission != nil {
		for i, a := range e.Permission.AllOf {
			parsed, err := a.parse()
			if err != nil {
				return fmt.Errorf("permission.allOf[%d]: %w", i, err)
			}
			e.required = append(e.required, parsed)
		}
	}
	return nil
}

// ofPods says whether the condition is about what holds a pod.
func (c *Condition) ofPods() bool { return c != nil && (c.Match == nil || c.Match.Pods) }

func (c *Condition) compile(e *Edge) (err error) {
	e.control, err = c.controlOf(e.Name, control.Options{})
	return err
}

// controlOf makes the condition a control, for a version of clusters.
func (c *Condition) controlOf(name string, opts control.Options) (*control.Control, error) {
	match := v1alpha1.Match{Pods: true}
	if c.Match != nil {
		match = *c.Match
	}
	doc := &v1alpha1.Control{Spec: v1alpha1.ControlSpec{
		Match: match, Variables: c.Variables, ForEach: c.ForEach, When: c.When, Require: c.Require,
		Versions: c.Versions, Message: c.Message, At: c.At,
	}}
	if c.Name != "" {
		// The name stands behind the message, where keep cuts it off.
		doc.Spec.Message += nameMark + "{" + c.Name + "}"
	}
	doc.Name = name
	return control.New(doc, opts)
}

// nameMark stands in a message before the name of what the edge leads to.
const nameMark = "\x00"

// Compile compiles the edge's expressions, and says what is wrong with them.
func (e *Edge) Compile() error {
	if e.control == nil {
		return nil
	}
	return e.control.Compile()
}

// access is one resource that must be accessible by any of the verbs.
type access struct {
	*Access
	group, resource, subresource string
	cluster                      bool
	since, before                control.Version
}

func (a *Access) parse() ([]access, error) {
	if len(a.Verbs) == 0 || len(a.Resources) == 0 {
		return nil, fmt.Errorf("verbs and resources must both be there")
	}
	if a.Scope != "" && a.Scope != "cluster" && a.Scope != "namespace" {
		return nil, fmt.Errorf("scope is %q; want namespace or cluster", a.Scope)
	}
	since, err := optionalVersion(a.Since)
	if err != nil {
		return nil, fmt.Errorf("since: %w", err)
	}
	before, err := optionalVersion(a.Before)
	if err != nil {
		return nil, fmt.Errorf("before: %w", err)
	}
	var out []access
	for _, r := range a.Resources {
		resource, sub, _ := strings.Cut(r, "/")
		resource, group, _ := strings.Cut(resource, ".")
		if resource == "" {
			return nil, fmt.Errorf("resource %q has no name", r)
		}
		out = append(out, access{Access: a, group: group, resource: resource, subresource: sub, cluster: a.Scope == "cluster", since: since, before: before})
	}
	for i := range a.Or {
		other, err := a.Or[i].parse()
		if err != nil {
			return nil, fmt.Errorf("or[%d]: %w", i, err)
		}
		out = append(out, other...)
	}
	return out, nil
}

func optionalVersion(s string) (control.Version, error) {
	if s == "" {
		return control.Version{}, nil
	}
	return control.ParseVersion(s)
}
