// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Handler is told what becomes of the objects of a kind. It is called from one
// goroutine for each Feed.
type Handler interface {
	// Set says that an object is there, or has changed.
	Set(Live)
	// Delete says that an object is no more.
	Delete(object.Ref)
	// Synced says that all objects of the kind have been told: once after every
	// time that they were listed.
	Synced(Kind)
	// Problem says that the kind cannot be listed or followed, so that what was
	// told of it may be out of date; nil, that this is over.
	Problem(Kind, *verdict.Problem)
}

// Feed tells a handler of all objects of a kind, and of what becomes of them,
// until the context ends. It lists the kind in pages, then follows its changes;
// after a lost connection it goes on where it was, and where the API server has
// forgotten that state it lists again and tells what is no more. Of each object
// it keeps its name.
//
// A kind that the API does not serve any more has no objects: they are deleted,
// and it is asked again, ever more rarely.
func (c *Cluster) Feed(ctx context.Context, k Kind, h Handler) {
	soon := *c
	soon.patience = following
	f := &feed{c: &soon, k: k, h: h, known: map[name]uint32{}}
	backoff := feedBackoff
	for ctx.Err() == nil {
		err := f.listAndWatch(ctx)
		if f.followed {
			backoff, f.followed = feedBackoff, false
		}
		if ctx.Err() == nil {
			f.failed(err)
			sleep(ctx, backoff.Step())
		}
	}
}

// following is the patience with single requests of a feed, which tries again by
// itself and says what is wrong in the meantime.
var following = patience{request: time.Minute, total: 15 * time.Second, backoff: usual.backoff}

var feedBackoff = wait.Backoff{Duration: time.Second, Factor: 2, Jitter: 0.3, Steps: 100, Cap: time.Minute}

// grace is how long a watch may be lost before that is a problem: an API server
// that is restarted is back by then.
const grace = 10 * time.Second

// feed follows one kind.
type feed struct {
	c     *Cluster
	k     Kind
	h     Handler
	known map[name]uint32 // the list in which an object was last met
	pass  uint32
	// troubled says that a problem was told and is not over, followed that the
	// kind was followed for a while since it was listed: where that does not
	// succeed, listing it again would cost the API server more each time.
	troubled, followed bool
}

// name names an object within its kind.
type name struct{ namespace, name string }

// listAndWatch lists the kind and follows it until that fails.
func (f *feed) listAndWatch(ctx context.Context) error {
	r, err := f.c.reader(f.k, "")
	if err != nil {
		return err
	}
	f.pass++
	version, err := f.c.each(ctx, r, f.k, f.set)
	if gone(err) {
		f.pass++ // the kind is not served: it has no objects
		f.sweep()
		f.fine()
		f.h.Synced(f.k)
		return nil
	}
	if err != nil {
		return err
	}
	f.sweep()
	f.h.Synced(f.k)
	return f.follow(ctx, r, version)
}

// gone says that the API does not serve a kind.
func gone(err error) bool { return apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) }

// expired says that the API server has forgotten a state.
func expired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

func (f *feed) set(o Live) {
	f.known[name{o.Namespace, o.Name}] = f.pass
	f.h.Set(o)
}

// sweep deletes what the last list did not have.
func (f *feed) sweep() {
	for n, pass := range f.known {
		if pass != f.pass {
			f.delete(n)
		}
	}
}

func (f *feed) delete(n name) {
	if _, ok := f.known[n]; !ok {
		return
	}
	delete(f.known, n)
	f.h.Delete(object.Ref{APIVersion: f.k.gvk().GroupVersion().String(), Kind: f.k.Kind, Namespace: n.namespace, Name: n.name})
}

// fine says that the kind can be read, if that was not so.
func (f *feed) fine() {
	if f.troubled {
		f.troubled = false
		f.h.Problem(f.k, nil)
	}
}

// failed says why the kind cannot be read. That the API server has forgotten
// where a watch was is no reason: the kind is listed again.
func (f *feed) failed(err error) {
	if err == nil || expired(err) {
		return
	}
	f.troubled = true
	p := f.c.refused("listing", f.k, "", err)
	var w *watchError
	if errors.As(err, &w) {
		p = f.c.refused("watching", f.k, "", w.error)
	}
	f.h.Problem(f.k, &p)
}

// watchError is what ended a watch.
type watchError struct{ error }

// Unwrap returns the reason.
func (e *watchError) Unwrap() error { return e.error }

// follow tells what changes after a version, over as many watches as that takes.
// It returns when it would have to list the kind again.
func (f *feed) follow(ctx context.Context, r reader, version string) error {
	backoff := feedBackoff
	lost := time.Time{}
	for ctx.Err() == nil {
		before := version
		err := f.watch(ctx, r, &version)
		switch {
		case err == nil:
			lost = time.Time{}
			f.fine()
			if version != before {
				backoff = feedBackoff
			}
		case !passing(err):
			return &watchError{err}
		case lost.IsZero():
			lost = time.Now()
		case time.Since(lost) > grace && !f.troubled:
			f.failed(&watchError{err})
		}
		sleep(ctx, backoff.Step())
	}
	return ctx.Err()
}

// watch tells what one watch yields and moves the version on. It returns nil
// where the API server ended a watch that had begun, as it does every few
// minutes.
func (f *feed) watch(ctx context.Context, r reader, version *string) error {
	seconds := int64(300 + rand.IntN(300)) // not all at once
	// A connection may be dead and not say so: then not even its end comes.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+f.c.patience.request)
	defer cancel()
	opening := time.AfterFunc(f.c.patience.request, cancel)
	w, err := r.watch(ctx, metav1.ListOptions{ResourceVersion: *version, AllowWatchBookmarks: true, TimeoutSeconds: &seconds})
	if late := !opening.Stop(); late && err != nil {
		return context.DeadlineExceeded
	}
	if err != nil {
		return err
	}
	defer w.Stop()
	f.fine()
	for e := range w.ResultChan() {
		if err := f.event(e, version); err != nil {
			return err
		}
		f.followed = true
	}
	f.followed = true
	return nil
}

// event tells of one change.
func (f *feed) event(e watch.Event, version *string) error {
	if e.Type == watch.Error {
		return apierrors.FromObject(e.Object)
	}
	m, err := meta.Accessor(e.Object)
	if err != nil {
		return fmt.Errorf("an event without an object: %w", err)
	}
	switch e.Type {
	case watch.Added, watch.Modified:
		o, err := f.c.live(f.k, e.Object)
		if err != nil {
			return err
		}
		f.set(o)
	case watch.Deleted:
		f.delete(name{m.GetNamespace(), m.GetName()})
	}
	if v := m.GetResourceVersion(); v != "" {
		*version = v
	}
	return nil
}

// sleep waits, or until the context ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
