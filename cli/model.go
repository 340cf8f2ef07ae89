// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/control"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/posture"
	"sconce.dev/sconce/report"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/source/cluster"
	"sconce.dev/sconce/verdict"
)

// modelFlags say where the objects come from of which questions are asked: files
// if they are named, else the cluster of the kubeconfig.
type modelFlags struct {
	clusterFlags
	sourceFlags
	from        []string
	kubeVersion string
	complete    bool
	quiet       bool
	// defaultNamespace is that of what names none.
	defaultNamespace string
}

func (f *modelFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.from, "filename", "f", nil, "read this file, folder, glob, chart, overlay or snapshot of a cluster, or - for standard input, instead of the cluster; can be repeated")
	f.clusterFlags.registerConnection(cmd)
	flags.StringVar(&f.kubeVersion, "kube-version", "", "version of the cluster that the objects are for, as in 1.36 (default: the API server's; of files, the newest)")
	flags.BoolVar(&f.complete, "complete", false, "with -f: what is read is all that there is in the cluster")
	flags.StringVar(&f.defaultNamespace, "default-namespace", "", "with -f: what names no namespace in files is in this one; what charts make is in --release-namespace")
	f.sourceFlags.registerWith(cmd, "", "")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "show no progress on standard error")
}

// modelled is what was read, and from where.
type modelled struct {
	*posture.Posture
	// From is what was read, in words: "the cluster prod", "deploy/, base/".
	From string
	// Kinds are what the API serves, where that is known.
	Kinds []cluster.Kind
	files bool // they were read, and no cluster
	// Env is what the models were built for.
	Env facts.Env
}

// origin is what objects are read from.
type origin struct {
	from  string
	kinds []cluster.Kind
	units []snapshot.Unit
	env   facts.Env
	noun  string // the units, in words
	files bool   // and no cluster
	close func()
}

// read reads what the flags name and builds the models. What could not be read
// is told on standard error; exit then says so.
func (f *modelFlags) read(s Streams, what posture.What) (*modelled, error) {
	return f.readWith(s, what, posture.Reads(what), nil)
}

// readWith also hands over each object that is read, from any goroutine, if it is
// told to whom.
func (f *modelFlags) readWith(s Streams, what posture.What, wanted func(object.GroupKind) bool, each func(*object.Object)) (*modelled, error) {
	ctx, stop := interruptible()
	defer stop()
	from, err := f.open(ctx, s, wanted)
	if err != nil {
		return nil, err
	}
	defer from.close()
	progress := newProgress(s.Err, len(from.units), from.noun, f.quiet)
	progress.verb = "read"
	if each != nil {
		for i, u := range from.units {
			from.units[i] = &sieve{u, func(o *object.Object) *object.Object { each(o); return o }, nil, nil}
		}
	}
	p, err := posture.Read(ctx, from.units, from.env, what, progress.done)
	progress.clear()
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", from.from, err)
	}
	if p.Objects == 0 && len(p.Problems) == 0 {
		return nil, fmt.Errorf("reading %s: there is no Kubernetes object in it", from.from)
	}
	tellProblems(s, p.Problems)
	if p.Objects == 0 {
		return nil, exitCode(exitError)
	}
	return &modelled{Posture: p, From: from.from, Kinds: from.kinds, Env: from.env, files: from.files}, nil
}

// maxProblems is how many problems are told one by one.
const maxProblems = 20

// tellProblems says what could not be read.
func tellProblems(s Streams, problems []verdict.Problem) {
	for i, p := range problems {
		if i == maxProblems {
			_, _ = fmt.Fprintf(s.Err, "sconce: and %d more that could not be read; `sconce scan` lists them all\n", len(problems)-i)
			return
		}
		_, _ = fmt.Fprintf(s.Err, "sconce: %s\n", report.ProblemText(&p))
	}
}

// exit is how a program ends that has answered: not all could be read, or it
// answered no where it was asked for yes.
func (m *modelled) exit(failed bool) error {
	switch {
	case len(m.Problems) > 0:
		return exitCode(exitError)
	case failed:
		return exitCode(exitFindings)
	}
	return nil
}

// open finds what is to be read.
func (f *modelFlags) open(ctx context.Context, s Streams, wanted func(object.GroupKind) bool) (*origin, error) {
	version := control.Version{}
	if f.kubeVersion != "" {
		var err error
		if version, err = control.ParseVersion(f.kubeVersion); err != nil {
			return nil, fmt.Errorf("--kube-version: %w", err)
		}
	}
	switch snapshots := countSnapshots(f.from); {
	case len(f.from) == 0:
		return f.openCluster(ctx, version, wanted)
	case snapshots == 0:
		return f.openFiles(s, version)
	case len(f.from) > 1:
		return nil, errors.New("-f: a snapshot holds all of a cluster and is read alone")
	}
	return f.openSaved(version, wanted)
}

func countSnapshots(paths []string) int {
	return len(slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return !isSnapshot(p) }))
}

// openCluster finds what there is in the cluster.
func (f *modelFlags) openCluster(ctx context.Context, version control.Version, wanted func(object.GroupKind) bool) (*origin, error) {
	c, err := f.connect()
	if err != nil {
		return nil, fmt.Errorf("%w; to ask of files, name them with -f", err)
	}
	served := c.Served(ctx)
	kinds, problems := served.Wanted(wanted)
	return &origin{
		from: "the cluster " + c.Name, kinds: served.Kinds, units: c.Units(kinds, "", problems...), noun: "kinds",
		env: envFor(version, c.Version(), true), close: func() {},
	}, nil
}

// openSaved finds what there is in a snapshot of a cluster.
func (f *modelFlags) openSaved(version control.Version, wanted func(object.GroupKind) bool) (*origin, error) {
	snap, closeSnapshot, err := openSnapshot(f.from[0])
	if err != nil {
		return nil, fmt.Errorf("-f: %w", err)
	}
	h := &snap.Header
	return &origin{
		from: fmt.Sprintf("%s, a snapshot of the cluster %s", f.from[0], h.Cluster), kinds: slices.Concat(h.Kinds, h.Others), units: snap.Units(wanted), noun: "kinds",
		env: envFor(version, h.Server, h.Namespace == ""), close: closeSnapshot,
	}, nil
}

// openFiles finds what there is in files.
func (f *modelFlags) openFiles(s Streams, version control.Version) (*origin, error) {
	env := envFor(version, "", f.complete)
	plan, closeSources, err := f.discover(s, f.from, &baseline.Baseline{Version: control.Minor(env.Minor)})
	if err != nil {
		return nil, err
	}
	for i, u := range plan.Units {
		plan.Units[i] = &sieve{u, f.place, nil, nil}
	}
	return &origin{from: strings.Join(f.from, ", "), units: plan.Units, noun: "files, charts and overlays", files: true, env: env, close: closeSources}, nil
}

// place returns an object in the namespace that it is applied to.
func (f *modelFlags) place(o *object.Object) *object.Object {
	if o.Origin.Renderer == "helm" {
		return posture.Place(o, f.helm.Namespace)
	}
	return posture.Place(o, f.defaultNamespace)
}

// envFor is what facts depend on beside objects: the version that was named, else
// the API server's, else the newest.
func envFor(version control.Version, server string, complete bool) facts.Env {
	env := facts.Env{Named: true, Today: time.Now(), Complete: complete}
	if version.IsZero() {
		version, _ = control.ParseVersion(versionOf(server)) // none if that is no version
	}
	if version.IsZero() {
		version, env.Named = control.Newest, false
	}
	env.Minor, env.Patch = version.Minor(), version.Patch()
	return env
}
