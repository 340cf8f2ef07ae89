// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// transcript is a Handler that writes down what it is told.
type transcript struct {
	mu    sync.Mutex
	lines []string
}

func (t *transcript) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, fmt.Sprintf(format, args...))
}

func (t *transcript) Set(o Live)            { t.note("set %s %s", o.Kind, o.Name) }
func (t *transcript) Delete(ref object.Ref) { t.note("delete %s", ref.Name) }
func (t *transcript) Synced(Kind)           { t.note("synced") }
func (t *transcript) Problem(_ Kind, p *verdict.Problem) {
	if p == nil {
		t.note("fine")
		return
	}
	what, _, _ := strings.Cut(p.Message, ":")
	t.note("problem %s", what)
}

// follow runs a feed of a kind against an API server that answers the nth
// listing and the nth watch, until a listing answers that it is enough.
func follow(t *testing.T, k Kind, listing func(n int, w http.ResponseWriter) (enough bool), watching func(n int, w http.ResponseWriter)) []string {
	t.Helper()
	usual := feedBackoff
	feedBackoff = wait.Backoff{Duration: 10 * time.Millisecond, Factor: 2, Steps: 100, Cap: time.Minute}
	t.Cleanup(func() { feedBackoff = usual })
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	var lists, watches int // one goroutine asks
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/version":
			_, _ = w.Write([]byte(`{"major":"1","minor":"37","gitVersion":"v1.37.1"}`))
		case r.URL.Query().Get("watch") != "":
			watches++
			watching(watches, w)
		default:
			lists++
			if listing(lists, w) {
				stop()
			}
		}
	}))
	t.Cleanup(s.Close)
	c, err := Connect(&rest.Config{Host: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	var told transcript
	c.Feed(ctx, k, &told)
	return told.lines
}

func refuse(_ int, w http.ResponseWriter) { status(w, 403, "Forbidden", "") }

// TestFeedMayNotWatch: a kind that may be listed and not watched is a problem all
// the time, and listed ever more rarely.
func TestFeedMayNotWatch(t *testing.T) {
	begin := time.Now()
	told := follow(t, widgets, func(n int, w http.ResponseWriter) bool {
		list(w, "", "a")
		return n == 6
	}, refuse)
	if took := time.Since(begin); took < 310*time.Millisecond {
		t.Errorf("listed 6 times in %s, want 10+20+40+80+160 ms at the least", took)
	}
	if got, want := strings.Join(told[:6], ", "), "set Widget a, synced, problem watching widgets.example.com, set Widget a, synced, problem watching widgets.example.com"; got != want {
		t.Errorf("told %s, want %s", got, want)
	}
}

// TestFeedGone: a kind that is not served any more has no objects, those of a
// page that was still read among them, and is asked for ever more rarely.
func TestFeedGone(t *testing.T) {
	begin := time.Now()
	told := follow(t, widgets, func(n int, w http.ResponseWriter) bool {
		switch n {
		case 1:
			list(w, "", "a", "b")
		case 2:
			list(w, "next", "a")
		default:
			status(w, 404, "NotFound", "")
		}
		return n == 7
	}, refuse)
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("asked 7 times in %s", took)
	}
	got := strings.Join(told[:8], ", ")
	if !strings.HasPrefix(got, "set Widget a, set Widget b, synced, problem watching widgets.example.com, set Widget a, delete ") || strings.Count(got, "delete") != 2 || !strings.HasSuffix(got, "fine") {
		t.Errorf("told %s", got)
	}
	if told[8] != "synced" {
		t.Errorf("told %q, want that all that there is was told", told[8])
	}
}

// TestFeedList: a custom resource whose kind is called a list is one object,
// whatever it says that it holds.
func TestFeedList(t *testing.T) {
	lists := widgets
	lists.Kind = "AllowList"
	told := follow(t, lists, func(n int, w http.ResponseWriter) bool {
		_, _ = w.Write([]byte(`{"apiVersion":"example.com/v1","kind":"WidgetList","metadata":{"resourceVersion":"7"},"items":[
			{"apiVersion":"example.com/v1","kind":"AllowList","metadata":{"name":"a","namespace":"a","uid":"1"},"items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"shop"}}]}]}`))
		return n == 2
	}, refuse)
	if len(told) == 0 || told[0] != "set AllowList a" {
		t.Errorf("told %q", told)
	}
}
