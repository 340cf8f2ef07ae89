// SPDX-License-Identifier: Apache-2.0

package regoguard

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
)

// Patience is how many times its bound an evaluation may take before it is
// given up.
const Patience = 5

// maxStrikes is how often an evaluation is given up before no further is begun.
const maxStrikes = 3

// Watch gives up evaluations that do not stop when they are told to: each goes on
// by itself, for it cannot be ended, and so only a few may. Its zero value is
// ready to use.
type Watch struct{ strikes atomic.Int32 }

// Do runs an evaluation and waits for it. What the evaluation writes may only be
// read where there is no error; the error is an UnknownError.
func (w *Watch) Do(bound time.Duration, evaluate func()) error {
	if w.strikes.Load() >= maxStrikes {
		return &UnknownError{fmt.Sprintf("it is no longer evaluated, since it did not stop in time %d times", maxStrikes)}
	}
	r := hire()
	r.work <- evaluate
	r.timer.Reset(Patience * bound)
	select {
	case fault := <-r.done:
		r.timer.Stop()
		r.rest()
		if fault != nil {
			panic(fault)
		}
		return nil
	case <-r.timer.C:
		w.strikes.Add(1)
		close(r.work)
		return &UnknownError{fmt.Sprintf("its evaluation did not stop within %s", Patience*bound)}
	}
}

// runner runs evaluations, one after the other.
type runner struct {
	work  chan func()
	done  chan any // what the evaluation panicked with
	timer *time.Timer
}

// resting are runners with nothing to do.
var resting = make(chan *runner, 2*runtime.NumCPU())

// hire returns a runner.
func hire() *runner {
	select {
	case r := <-resting:
		return r
	default:
	}
	r := &runner{work: make(chan func()), done: make(chan any, 1), timer: time.NewTimer(time.Hour)}
	go func() {
		for evaluate := range r.work {
			r.done <- run(evaluate)
		}
	}()
	return r
}

// rest lets a runner wait for work, or go where enough do.
func (r *runner) rest() {
	select {
	case resting <- r:
	default:
		close(r.work)
	}
}

// run returns what an evaluation panicked with.
func run(evaluate func()) (fault any) {
	defer func() { fault = recover() }()
	evaluate()
	return nil
}
