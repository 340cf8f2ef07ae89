// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
)

// Version is a minor version of Kubernetes 1. The zero Version means that none
// was named.
type Version struct {
	next  int // the minor version plus one, so that 1.0 is not the zero Version
	patch int // the patch version plus one; 0 where none was named
}

// Minor returns the version 1.n.
func Minor(n int) Version { return Version{next: n + 1} }

// Newest is the newest version of Kubernetes that the catalogue knows.
var Newest = Minor(37)

// ParseVersion reads "1.36" or "1.36.2"; a leading v, and what follows a patch
// version (v1.36.2-gke.100), are let be.
func ParseVersion(s string) (Version, error) {
	major, rest, ok := strings.Cut(strings.TrimPrefix(s, "v"), ".")
	minor, patch, _ := strings.Cut(rest, ".")
	n, err := strconv.Atoi(minor)
	if !ok || major != "1" || err != nil || n < 0 || n > 999 {
		return Version{}, fmt.Errorf("%q is not a version of Kubernetes; want one like %s", s, Newest)
	}
	v := Minor(n)
	if end := strings.IndexFunc(patch, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		patch = patch[:end]
	}
	if p, err := strconv.Atoi(patch); err == nil && p < 1000 {
		v.patch = p + 1
	}
	return v, nil
}

// IsZero says whether no version was named.
func (v Version) IsZero() bool { return v.next == 0 }

// Before says whether v is older than w. No version is older than none.
func (v Version) Before(w Version) bool { return !v.IsZero() && v.next < w.next }

// Minor returns the n of 1.n.
func (v Version) Minor() int { return v.next - 1 }

// Patch returns the p of 1.n.p, or -1 where none was named.
func (v Version) Patch() int { return v.patch - 1 }

// String returns the version as people write it.
func (v Version) String() string {
	s := "1." + strconv.Itoa(v.Minor())
	if v.patch > 0 {
		s += "." + strconv.Itoa(v.Patch())
	}
	return s
}

// FieldError is a mistake in a document of the format: which field, and what is
// wrong with it.
type FieldError struct {
	// Field is the path of the field: spec.require.
	Field string
	Err   error
}

// Error returns the field and the reason.
func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *FieldError) Unwrap() error { return e.Err }

func fieldError(field string, err error) error {
	var fe *FieldError
	if errors.As(err, &fe) {
		return err
	}
	return &FieldError{field, err}
}

// requirement returns the expression that holds for a version: that of the
// first entry that the version comes before, else the control's own.
func requirement(spec *v1alpha1.ControlSpec, v Version) (string, error) {
	out, best := spec.Require, Version{}
	for i, old := range spec.Versions {
		before, err := ParseVersion(old.Before)
		if err != nil {
			return "", fieldError(fmt.Sprintf("spec.versions[%d].before", i), err)
		}
		if v.Before(before) && (best.IsZero() || before.Before(best)) {
			out, best = old.Require, before
		}
	}
	return out, nil
}

// parameters returns the values of a control's parameters as an object.
func parameters(spec *v1alpha1.ControlSpec, set map[string]v1alpha1.Value) (*object.Node, error) {
	out := map[string]any{}
	for i, p := range spec.Parameters {
		if _, ok := out[p.Name]; ok {
			return nil, fieldError(fmt.Sprintf("spec.parameters[%d].name", i), fmt.Errorf("parameter %q stands twice", p.Name))
		}
		v, err := parameter(p, p.Default)
		if err != nil {
			return nil, fieldError(fmt.Sprintf("spec.parameters[%d].default", i), err)
		}
		if given, ok := set[p.Name]; ok {
			if v, err = parameter(p, given); err != nil {
				return nil, fieldError("parameters."+p.Name, err)
			}
		}
		out[p.Name] = v
	}
	for _, name := range sortedKeys(set) {
		if _, ok := out[name]; !ok {
			return nil, fieldError("parameters."+name, fmt.Errorf("the control has no such parameter; it has %s", orNone(sortedKeys(out))))
		}
	}
	return object.FromAny(out), nil
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// parameter reads a value as the parameter's type.
func parameter(p v1alpha1.Parameter, v v1alpha1.Value) (any, error) {
	var err error
	raw := v.RawMessage
	switch p.Type {
	case v1alpha1.StringParameter:
		var s string
		if err = json.Unmarshal(raw, &s); err == nil && string(raw) != "null" {
			return s, nil
		}
	case v1alpha1.IntegerParameter:
		var n int64
		if err = json.Unmarshal(raw, &n); err == nil && string(raw) != "null" {
			return n, nil
		}
	case v1alpha1.BooleanParameter:
		var b bool
		if err = json.Unmarshal(raw, &b); err == nil && string(raw) != "null" {
			return b, nil
		}
	case v1alpha1.StringsParameter:
		var list []string
		if err = json.Unmarshal(raw, &list); err == nil && list != nil {
			out := make([]any, len(list))
			for i, s := range list {
				out[i] = s
			}
			return out, nil
		}
	default:
		return nil, fmt.Errorf("unknown type %q; want string, integer, boolean or strings", p.Type)
	}
	return nil, fmt.Errorf("%s is not %s", strings.TrimSpace(string(raw)), map[v1alpha1.ParameterType]string{
		v1alpha1.StringParameter: "a string", v1alpha1.IntegerParameter: "an integer",
		v1alpha1.BooleanParameter: "a boolean", v1alpha1.StringsParameter: "a list of strings",
	}[p.Type])
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
