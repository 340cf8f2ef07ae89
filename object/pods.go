// SPDX-License-Identifier: Apache-2.0

package object

import (
	"maps"
	"slices"
)

// GroupKind names a kind with its API group.
type GroupKind struct {
	Group string `json:"group"`
	Kind  string `json:"kind"`
}

// GroupKind returns the object's kind with its group.
func (r Ref) GroupKind() GroupKind { return GroupKind{r.Group(), r.Kind} }

// podPaths says where the kinds of Kubernetes, and what OpenShift had before it
// took theirs over, hold a pod (an object with metadata and spec): the object
// itself, or a template inside it.
var podPaths = map[GroupKind]Path{
	{"", "Pod"}:                   {},
	{"", "PodTemplate"}:           {{Field: "template"}},
	{"", "ReplicationController"}: {{Field: "spec"}, {Field: "template"}},
	{"apps", "Deployment"}:        {{Field: "spec"}, {Field: "template"}},
	{"apps", "ReplicaSet"}:        {{Field: "spec"}, {Field: "template"}},
	{"apps", "StatefulSet"}:       {{Field: "spec"}, {Field: "template"}},
	{"apps", "DaemonSet"}:         {{Field: "spec"}, {Field: "template"}},
	{"batch", "Job"}:              {{Field: "spec"}, {Field: "template"}},
	{"batch", "CronJob"}:          {{Field: "spec"}, {Field: "jobTemplate"}, {Field: "spec"}, {Field: "template"}},
	// The group that held the workloads before apps/v1; manifests of it are
	// still found, and are meant to run.
	{"extensions", "Deployment"}: {{Field: "spec"}, {Field: "template"}},
	{"extensions", "ReplicaSet"}: {{Field: "spec"}, {Field: "template"}},
	{"extensions", "DaemonSet"}:  {{Field: "spec"}, {Field: "template"}},

	{"apps.openshift.io", "DeploymentConfig"}: {{Field: "spec"}, {Field: "template"}},
}

// PodPath returns where the kind holds a pod. The path is empty for a Pod
// itself; the second result is false for a kind of Kubernetes that holds none,
// and for any kind that Kubernetes does not have.
func PodPath(gk GroupKind) (Path, bool) {
	p, ok := podPaths[gk]
	return p, ok
}

// PodKinds are the kinds that PodPath knows, in no order.
func PodKinds() []GroupKind { return slices.Collect(maps.Keys(podPaths)) }

// ContainerLists are the fields of a pod's spec that hold containers.
var ContainerLists = [...]string{"initContainers", "containers", "ephemeralContainers"}
