// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// edits reads "set a.b=JSON; remove a.c[name]; add a.d[0].e=JSON".
func edits(t testing.TB, text string) []verdict.Edit {
	var out []verdict.Edit
	for part := range strings.SplitSeq(text, "; ") {
		op, rest, ok := strings.Cut(part, " ")
		if !ok {
			t.Fatalf("edit %q", part)
		}
		path, value, _ := strings.Cut(rest, "=")
		e := verdict.Edit{Op: verdict.EditOp(op), Steps: steps(path)}
		e.Path = e.Steps.String()
		if value != "" {
			e.Value = v1alpha1.Value{RawMessage: json.RawMessage(value)}
		}
		out = append(out, e)
	}
	return out
}

// steps reads a.b[name].c[0].
func steps(text string) object.Path {
	var out object.Path
	for field := range strings.SplitSeq(text, ".") {
		field, items, _ := strings.Cut(field, "[")
		if field != "" {
			out = append(out, object.Step{Field: field})
		}
		for item := range strings.SplitSeq(strings.TrimSuffix(items, "]"), "][") {
			if item == "" {
				continue
			}
			i, err := strconv.Atoi(item)
			if err != nil {
				out = append(out, object.Step{Item: true, Key: item})
			} else {
				out = append(out, object.Step{Item: true, Index: i})
			}
		}
	}
	return out
}

// apply calls Apply and holds the patch against its promises.
func apply(t testing.TB, before string, edits []verdict.Edit) (string, *Refused) {
	t.Helper()
	p, err := Apply(object.Text{Bytes: []byte(before), Line: 7}, edits)
	if err != nil {
		refused, ok := errors.AsType[*Refused](err)
		if !ok {
			t.Fatalf("error of type %T: %v", err, err)
		}
		return "", refused
	}
	if err := kept(before, p); err != nil {
		t.Fatal(err)
	}
	if err := asked(before, p, edits); err != nil {
		t.Fatal(err)
	}
	return string(p.Bytes), nil
}

// kept holds that the patch's changes make its bytes, and nothing else changed.
func kept(before string, p *Patch) error {
	var again bytes.Buffer
	pos := 0
	for i, c := range p.Changes {
		if c.Start < pos || c.End < c.Start || c.End > len(before) || i > 0 && c.Start == pos {
			return fmt.Errorf("change %d, %d-%d, is out of order", i, c.Start, c.End)
		}
		again.WriteString(before[pos:c.Start])
		again.Write(c.New)
		pos = c.End
	}
	again.WriteString(before[pos:])
	if !bytes.Equal(again.Bytes(), p.Bytes) {
		return fmt.Errorf("the changes make\n%s\nnot\n%s", again.Bytes(), p.Bytes)
	}
	return nil
}

// asked holds that the new text parses to the tree with the edits made in it.
func asked(before string, p *Patch, edits []verdict.Edit) error {
	old, err := parseAny([]byte(before))
	if err != nil {
		return err
	}
	want, err := ApplyTree(old, edits)
	if err != nil {
		return fmt.Errorf("ApplyTree refuses what Apply does: %w", err)
	}
	got, err := parseAny(p.Bytes)
	if err != nil {
		return fmt.Errorf("%w in\n%s", err, p.Bytes)
	}
	if !got.Equal(want) {
		return fmt.Errorf("the tree is %v, want %v", got.Any(), want.Any())
	}
	return nil
}

func parseAny(src []byte) (*object.Node, error) {
	src = bytes.TrimPrefix(src, []byte(bom))
	if object.IsJSON(src) {
		if docs, err := object.ParseJSON(src); err == nil {
			return docs[0], nil
		}
	}
	return object.ParseYAML(object.Text{Bytes: src, Line: 1})
}
