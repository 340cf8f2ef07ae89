// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	gojson "encoding/json"
	"errors"
	"fmt"
	"io"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// maxLine is the longest line of a snapshot file: an object as large as a
// document may be, with what is written about it.
const maxLine = object.MaxDocument + 1<<20

// What grows more than maxRatio times, once that is more than minBomb bytes, is
// no snapshot: real ones grow ten to fifty times.
const (
	maxRatio = 500
	minBomb  = 64 << 20
)

// Snapshot is a snapshot file that is being read.
type Snapshot struct {
	Header Header

	name  string
	in    *counter
	out   *counter
	lines *bufio.Reader

	turns   []chan struct{} // turn i is closed once unit i may read
	pending *line           // read, and of a later kind
	objects int
	broken  bool
	ended   bool
}

// magic is what the first line of a snapshot file begins with.
const magic = `{"sconceSnapshot":`

// IsSnapshot says whether a file begins as a snapshot does.
func IsSnapshot(r io.Reader) bool {
	unpacked, err := gzip.NewReader(r)
	if err != nil {
		return false
	}
	begin := make([]byte, len(magic))
	_, err = io.ReadFull(unpacked, begin)
	return err == nil && string(begin) == magic
}

// Open begins to read a snapshot file; name is what it is called in problems.
func Open(name string, r io.Reader) (*Snapshot, error) {
	s := &Snapshot{name: name, in: &counter{r: r}}
	unpacked, err := gzip.NewReader(bufio.NewReader(s.in))
	if err != nil {
		return nil, fmt.Errorf("%s is no snapshot of a cluster: %w; `sconce snapshot save` writes one", name, err)
	}
	s.out = &counter{r: unpacked}
	s.lines = bufio.NewReaderSize(s.out, 64<<10)
	first, err := s.line()
	if err != nil {
		return nil, fmt.Errorf("reading the snapshot %s: %w", name, err)
	}
	if !bytes.HasPrefix(first, []byte(magic)) {
		return nil, fmt.Errorf("%s is no snapshot of a cluster, but another file that gzip made; `sconce snapshot save` writes one", name)
	}
	if err := gojson.Unmarshal(first, &s.Header); err != nil {
		return nil, fmt.Errorf("reading the snapshot %s: its first line is damaged: %w", name, err)
	}
	if s.Header.Snapshot != SnapshotVersion {
		return nil, fmt.Errorf("the snapshot %s has the format %q, and this program reads %s: use the version that wrote it, %s", name, s.Header.Snapshot, SnapshotVersion, s.Header.Program)
	}
	return s, nil
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// line returns the next line, without its end.
func (s *Snapshot) line() ([]byte, error) {
	var out []byte
	for {
		part, err := s.lines.ReadSlice('\n')
		if s.out.n > minBomb && s.out.n > maxRatio*s.in.n {
			return nil, fmt.Errorf("it grows more than %d times when it is unpacked, as no snapshot does", maxRatio)
		}
		if len(out)+len(part) > maxLine {
			return nil, fmt.Errorf("a line is longer than %d MiB", maxLine>>20)
		}
		out = append(out, part...)
		switch {
		case err == nil:
			return bytes.TrimSuffix(out, []byte("\n")), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// Units returns a unit for each kind of the snapshot that is wanted. A kind that
// the cluster serves, that is wanted and that was not saved, is a problem.
func (s *Snapshot) Units(wanted func(object.GroupKind) bool) []snapshot.Unit {
	var told problems
	for _, k := range s.Header.Others {
		if wanted(k.GroupKind) {
			p := s.problem("holds no %s, though the cluster served them and a control is about them: save it again with the baseline that it is scanned with", k)
			p.Of = k.GroupKind
			told = append(told, p)
		}
	}
	for _, f := range s.Header.Failed {
		if f.wanted(wanted) {
			told = append(told, s.cleaned(f.Problem, object.GroupKind{Group: f.Group, Kind: AnyKind}))
		}
	}
	for _, p := range s.Header.Problems {
		told = append(told, s.cleaned(p, object.GroupKind{}))
	}
	out := []snapshot.Unit{told}
	s.turns = make([]chan struct{}, len(s.Header.Kinds)+1)
	for i := range s.turns {
		s.turns[i] = make(chan struct{})
	}
	close(s.turns[0])
	for i, k := range s.Header.Kinds {
		out = append(out, &saved{s: s, kind: i, wanted: wanted(k.GroupKind)})
	}
	return append(out, &ending{s})
}

func (s *Snapshot) problem(format string, args ...any) verdict.Problem {
	return verdict.Problem{Stage: verdict.Reading, Position: object.Position{File: s.name}, Message: fmt.Sprintf(format, args...)}
}

// cleaned returns a problem of the file with a kind as one may be shown: anyone
// may have written it.
func (s *Snapshot) cleaned(p verdict.Problem, of object.GroupKind) verdict.Problem {
	return verdict.Problem{Stage: verdict.Reading, Message: verdict.Redact(p.Message), Of: of}
}

// next returns the next line, or nil where there is no other that can be read.
func (s *Snapshot) next(sink snapshot.Sink) *line {
	if l := s.pending; l != nil || s.broken {
		s.pending = nil
		return l
	}
	data, err := s.line()
	if err == nil {
		l := &line{}
		if err = gojson.Unmarshal(data, l); err == nil {
			return l
		}
	}
	s.broken = true
	switch {
	case s.ended && errors.Is(err, io.EOF):
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		sink.Problem(s.problem("ends too early, after %d objects: it was cut off; save or copy it again", s.objects))
	default:
		sink.Problem(s.problem("cannot be read after %d objects: %s; save or copy it again", s.objects, err))
	}
	return nil
}

// saved is a kind of a snapshot.
type saved struct {
	s      *Snapshot
	kind   int
	wanted bool
}

// OwnersFirst implements snapshot.OwnersFirst: Kinds are ordered so.
func (u *saved) OwnersFirst() bool { return true }

// Read implements snapshot.Unit. Kinds stand one behind the other in the file:
// each waits for the one before it.
func (u *saved) Read(ctx context.Context, sink snapshot.Sink) snapshot.Tally {
	select {
	case <-u.s.turns[u.kind]:
	case <-ctx.Done():
		return snapshot.Tally{}
	}
	defer close(u.s.turns[u.kind+1])
	for ctx.Err() == nil {
		l := u.s.next(sink)
		if l == nil {
			break
		}
		if l.End != nil || l.Kind != nil && *l.Kind != u.kind {
			u.s.pending = l
			break
		}
		u.take(l, sink)
	}
	return snapshot.Tally{}
}

// take yields what a line of the kind holds.
func (u *saved) take(l *line, sink snapshot.Sink) {
	if l.Object != nil {
		u.s.objects++
	}
	switch {
	case !u.wanted:
	case l.Problem != nil:
		sink.Problem(u.s.cleaned(*l.Problem, u.s.Header.Kinds[u.kind].GroupKind))
	case l.Object != nil:
		o, err := u.s.object(u.s.Header.Kinds[u.kind], l)
		if err != nil {
			sink.Problem(u.s.problem("object %d is damaged: %s; save or copy it again", u.s.objects, err))
			return
		}
		sink.Object(o)
	}
}

// object makes an object of a line.
func (s *Snapshot) object(k Kind, l *line) (*object.Object, error) {
	roots, err := object.ParseJSON(l.Object)
	if err != nil {
		return nil, err
	}
	if len(roots) != 1 || roots[0].Kind != object.Map {
		return nil, errors.New("it is no object")
	}
	root := unplaced(roots[0])
	for _, pointer := range l.LeftOut {
		if err := leave(root, pointer); err != nil {
			return nil, err
		}
	}
	o := object.New(root, origin)
	if o.GroupKind() != k.GroupKind {
		return nil, fmt.Errorf("it is no %s", k.Kind)
	}
	return o, nil
}

// ending checks that the file was read to its end.
type ending struct{ s *Snapshot }

// Read implements snapshot.Unit.
func (e *ending) Read(ctx context.Context, sink snapshot.Sink) snapshot.Tally {
	select {
	case <-e.s.turns[len(e.s.turns)-1]:
	case <-ctx.Done():
		return snapshot.Tally{}
	}
	for l := e.s.next(sink); l != nil; l = e.s.next(sink) {
		if l.End == nil {
			sink.Problem(e.s.problem("holds more than its first line says: it was not written by `sconce snapshot save`"))
			return snapshot.Tally{}
		}
		if *l.End != e.s.objects {
			sink.Problem(e.s.problem("holds %d objects, and should hold %d: save or copy it again", e.s.objects, *l.End))
		}
		e.s.ended = true
	}
	return snapshot.Tally{}
}
