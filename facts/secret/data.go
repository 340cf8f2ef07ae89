// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"unicode/utf8"

	"sconce.dev/sconce/credential"
	"sconce.dev/sconce/object"
)

// maxBinary is the longest value in base64 that is looked into, in bytes: the
// API server takes no larger object.
const maxBinary = 2 << 20

// configMap goes through the data of a ConfigMap.
func (w *walker) configMap() {
	w.entries("data", func(f *object.Field) {
		if text, ok := scalar(f.Value); ok {
			w.value(f.Key, text)
		}
	})
	w.entries("binaryData", func(f *object.Field) {
		if text, ok := decoded(f.Value.Str()); ok && utf8.ValidString(text) {
			w.found(&w.data, "data", f.Key, text, credential.InText(text, credential.SyntaxOf(f.Key)))
		}
	})
}

// value looks at a value of a ConfigMap: a setting, or a whole file.
func (w *walker) value(key, text string) {
	if hasLines(text) || credential.SyntaxOf(key) == credential.Code {
		w.found(&w.data, "data", key, text, credential.InText(text, credential.SyntaxOf(key)))
		return
	}
	w.found(&w.data, "data", key, text, credential.InValue(key, text))
}

// entries calls f for every entry of a field of the object.
func (w *walker) entries(field string, f func(*object.Field)) {
	values := w.object.Root.Get(field)
	if values == nil {
		return
	}
	w.push(step{field: field})
	defer w.pop()
	if values.Kind == object.Unknown {
		w.data.unknown(values, w.path())
		return
	}
	for i := range values.Fields {
		entry := &values.Fields[i]
		w.push(step{field: entry.Key})
		if entry.Value.Kind == object.Unknown {
			w.data.unknown(entry.Value, w.path())
		} else {
			f(entry)
		}
		w.pop()
	}
}

// decoded returns what base64 hides; false where it is none.
func decoded(s string) (string, bool) {
	if s == "" || len(s) > maxBinary {
		return "", false
	}
	data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s), ""))
	return string(data), err == nil
}

// secret goes through the values of a Secret, but for what Helm keeps of a
// release.
func (w *walker) secret() {
	if w.object.Root.Get("type").Str() == "helm.sh/release.v1" {
		return
	}
	for _, field := range [...]string{"stringData", "data"} {
		w.entries(field, func(f *object.Field) {
			text := secretText(field, f.Value)
			if found := credential.InSecret(f.Key, text); len(found) > 0 && !w.generated(text[found[0].Start:found[0].End]) {
				w.found(&w.data, "secret", f.Key, text, found)
			}
		})
	}
}

// generated says whether a chart makes up a value each time that it is
// rendered: such a line comes out of no line of its templates, though others of
// the object do.
func (w *walker) generated(value string) bool {
	if w.object.Origin.Renderer != "helm" || !credential.Random(value) && !strings.Contains(value, "\n") {
		return false
	}
	return w.object.Position(w.path()).Line == 0 && w.object.Position(object.Path{{Field: "kind"}}).Line > 0
}

// secretText returns the text of a value of a Secret: in data what base64
// hides. What is no base64, or too short to be bytes in it, stands there as it
// is.
func secretText(field string, value *object.Node) string {
	text, _ := scalar(value)
	if field == "data" {
		if plain, ok := decoded(text); ok && (utf8.ValidString(plain) || len(plain) >= 16) {
			return plain
		}
	}
	return text
}

// annotations goes through annotations: of the object, or of a template in it.
// What they are called tells little: they name Secrets more often than not.
func (w *walker) annotations(n *object.Node) {
	if n.Kind == object.Unknown {
		w.other.unknown(n, w.path())
		return
	}
	for i := range n.Fields {
		f := &n.Fields[i]
		w.annotated = w.annotated || f.Value.Kind != object.Null
		w.push(step{field: f.Key})
		switch text := f.Value.Str(); {
		case f.Value.Kind == object.Unknown:
			w.other.unknown(f.Value, w.path())
		case f.Key == lastApplied:
			w.applied(text)
		case len(text) >= minLength:
			w.found(&w.other, "annotation", f.Key, text, credential.Known(text))
		}
		w.pop()
	}
}

// applied looks at the object as kubectl applied it, for credentials that the
// object does not have any more, or has encrypted since.
func (w *walker) applied(text string) {
	if w.object.Root.Get("kind").Str() == "Secret" {
		w.appliedSecret(text)
		return
	}
	var fresh []credential.Found
	for _, f := range credential.Known(text) {
		if !w.has(text[f.Start:f.End]) {
			fresh = append(fresh, f)
		}
	}
	w.found(&w.other, "annotation", lastApplied, text, fresh)
}

// appliedSecret looks at the values of a Secret as it was applied. In a cluster
// who reads the one reads the other.
func (w *walker) appliedSecret(text string) {
	var applied any
	if w.object.Root.At("metadata", "uid") != nil || json.Unmarshal([]byte(text), &applied) != nil {
		return
	}
	root := object.FromAny(applied)
	for _, field := range [...]string{"stringData", "data"} {
		values := root.Get(field)
		if values == nil {
			continue
		}
		for i := range values.Fields {
			f := &values.Fields[i]
			text := secretText(field, f.Value)
			for _, found := range credential.InSecret(f.Key, text) {
				if !w.has(text[found.Start:found.End]) {
					found.Name = f.Key
					w.other.add(w.path(), "annotation", "", lastApplied, "", found)
				}
			}
		}
	}
}

// has says whether a credential was found elsewhere in the object.
func (w *walker) has(secret string) bool {
	for _, s := range w.seen {
		if strings.Contains(secret, s) || strings.Contains(s, secret) {
			return true
		}
	}
	return false
}

// hasLines says whether a text has several lines.
func hasLines(text string) bool { return strings.Contains(strings.TrimSpace(text), "\n") }
