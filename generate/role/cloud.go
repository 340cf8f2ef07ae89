// SPDX-License-Identifier: Apache-2.0

package role

import (
	"strings"
)

// payload is an entry of Google's Cloud Audit Logs.
type payload struct {
	MethodName         text `json:"methodName"`   // io.k8s.apps.v1.deployments.list
	ResourceName       text `json:"resourceName"` // apps/v1/namespaces/shop/deployments/web
	AuthenticationInfo struct {
		PrincipalEmail text `json:"principalEmail"`
	} `json:"authenticationInfo"`
	AuthorizationInfo []struct {
		Granted bool `json:"granted"`
	} `json:"authorizationInfo"`
	Status *struct {
		Code int `json:"code"` // of gRPC
	} `json:"status"`
}

// permissionDenied is the code of gRPC for it.
const permissionDenied = 7

// fromCloudLogging reads the event from the fields of an entry of Cloud Audit
// Logs, and says whether it is one of a Kubernetes API. Such entries hold no
// stage: each is of a response.
func (e *event) fromCloudLogging() bool {
	p := e.Payload
	method, ok := strings.CutPrefix(string(p.MethodName), "io.k8s.")
	if !ok {
		return false
	}
	e.Verb = text(method[strings.LastIndexByte(method, '.')+1:])
	e.User = &identity{Username: p.AuthenticationInfo.PrincipalEmail}
	e.Annotations = e.Labels
	if e.Annotations[annotationDecision] == "" {
		e.Annotations = map[string]text{annotationDecision: p.decision(), annotationReason: e.Labels[annotationReason]}
	}
	parts := strings.Split(string(p.ResourceName), "/")
	if len(parts) < 3 {
		e.RequestURI = "/" + p.ResourceName
		return true
	}
	e.locate(parts)
	return true
}

// locate reads group, version, namespace, resource, name and subresource.
func (e *event) locate(parts []string) {
	group, rest := parts[0], parts[2:]
	if group == "core" {
		group = ""
	}
	var namespace string
	if rest[0] == "namespaces" && len(rest) > 1 {
		namespace = rest[1]
		if len(rest) > 2 && rest[2] != "status" && rest[2] != "finalize" {
			rest = rest[2:]
		}
	}
	rest = append(rest, "", "")
	e.ObjectRef = &reference{
		Resource: text(rest[0]), Namespace: text(namespace), Name: text(rest[1]),
		APIGroup: text(group), APIVersion: text(parts[1]), Subresource: text(rest[2]),
	}
}

func (p *payload) decision() text {
	granted := len(p.AuthorizationInfo) > 0
	for _, a := range p.AuthorizationInfo {
		granted = granted && a.Granted
	}
	switch {
	case p.Status != nil && p.Status.Code == permissionDenied, len(p.AuthorizationInfo) > 0 && !granted:
		return "forbid"
	case granted:
		return "allow"
	}
	return ""
}
