// SPDX-License-Identifier: Apache-2.0

// Package secret finds credentials that stand in objects for everyone to read:
// in the environment, the commands and the headers of containers, in
// ConfigMaps, in annotations, in any other field where their form gives them
// away, and in the manifests of Secrets. The facts say where each stands, and
// never what it is.
//
// What a credential looks like is the business of package credential.
package secret

import (
	"strconv"
	"strings"

	"sconce.dev/sconce/credential"
	"sconce.dev/sconce/facts"
	"sconce.dev/sconce/object"
)

// The kinds of facts. Each holds the list facts.credentials; an item of it has
//
//	name       that no other item has, and that stays as long as the credential stays where it is
//	key        the variable, the flag, the annotation, the key of data or the field
//	inside     what it is called inside of the text under the key, if there is more in it
//	line       its line in that text, from 1, if that has several
//	where      env, command, args, header, annotation, data, secret, or field for any other
//	container  the name of the container
//	kind       password, token, key, private-key, cloud-key, cloud-key-id or url
//	rule       the format that it has; name where only its name gives it away, opaque for any other value of a Secret
//	certain    whether it has a known format
//	label      kind, and rule if it is certain, in words; spot is key, inside and line
const (
	// Container is about an object that runs containers.
	Container = "ContainerCredentials"
	// ConfigMap is about a ConfigMap, Secret about a Secret.
	ConfigMap = "ConfigMapCredentials"
	Secret    = "SecretCredentials"
	// Object is about the annotations of an object, and its other fields.
	Object = "ObjectCredentials"
)

// Single derives the facts.
var Single = facts.Single{Kinds: []string{Container, ConfigMap, Secret, Object}, From: from, Derive: derive}

// from says what the facts come from. That a credential may stand in any other
// object too is no reason to read all of them.
func from(kind string) facts.Sources {
	switch kind {
	case Container:
		return facts.Sources{Pods: true}
	case ConfigMap, Secret:
		return facts.Sources{Kinds: []object.GroupKind{{Kind: strings.TrimSuffix(kind, "Credentials")}}}
	}
	return facts.Sources{}
}

// lastApplied is the annotation in which kubectl repeats an object.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

func derive(o *object.Object, _ *facts.Env) []*object.Object {
	w := walk(o)
	if w == nil {
		return nil
	}
	var out []*object.Object
	if w.runs || len(w.container.items) > 0 {
		out = append(out, w.container.fact(Container, o))
	}
	switch o.GroupKind() {
	case object.GroupKind{Kind: "ConfigMap"}:
		out = append(out, w.data.fact(ConfigMap, o))
	case object.GroupKind{Kind: "Secret"}:
		out = append(out, w.data.fact(Secret, o))
	}
	if w.annotated || len(w.other.items) > 0 {
		out = append(out, w.other.fact(Object, o))
	}
	return out
}

// walk goes through an object; nil where it is a kind that holds examples.
func walk(o *object.Object) *walker {
	if o.Root.Kind != object.Map || o.Group() == "apiextensions.k8s.io" {
		return nil
	}
	w := &walker{object: o}
	w.steps = w.buffer[:0]
	switch o.GroupKind() {
	case object.GroupKind{Kind: "ConfigMap"}:
		w.configMap()
	case object.GroupKind{Kind: "Secret"}:
		w.secret()
	default:
		_, w.runs = object.PodPath(o.GroupKind())
		for i := range o.Root.Fields {
			if f := &o.Root.Fields[i]; f.Key != "status" && f.Key != "metadata" {
				w.field(f)
			}
		}
	}
	if n := o.Root.At("metadata", "annotations"); n != nil {
		w.steps = append(w.steps[:0], step{field: "metadata"}, step{field: "annotations"})
		w.annotations(n)
	}
	return w
}

// list is the credentials of one fact.
type list struct {
	items  []*object.Node
	places []object.Place
	names  map[string]int
}

// add adds what was found at a path of the object.
func (l *list) add(at object.Path, where, container, key, text string, f credential.Found) {
	name, spot := key, key
	item := &object.Node{Kind: object.Map}
	set := func(key string, value *object.Node) { item.Fields = append(item.Fields, facts.Field(key, value)) }
	if container != "" {
		name = container + "/" + key
		set("container", object.NewString(container))
	}
	var within []string
	if hasLines(text) {
		line := 1 + strings.Count(text[:f.Start], "\n")
		within = append(within, "line "+strconv.Itoa(line))
		set("line", object.NewInt(int64(line)))
	}
	if f.Name != "" && f.Name != key {
		name += "/" + f.Name
		within = append(within, f.Name)
		set("inside", object.NewString(f.Name))
	}
	if within != nil {
		spot += " (" + strings.Join(within, ", ") + ")"
	}
	set("name", object.NewString(l.unique(name)))
	set("key", object.NewString(key))
	set("where", object.NewString(where))
	set("kind", object.NewString(string(f.Kind)))
	set("rule", object.NewString(f.Rule))
	set("certain", object.NewBool(f.Certain))
	set("label", object.NewString(label(f)))
	set("spot", object.NewString(spot))
	l.append(item, at)
}

// unique returns a name with a number behind it where another item has it.
func (l *list) unique(name string) string {
	if l.names == nil {
		l.names = map[string]int{}
	}
	out := name
	for n := l.names[name] + 1; l.names[out] > 0; n++ {
		out = name + "#" + strconv.Itoa(n)
		l.names[name] = n
	}
	l.names[out]++
	return out
}

func label(f credential.Found) string {
	out := strings.ReplaceAll(string(f.Kind), "-", " ")
	switch f.Kind {
	case credential.URL:
		return "URL with a password"
	case credential.CloudKeyID:
		out = "cloud access key"
	}
	if f.Certain && f.Rule != string(f.Kind) {
		out += " (" + f.Rule + ")"
	}
	return out
}

// unknown adds that something could not be read, once.
func (l *list) unknown(n *object.Node, at object.Path) {
	for _, item := range l.items {
		if item.Kind == object.Unknown {
			return
		}
	}
	l.append(object.NewUnknown(n.Text), at)
}

func (l *list) append(item *object.Node, at object.Path) {
	l.places = append(l.places, object.Place{
		Fact:   object.Path{{Field: "facts"}, {Field: "credentials"}, {Item: true, Index: len(l.items)}},
		Source: at,
	})
	l.items = append(l.items, item)
}

func (l *list) fact(kind string, o *object.Object) *object.Object {
	return facts.New(kind, o, []object.Field{
		facts.Field("facts", facts.Map(facts.Field("credentials", facts.List(l.items...)))),
	}, l.places...)
}

// walker goes through an object.
type walker struct {
	object *object.Object
	buffer [16]step
	steps  []step
	// within is the name of the container that it is in.
	within string

	runs, annotated        bool
	container, data, other list
	// seen are the credentials that were found: kubectl's annotation repeats
	// them.
	seen []string
}

// step is a field, or an item of a list.
type step struct {
	field string
	list  *object.Node
	index int
}

// path returns the way to where the walker is. Items that are strings have no
// name in it: one might be the secret.
func (w *walker) path() object.Path {
	out := make(object.Path, 0, len(w.steps)+2)
	for _, s := range w.steps {
		switch {
		case s.list == nil:
			out = append(out, object.Step{Field: s.field})
		case s.list.Items[s.index].Kind == object.Map:
			out = append(out, object.ItemStep(s.list, s.index))
		default:
			out = append(out, object.Step{Item: true, Index: s.index})
		}
	}
	return out
}

func (w *walker) push(s step) { w.steps = append(w.steps, s) }
func (w *walker) pop()        { w.steps = w.steps[:len(w.steps)-1] }

// found adds to a list what was found in a text.
func (w *walker) found(l *list, where, key, text string, found []credential.Found) {
	for _, f := range found {
		w.seen = append(w.seen, text[f.Start:f.End])
		l.add(w.path(), where, w.within, key, text, f)
	}
}

// field goes through a field of the object.
func (w *walker) field(f *object.Field) {
	w.push(step{field: f.Key})
	w.node(f.Value)
	w.pop()
}

// node goes through any value: what is a container, wherever it stands, has an
// environment and a command; other strings are credentials by their form alone.
func (w *walker) node(n *object.Node) {
	switch n.Kind {
	case object.String:
		if len(n.Text) >= minLength {
			w.found(&w.other, "field", w.steps[len(w.steps)-1].field, n.Text, credential.Known(n.Text))
		}
	case object.List:
		for i, item := range n.Items {
			w.push(step{list: n, index: i})
			w.node(item)
			w.pop()
		}
	case object.Map:
		outer := w.within
		if w.isContainer(n) {
			w.runs = true
			w.within = n.Get("name").Str()
		}
		for i := range n.Fields {
			f := &n.Fields[i]
			w.push(step{field: f.Key})
			if !w.special(f) {
				w.node(f.Value)
			}
			w.pop()
		}
		w.within = outer
	case object.Unknown:
		if w.runs {
			w.container.unknown(n, w.path())
		} else {
			w.other.unknown(n, w.path())
		}
	}
}

// minLength is that of the shortest text that is looked at for what it is
// not called.
const minLength = 8

// isContainer says whether a map is a container: by the list that it stands
// in, or by its image.
func (w *walker) isContainer(n *object.Node) bool {
	if len(w.steps) > 1 {
		if s := w.steps[len(w.steps)-1]; s.list != nil {
			for _, name := range object.ContainerLists {
				if w.steps[len(w.steps)-2].field == name {
					return true
				}
			}
		}
	}
	return n.Get("image").Str() != ""
}

// special goes through a field that holds text of a kind, and says whether it
// was one: of a container, a probe, or the metadata of a template.
func (w *walker) special(f *object.Field) bool {
	switch {
	case f.Key == "annotations" && len(w.steps) > 1 && w.steps[len(w.steps)-2].field == "metadata":
		w.annotations(f.Value)
		return true
	case f.Value.Kind != object.List:
		return false
	}
	switch f.Key {
	case "env":
		w.settings(f.Value, "env")
	case "httpHeaders":
		w.settings(f.Value, "header")
	case "command", "args":
		if !scalars(f.Value) {
			return false
		}
		w.commandLine(f.Value, f.Key)
	default:
		return false
	}
	return true
}

// scalars says whether a list holds strings and other scalars alone.
func scalars(n *object.Node) bool {
	for _, item := range n.Items {
		if item.Kind == object.Map || item.Kind == object.List {
			return false
		}
	}
	return true
}

// settings goes through a list of names and values.
func (w *walker) settings(list *object.Node, where string) {
	for i, item := range list.Items {
		w.push(step{list: list, index: i})
		name, value := item.Get("name").Str(), item.Get("value")
		switch {
		case item.Kind == object.Unknown:
			w.container.unknown(item, w.path())
		case value == nil:
			w.node(item)
		default:
			w.push(step{field: "value"})
			w.setting(name, value, where)
			w.pop()
		}
		w.pop()
	}
}

func (w *walker) setting(name string, value *object.Node, where string) {
	text, ok := scalar(value)
	switch {
	case value.Kind == object.Unknown:
		w.container.unknown(value, w.path())
	case !ok:
		w.node(value)
	case where == "header" && strings.EqualFold(name, "authorization"):
		lead := name + ": "
		w.found(&w.container, where, name, text, shifted(credential.Known(lead+text), len(lead)))
	default:
		w.found(&w.container, where, name, text, credential.InValue(name, text))
	}
}

// shifted moves what was found to the left.
func shifted(found []credential.Found, by int) []credential.Found {
	out := found[:0]
	for _, f := range found {
		if f.Start -= by; f.Start >= 0 {
			f.End -= by
			out = append(out, f)
		}
	}
	return out
}

// scalar returns the text of a string or a number.
func scalar(n *object.Node) (string, bool) {
	switch n.Kind {
	case object.String:
		return n.Text, true
	case object.Int, object.Float:
		return n.Scalar(), true
	}
	return "", false
}

// commandLine goes through the words of a command.
func (w *walker) commandLine(list *object.Node, where string) {
	words := make([]string, 0, len(list.Items))
	interesting := false
	for i, item := range list.Items {
		text, _ := scalar(item)
		if item.Kind == object.Unknown {
			w.push(step{list: list, index: i})
			w.container.unknown(item, w.path())
			w.pop()
		}
		words = append(words, text)
		interesting = interesting || credential.MayHold(text)
	}
	if !interesting {
		return
	}
	for _, f := range credential.InCommand(words) {
		key := f.Name
		if key == "" {
			key = where + "[" + strconv.Itoa(f.Word) + "]"
		}
		f.Found.Name = ""
		w.push(step{list: list, index: f.Word})
		w.found(&w.container, where, key, words[f.Word], []credential.Found{f.Found})
		w.pop()
	}
}
