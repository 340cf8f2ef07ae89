// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"errors"
	"os"
	"testing"

	"pgregory.net/rapid"

	"sconce.dev/sconce/object"
)

// TestRandom makes random edits in random documents: what is not refused is
// right, nothing else changes, and little is refused.
func TestRandom(t *testing.T) {
	if rate := random(t, false); rate > 5 {
		t.Errorf("%.2f%% refused, want less than 5%%", rate)
	}
}

// TestRandomAnchors does so where values are shared: much is refused, nothing
// goes wrong.
func TestRandomAnchors(t *testing.T) { random(t, true) }

// random returns how much was refused, in percent.
func random(t *testing.T, anchors bool) float64 {
	outer := t
	applied, changed := 0, 0
	reasons := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		text := randomDocument(t, anchors)
		root, err := parseAny([]byte(text))
		if err != nil {
			t.Fatalf("the generator's fault: %v\n%s", err, text)
		}
		for range 8 {
			e := randomEdits(t, root)
			if _, err := ApplyTree(root, e); err != nil {
				continue // refused whatever the text
			}
			p, err := Apply(object.Text{Bytes: []byte(text), Line: 1}, e)
			if refused, ok := errors.AsType[*Refused](err); ok {
				reasons[refused.Reason]++
				if os.Getenv("SCONCE_SHOW") != "" && reasons[refused.Reason] < 3 {
					outer.Logf("%s %s %s: %s\n%s", e[0].Op, e[0].Path, e[0].Value.RawMessage, refused.Reason, text)
				}
				continue
			}
			applied++
			if len(p.Changes) > 0 {
				changed++
			}
			for _, err := range []error{err, kept(text, p), asked(text, p, e), commentsKept([]byte(text), p)} {
				if err != nil {
					t.Fatalf("%v: %v\nbefore:\n%s\nafter:\n%s", e, err, text, p.Bytes)
				}
			}
		}
	})
	refused := 0
	for reason, n := range reasons {
		refused += n
		t.Logf("%5d refused: %s", n, reason)
	}
	rate := 100 * float64(refused) / float64(max(1, applied+refused))
	t.Logf("%d applied (%d changed something), %d refused (%.2f%%)", applied, changed, refused, rate)
	if changed == 0 {
		t.Error("nothing was changed")
	}
	return rate
}
