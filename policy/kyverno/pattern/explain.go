// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"encoding/json"
	"slices"
	"strings"
)

// explainer is where a matcher is, and what it saw on the way.
type explainer struct {
	root any
	path []string
	// anchors says, for the keys of anchors as written, whether a map had the field.
	anchors map[string]bool
}

// explain matches again, to say where and why it does not match.
func explain(root *node, resource any) *Mismatch {
	e := &explainer{root: resource, anchors: map[string]bool{}}
	m := matcher{explainer: e}
	o := m.match(root, resource)
	switch {
	case o.kind.skips():
		o.mismatch.Skip, o.mismatch.Error = true, false
	case o.kind == failed && e.missing():
		o.mismatch.Error = true
	}
	return o.mismatch
}

// saw notes which fields that anchors name are in a map.
func (e *explainer) saw(f *fields, resource map[string]any) {
	for _, a := range f.anchors {
		if a.anchor == Conditional || a.anchor == Existence {
			_, there := resource[a.key]
			e.anchors[a.raw] = e.anchors[a.raw] || there
		}
	}
}

// missing says whether a field that an anchor names was in none of the maps.
func (e *explainer) missing() bool {
	for _, there := range e.anchors {
		if !there {
			return true
		}
	}
	return false
}

// why is the reason of a mismatch.
type why uint8

const (
	notMatching why = iota
	notAMap
	notAList
	forbidden
	conditionNotThere
	noneMatches
	tooShort
	patternEmpty
	patternNotAList
	patternNotMaps
)

// reason is why a part does not match, with the value and the pattern where they say
// something.
type reason struct {
	text           why
	value, pattern any
	error          bool
}

// fail returns an outcome, with its mismatch if the matcher is to explain.
func (m *matcher) fail(k kind, r reason) outcome {
	if m.explainer == nil {
		return outcome{kind: k}
	}
	e := m.explainer
	return outcome{kind: k, mismatch: &Mismatch{
		Path:    slices.Clone(e.path),
		Message: e.place() + " " + e.say(r),
		Error:   r.error,
	}}
}

// place returns where the explainer is.
func (e *explainer) place() string {
	if len(e.path) == 0 {
		return "the resource"
	}
	return "/" + strings.Join(e.path, "/")
}

func (e *explainer) say(r reason) string {
	switch r.text {
	case notAMap:
		return e.is(r.value) + "; the pattern asks for a map"
	case notAList:
		return e.is(r.value) + "; the pattern asks for a list"
	case forbidden:
		return "is there, which the pattern forbids"
	case conditionNotThere:
		return "is not there, so that the rule does not apply"
	case noneMatches:
		return "has no item that matches the pattern"
	case tooShort:
		return "has fewer items than the pattern"
	case patternEmpty:
		return "cannot match: the pattern of the list is empty"
	case patternNotAList:
		return "cannot match: the pattern of an existence anchor must be a list"
	case patternNotMaps:
		return "cannot match: the items of the pattern of an existence anchor must be maps"
	}
	return e.is(r.value) + "; the pattern asks for " + show(r.pattern)
}

// is says what a value is, but for the data of a Secret.
func (e *explainer) is(value any) string {
	switch {
	case value == nil:
		return "is not set"
	case e.secret():
		return "is secret data"
	}
	return "is " + show(value)
}

// secret says whether the explainer is where a Secret has its data, or a copy of them.
func (e *explainer) secret() bool {
	of, _ := e.root.(map[string]any)
	if of["kind"] != "Secret" {
		return false
	}
	return len(e.path) == 0 || e.path[0] == "data" || e.path[0] == "stringData" || e.path[0] == "metadata"
}

// maxShown is how much of a value a message shows.
const maxShown = 120

// show returns a value as JSON, cut off where it is long.
func show(value any) string {
	switch v := value.(type) {
	case map[string]any:
		return "a map"
	case string:
		if len(v) > maxShown {
			v = strings.ToValidUTF8(v[:maxShown], "") + "…"
		}
		value = v
	}
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return "what is no JSON"
	}
	text := strings.TrimSuffix(b.String(), "\n")
	if len(text) > 2*maxShown {
		return strings.ToValidUTF8(text[:2*maxShown], "") + "…"
	}
	return text
}

// note adds the mismatch of an outcome, if there is one.
func (m *matcher) note(all []*Mismatch, o outcome) []*Mismatch {
	if m.explainer == nil {
		return nil
	}
	return append(all, o.mismatch)
}

// join makes one mismatch of those that make a rule not apply: the first, which
// names the others.
func (m *matcher) join(all []*Mismatch) *Mismatch {
	if m.explainer == nil {
		return nil
	}
	joined := *all[0]
	for i, s := range all[1:] {
		if i == maxJoined {
			joined.Message += "; and others"
			break
		}
		joined.Message += "; " + s.Message
	}
	return &joined
}

// maxJoined is how many further mismatches a message names.
const maxJoined = 3
