// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/all"
	"sconce.dev/sconce/source/cluster"
)

// requireTeam is a policy of Kyverno about objects of a kind.
func requireTeam(name, kinds string) string {
	return fmt.Sprintf(`apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: %s}
spec:
  validationFailureAction: Enforce
  background: true
  rules:
  - name: team
    match: {any: [{resources: {kinds: [%s]}}]}
    validate:
      message: name the team that owns it
      pattern: {metadata: {labels: {team: "?*"}}}
`, name, kinds)
}

// vapDoc is a ValidatingAdmissionPolicy with a binding.
func vapDoc(name, resources string) string {
	return fmt.Sprintf(`apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: %s}
spec:
  matchConstraints: {resourceRules: [{apiGroups: ["*"], apiVersions: ["*"], operations: [CREATE, UPDATE], resources: %s}]}
  validations: [{expression: "has(object.metadata.labels)", message: it has no labels}]
`, name, resources)
}

func bindingDoc(name string) string {
	return fmt.Sprintf("apiVersion: admissionregistration.k8s.io/v1\nkind: ValidatingAdmissionPolicyBinding\nmetadata: {name: %s}\nspec: {policyName: %s, validationActions: [Deny]}\n", name, name)
}

// inFile is a document that is a file.
func inFile(t testing.TB, name, text string) document {
	t.Helper()
	docs, err := documentsOf("policies", []PolicyFile{{name, []byte(text)}})
	if err != nil {
		t.Fatal(err)
	}
	return docs[0]
}

// inCluster is a policy that is installed in the cluster.
func inCluster(t testing.TB, text string) document {
	t.Helper()
	var tree map[string]any
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	root := object.FromAny(tree)
	spec, err := json.Marshal(trimmed(root))
	if err != nil {
		t.Fatal(err)
	}
	return document{key: key{root.Get("kind").Str(), root.At("metadata", "name").Str()}, Spec: spec, From: installedFrom}
}

// withPolicies compiles policies, too.
func withPolicies() *compiler {
	return &compiler{baseline: "cluster", version: control.Minor(37), policies: true}
}

// actions are those of the rules of policies that are on.
func (s *set) actions() string {
	var out []string
	for _, r := range s.baseline.Rules {
		if r.Policy != nil {
			out = append(out, r.Name+" "+string(r.Action))
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// TestPolicies holds what becomes of policies in other languages: those of files
// are enforced as they and the Baseline say, those of the cluster are audited,
// and what is not valid hinders nothing else.
func TestPolicies(t *testing.T) {
	team := requireTeam("require-team", "Pod")
	const rule = "kyverno.require-team.team"
	for _, c := range []struct {
		name      string
		documents []document
		actions   string
		refused   string // from and where, then what is said
		absent    key
	}{
		{"a file", []document{enforced(t, ""), inFile(t, "a.yaml", team)}, rule + " deny", "", key{}},
		{"the Baseline says otherwise", []document{enforced(t, "controls: [{name: "+rule+", action: warn}]"), inFile(t, "a.yaml", team)}, rule + " warn", "", key{}},
		{"in the cluster", []document{enforced(t, ""), inCluster(t, team)}, rule + " audit", "", key{}},
		{"in the cluster, whatever the Baseline says", []document{enforced(t, "controls: [{name: "+rule+", action: deny}]"), inCluster(t, team)}, rule + " audit", "", key{}},
		{"in both", []document{enforced(t, ""), inCluster(t, team), inFile(t, "a.yaml", team)}, rule + " deny", "", key{}},
		{"twice", []document{enforced(t, ""), inFile(t, "a.yaml", team), inFile(t, "b.yaml", team)}, rule + " deny", "files b.yaml", key{}},
		{"one is no YAML", []document{enforced(t, ""), inFile(t, "a.yaml", team), inFile(t, "b.yaml", "a: [")}, rule + " deny", "files b.yaml:1", key{}},
		{"one is no policy", []document{enforced(t, ""), inFile(t, "a.yaml", team), inFile(t, "b.yaml", "a: 1\n---\n"+strings.Replace(vapDoc("bad", "[pods]"), "has(", "hast(", 1))}, rule + " deny", "files b.yaml:8", key{}},
		{"one in the cluster is none", []document{enforced(t, ""), inFile(t, "a.yaml", team), inCluster(t, strings.Replace(vapDoc("bad", "[pods]"), "has(", "hast(", 1)), inCluster(t, bindingDoc("bad"))}, rule + " deny", "cluster ValidatingAdmissionPolicy bad", key{}},
		{"a document of Sconce's", []document{enforced(t, ""), inFile(t, "a.yaml", team), inFile(t, "b.yaml", "apiVersion: sconce.dev/v1alpha1\nkind: Exception\nmetadata: {name: x}\n")}, rule + " deny", "files b.yaml:1: Exceptions of Sconce", key{}},
		{"what is gone is named", []document{enforced(t, "controls: [{name: "+rule+", action: warn}]"), doc(t, "Exception", "shop", strings.Replace(fmt.Sprintf(exception, "2027-06-01"), "privileged-container", rule, 1))}, "", "", key{"Exception", "shop"}},
		{"bound", []document{enforced(t, ""), inCluster(t, vapDoc("labels", "[pods]")), inCluster(t, bindingDoc("labels"))}, "vap.labels audit", "", key{}},
		{"not bound", []document{enforced(t, ""), inCluster(t, vapDoc("labels", "[pods]"))}, "", "", key{}},
		{"not bound, in a file", []document{enforced(t, ""), inFile(t, "a.yaml", vapDoc("labels", "[pods]"))}, "vap.labels deny", "", key{}},
		{"made of a control", []document{enforced(t, ""), inCluster(t, strings.Replace(vapDoc("labels", "[pods]"), "{name: labels}", "{name: labels, labels: {app.kubernetes.io/managed-by: sconce}}", 1)), inCluster(t, bindingDoc("labels"))}, "", "", key{}},
		{"made of a policy", []document{enforced(t, ""), inCluster(t, strings.Replace(vapDoc("labels", "[pods]"), "{name: labels}", "{name: labels, ownerReferences: [{apiVersion: kyverno.io/v1, kind: ClusterPolicy}]}", 1)), inCluster(t, bindingDoc("labels"))}, "", "", key{}},
		{"Rego", []document{enforced(t, ""), inFile(t, "a.rego", "package team\n\ndeny contains \"no team\" if not input.metadata.labels.team\n")}, "rego.team.deny deny", "", key{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, wrong := withPolicies().compile(c.documents, today)
			if s == nil || len(wrong) > 0 {
				t.Fatal(wrong)
			}
			if got := s.actions(); got != c.actions {
				t.Errorf("rules %q, want %q", got, c.actions)
			}
			var refused []string
			for _, r := range s.refused {
				refused = append(refused, r.from+" "+r.String())
			}
			if (len(refused) > 0) != (c.refused != "") || c.refused != "" && !strings.HasPrefix(refused[0], c.refused) {
				t.Errorf("left out: %q, want %q", refused, c.refused)
			}
			if c.absent != (key{}) && s.absent[c.absent] == "" {
				t.Errorf("nothing is said of %s, but %v", c.absent, s.absent)
			}
			if s.admission.Mutate == nil || slices.ContainsFunc(s.admission.Mutate.Rules(), isPolicyRule) {
				t.Error("policies are asked what to mend")
			}
			data, err := pack(s.documents)
			if err != nil {
				t.Fatal(err)
			}
			back, err := unpack(data)
			if err != nil || hash(back) != s.hash {
				t.Errorf("what is kept is not what was in force: %v", err)
			}
		})
	}
	if _, wrong := usual.compile([]document{enforced(t, "controls: [{name: "+rule+"}]")}, today); !strings.Contains(wrong[key{"Baseline", "cluster"}], "unknown control") {
		t.Errorf("where there are no policies a name of one is no mistake: %v", wrong)
	}
	if _, wrong := withPolicies().compile([]document{enforced(t, "controls: [{name: kyverno}]")}, today); !strings.Contains(wrong[key{"Baseline", "cluster"}], "unknown control") {
		t.Errorf("any name may be that of a policy's rule: %v", wrong)
	}
}

// TestPoliciesOnce holds that policies are not read again while they stay as they
// are.
func TestPoliciesOnce(t *testing.T) {
	c := withPolicies()
	c.mustCompile(t, enforced(t, ""), inFile(t, "a.yaml", requireTeam("require-team", "Pod")))
	before := c.loaded
	c.mustCompile(t, enforced(t, "action: warn"), inFile(t, "a.yaml", requireTeam("require-team", "Pod")))
	if c.loaded != before {
		t.Error("they were read again")
	}
	c.mustCompile(t, enforced(t, ""), inFile(t, "a.yaml", requireTeam("require-team", "Service")))
	if c.loaded == before {
		t.Error("a change of them is not seen")
	}
	moved := inFile(t, "a.yaml", requireTeam("require-team", "Service"))
	moved.From = "elsewhere"
	if hash([]document{moved}) == c.loaded.hash {
		t.Error("it is not seen that they come from elsewhere")
	}
}

// TestPolicyHooks holds which kinds the webhook is asked about for policies:
// those that they are about, and never heartbeats unless these are named.
func TestPolicyHooks(t *testing.T) {
	const pods = "pods pods/ephemeralcontainers pods/resize"
	const others = "configmaps " + pods + " services apps/deployments "
	all := slices.Concat(served, []cluster.Kind{
		{GroupKind: object.GroupKind{Kind: "Event"}, Version: "v1", Resource: "events", Namespaced: true},
		{GroupKind: object.GroupKind{Group: "sconce.dev", Kind: "Baseline"}, Version: "v1alpha1", Resource: "baselines"},
		{GroupKind: object.GroupKind{Group: "openreports.io", Kind: "Report"}, Version: "v1alpha1", Resource: "reports", Namespaced: true},
	})
	h := hooks{endpoint: endpoint{namespace: "sconce", service: "sconce"}}
	for _, c := range []struct{ name, policy, want string }{
		{"pods", requireTeam("p", "Pod"), pods},
		{"any kind", requireTeam("p", `"*"`), others + "rbac.authorization.k8s.io/clusterroles"},
		{"any kind, natively", vapDoc("p", `["*"]`), others + "rbac.authorization.k8s.io/clusterroles"},
		{"heartbeats by name", requireTeam("p", "Lease, Event"), "events coordination.k8s.io/leases"},
		{"Sconce's own by name", requireTeam("p", "sconce.dev/*/Baseline"), "sconce.dev/baselines"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := withPolicies().mustCompile(t, enforced(t, "action: audit"), inFile(t, "a.yaml", c.policy))
			got := ""
			for _, w := range h.validating(s.baseline, all).Webhooks {
				got += resourcesOf(w.Rules)
			}
			if !strings.HasPrefix(got, c.want) || c.name != "pods" && got != c.want {
				t.Errorf("asked about %s, want %s", got, c.want)
			}
			for _, k := range all {
				noisy := k.Kind == "Event" || k.Kind == "Lease" || k.Kind == "Report"
				if named := strings.Contains(c.name, "by name"); noisy && s.reads(k.GroupKind) && !(named && k.Kind != "Report") {
					t.Errorf("the audit reads %s", k)
				}
			}
		})
	}
	s := withPolicies().mustCompile(t, enforced(t, "action: audit"), inCluster(t, requireTeam("p", "Pod")))
	if w := h.validating(s.baseline, all).Webhooks; len(w) > 0 {
		t.Errorf("the webhook is asked about %s, which somebody else enforces", resourcesOf(w[0].Rules))
	}
}

// TestInstalledKinds holds that what is followed in a cluster is what policies
// are read from.
func TestInstalledKinds(t *testing.T) {
	for group, kinds := range installedKinds {
		if kinds == nil {
			kinds = []string{"K8sAnything"}
		}
		for _, kind := range kinds {
			gk := object.GroupKind{Group: group, Kind: kind}
			if !canBeInstalled(gk) || !(all.Reader{}).Handles(gk) {
				t.Errorf("%v is not read", gk)
			}
		}
	}
	for _, gk := range []object.GroupKind{{Kind: "Pod"}, {Group: "kyverno.io", Kind: "CleanupPolicy"}} {
		if canBeInstalled(gk) {
			t.Errorf("%v is followed", gk)
		}
	}
}

// TestFolder holds that a source is read again, that what it held before stays
// while it cannot be read, and that nothing is told while nothing changes.
func TestFolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type content struct {
			files []PolicyFile
			err   error
		}
		var held atomic.Pointer[content]
		holds := func(text string, err error) {
			var files []PolicyFile
			if text != "" {
				files = []PolicyFile{{"policies/a.yaml", []byte(text)}}
			}
			held.Store(&content{files, err})
		}
		changed := newSignal()
		read := func(context.Context) ([]PolicyFile, error) { c := held.Load(); return c.files, c.err }
		f := newFolder(PolicySource{Name: "policies", Every: time.Second, Read: read}, changed)
		s := &sources{folders: []*folder{f}}
		ctx, cancel := context.WithCancel(t.Context())
		over := make(chan error, 1)
		holds("a: 1", errors.New("the registry does not answer"))
		go func() { over <- f.Start(ctx) }()
		s.wait(ctx)
		told := func() bool {
			select {
			case <-changed:
				return true
			default:
				return false
			}
		}
		check := func(when string, news bool, want, unread string) {
			t.Helper()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if got := told(); got != news {
				t.Errorf("%s: told %t, want %t", when, got, news)
			}
			docs, problems := s.documents(func() []document {
				return []document{{key: key{fileKind, "before"}, From: "policies"}, {key: key{"Exception", "x"}}}
			})
			var got []string
			for _, d := range docs {
				got = append(got, d.Name+"="+string(d.Spec))
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s: got %q, want %q", when, got, want)
			}
			if (len(problems) > 0) != (unread != "") || unread != "" && !strings.Contains(problems[0].String(), unread) {
				t.Errorf("%s: unread %v, want %q", when, problems, unread)
			}
		}
		check("never read", true, "before=", "policies: policies cannot be read: the registry does not answer")
		check("still", false, "before=", "does not answer")
		holds("a: 1", nil)
		check("read", true, `policies/a.yaml="a: 1"`, "")
		check("nothing changes", false, `policies/a.yaml="a: 1"`, "")
		holds("a: 2", nil)
		check("changed", true, `policies/a.yaml="a: 2"`, "")
		holds("a: 2", errors.New("gone"))
		check("lost", true, `policies/a.yaml="a: 2"`, "gone")
		holds("", nil)
		check("empty", true, "", "there is no policy")
		holds(strings.Repeat("x", maxPolicyBytes+1), nil)
		check("too large", true, "", "32 MiB")
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}

// TestPolicyStatus holds what is said of policies in the status of documents.
func TestPolicyStatus(t *testing.T) {
	docs := []document{
		enforced(t, ""), doc(t, "Exception", "shop", strings.Replace(fmt.Sprintf(exception, "2027-06-01"), "privileged-container", "kyverno.gone.rule", 1)),
		inFile(t, "a.yaml", requireTeam("require-team", "Pod")), inFile(t, "b.yaml", "a: ["),
	}
	s := withPolicies().mustCompile(t, docs...)
	state := &state{accepted: true, unread: []refusal{{fromCluster, "clusterpolicies.kyverno.io", "it may not list them"}}}
	got := conditions(&liveDocument{document: docs[0]}, state, s)
	for _, want := range []string{"and 1 rules of policies; set " + s.hash, "left out: clusterpolicies.kyverno.io: it may not list them; b.yaml:1: "} {
		if !strings.Contains(got[1].Message, want) || got[1].Status != "True" {
			t.Errorf("the Baseline says %s %q, want %q", got[1].Status, got[1].Message, want)
		}
	}
	got = conditions(&liveDocument{document: docs[1]}, state, s)
	if got[0].Type != v1alpha1.Accepted || got[0].Status != "True" || !strings.Contains(got[0].Message, `"kyverno.gone.rule"`) {
		t.Errorf("the exception says %s %q", got[0].Status, got[0].Message)
	}
}

// TestForget holds that nothing is counted any more of rules that have gone.
func TestForget(t *testing.T) {
	m, err := newMetrics(prometheus.NewRegistry(), func() *auditSummary { return nil })
	if err != nil {
		t.Fatal(err)
	}
	c := withPolicies()
	before := c.mustCompile(t, enforced(t, ""), inFile(t, "a.yaml", requireTeam("require-team", "Pod")))
	for _, name := range []string{"kyverno.require-team.team", "host-network"} {
		m.denials.WithLabelValues(name, "deny").Inc()
	}
	after := c.mustCompile(t, enforced(t, ""))
	m.forget(before.gone(after))
	if n := testutil.CollectAndCount(m.denials); n != 1 {
		t.Errorf("%d series are left, want that of the control", n)
	}
	if gone := (*set)(nil).gone(before); len(gone) > 0 {
		t.Errorf("gone: %v", gone)
	}
}

// TestRegoData: Rego finds the data that stands beside it, of each source.
func TestRegoData(t *testing.T) {
	rule := inFile(t, "a.rego", "package team\n\nimport data.owners\n\ndeny contains \"no owner\" if not owners[input.metadata.name]\n")
	for _, test := range []struct {
		name  string
		files []document
		want  string
	}{
		{"beside", []document{rule, inFile(t, "data.yaml", "owners: {a: true}\n")}, ""},
		{"an object", []document{rule, inFile(t, "data.yaml", "apiVersion: v1\nkind: Pod\nowners: {a: true}\n")}, "it reads data.owners"},
		{"none", []document{rule}, "it reads data.owners"},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := (&compiler{}).loadPolicies(test.files)
			if len(l.rules) != 1 || len(l.refused) > 0 {
				t.Fatal(l.rules, l.refused)
			}
			if got := l.rules[0].Info().Unsupported; (got == "") != (test.want == "") || !strings.HasPrefix(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
