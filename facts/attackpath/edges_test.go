// SPDX-License-Identifier: Apache-2.0

package attackpath_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sconce.dev/sconce/api/v1alpha1"
	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/attackpath"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/mutate"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// rows are the attack steps that were asked for: AT-001 to AT-114.
const rows = 114

// A fixture is a file of ordinary manifests beside an edge, edges/fixtures/NAME.yaml,
// of one or several cases. Comments that begin a line say what the edge of that
// name is in the graph of a case, and nothing else may be:
//
//	# case: WORDS           a graph of its own begins
//	# kubernetes: 1.34      for a cluster of this version
//	# assume                with the edge assumed that is off otherwise
//	# incomplete            where the objects are not all there are
//	# edge: FROM -> TO      the edge is there
//	# maybe: FROM -> TO     the edge is there, and it is not known whether it is
//	# no edge: WHY          the object that follows has none
//	# path: FROM -> TO      one leads from one to the other, by whatever edges
//	# no path: FROM -> TO   none does
type fixture struct {
	title      string
	kubernetes control.Version
	assume     bool
	incomplete bool
	want       []string
	positives  int
	negatives  int
	paths      map[string]bool
	text       string
}

func readFixture(t *testing.T, name string) []*fixture {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("edges", "fixtures", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var out []*fixture
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "# "), "\n"), ":")
		value = strings.TrimSpace(value)
		if !strings.HasPrefix(line, "# ") {
			key = ""
		}
		if key == "case" {
			out = append(out, &fixture{title: value, paths: map[string]bool{}})
		}
		if len(out) == 0 {
			t.Fatalf("%s begins with %q; want # case:", name, line)
		}
		out[len(out)-1].line(t, key, value)
		out[len(out)-1].text += line
	}
	for _, f := range out {
		slices.Sort(f.want)
	}
	return out
}

func (f *fixture) line(t *testing.T, key, value string) {
	t.Helper()
	switch key {
	case "", "case":
	case "kubernetes":
		v, err := control.ParseVersion(value)
		if err != nil {
			t.Fatal(err)
		}
		f.kubernetes = v
	case "assume":
		f.assume = true
	case "incomplete":
		f.incomplete = true
	case "edge":
		f.want = append(f.want, value)
	case "maybe":
		f.want = append(f.want, value+" (maybe)")
	case "no edge":
		f.negatives++
	case "path":
		f.paths[value] = true
		f.positives++
	case "no path":
		f.paths[value] = false
		f.negatives++
	default:
		t.Fatalf("unknown comment %q; want case, kubernetes, assume, incomplete, edge, maybe, no edge, path or no path", key)
	}
}

func (f *fixture) env() *facts.Env {
	env := &facts.Env{Minor: -1, Patch: -1, Complete: !f.incomplete}
	if !f.kubernetes.IsZero() {
		env.Minor, env.Named = f.kubernetes.Minor(), true
	}
	return env
}

func fixtureGraph(t *testing.T, objects []*object.Object, env *facts.Env, assume ...string) *attackpath.Graph {
	t.Helper()
	keep := attackpath.KeepFor(env)
	var kept []any
	for _, o := range objects {
		if k := keep(o); k != nil {
			kept = append(kept, k)
		}
	}
	g := attackpath.New(kept, env)
	if err := g.Assume(assume...); err != nil {
		t.Fatal(err)
	}
	return g
}

func allEdges(t *testing.T) []*attackpath.Edge {
	t.Helper()
	all, err := attackpath.Edges()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Every row is an edge, once. A row that stands for two steps has a second edge
// with a letter behind its number.
func TestEveryRowIsAnEdge(t *testing.T) {
	seen := map[string]int{}
	for _, e := range allEdges(t) {
		seen[e.ID]++
		if !regexp.MustCompile(`^AT-[0-9]{3}[bc]?$`).MatchString(e.ID) {
			t.Errorf("%s has the ID %q; want AT-nnn", e.Name, e.ID)
		}
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(e.Name) {
			t.Errorf("edge %q: want lower-case words with dashes", e.Name)
		}
	}
	for i := range rows {
		if id := fmt.Sprintf("AT-%03d", i+1); seen[id] != 1 {
			t.Errorf("%d edges have the ID %s; want 1", seen[id], id)
		}
	}
	for id, n := range seen {
		if base := strings.TrimRight(id, "bc"); n != 1 || seen[base] != 1 {
			t.Errorf("%d edges have the ID %s and %d %s; want one each", n, id, seen[base], base)
		}
	}
}

// What an edge says of itself is whole, and its expressions compile.
func TestEdgesAreWhole(t *testing.T) {
	for _, e := range allEdges(t) {
		if e.Title == "" || strings.HasSuffix(e.Title, ".") || !strings.HasSuffix(e.Description, ".") {
			t.Errorf("%s: want a title without a full stop and a description of sentences", e.Name)
		}
		for _, technique := range e.Techniques {
			if !regexp.MustCompile(`^T1[0-9]{3}(\.[0-9]{3})?$`).MatchString(technique) {
				t.Errorf("%s: %q is no technique of ATT&CK", e.Name, technique)
			}
		}
		if len(e.Techniques) == 0 || !slices.Contains([]int{0, 1, 3, 6, 10}, e.Effort) {
			t.Errorf("%s: want a technique, and an effort of 0, 1, 3, 6 or 10", e.Name)
		}
		if e.Off && e.Assumption == "" {
			t.Errorf("%s is off and does not say what would have to be assumed", e.Name)
		}
		if len(e.Mitigations) == 0 {
			t.Errorf("%s: nothing takes it away", e.Name)
		}
		if err := e.Compile(); err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
	}
}

// What takes an edge away is a control that there is, or says what to do. It
// takes it away indeed: nothing from which an edge leads on passes all of the
// edge's controls about its kind, or of those about roles that grant too much at
// once. Controls about roles excuse rules that name objects.
func TestMitigations(t *testing.T) {
	l := baseline.NewLibrary()
	catalog.Read(l)
	for _, e := range allEdges(t) {
		var controls []string
		said := false
		for _, m := range e.Mitigations {
			if (m.Control == "") == (m.Change == "") {
				t.Errorf("%s: a mitigation names a control or says what to change; want one of both", e.Name)
			}
			if m.Control != "" && l.Control(m.Control) == nil {
				t.Errorf("%s: the catalogue has no control %q", e.Name, m.Control)
				continue
			}
			if m.Control != "" {
				controls = append(controls, m.Control)
			}
			said = said || m.Change != ""
		}
		for _, f := range readFixture(t, e.Name) {
			for _, text := range f.shown() {
				if objects := read(t, text); !said && !strings.Contains(text, "resourceNames") && !anyFails(t, l, controls, f, objects) {
					t.Errorf("%s: %s passes %s, and the edge is there", e.Name, objects[0].Ref, strings.Join(controls, " and "))
				}
			}
		}
	}
}

// wide are controls about roles that grant too much at once; others leave these
// to them.
var wide = []string{"wildcard-resource", "wildcard-verb", "wildcard-api-group", "write-everything", "write-everything-in-namespace", "write-core-group"}

// shown are the documents that an edge comes from: the one that says so, and
// those without a comment that follow.
func (f *fixture) shown() []string {
	var out []string
	open := false
	for _, doc := range strings.Split(f.text, "---\n") {
		switch {
		case strings.Contains(doc, "# edge:") || strings.Contains(doc, "# maybe:") || strings.Contains(doc, "# path:"):
			out, open = append(out, doc), true
		case strings.HasPrefix(doc, "# "):
			open = false
		case open:
			out[len(out)-1] += "---\n" + doc
		}
	}
	return out
}

// anyFails says whether an object does not pass one of the controls, or whether
// none is about them.
func anyFails(t *testing.T, l *baseline.Library, names []string, f *fixture, objects []*object.Object) bool {
	judged := append(slices.Clone(objects), effective(t, f, objects)...)
	asked := 0
	for _, name := range slices.Concat(names, wide) {
		c, err := control.New(l.Control(name), control.Options{KubernetesVersion: f.kubernetes})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range judged {
			if !c.Matches(o.GroupKind()) {
				continue
			}
			if c.Judge(o, nil).Outcome != verdict.Pass {
				return true
			}
			if slices.Contains(names, name) {
				asked++
			}
		}
	}
	return asked == 0
}

// effective are the facts about permissions that a fixture tells of some of its
// objects.
func effective(t *testing.T, f *fixture, of []*object.Object) []*object.Object {
	var kept []any
	for _, o := range read(t, f.text) {
		if k := rbac.Keep(o); k != nil {
			kept = append(kept, k)
		}
	}
	var out []*object.Object
	rbac.Effective.Derive(kept, &facts.Env{Complete: true, Minor: -1}, func(fact *object.Object) {
		if slices.ContainsFunc(of, func(o *object.Object) bool { return o.Ref == fact.Subject().Ref }) {
			out = append(out, fact)
		}
	})
	return out
}

// The graph of each fixture has the edge where the fixture says so, and nowhere
// else.
func TestFixtures(t *testing.T) {
	for _, e := range allEdges(t) {
		t.Run(e.Name, func(t *testing.T) {
			positive, negative, off, on := 0, 0, 0, 0
			for _, f := range readFixture(t, e.Name) {
				positive, negative = positive+len(f.want)+f.positives, negative+f.negatives
				if f.assume {
					on += len(f.want)
				} else if len(f.want) == 0 {
					off++
				}
				t.Run(f.title, func(t *testing.T) { f.check(t, e) })
			}
			if positive == 0 || negative == 0 {
				t.Errorf("%d places with the edge and %d without; want both", positive, negative)
			}
			if e.Off && (off == 0 || on == 0) {
				t.Error("the edge is off: want a case that shows so, and one that assumes it")
			}
		})
	}
}

func (f *fixture) check(t *testing.T, e *attackpath.Edge) {
	var assume []string
	if f.assume {
		assume = append(assume, e.Name)
	}
	g := fixtureGraph(t, read(t, f.text), f.env(), assume...)
	for text, want := range f.paths {
		from, to, _ := strings.Cut(text, " -> ")
		if got := len(g.Paths(find(t, g, from), find(t, g, to), 1)) > 0; got != want {
			t.Errorf("path from %s: %t, want %t", text, got, want)
		}
	}
	if got := edgesNamed(g, e.Name); !slices.Equal(got, f.want) {
		for _, s := range f.want {
			if !slices.Contains(got, s) {
				t.Errorf("missing: %s", s)
			}
		}
		for _, s := range got {
			if !slices.Contains(f.want, s) {
				t.Errorf("not wanted: %s", s)
			}
		}
	}
}

// edgesNamed are the steps that an edge makes possible: who comes to hold what.
// What the cluster's administrators and the editors of a namespace come to hold
// is left out: they hold it in any cluster.
func edgesNamed(g *attackpath.Graph, name string) []string {
	var out []string
	is := func(e *attackpath.Edge) bool { return e != nil && e.Name == name }
	if name == "holds-permission" { // one who holds a permission uses it in the same step
		is = func(e *attackpath.Edge) bool {
			return e != nil && e.Permission != nil && e.From == attackpath.PlaceIdentity
		}
	}
	for s := range g.Each {
		if kind := g.Kind(s.From); !is(s.Edge) || kind == attackpath.Cluster || kind == attackpath.Editor {
			continue
		}
		text := g.Name(s.From) + " -> " + g.Name(s.To)
		if s.Unknown != "" {
			text += " (maybe)"
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TestPermissionsAreTested holds that each verb and each resource of what an
// identity must be allowed is shown to be enough by a rule that has it alone.
func TestPermissionsAreTested(t *testing.T) {
	for _, e := range allEdges(t) {
		if e.Permission == nil {
			continue
		}
		var shown []string
		for _, f := range readFixture(t, e.Name) {
			shown = append(shown, strings.Split(strings.Join(f.shown(), "\n"), "\n")...)
		}
		for _, a := range e.Permission.AllOf {
			checkAccess(t, e.Name, append([]attackpath.Access{a}, a.Or...), shown)
		}
	}
}

func checkAccess(t *testing.T, name string, accesses []attackpath.Access, lines []string) {
	t.Helper()
	for _, a := range accesses {
		for _, verb := range a.Verbs {
			if !slices.ContainsFunc(lines, func(line string) bool {
				return strings.Contains(line, "verbs: ["+verb+"]") || strings.Contains(line, fmt.Sprintf("verbs: [%q]", verb))
			}) {
				t.Errorf("%s: no rule shows that %s is enough", name, verb)
			}
		}
		for _, resource := range a.Resources {
			resource, sub, _ := strings.Cut(resource, "/")
			resource, _, _ = strings.Cut(resource, ".")
			if sub != "" {
				resource += "/" + sub
			}
			if !slices.ContainsFunc(lines, func(line string) bool {
				return strings.Contains(line, "resources: ["+resource) || strings.Contains(line, fmt.Sprintf("resources: [%q", resource)) || strings.Contains(line, ", "+resource)
			}) {
				t.Errorf("%s: no rule shows that %s is enough", name, resource)
			}
		}
	}
}

// attacks is the page that lists the edges.
const attacks = "../../docs/attacks.md"

// TestPage holds the page against the data: each edge is a row under the heading
// of its kind, and there are no others.
func TestPage(t *testing.T) {
	page, err := os.ReadFile(attacks)
	if err != nil {
		t.Fatal(err)
	}
	got, heading := map[string]string{}, ""
	for line := range strings.Lines(string(page)) {
		line = strings.TrimSuffix(line, "\n")
		if h, ok := strings.CutPrefix(line, "## "); ok {
			heading = h
		}
		if strings.HasPrefix(line, "| AT-") {
			if got[line] != "" {
				t.Errorf("%s has this row twice: %s", attacks, line)
			}
			got[line] = heading
		}
	}
	for _, e := range allEdges(t) {
		row, want := rowOf(e), headingOf(e)
		if got[row] != want {
			t.Errorf("%s: want under %q: %s", attacks, want, row)
		}
		delete(got, row)
	}
	for row := range got {
		t.Errorf("%s has a row that is no edge: %s", attacks, row)
	}
}

func headingOf(e *attackpath.Edge) string {
	switch {
	case e.BuiltIn:
		return "What follows from how things are joined"
	case e.From == attackpath.PlaceIdentity:
		return "What an identity may do"
	case e.Network != nil:
		return "What a connection opens"
	case e.Condition.Match == nil:
		return "What a workload says of itself"
	}
	return "What other objects hold"
}

func rowOf(e *attackpath.Edge) string {
	var broken []string
	for _, m := range e.Mitigations {
		if m.Control != "" {
			broken = append(broken, "["+m.Control+"](controls/"+m.Control+".md)")
		} else {
			broken = append(broken, m.Change)
		}
	}
	name := "`" + e.Name + "`"
	if e.Off {
		name += " (assumed)"
	}
	return fmt.Sprintf("| %s | %s | %s -> %s | %d | %s | %s |", e.ID, name, e.From, e.To, e.Effort, strings.Join(e.Techniques, ", "), strings.Join(broken, "; "))
}

// What a mount of the node's whole disk leads to.
var wholeDisk = []string{
	"authority-key", "cloud-config-file", "core-pattern", "etcd-data", "host-path-read", "host-path-tokens", "host-path-write", "kubeconfig-file",
	"runtime-socket", "static-pod",
}

// badPods are eight pods that grow less and less bad, as Bishop Fox's badPods
// are cut, with the edges that begin at each and whether it leads to a node.
var badPods = []struct {
	class, spec string
	edges       []string
	node        bool
}{
	{"everything-allowed", "hostNetwork: true, hostPID: true, hostIPC: true, containers: [{name: c, securityContext: {privileged: true}, volumeMounts: [{name: v, mountPath: /host}]}], volumes: [{name: v, hostPath: {path: /}}]",
		slices.Concat(wholeDisk, []string{"privileged-mount", "privileged-host-pid", "host-network", "host-ipc", "host-pid"}), true},
	{"priv-and-hostpid", "hostPID: true, containers: [{name: c, securityContext: {privileged: true}}]", []string{"privileged-mount", "privileged-host-pid", "host-pid"}, true},
	{"priv", "containers: [{name: c, securityContext: {privileged: true}}]", []string{"privileged-mount"}, true},
	{"hostpath", "containers: [{name: c, volumeMounts: [{name: v, mountPath: /host}]}], volumes: [{name: v, hostPath: {path: /}}]", wholeDisk, true},
	{"hostpid", "hostPID: true, containers: [{name: c}]", []string{"host-pid"}, false},
	{"hostnetwork", "hostNetwork: true, containers: [{name: c}]", []string{"host-network"}, false},
	{"hostipc", "hostIPC: true, containers: [{name: c}]", []string{"host-ipc"}, false},
	{"nothing-allowed", "containers: [{name: c}]", nil, false},
}

func TestBadPods(t *testing.T) {
	for _, bad := range badPods {
		text := "{apiVersion: v1, kind: Pod, metadata: {name: bad, namespace: shop}, spec: {" + bad.spec + "}}\n"
		checkBadPod(t, bad.class, read(t, text), bad.edges, bad.node)
	}
}

// TestBadPodsOfCorpus holds the same against Bishop Fox's manifests, if this
// machine has them.
func TestBadPodsOfCorpus(t *testing.T) {
	dir := os.Getenv("SCONCE_CORPUS")
	if dir == "" {
		dir = "../../../shared/corpus"
	}
	for _, bad := range badPods {
		files, err := filepath.Glob(filepath.Join(dir, "BishopFox+badPods", "manifests", bad.class, "*", "*.yaml"))
		if err != nil || len(files) == 0 {
			t.Skipf("no manifests of badPods at %s; SCONCE_CORPUS names another folder", dir)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			edges := bad.edges
			if strings.HasSuffix(file, "hostipc-revshell-deamonset.yaml") { // it asks for all three
				edges = []string{"host-ipc", "host-network", "host-pid"}
			}
			checkBadPod(t, file, read(t, string(data)), edges, bad.node)
		}
	}
}

func checkBadPod(t *testing.T, title string, objects []*object.Object, edges []string, node bool) {
	t.Helper()
	g := fixtureGraph(t, objects, &facts.Env{Minor: -1, Patch: -1, Complete: true})
	var got []string
	begin := -1
	for s := range g.Each {
		if kind := g.Kind(s.From); kind != attackpath.Container && kind != attackpath.Workload || s.Edge == nil {
			continue
		}
		begin = s.From
		if s.Edge.ID != "AT-001" { // each of them has a token
			got = append(got, s.Edge.Name)
		}
	}
	slices.Sort(got)
	want := slices.Sorted(slices.Values(edges))
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("%s has the edges %q; want %q", title, got, want)
	}
	if begin < 0 {
		t.Errorf("%s: nothing begins there", title)
		return
	}
	if reached := len(g.Paths([]int{begin}, find(t, g, "node"), 1)) > 0; reached != node {
		t.Errorf("%s leads to a node: %t; want %t", title, reached, node)
	}
}

// minNoticed is how many of the changes to conditions the fixtures must notice,
// in percent.
const minNoticed = 85

// TestConditionsAreTested changes the conditions of the edges in one small way
// after the other, as package mutate does with controls, and holds that the
// fixtures notice: each conjunct and each item of a list has a manifest that
// tells whether it is there.
func TestConditionsAreTested(t *testing.T) {
	killed, survived := 0, 0
	for _, e := range allEdges(t) {
		if e.Condition == nil || e.Condition.Facts {
			continue
		}
		c := controlOf(e)
		r, err := mutate.Run(mutate.Input{Control: c, File: e.Name + ".yaml", Fixture: e.Name + ".fixture.yaml", FixtureText: []byte(controlFixture(t, e, c))}, false)
		if err != nil {
			t.Fatalf("%s: %v", e.Name, err)
		}
		for _, m := range r.Mistakes {
			t.Errorf("%s: %s", e.Name, m)
		}
		for _, m := range r.Mutants {
			if m.Outcome == mutate.Survived {
				t.Logf("%s survives: %s %s: %s -> %s", e.Name, m.Field, m.Operator, m.Before, m.After)
			}
		}
		killed, survived = killed+r.Count(mutate.Killed), survived+r.Count(mutate.Survived)
	}
	if score := mutate.Score(killed, survived); score < minNoticed {
		t.Errorf("the fixtures notice %.1f %% of %d changes to conditions; want %d %%", score, killed+survived, minNoticed)
	}
}

// controlOf is the condition of an edge as a control.
func controlOf(e *attackpath.Edge) *v1alpha1.Control {
	c := &v1alpha1.Control{Spec: v1alpha1.ControlSpec{
		Match: v1alpha1.Match{Pods: true}, Variables: e.Condition.Variables, ForEach: e.Condition.ForEach, When: e.Condition.When,
		Require: e.Condition.Require, Versions: e.Condition.Versions, Message: e.Condition.Message, At: e.Condition.At,
	}}
	if e.Condition.Match != nil {
		c.Spec.Match = *e.Condition.Match
	}
	c.Name = e.Name
	return c
}

// controlFixture is the fixture of an edge as one of a control: with a comment at
// each line at which the condition finds something. That it is right to do so is
// the business of TestFixtures.
func controlFixture(t *testing.T, e *attackpath.Edge, c *v1alpha1.Control) string {
	t.Helper()
	var docs []string
	for _, f := range readFixture(t, e.Name) {
		judge, err := control.New(c, control.Options{KubernetesVersion: f.kubernetes})
		if err != nil {
			t.Fatal(err)
		}
		settings := ""
		if !f.kubernetes.IsZero() {
			settings = fmt.Sprintf("# with: {kubernetesVersion: %q}\n", f.kubernetes)
		}
		for _, doc := range strings.Split(f.text, "---\n") {
			lines := slices.DeleteFunc(strings.Split(doc, "\n"), func(line string) bool { return strings.HasPrefix(line, "# ") })
			objects := read(t, strings.Join(lines, "\n"))
			if len(objects) != 1 {
				continue
			}
			if judge.Matches(objects[0].GroupKind()) {
				for _, found := range judge.Judge(objects[0], nil).Findings {
					spot, _ := objects[0].Root.SpotOf(found.Path)
					lines[spot.Line-1] += fmt.Sprintf(" # %s %q", wanted(found.Outcome), e.Name)
				}
			}
			docs = append(docs, settings+strings.Join(lines, "\n"))
		}
	}
	text := strings.Join(docs, "---\n")
	for _, word := range []string{"want", "unknown"} {
		text = strings.ReplaceAll(text, fmt.Sprintf("%q # %s ", e.Name, word), fmt.Sprintf("%q ", e.Name))
	}
	return text
}

func wanted(outcome verdict.Outcome) string {
	if outcome == verdict.Fail {
		return "want"
	}
	return "unknown"
}
