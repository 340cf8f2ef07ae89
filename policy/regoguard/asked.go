// SPDX-License-Identifier: Apache-2.0

package regoguard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/answers"
)

// asker is what all rules ask a network with.
type asker struct {
	network *policy.Network
	kept    answers.Kept
	down    answers.Outages
}

type askerKey struct{}

func askerOf(n *policy.Network) *asker {
	return policy.OnceFor(n, askerKey{}, func() *asker { return &asker{network: n} })
}

// through returns what sends a request: what is asked alike within some seconds is
// asked once, and a host that does not answer is left alone for a while.
func (a *asker) through(t *http.Transport, special string) http.RoundTripper {
	if t == nil { // the request asks for nothing special
		return &asking{a, http.DefaultTransport, ""}
	}
	return &asking{a, t, special}
}

// asking sends requests.
type asking struct {
	*asker
	transport http.RoundTripper
	special   string // what requests over this transport have in common; empty for the usual one
}

type requestKey struct{ method, url, host, headers, body, special string }

// reply is an answer as it is kept.
type reply struct {
	response http.Response // without a body
	body     []byte
}

// RoundTrip implements http.RoundTripper.
func (a *asking) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := a.network.Host(r.URL.Host); err != nil {
		return nil, err
	}
	var body []byte
	if r.Body != nil {
		defer func() { _ = r.Body.Close() }()
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	key := requestKey{r.Method, r.URL.String(), r.Host, headersOf(r), string(body), a.special}
	sent := r.Clone(context.Background())
	got, err := a.kept.Get(r.Context(), key, answers.FreshAge, a.network.Limit(), func(ctx context.Context) (answers.Answer, error) {
		return a.ask(sent.WithContext(ctx), body)
	})
	if err != nil {
		return nil, err
	}
	kept := got.(*reply)
	out := kept.response
	out.Header, out.Request = kept.response.Header.Clone(), r
	out.Body = io.NopCloser(bytes.NewReader(kept.body))
	return &out, nil
}

// headersOf returns the headers of a request in one order.
func headersOf(r *http.Request) string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		fmt.Fprintf(&out, "%q%q", name, r.Header[name])
	}
	return out.String()
}

// ask sends a request.
func (a *asking) ask(r *http.Request, body []byte) (answers.Answer, error) {
	ctx, host := r.Context(), r.URL.Host
	if err := a.down.Of(host); err != nil {
		return answers.Answer{}, err
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	response, err := a.network.HTTP(a.transport).RoundTrip(r)
	if err != nil {
		return answers.Answer{}, a.down.Silent(ctx, host, a.network.Limit(), err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil && ctx.Err() == nil {
		return answers.Answer{}, answers.Unknown("%s answers what cannot be read: %v", host, err)
	}
	if err != nil {
		return answers.Answer{}, a.down.Silent(ctx, host, a.network.Limit(), err)
	}
	kept := &reply{*response, text}
	kept.response.Body, kept.response.Request, kept.response.TLS = nil, nil, nil
	return answers.Answer{Value: kept, Size: len(text) + len(body)}, nil
}

// whySilent says why there is no answer of a host that a request was meant for.
func whySilent(host string, err error) string {
	var unknown *answers.UnknownError
	switch {
	case policy.Refused(err):
		return fmt.Sprintf("%s sends to another host: %v", host, err)
	case errors.As(err, &unknown) && strings.HasPrefix(unknown.What, host+" "):
		return unknown.What
	}
	return fmt.Sprintf("%s does not answer: %v", host, err)
}
