// SPDX-License-Identifier: Apache-2.0

// Package answers keeps what registries and services answered rules, so that what
// is asked for ten thousand objects is asked once. Who asks for what is being
// asked already waits for that answer. What is kept is bounded, and ends.
package answers

import (
	"container/list"
	"context"
	"fmt"
	"sync"
	"time"
)

// UnknownError is that something could not be found out.
type UnknownError struct{ What string }

// Error implements error.
func (e *UnknownError) Error() string { return e.What }

// Unknown returns the error of what could not be found out.
func Unknown(format string, args ...any) error { return &UnknownError{fmt.Sprintf(format, args...)} }

const (
	// Age is how long an answer is kept.
	Age = 5 * time.Minute
	// ErrorAge is how long it is kept that there was none.
	ErrorAge = 30 * time.Second
	// FreshAge is how long an answer is kept for who wants no kept one: that of one
	// run over many objects.
	FreshAge = 5 * time.Second

	maxEntries = 4096
	maxBytes   = 64 << 20
	maxAsking  = 16
)

// Answer is what was found out, and about how many bytes keeping it takes.
type Answer struct {
	Value any
	Size  int
}

// Kept are answers. The zero value keeps none yet.
type Kept struct {
	mu      sync.Mutex
	entries map[any]*list.Element
	order   list.List // the oldest first
	bytes   int
	asking  chan struct{}
}

// entry is an answer, or one that is waited for.
type entry struct {
	key      any
	done     chan struct{} // closed where there is one
	answer   Answer
	err      error
	finished time.Time
}

// Get returns the answer to a question, which is kept if it is no older than age,
// or asked. Asking goes on for at most limit, also where the one who first asked
// no longer waits, for those who do. The key is of a type that can be compared.
func (k *Kept) Get(ctx context.Context, key any, age, limit time.Duration, ask func(context.Context) (Answer, error)) (any, error) {
	e := k.entry(key, age, limit, ask)
	select {
	case <-e.done:
		return e.answer.Value, e.err
	case <-ctx.Done():
		return nil, Unknown("there was no answer in the time that the rule has")
	}
}

// entry returns the entry of a question, and begins to ask if there is none that
// is young enough.
func (k *Kept) entry(key any, age, limit time.Duration, ask func(context.Context) (Answer, error)) *entry {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.entries == nil {
		k.entries, k.asking = map[any]*list.Element{}, make(chan struct{}, maxAsking)
	}
	if at := k.entries[key]; at != nil {
		e := at.Value.(*entry)
		if e.young(age) {
			return e
		}
		k.remove(at)
	}
	e := &entry{key: key, done: make(chan struct{})}
	k.entries[key] = k.order.PushBack(e)
	go k.run(e, limit, ask)
	return e
}

// young says whether an entry can be used.
func (e *entry) young(age time.Duration) bool {
	select {
	case <-e.done:
	default:
		return true
	}
	if e.err != nil {
		age = min(age, ErrorAge)
	}
	return time.Since(e.finished) <= age
}

// run asks.
func (k *Kept) run(e *entry, limit time.Duration, ask func(context.Context) (Answer, error)) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var answer Answer
	var err error
	select {
	case k.asking <- struct{}{}:
		answer, err = guarded(ctx, ask)
		<-k.asking
	case <-ctx.Done():
		err = Unknown("too much else is being asked")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	e.answer, e.err, e.finished = answer, err, time.Now()
	close(e.done)
	at := k.entries[e.key]
	if at == nil || at.Value.(*entry) != e {
		return // it was too many
	}
	k.bytes += e.answer.Size
	for at := k.order.Front(); at != nil && (k.bytes > maxBytes || k.order.Len() > maxEntries); {
		next := at.Next()
		if !at.Value.(*entry).finished.IsZero() {
			k.remove(at)
		}
		at = next
	}
}

func (k *Kept) remove(at *list.Element) {
	e := k.order.Remove(at).(*entry)
	delete(k.entries, e.key)
	if !e.finished.IsZero() {
		k.bytes -= e.answer.Size
	}
}

// guarded asks, and makes an error of a library that panics over what it is
// answered.
func guarded(ctx context.Context, ask func(context.Context) (Answer, error)) (answer Answer, err error) {
	defer func() {
		if r := recover(); r != nil {
			answer, err = Answer{}, Unknown("what was answered cannot be read: %v", r)
		}
	}()
	return ask(ctx)
}
