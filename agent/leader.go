// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// LeaseName is the Lease in the agent's namespace that the leader holds.
const LeaseName = "sconce"

// Lease says how the leader is found. A leader that ends in good order gives the
// lease back, so that another takes over at once.
type Lease struct {
	Duration, Renew, Retry time.Duration
}

// DefaultLease lets an API server restart without the leader changing.
var DefaultLease = Lease{Duration: 30 * time.Second, Renew: 20 * time.Second, Retry: 4 * time.Second}

// leader runs what only one replica does, while this one leads.
//
// The manager's own leader election ends the process when the lease is lost. A
// replica that does not lead goes on answering the API server, so this one only
// stops what the leader does, and stands for election again.
type leader struct {
	enabled   bool
	client    kubernetes.Interface
	namespace string
	identity  string
	lease     Lease
	duties    []func(context.Context) error
	log       *slog.Logger
	metrics   *metrics

	leading atomic.Bool
}

// NeedLeaderElection says that the manager is to start it in every replica.
func (l *leader) NeedLeaderElection() bool { return false }

// Start stands for election until the context ends.
func (l *leader) Start(ctx context.Context) error {
	if !l.enabled {
		l.lead(ctx)
		return nil
	}
	for ctx.Err() == nil {
		if err := l.term(ctx); err != nil {
			return err
		}
	}
	return nil
}

// term stands for election once, and leads until the lease is lost or the
// context ends.
func (l *leader) term(ctx context.Context) error {
	// The lease outlives the duties: it is given back when they have ended.
	electing, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var duties running
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: LeaseName},
			Client:    l.client.CoordinationV1(), LockConfig: resourcelock.ResourceLockConfig{Identity: l.identity},
		},
		LeaseDuration: l.lease.Duration, RenewDeadline: l.lease.Renew, RetryPeriod: l.lease.Retry, ReleaseOnCancel: true, Name: LeaseName,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(holding context.Context) {
				leading, stop := context.WithCancel(holding)
				defer stop()
				defer context.AfterFunc(ctx, stop)()
				duties.run(func() { l.lead(leading) })
				end()
			},
			OnStoppedLeading: func() {},
		},
	})
	if err != nil {
		return fmt.Errorf("standing for election: %w", err)
	}
	defer context.AfterFunc(ctx, func() {
		if !l.leading.Load() {
			end()
		}
	})()
	elector.Run(electing)
	duties.end()
	return nil
}

// running is work that is begun by a goroutine of somebody else, which may come
// late.
type running struct {
	mu   sync.Mutex
	over bool
}

// run does the work, unless it is over.
func (r *running) run(work func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over {
		work()
	}
}

// end waits for the work, and lets none begin any more.
func (r *running) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

// lead does what the leader does until the context ends.
func (l *leader) lead(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	l.leading.Store(true)
	setBool(l.metrics.leader, true)
	l.log.Info("leading", "identity", l.identity)
	var doing sync.WaitGroup
	for _, duty := range l.duties {
		doing.Go(func() {
			if err := duty(ctx); err != nil && ctx.Err() == nil {
				l.log.Error("leading", "error", err)
			}
		})
	}
	doing.Wait()
	setBool(l.metrics.leader, false)
	l.leading.Store(false)
	l.log.Info("not leading any more", "identity", l.identity)
}
