// SPDX-License-Identifier: Apache-2.0

// Package compare holds the catalogue against the verdicts that other projects
// publish with their checks. What is compared is the verdict on each of their
// cases, by the control that has the same intent; testdata/NAME.yaml says which
// that is, and explains every case in which the verdicts differ.
//
// The suites themselves are not part of the repository: SCONCE_SUITES names a
// folder that holds checkouts of them.
package compare

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

var update = flag.Bool("update", false, "rewrite docs/comparison.md")

const docsFile = "../../docs/comparison.md"

// caze is one case of a suite: objects, and whether the suite's rule finds
// something.
type caze struct {
	rule, name string
	// files are manifests; subject narrows the verdict to one of their objects
	// ("Kind/name" or "name"; empty for all).
	files   [][]byte
	subject string
	fails   bool
	// parameters are those that the suite sets for this case, by control.
	parameters map[string]map[string]v1alpha1.Value
	// kubernetesVersion is the version that the case is judged for, if it says
	// so.
	kubernetesVersion string
	// controls are those of the rule's that the case is about; empty for all.
	controls []string
}

// suite is a mapping file.
type suite struct {
	Title   string `json:"title"`
	Source  string `json:"source"`
	Licence string `json:"licence"`
	// Rules are those with the same intent as controls of ours.
	Rules map[string]rule `json:"rules"`
	// Skipped say why a rule is not compared, by a pattern of rule names.
	Skipped []skipped `json:"skipped"`
	// Differences explain cases in which the verdicts differ.
	Differences []difference `json:"differences"`
}

type rule struct {
	// Controls are those of ours with the same intent; one that fails decides.
	Controls []string `json:"controls"`
	// Parameters set parameters of the controls.
	Parameters map[string]map[string]v1alpha1.Value `json:"parameters"`
	// Partial says that the case is not all there is in its cluster.
	Partial bool `json:"partial"`
	// PodTemplates are custom resources that a baseline would name.
	PodTemplates []v1alpha1.PodTemplate `json:"podTemplates"`
	// KubernetesVersion is the version that the rule judges for.
	KubernetesVersion string `json:"kubernetesVersion"`
	// Note says where the intents differ a little.
	Note string `json:"note"`
}

type skipped struct {
	Rules []string `json:"rules"`
	Why   string   `json:"why"`
}

type difference struct {
	// Cases are patterns of RULE/CASE.
	Cases []string `json:"cases"`
	// Ours is our verdict there: pass, fail or unknown.
	Ours verdict.Outcome `json:"ours"`
	// Right is who is: ours, theirs, or both, where they mean different things.
	Right string `json:"right"`
	Why   string `json:"why"`
}

// suites are the readers of the suites' forms.
var suites = map[string]func(dir string) ([]caze, error){}

// outcome is what came of a suite.
type outcome struct {
	suite   *suite
	cases   int            // all cases of the suite
	skipped map[string]int // cases by why they were not compared
	rules   map[string]*tally
	open    []string // not explained
	used    map[int]int
}

type tally struct{ cases, agree int }

func TestCompare(t *testing.T) {
	root := os.Getenv("SCONCE_SUITES")
	if root == "" {
		t.Skip("SCONCE_SUITES names no folder with checkouts of the suites")
	}
	var out []*outcome
	for _, name := range slices.Sorted(maps.Keys(suites)) {
		t.Run(name, func(t *testing.T) {
			s, err := readSuite(name)
			if err != nil {
				t.Fatal(err)
			}
			cases, err := suites[name](filepath.Join(root, path.Base(s.Source)))
			if err != nil {
				t.Fatal(err)
			}
			if len(cases) == 0 {
				t.Fatal("no cases were found")
			}
			o := s.compare(t, cases)
			for _, open := range o.open {
				t.Error(open)
			}
			for i, d := range s.Differences {
				if o.used[i] == 0 {
					t.Errorf("difference %v explains nothing", d.Cases)
				}
			}
			out = append(out, o)
			compared, agree := o.total()
			t.Logf("%d cases, %d compared, %d agree (%.1f %%), %d not explained", o.cases, compared, agree, 100*float64(agree)/float64(max(1, compared)), len(o.open))
		})
	}
	policies := comparePolicies(t, root)
	if *update && !t.Failed() {
		if err := os.WriteFile(docsFile, page(out, policies), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func readSuite(name string) (*suite, error) {
	data, err := os.ReadFile("testdata/" + name + ".yaml")
	if err != nil {
		return nil, err
	}
	root, err := object.ParseYAML(object.Text{Bytes: data, Line: 1})
	if err != nil {
		return nil, err
	}
	s := &suite{}
	for _, e := range object.Decode(root, s) {
		return nil, e
	}
	return s, nil
}

func (s *suite) compare(t *testing.T, cases []caze) *outcome {
	l := baseline.NewLibrary()
	if err := catalog.ReadSources(l); err != nil {
		t.Fatal(err)
	}
	o := &outcome{suite: s, cases: len(cases), skipped: map[string]int{}, rules: map[string]*tally{}, used: map[int]int{}}
	for i := range cases {
		c := &cases[i]
		r, ok := s.Rules[c.rule]
		if !ok {
			why := s.skip(c.rule)
			if why == "" {
				o.open = append(o.open, fmt.Sprintf("rule %s is neither compared nor skipped", c.rule))
			}
			o.skipped[why]++
			continue
		}
		got, why, err := r.judge(l, c)
		if err != nil {
			o.open = append(o.open, fmt.Sprintf("%s/%s: %v", c.rule, c.name, err))
			continue
		}
		tl := o.rules[c.rule]
		if tl == nil {
			tl = &tally{}
			o.rules[c.rule] = tl
		}
		tl.cases++
		want := verdict.Pass
		if c.fails {
			want = verdict.Fail
		}
		if got == want {
			tl.agree++
			continue
		}
		if !s.explains(o, c, got) {
			o.open = append(o.open, fmt.Sprintf("%s/%s: ours %s, theirs %s: %s", c.rule, c.name, got, want, why))
		}
	}
	return o
}

func (s *suite) skip(rule string) string {
	for _, k := range s.Skipped {
		for _, p := range k.Rules {
			if ok, _ := path.Match(p, rule); ok {
				return k.Why
			}
		}
	}
	return ""
}

func (s *suite) explains(o *outcome, c *caze, got verdict.Outcome) bool {
	for i, d := range s.Differences {
		for _, p := range d.Cases {
			if ok, _ := path.Match(p, c.rule+"/"+c.name); ok && d.Ours == got {
				o.used[i]++
				return true
			}
		}
	}
	return false
}

// judge holds a case against the controls of a rule.
func (r *rule) judge(l *baseline.Library, c *caze) (verdict.Outcome, string, error) {
	parameters := maps.Clone(r.Parameters)
	for k, v := range c.parameters {
		if parameters == nil {
			parameters = map[string]map[string]v1alpha1.Value{}
		}
		parameters[k] = v
	}
	controls := r.Controls
	if len(c.controls) > 0 {
		controls = slices.DeleteFunc(slices.Clone(controls), func(name string) bool { return !slices.Contains(c.controls, name) })
	}
	b, err := r.baseline(l, controls, parameters, cmp.Or(c.kubernetesVersion, r.KubernetesVersion))
	if err != nil {
		return "", "", err
	}
	u := &files{files: c.files}
	var failed, unknown []string
	_, err = engine.New(b, l.Exceptions(time.Time{}), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)).Run(context.Background(), []snapshot.Unit{u}, 0, engine.Output{
		Result: func(res *engine.Result) error {
			for i := range res.Findings {
				f := &res.Findings[i]
				if c.subject != "" && c.subject != f.Object.Name && c.subject != f.Object.Kind+"/"+f.Object.Name {
					continue
				}
				line := fmt.Sprintf("%s: %s: %s", f.Control, f.Object, f.Message)
				if f.Outcome == verdict.Fail {
					failed = append(failed, line)
				} else {
					unknown = append(unknown, line)
				}
			}
			return nil
		},
		Problem: func(p verdict.Problem) error {
			unknown = append(unknown, p.Message)
			return nil
		},
		Notice: func(verdict.Notice) error { return nil },
	})
	if err != nil {
		return "", "", err
	}
	switch {
	case len(failed) > 0:
		return verdict.Fail, strings.Join(failed, "; "), nil
	case len(unknown) > 0:
		return verdict.Unknown, strings.Join(unknown, "; "), nil
	}
	return verdict.Pass, "", nil
}

// baseline returns what a case is held against.
func (r *rule) baseline(l *baseline.Library, controls []string, parameters map[string]map[string]v1alpha1.Value, version string) (*baseline.Baseline, error) {
	if len(r.PodTemplates) == 0 {
		return l.ResolveControls(controls, parameters, version, !r.Partial)
	}
	doc := &v1alpha1.Baseline{}
	doc.APIVersion, doc.Kind, doc.Name = v1alpha1.APIVersion, "Baseline", fmt.Sprintf("case-%d", len(l.Baselines()))
	doc.Spec = v1alpha1.BaselineSpec{Title: "A case and its resources", KubernetesVersion: version, PodTemplates: r.PodTemplates}
	for _, name := range controls {
		doc.Spec.Controls = append(doc.Spec.Controls, v1alpha1.Selection{Name: name, Parameters: parameters[name]})
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, err
	}
	if err := l.Read(doc.Name+".json", data); err != nil {
		return nil, err
	}
	return l.Resolve(doc.Name, baseline.Options{Complete: !r.Partial})
}

// files is a unit of documents in memory.
type files struct {
	files [][]byte
	roles []object.Ref
	bound bool // there are bindings
}

// Read implements snapshot.Unit.
func (u *files) Read(_ context.Context, sink snapshot.Sink) snapshot.Tally {
	for i, data := range u.files {
		name := fmt.Sprintf("file-%d.yaml", i)
		problem := func(err error) {
			var not *object.NotObject
			if errors.As(err, &not) && not.Plain {
				return
			}
			sink.Problem(verdict.Problem{Stage: verdict.Parsing, Message: err.Error()})
		}
		if object.IsJSON(data) {
			nodes, err := object.ParseJSON(data)
			if err != nil {
				problem(err)
			}
			for _, n := range nodes {
				u.objects(n, name, data, 1, sink, problem)
			}
			continue
		}
		for text := range object.Split(data) {
			n, err := object.ParseYAML(text)
			if err != nil {
				problem(err)
			} else if n != nil {
				u.objects(n, name, text.Bytes, text.Line, sink, problem)
			}
		}
	}
	u.bind(sink)
	return snapshot.Tally{Files: len(u.files)}
}

func (u *files) objects(n *object.Node, name string, text []byte, line int, sink snapshot.Sink, problem func(error)) {
	objects, err := object.FromNode(n, &object.Origin{Source: name, Text: text, FirstLine: line})
	if err != nil {
		problem(err)
	}
	for _, o := range objects {
		switch o.Kind {
		case "Role", "ClusterRole":
			if o.Name == "" {
				o.Name = fmt.Sprintf("role-%d", len(u.roles))
			}
			u.roles = append(u.roles, o.Ref)
		case "RoleBinding", "ClusterRoleBinding":
			u.bound = true
		}
		sink.Object(o)
	}
}

// bind adds a binding of each role of a case that has none. What a role grants
// is judged here by who holds it, there by the role's text.
func (u *files) bind(sink snapshot.Sink) {
	if u.bound {
		return
	}
	for _, role := range u.roles {
		meta := map[string]any{"name": role.Name}
		if role.Namespace != "" {
			meta["namespace"] = role.Namespace
		}
		sink.Object(object.New(object.FromAny(map[string]any{
			"apiVersion": "rbac.authorization.k8s.io/v1", "kind": role.Kind + "Binding", "metadata": meta,
			"roleRef":  map[string]any{"kind": role.Kind, "name": role.Name},
			"subjects": []any{map[string]any{"kind": "User", "name": "somebody"}},
		}), &object.Origin{Source: "bindings"}))
	}
}

func (o *outcome) total() (compared, agree int) {
	for _, t := range o.rules {
		compared += t.cases
		agree += t.agree
	}
	return compared, agree
}

// right counts the differences by who is right.
func (o *outcome) right() map[string]int {
	out := map[string]int{}
	for i, d := range o.suite.Differences {
		out[d.Right] += o.used[i]
	}
	return out
}

// page is docs/comparison.md.
func page(outcomes []*outcome, policies []*policyOutcome) []byte {
	var b bytes.Buffer
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("<!-- Written by `SCONCE_SUITES=… go test ./controltest/compare -update`; do not edit. -->\n\n")
	p("# Comparison\n\nThe verdicts of the catalogue beside those that other projects publish with their checks, case by case, where the intent\nis the same. Every difference is explained: who is right, and by which source. Where\na case has roles and no bindings, each is bound to somebody: our controls ask who holds a permission.\n\n")
	p("| suite | cases | compared | same verdict | ours is right | they mean different things | theirs is right |\n|---|---|---|---|---|---|---|\n")
	for _, o := range outcomes {
		compared, agree := o.total()
		right := o.right()
		p("| [%s](%s) | %d | %d | %d (%.1f %%) | %d | %d | %d |\n", o.suite.Title, o.suite.Source, o.cases, compared, agree, 100*float64(agree)/float64(max(1, compared)), right["ours"], right["both"], right["theirs"])
	}
	for _, o := range outcomes {
		o.section(p)
	}
	p("\n## Policies of other languages\n\nThe tests that other projects have written for their policies, run unchanged by `sconce test`. What is not met is\nexplained, and so is what cannot be run.\n")
	for _, o := range policies {
		o.section(p)
	}
	return b.Bytes()
}

func (o *outcome) section(p func(string, ...any)) {
	s := o.suite
	p("\n## %s\n\n%s, licence %s.\n", s.Title, s.Source, s.Licence)
	p("\n### Differences\n\n| cases | | ours | who is right | why |\n|---|---|---|---|---|\n")
	for i, d := range s.Differences {
		p("| %s | %d | %s | %s | %s |\n", "`"+strings.Join(d.Cases, "`, `")+"`", o.used[i], d.Ours, d.Right, cell(d.Why))
	}
	p("\n### Rules\n\n| rule | controls | cases | same verdict | |\n|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(o.rules)) {
		t := o.rules[name]
		p("| %s | %s | %d | %d | %s |\n", name, strings.Join(s.Rules[name].Controls, ", "), t.cases, t.agree, cell(s.Rules[name].Note))
	}
	p("\n### Not compared\n\n| cases | why |\n|---|---|\n")
	for _, why := range slices.Sorted(maps.Keys(o.skipped)) {
		p("| %d | %s |\n", o.skipped[why], cell(why))
	}
}

func cell(s string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(s), " "), "|", "\\|")
}
