// SPDX-License-Identifier: Apache-2.0

package openreports

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

func finding(control string, severity v1alpha1.Severity, outcome verdict.Outcome, name string) verdict.Finding {
	return verdict.Finding{
		Control: control, Outcome: outcome, Severity: severity, Action: v1alpha1.Audit,
		Object:      object.Ref{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: name},
		Path:        "spec.template.spec.containers[app].securityContext.privileged",
		Message:     `container "app" runs privileged`,
		Fingerprint: control + "/" + name,
	}
}

func typical() Input {
	excused := finding("host-network", v1alpha1.Critical, verdict.Fail, "node-agent")
	excused.Excepted = &verdict.Excepted{Exception: "node-agents", Reason: "reads the node's counters", Owner: "platform", Expires: "2027-01-31"}
	return Input{
		Baseline: "cluster",
		Verdicts: verdict.Counts{Pass: 40, Fail: 2, Unknown: 1, Excepted: 1},
		Findings: []verdict.Finding{
			excused,
			finding("image-not-pinned", v1alpha1.Low, verdict.Fail, "web"),
			finding("secret-in-manifest", v1alpha1.Critical, verdict.Unknown, "web"),
			finding("privileged-container", v1alpha1.Critical, verdict.Fail, "web"),
		},
		Problems: []verdict.Problem{{Stage: verdict.Reading, Message: "secrets cannot be listed: allow list on secrets"}},
		Topic:    func(control string) string { return map[string]string{"privileged-container": "pod-security"}[control] },
	}
}

const wantTypical = `{
  "apiVersion": "openreports.io/v1alpha1",
  "kind": "Report",
  "metadata": {
    "name": "sconce",
    "namespace": "shop",
    "labels": {
      "app.kubernetes.io/managed-by": "sconce"
    }
  },
  "source": "sconce",
  "scope": {
    "apiVersion": "v1",
    "kind": "Namespace",
    "name": "shop"
  },
  "summary": {
    "pass": 40,
    "fail": 2,
    "warn": 0,
    "error": 2,
    "skip": 1
  },
  "results": [
    {
      "source": "sconce",
      "policy": "cluster",
      "rule": "not-judged",
      "result": "error",
      "scored": true,
      "message": "secrets cannot be listed: allow list on secrets",
      "properties": {
        "stage": "reading"
      }
    },
    {
      "source": "sconce",
      "policy": "cluster",
      "rule": "privileged-container",
      "category": "pod-security",
      "severity": "critical",
      "result": "fail",
      "scored": true,
      "resources": [
        {
          "apiVersion": "apps/v1",
          "kind": "Deployment",
          "namespace": "shop",
          "name": "web"
        }
      ],
      "message": "container \"app\" runs privileged",
      "properties": {
        "action": "audit",
        "fingerprint": "privileged-container/web",
        "path": "spec.template.spec.containers[app].securityContext.privileged"
      }
    }
  ]
}`

func TestBuild(t *testing.T) {
	r := Build(OpenReports, "shop", typical())
	var order []string
	for _, x := range r.Results {
		order = append(order, fmt.Sprint(x.Rule, " ", x.Result))
	}
	want := []string{"not-judged error", "privileged-container fail", "image-not-pinned fail", "secret-in-manifest error", "host-network skip"}
	if d := cmp.Diff(want, order); d != "" {
		t.Errorf("the results in order (-want +got):\n%s", d)
	}
	if got := r.Results[4].Details["owner"]; got != "platform" {
		t.Errorf("what is excused names the owner %q", got)
	}
	if r.Hash() == "" {
		t.Error("the report has no hash")
	}
	r.Metadata.Annotations, r.Results = nil, r.Results[:2]
	got, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(wantTypical, string(got)); d != "" {
		t.Errorf("the report (-want +got):\n%s", d)
	}
}

// TestKinds holds which kind of which API is built for what.
func TestKinds(t *testing.T) {
	for _, c := range []struct {
		api                             API
		namespace                       string
		apiVersion, kind, plural, scope string
	}{
		{OpenReports, "shop", "openreports.io/v1alpha1", "Report", "reports", "shop"},
		{OpenReports, "", "openreports.io/v1alpha1", "ClusterReport", "clusterreports", ""},
		{PolicyReports, "shop", "wgpolicyk8s.io/v1alpha2", "PolicyReport", "policyreports", "shop"},
		{PolicyReports, "", "wgpolicyk8s.io/v1alpha2", "ClusterPolicyReport", "clusterpolicyreports", ""},
	} {
		r := Build(c.api, c.namespace, typical())
		if r.APIVersion != c.apiVersion || r.Kind != c.kind || r.Metadata.Namespace != c.namespace || r.Metadata.Name != Name {
			t.Errorf("built %s %s %q", r.APIVersion, r.Kind, r.Metadata.Namespace)
		}
		if got := c.api.Resource(c.namespace).Resource; got != c.plural {
			t.Errorf("%s is written to %s, want %s", r.Kind, got, c.plural)
		}
		if (r.Scope != nil) != (c.scope != "") {
			t.Errorf("%s has the scope %v", r.Kind, r.Scope)
		}
		u, err := r.Unstructured()
		if err != nil {
			t.Fatal(err)
		}
		if u.GetKind() != c.kind || u.GetNamespace() != c.namespace {
			t.Errorf("as client libraries take it, it is a %s in %q", u.GetKind(), u.GetNamespace())
		}
	}
}

func TestParseAPI(t *testing.T) {
	for name, want := range map[string]API{"openreports": OpenReports, "policyreports": PolicyReports} {
		if got, err := ParseAPI(name); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := ParseAPI("reports"); err == nil || !strings.Contains(err.Error(), "want openreports or policyreports") {
		t.Errorf("an unknown name: %v", err)
	}
}

// TestHash holds that the hash is the same whatever the order of what is given,
// and another where anything else is said.
func TestHash(t *testing.T) {
	in := typical()
	first := Build(OpenReports, "shop", in)
	for range 10 {
		rand.Shuffle(len(in.Findings), func(i, j int) { in.Findings[i], in.Findings[j] = in.Findings[j], in.Findings[i] })
		if again := Build(OpenReports, "shop", in); again.Hash() != first.Hash() {
			t.Fatal("the same findings in another order have another hash")
		}
	}
	changes := map[string]func(*Input){
		"a count":    func(in *Input) { in.Verdicts.Pass++ },
		"a finding":  func(in *Input) { in.Findings = in.Findings[1:] },
		"a message":  func(in *Input) { in.Findings[0].Message += "!" },
		"a problem":  func(in *Input) { in.Problems = nil },
		"the rest":   func(in *Input) { in.LeftOut = 3 },
		"a baseline": func(in *Input) { in.Baseline = "other" },
	}
	seen := map[string]string{first.Hash(): "nothing"}
	for what, change := range changes {
		in := typical()
		change(&in)
		hash := Build(OpenReports, "shop", in).Hash()
		if other, ok := seen[hash]; ok {
			t.Errorf("a change of %s has the hash of a change of %s", what, other)
		}
		seen[hash] = what
	}
}

// TestBounds holds that a report stays small whatever is wrong, keeps the worst
// and says how much is missing.
func TestBounds(t *testing.T) {
	var in Input
	for i := range 3000 {
		f := finding("image-not-pinned", v1alpha1.Low, verdict.Fail, fmt.Sprintf("web-%04d", i))
		f.Message, f.Path = strings.Repeat("<é", 3000), strings.Repeat("a.b", 1000)
		f.Object.Name = strings.Repeat("n", 253)
		in.Findings = append(in.Findings, f)
	}
	for i := range 3000 {
		in.Problems = append(in.Problems, verdict.Problem{Stage: verdict.Reading, Message: fmt.Sprintf("%d%s", i, strings.Repeat("\x00", 5000))})
	}
	in.Findings = append(in.Findings, finding("privileged-container", v1alpha1.Critical, verdict.Fail, "web"))
	in.LeftOut = 7
	r := Build(OpenReports, "shop", in)
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) > MaxSize || len(r.Results) > MaxResults {
		t.Errorf("%d bytes and %d results", len(data), len(r.Results))
	}
	for _, x := range r.Results {
		if len(x.Message) > maxMessage || len(x.Details["path"]) > maxProperty || !utf8.ValidString(x.Message) {
			t.Fatalf("a result has a message of %d bytes and a path of %d", len(x.Message), len(x.Details["path"]))
		}
	}
	if got, want := r.Metadata.Annotations[LeftOutAnnotation], fmt.Sprint(6001+7-len(r.Results)); got != want {
		t.Errorf("%s results are left out, want %s", got, want)
	}
	if r.Results[maxProblems].Rule != "privileged-container" {
		t.Errorf("the worst finding is not kept: %q is first", r.Results[maxProblems].Rule)
	}

	in.Findings, in.Problems, in.LeftOut = in.Findings[:0], nil, 0
	for i := range MaxResults + 1 {
		in.Findings = append(in.Findings, finding("x", v1alpha1.Low, verdict.Fail, fmt.Sprint(i)))
	}
	r = Build(OpenReports, "shop", in)
	if len(r.Results) != MaxResults || r.Metadata.Annotations[LeftOutAnnotation] != "1" {
		t.Errorf("%d short results, %q left out", len(r.Results), r.Metadata.Annotations[LeftOutAnnotation])
	}
}

func BenchmarkBuild(b *testing.B) {
	var in Input
	for i := range MaxResults {
		in.Findings = append(in.Findings, finding("x", v1alpha1.Low, verdict.Fail, fmt.Sprint(i)))
	}
	b.ReportAllocs()
	for b.Loop() {
		Build(OpenReports, "shop", in)
	}
}
