// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/client-go/tools/events"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/drift"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source/cluster"
	"sconce.dev/sconce/verdict"
)

// watchmanOf returns a watchman that mends nothing yet, and what is in force.
func watchmanOf(t *testing.T) (*watchman, *set) {
	t.Helper()
	m, err := newMetrics(prometheus.NewRegistry(), func() *auditSummary { return nil })
	if err != nil {
		t.Fatal(err)
	}
	w := &watchman{remediate: true, recorder: newRecorder(events.NewFakeRecorder(10), m), log: slog.New(slog.DiscardHandler), metrics: m, queue: newQueue()}
	t.Cleanup(w.queue.ShutDown)
	rule := &baseline.Rule{Control: &control.Control{Control: &v1alpha1.Control{}}, Remediate: true}
	rule.Name = "privileged-container"
	return w, &set{baseline: &baseline.Baseline{Rules: []*baseline.Rule{rule}}}
}

func liveObject(t *testing.T, text string) *cluster.Live {
	t.Helper()
	roots, err := object.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := object.FromNode(roots[0], &object.Origin{})
	if err != nil {
		t.Fatal(err)
	}
	return &cluster.Live{Object: objects[0], Generation: 3}
}

func failing(live *cluster.Live) []verdict.Finding {
	return []verdict.Finding{{Control: "privileged-container", Outcome: verdict.Fail, Object: live.Ref, Fix: &verdict.Fix{}}}
}

// TestAppeared holds what is drift, and what is a person's to mend: what an
// owner's controller writes is neither, and what the agent writes is no drift.
func TestAppeared(t *testing.T) {
	const owner = `"ownerReferences":[{"uid":"u","controller":true,"kind":"Deployment","apiVersion":"apps/v1","name":"web"}]`
	for name, test := range map[string]struct {
		object        string
		first         bool
		drift, queued int
	}{
		"a Deployment":                   {object: `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"}}`, drift: 1, queued: 1},
		"a new Deployment":               {object: `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"}}`, first: true, queued: 1},
		"a ReplicaSet of a Deployment":   {object: `{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"web-1",` + owner + `}}`},
		"a ReplicaSet on its own":        {object: `{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{"name":"web-1"}}`, drift: 1, queued: 1},
		"a Pod that somebody changed":    {object: `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-1-x",` + owner + `}}`, drift: 1},
		"a configuration of the agent":   {object: `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"sconce"}}`, queued: 1},
		"a configuration of another one": {object: `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"other"}}`, drift: 1, queued: 1},
	} {
		w, s := watchmanOf(t)
		live := liveObject(t, test.object)
		w.appeared(s, cluster.Kind{}, live, failing(live), test.first)
		if got := int(testutil.ToFloat64(w.metrics.drift.WithLabelValues("privileged-container"))); got != test.drift {
			t.Errorf("%s: %d drifts; want %d", name, got, test.drift)
		}
		if got := w.queue.Len(); got != test.queued {
			t.Errorf("%s: %d to mend; want %d", name, got, test.queued)
		}
	}
}

// TestAgain holds that what was tried is tried again when the object's spec has
// changed or a rollback's annotation was taken away, and not before.
func TestAgain(t *testing.T) {
	const deployment = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"}}`
	for name, test := range map[string]struct {
		tried  *version
		queued int
	}{
		"never tried":          {},
		"tried as it is":       {tried: &version{generation: 3}},
		"tried before an edit": {tried: &version{generation: 2}, queued: 1},
		"rolled back since":    {tried: &version{generation: 3, rolledBack: "rolled back 2026-11-21"}, queued: 1},
	} {
		w, s := watchmanOf(t)
		live := liveObject(t, deployment)
		if test.tried != nil {
			w.remember(target{cluster.Kind{}, live.Namespace, live.Name, "privileged-container"}, *test.tried)
		}
		w.again(s, cluster.Kind{}, live, failing(live))
		if got := w.queue.Len(); got != test.queued {
			t.Errorf("%s: %d to mend; want %d", name, got, test.queued)
		}
	}
	live := liveObject(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"`+drift.AnnotationPrefix+`x":"rolled back"}}}`)
	if v := versionOf(1, live.Root.At("metadata", "annotations"), "x"); v.rolledBack != "rolled back" {
		t.Errorf("the annotation of a rollback is not seen: %+v", v)
	}
}
