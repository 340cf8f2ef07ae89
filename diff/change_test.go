// SPDX-License-Identifier: Apache-2.0

package diff_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"sconce.dev/sconce/diff"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/report"
	"sconce.dev/sconce/verdict"
)

// shopTree draws a tree of everything that is compared.
func shopTree(t *rapid.T, label string) tree {
	out := networkTree(t, label)
	for name, text := range rbacTree(t, label) {
		out["rbac/"+name] = text
	}
	for _, name := range []string{"one", "two"} {
		if p := rapid.SampledFrom([]string{"", "true", "false", "7"}).Draw(t, label+" "+name); p != "" {
			out[name+".yaml"] = pod(name, p)
		}
	}
	return out
}

// rewritten is a tree with its documents in other files, in another order, as
// JSON.
func rewritten(t *rapid.T, in tree) tree {
	var documents []string
	for _, name := range slices.Sorted(maps.Keys(in)) {
		for text := range object.Split([]byte(in[name])) {
			root, err := object.ParseYAML(text)
			if err != nil {
				t.Fatal(err)
			}
			if root != nil {
				documents = append(documents, string(root.JSON()))
			}
		}
	}
	out := tree{}
	for i, d := range rapid.Permutation(documents).Draw(t, "order") {
		name := fmt.Sprintf("%s/%d.yaml", rapid.SampledFrom([]string{"a", "b/c"}).Draw(t, "folder"), i/2)
		out[name] += d + "\n---\n"
	}
	return out
}

// nothing wants two sides to be the same.
func nothing(t fatal, c *diff.Change) {
	t.Helper()
	f, p, n, a := c.Findings, c.Permissions, c.Connections, c.Paths
	if len(f.New)+len(f.Gone)+len(f.Unknown)+len(f.Excepted)+len(f.Unclear) > 0 {
		t.Fatalf("findings: %+v", f)
	}
	if len(p.Gained)+len(p.Lost)+len(p.Unclear) > 0 {
		t.Fatalf("permissions: %+v", p)
	}
	if len(n.Opened)+len(n.Closed)+len(n.Unclear)+len(n.Added)+len(n.Removed)+len(n.Exposed)+len(n.Covered) > 0 {
		t.Fatalf("connections: %+v", n)
	}
	if len(a.Opened)+len(a.Closed)+len(a.Easier)+len(a.Harder)+len(a.Unclear) > 0 {
		t.Fatalf("paths: %+v", a)
	}
	if !c.Quiet() {
		t.Fatal("it is not quiet")
	}
}

// TestRewritten: what is only written in another way is no change.
func TestRewritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		files := shopTree(t, "base")
		nothing(t, diff.Compare(side(t, "base", files), side(t, "head", files)))
		nothing(t, diff.Compare(side(t, "base", files), side(t, "head", rewritten(t, files))))
	})
}

// TestTurned: what is new one way is gone the other way, and what opens closes.
func TestTurned(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, head := side(t, "base", shopTree(t, "base")), side(t, "head", shopTree(t, "head"))
		there, back := diff.Compare(base, head), diff.Compare(head, base)
		ids := func(list []diff.Finding, of func(*diff.Finding) diff.State) []string {
			var out []string
			for i := range list {
				if s := of(&list[i]); s == diff.NoFinding || s == diff.NoObject {
					out = append(out, list[i].Fingerprint+" "+string(list[i].Outcome))
				}
			}
			slices.Sort(out)
			return out
		}
		was, is := func(f *diff.Finding) diff.State { return f.Was }, func(f *diff.Finding) diff.State { return f.Is }
		fresh := slices.Sorted(slices.Values(append(ids(there.Findings.New, was), ids(there.Findings.Unknown, was)...)))
		if gone := ids(back.Findings.Gone, is); !slices.Equal(fresh, gone) {
			t.Fatalf("new %q, gone %q", fresh, gone)
		}
		if a, b := fmt.Sprintf("%+v", there.Paths.Opened), fmt.Sprintf("%+v", back.Paths.Closed); a != b {
			t.Fatalf("opened %s, closed %s", a, b)
		}
		if a, b := fmt.Sprintf("%+v", there.Connections.Exposed), fmt.Sprintf("%+v", back.Connections.Covered); a != b {
			t.Fatalf("exposed %s, covered %s", a, b)
		}
	})
}

// large is a change with more than a comment holds, in texts of strangers.
func large(n int, text string) *diff.Change {
	c := &diff.Change{Version: diff.Version, Baseline: "standard", KubernetesVersion: "1.36", Notes: []string{text}, Connections: &diff.Connections{Limits: []string{text}}, Permissions: &diff.Permissions{}, Paths: &diff.Paths{}}
	c.Base.Name, c.Head.Name = text, text
	for i := range n {
		f := diff.Finding{Was: diff.NoFinding, Is: diff.Failed}
		f.Control, f.Message, f.Severity, f.Outcome = text, text, "high", verdict.Fail
		f.Object = object.Ref{APIVersion: "v1", Kind: text, Name: fmt.Sprint(text, i)}
		f.Position = object.Position{File: text, Line: i}
		c.Findings.New = append(c.Findings.New, f)
		c.Problems = append(c.Problems, diff.Problem{Side: "head", Problem: verdict.Problem{Stage: verdict.Parsing, Position: f.Position, Message: text}})
		c.Connections.Added = append(c.Connections.Added, diff.Workload{Name: text, Why: text})
		c.Paths.Opened = append(c.Paths.Opened, diff.Path{Entry: text, Jewel: text, From: []string{text}, Steps: []diff.Step{{Words: text}}})
		c.Permissions.Gained = append(c.Permissions.Gained, diff.Permission{Verbs: []string{text}, Resources: []string{text}, By: []diff.Cause{{}}})
	}
	return c
}

// TestMarkdownBound: a comment is never longer than code hosts accept.
func TestMarkdownBound(t *testing.T) {
	for _, text := range []string{"a", strings.Repeat("a very long text ", 200), strings.Repeat("<&@#", 500)} {
		for _, n := range []int{0, 1, 30, 1000} {
			var out bytes.Buffer
			if err := large(n, text).Markdown(&out); err != nil {
				t.Fatal(err)
			}
			if out.Len() > report.MaxMarkdown {
				t.Errorf("%d of %.10q: %d bytes", n, text, out.Len())
			}
			if n == 1000 && !strings.Contains(out.String(), "not listed here") {
				t.Errorf("%.10q: it is not said that something was left out", text)
			}
			if strings.Count(out.String(), "<details") != strings.Count(out.String(), "</details>") {
				t.Errorf("%d of %.10q: a fold is not closed", n, text)
			}
		}
	}
}

// TestNothingActs: no text of a manifest does anything in a terminal, a comment
// or a program.
func TestNothingActs(t *testing.T) {
	const evil = "x\x1b[31m\x1b]8;;http://evil\x07\r\n\t\x00\u202e\u2066</details><script>@everyone [x](http://e) `"
	c := large(2, evil)
	for name, write := range map[string]func(*bytes.Buffer) error{
		"text": func(b *bytes.Buffer) error { return c.Text(b, 0, false) }, "markdown": func(b *bytes.Buffer) error { return c.Markdown(b) }, "json": func(b *bytes.Buffer) error { return c.JSON(b) },
	} {
		var out bytes.Buffer
		if err := write(&out); err != nil {
			t.Fatal(err)
		}
		for _, r := range out.String() {
			if unicode.Is(unicode.Cc, r) && r != '\n' || unicode.Is(unicode.Cf, r) {
				t.Errorf("%s: %U", name, r)
				break
			}
		}
		if name != "markdown" {
			continue
		}
		outside := regexp.MustCompile("(?s)<code>.*?</code>").ReplaceAllString(out.String(), "")
		for _, acts := range []string{"<script", "@everyone", "](", "://"} {
			if strings.Contains(outside, acts) || acts == "<script" && strings.Contains(out.String(), acts) {
				t.Errorf("%q acts: %s", acts, out.String())
			}
		}
	}
}

// TestJSON: the value reads back, and lists are lists.
func TestJSON(t *testing.T) {
	var out bytes.Buffer
	if err := compare(t, tree{}, tree{"a.yaml": pod("web", "true")}).JSON(&out); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Version  string
		Findings struct {
			New, Gone []struct{ Was, Is, Control string }
		}
		Permissions struct{ Gained []any }
		Connections struct{ Added []struct{ Name string } }
		Paths       struct {
			Opened []struct{ Entry, Jewel string }
		}
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if got.Version != diff.Version || len(got.Findings.New) == 0 || got.Findings.New[0].Was != "no-object" || got.Permissions.Gained == nil || len(got.Connections.Added) != 1 || len(got.Paths.Opened) == 0 {
		t.Errorf("%s", out.String())
	}
	if strings.Contains(out.String(), "null") {
		t.Errorf("a list is null: %s", out.String())
	}
}

// TestSecretsAreNotShown: what looks like a credential is in no output.
func TestSecretsAreNotShown(t *testing.T) {
	token := "ghp_" + strings.Repeat("a1B2", 9)
	files := tree{"a.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\ndata: {token: " + token + "}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: shop}\nstringData: {token: " + token + "}\n"}
	c := compare(t, tree{}, files)
	var out bytes.Buffer
	for _, write := range []func() error{func() error { return c.Text(&out, 0, false) }, func() error { return c.Markdown(&out) }, func() error { return c.JSON(&out) }} {
		if err := write(); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.Findings.New) == 0 || strings.Contains(out.String(), token) {
		t.Errorf("%d findings: %s", len(c.Findings.New), out.String())
	}
}

// manyWorkloads are namespaces of workloads, each with a policy.
func manyWorkloads(spaces, each int, changed bool) tree {
	out := tree{}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a cluster, not a secret
	for s := range spaces {
		ns := fmt.Sprintf("ns%d", s)
		text := fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {team: t%d}}\n---\n", ns, s%20)
		for w := range each {
			text += workload(ns, fmt.Sprintf("w%d", w))
		}
		port := 80
		if changed && s%50 == 0 {
			port = 443
		}
		text += fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p, namespace: %s}\nspec: {podSelector: {}, policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {team: t%d}}}], ports: [{port: %d}]}]}\n---\n", ns, random.IntN(20), port)
		text += fmt.Sprintf("apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: b, namespace: %s}\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: edit}\nsubjects: [{kind: ServiceAccount, name: default, namespace: %s}]\n", ns, ns)
		out[ns+".yaml"] = text
	}
	return out
}

// BenchmarkCompare compares 10,000 workloads in 2,000 namespaces.
func BenchmarkCompare(b *testing.B) {
	base, head := side(b, "base", manyWorkloads(2000, 5, false)), side(b, "head", manyWorkloads(2000, 5, true))
	for b.Loop() {
		if c := diff.Compare(base, head); len(c.Connections.Opened) == 0 {
			b.Fatal("nothing differs")
		}
	}
}
