// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

func edit1(op verdict.EditOp, path object.Path, value string) verdict.Edit {
	e := verdict.Edit{Op: op, Path: path.String(), Steps: path}
	if value != "" {
		e.Value = v1alpha1.Value{RawMessage: json.RawMessage(value)}
	}
	return e
}

// hardening returns the edits that a pod's most common findings ask for.
func hardening(root *object.Node, base object.Path, ref object.Ref) [][]verdict.Edit {
	at, ok := object.PodPath(ref.GroupKind())
	spec := root.Lookup(base.Append(at...).Fields("spec"))
	if !ok || spec == nil {
		return nil
	}
	base = base.Append(at...).Fields("spec")
	out := [][]verdict.Edit{{edit1(verdict.Set, base.Fields("securityContext", "seccompProfile", "type"), `"RuntimeDefault"`)}}
	var containers []object.Path
	for _, name := range object.ContainerLists {
		if list := spec.Get(name); list != nil {
			for i := range list.Items {
				containers = append(containers, base.Fields(name).Append(object.ItemStep(list, i)))
			}
		}
	}
	for _, container := range containers {
		path := container.Fields("securityContext")
		out = append(out,
			[]verdict.Edit{edit1(verdict.Set, path.Fields("privileged"), "false")},
			[]verdict.Edit{
				edit1(verdict.Set, path.Fields("allowPrivilegeEscalation"), "false"),
				edit1(verdict.Add, path.Fields("capabilities", "drop"), `"ALL"`),
			},
			[]verdict.Edit{edit1(verdict.Remove, path.Fields("capabilities", "add"), "")},
			[]verdict.Edit{edit1(verdict.Remove, path.Fields("privileged"), "")},
			[]verdict.Edit{edit1(verdict.Remove, path[:len(path)-1].Fields("image"), "")},
			[]verdict.Edit{edit1(verdict.Remove, path[:len(path)-1].Fields("name"), "")},
			[]verdict.Edit{edit1(verdict.Remove, path[:len(path)-1].Fields("resources", "limits", "cpu"), "")},
			[]verdict.Edit{edit1(verdict.Remove, path[:len(path)-1], "")},
		)
	}
	return out
}

// objectsAt returns the objects of a document with the paths to them.
func objectsAt(root *object.Node) map[string]func() (object.Path, object.Ref) {
	out := map[string]func() (object.Path, object.Ref){}
	add := func(path object.Path, n *object.Node) {
		objects, err := object.FromNode(n, &object.Origin{})
		if err == nil && len(objects) == 1 && objects[0].Root == n {
			out[path.String()] = func() (object.Path, object.Ref) { return path, objects[0].Ref }
		}
	}
	add(nil, root)
	if items := root.Get("items"); items != nil {
		for i, item := range items.Items {
			add(object.Path{{Field: "items"}, {Item: true, Index: i}}, item)
		}
	}
	return out
}

func corpus(t testing.TB) string {
	dir := os.Getenv("SCONCE_CORPUS")
	if dir == "" {
		dir = "../../shared/corpus"
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no manifests at %s: set SCONCE_CORPUS", dir)
	}
	return dir
}

// TestCorpus makes the edits of common findings in real manifests.
func TestCorpus(t *testing.T) {
	applied, changed, files := 0, 0, 0
	reasons := map[string]int{}
	try := func(file string, text object.Text, e []verdict.Edit) {
		p, err := Apply(text, e)
		if refused, ok := errors.AsType[*Refused](err); ok {
			if reasons[refused.Reason]++; reasons[refused.Reason] == 1 {
				t.Logf("%s:%d: %s %s: %s", file, text.Line, e[0].Op, e[0].Path, refused.Reason)
			}
			return
		}
		applied++
		if len(p.Changes) > 0 {
			changed++
		}
		for _, err := range []error{kept(string(text.Bytes), p), asked(string(text.Bytes), p, e), commentsKept(text.Bytes, p)} {
			if err != nil {
				t.Fatalf("%s:%d: %v: %v", file, text.Line, e, err)
			}
		}
	}
	err := filepath.WalkDir(corpus(t), func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasPrefix(filepath.Ext(file), ".y") {
			return err
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		files++
		for text := range object.Split(data) {
			root, err := object.ParseYAML(text)
			if err != nil || root == nil {
				continue
			}
			for _, of := range objectsAt(root) {
				path, ref := of()
				for _, e := range hardening(root, path, ref) {
					try(file, text, e)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, n := range reasons {
		refused += n
	}
	rate := 100 * float64(refused) / float64(max(1, applied+refused))
	t.Logf("%d files: %d edits applied (%d changed something), %d refused (%.2f%%)", files, applied, changed, refused, rate)
	if rate > 1 || changed == 0 {
		t.Errorf("%.2f%% refused, want less than 1%%: %v", rate, reasons)
	}
}

// commentsKept holds that every line of the old text outside the changes that
// is a comment is in the new text, as often.
func commentsKept(before []byte, p *Patch) error {
	count := map[string]int{}
	for line := range bytes.Lines(p.Bytes) {
		count[string(bytes.TrimSpace(bytes.TrimPrefix(line, []byte(bom))))]++
	}
	pos, change := 0, 0
	for line := range bytes.Lines(before) {
		start, end := pos, pos+len(line)
		pos = end
		for change < len(p.Changes) && p.Changes[change].End <= start {
			change++
		}
		if change < len(p.Changes) && p.Changes[change].Start < end && p.Changes[change].End > start {
			continue
		}
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] == '#' {
			if count[string(line)]--; count[string(line)] < 0 {
				return fmt.Errorf("the comment %q is gone", line)
			}
		}
	}
	return nil
}
