// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/regoguard"
)

const (
	providersGroup   = "externaldata.gatekeeper.sh"
	providersVersion = providersGroup + "/v1beta1"
)

// externalData is what Gatekeeper adds to Rego.
var externalData = &ast.Builtin{Name: "external_data", Decl: types.NewFunction(types.Args(types.A), types.A), Nondeterministic: true}

// provider answers what templates ask by external_data.
type provider struct {
	url     *url.URL
	timeout time.Duration
	roots   *x509.CertPool
}

// parseProvider reads a Provider. Its error is a ParseError.
func parseProvider(o *object.Object) (*provider, error) {
	spec := o.Root.Get("spec")
	u, err := url.Parse(spec.Get("url").Str())
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fault(o, []string{"spec", "url"}, "Provider %s: %w", o.Name, errors.New("spec.url is not an address that begins with https://"))
	}
	p := &provider{url: u, timeout: time.Second, roots: x509.NewCertPool()}
	if seconds, ok := spec.Get("timeout").Any().(int64); ok && seconds > 0 {
		p.timeout = time.Duration(min(seconds, 60)) * time.Second
	}
	bundle, err := base64.StdEncoding.DecodeString(spec.Get("caBundle").Str())
	if err != nil || !p.roots.AppendCertsFromPEM(bundle) {
		return nil, fault(o, []string{"spec", "caBundle"}, "Provider %s: %w", o.Name, errors.New("spec.caBundle is not the base64 of certificates in PEM"))
	}
	return p, nil
}

// item is what a provider says of a key.
type item struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
	Error string `json:"error"`
}

// answer is what a provider says.
type answer struct {
	Kind     string `json:"kind"`
	Response struct {
		Items       []item `json:"items"`
		SystemError string `json:"systemError"`
	} `json:"response"`
}

// ask asks a provider for keys.
func (p *provider) ask(ctx context.Context, n *policy.Network, keys []string) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	body, err := json.Marshal(map[string]any{
		"apiVersion": providersVersion, "kind": "ProviderRequest", "request": map[string]any{"keys": keys},
	})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := p.client(n).Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	out := &answer{}
	if err := json.Unmarshal(text, out); err != nil || out.Kind != "ProviderResponse" {
		return nil, fmt.Errorf("its answer (%s) is no ProviderResponse", response.Status)
	}
	return out, nil
}

type clientKey struct{ p *provider }

func (p *provider) client(n *policy.Network) *http.Client {
	return policy.OnceFor(n, clientKey{p}, func() *http.Client {
		return &http.Client{Transport: n.HTTP(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS12}})}
	})
}

// How long, and of how many keys, what providers say is kept.
const (
	answerLife = 3 * time.Minute
	maxAnswers = 10_000
)

// answers are what a provider said of keys.
type answers struct {
	mu    sync.Mutex
	items map[string]kept
}

type kept struct {
	item item
	till time.Time
}

// get returns what is known of keys, and those of which nothing is.
func (a *answers) get(keys []string) (known []item, missing []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	for _, key := range keys {
		if k, ok := a.items[key]; ok && now.Before(k.till) {
			known = append(known, k.item)
			continue
		}
		missing = append(missing, key)
	}
	return known, missing
}

func (a *answers) put(items []item) {
	a.mu.Lock()
	defer a.mu.Unlock()
	till := time.Now().Add(answerLife)
	for _, i := range items {
		if len(a.items) >= maxAnswers {
			clear(a.items)
		}
		a.items[i.Key] = kept{i, till}
	}
}

type answersKey struct{ p *provider }

// look returns what a provider says of keys.
func (p *provider) look(ctx context.Context, n *policy.Network, keys []string) (*answer, error) {
	if err := n.Host(p.url.Host); err != nil {
		return nil, err
	}
	before := policy.OnceFor(n, answersKey{p}, func() *answers { return &answers{items: map[string]kept{}} })
	known, missing := before.get(keys)
	out := &answer{}
	if len(missing) > 0 {
		var err error
		if out, err = p.ask(ctx, n, missing); err != nil {
			return nil, err
		}
		before.put(out.Response.Items)
	}
	out.Response.Items = append(known, out.Response.Items...)
	return out, nil
}

type providersKey struct{}

// withProviders lets templates ask providers.
func withProviders(ctx context.Context, providers map[string]*provider) context.Context {
	return context.WithValue(ctx, providersKey{}, providers)
}

// askProvider is external_data. A provider that cannot be asked ends the
// evaluation: Gatekeeper tells the template of it, which then most often denies.
func askProvider(b topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
	halt := func(format string, args ...any) error {
		return topdown.Halt{Err: &UnknownError{What: "the template calls external_data: " + fmt.Sprintf(format, args...)}}
	}
	var request struct {
		Provider string   `json:"provider"`
		Keys     []string `json:"keys"`
	}
	if err := ast.As(operands[0].Value, &request); err != nil {
		return err
	}
	providers, _ := b.Context.Value(providersKey{}).(map[string]*provider)
	p := providers[request.Provider]
	if p == nil {
		return halt("there is no Provider %q among the policies", request.Provider)
	}
	found, err := p.look(b.Context, regoguard.NetworkOf(b.Context), request.Keys)
	if err != nil {
		var tells *url.Error // its text repeats the address
		if errors.As(err, &tells) {
			err = tells.Err
		}
		return halt("the provider %q: %v", request.Provider, err)
	}
	// Every list is one, also where it is empty.
	responses, failures := []any{}, []any{}
	for _, i := range found.Response.Items {
		if i.Error != "" {
			failures = append(failures, []any{i.Key, i.Error})
			continue
		}
		responses = append(responses, []any{i.Key, i.Value})
	}
	v, err := ast.InterfaceToValue(map[string]any{
		"responses": responses, "errors": failures, "status_code": http.StatusOK, "system_error": found.Response.SystemError,
	})
	if err != nil {
		return err
	}
	return iter(ast.NewTerm(v))
}
