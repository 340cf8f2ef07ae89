// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// TestDenialEvent holds that an event says what was denied to whom, in what a
// terminal shows as it is, and that there is none on nothing.
func TestDenialEvent(t *testing.T) {
	m, err := newMetrics(prometheus.NewRegistry(), func() *auditSummary { return nil })
	if err != nil {
		t.Fatal(err)
	}
	to := events.NewFakeRecorder(10)
	r := newRecorder(to, m)
	denied := func(name string, findings []verdict.Finding) {
		r.answered(admission.Answer{
			Request: &admissionv1.AdmissionRequest{Operation: admissionv1.Create, UserInfo: authenticationv1.UserInfo{Username: "eve\x1b[2J\u202e\n"}},
			Policy:  v1alpha1.FailOpen,
			Outcome: admission.Outcome{
				Decision: admission.Denied, Object: object.Ref{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: name}, Denied: findings,
				Response: &admissionv1.AdmissionResponse{Result: &metav1.Status{Message: "Sconce could not judge this"}},
			},
		})
	}
	finding := verdict.Finding{Control: "host-network", Message: "é\u202e\x1b[31m"}
	denied("web", []verdict.Finding{finding})
	denied("large", nil)
	denied("", []verdict.Finding{finding})
	close(to.Events)
	var got []string
	for e := range to.Events {
		got = append(got, e)
	}
	if len(got) != 2 || !strings.Contains(got[0], "host-network: é") || !strings.Contains(got[1], "could not judge") {
		t.Errorf("events %q", got)
	}
	if all := strings.Join(got, ""); strings.ContainsAny(all, "\x1b\u202e\n") || !strings.Contains(all, "denied to eve") {
		t.Errorf("events %q", got)
	}
}
