// SPDX-License-Identifier: Apache-2.0

package rego

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"

	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/policy/place"
	"sconce.dev/sconce/verdict"
)

// maxFindings is how many results of one rule over one document are told.
const maxFindings = 100

// maxMessage is how long a message may be, in bytes.
const maxMessage = 4096

// results makes findings of what a rule came to: nothing or an empty set is a
// pass, each member of a set a finding. What conftest would drop in silence,
// because it is no message, is unknown.
func (r *rule) results(found topdown.QueryResultSet, root *object.Node) control.Verdict {
	if len(found) == 0 {
		return policy.Passed()
	}
	value := found[0][resultVar].Value
	var members []*ast.Term
	switch value := value.(type) {
	case ast.Set:
		members = value.Slice()
	case *ast.Array:
		for i := range value.Len() {
			members = append(members, value.Elem(i))
		}
	case ast.Boolean:
		if !value {
			return policy.Passed()
		}
		return r.noSet("true")
	case ast.Object:
		if value.Len() == 0 {
			return policy.Passed()
		}
		return r.noSet("an object")
	default:
		return r.noSet("a " + ast.ValueName(value))
	}
	out := policy.Passed()
	for i, member := range members {
		if i == maxFindings {
			out.Findings[i-1].Message += fmt.Sprintf(" (and %d more results)", len(members)-i)
			break
		}
		f := r.finding(member, root)
		if out.Outcome != verdict.Fail {
			out.Outcome = f.Outcome
		}
		out.Findings = append(out.Findings, f)
	}
	return out
}

// noSet is the verdict of a rule whose value is no set of messages.
func (r *rule) noSet(what string) control.Verdict {
	name := r.info.Name[strings.LastIndexByte(r.info.Name, '.')+1:]
	return policy.Unknown(fmt.Sprintf("%s:%d: the value of the rule is %s, not a set of messages: write it as %s contains message if { … }",
		r.info.Position.File, r.info.Position.Line, what, strings.ReplaceAll(name, "-", "_")))
}

// finding makes a finding of a member: a message, or an object with one.
func (r *rule) finding(member *ast.Term, root *object.Node) control.Finding {
	f := control.Finding{Outcome: verdict.Fail}
	switch value := member.Value.(type) {
	case ast.String:
		f.Message = string(value)
	case ast.Object:
		msg := value.Get(ast.InternedTerm("msg"))
		text, ok := ast.String(""), false
		if msg != nil {
			text, ok = msg.Value.(ast.String)
		}
		if !ok {
			return control.Finding{Outcome: verdict.Unknown, Message: "a result is an object without a text msg"}
		}
		f.Message = string(text)
		f.Path = named(value, root)
	default:
		return control.Finding{Outcome: verdict.Unknown, Message: "a result is a " + ast.ValueName(value) + ", not a message"}
	}
	if f.Path == nil {
		f.Path = mentioned(f.Message, root)
	}
	if f.Path == nil && root.Get("apiVersion") != nil && root.Get("kind") != nil {
		f.Path = place.Of(root, f.Message)
		f.Missing = f.Path != nil && root.Lookup(f.Path) == nil
	}
	f.Message = mask(f.Message, root)
	if len(f.Message) > maxMessage {
		f.Message = strings.ToValidUTF8(f.Message[:maxMessage], "") + "…"
	}
	if f.Message == "" {
		f.Message = r.info.Title
	}
	return f
}

// minSecret is how long a value of a Secret must be for it to be looked for in
// messages.
const minSecret = 3

// mask takes the values of a Secret out of a message about it.
func mask(message string, root *object.Node) string {
	if root.Get("kind").Str() != "Secret" {
		return message
	}
	for _, field := range []string{"data", "stringData"} {
		values := root.Get(field)
		if values == nil {
			continue
		}
		for i := range values.Fields {
			if v := values.Fields[i].Value.Str(); len(v) >= minSecret {
				message = strings.ReplaceAll(message, v, "(masked)")
			}
		}
	}
	return message
}
