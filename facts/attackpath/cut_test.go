// SPDX-License-Identifier: Apache-2.0

package attackpath_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"sconce.dev/sconce/facts/attackpath"
)

var (
	levelText = regexp.MustCompile(`pod-security.kubernetes.io/enforce: \w+`)
	specText  = regexp.MustCompile(`(spec: \{serviceAccountName)`)
)

// make really makes a change of a cut in the text of the object that it is of:
// what is left of the object; "" where it is deleted.
func makeChange(t *rapid.T, text string, c *attackpath.Change) string {
	switch {
	case strings.HasPrefix(c.Key, "binding "), c.Object.Kind == "Service", strings.HasSuffix(c.Object.Kind, "WebhookConfiguration"), c.Object.Kind == "Secret":
		return ""
	case c.Control == "privileged-container":
		return strings.ReplaceAll(text, "privileged: true", "privileged: false")
	case c.Control == "host-pid":
		return strings.ReplaceAll(text, "hostPID: true", "hostPID: false")
	case c.Control == "unneeded-token":
		return specText.ReplaceAllString(text, "spec: {automountServiceAccountToken: false, serviceAccountName")
	case c.Object.Kind == "Namespace":
		return levelText.ReplaceAllString(text, "pod-security.kubernetes.io/enforce: restricted")
	}
	t.Skipf("no way to make the change %+v", *c)
	return ""
}

// TestCutBreaksPaths makes the changes of a cut in the objects themselves, and
// looks whether a path is left.
func TestCutBreaksPaths(t *testing.T) {
	broken, cuts := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		texts := map[string]string{}
		for range rapid.IntRange(3, 14).Draw(t, "objects") {
			text := drawObject(t)
			texts[parse(t, text).Ref.String()] = text
		}
		for _, ns := range []string{"a", "b", "kube-system"} {
			if key := "Namespace " + ns; texts[key] == "" {
				texts[key] = "{apiVersion: v1, kind: Namespace, metadata: {name: " + ns + ", labels: {pod-security.kubernetes.io/enforce: baseline}}}"
			}
		}
		g := graphOfTexts(t, texts)
		from, _ := g.Find("any-pod")
		jewel := rapid.SampledFrom([]string{"cluster-admin", "node", "secrets"}).Draw(t, "jewel")
		to, _ := g.Find(jewel)
		cut := g.Cut(from, to)
		if len(cut.Changes) == 0 || len(cut.Open) > 0 {
			return
		}
		cuts++
		for _, c := range cut.Changes {
			key := c.Object.String()
			if texts[key] == "" {
				continue // a namespace that only the control plane has, or the same object again
			}
			if c.Object.Kind == "Deployment" {
				delete(texts, "Pod "+c.Object.Namespace+"/web-x-1") // which it replaces
			}
			if texts[key] = makeChange(t, texts[key], c.Change); texts[key] == "" {
				delete(texts, key)
			}
		}
		after := graphOfTexts(t, texts)
		for _, p := range after.Pairs() {
			if p.Entry == attackpath.EntryPod && p.Jewel == jewel && p.Reaching+p.Possible > 0 {
				var keys []string
				for _, c := range cut.Changes {
					keys = append(keys, c.Key)
				}
				t.Fatalf("after %q a path is left:\n%s", keys, strings.Join(words(*p.Shortest), "\n"))
			}
		}
		broken++
	})
	t.Logf("%d cuts made, %d broke every path", cuts, broken)
}

func graphOfTexts(t *rapid.T, texts map[string]string) *attackpath.Graph {
	var kept []any
	keys := make([]string, 0, len(texts))
	for key := range texts {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if k := attackpath.Keep(parse(t, texts[key])); k != nil {
			kept = append(kept, k)
		}
	}
	return attackpath.New(kept, complete)
}
