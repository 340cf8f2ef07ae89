// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/verdict"
)

// today is the day of every test.
var today = time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)

// library returns the catalogue, and documents beside it.
func library(tb testing.TB, documents string) *baseline.Library {
	tb.Helper()
	l := baseline.NewLibrary()
	catalog.Read(l)
	if documents != "" {
		if err := l.Read("test.yaml", []byte(documents)); err != nil {
			tb.Fatal(err)
		}
	}
	if err := l.Check(today); err != nil {
		tb.Fatal(err)
	}
	return l
}

func resolve(tb testing.TB, name, documents string) *baseline.Baseline {
	tb.Helper()
	b, err := library(tb, documents).Resolve(name, baseline.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// newEngine returns an engine of documents beside the catalogue, for the rules
// of a failure policy that do more than audit; "" for all rules.
func newEngine(tb testing.TB, name, documents string, policy v1alpha1.FailurePolicy) *engine.Engine {
	tb.Helper()
	b := resolve(tb, name, documents)
	if policy != "" {
		b = admission.Enforced(b, policy, v1alpha1.Warn)
	}
	return engine.New(b, library(tb, documents).Exceptions(today), today)
}

// named lists the controls of findings.
func named(findings []verdict.Finding) string {
	var out []string
	for _, f := range findings {
		out = append(out, f.Control)
	}
	return strings.Join(out, " ")
}

// compact returns a file of JSON as the API server sends it.
func compact(tb testing.TB, file string) []byte {
	tb.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, data); err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

// podRequest is a request to create a pod.
func podRequest(object []byte) *admissionv1.AdmissionRequest {
	return &admissionv1.AdmissionRequest{
		UID: "4a4f1d5e-8d0c-4d9b-8d7c-0a4c1f0c8f11", Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"},
		Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"}, Name: "web", Namespace: "shop", Operation: admissionv1.Create,
		UserInfo: authenticationv1.UserInfo{Username: "alice", Groups: []string{"developers", "system:authenticated"}},
		Object:   runtime.RawExtension{Raw: object},
	}
}

// reviewOf wraps a request as the API server sends it.
func reviewOf(tb testing.TB, req *admissionv1.AdmissionRequest) []byte {
	tb.Helper()
	data, err := json.Marshal(&admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: req})
	if err != nil {
		tb.Fatal(err)
	}
	return data
}
