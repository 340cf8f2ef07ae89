// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/verdict"
)

// document is one document of a file of testdata. Comments that begin with a word
// below say what it is for:
//
//	# cluster             it is known, and is not judged
//	# old                 it is the old object of the next that is judged
//	# operation DELETE    what is done; CREATE if it is not said
//	# user NAME GROUP…    who asks; nobody who is known, if it is not said
//	# want RULE OUTCOME PATH    what a rule is to say: pass, fail, unknown, or none
//	#                     where it does not apply; a quoted text is to be in its message
//	# says RULE STATUS    what Evaluate is to say of a rule, as Kyverno would
//	# changes PATH VALUE  what the mutators are to leave at a place
type document struct {
	*object.Object
	words map[string][][]string
}

func (d *document) word(name string) []string {
	if lines := d.words[name]; len(lines) > 0 {
		return lines[0]
	}
	return nil
}

func (d *document) is(name string) bool { return len(d.words[name]) > 0 }

// read reads the documents of a file.
func read(t testing.TB, name string, text []byte) []*document {
	t.Helper()
	var out []*document
	for part := range object.Split(text) {
		n, err := object.ParseYAML(part)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if n == nil {
			continue
		}
		objects, err := object.FromNode(n, &object.Origin{Source: name, Text: part.Bytes, FirstLine: part.Line})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		d := &document{objects[0], map[string][][]string{}}
		for s := bufio.NewScanner(bytes.NewReader(part.Bytes)); s.Scan(); {
			if line, ok := strings.CutPrefix(s.Text(), "# "); ok {
				fields := strings.Fields(line)
				d.words[fields[0]] = append(d.words[fields[0]], fields[1:])
			}
		}
		out = append(out, d)
	}
	return out
}

// world is what is known of other objects: all that there are.
type world struct{ objects []*object.Object }

func (w *world) Objects(gk object.GroupKind, namespace string) ([]*object.Object, bool) {
	var out []*object.Object
	for _, o := range w.objects {
		if o.GroupKind() == gk && (namespace == "" || o.Namespace == namespace) {
			out = append(out, o)
		}
	}
	return out, true
}

func (w *world) Kinds(of object.GroupKind) ([]object.GroupKind, bool) {
	var out []object.GroupKind
	for _, o := range w.objects {
		if policy.Covers(of, o.GroupKind()) {
			out = append(out, o.GroupKind())
		}
	}
	return out, true
}

func (w *world) Can(*authenticationv1.UserInfo, rbac.Request) (allowed, known bool) {
	return false, false
}

// request is what a document asks.
func (d *document) request(old *object.Object, cluster *world) *policy.Request {
	r := &policy.Request{Object: d.Object, Old: old, Operation: policy.Create, Now: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
	if op := d.word("operation"); op != nil {
		r.Operation = policy.Operation(op[0])
	}
	if r.Operation == policy.Delete {
		r.Object, r.Old = nil, d.Object
	}
	if who := d.word("user"); who != nil {
		r.User = &authenticationv1.UserInfo{Username: who[0], Groups: who[1:]}
	}
	if len(cluster.objects) > 0 {
		r.Cluster = cluster
	}
	return r
}

// TestPolicies holds what rules say of the objects beside them.
func TestPolicies(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var docs []*object.Object
			cluster := &world{}
			all := read(t, file, text)
			for _, d := range all {
				switch {
				case Handles(d.GroupKind()):
					docs = append(docs, d.Object)
				case d.is("cluster"):
					cluster.objects = append(cluster.objects, d.Object)
				}
			}
			set := Load(docs, policy.Options{})
			policies, _, _ := Read(docs, policy.Options{})
			for _, p := range set.Problems {
				t.Errorf("%s:%d: %s", p.Position.File, p.Position.Line, p.Message)
			}
			var old *object.Object
			for _, d := range all {
				if Handles(d.GroupKind()) || d.is("cluster") {
					continue
				}
				if d.is("old") {
					old = d.Object
					continue
				}
				d.judge(t, set, old, cluster)
				d.evaluate(t, policies, old, cluster)
				d.mutate(t, set, cluster)
				old = nil
			}
		})
	}
}

// judge holds what the rules of a set say of a document.
func (d *document) judge(t *testing.T, set *policy.Set, old *object.Object, cluster *world) {
	t.Helper()
	for _, line := range d.words["want"] {
		at := slices.IndexFunc(set.Rules, func(r policy.Rule) bool { return strings.HasSuffix(r.Info().Name, "."+line[0]) })
		if at < 0 {
			t.Errorf("%s: there is no rule %s", d.Ref, line[0])
			continue
		}
		rule, want := set.Rules[at], line[1]
		got, path, message := "none", "", ""
		if rule.Matches(d.GroupKind()) {
			if v, applies := rule.Judge(t.Context(), d.request(old, cluster)); applies {
				got = string(v.Outcome)
				for _, f := range v.Findings {
					path, message = f.Path.String(), f.Message
				}
			}
		}
		if got != want {
			t.Errorf("%s: rule %s: got %s (%s), want %s", d.Ref, line[0], got, message, want)
			continue
		}
		if len(line) > 2 && !strings.HasPrefix(line[2], `"`) && path != line[2] {
			t.Errorf("%s: rule %s: got the path %s, want %s", d.Ref, line[0], path, line[2])
		}
		if _, text, ok := strings.Cut(strings.Join(line, " "), `"`); ok && !strings.Contains(message, strings.TrimSuffix(text, `"`)) {
			t.Errorf("%s: rule %s: got the message %s, want %s", d.Ref, line[0], message, text)
		}
	}
}

// evaluate holds what Evaluate says of a document.
func (d *document) evaluate(t *testing.T, policies []*Policy, old *object.Object, cluster *world) {
	t.Helper()
	if !d.is("says") {
		return
	}
	got := map[string]Status{}
	for _, p := range policies {
		for _, r := range p.Evaluate(t.Context(), d.request(old, cluster), EvaluateOptions{}) {
			got[r.Rule] = r.Status
		}
	}
	for _, line := range d.words["says"] {
		if want := strings.TrimPrefix(line[1], "none"); string(got[line[0]]) != want {
			t.Errorf("%s: Evaluate says %q of %s, want %q", d.Ref, got[line[0]], line[0], want)
		}
	}
}

// mutate holds what the mutators of a set leave of a document.
func (d *document) mutate(t *testing.T, set *policy.Set, cluster *world) {
	t.Helper()
	if !d.is("changes") {
		return
	}
	o := d.Object
	for _, m := range set.Mutators {
		if !m.Matches(o.GroupKind()) {
			continue
		}
		changed, v, _ := m.Mutate(t.Context(), (&document{o, d.words}).request(nil, cluster))
		if v.Outcome == verdict.Unknown {
			t.Errorf("%s: %s: %s", d.Ref, m.Info().Name, v.Findings[0].Message)
		}
		if changed != nil {
			o = object.New(changed, o.Origin)
		}
	}
	for _, line := range d.words["changes"] {
		n := o.Root.Lookup(object.ParsePath(line[0]))
		if want := strings.Join(line[1:], " "); n.Scalar() != want {
			t.Errorf("%s: got %s at %s, want %s", d.Ref, n.Scalar(), line[0], want)
		}
	}
}
