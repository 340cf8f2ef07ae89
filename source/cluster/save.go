// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"compress/gzip"
	"context"
	gojson "encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/secret"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/verdict"
)

// A snapshot file holds what a scan of a cluster reads, compressed by gzip: JSON,
// one value a line. docs/snapshot.md describes it.

// SnapshotVersion is the version of the format.
const SnapshotVersion = "v1alpha1"

// Header is the first line of a snapshot file.
type Header struct {
	// Snapshot is SnapshotVersion.
	Snapshot string `json:"sconceSnapshot"`
	// Program is what wrote the file.
	Program string `json:"program"`
	// Cluster is what the user calls the cluster, Server the version of its API
	// server.
	Cluster string    `json:"cluster"`
	Server  string    `json:"server"`
	Taken   time.Time `json:"taken"`
	// Namespace is the one that was read, if it was only one.
	Namespace string `json:"namespace,omitempty"`
	// AllKinds says that kinds were read whether a control is about them or not.
	AllKinds bool `json:"allKinds,omitempty"`
	// Kinds were read, in the order of the file; Others are served too.
	Kinds  []Kind `json:"kinds"`
	Others []Kind `json:"others"`
	// Failed are groups of which it could not be found out what they hold, and
	// of which nothing was to be read.
	Failed []Failed `json:"failed,omitempty"`
	// Problems came up before anything was read.
	Problems []verdict.Problem `json:"problems,omitempty"`
}

// Header returns the header of a file that holds the kinds that are wanted, and
// says what else there is.
func (s *Served) Header(wanted func(object.GroupKind) bool) Header {
	h := Header{Failed: slices.DeleteFunc(slices.Clone(s.Failed), func(f Failed) bool { return f.wanted(wanted) })}
	_, h.Problems = s.Wanted(wanted)
	all, _ := s.Wanted(func(gk object.GroupKind) bool { return gk.Kind != AnyKind })
	for _, k := range all {
		if wanted(k.GroupKind) {
			h.Kinds = append(h.Kinds, k)
		} else {
			h.Others = append(h.Others, k)
		}
	}
	return h
}

// line is any other line of a snapshot file: what follows a kind is of that
// kind.
type line struct {
	Kind   *int              `json:"kind,omitempty"` // index in Header.Kinds
	Object gojson.RawMessage `json:"object,omitempty"`
	// LeftOut are the values of the object that the file does not hold, as JSON
	// pointers. They stand there as null.
	LeftOut []string         `json:"leftOut,omitempty"`
	Problem *verdict.Problem `json:"problem,omitempty"`
	// End is how many objects the file has. It is on the last line.
	End *int `json:"end,omitempty"`
}

// Saved says what a snapshot file holds.
type Saved struct {
	Objects, Kinds, LeftOut int
	Problems                []verdict.Problem
}

// Save writes what a scan of the kinds reads. The values of Secrets, and what
// looks like a credential in other objects, are left out.
func (c *Cluster) Save(ctx context.Context, to io.Writer, h Header, done func(kinds int)) (*Saved, error) {
	h.Snapshot, h.Program, h.Cluster, h.Server = SnapshotVersion, userAgent(), c.Name, c.version
	packed := gzip.NewWriter(to)
	s := &saver{to: gojson.NewEncoder(packed), saved: Saved{Problems: h.Problems}}
	s.to.SetEscapeHTML(false)
	s.write(h)
	for i, k := range h.Kinds {
		if h.Namespace != "" && !k.Namespaced && k.GroupKind != namespaceKind {
			continue
		}
		s.write(line{Kind: &i})
		(&unit{c, k, h.Namespace}).Read(ctx, snapshot.Sink{Object: s.object, Problem: s.problem})
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if s.err != nil {
			break
		}
		s.saved.Kinds++
		done(i + 1)
	}
	s.write(line{End: &s.saved.Objects})
	if err := packed.Close(); s.err == nil {
		s.err = err
	}
	return &s.saved, s.err
}

// saver writes lines until one fails.
type saver struct {
	to    *gojson.Encoder
	err   error
	saved Saved
}

func (s *saver) write(v any) {
	if s.err == nil {
		s.err = s.to.Encode(v)
	}
}

func (s *saver) problem(p verdict.Problem) {
	s.saved.Problems = append(s.saved.Problems, p)
	s.write(line{Problem: &p})
}

func (s *saver) object(o *object.Object) {
	root, out := withoutSecrets(o)
	s.saved.Objects++
	s.saved.LeftOut += len(out)
	s.write(line{Object: root.JSON(), LeftOut: out})
}

// withoutSecrets returns a copy of an object in which secret values are null,
// and the JSON pointers of these.
func withoutSecrets(o *object.Object) (*object.Node, []string) {
	w := &leaver{mask: secret.MaskOf(o), at: map[*object.Node]bool{}}
	if o.GroupKind() == (object.GroupKind{Kind: "Secret"}) {
		for _, field := range [...]string{"data", "stringData"} {
			w.values(o.Root.Get(field))
		}
		w.add(o.Root.At("metadata", "annotations", lastApplied))
	}
	for _, fact := range secret.Single.Derive(o, &facts.Env{}) {
		for i := range facts.Items(fact.Root.At("facts", "credentials")) {
			path := fact.SourcePath(facts.Path("facts", "credentials").Append(object.Step{Item: true, Index: i}))
			w.add(o.Root.Lookup(path))
		}
	}
	return w.copy(o.Root, ""), w.out
}

// lastApplied is the annotation in which kubectl repeats an object.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// leaver copies a tree and leaves secret values out.
type leaver struct {
	mask secret.Mask
	at   map[*object.Node]bool
	out  []string
}

// add leaves a value out. Of a map or a list it leaves all of them.
func (w *leaver) add(n *object.Node) {
	if n != nil {
		w.at[n] = true
	}
}

func (w *leaver) values(n *object.Node) {
	if n == nil || n.Kind != object.Map {
		w.add(n)
		return
	}
	for _, f := range n.Fields {
		w.add(f.Value)
	}
}

func (w *leaver) copy(n *object.Node, pointer string) *object.Node {
	if w.at[n] && n.Kind != object.Null || n.Kind == object.String && w.tells(n.Text) {
		w.out = append(w.out, pointer)
		return &object.Node{}
	}
	switch n.Kind {
	case object.Map:
		out := &object.Node{Kind: object.Map, Fields: make([]object.Field, len(n.Fields))}
		for i, f := range n.Fields {
			out.Fields[i] = object.Field{Key: f.Key, Value: w.copy(f.Value, pointer+"/"+escape.Replace(f.Key))}
		}
		return out
	case object.List:
		out := &object.Node{Kind: object.List, Items: make([]*object.Node, len(n.Items))}
		for i, item := range n.Items {
			out.Items[i] = w.copy(item, pointer+"/"+strconv.Itoa(i))
		}
		return out
	case object.Unknown:
		w.out = append(w.out, pointer)
	}
	return n
}

// tells says whether a text holds a credential.
func (w *leaver) tells(s string) bool { return w.mask.Hide(s) != s || verdict.Redact(s) != s }

// escape and unescape are those of RFC 6901.
var (
	escape   = strings.NewReplacer("~", "~0", "/", "~1")
	unescape = strings.NewReplacer("~1", "/", "~0", "~")
)

// leave puts an unknown value where a pointer leads.
func leave(n *object.Node, pointer string) error {
	parts := strings.Split(pointer, "/")
	for i, part := range parts[1:] {
		last := i == len(parts)-2
		next, err := step(n, unescape.Replace(part), last)
		if err != nil {
			return fmt.Errorf("%q leads nowhere", pointer)
		}
		n = next
	}
	return nil
}

// step goes one step of a pointer down, and replaces what the last one leads to.
func step(n *object.Node, part string, last bool) (*object.Node, error) {
	var at **object.Node
	switch n.Kind {
	case object.Map:
		for i := range n.Fields {
			if n.Fields[i].Key == part {
				at = &n.Fields[i].Value
			}
		}
	case object.List:
		if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(n.Items) {
			at = &n.Items[i]
		}
	}
	if at == nil {
		return nil, fmt.Errorf("there is no %q", part)
	}
	if last {
		*at = object.NewUnknown("a value that was left out of the snapshot, since it is secret")
	}
	return *at, nil
}
