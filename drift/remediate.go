// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/fix"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// AnnotationPrefix begins the annotations that say what was remediated, and how
// to take it back: remediation.sconce.dev/CONTROL.
const AnnotationPrefix = "remediation." + v1alpha1.Group + "/"

// The bounds of remediation.
const (
	// maxUndone is how often somebody else may undo the same remediation within
	// undoneWithin before it is not made again.
	maxUndone    = 3
	undoneWithin = time.Hour
	// maxRecord is the largest record, in bytes: the annotations of an object
	// may have 256 KiB together.
	maxRecord = 16 << 10
	// maxFixes is how many elements of an object are fixed at once.
	maxFixes = 64
)

// rolledBack begins an annotation that keeps a remediation from being made.
const rolledBack = "rolled back "

// Record says what a remediation did, in the annotation.
type Record struct {
	Time    time.Time `json:"time"`
	Control string    `json:"control"`
	// Steps are what was done, in that order.
	Steps []Step `json:"steps"`
	// Undone is how often somebody else undid it since Since.
	Undone int       `json:"undone,omitempty"`
	Since  time.Time `json:"since"`
}

// Step is the fix of one finding.
type Step struct {
	// Path is the field that the finding was about.
	Path string `json:"path"`
	// Undo puts back what was there before.
	Undo Ops `json:"undo"`
}

// paths are the fields of the steps.
func (r *Record) paths() []string {
	var out []string
	for _, s := range r.Steps {
		out = append(out, s.Path)
	}
	return out
}

// undo puts back what was there before all of the steps.
func (r *Record) undo() Ops {
	var out Ops
	for _, s := range slices.Backward(r.Steps) {
		out = append(out, s.Undo...)
	}
	return out
}

// Remediation is a change that clears findings of one control, and its record.
// The patch writes both.
type Remediation struct {
	Patch
	Record Record
}

// Remediate returns the change that clears what a control finds in an object.
// Each edit is proven as those of files are: the finding is gone and nothing new
// has come. Elements for which that cannot be done are left as they are, if
// something can be done for others. The error is always a *Refused.
func Remediate(o *object.Object, control string, judge fix.Judge, now time.Time) (*Remediation, error) {
	if why := forbidden(o); why != "" {
		return nil, &Refused{why}
	}
	old, err := previous(o, control)
	if err != nil {
		return nil, err
	}
	fixed, steps, note, err := clear(o, control, judge)
	if err != nil {
		return nil, err
	}
	now = now.UTC().Truncate(time.Second)
	rec := Record{Time: now, Control: control, Steps: steps, Since: now}
	if why := outside(rec.undo()); why != "" {
		return nil, refuse("the fix would change %s: make it by hand", why)
	}
	if old != nil {
		if err := rec.follow(old, o, now); err != nil {
			return nil, err
		}
	}
	value, err := json.Marshal(rec)
	if err != nil || len(value) > maxRecord {
		return nil, refuse("what was there before is too much to be recorded in an annotation (%d bytes): make the change by hand", len(value))
	}
	p, err := change(o, fixed.Root, note)
	if err != nil {
		return nil, err
	}
	p.Ops = append(p.Ops, annotate(fixed.Root, control, string(value))...)
	return &Remediation{Patch: *p, Record: rec}, nil
}

// clear returns the object with the findings of a control cleared.
func clear(o *object.Object, control string, judge fix.Judge) (out *object.Object, steps []Step, note string, err error) {
	out = o
	left := map[string]bool{}
	var last error
	for range maxFixes {
		findings := judge(out)
		i := slices.IndexFunc(findings, func(f verdict.Finding) bool {
			return f.Control == control && f.Outcome == verdict.Fail && f.Excepted == nil && !left[f.Fingerprint]
		})
		if i < 0 {
			break
		}
		f := &findings[i]
		left[f.Fingerprint] = true
		next, err := fix.Clear(out, f, findings, judge)
		if err != nil {
			last = err
			continue
		}
		steps = append(steps, Step{Path: f.Path, Undo: between(next.Root, out.Root)})
		out, note = next, f.Fix.Note
	}
	switch {
	case len(steps) > 0:
		return out, steps, note, nil
	case last != nil:
		return nil, nil, "", refuse("%v", last)
	}
	return nil, nil, "", refuse("%s finds nothing in %s", control, o.Ref)
}

// previous returns the record of the remediation that was made before; nil if
// there is none.
func previous(o *object.Object, control string) (*Record, error) {
	n := o.Root.At("metadata", "annotations", AnnotationPrefix+control)
	if n == nil {
		return nil, nil
	}
	if strings.HasPrefix(n.Str(), rolledBack) {
		return nil, refuse("it was %s; remove the annotation %s%s to have it made again", n.Str(), AnnotationPrefix, control)
	}
	rec := &Record{}
	if err := json.Unmarshal([]byte(n.Str()), rec); err != nil || rec.Control != control {
		return nil, refuse("the annotation %s%s does not hold what was written there: remove it to have the remediation made again", AnnotationPrefix, control)
	}
	return rec, nil
}

// follow takes over what the record of an earlier remediation says. What that
// one changed and is again as it was, somebody else undid.
func (r *Record) follow(old *Record, o *object.Object, now time.Time) error {
	if old.Undone >= maxUndone {
		return refuse("somebody else undid it %d times within an hour, the last time after %s: find out who, then remove the annotation %s%s to have it made again",
			old.Undone, old.Time.Format(time.RFC3339), AnnotationPrefix, r.Control)
	}
	r.Undone, r.Since = old.Undone, old.Since
	again := r.paths()
	undone := slices.ContainsFunc(old.Steps, func(s Step) bool { return slices.Contains(again, s.Path) })
	if undone && now.Sub(old.Since) > undoneWithin {
		r.Undone, r.Since = 0, r.Time
	}
	if undone {
		r.Undone++
	}
	// What the earlier one did elsewhere in the object, and still stands, is
	// taken back with this one.
	var standing []Step
	root := o.Root
	for _, s := range slices.Backward(old.Steps) {
		if slices.Contains(again, s.Path) {
			continue
		}
		if next, err := s.Undo.Apply(root); err == nil {
			root = next
			standing = append(standing, s)
		}
	}
	slices.Reverse(standing)
	r.Steps = append(standing, r.Steps...)
	return nil
}

// annotate returns the operations that set a remediation's annotation.
func annotate(root *object.Node, control, value string) Ops {
	const at = "/metadata/annotations"
	var d differ
	annotations, text := root.At("metadata", "annotations"), object.NewString(value)
	key := pointer(at, AnnotationPrefix+control)
	if annotations == nil {
		d.add("test", at, nil)
		d.add("add", at, &object.Node{Kind: object.Map, Fields: []object.Field{{Key: AnnotationPrefix + control, Value: text}}})
		return d.ops
	}
	d.add("test", key, annotations.Get(AnnotationPrefix+control))
	d.add("add", key, text)
	return d.ops
}

// Remediated returns the controls of which an object holds a remediation that
// can be rolled back, sorted.
func Remediated(o *object.Object) []string {
	var out []string
	annotations := o.Root.At("metadata", "annotations")
	if annotations == nil {
		return nil
	}
	for _, f := range annotations.Fields {
		control, ok := strings.CutPrefix(f.Key, AnnotationPrefix)
		if ok && !strings.HasPrefix(f.Value.Str(), rolledBack) {
			out = append(out, control)
		}
	}
	slices.Sort(out)
	return out
}

// Rollback returns the change that puts back what was there before a
// remediation, and keeps it from being made again until the annotation is
// removed. The error is always a *Refused.
func Rollback(o *object.Object, control string, now time.Time) (*Patch, error) {
	rec, err := previous(o, control)
	switch {
	case err != nil:
		return nil, err
	case rec == nil:
		return nil, refuse("%s holds no remediation of %s", o.Ref, control)
	}
	undo := rec.undo()
	if why := outside(undo); why != "" {
		return nil, refuse("the annotation %s%s would change %s, which no remediation does", AnnotationPrefix, control, why)
	}
	root, err := undo.Apply(o.Root)
	if err != nil {
		return nil, refuse("%s was changed since it was remediated on %s, and what was there before cannot be put back as it was: edit %s by hand, then remove the annotation %s%s",
			o.Ref, rec.Time.Format(time.DateOnly), strings.Join(rec.paths(), " and "), AnnotationPrefix, control)
	}
	undo = append(undo, annotate(root, control, rolledBack+now.UTC().Format(time.DateOnly))...)
	return &Patch{Object: o.Ref, Ops: undo}, nil
}

// outside returns a place that a patch changes and that no remediation may, or
// "": what an object is and whose it is, and what its controllers say of it.
func outside(ops Ops) string {
	for _, op := range ops {
		inside := slices.ContainsFunc([]string{"/spec/", "/metadata/labels/", "/metadata/annotations/", "/automountServiceAccountToken/"}, func(prefix string) bool {
			return strings.HasPrefix(op.Path+"/", prefix)
		})
		if !inside {
			return op.Path
		}
	}
	return ""
}

// allowed are the kinds that are remediated. They can be changed while they are
// used, and grant nothing to anybody.
var allowed = []object.GroupKind{
	{Group: "apps", Kind: "Deployment"}, {Group: "apps", Kind: "StatefulSet"}, {Group: "apps", Kind: "DaemonSet"},
	{Group: "apps", Kind: "ReplicaSet"}, {Group: "batch", Kind: "CronJob"},
	{Kind: "ReplicationController"}, {Kind: "Service"}, {Kind: "ServiceAccount"}, {Kind: "Namespace"},
	{Group: "networking.k8s.io", Kind: "Ingress"},
}

// Remediates says whether objects of a kind are remediated.
func Remediates(gk object.GroupKind) bool { return slices.Contains(allowed, gk) }

// forbidden says why an object is not remediated at all, or "".
func forbidden(o *object.Object) string {
	if !Remediates(o.GroupKind()) {
		return fmt.Sprintf("objects of the kind %s are not remediated", o.Kind)
	}
	if owner := controller(o); owner != "" {
		return fmt.Sprintf("%s is made by %s, which would make it again as it is: that is what is remediated", o.Ref, owner)
	}
	if ns := o.Namespace; ns == "kube-system" || ns == "kube-public" || ns == "kube-node-lease" {
		return fmt.Sprintf("nothing is remediated in %s: the cluster itself runs there", ns)
	}
	if who := managedElsewhere(o); who != "" {
		return fmt.Sprintf("%s is managed by %s, which would put back what it was: make the change where that takes it from", o.Ref, who)
	}
	return ""
}

// marks are the labels and annotations by which those that apply objects again
// and again know theirs.
var marks = []struct{ field, key, who string }{
	{"labels", "argocd.argoproj.io/instance", "Argo CD"},
	{"annotations", "argocd.argoproj.io/tracking-id", "Argo CD"},
	{"labels", "kustomize.toolkit.fluxcd.io/name", "Flux"},
	{"labels", "helm.toolkit.fluxcd.io/name", "Flux"},
	{"annotations", "meta.helm.sh/release-name", "Helm"},
	{"annotations", "config.k8s.io/owning-inventory", "a tool that applies an inventory"},
}

// managedElsewhere returns who applies an object again and again, or "".
func managedElsewhere(o *object.Object) string {
	meta := o.Root.Get("metadata")
	for _, m := range marks {
		if meta.At(m.field, m.key) != nil {
			return m.who
		}
	}
	return meta.At("labels", "app.kubernetes.io/managed-by").Str()
}
