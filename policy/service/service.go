// SPDX-License-Identifier: Apache-2.0

// Package service calls services over HTTP for policies, at hosts that a network
// allows and at no others, wherever these redirect to. What cannot be found out is
// an *answers.UnknownError. The same call is made once in some seconds, and no
// credentials are sent but those that the policy writes.
package service

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/answers"
)

// maxBody bounds what is read of an answer, maxRequest what is sent.
const (
	maxBody    = 2_000_000
	maxRequest = 4 << 20
)

// Header is one of a call.
type Header struct{ Name, Value string }

// Call is one.
type Call struct {
	Method, URL string
	Headers     []Header
	Body        []byte
	// CABundle are the authorities that the service is trusted by, as PEM; those of
	// the system where it is empty.
	CABundle string
}

// Reply is what a service answers.
type Reply struct {
	Status int
	Body   []byte
}

// Client makes calls. It is safe for concurrent use.
type Client struct {
	network *policy.Network
	kept    answers.Kept
	down    answers.Outages
}

type clientKey struct{}

// Of returns the client of a network. Without a network it calls nothing.
func Of(n *policy.Network) *Client {
	if n == nil {
		return &Client{}
	}
	return policy.OnceFor(n, clientKey{}, func() *Client { return &Client{network: n} })
}

type callKey struct{ method, url, headers, body, bundle string }

// Do makes a call.
func (c *Client) Do(ctx context.Context, call Call) (*Reply, error) {
	u, err := url.Parse(call.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("the URL is none of http or https")
	}
	if err := c.network.Host(u.Host); err != nil {
		return nil, answers.Unknown("%v", err)
	}
	if size := len(call.Body) + len(call.URL); size > maxRequest {
		return nil, answers.Unknown("a request to %s has %d bytes; at most %d are sent", u.Host, size, maxRequest)
	}
	transport, err := call.transport()
	if err != nil {
		return nil, err
	}
	key := callKey{call.Method, call.URL, fmt.Sprintf("%q", sorted(call.Headers)), string(call.Body), call.CABundle}
	got, err := c.kept.Get(ctx, key, answers.FreshAge, c.network.Limit(), func(ctx context.Context) (answers.Answer, error) {
		if err := c.down.Of(u.Host); err != nil {
			return answers.Answer{}, err
		}
		reply, err := c.do(ctx, call, transport)
		if err != nil {
			return answers.Answer{}, c.explain(ctx, u.Host, err)
		}
		return answers.Answer{Value: reply, Size: len(reply.Body) + len(call.Body)}, nil
	})
	reply, _ := got.(*Reply)
	return reply, err
}

func sorted(headers []Header) []Header {
	return slices.SortedFunc(slices.Values(headers), func(a, b Header) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Value, b.Value))
	})
}

// transport is what a call goes over.
func (c *Call) transport() (http.RoundTripper, error) {
	if c.CABundle == "" {
		return http.DefaultTransport, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(c.CABundle)) {
		return nil, errors.New("the caBundle has no certificate in PEM")
	}
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: 10 * time.Second,
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	}, nil
}

func (c *Client) do(ctx context.Context, call Call, transport http.RoundTripper) (*Reply, error) {
	req, err := http.NewRequestWithContext(ctx, call.Method, call.URL, bytes.NewReader(call.Body))
	if err != nil {
		return nil, err
	}
	for _, h := range call.Headers {
		req.Header.Add(h.Name, h.Value)
	}
	resp, err := (&http.Client{Transport: c.network.HTTP(transport)}).Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxBody {
		return nil, answers.Unknown("the answer has more than %d bytes", maxBody)
	}
	return &Reply{resp.StatusCode, body}, nil
}

// explain says what an error means, without the address that was asked: it may
// hold what lets in.
func (c *Client) explain(ctx context.Context, host string, err error) error {
	var refused *policy.RefusedError
	var unknown *answers.UnknownError
	switch {
	case errors.As(err, &refused):
		return answers.Unknown("%s sends to another host: %v", host, refused)
	case errors.As(err, &unknown):
		return answers.Unknown("%s: %v", host, unknown)
	}
	var asked *url.Error
	if errors.As(err, &asked) {
		err = asked.Err
	}
	return c.down.Silent(ctx, host, c.network.Limit(), err)
}
