// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"encoding/json"
	"slices"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/fix"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Mutate makes, in the object of a request, the fixes of those rules that the
// baseline lets Sconce make (remediate). It is pure. The engine runs all rules:
// a fix is made only if its finding is then gone and nothing new has come.
//
// Only what is created is changed: most of a pod cannot be changed later, and a
// change to what a person wrote before would be fought over with its source. Of
// what a controller creates only pods are: a ReplicaSet that differs from its
// Deployment would be replaced without end. Unlike Review, it denies nothing.
func Mutate(e *engine.Engine, req *admissionv1.AdmissionRequest, opts Options) Outcome {
	r := request{AdmissionRequest: req}
	if !r.plain() {
		return r.allow(Skipped)
	}
	opts.FailurePolicy = v1alpha1.FailOpen
	var err error
	if r.object, err = object.ReadJSON(req.Object.Raw, maxValues); err != nil {
		return r.unjudged("object", err, opts)
	}
	return r.mutate(e, opts)
}

// maxFixes is how many fixes are made in one object: each is judged again.
const maxFixes = 32

// mutate answers a request with the fixes of its object.
func (r *request) mutate(e *engine.Engine, opts Options) Outcome {
	if r.Operation != admissionv1.Create || r.SubResource != "" {
		return r.allow(Skipped)
	}
	o, err := r.read(r.object)
	if err != nil {
		return r.unjudged("object", err, opts)
	}
	if controllerOf(o.Root) != nil && o.GroupKind() != (object.GroupKind{Kind: "Pod"}) {
		return r.allow(Skipped)
	}
	out := r.allow(Allowed)
	out.Object = o.Ref
	m := mutation{e: e, namespace: r.namespace(opts), object: o, goOn: r.goOn}
	m.run()
	if len(m.made) == 0 {
		return out
	}
	patch, err := patch(o.Root, m.object.Root)
	if err != nil {
		return r.unjudged("object", err, opts)
	}
	kind := admissionv1.PatchTypeJSONPatch
	out.Response.Patch, out.Response.PatchType = patch, &kind
	out.Mutated = m.made
	for i := range out.Mutated[:min(len(out.Mutated), maxWarnings)] {
		f := &out.Mutated[i]
		out.Response.Warnings = append(out.Response.Warnings, line("Sconce mended "+f.Control+": "+f.Message+" ("+f.Path+")", maxWarning))
	}
	if opts.Annotations {
		out.Response.AuditAnnotations = map[string]string{"baseline": opts.Baseline, "mended": told(out.Mutated)}
	}
	return out
}

// mutation makes the fixes of an object, one by one.
type mutation struct {
	e         *engine.Engine
	namespace *object.Node
	goOn      func(*engine.Result) bool
	object    *object.Object // as it is now
	findings  []verdict.Finding
	made      []verdict.Finding // those that were mended
	refused   []string          // fingerprints of those that could not be
}

func (m *mutation) run() {
	result := m.e.JudgeWhile(m.object, m.namespace, m.goOn)
	if result.Cut {
		return
	}
	m.findings = result.Findings
	for range maxFixes {
		i := slices.IndexFunc(m.findings, m.mendable)
		if i < 0 {
			return
		}
		f := m.findings[i]
		if !m.mend(&f) {
			m.refused = append(m.refused, f.Fingerprint)
		}
	}
}

// mendable says whether the baseline lets Sconce mend a finding, and it can.
func (m *mutation) mendable(f verdict.Finding) bool {
	if f.Outcome != verdict.Fail || f.Excepted != nil || f.Fix == nil || slices.Contains(m.refused, f.Fingerprint) {
		return false
	}
	rule := ruleOf(m.e, f.Control)
	return rule != nil && rule.Remediate
}

// mend makes the fix of a finding if that clears it and brings nothing new.
func (m *mutation) mend(f *verdict.Finding) bool {
	root, err := fix.ApplyTree(m.object.Root, f.Fix.Edits)
	if err != nil {
		return false
	}
	next := m.object.WithRoot(root)
	result := m.e.JudgeWhile(next, m.namespace, m.goOn)
	findings := result.Findings
	if result.Cut || len(findings) >= len(m.findings) {
		return false
	}
	for i := range findings {
		if findings[i].Fingerprint == f.Fingerprint || !slices.ContainsFunc(m.findings, func(g verdict.Finding) bool { return g.Fingerprint == findings[i].Fingerprint }) {
			return false
		}
	}
	m.object, m.findings = next, findings
	m.made = append(m.made, *f)
	return true
}

// patch returns what makes the new tree of the old one, as RFC 6902 has it.
func patch(before, after *object.Node) ([]byte, error) {
	operations, err := jsonpatch.CreatePatch(before.JSON(), after.JSON())
	if err != nil {
		return nil, err
	}
	return json.Marshal(operations)
}
