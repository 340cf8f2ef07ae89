// SPDX-License-Identifier: Apache-2.0

package control

import (
	"strings"
	"testing"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// withUnknown returns a pod whose container holds the fields of JSON-like YAML,
// in which every string "?" stands for a value that could not be read.
func withUnknown(tb testing.TB, container string) *object.Object {
	tb.Helper()
	o := parse(tb, "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - "+container+"\n")
	var walk func(n *object.Node)
	walk = func(n *object.Node) {
		if n.Kind == object.String && n.Text == "?" {
			*n = *object.NewUnknown("var.x is not known")
		}
		for _, item := range n.Items {
			walk(item)
		}
		for _, f := range n.Fields {
			walk(f.Value)
		}
	}
	walk(o.Root)
	return o
}

// TestUnknown holds that what is unknown stays unknown through everything that
// an expression can do with it, and that what does not need it still decides.
func TestUnknown(t *testing.T) {
	const (
		pass = verdict.Pass
		fail = verdict.Fail
		unk  = verdict.Unknown
	)
	for _, c := range []struct {
		container, require string
		want               verdict.Outcome
	}{
		{`{name: "?"}`, `container.name == "x"`, unk},
		{`{name: "?"}`, `container.name != "x"`, unk},
		{`{name: "?"}`, `has(container.name)`, unk},
		{`{name: "?"}`, `container.?name.hasValue()`, unk},
		{`{name: "?"}`, `container.?name.orValue("x") == "x"`, unk},
		{`{name: "?"}`, `container.?name.optMap(n, n == "x").orValue(true)`, unk},
		{`{name: "?", image: i}`, `container.image == "i" || container.name == "x"`, pass},
		{`{name: "?", image: i}`, `container.image != "i" && container.name == "x"`, fail},
		{`{name: "?", image: i}`, `container.name == "x" || container.image == "i"`, pass},
		{`{name: "?"}`, `container.name == "x" ? true : true`, unk},
		{`{name: "?"}`, `container.name.startsWith("x")`, unk},
		{`{name: "?"}`, `size(container.name) > 0`, unk},
		{`{name: "?"}`, `container.name in ["x"]`, unk},
		{`{name: "?"}`, `!(container.name == "x")`, unk},
		{`{name: "?"}`, `container == {"name": "x"}`, unk},
		{`{name: "?", image: i}`, `container == {"name": "x", "image": "j"}`, fail},
		{`{args: ["?", a]}`, `"a" in container.args`, pass},
		{`{args: ["?", a]}`, `"b" in container.args`, unk},
		{`{args: ["?", a]}`, `container.args.exists(x, x == "a")`, pass},
		{`{args: ["?", a]}`, `container.args.exists(x, x == "b")`, unk},
		{`{args: ["?", a]}`, `container.args.all(x, x == "b")`, fail},
		{`{args: ["?", a]}`, `container.args.all(x, x == "a")`, unk},
		{`{args: ["?", a]}`, `container.args.map(x, x + "!").exists(x, x == "b!")`, unk},
		{`{args: ["?", a]}`, `container.args.filter(x, x == "b").size() == 0`, unk},
		{`{args: ["?", a]}`, `container.args == ["b", "a"]`, unk},
		{`{args: ["?", a]}`, `container.args == ["b", "c"]`, fail},
		{`{args: ["?", a]}`, `container.args[1] == "a"`, pass},
		{`{args: ["?", a]}`, `sets.contains(container.args, ["b"])`, unk},
		{`{args: ["?", a]}`, `container.args.join(",") == "b,a"`, unk},
		{`{args: ["?", a]}`, `sets.intersects(container.args, ["b"])`, unk},
		{`{args: ["?", a]}`, `container.args.indexOf("b") == -1`, unk},
		{`{args: ["?", a]}`, `"b" in (container.args + ["c"])`, unk},
		{`{args: ["?", a]}`, `["b", "a"] == container.args`, unk},
		{`{args: ["?", a]}`, `sets.equivalent(container.args, ["a"])`, unk},
		{`{args: ["?", a]}`, `container.args.first().orValue("z") == "z"`, unk},
		{`{args: [{v: "?"}]}`, `sets.contains(container.args, [{"v": "b"}])`, unk},
		{`{args: "?"}`, `size(container.args) == 0`, unk},
		{`{args: "?"}`, `container.args.all(x, x == "a")`, unk},
		{`{securityContext: "?"}`, `!container.?securityContext.?privileged.orValue(false)`, unk},
		{`{securityContext: {privileged: "?"}}`, `!container.?securityContext.?privileged.orValue(false)`, unk},
		{`{securityContext: {privileged: "?"}}`, `!has(container.securityContext) || !has(container.securityContext.privileged)`, unk},
		{`{securityContext: {privileged: "?"}}`, `container.securityContext.exists(k, k == "privileged")`, pass},
		{`{name: x}`, `has(namespaceObject.metadata.labels)`, unk},
		{`{name: x}`, `namespaceObject.metadata.name == "a" || container.name == "x"`, pass},
		{`{name: x}`, `variables.n == "x"`, pass},
		{`{name: "?"}`, `variables.n == "x"`, unk},
	} {
		ctl, err := New(&v1alpha1.Control{Spec: v1alpha1.ControlSpec{
			Match: v1alpha1.Match{Pods: true}, ForEach: "containers", Require: c.require, Message: "m",
			Variables: []v1alpha1.Variable{{Name: "n", Expression: "container.name"}},
		}}, Options{})
		if err == nil {
			err = ctl.Compile()
		}
		if err != nil {
			t.Errorf("%s: %v", c.require, err)
			continue
		}
		v := ctl.Judge(withUnknown(t, c.container), nil)
		if v.Outcome != c.want {
			t.Errorf("%s of %s: %s, want %s", c.require, c.container, v.Outcome, c.want)
		}
		if c.want == unk && len(v.Findings) == 1 && !strings.Contains(c.require, "namespaceObject") &&
			!strings.Contains(v.Findings[0].Message, "var.x is not known") {
			t.Logf("%s of %s: %s", c.require, c.container, v.Findings[0].Message)
		}
	}
}
