// SPDX-License-Identifier: Apache-2.0

package containerengine

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
	"github.com/rogpeppe/go-internal/txtar"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// TestFiles holds what is stated of each file against what is expected.
func TestFiles(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/files.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(archive.Files); i += 2 {
		file, want := archive.Files[i], archive.Files[i+1]
		t.Run(file.Name, func(t *testing.T) {
			if want.Name != file.Name+".want" {
				t.Fatalf("%s stands after %s", want.Name, file.Name)
			}
			if !Reads(file.Name) {
				t.Fatal("the file is not read")
			}
			var got strings.Builder
			o, err := Parse(file.Name, file.Data)
			var syntax *object.SyntaxError
			switch {
			case errors.As(err, &syntax):
				fmt.Fprintf(&got, "error: line %d, column %d: %s\n", syntax.Line, syntax.Col, syntax.Msg)
			case err != nil:
				t.Fatal(err)
			case o != nil:
				if o.GroupKind() != (object.GroupKind{Group: facts.Group, Kind: Kind}) {
					t.Errorf("the object is a %v", o.GroupKind())
				}
				print(&got, o, o.Root, nil)
			}
			if diff := cmp.Diff(string(want.Data), got.String()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// print writes the values of an object, with the lines of those that have one of
// their own.
func print(b *strings.Builder, o *object.Object, n *object.Node, at object.Path) {
	line := func(value string) {
		spot, _ := o.Root.SpotOf(at)
		above, _ := o.Root.SpotOf(at[:len(at)-1])
		if spot != above {
			value += fmt.Sprintf(" :%d", spot.Line)
		}
		fmt.Fprintf(b, "%s:%s\n", at, value)
	}
	switch n.Kind {
	case object.Map:
		if len(at) > 0 && at[len(at)-1].Item {
			line("")
		}
		for _, f := range n.Fields {
			if len(at) > 0 || f.Key != "apiVersion" && f.Key != "kind" && f.Key != "metadata" {
				print(b, o, f.Value, at.Fields(f.Key))
			}
		}
	case object.List:
		for i := range n.Items {
			print(b, o, n.Items[i], at.Append(object.Step{Item: true, Index: i}))
		}
	case object.Unknown:
		line(" unknown: " + n.Text)
	case object.String:
		line(" " + n.Text)
	default:
		line(" " + n.Scalar())
	}
}

func TestReads(t *testing.T) {
	for name, want := range map[string]bool{
		"config.toml": true, "a/conf.d/x.toml": true, "a/b/x.toml": false, `C:\ProgramData\docker\config\daemon.json`: true,
		"package.json": false, "crio.conf": true, "crio.conf.d/00-default.conf": true, "nginx.conf": false,
		"registries.conf.d/x.conf": true, "policy.json": true, "hosts.toml": true, "hosts": false,
	} {
		if got := Reads(name); got != want {
			t.Errorf("Reads(%q) is %t", name, got)
		}
	}
	if o, err := Parse("package.json", []byte("{}")); o != nil || err != nil {
		t.Errorf("package.json gives %v, %v", o, err)
	}
}

// TestTOML compares trees with what the library decodes.
func TestTOML(t *testing.T) {
	for _, text := range []string{
		"", "a = 1", "a = 0x1F\nb = 0b11\nc = 0o17\nd = +1_000\ne = -0", "a = 1.5e3\nb = inf\nc = -nan\nd = 1_0.5",
		"a = true\nb = false", "a = \"x\\u00e9\\n\"\nb = 'c:\\x'\nc = \"\"\"\nx\"\"\"\nd = '''\ny'''",
		"a.b.c = 1\na.b.d = 2\n[x.y]\nz = 3\n[x]\nw = 4", "[[a]]\nb = 1\n[[a]]\nb = 2\n[a.c]\nd = 3\n[[a.e]]\nf = 4",
		"a = [1, [2, 3], {b = 4, c.d = 5}, # x\n]", "a = {}\nb = []\n'' = 1\n\"a b\" = 2",
		"a = 1979-05-27T07:32:00Z\nb = 07:32:00",
	} {
		got, err := parseTOML([]byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		var want map[string]any
		if err := toml.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(object.FromAny(simple(want)).Any(), got.Any()); diff != "" {
			t.Errorf("%q: -want +got:\n%s", text, diff)
		}
	}
}

// simple is a value as the tree can hold it.
func simple(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k := range v {
			out[k] = simple(v[k])
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = simple(v[i])
		}
		return out
	case float64:
		if s := fmt.Sprint(v); s == "+Inf" || s == "NaN" {
			return map[string]string{"+Inf": "inf", "NaN": "-nan"}[s]
		}
		return v
	case string, bool, int64:
		return v
	case fmt.Stringer:
		return strings.Replace(v.String(), "1979-05-27 07:32:00 +0000 UTC", "1979-05-27T07:32:00Z", 1)
	}
	return v
}

func TestTOMLTooLarge(t *testing.T) {
	_, err := Parse("config.toml", []byte(strings.Repeat("# \n", 100_000)))
	if err == nil || !strings.Contains(err.Error(), "TOML of 292 KiB; at most 256 KiB are read") {
		t.Errorf("the error is %v", err)
	}
}

func TestTOMLPlaces(t *testing.T) {
	n, err := parseTOML([]byte("'é' . x = 'x' # é\n[a]\nb = [1,\n  2]\r\n'c' . d = 'y'\n"))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]object.Spot{
		"é": {Line: 1, Col: 1}, "é.x": {Line: 1, Col: 7}, "a": {Line: 2, Col: 2}, "a.b": {Line: 3, Col: 1}, "a.c": {Line: 5, Col: 1}, "a.c.d": {Line: 5, Col: 7},
	} {
		fields, _ := object.ParseFields(path)
		if got, ok := n.SpotOf(object.Path(nil).Fields(fields...)); got != want || !ok {
			t.Errorf("%s is at %v, want %v", path, got, want)
		}
	}
	if got := n.At("a", "b").Items[1]; got.Line != 4 || got.Col != 3 {
		t.Errorf("the second item is at %d:%d, want 4:3", got.Line, got.Col)
	}
}

// FuzzParse holds that nothing panics, and that every place is one of the text.
func FuzzParse(f *testing.F) {
	archive, err := txtar.ParseFile("testdata/files.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for i := 0; i < len(archive.Files); i += 2 {
		f.Add(archive.Files[i].Name, archive.Files[i].Data)
	}
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		o, err := Parse(name, data)
		if err != nil || o == nil {
			return
		}
		lines := int32(strings.Count(string(data), "\n") + 1)
		var walk func(n *object.Node)
		walk = func(n *object.Node) {
			if n.Line > lines {
				t.Errorf("line %d of %d", n.Line, lines)
			}
			for _, f := range n.Fields {
				walk(f.Value)
			}
			for _, item := range n.Items {
				walk(item)
			}
		}
		walk(o.Root)
	})
}
