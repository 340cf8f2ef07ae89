// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/util/workqueue"

	"sconce.dev/sconce/drift"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source/cluster"
	"sconce.dev/sconce/verdict"
)

// watchman tells of drift, and mends what the baseline lets it mend.
type watchman struct {
	remediate bool
	client    dynamic.Interface
	recorder  *recorder
	log       *slog.Logger
	metrics   *metrics
	now       func() time.Time
	force     func() *set

	mu    sync.Mutex
	queue queue // of the term in which this replica leads, or of the next
	tried map[target]version
}

// version is what of an object decides whether it is worth trying again: a
// change of its status is not.
type version struct {
	generation int64
	rolledBack string
}

// versionOf returns the version of an object for a control.
func versionOf(generation int64, annotations *object.Node, control string) version {
	return version{generation, annotations.Get(drift.AnnotationPrefix + control).Str()}
}

// maxTried bounds what is remembered of what was tried.
const maxTried = 50_000

// remember notes that a target was tried as it is.
func (w *watchman) remember(t target, v version) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.tried == nil || len(w.tried) >= maxTried {
		w.tried = map[target]version{}
	}
	w.tried[t] = v
}

// again has what still fails tried again where the object is not what it was
// when it was last tried: the annotation of a rollback was taken away, or
// something was mended by hand.
func (w *watchman) again(s *set, k cluster.Kind, live *cluster.Live, failing []verdict.Finding) {
	for i := range failing {
		f := &failing[i]
		if f.Outcome != verdict.Fail || f.Excepted != nil || !s.remediates(f.Control) {
			continue
		}
		t := target{k, live.Namespace, live.Name, f.Control}
		w.mu.Lock()
		last, ok := w.tried[t]
		w.mu.Unlock()
		if ok && last != versionOf(live.Generation, live.Root.At("metadata", "annotations"), f.Control) {
			w.add(t)
		}
	}
}

type queue = workqueue.TypedRateLimitingInterface[target]

func newQueue() queue {
	return workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[target]())
}

func (w *watchman) add(t target) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue.Add(t)
}

// target is an object, and a control that is to be met there.
type target struct {
	kind            cluster.Kind
	namespace, name string
	control         string
}

// told is how many findings that appeared together are told one by one.
const told = 20

// appeared is told of findings that are new. What was there before and failed
// nothing has drifted.
func (w *watchman) appeared(s *set, k cluster.Kind, live *cluster.Live, findings []verdict.Finding, first bool) {
	owned := live != nil && engine.Owner(live.Object) != ""
	for i := range findings {
		f := &findings[i]
		if f.Outcome != verdict.Fail || f.Excepted != nil {
			continue
		}
		if !first && !(owned && isTemplate(f.Object)) && !own(f.Object) {
			w.drifted(live, f, i < told)
		}
		if w.remediate && f.Fix != nil && live != nil && !owned && s.remediates(f.Control) {
			w.add(target{k, live.Namespace, live.Name, f.Control})
		}
	}
}

// isTemplate says whether an object is a template of pods: if something owns it,
// that writes it. An old ReplicaSet that is scaled up again has not drifted.
func isTemplate(ref object.Ref) bool {
	path, ok := object.PodPath(ref.GroupKind())
	return ok && len(path) > 0
}

// own says whether an object is one of the webhook configurations that the agent
// writes itself.
func own(ref object.Ref) bool {
	return ref.Group() == "admissionregistration.k8s.io" && ref.Name == Name
}

// remediates says whether the baseline lets a control's fix be made.
func (s *set) remediates(control string) bool {
	for _, r := range s.baseline.Rules {
		if r.Name == control {
			return r.Remediate
		}
	}
	return false
}

// drifted tells of one finding on an object that was there before. The object
// is nil where several together made it appear.
func (w *watchman) drifted(live *cluster.Live, f *verdict.Finding, tell bool) {
	w.metrics.drift.WithLabelValues(f.Control).Inc()
	if !tell {
		return
	}
	attributes := []any{"control", f.Control, "severity", f.Severity, "object", f.Object.String(), "path", f.Path, "finding", f.Message}
	note := fmt.Sprintf("%s: %s", f.Control, f.Message)
	uid := ""
	if live != nil {
		uid = live.UID
		who := drift.Manager(live.Root, live.Managers, drift.Locate(live.Root, f.Path))
		attributes = append(attributes, "manager", who.Manager, "operation", who.Operation, "at", who.At, "guess", who.Guess)
		if who.Manager != "" {
			note += fmt.Sprintf(" (by %s)", who.Manager)
		}
		switch undo, err := drift.Undo(live.Object, f); {
		case err != nil:
			attributes = append(attributes, "undo", err.Error())
		default:
			attributes = append(attributes, "undo", undo.Command())
			note += "; undo: " + undo.Command()
		}
	}
	w.log.Warn("drift", attributes...)
	w.recorder.warn(f.Object, uid, eventDrift, actionAudit, note)
}

// Start mends until the context ends.
func (w *watchman) Start(ctx context.Context) error {
	if !w.remediate {
		return nil
	}
	w.mu.Lock()
	q := w.queue
	w.mu.Unlock()
	defer context.AfterFunc(ctx, q.ShutDown)()
	for {
		t, over := q.Get()
		if over {
			break
		}
		w.serve(ctx, q, t)
		q.Done(t)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = newQueue()
	return nil
}

// maxTries is how often a remediation is tried that the API server does not
// take: the next change of the object's spec tries it again.
const maxTries = 5

// serve mends one object, or says why not.
func (w *watchman) serve(ctx context.Context, q queue, t target) {
	done, err := w.mend(ctx, t)
	log := w.log.With("control", t.control, "kind", t.kind.String(), "namespace", t.namespace, "name", t.name)
	if refused, ok := errors.AsType[*drift.Refused](err); ok {
		q.Forget(t)
		w.metrics.remedies.WithLabelValues(t.control, resultRefused).Inc()
		log.Warn("remediation is left to a person", "reason", refused.Reason)
		return
	}
	if err != nil {
		w.metrics.remedies.WithLabelValues(t.control, resultError).Inc()
		log.Error("remediation", "error", err)
		if q.NumRequeues(t) < maxTries && ctx.Err() == nil {
			q.AddRateLimited(t)
		}
		return
	}
	q.Forget(t)
	if done != nil {
		w.metrics.remedies.WithLabelValues(t.control, resultOK).Inc()
		log.Info("remediated", "fields", fieldsOf(done), "note", done.Note)
		w.recorder.warn(done.Object, "", eventRemediated, actionRemediate, fmt.Sprintf("%s: changed %v; what was there before is in the annotation %s%s", t.control, fieldsOf(done), drift.AnnotationPrefix, t.control))
	}
}

func fieldsOf(r *drift.Remediation) []string {
	var out []string
	for _, s := range r.Record.Steps {
		out = append(out, s.Path)
	}
	return out
}

// mend makes the fix of a control in an object as it is now. It returns nil
// where there is nothing to mend any more.
func (w *watchman) mend(ctx context.Context, t target) (*drift.Remediation, error) {
	s := w.force()
	if s == nil || !s.remediates(t.control) {
		return nil, nil
	}
	client := w.client.Resource(schema.GroupVersionResource{Group: t.kind.Group, Version: t.kind.Version, Resource: t.kind.Resource}).Namespace(t.namespace)
	now, err := client.Get(ctx, t.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the object: %w", err)
	}
	now.SetManagedFields(nil)
	w.remember(t, version{now.GetGeneration(), now.GetAnnotations()[drift.AnnotationPrefix+t.control]})
	objects, err := object.FromNode(object.FromAny(now.Object), &object.Origin{})
	if err != nil || len(objects) != 1 {
		return nil, fmt.Errorf("reading the object: %w", err)
	}
	judge := func(o *object.Object) []verdict.Finding { return s.admission.Mutate.Judge(o).Findings }
	if !slices.ContainsFunc(judge(objects[0]), func(f verdict.Finding) bool {
		return f.Control == t.control && f.Outcome == verdict.Fail && f.Excepted == nil
	}) {
		return nil, nil
	}
	out, err := drift.Remediate(objects[0], t.control, judge, w.now())
	if err != nil {
		return nil, err
	}
	for _, dryRun := range [][]string{{metav1.DryRunAll}, nil} {
		if _, err := client.Patch(ctx, t.name, types.JSONPatchType, out.Ops.JSON(), metav1.PatchOptions{FieldManager: fieldManager, DryRun: dryRun}); err != nil {
			return nil, fmt.Errorf("patching the object: %w", err)
		}
	}
	return out, nil
}
