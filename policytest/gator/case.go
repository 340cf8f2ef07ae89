// SPDX-License-Identifier: Apache-2.0

package gator

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/gatekeeper"
	"sconce.dev/sconce/policytest"
)

// point is where gator enforces constraints.
const point = "gator.gatekeeper.sh"

// runCase runs case i of the test, and adds it to the report.
func (t *test) runCase(ctx context.Context, i int) {
	start := time.Now()
	node := t.cases()[i]
	c := t.newCase(i)
	defer func() {
		c.Duration = time.Since(start)
		t.report.Cases = append(t.report.Cases, c)
	}()
	if node.Get("skip").Bool() {
		c.Outcome, c.Message = policytest.Skipped, "the suite skips it"
		return
	}
	assertions, err := parseAssertions(node.Get("assertions"))
	c.Want = wants(assertions)
	var messages []string
	if err == nil {
		messages, err = t.violations(ctx, node)
	}
	if err != nil {
		c.Outcome, c.Message = policytest.Broken, err.Error()
		return
	}
	c.Got = violations(len(messages))
	c.Outcome = policytest.Passed
	for _, a := range assertions {
		if why := a.check(messages); why != "" {
			c.Outcome, c.Message = policytest.Failed, why
			return
		}
	}
}

// violations returns the messages of the violations of a case.
func (t *test) violations(ctx context.Context, node *object.Node) ([]string, error) {
	name := node.Get("object").Str()
	if name == "" {
		return nil, errors.New("the case names no object")
	}
	o, err := readOne(t.opts, path.Join(t.dir, name))
	if err != nil {
		return nil, fmt.Errorf("reading the object: %w", err)
	}
	known, err := t.inventory(node)
	if err != nil {
		return nil, err
	}
	if o.Kind == "AdmissionReview" && o.Group() == admissionv1.GroupName {
		request, err := admissionRequest(o)
		if err != nil {
			return nil, fmt.Errorf("reading the AdmissionReview: %w", err)
		}
		return t.review(ctx, request, known, nil)
	}
	out, err := t.review(ctx, &policy.Request{Object: o}, known, nil)
	if err != nil || len(t.expansions) == 0 {
		return out, err
	}
	made, err := gatekeeper.Expand(o, t.expansions)
	if err != nil {
		return nil, err
	}
	for _, g := range made {
		more, err := t.review(ctx, &policy.Request{Object: g.Object}, known, g.By)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// review returns the messages of the violations of a request. What Gatekeeper
// cannot evaluate is a violation, as it is for Gatekeeper; what is not evaluated
// here, because something is not told, is an error.
func (t *test) review(ctx context.Context, request *policy.Request, known *cluster, by *gatekeeper.Expansion) ([]string, error) {
	if !t.constraint.Enforced(point) {
		return nil, nil
	}
	request.Cluster, request.Now = known, t.opts.Now
	review := gatekeeper.NewReview(request, true)
	review.Generated = by != nil
	found, _, err := t.constraint.Review(ctx, review)
	var unknown *gatekeeper.UnknownError
	switch {
	case errors.As(err, &unknown):
		return nil, err
	case err != nil:
		found = append(found, gatekeeper.Violation{Message: err.Error()})
	}
	out := make([]string, 0, len(found))
	for _, v := range found {
		message := v.Message
		if by != nil {
			message = "[Implied by " + by.Name + "] " + message
		}
		out = append(out, message)
	}
	return out, nil
}

// inventory returns the objects that a case puts into the inventory.
func (t *test) inventory(node *object.Node) (*cluster, error) {
	out := &cluster{objects: map[object.GroupKind][]*object.Object{}}
	files := node.Get("inventory")
	if files == nil || files.Kind != object.List {
		return out, nil
	}
	for _, item := range files.Items {
		file := path.Join(t.dir, item.Str())
		docs, err := read(t.opts, file)
		if err != nil {
			return nil, fmt.Errorf("reading the inventory: %w", err)
		}
		if len(docs) == 0 {
			return nil, fmt.Errorf("reading the inventory: %s holds no objects", file)
		}
		for _, o := range docs {
			if o.Kind == "" || o.APIVersion == "" {
				return nil, fmt.Errorf("reading the inventory: %s has an object without apiVersion and kind", file)
			}
			out.objects[o.GroupKind()] = append(out.objects[o.GroupKind()], o)
		}
	}
	return out, nil
}

// cluster is what a case puts into the inventory; there is nothing else.
type cluster struct {
	objects map[object.GroupKind][]*object.Object
}

// Objects implements policy.Cluster.
func (c *cluster) Objects(gk object.GroupKind, namespace string) ([]*object.Object, bool) {
	var out []*object.Object
	for _, o := range c.objects[gk] {
		if namespace == "" || o.Namespace == namespace {
			out = append(out, o)
		}
	}
	return out, true
}

// Kinds implements policy.Cluster.
func (c *cluster) Kinds(of object.GroupKind) ([]object.GroupKind, bool) {
	var out []object.GroupKind
	for gk := range c.objects {
		if policy.Covers(of, gk) {
			out = append(out, gk)
		}
	}
	return out, true
}

// Can implements policy.Cluster.
func (c *cluster) Can(*authenticationv1.UserInfo, rbac.Request) (allowed, known bool) {
	return false, false
}

// admissionRequest returns the request of an AdmissionReview.
func admissionRequest(o *object.Object) (*policy.Request, error) {
	var typed admissionv1.AdmissionReview
	tree, _ := o.Root.Any().(map[string]any)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(tree, &typed, true); err != nil {
		return nil, err
	}
	if typed.Request == nil {
		return nil, errors.New("it has no request")
	}
	given := typed.Request
	out := &policy.Request{
		Operation:   policy.Operation(given.Operation),
		Resource:    given.Resource.Resource,
		Subresource: given.SubResource,
		User:        &given.UserInfo,
		DryRun:      given.DryRun != nil && *given.DryRun,
	}
	var err error
	for _, part := range []struct {
		field string
		into  **object.Object
	}{{"object", &out.Object}, {"oldObject", &out.Old}} {
		node := o.Root.At("request", part.field)
		if node == nil {
			continue
		}
		if node.Kind != object.Map || node.Get("kind").Str() == "" {
			err = errors.Join(err, fmt.Errorf("request.%s is no object with a kind", part.field))
			continue
		}
		*part.into = object.New(node, o.Origin)
		if (*part.into).Namespace == "" && (*part.into).Kind != "Namespace" {
			(*part.into).Namespace = given.Namespace
		}
	}
	switch {
	case err != nil:
		return nil, err
	case out.Object == nil && out.Old == nil:
		return nil, errors.New("its request has neither an object nor an oldObject")
	case out.Operation == policy.Delete && out.Old == nil:
		return nil, errors.New("its request is a DELETE and has no oldObject")
	}
	return out, nil
}

// wants says what assertions want.
func wants(all []assertion) string {
	var out []string
	for _, a := range all {
		out = append(out, a.String())
	}
	return strings.Join(out, "; ")
}
