// SPDX-License-Identifier: Apache-2.0

package kyvernotest

import (
	"fmt"
	"strings"

	"sconce.dev/sconce/policy/kyverno"
	"sconce.dev/sconce/policy/kyverno/jmes"
)

// loadTold reads what takes the place of calls and of the global context.
func (w *world) loadTold() error {
	w.told.HTTP = map[string]any{}
	for i := range w.APICallResponses {
		call := &w.APICallResponses[i]
		status := call.Response.StatusCode
		if status == 0 {
			status = 200
		}
		key := strings.TrimSpace(call.URL)
		if key == "" {
			key = strings.TrimSpace(call.URLPath)
		}
		if method := strings.ToUpper(strings.TrimSpace(call.Method)); method != "" {
			key = method + ":" + key
		}
		w.told.HTTP[key] = map[string]any{"body": call.Response.Body, "statusCode": status}
	}
	w.told.Global = map[string]any{}
	for i := range w.GlobalContextEntries {
		entry := &w.GlobalContextEntries[i]
		value, err := w.globalContext(entry)
		if err != nil {
			return fmt.Errorf("global context entry %s: %w", entry.Name, err)
		}
		w.told.Global[entry.Name] = value
	}
	return nil
}

// globalContext returns the value of an entry.
func (w *world) globalContext(entry *globalContext) (any, error) {
	root := entry.Data
	switch {
	case entry.ResourceFiles != nil:
		objects, err := w.all("resources", entry.ResourceFiles)
		if err != nil {
			return nil, err
		}
		list := []any{}
		for _, o := range objects {
			list = append(list, o.Root.Any())
		}
		root = list
	case entry.Resources != nil:
		root = entry.Resources
	}
	if entry.FieldPath != "" {
		var err error
		if root, err = search(entry.FieldPath, root); err != nil {
			return nil, err
		}
	}
	if len(entry.Projections) == 0 {
		return root, nil
	}
	out := map[string]any{}
	for _, p := range entry.Projections {
		value, err := search(p.Path, root)
		if err != nil {
			return nil, err
		}
		out[p.Name] = value
	}
	return out, nil
}

func search(expr string, in any) (any, error) {
	q, err := jmes.Compile(expr)
	if err != nil {
		return nil, fmt.Errorf("path %q: %w", expr, err)
	}
	out, err := q.Search(in)
	if err != nil {
		return nil, fmt.Errorf("path %q: %w", expr, err)
	}
	return out, nil
}

// tell gives a policy of kyverno.io what takes the place of the calls of its
// context, and of the global context. Values that the test gives go first.
func (e *evaluation) tell(name string, variables map[string]any) {
	for _, p := range e.kyverno {
		if p.Name != name {
			continue
		}
		for _, r := range p.Rules {
			for i := range r.Context {
				e.tellEntry(&r.Context[i], variables)
			}
		}
	}
}

func (e *evaluation) tellEntry(entry *kyverno.ContextEntry, variables map[string]any) {
	var value any
	var path string
	found := false
	switch {
	case entry.GlobalReference != nil:
		value, found = e.told.Global[entry.GlobalReference.Name]
		path = entry.GlobalReference.JMESPath
	case entry.APICall != nil:
		value, found = e.answer(entry.APICall)
		path = entry.APICall.JMESPath
	}
	if _, given := variables[entry.Name]; given || !found {
		return
	}
	if path != "" {
		var err error
		if value, err = search(path, value); err != nil {
			return // the policy finds that it is not told
		}
	}
	variables[entry.Name] = value
}

// answer returns the body of the answer to a call.
func (e *evaluation) answer(call *kyverno.APICall) (any, bool) {
	method, url := strings.ToUpper(call.Method), call.URLPath
	if method == "" {
		method = "GET"
	}
	if service, ok := call.Service.(map[string]any); ok {
		url, _ = service["url"].(string)
	}
	for _, key := range []string{method + ":" + url, url} {
		if answer, ok := e.told.HTTP[key].(map[string]any); ok {
			return answer["body"], true
		}
	}
	return nil, false
}
