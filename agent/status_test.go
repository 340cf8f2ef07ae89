// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestConditions holds what is said of documents whose set is in force, and of
// those that keep one out.
func TestConditions(t *testing.T) {
	valid := fmt.Sprintf(exception, "2027-06-01")
	docs := []document{
		enforced(t, ""), doc(t, "Baseline", "draft", "title: A draft\ncontrols: [{name: no-such-control}]"),
		doc(t, "Exception", "shop", valid), doc(t, "Exception", "over", fmt.Sprintf(exception, "2026-12-31")),
		doc(t, "Exception", "changed", valid),
	}
	force, wrong := usual.compile(docs, today)
	if force == nil {
		t.Fatal(wrong)
	}
	broken := &state{wrong: mistakes{{"Baseline", "cluster"}: `unknown control "x"`}}
	for _, c := range []struct {
		name     string
		document document
		state    *state
		force    *set
		accepted string // status and reason
		inForce  string
		says     string
	}{
		{"in force", docs[0], &state{}, force, "True Valid", "True Enforced", force.hash},
		{"nobody extends it", docs[1], &state{wrong: wrong}, force, "False Invalid", "False NotEnforced", "does not extend this one"},
		{"an exception", docs[2], &state{}, force, "True Valid", "True Enforced", "in force"},
		{"one that has expired", docs[3], &state{}, force, "True Valid", "False Expired", "excuses nothing"},
		{"a broken Baseline", enforced(t, "controls: [{name: x}]"), broken, force, "False Invalid", "False LastGoodSetInForce", `Baseline cluster: unknown control "x"`},
		{"what is as it was beside it", docs[2], broken, force, "True Valid", "True Enforced", "in force"},
		{"what has changed since", doc(t, "Exception", "changed", strings.Replace(valid, "shop]", "shop2]", 1)), broken, force, "True Valid", "False LastGoodSetInForce", "Baseline cluster"},
		{"nothing was ever in force", docs[2], broken, nil, "True Valid", "False NothingInForce", "Baseline cluster"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := conditions(&liveDocument{document: c.document, generation: 7}, c.state, c.force)
			for i, want := range []string{c.accepted, c.inForce} {
				if is := string(got[i].Status) + " " + got[i].Reason; is != want {
					t.Errorf("%s is %s, want %s", got[i].Type, is, want)
				}
				if got[i].ObservedGeneration != 7 {
					t.Errorf("%s is of generation %d", got[i].Type, got[i].ObservedGeneration)
				}
			}
			if !strings.Contains(got[1].Message, c.says) {
				t.Errorf("says %q, want %q", got[1].Message, c.says)
			}
		})
	}
}

// TestDuty holds that a duty is done when it is woken, once for a burst, and that
// what fails is tried again, ever more rarely.
func TestDuty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var done []time.Duration
		start, fails := time.Now(), 3
		d := &duty{name: "test", wake: newSignal(), quiet: time.Second, patience: 3 * time.Second, log: slog.New(slog.DiscardHandler), do: func(context.Context) error {
			done = append(done, time.Since(start))
			if fails--; fails >= 0 {
				return errors.New("no")
			}
			return nil
		}}
		over := make(chan error, 1)
		go func() { over <- d.Start(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(done) != 4 {
			t.Fatalf("done at %v, want three times more than it was to be", done)
		}
		for i := 2; i < 4; i++ {
			if done[i]-done[i-1] <= done[i-1]-done[i-2] {
				t.Errorf("tried at %v, want ever more rarely", done)
			}
		}
		woken := time.Since(start)
		for range 20 { // a burst that does not end within its patience
			d.wake.raise()
			time.Sleep(500 * time.Millisecond)
		}
		synctest.Wait()
		if n := len(done) - 4; n < 2 || n > 4 || done[4]-woken != 3*time.Second {
			t.Errorf("a burst of 10 s has it done %d times, first after %s", n, done[4]-woken)
		}
		cancel()
		if err := <-over; err != nil {
			t.Error(err)
		}
	})
}
