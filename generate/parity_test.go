// SPDX-License-Identifier: Apache-2.0

package generate_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/controltest"
	"sconce.dev/sconce/generate"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/vap"
	"sconce.dev/sconce/verdict"
)

// library returns the catalogue, checked as a whole.
func library(tb testing.TB) *baseline.Library {
	tb.Helper()
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		tb.Fatal(err)
	}
	if err := l.Check(time.Time{}); err != nil {
		tb.Fatal(err)
	}
	return l
}

// of returns a baseline of one control that fails closed.
func of(c *control.Control, action v1alpha1.Action) *baseline.Baseline {
	return &baseline.Baseline{Name: "test", Rules: []*baseline.Rule{{
		Control: c, Severity: c.Spec.Severity, Action: action, FailurePolicy: v1alpha1.FailClosed,
	}}}
}

// stored returns an object as the API server decodes it: without nulls.
func stored(tb testing.TB, o *object.Object) *unstructured.Unstructured {
	tb.Helper()
	out := map[string]any{}
	if err := json.Unmarshal(o.Root.JSON(), &out); err != nil {
		tb.Fatal(err)
	}
	return &unstructured.Unstructured{Object: withoutNulls(out).(map[string]any)}
}

func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if e == nil {
				delete(v, k)
				continue
			}
			v[k] = withoutNulls(e)
		}
	case []any:
		for i := range v {
			v[i] = withoutNulls(v[i])
		}
	}
	return v
}

// request returns the creation of an object.
func request(tb testing.TB, o *object.Object) vap.Request {
	tb.Helper()
	u := stored(tb, o)
	gvk := schema.FromAPIVersionAndKind(o.APIVersion, o.Kind)
	return vap.Request{
		Object: u, Kind: gvk, Resource: gvk.GroupVersion().WithResource(generate.Resource(o.GroupKind())), Namespace: u.GetNamespace(), Name: u.GetName(),
	}
}

// parity counts how often a policy says what its control says.
type parity struct {
	compiled, left     int
	cases, agree       int
	fallback, messages int
	differ             []string
	reasons            map[string]int
}

// hold holds the cases of a fixture against their policies.
func (p *parity) hold(t *testing.T, cases []controltest.Case, static bool) {
	t.Helper()
	type judge struct {
		generate.Validating
		policy *vap.Policy
	}
	compiled := map[string]*judge{}
	for _, c := range cases {
		native, err := c.Control.Native(control.NativeOptions{})
		if err != nil {
			p.differ = append(p.differ, fmt.Sprintf("%s: %v", c.Control.Name, err))
			return
		}
		key := fmt.Sprint(native)
		v, ok := compiled[key]
		if !ok {
			policies := generate.Build(of(c.Control, v1alpha1.Deny), generate.Options{Static: static})
			if len(policies.Validating) == 0 {
				t.Fatal(policies.Left)
			}
			v = &judge{Validating: policies.Validating[0]}
			if v.policy, err = vap.Compile(v.Policy); err != nil {
				t.Fatal(err)
			}
			compiled[key] = v
		}
		got := v.policy.Judge(t.Context(), v.Binding, request(t, c.Object))
		p.cases++
		if got.Outcome() == c.Verdict.Outcome && got.Matches {
			p.agree++
		} else {
			p.differ = append(p.differ, fmt.Sprintf("%s: %s: control %s, policy %s (matches %v): %v", c.Control.Name, c.Object.Ref, c.Verdict.Outcome, got.Outcome(), got.Matches, got.Decisions))
		}
		if got.Outcome() == verdict.Fail {
			p.messages++
			if strings.Contains(got.Decisions[0].Message, ": does not hold: ") {
				p.fallback++
				if os.Getenv("SHOW") != "" {
					t.Logf("no message: %s %s: %s", c.Control.Name, c.Object.Ref, v.Policy.Spec.Validations[0].MessageExpression)
				}
			} else if os.Getenv("SHOW") == "2" {
				t.Log(got.Decisions[0].Message, got.Annotations)
			}
		}
	}
}

// TestParity holds every fixture of every control that compiles against the
// policy: it must say what the control says.
func TestParity(t *testing.T) {
	l := library(t)
	p := &parity{reasons: map[string]int{}}
	for _, name := range l.Controls() {
		b, err := l.ResolveControls([]string{name}, nil, "", false)
		if err != nil {
			t.Fatal(err)
		}
		built := generate.Build(b, generate.Options{Static: true})
		if len(built.Left) > 0 {
			p.left++
			p.reasons[built.Left[0].Reason]++
			continue
		}
		p.compiled++
		_, data, err := catalog.Fixture(l.File(name))
		if err != nil {
			t.Fatal(err)
		}
		r, err := controltest.Run(l.Control(name), name, data)
		if err != nil {
			t.Fatal(err)
		}
		p.hold(t, r.Cases, true)
	}
	for reason, n := range p.reasons {
		t.Logf("%d do not compile: %s", n, reason)
	}
	for _, d := range p.differ {
		t.Error(d)
	}
	// What a role grants is judged by facts of who holds it, which no policy sees.
	if p.compiled < 225 || p.cases < 1900 {
		t.Errorf("%d controls compile and %d objects were judged: most of the catalogue was not held against anything", p.compiled, p.cases)
	}
	t.Logf("%d of %d controls compile; %d of %d verdicts agree; %d of %d messages fall back", p.compiled, p.compiled+p.left, p.agree, p.cases, p.fallback, p.messages)
}
