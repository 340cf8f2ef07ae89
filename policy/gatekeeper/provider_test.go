// SPDX-License-Identifier: Apache-2.0

package gatekeeper_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/gatekeeper"
)

func providerText(url, bundle string) string {
	return fmt.Sprintf("---\napiVersion: externaldata.gatekeeper.sh/v1beta1\nkind: Provider\nmetadata: {name: p}\nspec: {url: %q, timeout: 1, caBundle: %q}\n", url, bundle)
}

// TestExternalData holds what templates are answered that ask a provider.
func TestExternalData(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var request struct {
			Kind    string
			Request struct{ Keys []string }
		}
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil || request.Kind != "ProviderRequest" {
			t.Errorf("%+v, %v", request, err)
		}
		items := []map[string]any{}
		for _, key := range request.Request.Keys {
			switch key {
			case "nginx:1":
				items = append(items, map[string]any{"key": key, "value": "signed"})
			default:
				items = append(items, map[string]any{"key": key, "error": "not signed"})
			}
		}
		switch r.URL.Path {
		case "/strange":
			_, _ = io.WriteString(w, "<html>")
		case "/slow":
			<-r.Context().Done()
		case "/system":
			_ = json.NewEncoder(w).Encode(map[string]any{"kind": "ProviderResponse", "response": map[string]any{"systemError": "no disk"}})
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"kind": "ProviderResponse", "response": map[string]any{"items": items}})
		}
	}))
	defer server.Close()
	gone := httptest.NewTLSServer(nil)
	gone.Close()
	host := strings.TrimPrefix(server.URL, "https://")
	bundle := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	network := &policy.Network{Hosts: []string{host, strings.TrimPrefix(gone.URL, "https://")}, Timeout: 2 * time.Second}
	const rego = `violation[{"msg": msg}] {
	r := external_data({"provider": "%s", "keys": [c.image | c := input.review.object.spec.containers[_]]})
	msg := sprintf("%%v %%v %%v", [r.errors, r.system_error, count(r.responses)])
	not passes(r)
}
passes(r) { count(r.errors) == 0; r.system_error == "" }`
	with := func(image string) string {
		return "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: '" + image + "'}]}\n"
	}
	for _, test := range []struct {
		name, path, image, want string
		network                 *policy.Network
	}{
		{"it is signed", "/", "nginx:1", "pass", network},
		{"it is not", "/", "nginx:2", `fail | spec.containers[a]: [["nginx:2", "not signed"]]  0`, network},
		{"the provider has a fault", "/system", "nginx:1", `fail | [] no disk 0`, network},
		{"the network is not allowed", "/", "nginx:1", `unknown | the template calls external_data: the provider "p": calls to "` + host + `" are not allowed; a baseline`, nil},
		{"the host is not allowed", "/", "nginx:1", `unknown | the template calls external_data: the provider "p": calls to "` + host + `" are not allowed`, &policy.Network{Hosts: []string{"x"}}},
		{"no answer of a provider", "/strange", "nginx:1", `unknown | the template calls external_data: the provider "p": its answer (status 200) is no ProviderResponse`, network},
		{"too late", "/slow", "nginx:1", `unknown | the template calls external_data: the provider "p": there was no answer in the time that the rule has`, network},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := template("Signed", fmt.Sprintf(rego, "p")) + constraint("Signed", "{}") + providerText(server.URL+test.path, bundle)
			r := load(t, text)[0]
			o := parse(t, "pod.yaml", with(test.image))[0]
			if got := say(r.Judge(t.Context(), &policy.Request{Object: o, Network: test.network})); !strings.HasPrefix(got, test.want) {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
	t.Run("nobody answers", func(t *testing.T) {
		r := load(t, template("Signed", fmt.Sprintf(rego, "p"))+constraint("Signed", "{}")+providerText(gone.URL, bundle))[0]
		o := parse(t, "pod.yaml", with("nginx:1"))[0]
		if got := say(r.Judge(t.Context(), &policy.Request{Object: o, Network: network})); !strings.Contains(got, "connection refused") {
			t.Error(got)
		}
	})
	t.Run("answers are kept", func(t *testing.T) {
		r := load(t, template("Signed", fmt.Sprintf(rego, "p"))+constraint("Signed", "{}")+providerText(server.URL, bundle))[0]
		o := parse(t, "pod.yaml", with("nginx:1"))[0]
		before := asked.Load()
		for range 10 {
			if got := say(r.Judge(t.Context(), &policy.Request{Object: o, Network: network})); got != "pass" {
				t.Fatal(got)
			}
		}
		if n := asked.Load() - before; n != 1 {
			t.Errorf("the provider was asked %d times, want once", n)
		}
	})
}

// TestInvalidProviders holds what is said of Providers that are not valid.
func TestInvalidProviders(t *testing.T) {
	for _, test := range []struct{ url, bundle, want string }{
		{"http://provider.example.com", "", "spec.url is not an address that begins with https://"},
		{"https://provider.example.com", "!", "spec.caBundle is not the base64 of certificates in PEM"},
		{"https://provider.example.com", "YWJj", "spec.caBundle is not the base64 of certificates in PEM"},
	} {
		set := gatekeeper.Load(parse(t, "policies.yaml", providerText(test.url, test.bundle)), policy.Options{Timeout: time.Minute})
		if len(set.Problems) != 1 || !strings.Contains(set.Problems[0].Message, test.want) || set.Problems[0].Position.Line != 5 {
			t.Errorf("%s: %+v, want %s", test.url, set.Problems, test.want)
		}
	}
}

// TestTemplatesCallOut holds that http.send of templates reaches what is allowed.
func TestTemplatesCallOut(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"owner": ""}`)
	}))
	defer server.Close()
	text := template("Owned", `violation[{"msg": "no owner"}] { http.send({"method": "GET", "url": "`+server.URL+`"}).body.owner == "" }`) + constraint("Owned", "{}")
	o := parse(t, "pod.yaml", pod)[0]
	r := load(t, text)[0]
	if got := say(r.Judge(t.Context(), &policy.Request{Object: o, Network: &policy.Network{Hosts: []string{"127.0.0.1"}}})); got != "fail | no owner" {
		t.Error(got)
	}
	if got := say(r.Judge(t.Context(), &policy.Request{Object: o, Network: &policy.Network{Hosts: []string{"localhost"}}})); !strings.HasPrefix(got, "unknown | the template calls http.send: calls to ") {
		t.Error(got)
	}
}
