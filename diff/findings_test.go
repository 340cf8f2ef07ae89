// SPDX-License-Identifier: Apache-2.0

package diff_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sconce.dev/sconce/diff"
)

func pod(name, privileged string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: shop}
spec:
  containers:
  - name: app
    image: shop/app:1
    securityContext: {privileged: %s}
`, name, privileged)
}

// told returns what becomes of the findings of one control: EVENT was->is object.
func told(f *diff.Findings, control string) []string {
	var out []string
	for _, list := range []struct {
		event string
		of    []diff.Finding
	}{{"new", f.New}, {"gone", f.Gone}, {"unknown", f.Unknown}, {"excepted", f.Excepted}, {"unclear", f.Unclear}} {
		for _, x := range list.of {
			if x.Control == control {
				out = append(out, fmt.Sprintf("%s %s->%s %s", list.event, x.Was, x.Is, x.Object.Name))
			}
		}
	}
	slices.Sort(out)
	return out
}

const broken = "kind: [\n"

func TestFindings(t *testing.T) {
	except := func(p string) string {
		return strings.Replace(p, "namespace: shop}", "namespace: shop, annotations: {except.sconce.dev/privileged-container: \"until 2099-01-31: it mounts the disks of the node\"}}", 1)
	}
	for _, c := range []struct {
		name       string
		base, head tree
		want       []string
	}{
		{"the same", tree{"a.yaml": pod("web", "true")}, tree{"a.yaml": pod("web", "true")}, nil},
		{"another file", tree{"a.yaml": pod("web", "true")}, tree{"deep/b.yaml": pod("web", "true")}, nil},
		{"gets worse", tree{"a.yaml": pod("web", "false")}, tree{"a.yaml": pod("web", "true")}, []string{"new no-finding->fail web"}},
		{"gets better", tree{"a.yaml": pod("web", "true")}, tree{"a.yaml": pod("web", "false")}, []string{"gone fail->no-finding web"}},
		{"is added", tree{}, tree{"a.yaml": pod("web", "true")}, []string{"new no-object->fail web"}},
		{"is taken away", tree{"a.yaml": pod("web", "true")}, tree{}, []string{"gone fail->no-object web"}},
		{"cannot be decided any more", tree{"a.yaml": pod("web", "true")}, tree{"a.yaml": pod("web", "7")}, []string{"unknown fail->unknown web"}},
		{"could not be decided before", tree{"a.yaml": pod("web", "7")}, tree{"a.yaml": pod("web", "true")}, []string{"new unknown->fail web"}},
		{"its file breaks", tree{"a.yaml": pod("web", "true")}, tree{"a.yaml": broken}, []string{"unclear fail->unread web"}},
		{"its file was broken", tree{"a.yaml": broken}, tree{"a.yaml": pod("web", "true")}, []string{"unclear unread->fail web"}},
		{"it may have moved to a file that breaks", tree{"a.yaml": pod("web", "true")}, tree{"b.yaml": broken}, []string{"unclear fail->unread web"}},
		{"another file is broken on both sides", tree{"a.yaml": pod("web", "true"), "b.yaml": broken}, tree{"b.yaml": broken}, []string{"gone fail->no-object web"}},
		{"another document of its file breaks", tree{"a.yaml": pod("web", "true")}, tree{"a.yaml": pod("web", "false") + "---\n" + broken}, []string{"gone fail->no-finding web"}},
		{"stands twice, then once", tree{"a.yaml": pod("web", "true"), "b.yaml": pod("web", "true")}, tree{"b.yaml": pod("web", "true")}, []string{"gone fail->no-finding web"}},
		{"stands twice, in other files", tree{"a.yaml": pod("web", "true"), "b.yaml": pod("web", "true")}, tree{"c.yaml": pod("web", "true"), "a.yaml": pod("web", "true")}, nil},
		{"stands in one more file, which was broken", tree{"a.yaml": pod("web", "true"), "b.yaml": broken}, tree{"a.yaml": pod("web", "true"), "b.yaml": pod("web", "true")}, []string{"unclear unread->fail web"}},
		{"is excused", tree{"a.yaml": pod("web", "true")}, tree{"a.yaml": except(pod("web", "true"))}, []string{"excepted fail->excepted web"}},
		{"is excused no more", tree{"a.yaml": except(pod("web", "true"))}, tree{"a.yaml": pod("web", "true")}, []string{"new excepted->fail web"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			change := compare(t, c.base, c.head)
			if got := told(&change.Findings, "privileged-container"); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// TestRoots: the files of two folders are the same by their names within them.
func TestRoots(t *testing.T) {
	base := side(t, "before", tree{"before/a.yaml": pod("web", "true"), "before/b.yaml": broken})
	head := side(t, "after", tree{"after/b.yaml": broken})
	base.Root, head.Root = "before", "after/"
	c := diff.Compare(base, head)
	if got := told(&c.Findings, "privileged-container"); !slices.Equal(got, []string{"gone fail->no-object web"}) {
		t.Errorf("got %q", got)
	}
	if len(c.Problems) != 1 || c.Problems[0].Side != "both" {
		t.Errorf("problems: %+v", c.Problems)
	}
}
