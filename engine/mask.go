// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"slices"
	"strings"

	"sconce.dev/sconce/facts/secret"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

var secretKind = object.GroupKind{Kind: "Secret"}

// hide keeps secrets out of what is told of an object: values of a Secret
// altogether, lines of a sensitive control but for their keys, and in any other
// line the object's credentials and what else looks like one.
func hide(f *verdict.Finding, o *object.Object, sensitive bool, mask secret.Mask) {
	if o.GroupKind() == secretKind {
		hideSecret(f, o)
		sensitive = true
	}
	if sensitive {
		f.Position.Quote = maskLine(f.Position.Quote)
	} else {
		f.Position.Quote = verdict.Redact(mask.Hide(f.Position.Quote))
	}
	f.Message = verdict.Redact(mask.Hide(f.Message))
	for i := range f.Evidence {
		f.Evidence[i].Value = verdict.Redact(mask.Hide(f.Evidence[i].Value))
	}
}

// hidden returns a position whose quote tells no secret of the object.
func hidden(o *object.Object, p object.Position) object.Position {
	if o.GroupKind() == secretKind {
		p.Quote = maskLine(p.Quote)
		return p
	}
	mask := secret.MaskOf(o)
	p.Quote = verdict.Redact(mask.Hide(p.Quote))
	return p
}

// oneField returns a line if it may be quoted for an object of which only a part
// was kept: what a line in flow style or JSON holds beside the field is not known.
func oneField(line string) string {
	if strings.ContainsAny(line, "{[") {
		return ""
	}
	return line
}

// hideSecret hides the values of a Secret wherever they are told. What is a part
// of a key is told with the key, and betrays nothing.
func hideSecret(f *verdict.Finding, o *object.Object) {
	for i := range f.Evidence {
		if v := &f.Evidence[i].Value; *v != "absent" {
			*v = verdict.Masked
		}
	}
	f.Message = withoutValues(f.Message, o)
}

// withoutValues returns a message without the values of a Secret.
func withoutValues(message string, o *object.Object) string {
	var keys []string
	for _, field := range [...]string{"data", "stringData"} {
		if values := o.Root.Get(field); values != nil {
			for i := range values.Fields {
				keys = append(keys, values.Fields[i].Key)
			}
		}
	}
	values := secret.Values(o)
	slices.SortStableFunc(values, func(a, b string) int { return len(b) - len(a) })
	for _, s := range values {
		if len(s) > 3 && !slices.ContainsFunc(keys, func(key string) bool { return strings.Contains(key, s) }) {
			message = strings.ReplaceAll(message, s, verdict.Masked)
		}
	}
	return secret.MaskOfSecrets([]*object.Object{o}).Hide(message)
}

// hideSeen keeps the values of those Secrets out of a message that a rule of a
// policy was given beside the object: what an update replaces, and others of the
// cluster.
func (r *Result) hideSeen(message string) string {
	if r.request == nil {
		return message
	}
	if old := r.request.Old; old != nil && old.GroupKind() == secretKind {
		message = withoutValues(message, old)
	}
	if c, ok := r.request.Cluster.(*cluster); ok {
		message = c.secrets().Hide(message)
	}
	return message
}

// maskLine hides what a line of a manifest says, and leaves where it says it: the
// indentation, the dash and the key.
func maskLine(line string) string {
	rest := strings.TrimLeft(line, " \t-")
	lead := line[:len(line)-len(rest)]
	if rest == "" {
		return line
	}
	key, _, ok := strings.Cut(rest, ": ")
	switch {
	case ok && plainKey(key):
		return lead + key + ": " + verdict.Masked
	case strings.HasSuffix(rest, ":") && plainKey(rest[:len(rest)-1]):
		return line
	}
	return lead + verdict.Masked
}

// plainKey says whether the text before a colon is a key, and no part of a
// value.
func plainKey(s string) bool {
	return len(s) <= 63 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/\"'") == ""
}
