// SPDX-License-Identifier: Apache-2.0

// Package admission answers the API server: it judges the object of an admission
// request by the rules of a baseline and allows it, warns, denies it, or denies
// only what the request adds; asked for a mutation, it makes the fixes that the
// baseline lets it make.
//
// Review and Mutate are pure. NewHandler puts them behind HTTP, with limits on
// all that a caller can make it do; Certificates are what it serves with, and
// rotate by themselves. The package knows no client of the API server: where
// rules and certificates come from is given as functions.
package admission

import (
	"fmt"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// Options adjust how requests are answered.
type Options struct {
	// Baseline is the name that answers call the rules by.
	Baseline string
	// FailurePolicy is that of the engine's rules: what a rule that cannot
	// decide does to a request.
	FailurePolicy v1alpha1.FailurePolicy
	// Annotations asks for audit annotations: what was found, for the API
	// server's audit log.
	Annotations bool
	// Namespace returns a namespace as the API server has it, or nil.
	Namespace func(name string) *object.Node
	// Now is the time that rules of policies may ask for; zero for none.
	Now time.Time
	// Controllers are users, beside those of kube-controller-manager, that
	// create objects out of others: see Review.
	Controllers []string
}

// Decision is what became of a request.
type Decision string

// The decisions. Skipped requests are allowed without being judged.
const (
	Allowed Decision = "allowed"
	Warned  Decision = "warned"
	Denied  Decision = "denied"
	Skipped Decision = "skipped"
)

// Outcome is the answer to a request, and what it rests on.
type Outcome struct {
	Response *admissionv1.AdmissionResponse
	Decision Decision
	Object   object.Ref
	// Denied are the findings for which the request is denied, Warned those
	// that are only told. Findings that are audited or excused are in neither.
	Denied, Warned []verdict.Finding
	// Mutated are the findings that the answer's patch mends.
	Mutated []verdict.Finding
}

// Enforced returns the rules of a baseline that a webhook of a failure policy
// runs: those whose action is at least as strict as least. There is one webhook
// for each policy, so that the API server closes where a rule says so, and only
// there, when no one answers.
func Enforced(b *baseline.Baseline, policy v1alpha1.FailurePolicy, least v1alpha1.Action) *baseline.Baseline {
	out := *b
	out.Rules = nil
	for _, r := range b.Rules {
		if r.FailurePolicy == policy && strictness(r.Action) >= strictness(least) && admissible(r, b.Network != nil) {
			out.Rules = append(out.Rules, r)
		}
	}
	return &out
}

// admissible says whether a request tells all that a rule needs: one of a policy
// that looks other objects up is left to the audit, as are rules about facts of
// several objects, and one that cannot be run is in nobody's way; nor is one that
// would ask the network where the baseline does not let it.
func admissible(r *baseline.Rule, network bool) bool {
	if r.Policy == nil {
		return true
	}
	info := r.Policy.Info()
	return info.Unsupported == "" && len(info.Needs.Kinds) == 0 && !info.Needs.AnyKind && (!info.Needs.Outside || network) && !info.Needs.Authorizer
}

// strictness orders actions: 0 is the mildest.
func strictness(a v1alpha1.Action) int {
	return slices.Index([]v1alpha1.Action{v1alpha1.Audit, v1alpha1.Warn, v1alpha1.Ratchet, v1alpha1.Deny}, a)
}

// Review judges a request by the engine's rules. It is pure.
//
// What creates or updates an object is judged; of the requests to subresources,
// those that carry a whole pod (pods/ephemeralcontainers, pods/resize). Deletions,
// connections and other subresources are judged by none but the rules of policies
// that ask for them: see policy.Asking. What is being deleted is never in the way of
// the end of its deletion.
//
// The failure policy is for what Sconce cannot do. What is unknown of an object,
// or cannot be read of it, because it was made so large, is denied whatever the
// policy where a rule denies at all: whoever makes an object could else see to it
// that it is not judged.
//
// A rule whose action is ratchet denies what the object did not already fail
// before the update. An object that a controller of the cluster creates out of
// another one (a ReplicaSet's pod) is not denied by it: what the owner fails was
// said when the owner was changed, and an owner that failed before Sconce came
// must be able to scale. That it was such a controller is told by the user who
// asks, since anybody can write an owner reference. Under deny such objects are
// denied like any other.
func Review(e *engine.Engine, req *admissionv1.AdmissionRequest, opts Options) Outcome {
	r := request{AdmissionRequest: req}
	if r.skipped(e) {
		return r.allow(Skipped)
	}
	var err error
	if len(req.Object.Raw) > 0 || r.Operation != admissionv1.Delete {
		if r.object, err = object.ReadJSON(req.Object.Raw, maxValues); err != nil {
			return r.unreadable(e, "object", err, opts)
		}
	}
	if len(req.OldObject.Raw) > 0 {
		if r.old, err = object.ReadJSON(req.OldObject.Raw, maxValues); err != nil {
			return r.unreadable(e, "oldObject", err, opts)
		}
	}
	return r.review(e, opts)
}

// maxValues is how many values an object may hold. The API server takes no
// object of more than 3 MiB; a CustomResourceDefinition of 1 MiB has 50,000.
const maxValues = 250_000

// maxFindings is how many findings an object may have before it is given up. A
// pod with 50 careless containers has 1,000.
const maxFindings = 5000

// request is a request whose objects have been read.
type request struct {
	*admissionv1.AdmissionRequest
	object, old *object.Node // nil for what is not there
	// late says that nobody waits for the answer any more; nil if somebody
	// always does.
	late func() bool
}

// goOn says whether judging goes on.
func (r *request) goOn(result *engine.Result) bool {
	return len(result.Findings) <= maxFindings && (r.late == nil || !r.late())
}

// plain says whether the request creates or updates an object as controls judge it.
func (r *request) plain() bool {
	if r.Operation != admissionv1.Create && r.Operation != admissionv1.Update {
		return false
	}
	switch r.SubResource {
	case "":
		return true
	case "ephemeralcontainers", "resize":
		return r.Resource.Group == "" && r.Resource.Resource == "pods"
	}
	return false
}

// skipped says whether the request is none that the engine's rules judge.
func (r *request) skipped(e *engine.Engine) bool { return !r.plain() && !e.Asked(r.requests()) }

// requests are those of the kind of the request: where it is to a subresource, the
// kind of the object is not told.
func (r *request) requests() policy.Requests {
	kind := object.GroupKind{Group: r.Kind.Group, Kind: r.Kind.Kind}
	return policy.Requests{
		Operation: policy.Operation(r.Operation), Kind: kind, Version: r.Resource.Version, Resource: r.Resource.Resource, Subresource: r.SubResource, Sent: kind,
	}
}

// review judges the request's object.
func (r *request) review(e *engine.Engine, opts Options) Outcome {
	if r.letGo() {
		return r.allow(Skipped)
	}
	root, what := r.object, "object"
	if r.Operation == admissionv1.Delete {
		root, what = r.old, "oldObject"
	}
	o, err := r.read(root)
	if err != nil {
		return r.unreadable(e, what, err, opts)
	}
	out := r.allow(Allowed)
	out.Object = o.Ref
	result := r.judge(e, o, opts)
	if len(result.Findings) > 0 {
		r.sort(e, result, opts, &out)
	}
	switch {
	case !result.Cut || len(out.Denied) > 0:
	case o.Small && len(result.Findings) <= maxFindings:
		return r.unjudged(what, errGivenUp, opts) // it is not the object that takes time
	default:
		return r.unreadable(e, what, errGivenUp, opts)
	}
	return r.answer(e, result, opts, out)
}

// errGivenUp says that not all rules were run.
var errGivenUp = fmt.Errorf("it has more than %d findings, or took too long, and not all controls were run", maxFindings)

// letGo says whether the object is being deleted, was before, and stays as it
// is but for what says how far its deletion has come: its finalizers must
// always go. What is more is judged: until they are gone a role still grants
// what it says, and a pod runs.
func (r *request) letGo() bool {
	if r.Operation != admissionv1.Update || r.old.At("metadata", "deletionTimestamp") == nil || r.object.At("metadata", "deletionTimestamp") == nil {
		return false
	}
	return unchanged(r.object, r.old) && unchanged(r.old, r.object)
}

// unchanged says whether all that one object says and that is judged stands in
// the other, too.
func unchanged(o, other *object.Node) bool {
	same := func(a, b *object.Node, field string) bool { return a.Get(field).Equal(b.Get(field)) }
	for i := range o.Fields {
		field := o.Fields[i].Key
		if field != "status" && field != "metadata" && !same(o, other, field) {
			return false
		}
	}
	a, b := o.Get("metadata"), other.Get("metadata")
	return same(a, b, "labels") && same(a, b, "annotations")
}

// read returns the object that a tree holds.
func (r *request) read(root *object.Node) (*object.Object, error) {
	if root == nil {
		return nil, fmt.Errorf("the request holds no object: %s of %s is not what is judged", r.Operation, r.Resource.Resource)
	}
	objects, err := object.FromNode(root, live)
	if err != nil {
		return nil, err
	}
	if len(objects) != 1 {
		return nil, fmt.Errorf("the request holds %d objects, not one", len(objects))
	}
	o := objects[0]
	// The reference outlives the tree, whose strings are parts of the request.
	o.Ref = object.Ref{APIVersion: strings.Clone(o.APIVersion), Kind: strings.Clone(o.Kind), Namespace: strings.Clone(o.Namespace), Name: strings.Clone(o.Name)}
	if o.Namespace == "" && (o.GroupKind() != (object.GroupKind{Kind: "Namespace"}) || r.SubResource != "") {
		o.Namespace = strings.Clone(r.Namespace) // the name of a namespace, for that itself
	}
	if o.Name == "" && r.SubResource != "" {
		o.Name = strings.Clone(r.Name)
	}
	return o, nil
}

// judge judges the request's object.
func (r *request) judge(e *engine.Engine, o *object.Object, opts Options) *engine.Result {
	if !r.plain() {
		return e.JudgeAsked(r.asked(o, opts), r.requests(), r.namespace(opts), r.goOn)
	}
	if !e.Policies() {
		return e.JudgeWhile(o, r.namespace(opts), r.goOn)
	}
	return e.JudgeRequest(r.asked(o, opts), r.namespace(opts), r.goOn)
}

// asked is the request as rules of policies see it.
func (r *request) asked(o *object.Object, opts Options) *policy.Request {
	out := &policy.Request{
		Object: o, Operation: policy.Operation(r.Operation), Resource: r.Resource.Resource, Subresource: r.SubResource,
		User: &r.UserInfo, DryRun: r.DryRun != nil && *r.DryRun, Now: opts.Now,
	}
	switch {
	case r.Operation == admissionv1.Delete:
		out.Object, out.Old = nil, o
	case r.old != nil:
		out.Old, _ = r.read(r.old) // what cannot be read is not there
	}
	if r.SubResource != "" {
		out.Group, out.Version = r.Resource.Group, r.Resource.Version
	}
	return out
}

// live is where objects of requests come from: no file.
var live = &object.Origin{}

// namespace returns the namespace that the object is in, if it is known.
func (r *request) namespace(opts Options) *object.Node {
	if opts.Namespace == nil || r.AdmissionRequest.Namespace == "" {
		return nil
	}
	return opts.Namespace(r.AdmissionRequest.Namespace)
}

// sort tells findings that deny the request from those that are only told.
func (r *request) sort(e *engine.Engine, result *engine.Result, opts Options, out *Outcome) {
	before := past{read: func() map[string]int { return r.before(e, opts) }}
	for i := range result.Findings {
		f := &result.Findings[i]
		switch {
		case f.Excepted != nil || f.Action == v1alpha1.Audit:
		case f.Action == v1alpha1.Warn,
			f.Outcome == verdict.Unknown && opts.FailurePolicy != v1alpha1.FailClosed && result.Object.Small,
			f.Action == v1alpha1.Ratchet && (before.had(f) || r.derived(result.Object, ruleOf(e, f.Control), opts)):
			out.Warned = append(out.Warned, *f)
		default:
			if out.Denied == nil {
				out.Denied = make([]verdict.Finding, 0, len(result.Findings)-i)
			}
			out.Denied = append(out.Denied, *f)
		}
	}
}

// before counts the findings of the object as it was, by what they are about.
func (r *request) before(e *engine.Engine, opts Options) map[string]int {
	if r.old == nil || r.Operation != admissionv1.Update {
		return nil
	}
	o, err := r.read(r.old)
	if err != nil {
		return nil
	}
	out := map[string]int{}
	for _, f := range e.JudgeWhile(o, r.namespace(opts), r.goOn).Findings {
		if f.Excepted == nil {
			out[f.Fingerprint+string(f.Outcome)]++
		}
	}
	return out
}

// past is what the object failed before the request.
type past struct {
	read  func() map[string]int
	left  map[string]int // not yet found again
	known bool
}

// had says whether the object had the finding before: failed then, or was
// unknown then and is now. Elements without names can share one fingerprint;
// each counts once.
func (p *past) had(f *verdict.Finding) bool {
	if !p.known {
		p.left, p.known = p.read(), true
	}
	outcomes := []verdict.Outcome{verdict.Fail}
	if f.Outcome == verdict.Unknown {
		outcomes = []verdict.Outcome{verdict.Unknown, verdict.Fail}
	}
	for _, outcome := range outcomes {
		if key := f.Fingerprint + string(outcome); p.left[key] > 0 {
			p.left[key]--
			return true
		}
	}
	return false
}

// controllers are the service accounts of kube-controller-manager that create
// pods, and objects that hold pod templates, out of others.
var controllers = []string{
	"system:kube-controller-manager",
	"system:serviceaccount:kube-system:cronjob-controller",
	"system:serviceaccount:kube-system:daemon-set-controller",
	"system:serviceaccount:kube-system:deployment-controller",
	"system:serviceaccount:kube-system:job-controller",
	"system:serviceaccount:kube-system:replicaset-controller",
	"system:serviceaccount:kube-system:replication-controller",
	"system:serviceaccount:kube-system:statefulset-controller",
}

// derived says whether a controller creates the object out of one that holds
// its pod template, and that was judged by the rule itself: a rule about Pods
// alone finds nothing in a Deployment.
func (r *request) derived(o *object.Object, rule *baseline.Rule, opts Options) bool {
	named := slices.Contains(opts.Controllers, r.UserInfo.Username)
	if r.Operation != admissionv1.Create || !named && !slices.Contains(controllers, r.UserInfo.Username) {
		return false
	}
	owner := controllerOf(o.Root)
	if owner == nil {
		return false
	}
	ref := object.Ref{APIVersion: owner.Get("apiVersion").Str(), Kind: owner.Get("kind").Str()}
	if rule != nil && rule.Matches(o.GroupKind()) && !rule.Matches(ref.GroupKind()) {
		return false
	}
	path, ok := object.PodPath(ref.GroupKind())
	return ok && len(path) > 0 || named
}

// controllerOf returns the reference to the object that controls this one.
func controllerOf(root *object.Node) *object.Node {
	owners := root.At("metadata", "ownerReferences")
	if owners == nil {
		return nil
	}
	for _, owner := range owners.Items {
		if owner.Get("controller").Bool() {
			return owner
		}
	}
	return nil
}
