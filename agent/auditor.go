// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sconce.dev/sconce/audit"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/source/cluster"
	"sconce.dev/sconce/verdict"
)

// auditor keeps the verdicts on all that is in the cluster up to date. It runs
// where the replica leads.
type auditor struct {
	cluster *cluster.Cluster
	force   func() *set
	// changed is raised when the set in force may have changed, served when the
	// API may serve other kinds.
	changed, served signal
	secrets         bool // Secrets may be read
	// appeared is told of findings that are new, and whether the object is; that
	// is nil where several together made them appear.
	appeared func(s *set, k cluster.Kind, live *cluster.Live, findings []verdict.Finding, first bool)
	// again, where it is set, is told of what fails on an object that has
	// changed, whether or not it did before.
	again func(s *set, k cluster.Kind, live *cluster.Live, failing []verdict.Finding)
	// updated is raised when verdicts have changed.
	updated signal
	log     *slog.Logger
	metrics *metrics

	current atomic.Pointer[round] // whose verdicts are told
}

// round is an audit by one set: when the set changes, another begins, and takes
// the place of this one once it has seen everything.
type round struct {
	*auditor
	set   *set
	state *audit.State
	// child returns a context that ends with the round, which stop ends.
	child func() (context.Context, context.CancelFunc)
	stop  context.CancelFunc
	wake  signal // a change was judged
	done  signal // everything was seen for the first time
	feeds sync.WaitGroup

	// lacking are the groups of which it could not be found out what they serve.
	lacking map[object.GroupKind]*verdict.Problem

	mu      sync.Mutex
	kinds   map[cluster.Kind]context.CancelFunc // that are followed
	waiting map[cluster.Kind]bool               // those of which not everything was told yet
	seen    bool                                // nothing was left to wait for, once
	fresh   map[object.Ref]bool                 // new since the last settlement
	since   time.Time                           // the first change that is not settled yet

	// rest is until when what depends on changes is left, resting that it is woken
	// then. They are those of settle.
	rest    time.Time
	resting bool
}

// Start audits until the context ends.
func (a *auditor) Start(ctx context.Context) error {
	defer a.metrics.synced.Set(0)
	defer a.current.Store(nil)
	var running, next *round
	defer func() {
		running.end()
		next.end()
	}()
	for {
		if s := a.force(); s != nil && next == nil && (running == nil || running.set != s) {
			next = a.begin(ctx, s)
		}
		var seen signal
		if next != nil {
			seen = next.done
		}
		select {
		case <-ctx.Done():
			return nil
		case <-seen:
			running.end()
			running, next = next, nil
			a.current.Store(running)
			a.metrics.synced.Set(1)
			a.log.Info("audit has seen everything", "hash", running.set.hash, "objects", running.state.Summary().Objects)
			a.updated.raise()
		case <-a.changed:
			if s := a.force(); running != nil && s != running.set {
				a.metrics.synced.Set(0)
				a.changed.settle(ctx, roundQuiet, roundPatience)
			}
		case <-a.served:
			a.served.settle(ctx, kindsQuiet, kindsPatience)
			for _, r := range []*round{running, next} {
				r.discover(ctx)
			}
		}
	}
}

// All is read again when the set in force has not changed for roundQuiet, at the
// latest after roundPatience: many exceptions may come one by one.
const (
	roundQuiet    = 2 * time.Second
	roundPatience = 20 * time.Second
)

// After a CRD was made the API server takes a moment to tell of the new kind.
const (
	kindsQuiet    = time.Second
	kindsPatience = 10 * time.Second
)

// begin starts a round. The objects of the one before are let go only when it
// has seen everything.
func (a *auditor) begin(ctx context.Context, s *set) *round {
	going, stop := context.WithCancel(ctx)
	r := &round{
		auditor: a, set: s, state: audit.New(s.audit, audit.Options{}), stop: stop, wake: newSignal(), done: newSignal(),
		kinds: map[cluster.Kind]context.CancelFunc{}, waiting: map[cluster.Kind]bool{}, fresh: map[object.Ref]bool{},
	}
	r.child = func() (context.Context, context.CancelFunc) { return context.WithCancel(going) }
	a.metrics.synced.Set(0)
	a.log.Info("audit begins", "hash", s.hash, "rules", len(s.baseline.Rules))
	r.discover(ctx)
	r.feeds.Go(func() { r.settle(going) })
	return r
}

// end stops a round and waits for what it had running.
func (r *round) end() {
	if r == nil {
		return
	}
	r.stop()
	r.feeds.Wait()
}

// discover follows the kinds that the API serves now, and no others.
func (r *round) discover(ctx context.Context) {
	if r == nil {
		return
	}
	served, problems := r.cluster.Kinds(ctx, func(gk object.GroupKind) bool {
		if r.set.misses(gk) {
			r.state.Problem(gk, &verdict.Problem{Stage: verdict.Reading, Message: gk.Kind + "s are not read: they come and change all the time, and no rule names them; a policy that looks up whatever there is does not see them"})
		}
		return r.set.reads(gk) && (r.secrets || gk != secretKind)
	})
	if !r.secrets && r.set.audit.Reads(secretKind) {
		r.state.Problem(secretKind, &verdict.Problem{Stage: verdict.Reading, Message: "Secrets are not read, so nothing is known of them: let the agent read them (--read-secrets, and agent.readSecrets of the chart), or turn the controls about them off"})
	}
	r.discovery(problems)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(problems) == 0 {
		r.leave(served)
	} else {
		r.later(r.served.raise) // what could not be found out is tried again
	}
	if len(served) == 0 && len(problems) > 0 {
		return // nothing is known yet
	}
	for _, k := range served {
		if r.kinds[k] != nil {
			continue
		}
		feeding, stop := r.child()
		r.kinds[k] = stop
		r.waiting[k] = true
		r.feeds.Go(func() { r.cluster.Feed(feeding, k, following{r, k}) })
	}
	r.metrics.feeds.Set(float64(len(r.kinds)))
	r.check()
}

// discovery notes what kept kinds from being found.
func (r *round) discovery(problems []verdict.Problem) {
	lacking := map[object.GroupKind]*verdict.Problem{}
	for i := range problems {
		p := problems[i]
		of := object.GroupKind{Kind: facts.AnyKind}
		if p.Of.Group != "" && p.Of.Kind == cluster.AnyKind {
			of = object.GroupKind{Group: p.Of.Group, Kind: facts.AnyKind}
		}
		if before := lacking[of]; before != nil {
			p.Message = before.Message + "; " + p.Message
		}
		lacking[of] = &p
	}
	for of := range r.lacking {
		if lacking[of] == nil {
			r.state.Problem(of, nil)
		}
	}
	for of, p := range lacking {
		r.log.Error("finding out which kinds the API serves", "error", p.Message)
		r.state.Problem(of, p)
	}
	r.lacking = lacking
}

// lingering is how long a kind is followed that the API serves no more: its feed
// tells that its objects are gone.
const lingering = 30 * time.Second

// leave ends, after a while, the feeds of kinds that are no longer served. The
// lock is held.
func (r *round) leave(served []cluster.Kind) {
	for k, stop := range r.kinds {
		if slices.Contains(served, k) {
			continue
		}
		delete(r.kinds, k)
		delete(r.waiting, k)
		r.log.Info("kind is not served any more", "kind", k.String())
		r.later(func() {
			stop()
			r.forget(k.GroupKind)
		})
	}
}

// forget takes back a problem with a kind, unless that is followed in another
// version, whose problem it may be.
func (r *round) forget(gk object.GroupKind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range r.kinds {
		if k.GroupKind == gk {
			return
		}
	}
	r.state.Problem(gk, nil)
	r.check()
}

// later does something after a while, unless the round ends before.
func (r *round) later(do func()) { r.after(lingering, do) }

// after does something when some time has passed, unless the round ends before.
func (r *round) after(wait time.Duration, do func()) {
	ctx, stop := r.child()
	r.feeds.Go(func() {
		defer stop()
		pause(ctx, wait)
		if ctx.Err() == nil {
			do()
		}
	})
}

// following is a round that is told of one kind.
type following struct {
	*round
	kind cluster.Kind
}

// Set implements cluster.Handler.
func (r following) Set(live cluster.Live) {
	delta := r.state.Set(live.Object)
	r.mu.Lock()
	if delta.First {
		r.fresh[live.Ref] = true
	}
	seen := r.seen
	r.note()
	r.mu.Unlock()
	if len(delta.Appeared) > 0 {
		r.appeared(r.set, r.kind, &live, delta.Appeared, delta.First || !seen)
	}
	if r.again != nil && !delta.First {
		r.again(r.set, r.kind, &live, r.state.Object(live.Ref))
	}
	r.wake.raise()
}

// note remembers when the first change came that is not settled. The lock is
// held.
func (r *round) note() {
	if r.since.IsZero() {
		r.since = time.Now()
	}
}

// Delete implements cluster.Handler. A kind that is now followed in another
// version has not lost its objects.
func (r following) Delete(ref object.Ref) {
	r.mu.Lock()
	for k := range r.kinds {
		if k != r.kind && k.GroupKind == r.kind.GroupKind {
			r.mu.Unlock()
			return
		}
	}
	r.note()
	r.mu.Unlock()
	r.state.Delete(ref)
	r.wake.raise()
}

// Synced implements cluster.Handler.
func (r *round) Synced(k cluster.Kind) { r.told(k) }

// Problem implements cluster.Handler: what cannot be read need not be waited
// for.
func (r *round) Problem(k cluster.Kind, p *verdict.Problem) {
	if p != nil {
		r.log.Warn("kind cannot be audited", "kind", k.String(), "error", p.Message)
	}
	r.state.Problem(k.GroupKind, p)
	r.told(k)
}

// told notes that all that there is of a kind was told.
func (r *round) told(k cluster.Kind) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, k)
	r.check()
}

// check goes on where everything was seen. The lock is held.
func (r *round) check() {
	if len(r.waiting) > 0 {
		return
	}
	r.seen = true
	r.note()
	r.wake.raise()
}

// Facts about several objects are derived again when nothing has changed for
// settleQuiet, and at the latest after settlePatience.
const (
	settleQuiet    = 25 * time.Millisecond
	settlePatience = time.Second
)

// settle keeps facts about several objects up to date. Where a kind is new, all
// of it must be told first: what was not read yet would be taken for absent.
func (r *round) settle(ctx context.Context) {
	told := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
			r.wake.settle(ctx, settleQuiet, settlePatience)
		}
		r.mu.Lock()
		ready, since, fresh := r.seen && len(r.waiting) == 0, r.since, r.fresh
		if ready {
			r.since, r.fresh = time.Time{}, map[object.Ref]bool{}
		}
		r.mu.Unlock()
		if !ready {
			continue
		}
		delta, all := r.settled(ctx)
		if ctx.Err() != nil {
			return
		}
		if told {
			r.together(delta, fresh)
		} else {
			r.done.raise()
		}
		r.upToDate(all, told, since)
		told = true
		r.updated.raise()
	}
}

// upToDate notes since when all verdicts are up to date, if they are.
func (r *round) upToDate(all, told bool, since time.Time) {
	if !all {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.since.IsZero() || !since.IsZero() && since.Before(r.since) {
			r.since = since
		}
		return
	}
	if told && !since.IsZero() { // else it was settled together with others
		r.metrics.rejudging.Observe(time.Since(since).Seconds())
	}
	setTime(r.metrics.lastSync, time.Now())
}

// leisure is how many times as long as it took to judge what depends on a change
// is waited before what depends on the next is judged: an object that thousands look
// up may change all the time.
const leisure = 4

// settled brings verdicts up to date: of what has changed at once, of what depends
// on it when there is leisure. All says that nothing is left.
func (r *round) settled(ctx context.Context) (delta audit.Delta, all bool) {
	delta = r.state.SettleChanged(ctx)
	if wait := time.Until(r.rest); wait > 0 && r.state.Depends() {
		if !r.resting {
			r.resting = true
			r.after(wait, func() { r.wake.raise() })
		}
		return delta, false
	}
	r.resting = false
	begun := time.Now()
	more := r.state.Settle(ctx)
	took := time.Since(begun)
	r.rest = begun.Add((1 + leisure) * took)
	delta.Appeared, delta.Cleared = append(delta.Appeared, more.Appeared...), append(delta.Cleared, more.Cleared...)
	return delta, true
}

// together tells of findings that several objects together made appear on
// objects that are not new.
func (r *round) together(delta audit.Delta, fresh map[object.Ref]bool) {
	old := slices.DeleteFunc(slices.Clone(delta.Appeared), func(f verdict.Finding) bool { return fresh[f.Object] })
	if len(old) > 0 {
		r.appeared(r.set, cluster.Kind{}, nil, old, false)
	}
}

// summary is what the audit has found, for the metrics.
func (a *auditor) summary() *auditSummary {
	r := a.current.Load()
	if r == nil {
		return nil
	}
	out := &auditSummary{Summary: r.state.Summary(), severity: map[string]string{}}
	for _, rule := range r.set.baseline.Rules {
		out.severity[rule.Name] = string(rule.Severity)
	}
	return out
}
