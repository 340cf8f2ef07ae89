// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"mime"
	"net/http"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sconce.dev/sconce/object"
)

// isJSON says whether a content type is that of JSON.
func isJSON(contentType string) bool {
	if contentType == "application/json" {
		return true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && media == "application/json"
}

// decode reads an AdmissionReview: all of it at once, so that its objects are
// parsed where they stand and never copied.
func decode(body []byte) (*request, error) {
	root, err := object.ReadJSON(body, 2*maxValues)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "body", "the body is no AdmissionReview: %v", err)
	}
	apiVersion, kind := root.Get("apiVersion").Str(), root.Get("kind").Str()
	if kind != answerType.Kind || apiVersion != answerType.APIVersion {
		return nil, refuse(http.StatusBadRequest, "version", "the body is apiVersion %q, kind %q; want %s, kind %s: list v1 first under admissionReviewVersions",
			line(apiVersion, 80), line(kind, 80), answerType.APIVersion, answerType.Kind)
	}
	n := root.Get("request")
	if n == nil || n.Kind != object.Map {
		return nil, refuse(http.StatusBadRequest, "body", "the AdmissionReview holds no request")
	}
	out := &request{AdmissionRequest: asked(n), object: n.Get("object"), old: n.Get("oldObject")}
	if out.UID == "" {
		return nil, refuse(http.StatusBadRequest, "body", "the AdmissionReview's request has no uid, so there is nothing to answer to")
	}
	return out, nil
}

// beside reads of an AdmissionReview what stands beside its objects, where one of
// these is more than decode takes; nil if it is none.
func beside(body []byte) *request {
	var review struct {
		metav1.TypeMeta
		Request struct {
			UID         types.UID                   `json:"uid"`
			Kind        metav1.GroupVersionKind     `json:"kind"`
			Resource    metav1.GroupVersionResource `json:"resource"`
			SubResource string                      `json:"subResource"`
			Name        string                      `json:"name"`
			Namespace   string                      `json:"namespace"`
			Operation   admissionv1.Operation       `json:"operation"`
			UserInfo    authenticationv1.UserInfo   `json:"userInfo"`
			DryRun      *bool                       `json:"dryRun"`
		} `json:"request"`
	}
	if json.Unmarshal(body, &review) != nil || review.TypeMeta != answerType || review.Request.UID == "" {
		return nil
	}
	q := &review.Request
	return &request{AdmissionRequest: &admissionv1.AdmissionRequest{
		UID: q.UID, Kind: q.Kind, Resource: q.Resource, SubResource: q.SubResource, Name: q.Name, Namespace: q.Namespace,
		Operation: q.Operation, UserInfo: q.UserInfo, DryRun: q.DryRun,
	}}
}

// asked returns what a request says beside its objects. Its strings are copies.
func asked(n *object.Node) *admissionv1.AdmissionRequest {
	kind, resource, user := n.Get("kind"), n.Get("resource"), n.Get("userInfo")
	out := &admissionv1.AdmissionRequest{
		UID:         types.UID(text(n, "uid")),
		Kind:        metav1.GroupVersionKind{Group: text(kind, "group"), Version: text(kind, "version"), Kind: text(kind, "kind")},
		Resource:    metav1.GroupVersionResource{Group: text(resource, "group"), Version: text(resource, "version"), Resource: text(resource, "resource")},
		SubResource: text(n, "subResource"),
		Name:        text(n, "name"),
		Namespace:   text(n, "namespace"),
		Operation:   admissionv1.Operation(text(n, "operation")),
		UserInfo:    authenticationv1.UserInfo{Username: text(user, "username"), UID: text(user, "uid")},
	}
	if groups := user.Get("groups"); groups != nil {
		for _, g := range groups.Items {
			out.UserInfo.Groups = append(out.UserInfo.Groups, strings.Clone(g.Str()))
		}
	}
	if dry := n.Get("dryRun"); dry != nil {
		asked := dry.Bool()
		out.DryRun = &asked
	}
	return out
}

// text returns a field that is a string.
func text(n *object.Node, field string) string { return strings.Clone(n.Get(field).Str()) }
