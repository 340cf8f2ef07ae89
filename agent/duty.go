// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// duty is something that is done again whenever something that it depends on
// has changed. What fails is tried again, ever more rarely.
type duty struct {
	name string
	wake signal
	// It is done when nothing has changed for quiet, at the latest after
	// patience.
	quiet, patience time.Duration
	// every, where it is set, is how long nothing may be done.
	every time.Duration
	do    func(context.Context) error
	log   *slog.Logger
}

// tries are how long a duty that failed waits.
func tries() wait.Backoff {
	return wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.2, Steps: 100, Cap: time.Minute}
}

// Start does the duty until the context ends.
func (d *duty) Start(ctx context.Context) error {
	backoff := tries()
	for ctx.Err() == nil {
		next := d.every
		if err := d.do(ctx); err != nil && ctx.Err() == nil {
			next = backoff.Step()
			d.log.Error(d.name, "error", err, "again", next.Round(time.Second))
		} else {
			backoff = tries()
		}
		d.rest(ctx, next)
	}
	return nil
}

// rest waits until there is something to do.
func (d *duty) rest(ctx context.Context, next time.Duration) {
	var due <-chan time.Time
	if next > 0 {
		timer := time.NewTimer(next)
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-due:
	case <-d.wake:
		d.wake.settle(ctx, d.quiet, d.patience)
	}
}

// NeedLeaderElection says that the manager is to start it in every replica.
func (d *duty) NeedLeaderElection() bool { return false }
