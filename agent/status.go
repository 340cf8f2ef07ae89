// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"sconce.dev/sconce/api/v1alpha1"
)

// The reasons of conditions.
const (
	reasonValid       = "Valid"
	reasonExpired     = "Expired"
	reasonInvalid     = "Invalid"
	reasonEnforced    = "Enforced"
	reasonNotEnforced = "NotEnforced"
	reasonLastGood    = "LastGoodSetInForce"
	reasonNone        = "NothingInForce"
)

// maxCondition is how long the message of a condition gets, in characters.
const maxCondition = 1000

// conditions returns what is to be said of a document.
func conditions(d *liveDocument, s *state, force *set) []metav1.Condition {
	accepted := metav1.Condition{Type: v1alpha1.Accepted, Status: metav1.ConditionTrue, Reason: reasonValid, Message: "the document is valid"}
	if why := s.wrong[d.key]; why != "" {
		accepted.Status, accepted.Reason, accepted.Message = metav1.ConditionFalse, reasonInvalid, why
	} else if force != nil && force.absent[d.key] != "" {
		accepted.Message = "the document is valid; it names what no policy has now: " + force.absent[d.key]
	}
	inForce := metav1.Condition{Type: v1alpha1.InForce, Status: metav1.ConditionTrue, Reason: reasonEnforced, Message: "what it says is in force"}
	unforced := func(reason, message string) {
		inForce.Status, inForce.Reason, inForce.Message = metav1.ConditionFalse, reason, message
	}
	switch {
	case force == nil:
		unforced(reasonNone, "nothing is in force yet: "+s.wrong.Error())
	case d.Kind == "Baseline" && !force.uses(d.Name):
		unforced(reasonNotEnforced, fmt.Sprintf("Baseline %s is what is enforced, and it does not extend this one", force.baseline.Name))
	case !force.holds(&d.document):
		unforced(reasonLastGood, "the last good set stays in force until the documents are valid as a whole: "+s.wrong.Error())
	case d.Kind == "Exception" && slices.Contains(force.expired, d.Name):
		unforced(reasonExpired, "its last day has passed: it excuses nothing")
	case d.Kind == "Baseline" && d.Name == force.baseline.Name:
		inForce.Message = force.summary(s.unread)
	}
	out := []metav1.Condition{accepted, inForce}
	for i := range out {
		out[i].ObservedGeneration = d.generation
		if runes := []rune(out[i].Message); len(runes) > maxCondition {
			out[i].Message = string(runes[:maxCondition-1]) + "…"
		}
	}
	return out
}

// summary says what is in force, and which policies are not.
func (s *set) summary(unread []refusal) string {
	of := len(s.ofPolicies())
	out := fmt.Sprintf("%d controls are on", len(s.baseline.Rules)-of)
	if of > 0 {
		out += fmt.Sprintf(", and %d rules of policies", of)
	}
	out += "; set " + s.hash
	var left []string
	for _, r := range slices.Concat(unread, s.refused) {
		left = append(left, r.String())
	}
	if len(left) > 0 {
		out += "; left out: " + summed(left)
	}
	return out
}

// holds says whether a document is part of the set just as it is.
func (s *set) holds(d *document) bool {
	i, ok := slices.BinarySearchFunc(s.documents, *d, document.compare)
	return ok && bytes.Equal(s.documents[i].Spec, d.Spec)
}

// uses says whether a Baseline is the enforced one, or one that it extends.
func (s *set) uses(name string) bool { return slices.Contains(s.chain, name) }

// statuses writes what is to be said of the documents into them. It runs where
// the replica leads.
type statuses struct {
	documents *documents
	client    dynamic.Interface
}

// write writes the statuses that have changed. It leaves off when there is
// something else to be said by now: those of 5,000 exceptions take a minute.
func (w *statuses) write(ctx context.Context) error {
	s := w.documents.looked.Load()
	if s == nil {
		return nil
	}
	force := w.documents.force.Load()
	var errs []error
	for i := range s.documents {
		if err := w.one(ctx, &s.documents[i], s, force); err != nil {
			errs = append(errs, err)
		}
		if ctx.Err() != nil || w.documents.looked.Load() != s {
			return nil
		}
	}
	const told = 3
	if len(errs) > told {
		errs = append(errs[:told], fmt.Errorf("and %d more", len(errs)-told))
	}
	return errors.Join(errs...)
}

func (w *statuses) one(ctx context.Context, d *liveDocument, s *state, force *set) error {
	i := slices.IndexFunc(documentKinds, func(k documentKind) bool { return k.kind == d.Kind })
	if !documentKinds[i].status {
		return nil
	}
	now := slices.Clone(d.status.Conditions)
	for _, c := range conditions(d, s, force) {
		meta.SetStatusCondition(&now, c)
	}
	if d.status.ObservedGeneration == d.generation && equality.Semantic.DeepEqual(now, d.status.Conditions) {
		return nil
	}
	object := newDocument(d.Kind)
	object.SetName(d.Name)
	status, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&v1alpha1.Status{ObservedGeneration: d.generation, Conditions: now})
	if err != nil {
		return fmt.Errorf("writing the status of %s: %w", d.key, err)
	}
	object.Object["status"] = status
	resource := schema.GroupVersionResource{Group: v1alpha1.Group, Version: strings.TrimPrefix(v1alpha1.APIVersion, v1alpha1.Group+"/"), Resource: documentKinds[i].resource}
	_, err = w.client.Resource(resource).ApplyStatus(ctx, d.Name, object, applied)
	if err != nil && !apierrors.IsNotFound(err) { // it may be gone by now
		return fmt.Errorf("writing the status of %s: %w", d.key, err)
	}
	d.status = v1alpha1.Status{ObservedGeneration: d.generation, Conditions: now}
	return nil
}
