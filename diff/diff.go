// SPDX-License-Identifier: Apache-2.0

// Package diff says what a change does: which findings are new and which are
// gone, who may do more or less than before, what can talk to what, and which
// attack paths open and close.
//
// It is the difference of two runs and no engine of its own: it judges nothing,
// and asks the models of both sides the same questions. Names decide what is the
// same, never files or their order: what was only moved, renamed, split or
// written in another way is no change. What could not be read on one side makes
// its differences unclear; it is never taken for gone.
//
// A Change is a value, and also what is printed as JSON. The package does no
// I/O but to write a Change to where it is told to.
package diff

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/facts/network"
	"sconce.dev/sconce/facts/rbac"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/posture"
	"sconce.dev/sconce/verdict"
)

// Version is the version of the JSON of a Change. It grows when a field changes
// its meaning or goes; new fields leave it as it is.
const Version = "v1alpha1"

// Side is what one of the two runs came to.
type Side struct {
	// Name is what the side is called: main, deploy/, the cluster prod.
	Name string
	// Commit is what a Git revision stands for.
	Commit string
	// Root is what the names of its files begin with and those of the other
	// side's do not: a folder that is compared with another.
	Root string
	// Seen are the objects that were read.
	Seen *Seen
	// Findings are all that the run found, Problems what it could not read.
	Findings []verdict.Finding
	Problems []verdict.Problem
	// Wide are the controls whose findings are about more than their object.
	Wide map[string]Extent
	// Posture holds the models that are compared; a model that one of the sides
	// does not have is not.
	Posture *posture.Posture
}

// Extent is what a control is about that is about more than an object. What it
// finds stands at the first object there, whichever that is.
type Extent uint8

// The extents.
const (
	OfObject Extent = iota
	OfNamespace
	OfCluster
)

// Wide returns the rules that are about a namespace or the cluster as a whole.
func Wide(rules []*baseline.Rule) map[string]Extent {
	out := map[string]Extent{}
	for _, r := range rules {
		about := func(kind string) bool { return r.Matches(object.GroupKind{Group: facts.Group, Kind: kind}) }
		switch {
		case about("PodNetwork"): // about whatever there is
		case about("Namespace"):
			out[r.Name] = OfNamespace
		case about("Cluster"), about("ClusterNetwork"):
			out[r.Name] = OfCluster
		}
	}
	return out
}

// Seen are the objects of a side by their identity: group, kind, namespace and
// name, whatever the version.
type Seen struct {
	objects map[identity][]string // the sources that an object stands in
}

type identity struct{ group, kind, namespace, name string }

func identify(ref object.Ref) identity {
	return identity{ref.Group(), ref.Kind, ref.Namespace, ref.Name}
}

// NewSeen returns what has seen nothing.
func NewSeen() *Seen { return &Seen{objects: map[identity][]string{}} }

// Add notes an object.
func (s *Seen) Add(o *object.Object) {
	id, source := identify(o.Ref), ""
	if o.Origin != nil {
		source = o.Origin.Source
	}
	if in := s.objects[id]; !slices.Contains(in, source) {
		s.objects[id] = append(in, source)
	}
}

// Has says whether an object was seen.
func (s *Seen) Has(ref object.Ref) bool { return len(s.objects[identify(ref)]) > 0 }

// source is the first source that an object stands in.
func (s *Seen) source(ref object.Ref) string {
	if in := s.objects[identify(ref)]; len(in) > 0 {
		return in[0]
	}
	return ""
}

// Len is the number of objects.
func (s *Seen) Len() int { return len(s.objects) }

// Change is what differs between two sides.
type Change struct {
	// Version is Version.
	Version string `json:"version"`
	Base    Info   `json:"base"`
	Head    Info   `json:"head"`
	// Baseline is the name of the baseline that judged both sides, for
	// KubernetesVersion.
	Baseline          string `json:"baseline"`
	KubernetesVersion string `json:"kubernetesVersion"`
	// Notes are what a person should know of how the sides were compared.
	Notes    []string `json:"notes,omitempty"`
	Findings Findings `json:"findings"`
	// Permissions, Connections and Paths are absent where they were not compared.
	Permissions *Permissions `json:"permissions,omitempty"`
	Connections *Connections `json:"connections,omitempty"`
	Paths       *Paths       `json:"paths,omitempty"`
	Problems    []Problem    `json:"problems,omitempty"`
}

// Info says what a side was.
type Info struct {
	Name   string `json:"name"`
	Commit string `json:"commit,omitempty"`
	// Objects were read; Problems could not be.
	Objects  int `json:"objects"`
	Problems int `json:"problems"`
}

// Problem is what could not be read on a side.
type Problem struct {
	// Side is base, head, or both where it is the same on both.
	Side string `json:"side"`
	verdict.Problem
}

// The sides, as JSON names them.
const (
	base = "base"
	head = "head"
	both = "both"
)

// Compare returns what differs between a base and a head.
func Compare(from, to *Side) *Change {
	c := &Change{Version: Version, Base: from.info(), Head: to.info(), Problems: problems(from, to)}
	lost, added := newUnread(to, from), newUnread(from, to)
	c.Findings = compareFindings(from, to, lost, added)
	if from.Posture == nil || to.Posture == nil {
		return c
	}
	if a, b := identityOf(from.Posture), identityOf(to.Posture); a != nil && b != nil {
		c.Permissions = comparePermissions(a, b, lost, added)
	}
	if a, b := networkOf(from.Posture), networkOf(to.Posture); a != nil && b != nil {
		c.Connections = compareConnections(a, b, lost, added)
	}
	if a, b := from.Posture.Attack, to.Posture.Attack; a != nil && b != nil {
		c.Paths = comparePaths(a, b, lost, added)
	}
	return c
}

// The graph of attack paths is made of the other two models, and has them.

func identityOf(p *posture.Posture) *rbac.Model {
	if p.Identity == nil && p.Attack != nil {
		return p.Attack.Identity()
	}
	return p.Identity
}

func networkOf(p *posture.Posture) *network.Model {
	if p.Network == nil && p.Attack != nil {
		return p.Attack.Network()
	}
	return p.Network
}

func (s *Side) info() Info {
	return Info{Name: s.Name, Commit: s.Commit, Objects: s.Seen.Len(), Problems: len(s.Problems)}
}

// within returns the name of a file within the side.
func (s *Side) within(file string) string {
	if rest, ok := strings.CutPrefix(file, s.Root); ok && s.Root != "" {
		return strings.TrimPrefix(rest, "/")
	}
	return file
}

// trouble is what makes a problem the same on both sides.
type trouble struct {
	stage         verdict.Stage
	file, message string
	of            object.GroupKind
}

func (s *Side) trouble(p *verdict.Problem) trouble {
	return trouble{p.Stage, s.within(p.Position.File), p.Message, p.Of}
}

// problems lists what could not be read, what is the same on both sides once.
func problems(from, to *Side) []Problem {
	had := map[trouble]int{}
	for i := range from.Problems {
		had[from.trouble(&from.Problems[i])]++
	}
	var out []Problem
	for i := range to.Problems {
		side, key := head, to.trouble(&to.Problems[i])
		if had[key] > 0 {
			had[key]--
			side = both
		}
		out = append(out, Problem{side, to.Problems[i]})
	}
	for i := range from.Problems {
		if key := from.trouble(&from.Problems[i]); had[key] > 0 {
			had[key]--
			out = append(out, Problem{base, from.Problems[i]})
		}
	}
	slices.SortStableFunc(out, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Position.File, b.Position.File), cmp.Compare(a.Position.Line, b.Position.Line), cmp.Compare(a.Message, b.Message))
	})
	return out
}

// unread is what could not be read on a side, to say whether something that is
// not there may be in it.
type unread struct {
	side  *Side
	other *Side
	// kinds are those of a cluster that could not be listed, or not whole.
	kinds []object.GroupKind
	// files are the files, charts and overlays; fresh are those of them with a
	// problem that the other side does not have.
	files, fresh []string
	// limited are files that were read, if not with all that there is to tell.
	limited []string
	all     bool // of one problem it is not known what it hides
}

func newUnread(side, other *Side) *unread {
	u := &unread{side: side, other: other}
	had := map[trouble]bool{}
	for i := range other.Problems {
		had[other.trouble(&other.Problems[i])] = true
	}
	for i := range side.Problems {
		p := &side.Problems[i]
		file := side.within(p.Position.File)
		switch {
		case p.Of != (object.GroupKind{}):
			u.kinds = append(u.kinds, p.Of)
		case p.Position.File == "":
			u.all = true
		default:
			u.files = append(u.files, file)
			if !had[side.trouble(p)] {
				u.fresh = append(u.fresh, file)
			}
			if p.Stage == verdict.Reading {
				u.limited = append(u.limited, file)
			}
		}
	}
	return u
}

// none says that everything was read.
func (u *unread) none() bool { return !u.all && len(u.kinds)+len(u.files) == 0 }

// why returns the reason for which it is not known that something about an
// object is not there; nothing where it is known.
func (u *unread) why(ref object.Ref) string {
	return u.whyOf(ref, u.other.Seen.source(ref))
}

// whyOf is why for an object that stands in a source on the other side.
func (u *unread) whyOf(ref object.Ref, source string) string {
	if u.none() {
		return ""
	}
	gk := ref.GroupKind()
	for _, k := range u.kinds {
		if k.Group == gk.Group && (k.Kind == gk.Kind || k.Kind == facts.AnyKind) || k.Group == "" && k.Kind == facts.AnyKind {
			return fmt.Sprintf("%s could not be read of %s", gk.Kind, u.side.Name)
		}
	}
	if u.all {
		return fmt.Sprintf("not all of %s could be read", u.side.Name)
	}
	source = u.other.within(source)
	in := u.side.Seen.objects[identify(ref)]
	switch {
	case slices.ContainsFunc(in, func(s string) bool { return u.side.within(s) == source }):
		// It was judged there; what else stands in its file hides nothing of it,
		// but where not all findings of the file were told.
		return u.in(u.limited, source)
	case len(in) > 0:
		return u.in(u.files, source) // it stands elsewhere too
	}
	if why := u.in(u.files, source); why != "" || len(u.fresh) == 0 {
		return why
	}
	return fmt.Sprintf("it may stand in %s, which could not be read of %s", u.fresh[0], u.side.Name)
}

// in says that a source is, holds or is held by one of some files.
func (u *unread) in(files []string, source string) string {
	for _, f := range files {
		if source != "" && (f == source || strings.HasPrefix(f, source+"/") || strings.HasPrefix(source, f+"/")) {
			return fmt.Sprintf("%s could not be read of %s", f, u.side.Name)
		}
	}
	return ""
}

// hides returns the reason for which an object of some kinds that the other side
// has may be here too, if there is one.
func (u *unread) hides(kind func(object.GroupKind) bool) string {
	if u.none() {
		return ""
	}
	first := ""
	for id := range u.other.Seen.objects {
		ref := object.Ref{APIVersion: id.group + "/", Kind: id.kind, Namespace: id.namespace, Name: id.name}
		if id.group == "" {
			ref.APIVersion = "v1"
		}
		if !kind(ref.GroupKind()) || u.side.Seen.Has(ref) {
			continue
		}
		if why := u.why(ref); why != "" && (first == "" || why < first) {
			first = why
		}
	}
	return first
}
