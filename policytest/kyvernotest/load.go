// SPDX-License-Identifier: Apache-2.0

package kyvernotest

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/kyverno"
	"sconce.dev/sconce/policy/kyvernocel"
	"sconce.dev/sconce/policy/vap"
)

// world is all that a test gives.
type world struct {
	*test
	opts   *Options
	scopes scopes
	values values

	// policies are documents of all languages, exceptions and bindings among them;
	// parameters are what admission policies refer to.
	policies, parameters []*object.Object
	// resources are judged, each once; targets are changed by policies that
	// change what is there already.
	resources, targets []*object.Object
	payloads           []payload
	cluster            cluster
	told               kyvernocel.Told
	user               userInfo

	// notRead are policies that were refused, and why.
	notRead map[string]string
}

// payload is a JSON document that is no object of Kubernetes.
type payload struct {
	name string
	root *object.Node
}

// userInfo says who asks.
type userInfo struct {
	UserInfo     *authenticationv1.UserInfo `json:"userInfo"`
	Roles        []string                   `json:"roles"`
	ClusterRoles []string                   `json:"clusterRoles"`
}

// load reads all files of a test.
func (t *test) load(opts *Options) (*world, error) {
	w := &world{test: t, opts: opts, scopes: newScopes(), notRead: map[string]string{}}
	if len(t.HTTPPayloads)+len(t.EnvoyPayloads) > 0 {
		return nil, errors.New("httpPayloads and envoyPayloads are requests to an authorization server, which are not supported; objects and jsonPayloads are")
	}
	if len(t.Checks) > 0 {
		return nil, errors.New("checks are assertions of older versions of Kyverno, which are not supported, nor by Kyverno since: write results")
	}
	steps := []func() error{w.loadValues, w.loadUser, w.loadPolicies, w.loadClusterResources, w.loadResources, w.loadPayloads, w.loadContext, w.loadTold}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	w.fillCluster()
	return w, nil
}

// read returns a file that the test names.
func (w *world) read(name string) ([]byte, error) {
	if strings.Contains(name, "://") {
		return nil, fmt.Errorf("%s is an address, and nothing is fetched: save it in a file beside the test", name)
	}
	return w.opts.ReadFile(w.path(name))
}

// path returns where a file that the test names is.
func (w *world) path(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(path.Dir(w.file), name)
}

// readYAML reads the one document of a file into a value.
func (w *world) readYAML(what, name string, into any) error {
	data, err := w.read(name)
	if err != nil {
		return fmt.Errorf("reading the %s: %w", what, err)
	}
	for text := range object.Split(data) {
		root, err := object.ParseYAML(text)
		if err == nil && root != nil {
			err = json.Unmarshal(root.JSON(), into)
		}
		if err != nil {
			return fmt.Errorf("reading the %s %s: %w", what, name, err)
		}
		break
	}
	return nil
}

// documents returns the objects of a file.
func (w *world) documents(name string) ([]*object.Object, error) {
	data, err := w.read(name)
	if err != nil {
		return nil, err
	}
	var out []*object.Object
	for text := range object.Split(data) {
		root, err := object.ParseYAML(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if root == nil {
			continue
		}
		origin := &object.Origin{Source: w.path(name), Text: text.Bytes, FirstLine: text.Line}
		objects, err := object.FromNode(root, origin)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, objects...)
	}
	return out, nil
}

// all returns the objects of files; a name that is a folder stands for the files
// in it.
func (w *world) all(what string, names []string) ([]*object.Object, error) {
	var out []*object.Object
	for _, name := range names {
		objects, err := w.documents(name)
		if err != nil {
			files := w.folder(name)
			if files == nil {
				return nil, fmt.Errorf("reading the %s: %w", what, err)
			}
			if objects, err = w.all(what, files); err != nil {
				return nil, err
			}
		}
		out = append(out, objects...)
	}
	return out, nil
}

// folder returns the YAML files of a folder; nil if it is none.
func (w *world) folder(name string) []string {
	if w.opts.ReadDir == nil || strings.Contains(name, "://") {
		return nil
	}
	names, err := w.opts.ReadDir(w.path(name))
	if err != nil {
		return nil
	}
	out := []string{}
	for _, n := range names {
		if ext := path.Ext(n); ext == ".yaml" || ext == ".yml" {
			out = append(out, path.Join(name, n))
		}
	}
	return out
}

func (w *world) loadValues() error {
	switch {
	case w.Values != nil:
		w.values = *w.Values
	case w.Variables != "":
		return w.readYAML("values", w.Variables, &w.values)
	}
	return nil
}

func (w *world) loadUser() error {
	if w.UserInfo != "" {
		if err := w.readYAML("user information", w.UserInfo, &w.user); err != nil {
			return err
		}
	}
	if w.user.UserInfo == nil {
		w.user.UserInfo = &authenticationv1.UserInfo{} // a test that names nobody asks as nobody
	}
	return nil
}

func (w *world) loadPolicies() error {
	objects, err := w.all("policies", w.Policies)
	if err != nil {
		return err
	}
	for _, o := range objects {
		if gk := o.GroupKind(); kyverno.Handles(gk) || kyvernocel.Handles(gk) || vap.Handles(gk) {
			w.policies = append(w.policies, o)
			w.policyFiles = append(w.policyFiles, o.Origin.Source)
		}
	}
	exceptions, err := w.all("exceptions", w.PolicyExceptions)
	if err != nil {
		return err
	}
	w.policies = append(w.policies, exceptions...)
	parameters, err := w.all("parameters", w.ParamResources)
	for _, o := range parameters {
		w.parameters = append(w.parameters, w.scopes.placed(o))
	}
	return err
}

// loadClusterResources reads what is in the cluster beside what is judged.
func (w *world) loadClusterResources() error {
	for _, name := range w.ClusterResources {
		var file struct {
			Spec struct {
				CRDs      []string         `json:"crds"`
				Resources []map[string]any `json:"resources"`
			} `json:"spec"`
		}
		if err := w.readYAML("cluster resources", name, &file); err != nil {
			return err
		}
		crds, err := w.all("custom resource definitions", file.Spec.CRDs)
		if err != nil {
			return err
		}
		for _, crd := range crds {
			w.scopes.add(crd)
		}
		w.cluster.add(crds...)
		for _, tree := range file.Spec.Resources {
			w.cluster.add(object.New(object.FromAny(tree), &object.Origin{Source: w.path(name)}))
		}
	}
	return nil
}

func (w *world) loadResources() error {
	resources, err := w.all("resources", w.Resources)
	if err != nil {
		return err
	}
	seen := map[object.Ref]bool{}
	for _, o := range resources {
		o = w.scopes.placed(o)
		key := o.Ref
		key.APIVersion = o.Group()
		if !seen[key] {
			seen[key] = true
			w.resources = append(w.resources, o)
		}
	}
	targets, err := w.all("target resources", w.TargetResources)
	for _, o := range targets {
		w.targets = append(w.targets, w.scopes.placed(o))
	}
	return err
}

func (w *world) loadPayloads() error {
	for _, name := range w.JSONPayloads {
		data, err := w.read(name)
		if err != nil {
			return fmt.Errorf("reading the JSON payload: %w", err)
		}
		for text := range object.Split(data) {
			root, err := object.ParseYAML(text)
			if err != nil {
				return fmt.Errorf("reading the JSON payload %s: %w", name, err)
			}
			if root == nil || root.Kind != object.Map {
				return fmt.Errorf("the JSON payload %s is no map", name)
			}
			w.payloads = append(w.payloads, payload{strings.TrimPrefix(name, "./"), root})
			break
		}
	}
	return nil
}

// loadContext reads the file of what CEL policies look up.
func (w *world) loadContext() error {
	if w.Context == "" {
		return nil
	}
	var file struct {
		Spec struct {
			Resources []map[string]any `json:"resources"`
			Images    []map[string]any `json:"images"`
		} `json:"spec"`
	}
	if err := w.readYAML("context", w.Context, &file); err != nil {
		return err
	}
	for _, tree := range file.Spec.Resources {
		w.cluster.add(object.New(object.FromAny(tree), &object.Origin{Source: w.path(w.Context)}))
	}
	w.told.Images = map[string]map[string]any{}
	for _, image := range file.Spec.Images {
		if name, ok := image["image"].(string); ok {
			w.told.Images[name] = image
		}
	}
	return nil
}

// fillCluster adds what is judged, and the namespaces that the values describe,
// to what is in the cluster.
func (w *world) fillCluster() {
	for _, o := range slices.Concat(w.resources, w.targets, w.parameters) {
		w.cluster.add(o)
	}
	for _, tree := range w.values.Namespaces {
		w.cluster.add(asNamespace(tree))
	}
	labels := w.namespaces()
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		w.cluster.add(newNamespace(name, labels[name]))
	}
}

// asNamespace returns a namespace of the values, which may leave out its kind.
func asNamespace(tree map[string]any) *object.Object {
	whole := maps.Clone(tree)
	whole["apiVersion"], whole["kind"] = "v1", "Namespace"
	return object.New(object.FromAny(whole), &object.Origin{})
}

// namespaces returns the labels of the namespaces that the values describe.
func (w *world) namespaces() map[string]map[string]string {
	out := map[string]map[string]string{}
	for _, n := range w.values.NamespaceSelectors {
		out[n.Name] = n.Labels
	}
	for _, tree := range w.values.Namespaces {
		n := asNamespace(tree)
		labels := map[string]string{}
		if fields := n.Root.At("metadata", "labels"); fields != nil {
			for _, f := range fields.Fields {
				labels[f.Key] = f.Value.Str()
			}
		}
		out[n.Name] = labels
	}
	return out
}

func newNamespace(name string, labels map[string]string) *object.Object {
	tree := map[string]any{}
	for k, v := range labels {
		tree[k] = v
	}
	meta := map[string]any{"name": name}
	if len(tree) > 0 {
		meta["labels"] = tree
	}
	return object.New(object.FromAny(map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": meta}), &object.Origin{})
}

// placed returns the object as the API server would hold it: in a namespace, and
// with maps where only a key is written.
func (s scopes) placed(o *object.Object) *object.Object {
	root := withMaps(o.Root)
	if o.Namespace == "" && !s[o.GroupKind()] {
		meta := root.Get("metadata")
		if meta == nil || meta.Kind != object.Map {
			meta = &object.Node{Kind: object.Map}
		}
		meta = withField(meta, "namespace", object.NewString("default"))
		root = withField(root, "metadata", meta)
	}
	if root == o.Root {
		return o
	}
	placed := object.New(root, o.Origin)
	placed.Within = o.Within
	return placed
}

// mapFields are those that are maps wherever they stand: a key without a value
// is an empty one.
var mapFields = map[string]bool{"annotations": true, "labels": true, "matchLabels": true, "nodeSelector": true, "data": true, "stringData": true}

// withMaps returns the tree with an empty map where such a key has no value.
func withMaps(n *object.Node) *object.Node {
	out := n
	change := func() {
		if out == n {
			c := *n
			c.Fields, c.Items = slices.Clone(n.Fields), slices.Clone(n.Items)
			out = &c
		}
	}
	for i, f := range n.Fields {
		value := f.Value
		if value.Kind == object.Null && mapFields[f.Key] {
			value = &object.Node{Kind: object.Map, Line: value.Line, Col: value.Col}
		} else {
			value = withMaps(value)
		}
		if value != f.Value {
			change()
			out.Fields[i].Value = value
		}
	}
	for i, item := range n.Items {
		if value := withMaps(item); value != item {
			change()
			out.Items[i] = value
		}
	}
	return out
}

// withField returns the map with a field set.
func withField(n *object.Node, key string, value *object.Node) *object.Node {
	c := *n
	c.Fields = slices.DeleteFunc(slices.Clone(n.Fields), func(f object.Field) bool { return f.Key == key })
	c.Fields = append(c.Fields, object.Field{Key: key, Value: value})
	return &c
}
