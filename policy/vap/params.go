// SPDX-License-Identifier: Apache-2.0

package vap

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
)

// paramSource is where the parameters of a policy come from.
type paramSource struct {
	kind schema.GroupVersionKind
	// documents are those that were read with the policies.
	documents []*object.Object
}

// paramRef is the reference of a binding, its selector read.
type paramRef struct {
	*admissionregistrationv1.ParamRef
	selector labels.Selector
}

func newParamRef(r *admissionregistrationv1.ParamRef) (*paramRef, error) {
	if r == nil {
		return nil, nil
	}
	if (r.Name != "") == (r.Selector != nil) {
		return nil, errors.New("paramRef: one of name and selector must be set, and not both")
	}
	selector, err := metav1.LabelSelectorAsSelector(r.Selector)
	if err != nil {
		return nil, fmt.Errorf("paramRef.selector: %w", err)
	}
	return &paramRef{r, selector}, nil
}

// bindingError is why a binding cannot be evaluated, in the API server's words.
func bindingError(format string, args ...any) error {
	return fmt.Errorf("failed to configure binding: %w", fmt.Errorf(format, args...))
}

// find returns the parameters that a binding refers to. More says why there may
// be others.
// One that is nil is null.
func (s *paramSource) find(ref *paramRef, q *request, r *policy.Request) (found []*subject, more string, err error) {
	if s == nil || ref == nil {
		return []*subject{nil}, "", nil
	}
	namespace, err := s.namespace(ref, q)
	if err != nil {
		return nil, "", err
	}
	objects, all := s.objects(q.cluster)
	for _, o := range objects {
		if namespace != "" && o.Namespace != "" && o.Namespace != namespace || !ref.refersTo(o) {
			continue
		}
		p, err := s.read(o, r)
		if err != nil {
			return nil, "", err
		}
		found = append(found, p)
		if ref.Name != "" {
			return found, "", nil
		}
	}
	switch {
	case !all && len(found) == 0:
		return nil, "", &unknownError{notKnown(fmt.Sprintf("the parameter of the binding, %s, which is not among what was read,", ref.describe(s.kind.Kind)))}
	case !all:
		return found, "whether there are more parameters", nil
	case len(found) == 0 && ref.ParameterNotFoundAction != nil && *ref.ParameterNotFoundAction == admissionregistrationv1.DenyAction:
		return nil, "", bindingError("no params found for policy binding with `Deny` parameterNotFoundAction")
	}
	return found, "", nil
}

// only returns the parameter of a policy that no binding gives one: the only
// object of the kind among the policies. All is how many there are.
func (s *paramSource) only() (param *object.Object, all int) {
	if len(s.documents) == 1 {
		return s.documents[0], 1
	}
	return nil, len(s.documents)
}

// guess returns the parameter with which a policy without a binding is judged.
func (s *paramSource) guess(r *policy.Request) ([]*subject, error) {
	if s == nil {
		return []*subject{nil}, nil
	}
	o, _ := s.only()
	if o == nil {
		return nil, &unknownError{fmt.Sprintf("no binding says which %s is the parameter of the policy", s.kind.Kind)}
	}
	p, err := s.read(o, r)
	return []*subject{p}, err
}

// describe names what is referred to.
func (r *paramRef) describe(kind string) string {
	if r.Name != "" {
		return kind + " " + r.Name
	}
	return fmt.Sprintf("a %s with the labels %s", kind, r.selector)
}

// refersTo says whether a parameter of the right namespace is meant.
func (r *paramRef) refersTo(o *object.Object) bool {
	if r.Name != "" {
		return o.Name == r.Name
	}
	set := labels.Set{}
	if all := o.Root.At("metadata", "labels"); all != nil {
		for i := range all.Fields {
			set[all.Fields[i].Key] = all.Fields[i].Value.Str()
		}
	}
	return r.selector.Matches(set)
}

// namespace returns the namespace in which parameters are looked for: none where
// their kind is in none.
func (s *paramSource) namespace(ref *paramRef, q *request) (string, error) {
	info := typeOf(s.kind, q.cluster)
	namespaced := info.namespaced
	if !info.scoped {
		objects, _ := s.objects(q.cluster)
		namespaced = ref.Namespace != "" || slices.ContainsFunc(objects, func(o *object.Object) bool { return o.Namespace != "" })
	}
	switch {
	case !namespaced && ref.Namespace != "":
		return "", bindingError("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
	case !namespaced || ref.Namespace != "":
		return ref.Namespace, nil
	case q.noNamespace != "":
		return "", &unknownError{notKnown(q.noNamespace)}
	case q.namespace == "":
		return "", bindingError("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources")
	}
	return q.namespace, nil
}

// objects are all of the kind that are known, in the order of their names; all
// says that there are no others.
func (s *paramSource) objects(cluster policy.Cluster) (out []*object.Object, all bool) {
	type id struct{ namespace, name string }
	seen := map[id]bool{}
	if cluster != nil {
		out, all = cluster.Objects(object.GroupKind{Group: s.kind.Group, Kind: s.kind.Kind}, "")
		out = slices.Clone(out)
		for _, o := range out {
			seen[id{o.Namespace, o.Name}] = true
		}
	}
	for _, o := range s.documents {
		if !seen[id{o.Namespace, o.Name}] {
			out = append(out, o)
		}
	}
	slices.SortStableFunc(out, func(a, b *object.Object) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return out, all
}

type paramKey struct {
	o    *object.Object
	kind schema.GroupVersionKind
}

// read returns a parameter as expressions see it.
func (s *paramSource) read(o *object.Object, r *policy.Request) (*subject, error) {
	type result struct {
		*subject
		err error
	}
	got := policy.Once(r, paramKey{o, s.kind}, func() result {
		from := schema.FromAPIVersionAndKind(o.APIVersion, o.Kind)
		if from != s.kind && !typeOf(from, r.Cluster).converts(s.kind) {
			return result{err: &unknownError{fmt.Sprintf("the parameter %s is in the version %s; only the API server converts it to %s", o.Name, o.APIVersion, s.kind.GroupVersion())}}
		}
		p := newSubject(r, o, s.kind)
		if p.shown != nil {
			return result{subject: p}
		}
		if _, err := p.made(); err != nil {
			return result{err: fmt.Errorf("the parameter %s: %w", o.Name, err)}
		}
		return result{subject: p}
	})
	return got.subject, got.err
}
