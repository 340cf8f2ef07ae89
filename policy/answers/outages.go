// SPDX-License-Identifier: Apache-2.0

package answers

import (
	"context"
	"strings"
	"sync"
	"time"
)

// Outages are hosts that do not answer: they are not asked for a while.
type Outages struct {
	mu    sync.Mutex
	hosts map[string]outage
}

type outage struct {
	why   string
	until time.Time
}

const maxOutages = 1024

// Add notes that a host does not answer.
func (o *Outages) Add(host, why string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.hosts == nil || len(o.hosts) >= maxOutages {
		o.hosts = map[string]outage{}
	}
	o.hosts[host] = outage{why, time.Now().Add(ErrorAge)}
}

// Silent notes that a host did not answer, and returns the error that says so. The
// context is that of the request, limit the time that it had.
func (o *Outages) Silent(ctx context.Context, host string, limit time.Duration, err error) error {
	why := strings.Join(strings.Fields(err.Error()), " ")
	if ctx.Err() != nil {
		why = "there was no answer in " + limit.String()
	}
	why = host + " does not answer: " + why
	o.Add(host, why)
	return &UnknownError{why}
}

// Of says why a host is not asked; nil if it may be.
func (o *Outages) Of(host string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if out, ok := o.hosts[host]; ok && time.Now().Before(out.until) {
		return &UnknownError{out.why}
	}
	return nil
}
