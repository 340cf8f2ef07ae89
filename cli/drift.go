// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"

	"sconce.dev/sconce/baseline"
	"sconce.dev/sconce/drift"
	"sconce.dev/sconce/engine"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/snapshot"
	"sconce.dev/sconce/source/cluster"
	"sconce.dev/sconce/verdict"
)

type driftFlags struct {
	configFlags
	clusterFlags
	since  string
	format string
	failOn []string
}

func newDrift(s Streams) *cobra.Command {
	f := &driftFlags{}
	cmd := &cobra.Command{
		Use:   "drift [OLD NEW]",
		Short: "Say what was changed for the worse, by whom, and what undoes it",
		Long: `Drift compares a cluster with a snapshot of it that was saved before, or two
snapshots. Of each object that was there before and meets a control no more it
says what the field was and is, who set it (by the field managers that the API
server keeps), and the kubectl command that undoes that. The command first tests
what was seen, and does nothing to an object that has changed again.

Without --since it says the same of everything that does not meet the baseline.

It reads with "list" alone, and changes nothing. A removal leaves no trace in the
field managers: then the manager is named that last changed what is nearest, and
that is said. What a Pod or a ReplicaSet has from its owner is told of the owner.

Exit codes: 0 no drift; 1 drift, at or above --fail-on; 2 not everything could be
read.`,
		Example: `  sconce snapshot save monday.sconce --context prod
  sconce drift --since monday.sconce --context prod
  sconce drift monday.sconce tuesday.sconce
  sconce drift -n shop --control privileged-container -o json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 0 && len(args) != 2 {
				return fmt.Errorf("want two snapshots, or none and the cluster: `sconce drift OLD NEW`, or `sconce drift --since OLD`")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return runDrift(s, f, args) },
	}
	f.configFlags.register(cmd)
	f.clusterFlags.register(cmd)
	_ = cmd.Flags().MarkHidden("complete") // the cluster and the files say so
	cmd.Flags().StringVar(&f.since, "since", "", "`FILE` that sconce snapshot save wrote before, to compare with")
	cmd.Flags().StringVarP(&f.format, "output", "o", "text", "format: text, json")
	cmd.Flags().StringSliceVar(&f.failOn, "fail-on", []string{"low"}, "what makes the exit code 1: drift of this severity and worse (critical, high, medium, low), or none")
	return cmd
}

func runDrift(s Streams, f *driftFlags, args []string) error {
	limit, err := parseThreshold(f.failOn)
	if err != nil {
		return err
	}
	if f.format != "text" && f.format != "json" {
		return fmt.Errorf("unknown output %q; want text or json", f.format)
	}
	ctx, stop := interruptible()
	defer stop()
	r := &driftRun{f: f, s: s, objects: map[place]*object.Object{}, managers: map[place][]metav1.ManagedFieldsEntry{}}
	if len(args) == 2 {
		r.f.since, r.file = args[0], args[1]
	}
	changes, err := r.compare(ctx)
	if err != nil {
		return fmt.Errorf("drift: %w", err)
	}
	worst, err := r.tell(changes)
	if err != nil {
		return fmt.Errorf("drift: %w", err)
	}
	switch {
	case r.problems > 0:
		return exitCode(exitError)
	case worst <= limit.rank:
		return exitCode(exitFindings)
	}
	return nil
}

// failing is what a finding is where there is nothing to compare with.
const failing drift.Event = "failing"

// place names an object whatever the version that it was read in.
type place struct {
	object.GroupKind
	namespace, name string
}

func placeOf(ref object.Ref) place {
	return place{object.GroupKind{Group: ref.Group(), Kind: ref.Kind}, ref.Namespace, ref.Name}
}

// driftRun compares.
type driftRun struct {
	f    *driftFlags
	s    Streams
	file string // the newer snapshot, if it is no cluster

	baseline *baseline.Baseline
	engine   *engine.Engine
	problems int

	cluster  *cluster.Cluster
	kinds    []cluster.Kind
	taken    time.Time
	before   map[place]*object.Object
	objects  map[place]*object.Object // as they are now
	managers map[place][]metav1.ManagedFieldsEntry
}

// compare returns what changed, and reads what is needed to tell more of it.
func (r *driftRun) compare(ctx context.Context) ([]drift.Change, error) {
	now, err := r.now(ctx)
	if err != nil {
		return nil, err
	}
	if r.f.since == "" {
		var out []drift.Change
		for _, f := range now.Findings() {
			out = append(out, drift.Change{Event: failing, Finding: f})
		}
		return out, r.look(ctx, out)
	}
	then, err := r.ofFile(ctx, r.f.since)
	if err != nil {
		return nil, err
	}
	out := drift.Compare(then, now)
	if err := r.look(ctx, out); err != nil {
		return nil, err
	}
	r.before, err = r.pick(ctx, r.f.since, drifted(out))
	return out, err
}

// drifted are the objects of which more is told.
func drifted(changes []drift.Change) map[place]bool {
	out := map[place]bool{}
	for _, c := range changes {
		if explained(c.Event) {
			out[placeOf(c.Finding.Object)] = true
		}
	}
	return out
}

// explained says whether more is told of a change: who made it, and what undoes
// it. Of what is cleared, new or gone nothing is to be undone.
func explained(e drift.Event) bool {
	return e == drift.Appeared || e == drift.Changed || e == failing
}

// now judges the cluster, or the newer of two snapshots.
func (r *driftRun) now(ctx context.Context) (*drift.Look, error) {
	if r.file != "" {
		return r.ofFile(ctx, r.file)
	}
	var err error
	if r.cluster, err = r.f.connect(); err != nil {
		return nil, err
	}
	if r.f.since != "" && r.f.namespace == "" {
		// A snapshot of one namespace is compared with that.
		snap, closeSnapshot, err := openSnapshot(r.f.since)
		if err != nil {
			return nil, err
		}
		closeSnapshot()
		r.f.namespace = snap.Header.Namespace
	}
	if err := r.load(r.cluster.Version()); err != nil {
		return nil, err
	}
	kinds, problems := r.cluster.Kinds(ctx, r.f.wanted(r.engine))
	r.kinds = kinds
	return r.judge(ctx, r.cluster.Units(kinds, r.f.namespace, problems...))
}

// load resolves the baseline for a version, once: both looks are by the same.
func (r *driftRun) load(server string) error {
	if r.engine != nil {
		return nil
	}
	var err error
	r.baseline, r.engine, err = r.f.judgeAs(server, r.f.namespace)
	return err
}

// ofFile judges a snapshot.
func (r *driftRun) ofFile(ctx context.Context, file string) (*drift.Look, error) {
	snap, closeSnapshot, err := openSnapshot(file)
	if err != nil {
		return nil, err
	}
	defer closeSnapshot()
	switch h := &snap.Header; {
	case h.Namespace != "" && r.f.namespace != "" && h.Namespace != r.f.namespace:
		return nil, fmt.Errorf("%s holds the namespace %s, not %s", file, h.Namespace, r.f.namespace)
	case file == r.f.since:
		r.taken = h.Taken
	default:
		r.f.namespace = h.Namespace
	}
	if err := r.load(snap.Header.Server); err != nil {
		return nil, err
	}
	return r.judge(ctx, snap.Units(wantedBy(r.engine, snap.Header.AllKinds)))
}

// judge judges units, and says which objects there are.
func (r *driftRun) judge(ctx context.Context, units []snapshot.Unit) (*drift.Look, error) {
	c := &census{look: drift.NewLook(), kin: map[place]kin{}, namespace: r.f.namespace}
	watched := make([]snapshot.Unit, len(units))
	for i, u := range units {
		watched[i] = &counted{u, c}
	}
	var findings []verdict.Finding
	_, err := r.engine.Run(ctx, watched, 0, engine.Output{
		Result: func(res *engine.Result) error {
			findings = append(findings, res.Findings...)
			return nil
		},
		Problem: func(p verdict.Problem) error {
			r.problems++
			_, err := fmt.Fprintf(r.s.Err, "sconce: %s\n", p.Message)
			return err
		},
		Notice: func(verdict.Notice) error { return nil },
	})
	if err != nil {
		return nil, err
	}
	c.take(findings)
	return c.look, nil
}

// census notes which objects there are, and whose they are.
type census struct {
	mu        sync.Mutex
	look      *drift.Look
	kin       map[place]kin
	namespace string // what is elsewhere is left out
}

// kin is who an object is and by what it was made.
type kin struct {
	uid, controller string
	past            bool // it is kept by its controller, and runs nothing
}

// counted is a unit whose objects are noted.
type counted struct {
	snapshot.Unit
	census *census
}

// Read implements snapshot.Unit.
func (u *counted) Read(ctx context.Context, sink snapshot.Sink) snapshot.Tally {
	pass := sink.Object
	sink.Object = func(o *object.Object) {
		if u.census.note(o) {
			pass(o)
		}
	}
	return u.Unit.Read(ctx, sink)
}

// note notes an object, and says whether it is to be judged.
func (c *census) note(o *object.Object) bool {
	inside := o.Namespace == c.namespace || o.Kind == "Namespace" && o.Group() == "" && o.Name == c.namespace
	if c.namespace != "" && !inside {
		return false
	}
	k := kin{uid: o.Root.At("metadata", "uid").Str(), controller: engine.Owner(o), past: engine.OldRevision(o)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look.Object(o.Ref)
	c.kin[placeOf(o.Ref)] = k
	return true
}

// take notes findings. One that an object has because its controller has it is
// told of that.
func (c *census) take(findings []verdict.Finding) {
	type fault struct{ uid, control string }
	fails := map[fault]bool{}
	for i := range findings {
		f := &findings[i]
		fails[fault{c.kin[placeOf(f.Object)].uid, f.Control}] = true
	}
	for i := range findings {
		f := &findings[i]
		k := c.kin[placeOf(f.Object)]
		if !k.past && (k.controller == "" || !fails[fault{k.controller, f.Control}]) {
			c.look.Finding(f)
		}
	}
}

// pick reads some objects of a snapshot.
func (r *driftRun) pick(ctx context.Context, file string, wanted map[place]bool) (map[place]*object.Object, error) {
	out := map[place]*object.Object{}
	if len(wanted) == 0 {
		return out, nil
	}
	snap, closeSnapshot, err := openSnapshot(file)
	if err != nil {
		return nil, err
	}
	defer closeSnapshot()
	for _, u := range snap.Units(func(object.GroupKind) bool { return true }) {
		u.Read(ctx, snapshot.Sink{
			Object: func(o *object.Object) {
				if at := placeOf(o.Ref); wanted[at] {
					out[at] = o
				}
			},
			Problem: func(verdict.Problem) {}, // it was told when all was read
		})
	}
	return out, ctx.Err()
}

// readers is how many objects are read at once.
const readers = 8

// look reads the objects that drifted as they are now, with who set what.
func (r *driftRun) look(ctx context.Context, changes []drift.Change) (err error) {
	wanted := drifted(changes)
	if r.file != "" {
		r.objects, err = r.pick(ctx, r.file, wanted)
		return err
	}
	if len(wanted) == 0 {
		return nil
	}
	config, err := r.f.restConfig()
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("connecting to the cluster: %w", err)
	}
	queue := make(chan place)
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range readers {
		wg.Go(func() {
			for at := range queue {
				u, readErr := readOne(ctx, client, r.kinds, at)
				if u == nil && readErr == nil {
					continue // it is gone in the meantime
				}
				mu.Lock()
				if readErr != nil {
					err = readErr
				} else if o, parseErr := liveObject(u); parseErr == nil {
					r.objects[at], r.managers[at] = o, u.GetManagedFields()
				}
				mu.Unlock()
			}
		})
	}
	for at := range wanted {
		queue <- at
	}
	close(queue)
	wg.Wait()
	return err
}

// tell prints the changes and returns the rank of the worst that is drift.
func (r *driftRun) tell(changes []drift.Change) (worst int, err error) {
	out := bufio.NewWriter(r.s.Out)
	worst = len(verdict.Severities)
	counts := map[drift.Event]int{}
	for i := range changes {
		c := &changes[i]
		counts[c.Event]++
		if c.Event.IsDrift() || c.Event == failing {
			worst = min(worst, verdict.Rank(c.Finding.Severity))
		}
		t := r.describe(c)
		if r.f.format == "json" {
			err = json.NewEncoder(out).Encode(t)
		} else {
			t.print(out)
		}
		if err != nil {
			return worst, err
		}
	}
	if r.f.format == "text" {
		r.summary(out, counts)
	}
	return worst, out.Flush()
}

func (r *driftRun) summary(out io.Writer, counts map[drift.Event]int) {
	if r.f.since == "" {
		_, _ = fmt.Fprintf(out, "%d findings against the baseline %s\n", counts[failing], r.baseline.Name)
		return
	}
	_, _ = fmt.Fprintf(out, "since %s:", r.taken.Format(time.RFC3339))
	for i, e := range drift.Events {
		if i > 0 {
			_, _ = fmt.Fprint(out, ",")
		}
		_, _ = fmt.Fprintf(out, " %d %s", counts[e], e)
	}
	_, _ = fmt.Fprintln(out)
}

// describe says all that is known of a change.
func (r *driftRun) describe(c *drift.Change) *told {
	f := &c.Finding
	t := &told{Event: c.Event, Finding: *f, Message: c.Was}
	at := placeOf(f.Object)
	o := r.objects[at]
	if o == nil || !explained(c.Event) {
		return t
	}
	path := drift.Locate(o.Root, f.Path)
	t.Is = r.value(f.Control, o, path)
	before := r.before[at]
	if before != nil {
		t.Was = r.value(f.Control, before, drift.Locate(before.Root, f.Path))
	}
	if by := drift.Manager(o.Root, r.managers[at], path); by.Manager != "" {
		t.By = &by
	}
	t.Undo = r.undo(before, o, f)
	return t
}

// value is what a field holds, as it may be shown.
func (r *driftRun) value(control string, o *object.Object, path object.Path) string {
	for _, rule := range r.baseline.Rules {
		if rule.Name == control && rule.Spec.Sensitive {
			return verdict.Masked
		}
	}
	return drift.Value(o, path)
}

// undo returns what puts back what was there, or else what clears the finding.
func (r *driftRun) undo(before, o *object.Object, f *verdict.Finding) *undo {
	now := f
	for _, other := range judge(r.engine)(o) {
		if other.Fingerprint == f.Fingerprint {
			now = &other // with the edits for the object as it is
		}
	}
	var p *drift.Patch
	var err error
	if before != nil {
		p, err = drift.Restore(before, o, now, judge(r.engine))
	}
	if p == nil {
		p, err = drift.Undo(o, now)
	}
	if err != nil {
		return &undo{Refused: err.Error()}
	}
	return &undo{Command: p.Command(), Patch: p.Ops, Note: p.Note}
}
