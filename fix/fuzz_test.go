// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"encoding/json"
	"errors"
	"testing"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// FuzzApply edits any text at any path: whatever is not refused is right.
func FuzzApply(f *testing.F) {
	for _, c := range cases {
		for _, e := range edits(f, c.edits) {
			f.Add(c.before, string(e.Op), e.Path, string(e.Value.RawMessage))
		}
	}
	f.Fuzz(func(t *testing.T, text, op, path, value string) {
		if len(text) > 4096 || len(path) > 256 || len(value) > 256 {
			return
		}
		e := []verdict.Edit{{Op: verdict.EditOp(op), Steps: steps(path), Value: v1alpha1.Value{RawMessage: json.RawMessage(value)}}}
		p, err := Apply(object.Text{Bytes: []byte(text), Line: 1}, e)
		if err != nil {
			if _, ok := errors.AsType[*Refused](err); !ok {
				t.Fatalf("error of type %T: %v", err, err)
			}
			return
		}
		for _, err := range []error{kept(text, p), asked(text, p, e)} {
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}
