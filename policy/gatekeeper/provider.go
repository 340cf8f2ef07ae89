// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/answers"
	"sconce.dev/sconce/policy/regoguard"
	"sconce.dev/sconce/policy/service"
)

const (
	providersGroup   = "externaldata.gatekeeper.sh"
	providersVersion = providersGroup + "/v1beta1"
)

// externalData is what Gatekeeper adds to Rego.
var externalData = &ast.Builtin{Name: "external_data", Decl: types.NewFunction(types.Args(types.A), types.A), Nondeterministic: true}

// provider answers what templates ask by external_data.
type provider struct {
	url, host, roots string
	timeout          time.Duration
}

// parseProvider reads a Provider. Its error is a ParseError.
func parseProvider(o *object.Object) (*provider, error) {
	spec := o.Root.Get("spec")
	u, err := url.Parse(spec.Get("url").Str())
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fault(o, []string{"spec", "url"}, "Provider %s: %w", o.Name, errors.New("spec.url is not an address that begins with https://"))
	}
	p := &provider{url: u.String(), host: u.Host, timeout: time.Second}
	if seconds, ok := spec.Get("timeout").Any().(int64); ok && seconds > 0 {
		p.timeout = time.Duration(min(seconds, 60)) * time.Second
	}
	bundle, err := base64.StdEncoding.DecodeString(spec.Get("caBundle").Str())
	if err != nil || !x509.NewCertPool().AppendCertsFromPEM(bundle) {
		return nil, fault(o, []string{"spec", "caBundle"}, "Provider %s: %w", o.Name, errors.New("spec.caBundle is not the base64 of certificates in PEM"))
	}
	p.roots = string(bundle)
	return p, nil
}

// answer is what a provider says of a key.
type answer struct {
	Kind     string `json:"kind"`
	Response struct {
		Items []struct {
			Key   string `json:"key"`
			Value any    `json:"value"`
			Error string `json:"error"`
		} `json:"items"`
		SystemError string `json:"systemError"`
	} `json:"response"`
}

// ask asks a provider for a key.
func (p *provider) ask(ctx context.Context, n *policy.Network, key string) (answers.Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	body, err := json.Marshal(map[string]any{
		"apiVersion": providersVersion, "kind": "ProviderRequest", "request": map[string]any{"keys": []string{key}},
	})
	if err != nil {
		return answers.Answer{}, err
	}
	reply, err := service.Of(n).Do(ctx, service.Call{
		Method: http.MethodPost, URL: p.url, Body: body, CABundle: p.roots,
		Headers: []service.Header{{Name: "Content-Type", Value: "application/json"}},
	})
	if err != nil {
		return answers.Answer{}, err
	}
	out := &answer{}
	if err := json.Unmarshal(reply.Body, out); err != nil || out.Kind != "ProviderResponse" {
		return answers.Answer{}, answers.Unknown("its answer (status %d) is no ProviderResponse", reply.Status)
	}
	return answers.Answer{Value: out, Size: len(reply.Body)}, nil
}

// answerAge is how long what a provider says is kept, as in Gatekeeper.
const answerAge = 3 * time.Minute

type keptKey struct{}

// question is what is asked of whom.
type question struct {
	of  provider
	key string
}

// look returns what a provider says of a key.
func (p *provider) look(ctx context.Context, n *policy.Network, key string) (*answer, error) {
	kept := policy.OnceFor(n, keptKey{}, func() *answers.Kept { return &answers.Kept{} })
	out, err := kept.Get(ctx, question{*p, key}, answerAge, n.Limit(), func(ctx context.Context) (answers.Answer, error) {
		return p.ask(ctx, n, key)
	})
	if err != nil {
		return nil, err
	}
	return out.(*answer), nil
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
	n := regoguard.NetworkOf(b.Context)
	if err := n.Host(p.host); err != nil {
		return halt("the provider %q: %v", request.Provider, err)
	}
	// Every list is one, also where it is empty.
	responses, failures, system := []any{}, []any{}, ""
	for _, key := range request.Keys {
		found, err := p.look(b.Context, n, key)
		if err != nil {
			return halt("the provider %q: %v", request.Provider, err)
		}
		system = cmp.Or(system, found.Response.SystemError)
		for _, i := range found.Response.Items {
			if i.Error != "" {
				failures = append(failures, []any{i.Key, i.Error})
				continue
			}
			responses = append(responses, []any{i.Key, i.Value})
		}
	}
	v, err := ast.InterfaceToValue(map[string]any{
		"responses": responses, "errors": failures, "status_code": http.StatusOK, "system_error": system,
	})
	if err != nil {
		return err
	}
	return iter(ast.NewTerm(v))
}
