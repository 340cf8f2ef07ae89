// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source/cluster"
	"sconce.dev/sconce/verdict"
)

// sources are where policies of other languages come from.
type sources struct {
	folders   []*folder
	installed *installed // nil where what is in the cluster is not asked for
}

// any says whether there are any.
func (s *sources) any() bool { return len(s.folders) > 0 || s.installed != nil }

// firstPatience is how long is waited until every source was read once.
const firstPatience = 20 * time.Second

// wait waits until every source was read, or not for long.
func (s *sources) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, firstPatience)
	defer cancel()
	all := make([]<-chan struct{}, 0, len(s.folders)+1)
	for _, f := range s.folders {
		all = append(all, f.first)
	}
	if s.installed != nil {
		all = append(all, s.installed.first)
	}
	for _, first := range all {
		select {
		case <-ctx.Done():
			return
		case <-first:
		}
	}
}

// documents returns what the sources hold, and what could not be read. Of a
// source that was never read, it is what was in force before.
func (s *sources) documents(before func() []document) (out []document, unread []refusal) {
	for _, f := range s.folders {
		docs, problem, read := f.state()
		if !read {
			docs = slices.DeleteFunc(slices.Clone(before()), func(d document) bool { return d.From != f.Name })
		}
		out = append(out, docs...)
		if problem != "" {
			unread = append(unread, refusal{fromFiles, f.Name, problem})
		}
	}
	if s.installed != nil {
		docs, problems := s.installed.state()
		out, unread = append(out, docs...), append(unread, problems...)
	}
	return out, unread
}

// folder follows a source of files.
type folder struct {
	PolicySource
	changed signal
	first   chan struct{} // closed once it was tried to read it

	mu      sync.Mutex
	docs    []document
	sum     string
	read    bool
	problem string
}

func newFolder(s PolicySource, changed signal) *folder {
	s.Every = cmp.Or(s.Every, defaultEvery)
	return &folder{PolicySource: s, changed: changed, first: make(chan struct{})}
}

const (
	defaultEvery = 10 * time.Second
	// readPatience is how long reading a source may take.
	readPatience = 90 * time.Second
	// maxPolicyBytes bounds the files of a source.
	maxPolicyBytes = 32 << 20
)

// NeedLeaderElection says that every replica follows the sources.
func (f *folder) NeedLeaderElection() bool { return false }

// Start follows the source until the context ends.
func (f *folder) Start(ctx context.Context) error {
	f.look(ctx)
	close(f.first)
	for {
		pause(ctx, f.Every)
		if ctx.Err() != nil {
			return nil
		}
		f.look(ctx)
	}
}

// look reads the source. What it held before stays where it cannot be read.
func (f *folder) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	files, err := f.Read(ctx)
	var docs []document
	if err == nil {
		docs, err = documentsOf(f.Name, files)
	}
	problem := ""
	switch {
	case err != nil:
		problem = "policies cannot be read: " + err.Error()
	case len(docs) == 0:
		problem = "there is no policy"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	news := problem != f.problem
	f.problem = problem
	if err == nil {
		sum := hash(docs)
		news = news || !f.read || sum != f.sum
		f.docs, f.sum, f.read = docs, sum, true
	}
	if news {
		f.changed.raise()
	}
}

func (f *folder) state() (docs []document, problem string, read bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.docs, f.problem, f.read
}

// fileKind is the kind of documents that are files.
const fileKind = "File"

var errTooLarge = errors.New("they are larger than 32 MiB: name folders that hold policies and nothing else")

func documentsOf(source string, files []PolicyFile) ([]document, error) {
	size := 0
	out := make([]document, 0, len(files))
	for _, f := range files {
		if size += len(f.Data); size > maxPolicyBytes {
			return nil, errTooLarge
		}
		text, err := json.Marshal(string(f.Data))
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", f.Name, err)
		}
		out = append(out, document{key: key{fileKind, f.Name}, Spec: text, From: source})
	}
	return sorted(out), nil
}

// installedKinds are the kinds of policies that can be installed in a cluster and
// that rules are made of, by their groups; all of a group where there are none.
var installedKinds = map[string][]string{
	"admissionregistration.k8s.io": {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"},
	"kyverno.io":                   {"ClusterPolicy", "Policy", "PolicyException"},
	"policies.kyverno.io":          {"ValidatingPolicy", "NamespacedValidatingPolicy", "ImageValidatingPolicy", "NamespacedImageValidatingPolicy", "PolicyException"},
	"templates.gatekeeper.sh":      {"ConstraintTemplate"},
	"constraints.gatekeeper.sh":    nil,
	"expansion.gatekeeper.sh":      {"ExpansionTemplate"},
}

// canBeInstalled says whether a kind is one of policies.
func canBeInstalled(gk object.GroupKind) bool {
	kinds, ok := installedKinds[gk.Group]
	return ok && (kinds == nil || gk.Kind == cluster.AnyKind || slices.Contains(kinds, gk.Kind))
}

// installed follows the policies that are installed in the cluster.
type installed struct {
	cluster *cluster.Cluster
	// served is raised when the API may serve other kinds, changed when there are
	// other policies.
	served, changed signal
	first           chan struct{} // closed once all were read

	mu      sync.Mutex
	kinds   map[cluster.Kind]*installedKind
	problem string // why it is not known which kinds there are
	read    bool
}

// installedKind is what is known of a kind of policies.
type installedKind struct {
	stop      context.CancelFunc
	told      bool // it was read, or it cannot be
	documents map[key]document
	problem   string
}

func newInstalled(c *cluster.Cluster, changed signal) *installed {
	return &installed{cluster: c, served: newSignal(), changed: changed, first: make(chan struct{}), kinds: map[cluster.Kind]*installedKind{}}
}

// NeedLeaderElection says that every replica follows them: what is in force is
// the same in all.
func (i *installed) NeedLeaderElection() bool { return false }

// Start follows the policies until the context ends.
func (i *installed) Start(ctx context.Context) error {
	var feeds sync.WaitGroup
	defer feeds.Wait()
	for ctx.Err() == nil {
		var again <-chan time.Time
		if !i.discover(ctx, &feeds) {
			timer := time.NewTimer(lingering)
			defer timer.Stop()
			again = timer.C
		}
		select {
		case <-ctx.Done():
		case <-again:
		case <-i.served:
			i.served.settle(ctx, kindsQuiet, kindsPatience)
		}
	}
	return nil
}

// discover follows the kinds of policies that the API serves now, and no others.
// It returns false if that could not be found out.
func (i *installed) discover(ctx context.Context, feeds *sync.WaitGroup) bool {
	served, problems := i.cluster.Kinds(ctx, canBeInstalled)
	i.mu.Lock()
	defer i.mu.Unlock()
	before := i.problem
	i.problem = ""
	for _, p := range problems {
		i.problem = p.Message
	}
	if i.problem != before {
		i.changed.raise()
	}
	if len(problems) == 0 {
		for k, kind := range i.kinds {
			if !slices.Contains(served, k) {
				kind.stop()
				delete(i.kinds, k)
				i.changed.raise()
			}
		}
	}
	for _, k := range served {
		if i.kinds[k] == nil {
			following, stop := context.WithCancel(ctx)
			i.kinds[k] = &installedKind{stop: stop, documents: map[key]document{}}
			feeds.Go(func() { i.cluster.Feed(following, k, installedFeed{i, k}) })
		}
	}
	if len(served) > 0 || len(problems) == 0 || i.problem != "" {
		i.check()
	}
	return len(problems) == 0
}

// check says, once, that all were read. The lock is held.
func (i *installed) check() {
	for _, kind := range i.kinds {
		if !kind.told {
			return
		}
	}
	if !i.read {
		i.read = true
		close(i.first)
	}
}

// state returns the policies, and what cannot be read.
func (i *installed) state() (docs []document, unread []refusal) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.problem != "" {
		unread = append(unread, refusal{fromCluster, "kinds of policies", i.problem})
	}
	for k, kind := range i.kinds {
		if kind.problem != "" {
			unread = append(unread, refusal{fromCluster, k.String(), kind.problem})
		}
		for _, d := range kind.documents {
			docs = append(docs, d)
		}
	}
	slices.SortFunc(unread, func(a, b refusal) int { return cmp.Compare(a.at, b.at) })
	return docs, unread
}

// installedFeed is told of one kind of policies.
type installedFeed struct {
	*installed
	kind cluster.Kind
}

// maxInstalled is how many policies of a kind are read.
const maxInstalled = 5000

// change changes what is known of the kind, and tells if change says so.
func (f installedFeed) change(change func(*installedKind) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if kind := f.kinds[f.kind]; kind != nil && change(kind) {
		f.changed.raise()
	}
}

func (f installedFeed) key(namespace, name string) key {
	if namespace != "" {
		name = namespace + "/" + name
	}
	return key{f.kind.Kind + "." + f.kind.Group, name}
}

// Set implements cluster.Handler.
func (f installedFeed) Set(live cluster.Live) {
	k := f.key(live.Namespace, live.Name)
	text, err := json.Marshal(trimmed(live.Root))
	f.change(func(kind *installedKind) bool {
		switch before, ok := kind.documents[k]; {
		case err != nil:
			kind.problem = fmt.Sprintf("%s cannot be read: %v", k, err)
			return true
		case !ok && len(kind.documents) >= maxInstalled:
			changed := kind.problem == ""
			kind.problem = fmt.Sprintf("there are more than %d, and the others are not read", maxInstalled)
			return changed
		case ok && string(before.Spec) == string(text):
			return false
		}
		kind.documents[k] = document{key: k, Spec: text, From: installedFrom}
		return true
	})
}

// trimmed returns what makes a policy of an object: neither what is written of it
// nor what the API server notes.
func trimmed(root *object.Node) map[string]any {
	out, _ := root.Any().(map[string]any)
	delete(out, "status")
	metadata, _ := out["metadata"].(map[string]any)
	kept := map[string]any{}
	for _, field := range []string{"name", "namespace", "labels", "annotations", "ownerReferences"} {
		if v, ok := metadata[field]; ok {
			kept[field] = v
		}
	}
	if annotations, ok := kept["annotations"].(map[string]any); ok {
		delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
	}
	out["metadata"] = kept
	return out
}

// Delete implements cluster.Handler.
func (f installedFeed) Delete(ref object.Ref) {
	f.change(func(kind *installedKind) bool {
		k := f.key(ref.Namespace, ref.Name)
		_, ok := kind.documents[k]
		delete(kind.documents, k)
		return ok
	})
}

// Synced implements cluster.Handler.
func (f installedFeed) Synced(cluster.Kind) {
	f.change(func(kind *installedKind) bool {
		kind.told = true
		f.check()
		return false
	})
}

// Problem implements cluster.Handler.
func (f installedFeed) Problem(_ cluster.Kind, p *verdict.Problem) {
	message := ""
	if p != nil {
		message = p.Message
	}
	f.change(func(kind *installedKind) bool {
		changed := kind.problem != message
		kind.problem, kind.told = message, true
		f.check()
		return changed
	})
}
