// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"sconce.dev/sconce/admission"
	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source/cluster"
	"sconce.dev/sconce/verdict"
)

// policies are the failure policies and the webhooks for them.
var policies = []struct {
	policy v1alpha1.FailurePolicy
	name   string
	path   string
}{
	{v1alpha1.FailClosed, "fail." + v1alpha1.Group, admission.FailPath},
	{v1alpha1.FailOpen, "ignore." + v1alpha1.Group, admission.IgnorePath},
}

// hookTimeout is how long the API server waits for the webhook, in seconds.
const hookTimeout = 5

// endpoint is where the API server finds the webhook.
type endpoint struct {
	// service is a Service in the agent's namespace, or url begins the address
	// outside of the cluster; one of them is set.
	namespace, service, url string
}

// client says how the API server calls a path of the webhook.
func (e endpoint) client(path string, ca []byte) admissionv1.WebhookClientConfig {
	out := admissionv1.WebhookClientConfig{CABundle: ca}
	if e.url != "" {
		url := strings.TrimSuffix(e.url, "/") + path
		out.URL = &url
		return out
	}
	out.Service = &admissionv1.ServiceReference{Namespace: e.namespace, Name: e.service, Path: &path}
	return out
}

// hooks is what the webhook configurations are made of.
type hooks struct {
	endpoint endpoint
	// exempt are namespaces that no request is asked about.
	exempt []string
	// self is the user as whom the agent itself makes requests.
	self string
	ca   []byte
}

// validating returns the configuration for a baseline: for each failure policy
// that a rule has whose action is not audit, one webhook for the kinds that such
// rules are about.
func (h *hooks) validating(b *baseline.Baseline, served []cluster.Kind) *admissionv1.ValidatingWebhookConfiguration {
	out := &admissionv1.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "ValidatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: Name},
		Webhooks:   []admissionv1.ValidatingWebhook{},
	}
	for _, p := range policies {
		rules := askedOf(admission.Enforced(b, p.policy, v1alpha1.Warn).Rules, served)
		if len(rules) == 0 {
			continue
		}
		policy, equivalent, none, seconds := admissionv1.FailurePolicyType(p.policy), admissionv1.Equivalent, admissionv1.SideEffectClassNone, int32(hookTimeout)
		out.Webhooks = append(out.Webhooks, admissionv1.ValidatingWebhook{
			Name: p.name, ClientConfig: h.endpoint.client(p.path, h.ca), Rules: rules, FailurePolicy: &policy,
			MatchPolicy: &equivalent, SideEffects: &none, TimeoutSeconds: &seconds, AdmissionReviewVersions: []string{"v1"},
			NamespaceSelector: h.namespaces(), ObjectSelector: &metav1.LabelSelector{}, MatchConditions: h.conditions(),
		})
	}
	return out
}

// mutating returns the configuration of the webhook that makes fixes. It never
// fails closed: what it does not mend, the other webhooks deny.
func (h *hooks) mutating(b *baseline.Baseline, served []cluster.Kind) *admissionv1.MutatingWebhookConfiguration {
	out := &admissionv1.MutatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "MutatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: Name},
		Webhooks:   []admissionv1.MutatingWebhook{},
	}
	rules := asking(askedOfControls(remedied(b), served, admissionv1.Create))
	if len(rules) == 0 {
		return out
	}
	ignore, equivalent, none, seconds, again := admissionv1.Ignore, admissionv1.Equivalent, admissionv1.SideEffectClassNone, int32(hookTimeout), admissionv1.IfNeededReinvocationPolicy
	out.Webhooks = append(out.Webhooks, admissionv1.MutatingWebhook{
		Name: "mutate." + v1alpha1.Group, ClientConfig: h.endpoint.client(admission.MutatePath, h.ca), Rules: rules, FailurePolicy: &ignore,
		MatchPolicy: &equivalent, SideEffects: &none, TimeoutSeconds: &seconds, AdmissionReviewVersions: []string{"v1"},
		NamespaceSelector: h.namespaces(), ObjectSelector: &metav1.LabelSelector{}, MatchConditions: h.conditions(), ReinvocationPolicy: &again,
	})
	return out
}

// remedied returns the rules whose fix may be made.
func remedied(b *baseline.Baseline) []*baseline.Rule {
	return slices.DeleteFunc(slices.Clone(b.Rules), func(r *baseline.Rule) bool { return !r.Remediate || r.Spec.Fix == nil })
}

// namespaces leaves out the namespaces that must be reachable when the agent is
// down, by a label that the API server itself sets.
func (h *hooks) namespaces() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: "kubernetes.io/metadata.name", Operator: metav1.LabelSelectorOpNotIn, Values: h.exempt},
	}}
}

// conditions leave out requests without which the cluster, or the agent, would
// not come up again: the API server's own, which it needs to start; those of
// kubelets, without which there are no nodes; and the agent's.
func (h *hooks) conditions() []admissionv1.MatchCondition {
	return []admissionv1.MatchCondition{
		{Name: "not-the-api-server", Expression: `request.userInfo.username != "system:apiserver"`},
		{Name: "not-a-node", Expression: `!("system:nodes" in request.userInfo.groups)`},
		{Name: "not-sconce", Expression: "request.userInfo.username != " + celString(h.self)},
	}
}

// celString returns a string as CEL writes it.
func celString(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `"`
}

// byGroup orders what is asked by group, version and operations.
func byGroup(a, b admissionv1.RuleWithOperations) int {
	return cmp.Or(slices.Compare(a.APIGroups, b.APIGroups), slices.Compare(a.APIVersions, b.APIVersions), slices.Compare(a.Operations, b.Operations))
}

// keeper keeps the webhook configurations as the set in force wants them. It
// runs where the replica leads.
type hookKeeper struct {
	hooks   hooks
	mutate  bool
	client  kubernetes.Interface
	force   func() *set
	served  func(context.Context, func(object.GroupKind) bool) ([]cluster.Kind, []verdict.Problem)
	certs   *certificates
	log     *slog.Logger
	metrics *metrics
}

// keep writes the configurations. Nothing is written while no set is in force:
// what was there before goes on to hold, and so it does for groups of which it
// cannot be found out now what they serve. They are written whole and not applied
// beside what others set: a selector that somebody adds would have the webhook
// pass by what it is there for.
func (k *hookKeeper) keep(ctx context.Context) error {
	s, ca := k.force(), k.certs.ca()
	if s == nil || len(ca) == 0 {
		return nil
	}
	served, problems := k.served(ctx, asksAbout(s.baseline.Rules))
	if len(served) == 0 && len(problems) > 0 {
		return fmt.Errorf("writing the webhook configuration: %s", problems[0].Message)
	}
	var found []string
	if len(problems) > 0 {
		for _, kind := range served {
			found = append(found, kind.Group)
		}
	}
	h := k.hooks
	h.ca = ca
	if err := k.validating(ctx, h.validating(s.baseline, served), found); err != nil {
		return err
	}
	if err := k.mutating(ctx, h.mutating(s.baseline, served)); err != nil {
		return err
	}
	if err := k.certs.Published(ctx, ca); err != nil {
		return err
	}
	if len(problems) > 0 {
		return fmt.Errorf("writing the webhook configuration as far as the API says what it serves: %s", problems[0].Message)
	}
	return nil
}

// validating writes the configuration that is wanted. What is asked about groups
// that are not among those found stays, where these are set.
func (k *hookKeeper) validating(ctx context.Context, want *admissionv1.ValidatingWebhookConfiguration, found []string) error {
	client := k.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	now, err := client.Get(ctx, Name, metav1.GetOptions{})
	if err == nil && found != nil {
		carryOver(now.Webhooks, want.Webhooks, found)
	}
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, want, metav1.CreateOptions{FieldManager: fieldManager})
	case err == nil && equality.Semantic.DeepEqual(now.Webhooks, want.Webhooks):
		return nil
	case err == nil:
		now.Webhooks = want.Webhooks
		_, err = client.Update(ctx, now, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	return k.wrote("ValidatingWebhookConfiguration", err)
}

// carryOver adds to webhooks what they were asked about groups that were not
// found.
func carryOver(from, to []admissionv1.ValidatingWebhook, found []string) {
	for i := range to {
		for j := range from {
			if from[j].Name != to[i].Name {
				continue
			}
			for _, r := range from[j].Rules {
				if !slices.ContainsFunc(r.APIGroups, func(group string) bool { return slices.Contains(found, group) }) {
					to[i].Rules = append(to[i].Rules, r)
				}
			}
		}
		slices.SortFunc(to[i].Rules, byGroup)
	}
}

// mutating writes the configuration that is wanted where fixes are made; where
// they are not any more, it leaves none of its webhooks.
func (k *hookKeeper) mutating(ctx context.Context, want *admissionv1.MutatingWebhookConfiguration) error {
	client := k.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	now, err := client.Get(ctx, Name, metav1.GetOptions{})
	if !k.mutate {
		want.Webhooks = nil
		if apierrors.IsNotFound(err) {
			return nil
		}
	}
	switch {
	case apierrors.IsNotFound(err):
		_, err = client.Create(ctx, want, metav1.CreateOptions{FieldManager: fieldManager})
	case err == nil && equality.Semantic.DeepEqual(now.Webhooks, want.Webhooks):
		return nil
	case err == nil:
		now.Webhooks = want.Webhooks
		_, err = client.Update(ctx, now, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	return k.wrote("MutatingWebhookConfiguration", err)
}

// wrote counts a write of a configuration.
func (k *hookKeeper) wrote(kind string, err error) error {
	if err != nil {
		k.metrics.webhooks.WithLabelValues(resultError).Inc()
		return fmt.Errorf("writing the %s %s: %w", kind, Name, err)
	}
	k.metrics.webhooks.WithLabelValues(resultOK).Inc()
	k.log.Info("webhook configuration written", "kind", kind, "name", Name)
	return nil
}
