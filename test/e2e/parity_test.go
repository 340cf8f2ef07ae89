// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"sconce.dev/sconce/audit"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/generate"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source/cluster"
	"sconce.dev/sconce/verdict"
)

// judges are the four that judge by one control with the settings of a fixture:
// each may be given another control than the others, to see that it is noticed.
type judges struct {
	control             string
	row                 string // of the table
	name                string // of the policy, and in the names of users
	make                func() // fills what follows
	scan, webhook, feed *engine.Engine
	policy              *generate.Validating // nil where there is none
}

// parityCase is an object, to be judged by one control.
type parityCase struct {
	*judges
	// manifest is the object as the fixture has it, sent what of it is sent,
	// with what the API server insists on, and stored what became of that.
	manifest     *object.Object
	sent, stored *unstructured.Unstructured
	kind         cluster.Kind
	// exists says that the object is there, so that it is sent as an update;
	// created, that it was made from a fixture.
	exists, created bool
	// live is what source/cluster makes of what is stored.
	live *object.Object
	said [ways]answer
}

// The ways to come to a verdict. The first is what the others are held against.
const (
	scanWay = iota
	policyWay
	webhookWay
	auditWay
	ways
)

var wayNames = [ways]string{"scan", "native policy", "webhook", "audit"}

// answer is what a way says of a case; none where it does not judge it.
type answer struct {
	outcome verdict.Outcome
	err     error
}

func (a answer) none() bool { return a == answer{} }

// tally counts what was said by one control.
type tally struct {
	cases         int
	outcomes      map[verdict.Outcome]int
	judged, agree [ways]int
}

func newTally() *tally { return &tally{outcomes: map[verdict.Outcome]int{}} }

func (n *tally) add(m *tally) {
	n.cases += m.cases
	for o, count := range m.outcomes {
		n.outcomes[o] += count
	}
	for i := range m.judged {
		n.judged[i] += m.judged[i]
		n.agree[i] += m.agree[i]
	}
}

// parityTable counts how far the ways agree with the first of them.
type parityTable struct {
	controls map[string]*tally // by row
	differ   []string
}

// add adds what was said of a case.
func (p *parityTable) add(c *parityCase) {
	n := p.controls[c.row]
	if n == nil {
		n = newTally()
		p.controls[c.row] = n
	}
	first := c.said[scanWay].outcome
	n.cases++
	n.outcomes[first]++
	for way, a := range c.said {
		if a.none() {
			continue
		}
		n.judged[way]++
		if a.err == nil && a.outcome == first {
			n.agree[way]++
			continue
		}
		p.differ = append(p.differ, fmt.Sprintf("%s: %s (update %v): %s says %s, %s says %s (%v)", c.control, c.manifest.Ref, c.exists, wayNames[scanWay], first, wayNames[way], a.outcome, a.err))
	}
}

// total is the sum of the table.
func (p *parityTable) total() *tally {
	out := newTally()
	for _, n := range p.controls {
		out.add(n)
	}
	return out
}

// String is the table.
func (p *parityTable) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	_, _ = fmt.Fprint(w, "\nCONTROL\tCASES\tPASS\tFAIL\tUNKNOWN")
	for _, name := range wayNames {
		_, _ = fmt.Fprintf(w, "\t%s", strings.ToUpper(name))
	}
	line := func(name string, n *tally) {
		_, _ = fmt.Fprintf(w, "\n%s\t%d\t%d\t%d\t%d", name, n.cases, n.outcomes[verdict.Pass], n.outcomes[verdict.Fail], n.outcomes[verdict.Unknown])
		for i := range n.judged {
			cell := "-"
			if n.judged[i] > 0 {
				cell = fmt.Sprintf("%d/%d", n.agree[i], n.judged[i])
			}
			_, _ = fmt.Fprintf(w, "\t%s", cell)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.controls)) {
		line(name, p.controls[name])
	}
	line(fmt.Sprintf("%d controls", len(p.controls)), p.total())
	_ = w.Flush()
	return b.String()
}

// byScan judges the stored object as a scan of a file does.
func byScan(c *parityCase) (verdict.Outcome, error) { return scan(c.scan, c.stored) }

func scan(e *engine.Engine, u *unstructured.Unstructured) (verdict.Outcome, error) {
	text, err := yaml.Marshal(u.Object)
	if err != nil {
		return "", err
	}
	root, err := object.ParseYAML(object.Text{Bytes: text, Line: 1})
	if err != nil {
		return "", err
	}
	objects, err := object.FromNode(root, &object.Origin{Source: "stored.yaml", Text: text, FirstLine: 1})
	if err != nil {
		return "", err
	}
	if len(objects) != 1 {
		return "", fmt.Errorf("it holds %d objects", len(objects))
	}
	return worst(e.Judge(objects[0]).Findings), nil
}

// worst is what findings come to.
func worst(findings []verdict.Finding) verdict.Outcome {
	out := verdict.Pass
	for i := range findings {
		switch f := &findings[i]; {
		case f.Excepted != nil:
		case f.Outcome == verdict.Fail:
			return verdict.Fail
		default:
			out = f.Outcome
		}
	}
	return out
}

// byAudit judges the object as source/cluster reads it, as the agent's audit
// does.
func byAudit(c *parityCase) (verdict.Outcome, error) {
	if c.live == nil {
		return "", errors.New("source/cluster has not yielded it")
	}
	state := audit.New(c.feed, audit.Options{})
	delta := state.Set(c.live)
	found := state.Object(c.live.Ref)
	if len(found) != len(delta.Appeared) {
		return "", fmt.Errorf("%d findings appeared, %d are known", len(delta.Appeared), len(found))
	}
	return worst(found), nil
}

// byPolicy judges by the policy in the API server, which is in force for a user
// of its name.
func (s *parityServer) byPolicy(c *parityCase) (verdict.Outcome, error) {
	err := s.send(policyUser+c.name, c)
	return policyVerdict(c.name, err)
}

// policyVerdict reads a policy's verdict from the answer to a request.
func policyVerdict(policy string, err error) (verdict.Outcome, error) {
	if err == nil {
		return verdict.Pass, nil
	}
	_, said, ok := strings.Cut(err.Error(), "ValidatingAdmissionPolicy '"+policy+"'")
	if !ok {
		return "", err
	}
	name, _, _ := strings.Cut(policy, ".")
	if strings.Contains(said, "denied request: "+name+": ") {
		return verdict.Fail, nil
	}
	return verdict.Unknown, nil
}

// asksWebhooks says whether the API server asks webhooks about an object: not
// about what says which are asked.
func asksWebhooks(c *parityCase) bool {
	return c.kind.Group != admissionregistrationv1.GroupName
}

// byWebhook judges by Sconce's webhook, which judges by what its user's name
// says.
func (s *parityServer) byWebhook(c *parityCase) (verdict.Outcome, error) {
	err := s.send(webhookUser+c.name, c)
	if err == nil {
		return verdict.Pass, nil
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !strings.Contains(err.Error(), "does not meet 1 control of baseline parity:\n- "+c.control+": ") {
		return "", err
	}
	for _, cause := range status.Status().Details.Causes {
		if !strings.HasPrefix(cause.Message, c.control+": could not be decided, so it is not let through: ") {
			return verdict.Fail, nil
		}
	}
	return verdict.Unknown, nil
}

// send sends a case as a user, to be judged and not to be stored.
func (s *parityServer) send(user string, c *parityCase) error {
	_, err := s.try(asUser(context.Background(), user), c)
	return err
}

// try has the API server say what it would store of a case.
func (s *parityServer) try(ctx context.Context, c *parityCase) (*unstructured.Unstructured, error) {
	if c.exists {
		return s.resource(c).Update(ctx, c.sent, metav1.UpdateOptions{DryRun: []string{metav1.DryRunAll}})
	}
	return s.resource(c).Create(ctx, c.sent, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

func (s *parityServer) resource(c *parityCase) dynamic.ResourceInterface {
	r := s.client.Resource(schema.GroupVersionResource{Group: c.kind.Group, Version: c.kind.Version, Resource: c.kind.Resource})
	if c.kind.Namespaced {
		return r.Namespace(cmp.Or(c.manifest.Namespace, "default"))
	}
	return r
}

// The users that the judges are in force for: what is sent as another is judged
// by none.
const (
	policyUser  = "policy:"
	webhookUser = "webhook:"
)

type userKey struct{}

// asUser has requests sent as a user.
func asUser(ctx context.Context, user string) context.Context {
	return context.WithValue(ctx, userKey{}, user)
}

// impersonator sends requests as the user of their context: a client for each
// would be a thousand clients.
type impersonator struct{ http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (i impersonator) RoundTrip(r *http.Request) (*http.Response, error) {
	if user, ok := r.Context().Value(userKey{}).(string); ok {
		r = r.Clone(r.Context())
		r.Header.Set("Impersonate-User", user)
		r.Header.Set("Impersonate-Group", "system:masters")
	}
	return i.RoundTripper.RoundTrip(r)
}

func fromCluster(u *unstructured.Unstructured) (*object.Object, error) {
	objects, err := object.FromNode(object.FromAny(u.Object), &object.Origin{})
	if err != nil {
		return nil, err
	}
	return objects[0], nil
}

// completed returns an object with what the API server insists on and fixtures
// leave out.
func completed(o *object.Object) *unstructured.Unstructured {
	u := toUnstructured(o)
	if u.GetName() == "" && u.GetGenerateName() == "" {
		u.SetName("nameless")
	}
	add := func(value any, fields ...string) {
		if _, ok, err := unstructured.NestedFieldNoCopy(u.Object, fields...); !ok && err == nil {
			_ = unstructured.SetNestedField(u.Object, value, fields...) // what is no map stays as it is
		}
	}
	completePod(u, o)
	switch o.Kind {
	case "Service":
		if kind, _, _ := unstructured.NestedString(u.Object, "spec", "type"); kind != "ExternalName" {
			add([]any{map[string]any{"port": int64(80)}}, "spec", "ports")
		}
	case "Ingress":
		if rules, _, _ := unstructured.NestedSlice(u.Object, "spec", "rules"); len(rules) == 0 {
			backend := map[string]any{"name": "web", "port": map[string]any{"number": int64(80)}}
			add(map[string]any{"service": backend}, "spec", "defaultBackend")
		}
	case "PersistentVolumeClaim":
		add([]any{"ReadWriteOnce"}, "spec", "accessModes")
		add(map[string]any{"requests": map[string]any{"storage": "1Gi"}}, "spec", "resources")
	case "PersistentVolume":
		add([]any{"ReadWriteOnce"}, "spec", "accessModes")
		add(map[string]any{"storage": "1Gi"}, "spec", "capacity")
	}
	return u
}

// completePod names the containers of what holds a pod, gives them images, and
// the pods to those who select them.
func completePod(u *unstructured.Unstructured, o *object.Object) {
	at, ok := object.PodPath(o.GroupKind())
	if !ok {
		return
	}
	var pod []string
	for _, step := range at {
		pod = append(pod, step.Field)
	}
	in := func(fields ...string) []string { return slices.Concat(pod, fields) }
	if _, selected, _ := unstructured.NestedFieldNoCopy(u.Object, "spec", "selector"); !selected && o.GroupKind().Group == "apps" {
		_ = unstructured.SetNestedField(u.Object, "web", "spec", "selector", "matchLabels", "app")
		_ = unstructured.SetNestedField(u.Object, "web", in("metadata", "labels", "app")...)
	}
	for _, list := range []string{"initContainers", "containers"} {
		containers, found, err := unstructured.NestedSlice(u.Object, in("spec", list)...)
		if err != nil || !found && list == "initContainers" {
			continue
		}
		if len(containers) == 0 && list == "containers" {
			containers = []any{map[string]any{}}
		}
		for i := range containers {
			if c, ok := containers[i].(map[string]any); ok {
				completeContainer(c, fmt.Sprintf("%s-%d", strings.ToLower(list), i))
			}
		}
		_ = unstructured.SetNestedSlice(u.Object, containers, in("spec", list)...)
	}
}

func completeContainer(c map[string]any, name string) {
	if c["name"] == nil {
		c["name"] = name
	}
	if c["image"] == nil {
		c["image"] = "registry.example.com/app:1.0"
	}
}

func toUnstructured(o *object.Object) *unstructured.Unstructured {
	out := map[string]any{}
	if err := json.Unmarshal(o.Root.JSON(), &out); err != nil {
		panic(err) // what is printed as JSON is JSON
	}
	return &unstructured.Unstructured{Object: out}
}

// TestParity judges every fixture of every control that one object decides in
// all ways: they must agree.
func TestParity(t *testing.T) {
	s := startParity(t)
	l := catalogue(t)
	began := time.Now()
	s.collect(t, l, l.Controls(), scanWay)
	t.Logf("fixtures: %v", time.Since(began).Round(10*time.Millisecond))
	table := s.judgeAll(t)
	s.report(t, table)
	for _, d := range table.differ {
		t.Error(d)
	}
	s.checkDefaulted(t)
	sum := table.total()
	if sum.outcomes[verdict.Fail] < 1000 || sum.outcomes[verdict.Pass] < 1000 || sum.outcomes[verdict.Unknown] == 0 {
		t.Errorf("verdicts %v: most were not held against anything", sum.outcomes)
	}
	for i, least := range []int{scanWay: 2000, policyWay: 1500, webhookWay: 2000, auditWay: 2000} {
		if sum.judged[i] < least {
			t.Errorf("%s judged %d cases; want at least %d", wayNames[i], sum.judged[i], least)
		}
	}
}

// TestParityNoticesABrokenControl holds that each column of the table turns red,
// and no other, where that judges by another control.
func TestParityNoticesABrokenControl(t *testing.T) {
	l := catalogue(t)
	s := startParity(t)
	names := []string{"privileged-container", "api-server-anonymous-auth"}
	for b := breaks(policyWay); b <= auditWay; b++ {
		s.collect(t, l, names, b)
	}
	table := s.judgeAll(t)
	t.Log(table)
	for b := breaks(policyWay); b <= auditWay; b++ {
		for _, name := range names {
			n := table.controls[b.row(name)]
			if n == nil {
				t.Fatalf("no object was judged by %s", name)
			}
			for way := range ways {
				red := n.agree[way] < n.judged[way]
				if want := breaks(way) == b && n.judged[way] > 0; red != want {
					t.Errorf("%s: the column of the %s is red: %v", b.row(name), wayNames[way], red)
				}
			}
		}
	}
}

// defaults are where an object comes to another verdict as it is stored than as
// it is written, by why that is right; docs/policies.md says it too.
var defaults = map[string][]string{
	"what names no namespace is made in default": {
		"default-namespace: Service (no name): pass as it is written, fail as it is stored",
		"default-namespace: Service web: pass as it is written, fail as it is stored",
	},
	"a port of a pod on the node's network is one of the node; the Pod Security reference says the same of the same objects": {
		"host-port: Pod on-the-node: pass as it is written, fail as it is stored",
	},
	"the API server drops an empty list of rules, and with it that somebody meant to deny something; nothing is denied": {
		"network-policy-unused-rules: NetworkPolicy.networking.k8s.io denies-nothing-either: fail as it is written, pass as it is stored",
		"network-policy-unused-rules: NetworkPolicy.networking.k8s.io denies-nothing: fail as it is written, pass as it is stored",
		"network-policy-unused-rules: NetworkPolicy.networking.k8s.io ingress-forgotten: fail as it is written, pass as it is stored",
	},
	"a status cannot be sent, so that what runs is taken for what is to run": {
		"node-name: Pod running: pass as it is written, fail as it is stored",
	},
	"the token that is mounted by itself lives 3607 seconds, more than the fixture's parameters let it": {
		"projected-token-lifetime: Pod hour: pass as it is written, fail as it is stored",
		"projected-token-lifetime: Pod other: pass as it is written, fail as it is stored",
	},
	"the API server drops a field that it does not know, and what is left is an emptyDir": {
		"restricted-volume-types: Pod new: fail as it is written, pass as it is stored",
	},
	"a Secret in a cluster is where it belongs": {
		"secret-in-manifest: Secret certain: fail as it is written, pass as it is stored",
		"secret-in-manifest: Secret db: fail as it is written, pass as it is stored",
		"secret-in-manifest: Secret ignored: fail as it is written, pass as it is stored",
		"secret-in-manifest: Secret listed: fail as it is written, pass as it is stored",
		"secret-in-manifest: Secret registry: fail as it is written, pass as it is stored",
		"secret-in-manifest: Secret tls: fail as it is written, pass as it is stored",
	},
}

// checkDefaulted holds where defaulting changes a verdict against what is known.
func (s *parityServer) checkDefaulted(t *testing.T) {
	t.Helper()
	known := map[string]bool{}
	for why, places := range defaults {
		t.Logf("%s: %s", why, strings.Join(places, "; "))
		for _, where := range places {
			known[where] = true
			if !s.defaulted[where] {
				t.Errorf("%s: that is no more so; take it out of the list", where)
			}
		}
	}
	for _, where := range slices.Sorted(maps.Keys(s.defaulted)) {
		if !known[where] {
			t.Errorf("the API server's defaults change a verdict: %s; mend the control, or explain it in docs/policies.md and list it", where)
		}
	}
}
