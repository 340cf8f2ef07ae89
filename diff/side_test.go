// SPDX-License-Identifier: Apache-2.0

package diff_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/catalog"
	"sconce.dev/sconce/diff"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/posture"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// tree is files of manifests by their names.
type tree map[string]string

// manifests is one file of a tree.
type manifests struct {
	name, text string
	note       func(*object.Object)
}

// Read implements snapshot.Unit.
func (m *manifests) Read(_ context.Context, sink snapshot.Sink) snapshot.Tally {
	for text := range object.Split([]byte(m.text)) {
		root, err := object.ParseYAML(text)
		var objects []*object.Object
		if err == nil && root != nil {
			objects, err = object.FromNode(root, &object.Origin{Source: m.name, Text: text.Bytes, FirstLine: text.Line})
		}
		if err != nil {
			sink.Problem(verdict.Problem{Stage: verdict.Parsing, Position: object.Position{File: m.name, Line: text.Line}, Message: err.Error()})
		}
		for _, o := range objects {
			m.note(o)
			sink.Object(o)
		}
	}
	return snapshot.Tally{Files: 1}
}

// judge is the engine of the default baseline, made once.
var judge = sync.OnceValue(func() *engine.Engine {
	l := baseline.NewLibrary()
	catalog.Read(l)
	b, err := l.Resolve(catalog.Default, baseline.Options{})
	if err != nil {
		panic(err)
	}
	return engine.New(b, l.Exceptions(time.Time{}), time.Time{})
})

// fatal is what tests and properties have in common.
type fatal interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// side reads a tree as the program does.
func side(t fatal, name string, files tree) *diff.Side {
	t.Helper()
	out := &diff.Side{Name: name, Seen: diff.NewSeen(), Wide: diff.Wide(judge().Rules())}
	var mu sync.Mutex
	var units []snapshot.Unit
	for _, file := range slices.Sorted(maps.Keys(files)) {
		units = append(units, &manifests{file, files[file], func(o *object.Object) {
			mu.Lock()
			defer mu.Unlock()
			out.Seen.Add(o)
		}})
	}
	watched := posture.Watch(units, posture.Identity|posture.Network|posture.Attack, judge().Env())
	_, err := judge().Run(context.Background(), watched.Units, 0, engine.Output{
		Result:  func(r *engine.Result) error { out.Findings = append(out.Findings, r.Findings...); return nil },
		Problem: func(p verdict.Problem) error { out.Problems = append(out.Problems, p); return nil },
		Notice:  func(verdict.Notice) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	out.Posture = watched.Posture(judge().Env())
	return out
}

// compare compares two trees.
func compare(t testing.TB, base, head tree) *diff.Change {
	t.Helper()
	return diff.Compare(side(t, "base", base), side(t, "head", head))
}
