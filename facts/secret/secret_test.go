// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// read returns the object that a text holds.
func read(tb testing.TB, text string) *object.Object {
	tb.Helper()
	objects, err := parse(text)
	if err != nil || len(objects) != 1 {
		tb.Fatal(err, len(objects))
	}
	return objects[0]
}

func parse(text string) ([]*object.Object, error) {
	root, err := object.ParseYAML(object.Text{Bytes: []byte(text), Line: 1})
	if err != nil || root == nil {
		return nil, err
	}
	return object.FromNode(root, &object.Origin{Source: "x", Text: []byte(text), FirstLine: 1})
}

// tell returns what the facts about an object say, one credential a line: the
// kind of the fact, where it stands in the object, its name and what it is.
func tell(o *object.Object) []string {
	var out []string
	for _, fact := range Single.Derive(o, &facts.Env{}) {
		items := fact.Root.At("facts", "credentials").Items
		if len(items) == 0 {
			out = append(out, fact.Kind)
		}
		for i, item := range items {
			at := fact.SourcePath(object.Path{{Field: "facts"}, {Field: "credentials"}, {Item: true, Index: i}})
			out = append(out, fmt.Sprintf("%s %s: %s = %s", fact.Kind, at, item.Get("name").Str(), item.Get("label").Str()+item.Text))
		}
	}
	return out
}

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
  annotations: {example.com/database: "postgres://shop:hunter2@db/shop"}
spec:
  template:
    metadata:
      annotations: {example.com/header: "Authorization: Basic c2hvcDpodW50ZXIy"}
    spec:
      initContainers:
      - name: init
        env: [{name: DB_PASSWORD, value: hunter2}]
      containers:
      - name: app
        image: example.com/app
        env:
        - {name: LEVEL, value: debug}
        - {name: DB_PASSWORD, value: hunter2}
        - {name: NUMBER_PASSWORD, value: 123456}
        - {name: DATABASE, value: "postgres://shop:hunter2@db/shop"}
        - {name: FROM_SECRET, valueFrom: {secretKeyRef: {name: db, key: password}}}
        command: [sh, -c, "export A_PASSWORD=hunter2\nexport B_PASSWORD=hunter3\n"]
        args: [--api-token, 0a1b2c3d, --password=VERYSECRET, --root-password, VERYSECRET]
        lifecycle: {preStop: {exec: {command: [redis-cli, -a, hunter2, shutdown]}}}
        livenessProbe: {httpGet: {httpHeaders: [{name: X-Api-Key, value: 0a1b2c3d4e5f}, {name: Authorization, value: Bearer 0a1b2c3d4e5f0a1b2c3d4e5f}]}}
      - name: app
        image: example.com/app
        env: [{name: DB_PASSWORD, value: hunter2}]
      ephemeralContainers:
      - name: debug
        args: ["https://bot:hunter2@example.com"]
`

// TestPlaces holds where each credential stands, and under which name.
func TestPlaces(t *testing.T) {
	cases := map[string]struct {
		text string
		want []string
	}{
		"deployment": {deployment, []string{
			"ContainerCredentials spec.template.spec.initContainers[init].env[DB_PASSWORD].value: init/DB_PASSWORD = password",
			"ContainerCredentials spec.template.spec.containers[0].env[DB_PASSWORD].value: app/DB_PASSWORD = password",
			"ContainerCredentials spec.template.spec.containers[0].env[NUMBER_PASSWORD].value: app/NUMBER_PASSWORD = password",
			"ContainerCredentials spec.template.spec.containers[0].env[DATABASE].value: app/DATABASE = URL with a password",
			"ContainerCredentials spec.template.spec.containers[0].command[2]: app/A_PASSWORD = password",
			"ContainerCredentials spec.template.spec.containers[0].command[2]: app/B_PASSWORD = password",
			"ContainerCredentials spec.template.spec.containers[0].args[1]: app/--api-token = token",
			"ContainerCredentials spec.template.spec.containers[0].args[2]: app/password = password",
			"ContainerCredentials spec.template.spec.containers[0].args[4]: app/--root-password = password",
			"ContainerCredentials spec.template.spec.containers[0].lifecycle.preStop.exec.command[2]: app/command[2] = password",
			"ContainerCredentials spec.template.spec.containers[0].livenessProbe.httpGet.httpHeaders[X-Api-Key].value: app/X-Api-Key = key",
			"ContainerCredentials spec.template.spec.containers[0].livenessProbe.httpGet.httpHeaders[Authorization].value: app/Authorization = token",
			"ContainerCredentials spec.template.spec.containers[1].env[DB_PASSWORD].value: app/DB_PASSWORD#2 = password",
			"ContainerCredentials spec.template.spec.ephemeralContainers[debug].args[0]: debug/args[0] = URL with a password",
			"ObjectCredentials spec.template.metadata.annotations['example.com/header']: example.com/header = token",
			"ObjectCredentials metadata.annotations['example.com/database']: example.com/database = URL with a password",
		}},
		"custom resource": {`
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: shop}
spec:
  source: {url: "https://bot:hunter2@example.com/shop.git"}
  template: {spec: {containers: [{name: app, env: [{name: DB_PASSWORD, value: hunter2}]}]}}
  job: {image: x, args: [--password, hunter2]}
  other: {args: [{password: hunter2}], env: {PASSWORD: hunter2}}
status: {url: "https://bot:hunter2@example.com/shop.git"}
`, []string{
			"ContainerCredentials spec.template.spec.containers[app].env[DB_PASSWORD].value: app/DB_PASSWORD = password",
			"ContainerCredentials spec.job.args[1]: --password = password",
			"ObjectCredentials spec.source.url: url = URL with a password",
		}},
		"pod without": {"apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: i}]}\n", []string{"ContainerCredentials"}},
		"annotated":   {"apiVersion: v1\nkind: Service\nmetadata: {name: p, annotations: {a: b}}\n", []string{"ObjectCredentials"}},
		"nothing":     {"apiVersion: v1\nkind: Service\nmetadata: {name: p}\nspec: {ports: []}\n", nil},
		"secret": {`
apiVersion: v1
kind: Secret
metadata: {name: s}
stringData: {password: hunter2, user: shop}
data: {token: MGExYjJjM2Q0ZTVm, app.properties: "YT1iCmRiLnBhc3N3b3JkPWh1bnRlcjIK"}
`, []string{
			"SecretCredentials stringData.password: password = password",
			"SecretCredentials data.token: token = token",
			"SecretCredentials data['app.properties']: app.properties/db.password = password",
		}},
		"foreign types": {`
apiVersion: v1
kind: Pod
metadata: {annotations: [a]}
spec:
  containers:
  - a string
  - {name: 1, env: {PASSWORD: hunter2}, args: --password=hunter2, command: [[a], {b: c}], livenessProbe: []}
  - {name: c, env: [PASSWORD=hunter2, {name: [1], value: {a: b}}, {name: PASSWORD, value: [hunter2]}, null]}
`, []string{"ContainerCredentials"}},
	}
	for name, c := range cases {
		if diff := cmp.Diff(c.want, tell(read(t, c.text))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestLines holds that a credential is found at its line, and its line in the
// text that it stands in.
func TestLines(t *testing.T) {
	o := read(t, deployment)
	fact := Single.Derive(o, &facts.Env{})[0]
	lines := strings.Split(deployment, "\n")
	for i, item := range fact.Root.At("facts", "credentials").Items {
		p := fact.Position(object.Path{{Field: "facts"}, {Field: "credentials"}, {Item: true, Index: i}})
		line := lines[p.Line-1]
		if key := item.Get("key").Str(); !strings.Contains(line, key) && !strings.Contains(key, "[") {
			t.Errorf("%s is found at line %d: %s", key, p.Line, line)
		}
	}
	if n := fact.Root.At("facts", "credentials").Items[5].Get("line"); n.Int() != 2 {
		t.Errorf("B_PASSWORD stands in line %s of the script; want 2", n.Scalar())
	}
}

// TestUnknown holds that what could not be read is unknown, once.
func TestUnknown(t *testing.T) {
	why := object.NewUnknown("computed later")
	for _, path := range []string{"spec", "spec.template.spec.containers", "spec.template.spec.containers.0.env", "spec.template.spec.containers.0.args"} {
		o := read(t, deployment)
		o = o.WithRoot(with(o.Root, strings.Split(path, "."), why))
		if out := strings.Join(tell(o), "\n"); strings.Count(out, "computed later") != 1 {
			t.Errorf("%s is unknown, and the facts say:\n%s", path, out)
		}
	}
	custom := read(t, "apiVersion: example.com/v1\nkind: Source\nspec: {url: a}\n")
	if out := tell(custom.WithRoot(with(custom.Root, []string{"spec", "url"}, why))); !slices.Equal(out, []string{"ObjectCredentials spec.url:  = computed later"}) {
		t.Errorf("a field is unknown, and the facts say: %q", out)
	}
	for _, text := range []string{"kind: ConfigMap\ndata: {a: b}", "kind: Secret\nstringData: {a: b}"} {
		o := read(t, "apiVersion: v1\nmetadata: {name: x}\n"+text)
		root := *o.Root
		last := &root.Fields[len(root.Fields)-1]
		for _, value := range []*object.Node{why, facts.Map(facts.Field("a", why))} {
			last.Value = value
			if out := strings.Join(tell(o.WithRoot(&root)), "\n"); strings.Count(out, "computed later") != 1 {
				t.Errorf("%s: the facts say:\n%s", text, out)
			}
		}
	}
}

// TestGenerated holds that what a chart makes up as it is rendered is no value of
// its manifests, and what stands in them is.
func TestGenerated(t *testing.T) {
	o := read(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {password: kW3vR8pL1xZ6}\n")
	for line, want := range map[int]int{0: 0, 4: 1} {
		origin := object.Origin{Renderer: "helm", Locate: func(_ *object.Node, path object.Path) object.Position {
			if len(path) > 1 {
				return object.Position{Line: line}
			}
			return object.Position{Line: 2}
		}}
		rendered := &object.Object{Ref: o.Ref, Root: o.Root, Origin: &origin}
		if items := Single.Derive(rendered, &facts.Env{})[0].Root.At("facts", "credentials").Items; len(items) != want {
			t.Errorf("the value stands at line %d of a template, and %d credentials are found; want %d", line, len(items), want)
		}
	}
}

// with returns a tree with another value at a path.
func with(n *object.Node, path []string, value *object.Node) *object.Node {
	if len(path) == 0 {
		return value
	}
	out := *n
	if n.Kind == object.List {
		out.Items = slices.Clone(n.Items)
		out.Items[0] = with(out.Items[0], path[1:], value)
		return &out
	}
	out.Fields = slices.Clone(n.Fields)
	for i := range out.Fields {
		if out.Fields[i].Key == path[0] {
			out.Fields[i].Value = with(out.Fields[i].Value, path[1:], value)
		}
	}
	return &out
}

// TestValueless holds that facts hold no value.
func TestValueless(t *testing.T) {
	for _, fact := range Single.Derive(read(t, deployment), &facts.Env{}) {
		data, err := json.Marshal(fact.Root.Get("facts").Any())
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"hunter", "123456", "0a1b2c", "c2hv", "VERYSECRET"} {
			if strings.Contains(string(data), secret) {
				t.Errorf("%s stands in a fact: %s", secret, data)
			}
		}
	}
}

// TestMask holds that a line shows no credential of its object, whole or cut.
func TestMask(t *testing.T) {
	const secret = `kJ8"x\y'z4Q2w`
	quoted, _ := json.Marshal(secret)
	o := read(t, `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "env": [{"name": "PASSWORD", "value": `+string(quoted)+`}]}]}}`)
	mask := MaskOf(o)
	for _, line := range []string{
		"value: " + secret, `"value":` + string(quoted) + `}`, "value: '" + strings.ReplaceAll(secret, "'", "''") + "'", secret[5:] + " and more", "before " + secret[:8],
	} {
		got := mask.Hide(line)
		if strings.Contains(got, "kJ8") || strings.Contains(got, "4Q2w") {
			t.Errorf("%s becomes %s", line, got)
		}
	}
	o = read(t, "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [{name: postgres, env: [{name: PASSWORD, value: postgres}]}]}}")
	if line := `container "postgres" runs privileged`; MaskOf(o).Hide(line) != line {
		t.Errorf("%q becomes %q", line, MaskOf(o).Hide(line))
	}
	if line := "nothing to hide"; mask.Hide(line) != line {
		t.Errorf("%q becomes %q", line, mask.Hide(line))
	}
}

// TestMaskOfMany holds that a line is masked as if every credential were looked
// for in it, and that this takes no time where there are many.
func TestMaskOfMany(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	text := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "ab"[random.IntN(2)]
		}
		return string(b)
	}
	for range 3000 {
		var secrets []string
		for range 1 + random.IntN(12) {
			secrets = append(secrets, text(minMasked+random.IntN(8)))
		}
		m, line := newMask(secrets), text(random.IntN(24))
		want := line
		for _, s := range m.all {
			want = strings.ReplaceAll(want, s, verdict.Masked)
			if rest, ok := cutHead(want, s); ok {
				want = verdict.Masked + rest
			}
			if rest, ok := cutTail(want, s); ok {
				want = rest + verdict.Masked
			}
		}
		if got := m.Hide(line); got != want {
			t.Fatalf("%q without %q: got %q, want %q", line, m.all, got, want)
		}
	}
	var b strings.Builder
	b.WriteString("{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {")
	for i := range 10000 {
		fmt.Fprintf(&b, "PASSWORD_%d: kJ8xyz4Q2w%05dPq, ", i, i)
	}
	o := read(t, b.String()+"}}")
	start := time.Now()
	m := MaskOf(o)
	for i := range 10000 {
		secret := fmt.Sprintf("kJ8xyz4Q2w%05dPq", i)
		for range 3 {
			if got, want := m.Hide("PASSWORD: "+secret+" is a password"), "PASSWORD: "+verdict.Masked+" is a password"; got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
	var nested []string
	for n := range 900 {
		nested = append(nested, strings.Repeat("a", minMasked+n))
	}
	newMask(nested).Hide(strings.Repeat("a", 100000))
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("10,000 credentials take %v", took)
	}
}

// FuzzDerive holds for any object that its facts can be made, that their places
// lead to values of the object, and that no two credentials have one name.
func FuzzDerive(f *testing.F) {
	f.Add(deployment)
	f.Add("apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {a: '/9j/4AAQSkZJRgABAQAAAQABAAD/2w=='}\n")
	f.Add("apiVersion: v1\nkind: ConfigMap\nmetadata: {annotations: {" + lastApplied + ": '{\"data\": {\"a\": \"b\"}}'}}\nbinaryData: {a: YQ==}\n")
	f.Add("apiVersion: v1\nkind: Pod\nspec: {containers: [{args: [--password, [], {}]}], env: [{value: 1}]}\n")
	f.Fuzz(func(t *testing.T, text string) {
		objects, err := parse(text)
		if err != nil {
			return
		}
		for _, o := range objects {
			for _, fact := range Single.Derive(o, &facts.Env{}) {
				names := map[string]bool{}
				for i, item := range fact.Root.At("facts", "credentials").Items {
					at := fact.SourcePath(object.Path{{Field: "facts"}, {Field: "credentials"}, {Item: true, Index: i}})
					if o.Root.Lookup(at) == nil {
						t.Fatalf("nothing stands at %s", at)
					}
					if name := item.Get("name").Str(); names[name] {
						t.Fatalf("%s stands twice", name)
					} else {
						names[name] = true
					}
				}
			}
			MaskOf(o).Hide(text)
		}
	})
}

// BenchmarkDerive measures a typical pod, one with a credential, and a ConfigMap
// that holds a file.
func BenchmarkDerive(b *testing.B) {
	const pod = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, namespace: shop, labels: {app.kubernetes.io/name: shop}, annotations: {example.com/owner: team-shop}}
spec:
  replicas: 2
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}, annotations: {prometheus.io/scrape: "true"}}
    spec:
      serviceAccountName: shop
      securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: app
        image: registry.example.com/shop/app:1.2.3
        args: [--listen=:8080, --database=/data/shop.db, --log-level=info]
        env:
        - {name: LOG_LEVEL, value: info}
        - {name: DB_HOST, value: db.shop.svc}
        - {name: DB_USER, value: shop}
        - {name: DB_PASSWORD, SECRET}
        - {name: API_URL, value: "https://api.example.com/v1"}
        - {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: "http://otel.monitoring:4317"}
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /ready, port: 8080}}
        volumeMounts: [{name: data, mountPath: /data}]
      - name: proxy
        image: registry.example.com/proxy:2
        args: [--upstream=http://127.0.0.1:8080]
      volumes: [{name: data, emptyDir: {}}]
`
	text := strings.Repeat("key = value\nserver.port=8080\nserver.tokens=off\nurl=https://example.com/a\n", 100)
	for name, o := range map[string]*object.Object{
		"none":      read(b, strings.Replace(pod, "SECRET", "valueFrom: {secretKeyRef: {name: db, key: password}}", 1)),
		"hit":       read(b, strings.Replace(pod, "SECRET", "value: hunter2", 1)),
		"configmap": read(b, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  app.properties: |\n    "+strings.ReplaceAll(text, "\n", "\n    ")+"\n"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Single.Derive(o, &facts.Env{})
			}
		})
	}
}
