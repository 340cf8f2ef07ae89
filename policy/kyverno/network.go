// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"sconce.dev/sconce/policy/answers"
	"sconce.dev/sconce/policy/kyverno/jmes"
	"sconce.dev/sconce/policy/registry"
	"sconce.dev/sconce/policy/service"
)

// asksOutside says whether a rule asks registries or services, so that its time is
// that of the network.
func (r *Rule) asksOutside() bool {
	return r.hasVerifyImages() || slices.ContainsFunc(r.entries(), func(e ContextEntry) bool {
		return e.ImageRegistry != nil || e.APICall != nil && e.APICall.Service != nil
	})
}

// outside is the error of an entry that is not told by a registry or a service: it
// is not known where it could not be found out.
func (s *scope) outside(name, what string, err error) error {
	var unknown *answers.UnknownError
	if errors.As(err, &unknown) {
		return s.notTold(name, "%s (%v)", what, err)
	}
	return fmt.Errorf("context %s: %s: %w", name, what, err)
}

// imageRegistry asks a registry about an image.
func (s *scope) imageRegistry(e *entry) (any, error) {
	ref, err := s.text("context "+e.Name+": imageRegistry.reference", e.ImageRegistry.Reference)
	if err != nil {
		return nil, err
	}
	image, err := registry.Of(s.e.request.Network).Image(s.e.ctx, registry.Lookup{Image: ref})
	if err != nil {
		return nil, s.outside(e.Name, "what the registry says of the image "+ref, err)
	}
	identifier := image.Identifier
	if before, _, ok := strings.Cut(ref, "@"); ok {
		if i := strings.LastIndex(before, ":"); i >= 0 {
			identifier = before[i+1:] + "@" + identifier
		}
	}
	resolved, _, _ := strings.Cut(image.ResolvedImage, "@")
	return s.refine(e.Name, e.ImageRegistry.JMESPath, map[string]any{
		"image": ref, "resolvedImage": strings.TrimSuffix(resolved, ":"+image.Tag) + "@" + image.Digest, "registry": image.Registry,
		"repository": image.Repository, "identifier": identifier, "manifestList": image.Index, "manifest": image.Manifest, "configData": image.Config,
	})
}

// serviceCall is a call to a service, as it is written.
type serviceCall struct {
	URL      string `json:"url"`
	CABundle string `json:"caBundle"`
	Headers  []struct {
		Key   string `json:"key"`
		Value string `json:"value"`
	} `json:"headers"`
}

// call calls a service.
func (s *scope) call(e *entry) (any, error) {
	c := e.APICall
	if c.Method != "" && c.Method != http.MethodGet && c.Method != http.MethodPost {
		return nil, fmt.Errorf("context %s: the method is %q; want GET or POST", e.Name, c.Method)
	}
	call, err := s.newCall(c)
	if err != nil {
		return nil, fmt.Errorf("context %s: apiCall.service: %w", e.Name, err)
	}
	reply, err := service.Of(s.e.request.Network).Do(s.e.ctx, *call)
	if err != nil {
		return nil, s.outside(e.Name, fmt.Sprintf("what %s %s answers", call.Method, withoutQuery(call.URL)), err)
	}
	switch {
	case reply.Status == http.StatusUnauthorized || reply.Status == http.StatusForbidden:
		return nil, s.notTold(e.Name, "what %s answers to who may ask it (it answers with %d)", withoutQuery(call.URL), reply.Status)
	case (reply.Status < 200 || reply.Status > 299) && c.Default != nil:
		return s.tree(c.Default)
	case reply.Status < 200 || reply.Status > 299:
		return nil, fmt.Errorf("context %s: the call of %s is answered with %d", e.Name, withoutQuery(call.URL), reply.Status)
	}
	var data any
	if err := json.Unmarshal(reply.Body, &data); err != nil {
		return nil, fmt.Errorf("context %s: what %s answers is no JSON: %w", e.Name, withoutQuery(call.URL), err)
	}
	return s.refine(e.Name, c.JMESPath, data)
}

// withoutQuery is an address without what may let in.
func withoutQuery(address string) string {
	before, _, _ := strings.Cut(address, "?")
	if scheme, rest, ok := strings.Cut(before, "://"); ok {
		host, path, _ := strings.Cut(rest, "/")
		return scheme + "://" + host[strings.LastIndex(host, "@")+1:] + "/" + path
	}
	return before
}

// newCall puts variables into a call.
func (s *scope) newCall(c *APICall) (*service.Call, error) {
	told, err := s.tree(c.Service)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(told)
	if err != nil {
		return nil, err
	}
	var in serviceCall
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, errors.New("it cannot be read: " + strings.TrimPrefix(err.Error(), "json: "))
	}
	out := &service.Call{Method: c.Method, URL: in.URL, CABundle: in.CABundle}
	if out.Method == "" {
		out.Method = http.MethodGet
	}
	for _, h := range in.Headers {
		out.Headers = append(out.Headers, service.Header{Name: h.Key, Value: h.Value})
	}
	if out.Method == http.MethodPost {
		out.Body, err = s.data(c.Data)
	}
	return out, err
}

// data is what is sent: the entries by their keys.
func (s *scope) data(entries []any) ([]byte, error) {
	out := map[string]any{}
	for _, entry := range entries {
		m, _ := entry.(map[string]any)
		key, ok := m["key"].(string)
		if !ok {
			return nil, errors.New("data has an entry without a key")
		}
		value, err := jmes.Substitute(m["value"], s)
		if err != nil {
			return nil, fmt.Errorf("data %s: %w", key, err)
		}
		out[key] = value
	}
	text, err := json.Marshal(out)
	return append(text, '\n'), err
}
