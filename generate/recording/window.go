// SPDX-License-Identifier: Apache-2.0

package recording

import (
	"slices"
	"time"
)

// slot is how finely is kept when something was recorded.
const slot = 10 * time.Minute

// Window is the time that a recording covers.
type Window struct {
	// First and Last are when the first and the last were recorded; zero where
	// nothing said when.
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
	// Untimed were recorded without a time.
	Untimed int `json:"untimed,omitempty"`

	slots map[int64]struct{}
}

// Add adds the time of something that was recorded; zero where it has none.
func (w *Window) Add(t time.Time) {
	if t.IsZero() {
		w.Untimed++
		return
	}
	t = t.UTC()
	if w.First.IsZero() || t.Before(w.First) {
		w.First = t
	}
	if t.After(w.Last) {
		w.Last = t
	}
	if w.slots == nil {
		w.slots = map[int64]struct{}{}
	}
	w.slots[t.Unix()/int64(slot/time.Second)] = struct{}{}
}

// Length is the time from the first to the last.
func (w *Window) Length() time.Duration { return w.Last.Sub(w.First) }

// Gap is a time in which nothing was recorded.
type Gap struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Gaps returns the times of at least the given length in which nothing was
// recorded, to ten minutes.
func (w *Window) Gaps(least time.Duration) []Gap {
	at := make([]int64, 0, len(w.slots))
	for s := range w.slots {
		at = append(at, s)
	}
	slices.Sort(at)
	var out []Gap
	for i := 1; i < len(at); i++ {
		from := time.Unix((at[i-1]+1)*int64(slot/time.Second), 0).UTC()
		to := time.Unix(at[i]*int64(slot/time.Second), 0).UTC()
		if to.Sub(from) >= least {
			out = append(out, Gap{from, to})
		}
	}
	return out
}
