// SPDX-License-Identifier: Apache-2.0

package drift

import (
	"fmt"
	"strings"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/facts/secret"
	"sconce.dev/sconce/fix"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Patch is a change of one object.
type Patch struct {
	Object object.Ref
	Ops    Ops
	// Note says what a person must check before it is safe.
	Note string
}

// Command returns the kubectl command that makes the change.
func (p *Patch) Command() string { return Command(p.Object, p.Ops) }

// Refused says why a change is not made, in words for the person who now makes
// it, or does not.
type Refused struct{ Reason string }

// Error returns the reason.
func (r *Refused) Error() string { return r.Reason }

func refuse(format string, args ...any) error { return &Refused{fmt.Sprintf(format, args...)} }

// Undo returns the change that clears a finding by its own fix, whatever was
// there before. The error is always a *Refused.
func Undo(o *object.Object, f *verdict.Finding) (*Patch, error) {
	if f.Fix == nil || len(f.Fix.Edits) == 0 {
		return nil, refuse("no edit is known that clears this: sconce explain %s says what to do", f.Control)
	}
	root, err := fix.ApplyTree(o.Root, f.Fix.Edits)
	if err != nil {
		return nil, refuse("%v", err)
	}
	note := f.Fix.Note
	if note == "" {
		note = f.Fix.Refused
	}
	return change(o, root, note)
}

// Restore returns the change that puts back what an object was before, as far
// as a finding is about it, if that clears the finding. The error is always a
// *Refused.
func Restore(before, o *object.Object, f *verdict.Finding, judge fix.Judge) (*Patch, error) {
	edit, ok := restoring(before.Root, o.Root, Locate(o.Root, f.Path))
	if !ok {
		return nil, refuse("the field is as it was: the finding comes from elsewhere")
	}
	root, err := fix.ApplyTree(o.Root, []verdict.Edit{edit})
	if err != nil {
		return nil, refuse("%v", err)
	}
	for _, left := range judge(o.WithRoot(root)) {
		if left.Fingerprint == f.Fingerprint {
			return nil, refuse("to put back what was there does not clear the finding")
		}
	}
	return change(o, root, "")
}

// restoring returns the edit that puts back what was at a path, or at the first
// place above it where the trees part.
func restoring(before, now *object.Node, path object.Path) (verdict.Edit, bool) {
	for i := range path {
		at := path[:i+1]
		was, is := before.Lookup(at), now.Lookup(at)
		switch {
		case was == nil && is == nil:
			return verdict.Edit{}, false
		case is == nil, was != nil && i == len(path)-1:
			return verdict.Edit{Op: verdict.Set, Path: at.String(), Steps: at, Value: v1alpha1.Value{RawMessage: raw(was)}}, is == nil || !is.Equal(was)
		case was == nil:
			return verdict.Edit{Op: verdict.Remove, Path: at.String(), Steps: at}, true
		}
	}
	return verdict.Edit{}, false
}

// change is the patch that makes an object's tree into another, if somebody may
// make it.
func change(o *object.Object, root *object.Node, note string) (*Patch, error) {
	ops := between(o.Root, root)
	switch {
	case len(ops) == 0:
		return nil, refuse("there is nothing to change any more")
	case o.GroupKind() == (object.GroupKind{Kind: "Secret"}):
		return nil, refuse("what is in a Secret is not written into a command: change it where it comes from")
	}
	if owner := controller(o); owner != "" {
		return nil, refuse("%s is made by %s, which would make it again as it is: change that", o.Ref, owner)
	}
	if why := immutable(o.GroupKind(), ops); why != "" {
		return nil, refuse("%s", why)
	}
	text := string(ops.JSON())
	mask := secret.MaskOf(o)
	if verdict.Redact(mask.Hide(text)) != text {
		return nil, refuse("the change holds what looks like a credential, and is not written down: make it by hand")
	}
	return &Patch{Object: o.Ref, Ops: ops, Note: note}, nil
}

// controller returns what makes an object by itself, or "".
func controller(o *object.Object) string {
	owners := o.Root.At("metadata", "ownerReferences")
	if owners == nil {
		return ""
	}
	for _, owner := range owners.Items {
		if owner.Get("controller").Bool() {
			return owner.Get("kind").Str() + " " + owner.Get("name").Str()
		}
	}
	return ""
}

// immutable says why the API server would refuse a patch, or "".
func immutable(gk object.GroupKind, ops Ops) string {
	var fixed string
	switch gk {
	case object.GroupKind{Kind: "Pod"}:
		fixed = "/spec"
	case object.GroupKind{Group: "batch", Kind: "Job"}:
		fixed = "/spec/template"
	default:
		return ""
	}
	for _, op := range ops {
		image := strings.HasPrefix(op.Path, "/spec/") && strings.HasSuffix(op.Path, "/image")
		if op.Op != "test" && strings.HasPrefix(op.Path+"/", fixed+"/") && !image {
			return fmt.Sprintf("this cannot be changed in a %s that runs: delete it and make it anew", gk.Kind)
		}
	}
	return ""
}
