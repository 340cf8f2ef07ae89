// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/kyverno/jmes"
)

// resolve looks an entry up and puts its value into the scope.
func (s *scope) resolve(e *entry) error {
	var value any
	var err error
	if _, given := s.sees()[e.Name]; given && e.Variable == nil && !s.e.subject.strict {
		return nil
	}
	switch {
	case e.Variable != nil:
		value, err = s.variable(e)
		if err != nil {
			return err
		}
		s.own()[e.Name] = value
		return nil
	case e.ConfigMap != nil:
		value, err = s.configMap(e)
	case e.APICall != nil:
		value, err = s.apiCall(e)
	case e.GlobalReference != nil:
		value, err = s.globalReference(e)
	default:
		value, err = s.imageRegistry(e)
	}
	if err != nil {
		return err
	}
	s.own()[e.Name] = merged(s.sees()[e.Name], floats(value))
	return nil
}

// notTold is the error of an entry that nobody has told.
func (s *scope) notTold(name, format string, args ...any) error {
	return &jmes.UnknownError{What: fmt.Sprintf("context %s: %s", name, fmt.Sprintf(format, args...))}
}

// text puts variables into a text that must stay one.
func (s *scope) text(what, in string) (string, error) {
	if !jmes.HasVariables(in) {
		return in, nil
	}
	v, err := jmes.Substitute(in, s)
	if err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	out, ok := v.(string)
	if !ok {
		return "", fmt.Errorf("%s is not a text", what)
	}
	return out, nil
}

// tree puts variables into a tree.
func (s *scope) tree(in any) (any, error) {
	if in == nil || !jmes.HasVariables(in) {
		return in, nil
	}
	return jmes.Substitute(in, s)
}

// variable works a variable out: its value, or what its expression finds in that
// or in the scope, or its default.
func (s *scope) variable(e *entry) (any, error) {
	v := e.Variable
	path, err := s.text("context "+e.Name+": jmesPath", v.JMESPath)
	if err != nil {
		return nil, err
	}
	fallback, err := s.tree(floats(v.Default))
	if err != nil {
		return nil, fmt.Errorf("context %s: default: %w", e.Name, err)
	}
	out := fallback
	found, err := s.find(v, path)
	switch {
	case isUnknown(err):
		return nil, err
	case err != nil && (fallback == nil || path == ""):
		return nil, fmt.Errorf("context %s: %w", e.Name, err)
	case err == nil && (found != nil || v.Value != nil):
		out = found
	}
	if out == nil {
		return nil, fmt.Errorf("context %s: the variable has no value", e.Name)
	}
	return out, nil
}

// find is what the expression of a variable finds.
func (s *scope) find(v *Variable, path string) (any, error) {
	if v.Value == nil {
		if path == "" {
			return nil, nil
		}
		return s.Query(path)
	}
	value, err := s.tree(floats(v.Value))
	if err != nil || path == "" {
		return value, err
	}
	q, err := jmes.Compile(path)
	if err != nil {
		return nil, err
	}
	return q.SearchIn(s.e.env, value)
}

// configMap looks a ConfigMap up.
func (s *scope) configMap(e *entry) (any, error) {
	name, err := s.text("context "+e.Name+": configMap.name", e.ConfigMap.Name)
	if err != nil {
		return nil, err
	}
	namespace, err := s.text("context "+e.Name+": configMap.namespace", e.ConfigMap.Namespace)
	if err != nil {
		return nil, err
	}
	own := s.e.p.namespace
	if namespace == "" {
		namespace = own
	}
	if namespace == "" {
		namespace = "default"
	}
	if own != "" && namespace != own {
		return nil, fmt.Errorf("context %s: a Policy of the namespace %s may not read ConfigMaps of %s", e.Name, own, namespace)
	}
	if s.e.request.Cluster == nil {
		return nil, s.notTold(e.Name, "the ConfigMap %s/%s", namespace, name)
	}
	objects, all := s.e.request.Cluster.Objects(object.GroupKind{Kind: "ConfigMap"}, namespace)
	for _, o := range objects {
		if o.Name == name && (o.Namespace == namespace || o.Namespace == "") {
			if o.Root.HasUnknown() {
				return nil, &jmes.UnknownError{What: fmt.Sprintf("context %s: all of the ConfigMap %s/%s", e.Name, namespace, name)}
			}
			tree := s.e.request.Tree(o)
			return map[string]any{"data": tree["data"], "metadata": tree["metadata"]}, nil
		}
	}
	if !all && s.e.subject.strict {
		return nil, s.notTold(e.Name, "the ConfigMap %s/%s", namespace, name)
	}
	return nil, fmt.Errorf("context %s: there is no ConfigMap %s/%s", e.Name, namespace, name)
}

// globalReference looks an entry of the global context up.
func (s *scope) globalReference(e *entry) (any, error) {
	name, err := s.text("context "+e.Name+": globalReference.name", e.GlobalReference.Name)
	if err != nil {
		return nil, err
	}
	if s.e.p.namespace != "" {
		return nil, fmt.Errorf("context %s: globalReference is not allowed in a Policy of a namespace", e.Name)
	}
	entry, projection, projects := strings.Cut(name, ".")
	data, ok := s.e.options.GlobalContext[entry]
	if !ok {
		return nil, s.notTold(e.Name, "the entry %s of the global context", name)
	}
	if projections, isMap := data.(map[string]any); projects && isMap {
		data = projections[projection]
	}
	return s.refine(e.Name, e.GlobalReference.JMESPath, floats(data))
}

// refine applies the expression of an entry to what was found.
func (s *scope) refine(name, path string, data any) (any, error) {
	path, err := s.text("context "+name+": jmesPath", path)
	if err != nil || path == "" {
		return data, err
	}
	q, err := jmes.Compile(path)
	if err != nil {
		return nil, fmt.Errorf("context %s: jmesPath: %w", name, err)
	}
	return q.SearchIn(s.e.env, data)
}

// apiCall answers a call from what is known.
func (s *scope) apiCall(e *entry) (any, error) {
	call := e.APICall
	path, err := s.text("context "+e.Name+": apiCall.urlPath", call.URLPath)
	if err != nil {
		return nil, err
	}
	if service, ok := call.Service.(map[string]any); ok {
		path, _ = service["url"].(string)
		if path, err = s.text("context "+e.Name+": apiCall.service.url", path); err != nil {
			return nil, err
		}
	}
	method := call.Method
	if method == "" {
		method = "GET"
	}
	for _, key := range []string{method + ":" + path, path} {
		if answer, ok := s.e.options.APICalls[key]; ok {
			if answer.Status < 200 || answer.Status > 299 {
				return nil, fmt.Errorf("context %s: the call of %s is answered with %d", e.Name, path, answer.Status)
			}
			return s.refine(e.Name, call.JMESPath, floats(answer.Body))
		}
	}
	if call.Service != nil {
		return s.call(e)
	}
	if method != "GET" {
		return nil, s.notTold(e.Name, "what %s %s answers", method, path)
	}
	data, found, known := s.get(path)
	switch {
	case !known:
		return nil, s.notTold(e.Name, "what the API server answers to GET %s", path)
	case !found && call.Default != nil:
		return s.tree(call.Default)
	case !found:
		return nil, fmt.Errorf("context %s: there is nothing at %s", e.Name, path)
	}
	return s.refine(e.Name, call.JMESPath, floats(data))
}

// get answers a GET of the API server from the objects that are known: an object,
// or a list of all of a kind.
func (s *scope) get(raw string) (data any, found, known bool) {
	c := s.e.request.Cluster
	u, err := url.Parse(raw)
	if c == nil || err != nil {
		return nil, false, false
	}
	a, ok := parseAPIPath(u.Path)
	if !ok {
		return nil, false, false
	}
	selector, err := labels.Parse(u.Query().Get("labelSelector"))
	if err != nil || u.Query().Has("fieldSelector") || u.Query().Has("limit") {
		return nil, false, false
	}
	kind, objects, all := policy.Find(c, a.group, a.resource, a.namespace)
	if kind.Kind == "" {
		return nil, false, false
	}
	var items []any
	for _, o := range objects {
		if o.Root.HasUnknown() {
			return nil, false, false
		}
		if a.name != "" && o.Name == a.name {
			return s.e.request.Tree(o), true, true
		}
		if a.name == "" && selector.Matches(labels.Set(stringMap(o.Root.At("metadata", "labels")))) {
			items = append(items, s.e.request.Tree(o))
		}
	}
	if !all {
		return nil, false, false
	}
	if a.name != "" {
		return nil, false, true
	}
	if items == nil {
		items = []any{}
	}
	return map[string]any{"apiVersion": a.version(), "kind": kind.Kind + "List", "metadata": map[string]any{}, "items": items}, true, true
}

// apiPath is what a path of the API server names.
type apiPath struct{ group, versionName, namespace, resource, name string }

func (a *apiPath) version() string {
	return schema.GroupVersion{Group: a.group, Version: a.versionName}.String()
}

// parseAPIPath reads /api/v1/... and /apis/GROUP/VERSION/...
func parseAPIPath(path string) (apiPath, bool) {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	var a apiPath
	switch {
	case len(parts) > 2 && parts[0] == "api":
		a.versionName, parts = parts[1], parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		a.group, a.versionName, parts = parts[1], parts[2], parts[3:]
	default:
		return a, false
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		a.namespace, parts = parts[1], parts[2:]
	}
	a.resource = parts[0]
	if len(parts) == 2 {
		a.name = parts[1]
	}
	return a, len(parts) <= 2
}

// isUnknown says whether an error is that of something that was not told.
func isUnknown(err error) bool {
	var unknown *jmes.UnknownError
	return errors.As(err, &unknown)
}
