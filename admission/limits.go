// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

// Limits bound what callers can make a handler do, whoever they are. Whatever is
// sent, the memory held is at most Requests bodies of freeBody bytes, Bodies
// bytes more, and the trees of Parallel bodies, of which a quarter are larger than
// freeBody.
type Limits struct {
	// Body is the largest body that is read, in bytes. etcd takes objects of up
	// to 1.5 MiB; the API server sends two of them at an update, and needs six
	// bytes for a character that JSON escapes. What is not read is not judged.
	Body int
	// Bodies is how many bytes of bodies are held at once, beside the first of
	// each.
	Bodies int64
	// Requests is how many requests are read or wait; a further one is refused.
	Requests int64
	// Parallel is how many are judged at once.
	Parallel int
	// Timeout is how long reading a body, and waiting to be judged, may take
	// where the caller asks for no less.
	Timeout time.Duration
}

// DefaultLimits hold for a process with 256 MiB of memory.
func DefaultLimits() Limits {
	return Limits{Body: 20 << 20, Bodies: 48 << 20, Requests: 1024, Parallel: 2 * runtime.GOMAXPROCS(0), Timeout: 10 * time.Second}
}

// or fills what is zero.
func (l Limits) or(d Limits) Limits {
	if l.Body == 0 {
		l.Body = d.Body
	}
	if l.Bodies == 0 {
		l.Bodies = d.Bodies
	}
	if l.Requests == 0 {
		l.Requests = d.Requests
	}
	if l.Parallel == 0 {
		l.Parallel = d.Parallel
	}
	if l.Timeout == 0 {
		l.Timeout = d.Timeout
	}
	return l
}

// limiter holds callers to limits.
type limiter struct {
	Limits
	requests atomic.Int64
	bytes    atomic.Int64
	turns    chan struct{}
	large    chan struct{} // turns of those that are large
}

func newLimiter(l Limits) *limiter {
	l = l.or(DefaultLimits())
	return &limiter{Limits: l, turns: make(chan struct{}, l.Parallel), large: make(chan struct{}, max(1, l.Parallel/4))}
}

// enter counts a request in; what it returns counts it out.
func (l *limiter) enter() (leave func(), err error) {
	leave = func() { l.requests.Add(-1) }
	if l.requests.Add(1) > l.Requests {
		leave()
		return nil, refuse(http.StatusTooManyRequests, "busy", "more than %d requests at once: ask again", l.Requests)
	}
	return leave, nil
}

// turn waits until there is room to judge a request of a size. Large ones have
// a turn among themselves too, so that they hold up only each other.
func (l *limiter) turn(ctx context.Context, size int) (done func(), err error) {
	var taken []chan struct{}
	done = func() {
		for _, c := range taken {
			<-c
		}
	}
	lanes := []chan struct{}{l.turns}
	if size > freeBody {
		lanes = []chan struct{}{l.large, l.turns}
	}
	for _, lane := range lanes {
		select {
		case lane <- struct{}{}:
			taken = append(taken, lane)
		case <-ctx.Done():
			done()
			return nil, refuse(http.StatusServiceUnavailable, "busy", "other requests took all the time that this one had: ask again")
		}
	}
	return done, nil
}

// freeBody is how much of each body is held without asking for room: most are
// smaller. What costs nothing cannot be withheld by those who send slowly.
const freeBody = 64 << 10

// body is what a caller sent.
type body struct {
	data []byte
	held int64 // of limiter.bytes
	l    *limiter
}

// release gives the room back.
func (b *body) release() {
	b.l.bytes.Add(-b.held)
	b.held = 0
}

// grow asks for room for so many bytes.
func (b *body) grow(size int) error {
	more := int64(max(0, size-freeBody)) - b.held
	if more <= 0 {
		return nil
	}
	if b.l.bytes.Add(more) > b.l.Bodies {
		b.l.bytes.Add(-more)
		return refuse(http.StatusServiceUnavailable, "busy", "other requests hold all the memory that there is for bodies: ask again")
	}
	b.held += more
	return nil
}

// read reads a body as it arrives, so that a caller holds the memory of what it
// has sent and no more.
func (l *limiter) read(w http.ResponseWriter, r *http.Request, within time.Duration) (_ *body, err error) {
	if r.ContentLength > int64(l.Body) {
		return nil, l.tooLarge()
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(within)) // a test's recorder has none
	b := &body{l: l}
	defer func() {
		if err != nil {
			b.release()
		}
	}()
	size := 4 << 10
	if r.ContentLength >= 0 {
		size = min(int(r.ContentLength), freeBody)
	}
	// One byte more than is expected, so that the end is met without growing.
	b.data = make([]byte, 0, size+1)
	for {
		n, err := r.Body.Read(b.data[len(b.data):cap(b.data)])
		b.data = b.data[:len(b.data)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return nil, unreadBody(err)
		}
		if len(b.data) > l.Body {
			return nil, l.tooLarge()
		}
		if len(b.data) == cap(b.data) {
			if err := b.extend(); err != nil {
				return nil, err
			}
		}
	}
}

// extend makes room for as much again as was read.
func (b *body) extend() error {
	size := min(2*cap(b.data), b.l.Body+1)
	if err := b.grow(size); err != nil {
		return err
	}
	data := make([]byte, len(b.data), size)
	copy(data, b.data)
	b.data = data
	return nil
}

func (l *limiter) tooLarge() error {
	return refuse(http.StatusRequestEntityTooLarge, "size", "the body is larger than %d bytes", l.Body)
}

func unreadBody(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return refuse(http.StatusRequestTimeout, "slow", "the body took too long to arrive")
	}
	return refuse(http.StatusBadRequest, "body", "the body ended before it was whole")
}
