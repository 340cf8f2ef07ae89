// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"time"

	toolscache "k8s.io/client-go/tools/cache"
)

// signal says that there is something to do. It may be raised any number of
// times before it is looked at, by anyone, and never blocks.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// settle waits until the signal was not raised for quiet, at most for patience.
func (s signal) settle(ctx context.Context, quiet, patience time.Duration) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	pause := time.NewTimer(quiet)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-deadline.C:
			return
		case <-pause.C:
			return
		case <-s:
			pause.Reset(quiet)
		}
	}
}

// handler raises the signal for every event of a cache.
func (s signal) handler() toolscache.ResourceEventHandler {
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { s.raise() },
		UpdateFunc: func(any, any) { s.raise() },
		DeleteFunc: func(any) { s.raise() },
	}
}

// pause waits, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
