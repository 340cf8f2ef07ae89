// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"
)

// tree reads YAML as objects are read: whole numbers are int64.
func tree(t testing.TB, text string) any {
	t.Helper()
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// What matching comes to. A failure is followed by its path.
const (
	matches = "matches"
	skips   = "skips"
	breaks  = "error at "
	fails   = "fails at "
)

func outcomeOf(m *Mismatch) string {
	switch {
	case m == nil:
		return matches
	case m.Skip:
		return skips
	case m.Error:
		return breaks + strings.Join(m.Path, "/")
	}
	return fails + strings.Join(m.Path, "/")
}

func TestMatch(t *testing.T) {
	const pod = `
metadata: {name: web, uid: null, labels: {app: shop, team: red, "example.com/tier": front}}
spec:
  hostNetwork: false
  replicas: 3
  containers:
  - {name: a, image: "nginx:1.25", ports: [80, 443], limits: {memory: 512Mi}}
  - {name: b, image: "busybox:latest", imagePullPolicy: Always}
  volumes:
  - {name: v, hostPath: {path: /etc}}
  - {name: w, emptyDir: {}}
`
	for name, c := range map[string]struct{ pattern, want string }{
		"field":                              {`metadata: {name: web}`, matches},
		"other value":                        {`metadata: {name: api}`, fails + "metadata/name"},
		"field that is not there":            {`metadata: {namespace: "?*"}`, fails + "metadata/namespace"},
		"any value":                          {`metadata: {name: "*"}`, matches},
		"any value that is not there":        {`metadata: {namespace: "*"}`, fails + "metadata/namespace"},
		"any value, where there is null":     {`metadata: {uid: "*"}`, fails + "metadata/uid"},
		"what holds anchors, last key first": {`{metadata: {=(name): api}, spec: {=(replicas): 4}}`, fails + "spec/replicas"},
		"a number":                           {`spec: {replicas: 3}`, matches},
		"a number as text":                   {`spec: {replicas: ">= 2"}`, matches},
		"a range":                            {`spec: {replicas: 4-9}`, fails + "spec/replicas"},
		"nothing counts as 0":                {`spec: {minReadySeconds: "<= 5"}`, matches},
		"null":                               {`spec: {hostNetwork: null}`, matches},
		"a map for a scalar":                 {`metadata: {name: {first: web}}`, fails + "metadata/name"},
		"a list for a map":                   {`metadata: [a]`, fails + "metadata"},
		"each item":                          {`spec: {containers: [{name: "?"}]}`, matches},
		"one item fails":                     {`spec: {containers: [{image: "!*:latest"}]}`, fails + "spec/containers/1/image"},
		"only the first pattern of items":    {`spec: {containers: [{name: "?"}, {name: never}]}`, matches},
		"each scalar of a list":              {`spec: {containers: [{(ports): ["<1024"]}]}`, matches},
		"a list where a scalar is asked for": {`spec: {containers: [{(ports): "80 | 443"}]}`, matches},
		"an empty pattern of a list":         {`spec: {containers: []}`, fails + "spec/containers"},

		"a condition met":                            {`spec: {containers: [{(image): "*:latest", imagePullPolicy: Always}]}`, matches},
		"a condition met, and the rest not":          {`spec: {containers: [{(image): "*:latest", imagePullPolicy: Never}]}`, fails + "spec/containers/1/imagePullPolicy"},
		"a condition that no item meets":             {`spec: {containers: [{(image): "alpine", imagePullPolicy: Never}]}`, skips},
		"a condition not met, at the top":            {`(spec): {hostNetwork: true}`, skips},
		"a condition that is not there":              {`spec: {(serviceAccountName): "?*", replicas: 9}`, skips},
		"a condition not met outweighs one that is":  {`spec: {(hostNetwork): false, (replicas): 9}`, skips},
		"a condition not met outweighs what follows": {`{(kind): Service, X(metadata): null}`, skips},
		"a negation below a condition":               {`(spec): {X(replicas): null}`, skips},
		"a global condition not met":                 {`spec: {<(hostNetwork): true, replicas: 9}`, skips},
		"a global condition that is not there":       {`spec: {<(serviceAccountName): x, replicas: 3}`, matches},
		"a global condition in one of the items":     {`spec: {containers: [{<(name): b, image: "busybox*"}]}`, matches},
		"an equality that is not there":              {`spec: {=(serviceAccountName): x}`, matches},
		"an equality that fails":                     {`spec: {=(replicas): 4}`, fails + "spec/replicas"},
		"an equality, and a condition below it":      {`spec: {=(containers): [{(name): c, image: x}]}`, skips},
		"an equality met beside one that skips":      {`spec: {=(containers): [{(name): c, image: x}], =(replicas): 3}`, matches},
		"a negation":                                 {`spec: {X(hostNetwork): null}`, fails + "spec/hostNetwork"},
		"a negation that is not there":               {`spec: {X(hostPID): null}`, matches},
		"a negation in items":                        {`spec: {=(volumes): [{X(hostPath): null}]}`, fails + "spec/volumes/0/hostPath"},
		"an existence":                               {`spec: {^(containers): [{name: b}]}`, matches},
		"an existence that no item meets":            {`spec: {^(containers): [{name: c}]}`, fails + "spec/containers"},
		"an existence that is not there":             {`spec: {^(initContainers): [{name: c}]}`, matches},
		"an existence of no list":                    {`spec: {^(replicas): [{name: c}]}`, fails + "spec/replicas"},
		"an existence without a list":                {`spec: {^(containers): {name: c}}`, fails + "spec/containers"},
		"a failure beside an existence not there":    {`spec: {^(initContainers): [{name: c}], replicas: 4}`, breaks + "spec/replicas"},
		"an anchor that only mutations have":         {`spec: {+(replicas): 3}`, fails + "spec/+(replicas)"},

		"a key with a wildcard":                {`metadata: {labels: {"example.com/*": front}}`, matches},
		"a key with a wildcard that fails":     {`metadata: {labels: {"example.com/*": back}}`, fails + "metadata/labels/example.com/tier"},
		"a wildcard that stands for no key":    {`metadata: {labels: {"other.com/*": "?*"}}`, fails + "metadata/labels/other.com/*"},
		"an anchor with a wildcard":            {`metadata: {labels: {"=(other.com/*)": "?*"}}`, matches},
		"a negation with a wildcard":           {`metadata: {labels: {"X(te*)": ""}}`, fails + "metadata/labels/team"},
		"labels that are no text do not count": {`metadata: {labels: {team: null}}`, matches},
		"unless there are no labels":           {`metadata: {annotations: {team: [a]}}`, fails + "metadata/annotations"},
		"a wildcard below something else":      {`spec: {"repl*": 3}`, fails + "spec/repl*"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Compile(tree(t, c.pattern))
			if err != nil {
				t.Fatal(err)
			}
			m := p.Match(tree(t, pod))
			if got := outcomeOf(m); got != c.want {
				t.Errorf("got %s, want %s (%+v)", got, c.want, m)
			}
			if m != nil && m.Message == "" {
				t.Error("there is no message")
			}
		})
	}
}

func TestMatchListsOfLists(t *testing.T) {
	p, err := Compile(tree(t, `args: [[a], [b]]`))
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`args: [[a, a], [b], [c]]`: matches,
		`args: [[a], [c]]`:         fails + "args/1",
		`args: [[a]]`:              breaks + "args",
	} {
		if got := outcomeOf(p.Match(tree(t, text))); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func TestMatchMetadataInMetadata(t *testing.T) {
	p, err := Compile(tree(t, `metadata: {labels: {team: null}, metadata: {a: x}}`))
	if err != nil {
		t.Fatal(err)
	}
	if m := p.Match(tree(t, `metadata: {labels: {team: red}, metadata: {a: x}}`)); m != nil {
		t.Errorf("got %+v, want that labels which are no text do not count", m)
	}
}

func TestMessages(t *testing.T) {
	for _, c := range []struct{ resource, pattern, want string }{
		{`{a: {b: x}}`, `{a: {b: "y*"}}`, `/a/b is "x"; the pattern asks for "y*"`},
		{`{a: {}}`, `{a: {b: "?*"}}`, `/a/b is not set; the pattern asks for "?*"`},
		{`{a: 1}`, `{X(a): null}`, `/a is there, which the pattern forbids`},
		{`{a: [{b: 1}]}`, `{a: [{(b): 2, c: 1}]}`, `/a/0/b is 1; the pattern asks for 2`},
		{`{kind: Secret, data: {key: czNjcmV0}}`, `{data: {key: ""}}`, `/data/key is secret data; the pattern asks for ""`},
		{`{kind: Secret, type: Opaque}`, `{type: x}`, `/type is "Opaque"; the pattern asks for "x"`},
		{`x`, `{a: 1}`, `the resource is "x"; the pattern asks for a map`},
	} {
		p, err := Compile(tree(t, c.pattern))
		if err != nil {
			t.Fatal(err)
		}
		if m := p.Match(tree(t, c.resource)); m == nil || m.Message != c.want {
			t.Errorf("%s against %s: got %+v, want %s", c.resource, c.pattern, m, c.want)
		}
	}
	p, _ := Compile("short")
	if m := p.Match(strings.Repeat("long", 1000)); len(m.Message) > 400 {
		t.Errorf("the message is %d bytes long", len(m.Message))
	}
}

func TestValueOfAnObjectCannotSkip(t *testing.T) {
	p, err := Compile(map[string]any{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	if m := p.Match(map[string]any{"a": "conditional anchor mismatch"}); m == nil || m.Skip {
		t.Errorf("got %+v, want a failure", m)
	}
}

func TestPatternIsNotChanged(t *testing.T) {
	source := tree(t, `metadata: {labels: {"app*": x}}`)
	p, err := Compile(source)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for name, want := range map[string]string{"app1": matches, "app2": matches, "other": fails + "metadata/labels/app*"} {
			resource := map[string]any{"metadata": map[string]any{"labels": map[string]any{name: "x"}}}
			if got := outcomeOf(p.Match(resource)); got != want {
				t.Errorf("%s: got %s, want %s", name, got, want)
			}
		}
	}
	if diff := cmp.Diff(tree(t, `metadata: {labels: {"app*": x}}`), source); diff != "" {
		t.Error(diff)
	}
}

func TestCompileRefuses(t *testing.T) {
	deep := any("x")
	for range maxDepth + 1 {
		deep = map[string]any{"metadata": deep}
	}
	for name, pattern := range map[string]any{
		"deep": deep,
		"long": strings.Repeat("x", maxText+1),
		"type": map[string]any{"a": struct{}{}},
	} {
		if _, err := Compile(pattern); err == nil {
			t.Errorf("%s: there is no error", name)
		}
	}
}

func TestValue(t *testing.T) {
	for _, c := range []struct {
		value, pattern any
		want           bool
	}{
		{"nginx:1", "nginx:*", true},
		{"", "?*", false},
		{"", "*", true},
		{nil, "*", false},
		{"a", "!a", false},
		{"b", "!a", true},
		{nil, "!a", false},
		{"b", "a | b", true},
		{"c", "a | b", false},
		{"abc", "a* & *c", true},
		{"a|b", "a|b", true}, // the text itself
		{int64(5), "5", true},
		{int64(5), ">4", true},
		{int64(5), "> 4 & < 6", true},
		{5.5, "5-6", true},
		{int64(7), "5-6", false},
		{int64(7), "5!-6", true},
		{int64(0), "-5-5", true},
		{"512Mi", "<=1Gi", true},
		{"2Gi", "<=1Gi", false},
		{"1024Mi", "1Gi", true},
		{"128Mi", "100Mi-1Gi", true},
		{"90s", ">1m", true},
		{"1h", "60m", true},
		{"1h", "<1Gi", false},
		{nil, "<1Gi", true},
		{"x", ">1", false},
		{true, "true", true},
		{1.5, "1.5", true},
		{true, true, true},
		{"true", true, false},
		{"5", int64(5), true},
		{5.0, int64(5), true},
		{5.5, int64(5), false},
		{"5.0", 5.0, true},
		{int64(5), 5.0, true},
		{nil, nil, true},
		{"", nil, true},
		{false, nil, true},
		{int64(1), nil, false},
		{map[string]any{}, nil, false},
		{map[string]any{"a": 1}, map[string]any{}, true},
		{[]any{}, []any{}, false},
		{"1e2000000000", "1", false}, // too large to reckon with
	} {
		if got := Value(c.value, c.pattern); got != c.want {
			t.Errorf("%#v against %#v: got %v, want %v", c.value, c.pattern, got, c.want)
		}
	}
}

func TestWildcard(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"?", "é", true}, {"?", "", false},
		{"a*b*c", "aXbYbZc", true}, {"a*b*c", "aXbY", false}, {"*?", "", false}, {"*??bc", "€bc", false}, {"?*?", "ab", true},
		{"*.com", "a.com.com", true}, {"a", "ab", false}, {"*\xff", "x\xfe", true},
		{strings.Repeat("*a", 200) + "b", strings.Repeat("a", 5000), false},
	} {
		if got := Wildcard(c.pattern, c.s); got != c.want {
			t.Errorf("%.20q against %.20q: got %v, want %v", c.s, c.pattern, got, c.want)
		}
	}
}

func TestParseAnchor(t *testing.T) {
	for key, want := range map[string]struct {
		anchor Anchor
		inner  string
	}{
		"a": {None, "a"}, "(a)": {Conditional, "a"}, "=(a)": {Equality, "a"}, "X((a))": {Negation, "(a)"},
		"()": {None, "()"}, "?(a)": {None, "?(a)"}, "<(a/b)": {Global, "a/b"}, "^(a": {None, "^(a"}, "+(a)": {AddIfNotPresent, "a"},
	} {
		if a, _ := ParseAnchor(" " + key + " "); a != want.anchor {
			t.Errorf("%q between blanks: got %q, want %q", key, a, want.anchor)
		}
		if a, inner := ParseAnchor(key); a != want.anchor || inner != want.inner {
			t.Errorf("%q: got %q %q, want %q %q", key, a, inner, want.anchor, want.inner)
		}
	}
}

const benchPattern = `
metadata: {labels: {app: "?*"}}
spec:
  =(securityContext): {=(runAsNonRoot): true}
  containers:
  - (image): "*:latest"
    imagePullPolicy: Always
    resources: {limits: {memory: "<=1Gi"}}
`

const benchPod = `
metadata: {name: web, uid: null, labels: {app: shop}}
spec:
  containers:
  - {name: a, image: "nginx:latest", imagePullPolicy: Always, resources: {limits: {memory: 512Mi}}}
  - {name: b, image: "nginx:1.2"}
  - {name: c, image: "nginx:1.3"}
`

func BenchmarkMatch(b *testing.B) {
	p, err := Compile(tree(b, benchPattern))
	if err != nil {
		b.Fatal(err)
	}
	pod := tree(b, benchPod)
	b.ReportAllocs()
	for b.Loop() {
		if p.Match(pod) != nil {
			b.Fatal("it does not match")
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	source := tree(b, benchPattern)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Compile(source); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add(benchPod, benchPattern)
	f.Add(`{metadata: {labels: {a: b}}}`, `{metadata: {<(metadata): {labels: {}}, "=(labels)": {"^(a*)": [{}]}}}`)
	f.Fuzz(func(t *testing.T, resource, pattern string) {
		var of, by any
		if yaml.Unmarshal([]byte(resource), &of) != nil || yaml.Unmarshal([]byte(pattern), &by) != nil {
			return
		}
		p, err := Compile(by)
		if err != nil {
			return
		}
		m := p.Match(of)
		if again := p.Match(of); !cmp.Equal(m, again) {
			t.Errorf("got %+v, and then %+v", m, again)
		}
	})
}

func FuzzValue(f *testing.F) {
	for _, p := range []string{">= 1Gi", "1-5", "a|b&!c", "1e999", "5m!-1h", "?*"} {
		f.Add("512Mi", p)
		f.Add("1h", p)
	}
	f.Fuzz(func(_ *testing.T, value, pattern string) {
		Value(value, pattern)
		Value(1.5, pattern)
		Value(nil, pattern)
	})
}
