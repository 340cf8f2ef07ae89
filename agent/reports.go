// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sconce.dev/sconce/report/openreports"
)

// reporter writes what the audit finds: one report for a namespace and one for
// what belongs to none, each only when it changes. It runs where the replica
// leads.
type reporter struct {
	api     openreports.API
	audit   *auditor
	client  dynamic.Interface
	log     *slog.Logger
	metrics *metrics
	// changed is raised when a report in the cluster has changed.
	changed  signal
	watching bool
	// follow makes the cache of the reports in the cluster.
	follow func() (cache.Cache, error)
	cache  cache.Cache // nil until their CRDs are there

	round *round            // whose verdicts were written
	wrote map[string]string // hash of what was written, by namespace
	todo  map[string]bool   // namespaces whose report may have changed
}

// watch follows the reports in the cluster: one that somebody deletes is
// written again.
func (w *reporter) watch(ctx context.Context) error {
	if w.watching {
		return nil
	}
	if w.cache == nil {
		c, err := w.follow()
		if err != nil {
			return fmt.Errorf("watching %s: %w: install the CRDs of the reports, or choose others with --reports", w.api.Resource("any").GroupResource(), err)
		}
		w.cache = c
	}
	for _, namespace := range []string{"", "any"} {
		kind := &metav1.PartialObjectMetadata{}
		kind.SetGroupVersionKind(w.api.Kind(namespace))
		if err := watchWith(ctx, w.cache, kind, w.changed.handler()); err != nil {
			return fmt.Errorf("watching %s: %w: install the CRDs of the reports, or choose others with --reports", w.api.Resource(namespace).GroupResource(), err)
		}
	}
	if !w.cache.WaitForCacheSync(ctx) {
		return ctx.Err()
	}
	w.watching = true
	return nil
}

// write writes the reports whose content has changed, and deletes those of
// namespaces in which there is nothing any more.
func (w *reporter) write(ctx context.Context) error {
	if err := w.watch(ctx); err != nil {
		w.metrics.reports.WithLabelValues(resultError).Inc()
		return err
	}
	r := w.audit.current.Load()
	if r == nil {
		return nil
	}
	there, err := w.there(ctx)
	if err != nil {
		return err
	}
	w.note(r, there)
	var errs []error
	for namespace := range w.todo {
		if err := w.one(ctx, r, namespace, there); err != nil {
			errs = append(errs, err)
			continue
		}
		delete(w.todo, namespace)
	}
	return errors.Join(errs...)
}

// note adds to what is to be done: what the audit says has changed, and what
// somebody else has.
func (w *reporter) note(r *round, there map[string]string) {
	if w.round != r {
		w.round, w.wrote, w.todo = r, map[string]string{}, map[string]bool{}
	}
	for _, namespace := range r.state.Dirty() {
		w.todo[namespace] = true
	}
	for namespace, hash := range w.wrote {
		if there[namespace] != hash {
			w.todo[namespace] = true
		}
	}
	for namespace := range there {
		if _, ours := w.wrote[namespace]; !ours {
			w.todo[namespace] = true
		}
	}
}

// there returns the hashes of the reports in the cluster, by namespace.
func (w *reporter) there(ctx context.Context) (map[string]string, error) {
	out := map[string]string{}
	for _, namespace := range []string{"", "any"} {
		var list metav1.PartialObjectMetadataList
		gvk := w.api.Kind(namespace)
		gvk.Kind += "List"
		list.SetGroupVersionKind(gvk)
		if err := w.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("listing reports: %w", err)
		}
		for i := range list.Items {
			if m := &list.Items[i]; m.Name == openreports.Name {
				out[m.Namespace] = m.Annotations[openreports.HashAnnotation]
			}
		}
	}
	return out, nil
}

// one brings the report of a namespace up to date. What could not be written is
// tried again.
func (w *reporter) one(ctx context.Context, r *round, namespace string, there map[string]string) error {
	result := r.state.Namespace(namespace)
	report := openreports.Build(w.api, namespace, openreports.Input{
		Baseline: r.set.baseline.Name, Verdicts: result.Verdicts, Findings: result.Findings, LeftOut: result.LeftOut,
		Problems: result.Problems, Topic: r.set.topic,
	})
	resource := w.api.Resource(namespace)
	api := w.client.Resource(resource).Namespace(namespace)
	hash, exists := there[namespace]
	var err error
	switch {
	case result.Objects == 0 && len(result.Problems) == 0 && !exists:
		return nil
	case result.Objects == 0 && namespace != "" && (len(result.Problems) == 0 || !exists):
		delete(w.wrote, namespace)
		if !exists {
			return nil
		}
		err = api.Delete(ctx, openreports.Name, metav1.DeleteOptions{})
	case exists && hash == report.Hash():
		w.wrote[namespace] = hash
		return nil
	default:
		object, convert := report.Unstructured()
		if convert != nil {
			return convert
		}
		w.wrote[namespace] = report.Hash()
		_, err = api.Apply(ctx, openreports.Name, object, applied)
	}
	if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, "NamespaceTerminating") {
		delete(w.wrote, namespace) // the namespace is going
		return nil
	}
	if err != nil {
		delete(w.wrote, namespace)
		w.metrics.reports.WithLabelValues(resultError).Inc()
		return fmt.Errorf("writing the report on namespace %q: %w", namespace, err)
	}
	w.metrics.reports.WithLabelValues(resultOK).Inc()
	return nil
}
