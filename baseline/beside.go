// SPDX-License-Identifier: Apache-2.0

package baseline

import (
	"slices"
	"strings"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
)

// ReadConfigFile is Read for a file of a folder in which other things may stand
// beside the documents of the format: policies, what these refer to, and their
// tests. What seems to be meant as a document of the format, and is none, is a
// mistake.
func (l *Library) ReadConfigFile(file string, data []byte) error {
	var errs Errors
	for text := range object.Split(data) {
		root, err := object.ParseYAML(text)
		switch {
		case err != nil:
			errs = append(errs, place(file, text, err))
		case root == nil:
		case meant(root):
			errs = append(errs, l.add(file, text, root, false)...)
		default:
			l.policies.beside(file, text, root)
		}
	}
	return errs.orNil()
}

// kinds are those of the format.
var kinds = []string{"Baseline", "Control", "Exception", "Framework"}

// meant says whether a document is of the format, or seems to be meant as one: what
// it says that it is may be mistyped, or missing.
func meant(root *object.Node) bool {
	version, kind := root.Get("apiVersion").Str(), root.Get("kind").Str()
	switch {
	case slices.Contains(kinds, kind), strings.Contains(version, "sconce.dev"):
		return true
	case version == "":
		return kind != "" || root.Get("metadata") != nil && root.Get("spec") != nil
	}
	return distance(version, v1alpha1.APIVersion) <= 2
}

// beside keeps a document that stands beside those of the format: one of a policy,
// or what a policy may refer to.
func (p *policies) beside(file string, text object.Text, root *object.Node) {
	objects, err := object.FromNode(root, &object.Origin{Source: file, Text: text.Bytes, FirstLine: text.Line})
	if err == nil { // otherwise it is no object, and so no policy
		p.keep(file, text, objects)
	}
}

// Unreadable tells of a file that cannot be read. It is a mistake, unless policies
// that are not valid are left out.
func (l *Library) Unreadable(file, why string) error {
	mistake := &Error{File: file, Msg: why}
	if l.policies.sorting {
		l.policies.unparsed = append(l.policies.unparsed, mistake)
		return nil
	}
	return mistake
}

// Size is how much was read: documents of the format, those of policies, and
// sources of Rego.
func (l *Library) Size() int {
	return len(l.controls) + len(l.baselines) + len(l.exceptions) + len(l.frameworks) + l.Documents() + len(l.policies.unparsed)
}

// LeavePoliciesOut makes what names rules of policies no mistake, since none are
// read.
func (l *Library) LeavePoliciesOut() { l.policies.come, l.policies.sorting = true, true }
