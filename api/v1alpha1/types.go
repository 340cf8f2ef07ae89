// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is the format in which people write security configuration
// as code: Control, Baseline and Exception of the API group sconce.dev. Schemas
// and CRDs are generated from these types (make generate).
//
// It is data only: package control compiles a Control, package baseline
// resolves Baselines and Exceptions.
//
// +kubebuilder:object:generate=true
// +groupName=sconce.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Group and APIVersion are what every document of the format begins with.
const (
	Group      = "sconce.dev"
	APIVersion = Group + "/v1alpha1"
)

// ExceptPrefix begins the annotations by which an object excuses itself from a
// control: except.sconce.dev/NAME: "until 2027-01-31: why".
const ExceptPrefix = "except." + Group + "/"

// Severity says what is at stake when a control fails.
// +kubebuilder:validation:Enum=critical;high;medium;low
type Severity string

// The severities, worst first.
const (
	Critical Severity = "critical"
	High     Severity = "high"
	Medium   Severity = "medium"
	Low      Severity = "low"
)

// Layer says which part of a system a control is about.
// +kubebuilder:validation:Enum=application;cluster;infrastructure
type Layer string

// The layers, from the workload down to the machines.
const (
	Application    Layer = "application"
	Cluster        Layer = "cluster"
	Infrastructure Layer = "infrastructure"
)

// Phase says when the evidence for a control first exists.
// +kubebuilder:validation:Enum=build;operate
type Phase string

// The phases.
const (
	Build   Phase = "build"
	Operate Phase = "operate"
)

// Action says what happens to what fails a control.
// +kubebuilder:validation:Enum=audit;warn;ratchet;deny
type Action string

// The actions, mildest first. Whatever the action, what fails is found by an
// audit. Ratchet denies a request only what it adds: an object that failed
// before may be changed, and may go on failing as it did.
const (
	Audit   Action = "audit"
	Warn    Action = "warn"
	Ratchet Action = "ratchet"
	Deny    Action = "deny"
)

// FailurePolicy says what happens to a request that cannot be judged, because
// nobody answers or because a control is unknown for it.
// +kubebuilder:validation:Enum=Fail;Ignore
type FailurePolicy string

// The failure policies. Fail closes: the request is denied.
const (
	FailClosed FailurePolicy = "Fail"
	FailOpen   FailurePolicy = "Ignore"
)

// Status is what the agent in a cluster says of a document.
type Status struct {
	// ObservedGeneration is the generation of the document that the
	// conditions are about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Accepted says whether the document is valid, with the
	// reason; InForce whether it is what is enforced now.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// The types of conditions.
const (
	Accepted = "Accepted"
	InForce  = "InForce"
)

// Control is one rule about Kubernetes objects. Its name is its only
// identifier: the name of its file, its fixture and its page, the ruleId in
// SARIF and the key of an exception.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=sconce
// +kubebuilder:printcolumn:name="Severity",type=string,JSONPath=`.spec.severity`
// +kubebuilder:printcolumn:name="Topic",type=string,JSONPath=`.spec.topic`
// +kubebuilder:printcolumn:name="Title",type=string,JSONPath=`.spec.title`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="In force",type=string,JSONPath=`.status.conditions[?(@.type=="InForce")].status`
// +kubebuilder:printcolumn:name="Why",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="InForce")].message`
// +kubebuilder:subresource:status
type Control struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ControlSpec `json:"spec"`
	// +optional
	Status Status `json:"status,omitzero"`
}

// ControlSpec is what a control says.
type ControlSpec struct {
	// Title is a fact that holds when all is well: "Containers do not run
	// privileged".
	// +kubebuilder:validation:MinLength=8
	Title string `json:"title"`
	// Description says why: what an attacker gains when the title does not
	// hold.
	// +kubebuilder:validation:MinLength=8
	Description string `json:"description"`
	// Remediation is an instruction to the person who edits the manifest.
	// +kubebuilder:validation:MinLength=8
	Remediation string `json:"remediation"`

	Severity Severity `json:"severity"`
	Layer    Layer    `json:"layer"`
	Phase    Phase    `json:"phase"`
	// Topic groups controls in the catalogue: pod-security, image, secrets, …
	// +kubebuilder:validation:Pattern=`^[a-z][a-z0-9-]*$`
	Topic string `json:"topic"`

	// Match says which objects the control is about.
	Match Match `json:"match"`

	// Parameters can be set by a baseline and are read as params.NAME.
	// +optional
	Parameters []Parameter `json:"parameters,omitempty"`

	// Variables are named CEL expressions, read as variables.NAME and
	// evaluated only when they are read. They may use those before them.
	// +optional
	Variables []Variable `json:"variables,omitempty"`

	// ForEach names the lists that the control goes through: one verdict for
	// each element. "containers" is every container of a pod (initContainers,
	// containers, ephemeralContainers); otherwise a path of fields that begins
	// with containers, pod or object, every list on the way being gone
	// through: "pod.spec.volumes", "containers.env", "object.rules"; * stands
	// for every entry of a map: "object.data.*". The innermost element is read
	// as item (an entry as item.key and item.value), a container also as
	// container.
	// +optional
	ForEach string `json:"forEach,omitempty"`

	// When is a CEL expression. An object or element for which it is false is
	// not what the control is about, and passes.
	// +optional
	When string `json:"when,omitempty"`

	// Require is a CEL expression that is true when all is well. It reads
	// object, pod (the object with metadata and spec that is a pod or a pod
	// template), container, item, params, variables and namespaceObject.
	// +kubebuilder:validation:MinLength=1
	Require string `json:"require"`

	// Versions say what was required before a version of Kubernetes, where
	// that differs from Require.
	// +optional
	Versions []Version `json:"versions,omitempty"`

	// Message says what is there when the control fails, quoting it. CEL
	// expressions in braces are replaced by their values: container
	// "{container.name}" runs privileged.
	// +kubebuilder:validation:MinLength=1
	Message string `json:"message"`

	// At are the fields that a person looks at, relative to the element (or
	// the pod, or the object), or absolute with pod. or object. in front. The
	// first that exists is shown; if none does, the first is what is missing.
	// +optional
	At []string `json:"at,omitempty"`

	// Sensitive marks a control whose evidence is a secret: values at its
	// places are masked wherever they would be shown.
	// +optional
	Sensitive bool `json:"sensitive,omitempty"`

	// Fix is an edit that makes the control pass.
	// +optional
	Fix *Fix `json:"fix,omitempty"`

	// References say which sections of published standards the control meets.
	// +optional
	References References `json:"references,omitempty"`
}

// Match says which objects a control is about: pods, kinds, or both.
type Match struct {
	// Pods matches Pod and everything that holds a pod template.
	// +optional
	Pods bool `json:"pods,omitempty"`
	// PodTemplates are further kinds that hold a pod template; they need Pods.
	// +optional
	PodTemplates []PodTemplate `json:"podTemplates,omitempty"`
	// Kinds matches objects by group and kind, whatever their version.
	// +optional
	Kinds []GroupKind `json:"kinds,omitempty"`
}

// GroupKind names a kind of object.
type GroupKind struct {
	// Group is the API group; empty for the core group.
	// +optional
	Group string `json:"group,omitempty"`
	// +kubebuilder:validation:MinLength=1
	Kind string `json:"kind"`
}

// PodTemplate says that a kind, usually of a custom resource, holds a pod
// template at a path of fields: spec.template.
type PodTemplate struct {
	GroupKind `json:",inline"`
	// +kubebuilder:validation:MinLength=1
	Path string `json:"path"`
}

// ParameterType is the type of a parameter.
// +kubebuilder:validation:Enum=string;integer;boolean;strings
type ParameterType string

// The types of parameters.
const (
	StringParameter  ParameterType = "string"
	IntegerParameter ParameterType = "integer"
	BooleanParameter ParameterType = "boolean"
	StringsParameter ParameterType = "strings"
)

// Parameter is a value that a baseline may set.
type Parameter struct {
	// +kubebuilder:validation:Pattern=`^[a-zA-Z][a-zA-Z0-9]*$`
	Name string        `json:"name"`
	Type ParameterType `json:"type"`
	// Default is what holds where no baseline sets the parameter.
	Default Value `json:"default"`
	// +kubebuilder:validation:MinLength=1
	Description string `json:"description"`
}

// Variable is a named CEL expression.
type Variable struct {
	// +kubebuilder:validation:Pattern=`^[a-zA-Z][a-zA-Z0-9]*$`
	Name string `json:"name"`
	// +kubebuilder:validation:MinLength=1
	Expression string `json:"expression"`
}

// Version says what a control required of clusters before a version of
// Kubernetes.
type Version struct {
	// Before is the first version that this does not hold for any more: "1.34".
	// +kubebuilder:validation:Pattern=`^1\.[0-9]+$`
	Before string `json:"before"`
	// Require takes the place of the control's own; "true" where the control
	// did not exist yet.
	// +kubebuilder:validation:MinLength=1
	Require string `json:"require"`
}

// Fix is a mechanical edit. Its paths are those of At.
type Fix struct {
	// Set gives fields values, creating what is missing above them.
	// +optional
	Set map[string]Value `json:"set,omitempty"`
	// Remove takes fields away; "." is the element itself.
	// +optional
	Remove []string `json:"remove,omitempty"`
	// Add puts values into lists that lack them, creating the lists.
	// +optional
	Add map[string][]Value `json:"add,omitempty"`
	// Note says what a person must check, where the edit may change what the
	// program can do.
	// +optional
	Note string `json:"note,omitempty"`
}

// References are sections of published standards that a control meets, by the
// name of the Framework: cis-1.12: ["5.2.2"].
type References map[string][]string

// Framework is a published standard whose sections controls refer to. It lists
// no controls: a control names the sections that it meets.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=sconce
// +kubebuilder:printcolumn:name="Title",type=string,JSONPath=`.spec.title`
type Framework struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              FrameworkSpec `json:"spec"`
}

// FrameworkSpec is what a standard asks for, section by section.
type FrameworkSpec struct {
	// Title is the standard's name and version.
	// +kubebuilder:validation:MinLength=1
	Title string `json:"title"`
	// Description says in a few words what the standard is and who asks for it.
	// +optional
	Description string `json:"description,omitempty"`
	// Source is where the standard is published.
	// +optional
	Source string `json:"source,omitempty"`
	// Published is when this version was: a year, a month or a day.
	// +optional
	Published string `json:"published,omitempty"`
	// Sections are in the standard's order.
	// +kubebuilder:validation:MinItems=1
	Sections []Section `json:"sections"`
}

// Assessment says how a section of a standard is answered.
// +kubebuilder:validation:Enum=automated;manual
type Assessment string

// The assessments. Manual sections need a person: a program can at most help.
const (
	Automated Assessment = "automated"
	Manual    Assessment = "manual"
)

// Section is one requirement of a standard.
type Section struct {
	// ID is the standard's own identifier: 5.2.2, T1611, K01.
	// +kubebuilder:validation:MinLength=1
	ID string `json:"id"`
	// Title says in our own words what the section asks for.
	// +kubebuilder:validation:MinLength=1
	Title string `json:"title"`
	// Group is the heading that the section stands under.
	// +optional
	Group string `json:"group,omitempty"`
	// Assessment is automated if it is left out.
	// +optional
	Assessment Assessment `json:"assessment,omitempty"`
}

// Baseline is a set of controls with parameters, severities and actions.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=sconce
// +kubebuilder:printcolumn:name="Title",type=string,JSONPath=`.spec.title`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="In force",type=string,JSONPath=`.status.conditions[?(@.type=="InForce")].status`
// +kubebuilder:printcolumn:name="Why",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="InForce")].message`
// +kubebuilder:subresource:status
type Baseline struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              BaselineSpec `json:"spec"`
	// +optional
	Status Status `json:"status,omitzero"`
}

// BaselineSpec is what a baseline says.
type BaselineSpec struct {
	// +kubebuilder:validation:MinLength=1
	Title string `json:"title"`
	// +optional
	Description string `json:"description,omitempty"`
	// Extends names baselines whose rules hold here too, unless this one says
	// otherwise. Later ones win over earlier ones.
	// +optional
	Extends []string `json:"extends,omitempty"`
	// KubernetesVersion is the version of the clusters that objects are meant
	// for: "1.36" or "1.36.2". The newest that Sconce knows if it is left out.
	// +optional
	// +kubebuilder:validation:Pattern=`^1\.[0-9]+(\.[0-9]+)?$`
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`
	// Complete says that what is scanned is all that there is in the cluster,
	// so that what is not found does not exist. Otherwise a control that needs
	// to know that something is absent says unknown.
	// +optional
	Complete bool `json:"complete,omitempty"`
	// ForbidInlineExceptions lets no object excuse itself from a control by an
	// annotation (except.sconce.dev/NAME).
	// +optional
	ForbidInlineExceptions bool `json:"forbidInlineExceptions,omitempty"`
	// Action is what happens to what fails a control for which no selection
	// says otherwise; deny if it is left out.
	// +optional
	Action Action `json:"action,omitempty"`
	// FailurePolicy is what holds for a control for which no selection says
	// otherwise; Ignore if it is left out.
	// +optional
	FailurePolicy FailurePolicy `json:"failurePolicy,omitempty"`
	// Rollout brings the baseline into force in stages: until the day of a stage
	// no action of a control is stricter than that of the stage before.
	// +optional
	Rollout []Stage `json:"rollout,omitempty"`
	// Network is what rules of policies in other languages may ask outside of
	// what is judged; nothing if it is left out.
	// +optional
	Network *Network `json:"network,omitempty"`
	// PodTemplates are custom resources that hold pod templates, for every
	// control that matches pods.
	// +optional
	PodTemplates []PodTemplate `json:"podTemplates,omitempty"`
	// Controls choose and adjust controls, in order: what comes later wins.
	// +optional
	Controls []Selection `json:"controls,omitempty"`
}

// Network is what rules of policies in other languages may ask. What they would
// ask and may not is unknown. Hosts and registries are names or addresses, with a
// port where only that one is meant; "*.example.com" is every name below
// example.com.
type Network struct {
	// Hosts may be called over HTTP, by http.send in Rego or apiCall in Kyverno.
	// +optional
	// +kubebuilder:validation:items:MaxLength=253
	Hosts []string `json:"hosts,omitempty"`
	// Registries may be asked for images, and for their signatures. Docker Hub is
	// docker.io.
	// +optional
	// +kubebuilder:validation:items:MaxLength=253
	Registries []string `json:"registries,omitempty"`
	// TrustedRoot is the text of the trusted_root.json of Sigstore, or of one of
	// your own: signatures that were made without a key are verified by it.
	// +optional
	TrustedRoot string `json:"trustedRoot,omitempty"`
}

// Stage is a step of a rollout.
type Stage struct {
	// From is the day from which the stage holds, as in 2027-01-31; the first
	// stage may leave it out.
	// +optional
	// +kubebuilder:validation:Pattern=`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`
	From string `json:"from,omitempty"`
	// Action is the strictest that holds in the stage.
	Action Action `json:"action"`
}

// Selection chooses controls by name or by what they are about, and adjusts
// them.
type Selection struct {
	// Name is a control's name. Either Name or Select is set.
	// +optional
	Name string `json:"name,omitempty"`
	// Select chooses every control that meets all of its conditions.
	// +optional
	Select *Selector `json:"select,omitempty"`
	// Reason says why the baseline chooses so, for who reads it later.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Disabled leaves the chosen controls out.
	// +optional
	Disabled bool `json:"disabled,omitempty"`
	// Severity takes the place of the control's own.
	// +optional
	Severity Severity `json:"severity,omitempty"`
	// Action is what happens to what fails; the baseline's if it is left out.
	// +optional
	Action Action `json:"action,omitempty"`
	// FailurePolicy says what happens to a request that cannot be judged; the
	// baseline's if it is left out.
	// +optional
	FailurePolicy FailurePolicy `json:"failurePolicy,omitempty"`
	// Rollout brings the chosen controls into force in stages of their own, in
	// place of the baseline's.
	// +optional
	Rollout []Stage `json:"rollout,omitempty"`
	// Remediate lets an agent that was started with --remediate make the
	// control's fix in the cluster.
	// +optional
	Remediate bool `json:"remediate,omitempty"`
	// Parameters set parameters of the control; they need Name.
	// +optional
	Parameters map[string]Value `json:"parameters,omitempty"`
}

// Selector chooses controls. Every condition that is set must hold; an empty
// selector chooses all.
type Selector struct {
	// +optional
	Topics []string `json:"topics,omitempty"`
	// +optional
	Severities []Severity `json:"severities,omitempty"`
	// +optional
	Layers []Layer `json:"layers,omitempty"`
	// References chooses the controls that meet a framework (cis-1.12), or
	// sections of one (cis-1.12/5.2, pss/baseline): one of those named.
	// +optional
	References []string `json:"references,omitempty"`
}

// Exception says that some objects need not meet some controls, why, who
// answers for it and until when.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=sconce
// +kubebuilder:printcolumn:name="Owner",type=string,JSONPath=`.spec.owner`
// +kubebuilder:printcolumn:name="Expires",type=string,JSONPath=`.spec.expires`
// +kubebuilder:printcolumn:name="Accepted",type=string,JSONPath=`.status.conditions[?(@.type=="Accepted")].status`
// +kubebuilder:printcolumn:name="In force",type=string,JSONPath=`.status.conditions[?(@.type=="InForce")].status`
// +kubebuilder:printcolumn:name="Why",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=="InForce")].message`
// +kubebuilder:subresource:status
type Exception struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ExceptionSpec `json:"spec"`
	// +optional
	Status Status `json:"status,omitzero"`
}

// ExceptionSpec is what an exception says.
type ExceptionSpec struct {
	// Controls are the names of the controls that need not be met.
	// +kubebuilder:validation:MinItems=1
	Controls []string `json:"controls"`
	// Match says which objects; every condition that is set must hold.
	Match ExceptionMatch `json:"match"`
	// Reason says why this is acceptable.
	// +kubebuilder:validation:MinLength=8
	Reason string `json:"reason"`
	// Owner is who answers for it: a person or a team.
	// +kubebuilder:validation:MinLength=1
	Owner string `json:"owner"`
	// Expires is the last day on which the exception holds: 2027-01-31.
	// +kubebuilder:validation:Format=date
	Expires string `json:"expires"`
}

// ExceptionMatch chooses objects. Values may hold * for any characters.
type ExceptionMatch struct {
	// +optional
	Namespaces []string `json:"namespaces,omitempty"`
	// +optional
	Kinds []string `json:"kinds,omitempty"`
	// +optional
	Names []string `json:"names,omitempty"`
	// Elements are the names of the containers, volumes or other items of the
	// first list on the way to what the control judges.
	// +optional
	Elements []string `json:"elements,omitempty"`
}
