// SPDX-License-Identifier: Apache-2.0

package answers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// asked counts how often something is asked.
func asked(n *atomic.Int32, value any, err error) func(context.Context) (Answer, error) {
	return func(context.Context) (Answer, error) {
		n.Add(1)
		time.Sleep(time.Second)
		return Answer{Value: value, Size: 1}, err
	}
}

func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k Kept
		var n atomic.Int32
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if got, err := k.Get(t.Context(), "a", Age, time.Minute, asked(&n, 7, nil)); got != 7 || err != nil {
					t.Errorf("got %v, %v", got, err)
				}
			})
		}
		wg.Wait()
		if n.Load() != 1 {
			t.Errorf("asked %d times; want once", n.Load())
		}
	})
}

func TestAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k Kept
		for _, test := range []struct {
			err   error
			after time.Duration
			age   time.Duration
			want  int32
		}{
			{nil, Age, Age, 1},
			{nil, Age + time.Second, Age, 2},
			{nil, FreshAge + time.Second, FreshAge, 2},
			{errors.New("no"), ErrorAge, Age, 1},
			{errors.New("no"), ErrorAge + time.Second, Age, 2},
		} {
			var n atomic.Int32
			ask := func() error {
				_, err := k.Get(t.Context(), fmt.Sprint(test), test.age, time.Minute, asked(&n, 1, test.err))
				return err
			}
			first := ask()
			time.Sleep(test.after)
			if second := ask(); !errors.Is(first, test.err) || !errors.Is(second, test.err) || n.Load() != test.want {
				t.Errorf("%v after %v: asked %d times; want %d (errors %v, %v)", test.err, test.after, n.Load(), test.want, first, second)
			}
		}
	})
}

// TestLimits holds what happens where there is no answer: who asks waits no longer
// than it may, and the question itself ends.
func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k Kept
		never := func(ctx context.Context) (Answer, error) {
			<-ctx.Done()
			return Answer{}, Unknown("it took too long")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		var unknown *UnknownError
		if _, err := k.Get(ctx, "a", Age, 10*time.Second, never); !errors.As(err, &unknown) || time.Since(start) != time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		if _, err := k.Get(t.Context(), "a", Age, 10*time.Second, never); err == nil || err.Error() != "it took too long" || time.Since(start) != 10*time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		if _, err := k.Get(t.Context(), "a", Age, 10*time.Second, never); err == nil || time.Since(start) != 10*time.Second {
			t.Errorf("the error is not kept: got %v after %v", err, time.Since(start))
		}
		_, err := k.Get(t.Context(), "b", Age, time.Second, func(context.Context) (Answer, error) { panic("over this") })
		if !errors.As(err, &unknown) || !strings.Contains(unknown.What, "over this") {
			t.Errorf("a panic: got %v", err)
		}
	})
}

func TestBounds(t *testing.T) {
	var k Kept
	for i := range maxEntries + 100 {
		if _, err := k.Get(t.Context(), i, Age, time.Minute, func(context.Context) (Answer, error) { return Answer{Size: 1 << 10}, nil }); err != nil {
			t.Fatal(err)
		}
	}
	k.mu.Lock() // who has an answer may be ahead of who puts it in its place
	if len(k.entries) != maxEntries || k.order.Len() != maxEntries || k.bytes != maxEntries<<10 {
		t.Errorf("%d entries, %d in order, %d bytes; want %d entries", len(k.entries), k.order.Len(), k.bytes, maxEntries)
	}
	k.mu.Unlock()
	for i := range 10 {
		if _, err := k.Get(t.Context(), -1-i, Age, time.Minute, func(context.Context) (Answer, error) { return Answer{Size: maxBytes / 4}, nil }); err != nil {
			t.Fatal(err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bytes > maxBytes || len(k.entries) != k.order.Len() {
		t.Errorf("%d bytes, %d entries; want at most %d bytes", k.bytes, len(k.entries), maxBytes)
	}
}
