// SPDX-License-Identifier: Apache-2.0

package regoguard

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/cache"

	"sconce.dev/sconce/policy"
)

type networkKey struct{}

// WithNetwork lets the functions that CallingOut returns ask what a network
// allows, where they are called with the context.
func WithNetwork(ctx context.Context, n *policy.Network) context.Context {
	if n == nil {
		return ctx
	}
	return context.WithValue(ctx, networkKey{}, n)
}

// NetworkOf returns the network that a context allows; nil for none.
func NetworkOf(ctx context.Context) *policy.Network {
	n, _ := ctx.Value(networkKey{}).(*policy.Network)
	return n
}

// CallingOut returns the functions that call out as far as the network of their
// context allows. What they may not ask, or are not answered, ends the
// evaluation: OPA would go on as if the condition did not hold.
func CallingOut(caller string) map[string]topdown.BuiltinFunc {
	return map[string]topdown.BuiltinFunc{
		ast.HTTPSend.Name:        send(caller, topdown.GetBuiltin(ast.HTTPSend.Name)),
		ast.NetLookupIPAddr.Name: lookUp(caller, topdown.GetBuiltin(ast.NetLookupIPAddr.Name)),
	}
}

// halt ends an evaluation.
func halt(format string, args ...any) error {
	return topdown.Halt{Err: &UnknownError{fmt.Sprintf(format, args...)}}
}

// send is http.send.
func send(caller string, f topdown.BuiltinFunc) topdown.BuiltinFunc {
	return func(b topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
		host, err := target(operands)
		if err != nil {
			return halt("%s calls http.send: %v", caller, err)
		}
		n := NetworkOf(b.Context)
		if err := n.Host(host); err != nil {
			return halt("%s calls http.send: %v", caller, err)
		}
		failed := &failures{}
		b.Capabilities = unbounded(b.Capabilities)
		b.InterQueryBuiltinCache = answersOf(n)
		b.RoundTripper = func(t *http.Transport) http.RoundTripper {
			return &watched{askerOf(n).through(t, operands[0].Value.String()), failed}
		}
		answered := false
		err = f(b, operands, func(t *ast.Term) error {
			answered = true
			if refused := failed.refusal(); refused != nil {
				return halt("%s calls http.send: %v", caller, refused)
			}
			return iter(t)
		})
		if err == nil || answered {
			return err
		}
		if why := failed.last(); why != nil {
			return halt("%s calls http.send, and %s", caller, whySilent(host, why))
		}
		return halt("%s calls http.send, which did not work; the request to %q is not valid, or there was no time left for it", caller, host)
	}
}

// target returns the host that a request is meant for. What would tell the
// program's files or environment is no request.
func target(operands []*ast.Term) (string, error) {
	if len(operands) == 0 {
		return "", errors.New("it is called without a request")
	}
	request, ok := operands[0].Value.(ast.Object)
	if !ok {
		return "", fmt.Errorf("the request is %s; want an object", ast.ValueName(operands[0].Value))
	}
	var reads string
	request.Foreach(func(key, _ *ast.Term) {
		name, _ := key.Value.(ast.String)
		if strings.HasSuffix(string(name), "_file") || strings.HasSuffix(string(name), "_env_variable") {
			reads = max(reads, string(name))
		}
	})
	if reads != "" {
		return "", fmt.Errorf("%s would read a file or the environment of the program, which is not allowed", reads)
	}
	text, _ := termOf(request, "url").(ast.String)
	u, err := url.Parse(string(text))
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", errors.New("its url is not one of http or https")
	}
	return u.Host, nil
}

func termOf(o ast.Object, key string) ast.Value {
	if t := o.Get(ast.StringTerm(key)); t != nil {
		return t.Value
	}
	return nil
}

// unbounded lets the library call every host: which may be called was found out.
func unbounded(c *ast.Capabilities) *ast.Capabilities {
	if c == nil {
		return nil
	}
	out := *c
	out.AllowNet = nil
	return &out
}

// failures is why requests did not work.
type failures struct {
	mu            sync.Mutex
	refused, most error
}

func (f *failures) refusal() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused
}

func (f *failures) last() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.most
}

// watched remembers why requests did not work: what the library says of it tells
// the whole address, which may hold what is secret.
type watched struct {
	through http.RoundTripper
	failed  *failures
}

func (w *watched) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := w.through.RoundTrip(r)
	if err != nil {
		w.failed.mu.Lock()
		w.failed.most = err
		if policy.Refused(err) {
			w.failed.refused = err
		}
		w.failed.mu.Unlock()
	}
	return response, err
}

// lookUp is net.lookup_ip_addr.
func lookUp(caller string, f topdown.BuiltinFunc) topdown.BuiltinFunc {
	return func(b topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
		host := stringOf(operands, 0)
		if err := NetworkOf(b.Context).Host(host); err != nil {
			return halt("%s calls net.lookup_ip_addr: %v", caller, err)
		}
		b.Capabilities = unbounded(b.Capabilities)
		answered := false
		err := f(b, operands, func(t *ast.Term) error {
			answered = true
			return iter(t)
		})
		if err == nil || answered {
			return err
		}
		return halt("%s calls net.lookup_ip_addr, and the addresses of %q were not found out", caller, host)
	}
}

// maxAnswers bounds what is kept of answers, in bytes.
const maxAnswers = 16 << 20

type answersKey struct{}

// answersOf are the answers that rules ask to be kept, by the cache and
// force_cache of a request.
func answersOf(n *policy.Network) cache.InterQueryCache {
	return policy.OnceFor(n, answersKey{}, func() cache.InterQueryCache {
		config, _ := cache.ParseCachingConfig(nil) // no configuration is valid
		limit := int64(maxAnswers)
		config.InterQueryBuiltinCache.MaxSizeBytes = &limit
		return cache.NewInterQueryCache(config)
	})
}
