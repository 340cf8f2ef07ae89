// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sconce.dev/sconce/diff"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/posture"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/source"
	"sconce.dev/sconce/source/cluster"
	"sconce.dev/sconce/verdict"
)

// sideKind is what a side of a difference is read from.
type sideKind uint8

const (
	filesSide sideKind = iota
	revisionSide
	snapshotSide
	clusterSide
)

// diffSide is one side of a difference.
type diffSide struct {
	kind sideKind
	// name is what it is called; revision and commit are set of a revision.
	name, revision, commit string
	// targets are the files that are read, root what their names begin with.
	targets []string
	root    string
	ignored map[string]bool // what Git ignores among the files here

	checkout *source.Revision
	cluster  *cluster.Cluster
	file     string // of a snapshot
	server   string // the version of the API server
	part     string // the only namespace that was read

	mu   sync.Mutex
	seen *diff.Seen
	kin  map[place]kin
	// spaced are the kinds that are in namespaces, as the API says.
	spaced map[object.GroupKind]bool
}

func (s *diffSide) isCluster() bool { return s.kind == snapshotSide || s.kind == clusterSide }

// name says what the arguments name.
func (r *diffRun) name(args []string) error {
	base, head, rest := args[0], "", args[1:]
	if from, to, ok := strings.Cut(base, "..."); ok {
		r.f.mergeBase = true
		base, head = cmp.Or(from, "HEAD"), cmp.Or(to, "HEAD")
	} else if from, to, ok := strings.Cut(base, ".."); ok && !exists(base) && from != "" {
		base, head = from, cmp.Or(to, "HEAD")
	} else if len(rest) > 0 {
		head, rest = rest[0], rest[1:]
	}
	r.f.paths = append(r.f.paths, rest...)
	var err error
	if r.base, err = r.side(base); err != nil {
		return err
	}
	if head == "" {
		r.head = &diffSide{name: "the files here", targets: []string{"."}}
	} else if r.head, err = r.side(head); err != nil {
		return err
	}
	if r.f.mergeBase {
		if err := r.fromMergeBase(base); err != nil {
			return err
		}
	}
	return r.limit()
}

// fromMergeBase puts the commit at which the head left the base in its place.
func (r *diffRun) fromMergeBase(base string) error {
	if r.base.kind != revisionSide {
		return fmt.Errorf("--merge-base: %s is no Git revision", base)
	}
	commit, err := source.MergeBase(r.base.revision, cmp.Or(r.head.revision, "HEAD"))
	if err != nil {
		return err
	}
	if commit != r.base.commit {
		r.base.name = "the merge base with " + r.base.name
	}
	r.base.revision, r.base.commit = commit, commit
	return nil
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// side says what one argument names.
func (r *diffRun) side(arg string) (*diffSide, error) {
	switch {
	case arg == "cluster":
		if isFolder(arg) {
			r.note("the cluster is meant by \"cluster\"; ./cluster is the folder of that name")
		}
		return &diffSide{kind: clusterSide}, nil
	case isSnapshot(arg):
		return &diffSide{kind: snapshotSide, name: arg, file: arg}, nil
	case arg == "-" || exists(arg):
		if _, err := source.Resolve(arg); err == nil && arg != "-" {
			r.note("%q is both a path and a Git revision: the path was read; %s:. is the revision", arg, arg)
		}
		return &diffSide{name: arg, targets: []string{arg}, root: arg}, nil
	}
	revision, sub, part := strings.Cut(arg, ":")
	commit, err := source.Resolve(revision)
	switch {
	case err != nil && strings.Contains(err.Error(), "not a git repository"):
		return nil, fmt.Errorf("there is no file or folder %s, and it cannot be a revision, since this folder is in no Git repository", arg)
	case err != nil:
		return nil, fmt.Errorf("there is no file or folder %s, and %w", arg, err)
	}
	side := &diffSide{kind: revisionSide, name: arg, revision: revision, commit: commit}
	if !part {
		return side, nil
	}
	_, prefix, err := source.Repository()
	if err != nil {
		return nil, err
	}
	if within, ok := strings.CutPrefix(sub, "./"); ok || sub == "." {
		sub = path.Join(prefix, within) // as Git understands it: else it is from the root
		if sub == "." {
			sub = prefix
		}
	}
	target, err := filepath.Rel(filepath.FromSlash("/"+prefix), filepath.FromSlash("/"+sub))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", arg, err)
	}
	side.targets, side.root = []string{target}, target
	return side, nil
}

// limit says which files are read of the sides.
func (r *diffRun) limit() error {
	if r.base.isCluster() && r.head.isCluster() && len(r.f.paths) > 0 {
		return errors.New("--path: a cluster has no files; -n limits both sides to a namespace")
	}
	for _, pair := range [][2]*diffSide{{r.base, r.head}, {r.head, r.base}} {
		side, other := pair[0], pair[1]
		if side.kind == revisionSide && side.targets == nil {
			side.targets = []string{"."}
			if sub, ok := here(other); ok && other.root != "" && other.kind == filesSide {
				side.targets, side.root = []string{sub}, sub
				side.name += ":" + filepath.ToSlash(sub)
			}
		}
		if side.kind == filesSide && other.kind == revisionSide {
			ignored, err := source.Ignored()
			if err != nil {
				return err
			}
			side.ignored = ignored
		}
	}
	if len(r.f.paths) == 0 {
		return nil
	}
	for _, side := range []*diffSide{r.base, r.head} {
		if side.isCluster() {
			continue
		}
		in := side.targets[0]
		side.targets = nil
		for _, p := range r.f.paths {
			side.targets = append(side.targets, filepath.Join(in, p))
		}
	}
	return nil
}

// here returns the path of a side's files from this folder, if they are in it.
func here(s *diffSide) (string, bool) {
	if len(s.targets) != 1 || filepath.IsAbs(s.targets[0]) || !filepath.IsLocal(s.targets[0]) {
		return "", false
	}
	return filepath.Clean(s.targets[0]), true
}

// open makes a side ready to be read.
func (r *diffRun) open(side *diffSide) error {
	switch side.kind {
	case clusterSide:
		c, err := r.f.connect()
		if err != nil {
			return err
		}
		side.cluster, side.server, side.part = c, c.Version(), r.f.clusterFlags.namespace
		side.name = "the cluster " + c.Name
	case snapshotSide:
		snap, closeSnapshot, err := openSnapshot(side.file)
		if err != nil {
			return err
		}
		closeSnapshot()
		h := &snap.Header
		if ns := r.f.clusterFlags.namespace; ns != "" && h.Namespace != "" && ns != h.Namespace {
			return fmt.Errorf("%s holds the namespace %s, not %s", side.file, h.Namespace, ns)
		}
		side.server, side.part = h.Server, cmp.Or(h.Namespace, r.f.clusterFlags.namespace)
	case revisionSide:
		checkout, err := source.Checkout(side.revision)
		if err != nil {
			return err
		}
		side.checkout = checkout
		r.closers = append(r.closers, checkout.Remove)
	}
	return nil
}

// load resolves the baseline that judges both sides.
func (r *diffRun) load(today time.Time) error {
	rules, other := r.head, r.base
	if r.f.rules == "base" {
		rules, other = r.base, r.head
	}
	if len(r.f.config) == 0 {
		r.f.config = rules.config()
		r.tellRules(rules, other)
	}
	f := &r.f.configFlags
	f.kubeVersion = cmp.Or(f.kubeVersion, versionOf(r.head.server), versionOf(r.base.server))
	if r.base.isCluster() || r.head.isCluster() {
		f.partial = cmp.Or(r.base.part, r.head.part) != ""
		f.complete = !f.partial
	}
	var err error
	r.baseline, r.engine, err = f.load(today)
	return err
}

// config returns the project's own rules as a side has them.
func (s *diffSide) config() []string {
	if s.checkout == nil {
		return projectConfig()
	}
	for dir := s.checkout.Base; ; dir = filepath.Dir(dir) {
		if config := filepath.Join(dir, defaultConfig); isFolder(config) {
			return []string{config}
		}
		if dir == s.checkout.Root || len(dir) < len(s.checkout.Root) {
			return []string{} // none: not those that are here
		}
	}
}

// tellRules says that the rules changed, too, where they did.
func (r *diffRun) tellRules(rules, other *diffSide) {
	if rules.checkout == nil && other.checkout == nil {
		return
	}
	now, then := configFiles(rules.config()), configFiles(other.config())
	var changed []string
	for name, text := range now {
		if before, ok := then[name]; !ok || !bytes.Equal(before, text) {
			changed = append(changed, name)
		}
	}
	for name := range then {
		if _, ok := now[name]; !ok {
			changed = append(changed, name)
		}
	}
	if len(changed) == 0 {
		return
	}
	slices.Sort(changed)
	list := strings.Join(changed[:min(len(changed), 5)], ", ")
	if more := len(changed) - 5; more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	r.note("the rules differ too (%s): both sides are judged by those of %s; --rules chooses the other's", list, rules.name)
}

// configFiles reads the files of a project's own rules, by their names within
// it. What cannot be read is told when the rules are loaded.
func configFiles(folders []string) map[string][]byte {
	out := map[string][]byte{}
	for _, folder := range folders {
		_ = walkConfig(folder, map[string]bool{}, func(name string, _ error) error {
			data, err := source.ReadFile(name)
			if err != nil {
				return nil
			}
			if rel, err := filepath.Rel(folder, name); err == nil {
				name = path.Join(defaultConfig, filepath.ToSlash(rel))
			}
			out[name] = data
			return nil
		})
	}
	return out
}

// judge reads and judges a side. Files are laid over what is below them, if
// something is: a cluster.
func (r *diffRun) judge(ctx context.Context, side, below *diffSide) (*diff.Side, error) {
	side.seen, side.kin = diff.NewSeen(), map[place]kin{}
	units, closeUnits, err := r.units(ctx, side)
	if err != nil {
		return nil, err
	}
	defer closeUnits()
	if below != nil {
		over, closeBelow, err := r.overlay(ctx, below, units)
		if err != nil {
			return nil, err
		}
		defer closeBelow()
		units = over
	}
	noun := "files, charts and overlays"
	if side.isCluster() {
		noun = "kinds"
	}
	out := &diff.Side{Name: side.name, Commit: side.commit, Root: side.root, Seen: side.seen, Wide: diff.Wide(r.baseline.Rules)}
	watched := posture.Watch(units, r.what, r.engine.Env())
	progress := newProgress(r.s.Err, len(units), noun+" of "+side.name, r.f.quiet)
	progress.verb = "read"
	summary, err := r.engine.Run(ctx, noted(side, watched.Units), 0, engine.Output{
		Result:  func(res *engine.Result) error { out.Findings = append(out.Findings, res.Findings...); return nil },
		Problem: func(p verdict.Problem) error { out.Problems = append(out.Problems, p); return nil },
		Notice:  func(verdict.Notice) error { return nil },
		Done:    progress.done,
	})
	progress.clear()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", side.name, err)
	}
	if side == r.head {
		r.summary = summary
	}
	out.Posture = watched.Posture(r.engine.Env())
	return out, nil
}

// noted returns units that note which objects a side has.
func noted(side *diffSide, units []snapshot.Unit) []snapshot.Unit {
	out := make([]snapshot.Unit, len(units))
	for i, u := range units {
		out[i] = &sieve{u, func(o *object.Object) *object.Object { side.take(o); return o }, nil, nil}
	}
	return out
}

// take notes an object.
func (s *diffSide) take(o *object.Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.Add(o)
	if s.isCluster() {
		s.kin[placeOf(o.Ref)] = kin{uid: o.Root.At("metadata", "uid").Str(), controller: engine.Owner(o)}
	}
}

// sieve is a unit whose objects go through a function, which may keep them back.
type sieve struct {
	snapshot.Unit
	pass func(*object.Object) *object.Object
	// before is called before anything is read, after once all was, if they are
	// set.
	before func(context.Context)
	after  func()
}

// OwnersFirst implements snapshot.OwnersFirst.
func (u *sieve) OwnersFirst() bool {
	o, ok := u.Unit.(snapshot.OwnersFirst)
	return ok && o.OwnersFirst()
}

// Read implements snapshot.Unit.
func (u *sieve) Read(ctx context.Context, sink snapshot.Sink) snapshot.Tally {
	to := sink.Object
	sink.Object = func(o *object.Object) {
		if o = u.pass(o); o != nil {
			to(o)
		}
	}
	if u.before != nil {
		u.before(ctx)
	}
	if u.after != nil {
		defer u.after()
	}
	return u.Unit.Read(ctx, sink)
}

// units returns what there is to read of a side.
func (r *diffRun) units(ctx context.Context, side *diffSide) ([]snapshot.Unit, func(), error) {
	wanted := func(gk object.GroupKind) bool { return r.engine.Reads(gk) || posture.Reads(r.what)(gk) }
	switch side.kind {
	case clusterSide:
		served := side.cluster.Served(ctx)
		side.knows(served.Kinds)
		kinds, problems := served.Wanted(wanted)
		return side.cluster.Units(kinds, side.part, problems...), func() {}, nil
	case snapshotSide:
		snap, closeSnapshot, err := openSnapshot(side.file)
		if err != nil {
			return nil, nil, err
		}
		side.knows(slices.Concat(snap.Header.Kinds, snap.Header.Others))
		return within(side.part, snap.Units(wanted)), closeSnapshot, nil
	}
	return r.files(side)
}

func (s *diffSide) knows(kinds []cluster.Kind) {
	s.spaced = map[object.GroupKind]bool{}
	for _, k := range kinds {
		s.spaced[k.GroupKind] = k.Namespaced
	}
}

// within leaves what is in a namespace, and the namespace itself; all if none is
// named.
func within(namespace string, units []snapshot.Unit) []snapshot.Unit {
	if namespace == "" {
		return units
	}
	out := make([]snapshot.Unit, len(units))
	for i, u := range units {
		out[i] = &sieve{u, func(o *object.Object) *object.Object {
			if o.Namespace == namespace || o.Name == namespace && o.GroupKind() == (object.GroupKind{Kind: "Namespace"}) {
				return o
			}
			return nil
		}, nil, nil}
	}
	return out
}

// files finds what there is to read of files or a revision.
func (r *diffRun) files(side *diffSide) ([]snapshot.Unit, func(), error) {
	flags := r.f.sourceFlags
	if side.checkout != nil {
		flags.helm.ValueFiles = r.valueFiles(side)
	}
	opts, closePool, err := flags.options(r.s, r.baseline)
	if err != nil {
		return nil, nil, err
	}
	opts.MayBeEmpty, opts.Ignored = true, side.ignored
	targets := side.targets
	if side.checkout != nil {
		opts.Base, opts.Missing = side.checkout.Base, side.missing()
		targets = slices.DeleteFunc(slices.Clone(targets), func(t string) bool {
			if strings.ContainsAny(t, "*?[{") || exists(filepath.Join(opts.Base, t)) {
				return false
			}
			r.note("%s has no %s", side.name, t)
			return true
		})
	}
	return source.Discover(targets, opts).Units, closePool, nil
}

// valueFiles are the files of values as a revision has them, else as they are
// here.
func (r *diffRun) valueFiles(side *diffSide) []string {
	var out []string
	for _, name := range r.f.helm.ValueFiles {
		in := filepath.Join(side.checkout.Base, name)
		switch {
		case filepath.IsLocal(name) && isFile(in):
			out = append(out, in)
		case filepath.IsLocal(name):
			r.note("%s has no %s: the one here was used", side.name, name)
			out = append(out, name)
		default:
			out = append(out, name)
		}
	}
	return out
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// missing is what the revision lacks (submodules) in the files that are read.
func (s *diffSide) missing() []verdict.Problem {
	var out []verdict.Problem
	for _, p := range s.checkout.Missing {
		name, err := filepath.Rel(s.checkout.Base, filepath.Join(s.checkout.Root, p.Position.File))
		if err != nil {
			name = p.Position.File
		}
		p.Position.File = name
		if slices.ContainsFunc(s.targets, func(t string) bool {
			t = filepath.Clean(t)
			return t == "." && filepath.IsLocal(name) || name == t || strings.HasPrefix(name, t+string(filepath.Separator)) || strings.HasPrefix(t, name+string(filepath.Separator))
		}) {
			out = append(out, p)
		}
	}
	return out
}

// overlay returns the files of a side and, of the cluster below, what they do not
// name, nor what is made of that. It is how the cluster would be with the files
// applied.
func (r *diffRun) overlay(ctx context.Context, below *diffSide, files []snapshot.Unit) ([]snapshot.Unit, func(), error) {
	units, closeUnits, err := r.units(ctx, below)
	if err != nil {
		return nil, nil, err
	}
	l := &layers{
		below: below, namespace: cmp.Or(below.part, r.f.clusterFlags.namespace, metav1.NamespaceDefault),
		named: map[place]bool{}, left: len(files), ready: make(chan struct{}), owners: map[string]place{},
	}
	for at, k := range below.kin {
		if k.uid != "" {
			l.owners[k.uid] = at
		}
	}
	if len(files) == 0 {
		close(l.ready)
	}
	var out []snapshot.Unit
	for _, u := range files {
		out = append(out, &sieve{u, l.over, nil, l.done})
	}
	for _, u := range units {
		out = append(out, &sieve{u, l.under, l.await, nil})
	}
	return out, closeUnits, nil
}

// layers are files over a cluster.
type layers struct {
	below     *diffSide
	namespace string           // of what names none
	owners    map[string]place // by uid

	mu    sync.Mutex
	named map[place]bool
	left  int           // files that were not read yet
	ready chan struct{} // closed when all were
}

// over notes what a file names.
func (l *layers) over(o *object.Object) *object.Object {
	if o.Namespace == "" && l.below.spaced[o.GroupKind()] {
		in := *o
		in.Namespace = l.namespace
		o = &in
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.named[placeOf(o.Ref)] = true
	return o
}

// done notes that a file was read.
func (l *layers) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left--; l.left == 0 {
		close(l.ready)
	}
}

// await waits until all files were read.
func (l *layers) await(ctx context.Context) {
	select {
	case <-l.ready:
	case <-ctx.Done():
	}
}

// under keeps back what the files name, and what is made of that.
func (l *layers) under(o *object.Object) *object.Object {
	at := placeOf(o.Ref)
	for range engine.MaxOwners {
		if l.named[at] {
			return nil
		}
		owner, ok := l.owners[l.below.kin[at].controller]
		if !ok {
			return o
		}
		at = owner
	}
	return o
}
