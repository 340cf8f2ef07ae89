// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// widgets is a kind of custom resources.
var widgets = Kind{GroupKind: object.GroupKind{Group: "example.com", Kind: "Widget"}, Version: "v1", Resource: "widgets", Namespaced: true}

// serve returns a cluster whose API server answers what a real one cannot be
// brought to answer when a test wants it.
func serve(t *testing.T, answer func(w http.ResponseWriter, token string)) *Cluster {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/version" {
			_, _ = w.Write([]byte(`{"major":"1","minor":"37","gitVersion":"v1.37.1"}`))
			return
		}
		answer(w, r.URL.Query().Get("continue"))
	}))
	t.Cleanup(s.Close)
	c, err := Connect(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	c.patience = patience{request: 10 * time.Second, total: 10 * time.Second, backoff: wait.Backoff{Duration: time.Millisecond, Steps: 5}}
	return c
}

func status(w http.ResponseWriter, code int, reason, token string) {
	w.WriteHeader(code)
	_, _ = fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","metadata":{"continue":%q},"reason":%q,"code":%d,"message":"no"}`, token, reason, code)
}

func list(w http.ResponseWriter, next string, names ...string) {
	var items []string
	for _, n := range names {
		items = append(items, fmt.Sprintf(`{"apiVersion":"example.com/v1","kind":"Widget","metadata":{"name":%q,"namespace":"a","uid":"uid-%s"}}`, n, n))
	}
	_, _ = fmt.Fprintf(w, `{"apiVersion":"example.com/v1","kind":"WidgetList","metadata":{"resourceVersion":"7","continue":%q},"items":[%s]}`, next, strings.Join(items, ","))
}

// read returns the names of what a unit yields, and its problems.
func read(u snapshot.Unit) (names []string, problems []string) {
	u.Read(context.Background(), snapshot.Sink{
		Object:  func(o *object.Object) { names = append(names, o.Name) },
		Problem: func(p verdict.Problem) { problems = append(problems, p.Message) },
	})
	return names, problems
}

func TestPages(t *testing.T) {
	tests := []struct {
		name    string
		answer  func(n int, w http.ResponseWriter, token string)
		names   string
		problem string
	}{
		{"pages", func(_ int, w http.ResponseWriter, token string) {
			if token == "" {
				list(w, "2", "a", "b")
				return
			}
			list(w, "", "c")
		}, "a b c", ""},
		{"a token expires and another is offered", func(_ int, w http.ResponseWriter, token string) {
			switch token {
			case "":
				list(w, "old", "a", "b")
			case "old":
				status(w, 410, "Expired", "new")
			default:
				list(w, "", "c", "d")
			}
		}, "a b c d", ""},
		{"a token expires and none is offered", func(n int, w http.ResponseWriter, token string) {
			switch {
			case token == "" && n == 0:
				list(w, "old", "a", "b")
			case token == "old":
				status(w, 410, "Expired", "")
			default:
				list(w, "", "a", "b", "c")
			}
		}, "a b c", ""},
		{"tokens that are offered expire for ever", func(_ int, w http.ResponseWriter, token string) {
			if token == "" {
				list(w, "old", "a")
				return
			}
			status(w, 410, "Expired", "new")
		}, "a", "the end was never reached"},
		{"tokens expire for ever", func(_ int, w http.ResponseWriter, token string) {
			if token == "" {
				list(w, "old", "a")
				return
			}
			status(w, 410, "Expired", "")
		}, "a", "the end was never reached"},
		{"the server is busy for a while", func(n int, w http.ResponseWriter, _ string) {
			switch n {
			case 0:
				status(w, 429, "TooManyRequests", "")
			case 1:
				status(w, 503, "ServiceUnavailable", "")
			default:
				list(w, "", "a")
			}
		}, "a", ""},
		{"forbidden", func(_ int, w http.ResponseWriter, _ string) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"widgets.example.com is forbidden: User \"eve\" cannot list resource"}`))
		}, "", `listing widgets.example.com: eve may not: what is of this kind was not judged; add to its role: apiGroups: ["example.com"], resources: ["widgets"], verbs: [list]`},
		{"gone while it was listed", func(n int, w http.ResponseWriter, _ string) {
			if n == 0 {
				list(w, "2", "a")
				return
			}
			status(w, 404, "NotFound", "")
		}, "a", "does not serve this kind any more"},
		{"no list", func(_ int, w http.ResponseWriter, _ string) { _, _ = w.Write([]byte(`[1]`)) }, "", "was not judged"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := 0
			c := serve(t, func(w http.ResponseWriter, token string) {
				tt.answer(n, w, token)
				n++
			})
			names, problems := read(c.Units([]Kind{widgets}, "")[1])
			if got := strings.Join(names, " "); got != tt.names {
				t.Errorf("yielded %q, want %q", got, tt.names)
			}
			if got := strings.Join(problems, "; "); !strings.Contains(got, tt.problem) || tt.problem == "" && got != "" {
				t.Errorf("problems %q, want %q", got, tt.problem)
			}
		})
	}
}

// saveOne returns a snapshot file of some objects.
func saveOne(t *testing.T, names ...string) []byte {
	t.Helper()
	c := serve(t, func(w http.ResponseWriter, _ string) { list(w, "", names...) })
	var out bytes.Buffer
	if _, err := c.Save(t.Context(), &out, Header{Kinds: []Kind{widgets}}, func(int) {}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func packed(lines ...string) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	for _, l := range lines {
		_, _ = w.Write([]byte(l + "\n"))
	}
	_ = w.Close()
	return out.Bytes()
}

// load reads a snapshot to its end.
func load(data []byte) (names []string, problems []string, err error) {
	s, err := Open("file", bytes.NewReader(data))
	if err != nil {
		return nil, nil, err
	}
	for _, u := range s.Units(func(object.GroupKind) bool { return true }) {
		n, p := read(u)
		names, problems = append(names, n...), append(problems, p...)
	}
	return names, problems, nil
}

func TestSnapshotFiles(t *testing.T) {
	whole := saveOne(t, "a", "b")
	if names, problems, err := load(whole); err != nil || len(problems) > 0 || strings.Join(names, " ") != "a b" {
		t.Fatalf("got %v, %v, %v", names, problems, err)
	}
	header, _ := json.Marshal(Header{Snapshot: SnapshotVersion, Kinds: []Kind{widgets}})
	const first = `{"kind":0}`
	for _, tt := range []struct {
		name, want string
		data       []byte
	}{
		{"empty", "no snapshot", nil},
		{"YAML", "no snapshot", []byte("kind: Pod\n")},
		{"another file", "another file that gzip made", packed("kind: Pod")},
		{"another version", `has the format "v9"`, packed(`{"sconceSnapshot":"v9"}`)},
		{"damaged header", "first line is damaged", packed(`{"sconceSnapshot":"v1alpha1"`)},
		{"cut off", "cut off", whole[:len(whole)-20]},
		{"without its end", "cut off", packed(string(header), first)},
		{"damaged", "cannot be read", packed(string(header), first, "{x")},
		{"damaged object", "damaged", packed(string(header), first, `{"object":[1]}`, `{"end":1}`)},
		{"object of another kind", "it is no Widget", packed(string(header), first, `{"object":{"apiVersion":"v1","kind":"Pod"}}`, `{"end":1}`)},
		{"value left out of nowhere", "leads nowhere", packed(string(header), first, `{"object":{"apiVersion":"example.com/v1","kind":"Widget"},"leftOut":["/a/b"]}`, `{"end":1}`)},
		{"too few objects", "should hold 3", packed(string(header), first, `{"end":3}`)},
		{"more kinds", "more than its first line says", packed(string(header), first, `{"kind":4}`, `{"object":{}}`)},
		{"bomb", "grows more than", packed(string(header), first, strings.Repeat("{"+strings.Repeat(" ", 1<<20)+"}\n", 80))},
		{"long line", "longer than", packed(string(header), first, strings.Repeat("abcdefgh", (maxLine+8)/8))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, problems, err := load(tt.data)
			if err != nil {
				problems = append(problems, err.Error())
			}
			if got := strings.Join(problems, "; "); !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestSnapshotFailed: what was not found out when a file was saved is unknown
// where a scan of it needs that, though nobody needed it then.
func TestSnapshotFailed(t *testing.T) {
	served := Served{Kinds: []Kind{widgets}, Failed: []Failed{{Group: "policy.example.com", Problem: verdict.Problem{Message: "does not answer"}}}}
	h := served.Header(func(gk object.GroupKind) bool { return gk.Group == "example.com" })
	if len(h.Kinds) != 1 || len(h.Problems) > 0 {
		t.Fatalf("%+v", h)
	}
	var out bytes.Buffer
	c := serve(t, func(w http.ResponseWriter, _ string) { list(w, "") })
	if _, err := c.Save(t.Context(), &out, h, func(int) {}); err != nil {
		t.Fatal(err)
	}
	for group, want := range map[string]string{"example.com": "", "policy.example.com": "does not answer"} {
		s, err := Open("file", bytes.NewReader(out.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		_, problems := read(s.Units(func(gk object.GroupKind) bool { return gk.Group == group })[0])
		if got := strings.Join(problems, "; "); !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: problems %q, want %q", group, got, want)
		}
	}
}

// FuzzSnapshot: no file makes reading it panic, and what a file without problems
// says that it holds is read.
func FuzzSnapshot(f *testing.F) {
	header, _ := json.Marshal(Header{Snapshot: SnapshotVersion, Kinds: []Kind{widgets}})
	f.Add(string(header) + "\n" + `{"kind":0}` + "\n" + `{"object":{"apiVersion":"example.com/v1","kind":"Widget","a":["b"]},"leftOut":["/a/0"]}` + "\n" + `{"end":1}`)
	f.Add(string(header) + "\n" + `{"end":0}`)
	f.Fuzz(func(t *testing.T, text string) {
		names, problems, err := load(packed(text))
		if err != nil || len(problems) > 0 {
			return
		}
		if want := strings.Count(text, `"object":{`); len(names) > want {
			t.Errorf("%d objects of %d: %q", len(names), want, text)
		}
	})
}

func TestLeftOut(t *testing.T) {
	root := object.FromAny(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "db", "annotations": map[string]any{lastApplied: "{}", "a/b": "c"}},
		"data": map[string]any{"pass/word": "aHVudGVyMg=="},
	})
	objects, err := object.FromNode(root, origin)
	if err != nil {
		t.Fatal(err)
	}
	tree, out := withoutSecrets(objects[0])
	if got, want := strings.Join(out, " "), "/data/pass~1word /metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"; got != want {
		t.Errorf("left out %q, want %q", got, want)
	}
	if text := string(tree.JSON()); strings.Contains(text, "aHVudGVyMg") || !strings.Contains(text, `"a/b":"c"`) {
		t.Errorf("kept %s", text)
	}
	for _, p := range out {
		if err := leave(tree, p); err != nil {
			t.Error(err)
		}
	}
	if n := tree.At("data", "pass/word"); n == nil || n.Kind != object.Unknown {
		t.Errorf("the value is %v, want an unknown one", n)
	}
}
