// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden files")

// small has one of everything.
func small() *Picture {
	return &Picture{
		Title:   "Attack paths",
		Lines:   []string{"from the internet to cluster-admin"},
		Unknown: []string{"Secrets could not be listed"},
		Nodes: []Node{
			{ID: "internet", Label: "internet", Kind: "Outside", Role: Entry},
			{ID: "shop/web", Label: "web", Kind: "Deployment", Group: "shop", Place: "shop/web.yaml:12", Fields: []Field{{"labels", "app=web"}}},
			{ID: "shop/ci", Label: "ci", Kind: "ServiceAccount", Group: "shop", Notes: []string{"its token is mounted"}},
			{ID: "admin", Label: "cluster-admin", Kind: "Cluster", Role: Jewel},
		},
		Edges: []Edge{
			{From: "internet", To: "shop/web", Label: "TCP 443", Kind: "reaches"},
			{From: "shop/web", To: "shop/ci", Label: "runs as", Kind: "identity"},
			{From: "shop/ci", To: "admin", Label: "is bound to", Possible: true, Notes: []string{"the role is not among the objects"}},
			{From: "internet", To: "shop/ci", Label: "token is public"},
		},
		Groups:  []Group{{Name: "shop", Notes: []string{"isolated by default-deny"}}},
		Paths:   []Path{{Title: "internet to cluster-admin", Steps: []Step{{0, "reaches shop/web", "shop/web.yaml:12"}, {1, "which runs as shop/ci", ""}, {2, "which may be cluster-admin", ""}}}},
		Changes: []Change{{Title: "Remove the binding ci-admin", Control: "rbac-cluster-admin", Place: "rbac.yaml:3", Edges: []int{2}}},
	}
}

// hostile is what strangers write into names.
var hostile = []string{
	`</script><script>document.title="owned"</script>`, `"><img src=x onerror=document.title="owned">`, `<!--`, `]]>`, `&lt;b&gt; &amp; &#65; &bogus;`,
	`"]; } digraph evil { x [URL="javascript:1"]`, `\N \G \E \l \" \\`, `ends in a backslash\`, `<b>bold</b>`, "line\nbreak\ttab\x00nul\x1b[31m", "a\u202eright-to-left\u202c", "שלום עולם", "\xff\xfe",
	"{{.}} ${x} `tick`", "\u2028", strings.Repeat("long", 2500), strings.Repeat("\u0301", 500), "", "+", "node", "cluster_0", "#2",
}

// hostilePicture has them everywhere.
func hostilePicture() *Picture {
	p := small()
	for i, h := range hostile {
		p.Lines, p.Unknown = append(p.Lines, h), append(p.Unknown, h)
		p.Nodes = append(p.Nodes, Node{ID: h + "!", Label: h, Kind: h, Group: h, Place: h, Fields: []Field{{h, h}}, Notes: []string{h}})
		p.Edges = append(p.Edges, Edge{From: h + "!", To: "admin", Label: h, Kind: h, Place: h, Fields: []Field{{h, h}}, Notes: []string{h}})
		p.Groups = append(p.Groups, Group{Name: h, Label: h, Notes: []string{h}})
		p.Paths = append(p.Paths, Path{Title: h, Notes: []string{h}, Steps: []Step{{4 + i, h, h}}})
		p.Changes = append(p.Changes, Change{Title: h, Control: h, Place: h, Notes: []string{h}, Edges: []int{4 + i}})
	}
	p.Title = hostile[0]
	return p
}

func TestDOT(t *testing.T) {
	var b bytes.Buffer
	if err := DOT(&b, small()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "small.dot.golden")
	if *update {
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("DOT (-want +got):\n%s", diff)
	}
}

// laidOut returns how many nodes and edges Graphviz finds in a picture.
func laidOut(t interface {
	Helper()
	Fatal(...any)
}, p *Picture) (nodes, edges int) {
	t.Helper()
	var b bytes.Buffer
	if err := DOT(&b, p); err != nil {
		t.Fatal(err)
	}
	plain, err := layout(context.Background(), "dot", "plain", b.String())
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(plain) {
		switch {
		case strings.HasPrefix(l, "node "):
			nodes++
		case strings.HasPrefix(l, "edge "):
			edges++
		}
	}
	return nodes, edges
}

func TestGraphvizReadsWhatStrangersWrite(t *testing.T) {
	p := hostilePicture()
	if n, e := laidOut(t, p); n != len(p.Nodes) || e != len(p.Edges) {
		t.Errorf("Graphviz finds %d nodes and %d edges; want %d and %d", n, e, len(p.Nodes), len(p.Edges))
	}
}

func FuzzDOT(f *testing.F) {
	for i, h := range hostile {
		f.Add(h, hostile[(i+1)%len(hostile)], hostile[(i+2)%len(hostile)])
	}
	f.Fuzz(func(t *testing.T, a, b, c string) {
		p := &Picture{Title: a, Lines: []string{b}, Nodes: []Node{
			{ID: "1" + a, Label: b, Kind: c, Group: a, Notes: []string{c}},
			{ID: "2" + b, Label: c, Kind: a, Group: b, Fields: []Field{{a, b}}},
			{ID: "3" + c, Label: a, Kind: b, Group: c, Place: a},
		}, Edges: []Edge{{From: "1" + a, To: "2" + b, Label: c}, {From: "2" + b, To: "3" + c, Label: a, Notes: []string{b}}}}
		if n, e := laidOut(t, p); n != 3 || e != 2 {
			t.Errorf("Graphviz finds %d nodes and %d edges; want 3 and 2", n, e)
		}
	})
}

// elements returns the names of a document's elements, and their texts.
func elements(t *testing.T, doc string) (names map[string]int, texts []string) {
	t.Helper()
	names = map[string]int{}
	for d := xml.NewDecoder(strings.NewReader(doc)); ; {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return names, texts
		}
		if err != nil {
			t.Fatalf("SVG is no XML: %v", err)
		}
		switch x := tok.(type) {
		case xml.StartElement:
			names[x.Name.Local]++
			for _, a := range x.Attr {
				if strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href" {
					t.Errorf("<%s> has an attribute %s=%q", x.Name.Local, a.Name.Local, a.Value)
				}
			}
		case xml.CharData:
			texts = append(texts, string(x))
		}
	}
}

func TestSVG(t *testing.T) {
	var b bytes.Buffer
	if err := SVG(context.Background(), &b, hostilePicture()); err != nil {
		t.Fatal(err)
	}
	names, texts := elements(t, b.String())
	for n := range names {
		if !slices.Contains([]string{"svg", "g", "title", "polygon", "path", "text", "a"}, n) {
			t.Errorf("an SVG has an element <%s>", n)
		}
	}
	for _, want := range []string{`&lt;b&gt; &amp; &#65; &bogus;`, `\N \G \E \l \" \\`, `ends in a backslash\`, `<b>bold</b>`, `a\u202eright-to-left\u202c`, "שלום עולם", "web", "Deployment"} {
		if !slices.Contains(texts, want) {
			t.Errorf("no text of the SVG is %q", want)
		}
	}
	if strings.Contains(b.String(), "://www.w3.org/Graphics/SVG/1.1/DTD") {
		t.Error("the SVG names a document type at an address")
	}
}

func TestSVGReduces(t *testing.T) {
	for _, c := range []struct {
		name string
		p    *Picture
		says string
	}{
		{"paths alone", attackExample(200), "only the paths are drawn"},
		{"groups as one", reachExample(300), "are drawn as one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			drawn, head := reduce(c.p)
			if len(drawn.Nodes) >= len(c.p.Nodes) || drawn.check() != nil {
				t.Errorf("%d of %d nodes are drawn, %v", len(drawn.Nodes), len(c.p.Nodes), drawn.check())
			}
			if !strings.Contains(strings.Join(head, "\n"), c.says) {
				t.Errorf("the head does not say %q: %q", c.says, head)
			}
			var b bytes.Buffer
			if err := SVG(context.Background(), &b, c.p); err != nil {
				t.Fatal(err)
			}
			elements(t, b.String())
		})
	}
	if p := small(); len(fold(p).Nodes) != 3 || len(fold(p).Edges) != 2 {
		t.Errorf("folding gives %+v", fold(p))
	}
}

func TestLimits(t *testing.T) {
	ended, cancel := context.WithTimeout(context.Background(), time.Nanosecond)
	defer cancel()
	<-ended.Done()
	large := &Picture{}
	for i := range maxPageNodes + 1 {
		large.Nodes = append(large.Nodes, Node{ID: fmt.Sprint(i)})
	}
	twice, nowhere, broken, late := small(), small(), small(), small()
	twice.Nodes[0].ID = "admin"
	nowhere.Edges[0].To = "gone"
	broken.Paths[0].Steps[1].Edge = 3
	late.Changes[0].Edges[0] = 9
	write := map[string]func(context.Context, *Picture) error{
		"DOT":  func(_ context.Context, p *Picture) error { return DOT(io.Discard, p) },
		"SVG":  func(ctx context.Context, p *Picture) error { return SVG(ctx, io.Discard, p) },
		"HTML": func(ctx context.Context, p *Picture) error { return HTML(ctx, io.Discard, p) },
	}
	for _, c := range []struct {
		format string
		ctx    context.Context
		p      *Picture
		want   string
	}{
		{"DOT", context.Background(), &Picture{}, "nothing to draw"},
		{"SVG", context.Background(), twice, "same ID"},
		{"HTML", context.Background(), nowhere, `names "gone", which is no node`},
		{"DOT", context.Background(), broken, "does not begin where the one before ends"},
		{"DOT", context.Background(), late, "change 0 names edge 9 of 4"},
		{"SVG", ended, small(), "took too long: context deadline exceeded; ask about less"},
		{"HTML", ended, small(), "context deadline exceeded"},
		{"SVG", context.Background(), large, "more than an image can show; ask about less"},
		{"HTML", context.Background(), large, "more than a page can show (10000 and 40000); ask about less"},
	} {
		if err := write[c.format](c.ctx, c.p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v; want one that says %q", c.format, err, c.want)
		}
	}
}

// TestHTMLIsInert reads a page of hostile names as a browser does.
func TestHTMLIsInert(t *testing.T) {
	var b bytes.Buffer
	if err := HTML(context.Background(), &b, hostilePicture()); err != nil {
		t.Fatal(err)
	}
	doc, err := html.Parse(&b)
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for n := range doc.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		count[n.Data]++
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "href" || a.Key == "style" {
				t.Errorf("<%s> has an attribute %s=%q", n.Data, a.Key, a.Val)
			}
		}
	}
	if count["script"] != 3 || count["style"] != 1 || count["img"]+count["b"]+count["iframe"]+count["base"]+count["link"] > 0 {
		t.Errorf("the page has the elements %v", count)
	}
}

func TestHTMLIsSmall(t *testing.T) {
	for _, p := range []*Picture{attackExample(1000), reachExample(1000)} {
		var b bytes.Buffer
		if err := HTML(context.Background(), &b, p); err != nil {
			t.Fatal(err)
		}
		if b.Len() > 3<<20 {
			t.Errorf("%s: a page of %d nodes and %d edges has %d bytes", p.Title, len(p.Nodes), len(p.Edges), b.Len())
		}
	}
}

func TestOutputsRepeat(t *testing.T) {
	for name, write := range map[string]func(io.Writer) error{
		"DOT":  func(w io.Writer) error { return DOT(w, attackExample(200)) },
		"SVG":  func(w io.Writer) error { return SVG(context.Background(), w, attackExample(200)) },
		"HTML": func(w io.Writer) error { return HTML(context.Background(), w, attackExample(200)) },
	} {
		var a, b bytes.Buffer
		if err := errors.Join(write(&a), write(&b)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("%s differs from one time to the next", name)
		}
	}
}

// TestArrange holds cells of random graphs to what they promise.
func TestArrange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		roles := rapid.SliceOfN(rapid.SampledFrom([]Role{Ordinary, Ordinary, Entry, Jewel}), 1, 40).Draw(t, "roles")
		thing := rapid.IntRange(0, len(roles)-1)
		var edges [][2]int
		for range rapid.IntRange(0, 80).Draw(t, "edges") {
			edges = append(edges, [2]int{thing.Draw(t, "from"), thing.Draw(t, "to")})
		}
		cells := arrange(roles, edges)
		taken := map[cell]bool{}
		right := 0
		for i, c := range cells {
			if taken[c] {
				t.Fatalf("two things stand at %v", c)
			}
			taken[c] = true
			if roles[i] == Entry && c.layer != 0 {
				t.Errorf("entry %d stands in layer %d", i, c.layer)
			}
			right = max(right, c.layer)
		}
		for i, c := range cells {
			if roles[i] == Jewel && c.layer != right {
				t.Errorf("jewel %d stands in layer %d of %d", i, c.layer, right)
			}
		}
		if right > maxLayers {
			t.Errorf("there are %d layers", right+1)
		}
	})
}

func BenchmarkSVG(b *testing.B) {
	for _, n := range []int{20, 150, 1000} {
		p := attackExample(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if err := SVG(context.Background(), io.Discard, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkHTML(b *testing.B) {
	for _, n := range []int{1000, 10_000} {
		p := attackExample(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if err := HTML(context.Background(), io.Discard, p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
