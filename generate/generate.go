// SPDX-License-Identifier: Apache-2.0

// Package generate turns the rules of a baseline into policies that the API
// server enforces by itself: ValidatingAdmissionPolicies, their bindings, and,
// for fixes, MutatingAdmissionPolicies. It is pure: it reads no clock and no
// cluster.
//
// What a policy cannot say is listed with the reason; nothing is left out
// silently.
package generate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/vap"
)

// Options adjust what is generated.
type Options struct {
	// Exceptions excuse objects. Those that have expired must be left out: CEL
	// has no clock.
	Exceptions []*v1alpha1.Exception
	// Today is the day for which inline exceptions are honoured: those that
	// have not expired on it. None are, if it is zero or the baseline forbids
	// them.
	Today time.Time
	// ExemptNamespaces are left alone by every policy.
	ExemptNamespaces []string
	// Static makes manifests for the API server's own files: they may judge
	// admission policies, too, and their names end as they must.
	Static bool
	// Mutate adds policies that make the fixes of controls.
	Mutate bool
	// Resource, where it is set, returns the resource of a kind that a cluster
	// serves; the second result is false for one that it does not know.
	Resource func(object.GroupKind) (string, bool)
}

// Policies are what a baseline becomes.
type Policies struct {
	Validating []Validating
	Mutating   []Mutating
	// Left are the controls without a policy, and fixes without one.
	Left []Left
}

// Validating is a control as a policy, with the binding that puts it in force.
type Validating struct {
	Control string
	Policy  *admissionregistrationv1.ValidatingAdmissionPolicy
	Binding *admissionregistrationv1.ValidatingAdmissionPolicyBinding
}

// Mutating is a control's fix as a policy, with its binding.
type Mutating struct {
	Control string
	Policy  *admissionregistrationv1.MutatingAdmissionPolicy
	Binding *admissionregistrationv1.MutatingAdmissionPolicyBinding
}

// Left is a control that no policy can stand for.
type Left struct {
	Control string
	// Fix says that only its fix is left out.
	Fix    bool
	Reason string
}

// Objects returns all policies and bindings, each policy before its binding.
func (p *Policies) Objects() []runtime.Object {
	var out []runtime.Object
	for i := range p.Mutating {
		out = append(out, p.Mutating[i].Policy, p.Mutating[i].Binding)
	}
	for i := range p.Validating {
		out = append(out, p.Validating[i].Policy, p.Validating[i].Binding)
	}
	return out
}

// The labels and annotations of what is generated.
const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	labelBaseline  = v1alpha1.Group + "/baseline"
	labelControl   = v1alpha1.Group + "/control"
	labelSeverity  = v1alpha1.Group + "/severity"
	expiresOn      = v1alpha1.Group + "/exceptions-expire"
)

// staticSuffix is what names of static manifests end with, and of nothing else.
const staticSuffix = ".static.k8s.io"

// Build turns the rules of a baseline into policies.
func Build(b *baseline.Baseline, opts Options) *Policies {
	out := &Policies{}
	for _, rule := range b.Rules {
		if rule.Policy != nil {
			out.Left = append(out.Left, Left{Control: rule.Name, Reason: "a rule of a policy in another language; sconce convert policies translates those"})
			continue
		}
		g := &generator{rule: rule, baseline: b, opts: &opts}
		v, err := g.validating()
		if err != nil {
			out.Left = append(out.Left, Left{Control: rule.Name, Reason: err.Error()})
			continue
		}
		out.Validating = append(out.Validating, *v)
		if !opts.Mutate || rule.Spec.Fix == nil {
			continue
		}
		m, err := g.mutating(v)
		if err != nil {
			out.Left = append(out.Left, Left{Control: rule.Name, Fix: true, Reason: err.Error()})
			continue
		}
		out.Mutating = append(out.Mutating, *m)
	}
	return out
}

// generator makes the policies of one rule.
type generator struct {
	rule     *baseline.Rule
	baseline *baseline.Baseline
	opts     *Options
}

// validating returns the rule as a policy, or why there is none.
func (g *generator) validating() (*Validating, error) {
	kinds, err := g.kinds()
	if err != nil {
		return nil, err
	}
	excused, err := g.exceptions()
	if err != nil {
		return nil, err
	}
	native, err := g.rule.Native(control.NativeOptions{Ratchet: g.rule.Action == v1alpha1.Ratchet, Excuse: excused.element()})
	if err != nil {
		return nil, err
	}
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicy"},
		ObjectMeta: g.meta(excused),
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			FailurePolicy:    g.failurePolicy(),
			MatchConstraints: g.match(kinds),
			MatchConditions:  append(letGo(), excused.conditions...),
			Variables:        variables(native),
			Validations: []admissionregistrationv1.Validation{{
				Expression:        "variables.passes",
				Message:           g.rule.Name + ": does not hold: " + g.rule.Spec.Title,
				MessageExpression: message(g.rule.Name),
				Reason:            ptr.To(metav1.StatusReasonForbidden),
			}},
			AuditAnnotations: []admissionregistrationv1.AuditAnnotation{{
				Key:             "finding",
				ValueExpression: annotation(g.rule),
			}},
		},
	}
	if size := policy.Size(); size > maxPolicy {
		return nil, fmt.Errorf("the policy would hold %d bytes, more than the %d that an API server stores safely: its exceptions are too many", size, maxPolicy)
	}
	if _, err := vap.Compile(policy); err != nil {
		return nil, fmt.Errorf("the API server would refuse it: %w", err)
	}
	return &Validating{Control: g.rule.Name, Policy: policy, Binding: g.binding(policy.Name)}, nil
}

// maxPolicy is how large a policy may be: etcd takes 1.5 MiB, and applying it
// by kubectl keeps a copy in an annotation of at most 256 KiB.
const maxPolicy = 1 << 20

// meta returns what identifies what is generated.
func (g *generator) meta(x *excuses) metav1.ObjectMeta {
	name := "sconce-" + g.rule.Name
	if g.opts.Static {
		name += staticSuffix
	}
	out := metav1.ObjectMeta{Name: name, Labels: map[string]string{
		labelManagedBy: "sconce", labelBaseline: g.baseline.Name, labelControl: g.rule.Name, labelSeverity: string(g.rule.Severity),
	}}
	if x != nil && x.expires != "" {
		out.Annotations = map[string]string{expiresOn: x.expires}
	}
	return out
}

func (g *generator) failurePolicy() *admissionregistrationv1.FailurePolicyType {
	out := admissionregistrationv1.Ignore
	if g.rule.FailurePolicy == v1alpha1.FailClosed {
		out = admissionregistrationv1.Fail
	}
	return &out
}

// binding puts a policy in force.
func (g *generator) binding(policy string) *admissionregistrationv1.ValidatingAdmissionPolicyBinding {
	action := admissionregistrationv1.Deny
	switch g.rule.Action {
	case v1alpha1.Audit:
		action = admissionregistrationv1.Audit
	case v1alpha1.Warn:
		action = admissionregistrationv1.Warn
	}
	actions := []admissionregistrationv1.ValidationAction{action}
	if action != admissionregistrationv1.Audit {
		actions = append(actions, admissionregistrationv1.Audit)
	}
	return &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicyBinding"},
		ObjectMeta: g.meta(nil),
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: policy, ValidationActions: actions, MatchResources: g.exempt(),
		},
	}
}

// exempt leaves namespaces alone.
func (g *generator) exempt() *admissionregistrationv1.MatchResources {
	if len(g.opts.ExemptNamespaces) == 0 {
		return nil
	}
	return &admissionregistrationv1.MatchResources{NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
		Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: slices.Clone(g.opts.ExemptNamespaces),
	}}}}
}

// match chooses the requests: whatever creates or changes an object of the
// kinds, in every version of theirs.
func (g *generator) match(kinds []object.GroupKind) *admissionregistrationv1.MatchResources {
	resources := map[string][]string{}
	var groups []string
	for _, k := range kinds {
		if !slices.Contains(groups, k.Group) {
			groups = append(groups, k.Group)
		}
		resources[k.Group] = append(resources[k.Group], g.resources(k)...)
	}
	equivalent := admissionregistrationv1.Equivalent
	out := &admissionregistrationv1.MatchResources{MatchPolicy: &equivalent}
	for _, group := range groups {
		out.ResourceRules = append(out.ResourceRules, admissionregistrationv1.NamedRuleWithOperations{
			RuleWithOperations: admissionregistrationv1.RuleWithOperations{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: resources[group]},
			},
		})
	}
	return out
}

// letGo are the conditions on which a request is left alone, whatever the
// control: what is being deleted must still lose its finalizers, and the API
// server itself makes the default roles when it starts; denied, it would not
// come up.
func letGo() []admissionregistrationv1.MatchCondition {
	return []admissionregistrationv1.MatchCondition{
		{Name: "not-being-deleted", Expression: "request.operation != 'UPDATE' || !has(oldObject.metadata.deletionTimestamp) || !(" + unchanged + ")"},
		{Name: "not-by-the-api-server", Expression: "request.userInfo.?username.orValue('') != 'system:apiserver'"},
	}
}

// unchanged is true for an update that leaves all that is judged as it was: what
// is being deleted still grants what it says, and runs.
const unchanged = "object.all(k, k in ['metadata', 'status'] || k in oldObject && object[k] == oldObject[k])" +
	" && oldObject.all(k, k in ['metadata', 'status'] || k in object)" +
	" && object.metadata.?labels == oldObject.metadata.?labels && object.metadata.?annotations == oldObject.metadata.?annotations"

func variables(n *control.Native) []admissionregistrationv1.Variable {
	var out []admissionregistrationv1.Variable
	for _, v := range n.Variables {
		out = append(out, admissionregistrationv1.Variable{Name: v.Name, Expression: v.Expression})
	}
	return append(out,
		admissionregistrationv1.Variable{Name: "passes", Expression: n.Require},
		admissionregistrationv1.Variable{Name: "messages", Expression: n.Messages},
		admissionregistrationv1.Variable{Name: "paths", Expression: n.Paths},
	)
}

// message returns the expression of what the developer is told. The API server
// takes no message over 5 KiB, and none with line breaks.
func message(name string) string {
	return "variables.passes ? '' : [variables.messages.join('; ').replace('\\n', ' ')].map(m, '" + name +
		": ' + (size(m) > 1000 ? m.substring(0, 1000) + '…' : m))[0]"
}

// annotation returns the expression of what the audit event says of a request
// that fails; nothing is published where it is empty.
func annotation(r *baseline.Rule) string {
	return "variables.passes ? '' : '" + string(r.Severity) +
		": ' + [variables.paths.join(', ')].map(m, size(m) > 1000 ? m.substring(0, 1000) + '…' : m)[0]"
}

// Table returns the controls that no policy stands for, grouped by reason.
func (p *Policies) Table() []string {
	byReason := map[string][]string{}
	for _, l := range p.Left {
		what := "no policy"
		if l.Fix {
			what = "a policy, but none for its fix"
		}
		reason := what + ": " + l.Reason
		byReason[reason] = append(byReason[reason], l.Control)
	}
	var out []string
	for reason, names := range byReason {
		out = append(out, fmt.Sprintf("%s (%d): %s", reason, len(names), strings.Join(names, ", ")))
	}
	slices.SortFunc(out, cmp.Compare)
	return out
}
