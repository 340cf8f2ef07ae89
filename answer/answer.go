// SPDX-License-Identifier: Apache-2.0

// Package answer is what people ask of the models of a cluster, and what they
// get: who may do something, what somebody may do, what reaches what, and how
// an attacker gets from here to there. Each answer is a value that is written as
// JSON as it is, prints itself for a person, and, where that helps, is drawn.
//
// It reads nothing and decides nothing: the models do. What they do not know
// stands in every answer.
package answer

import (
	"io"
	"slices"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/report"
)

// Version is the version of the answers as JSON. It grows when a field changes
// its meaning or goes; new fields leave it as it is.
const Version = "v1alpha1"

// Source says what was asked.
type Source struct {
	// Version is that of the answer's format.
	Version string `json:"sconceAnswer"`
	// From is what was read, in words.
	From string `json:"from"`
	// Complete says that what was read is all there is. Where it is not, Lacks
	// says why more may hold than is said.
	Complete bool   `json:"complete"`
	Lacks    string `json:"lacks,omitempty"`
}

// Answer is what every answer is.
type Answer interface {
	// Text prints the answer for a person.
	Text(p *Page)
}

// JSON writes an answer as one JSON value.
func JSON(w io.Writer, a Answer) error { return report.JSON(w, a) }

// footer prints what is not known: reasons of the answer's own, and why what was
// read may not be all.
func (s *Source) footer(p *Page, unknown []string) {
	if s.Lacks != "" {
		unknown = append([]string{s.Lacks}, unknown...)
	}
	p.unknown(unknown)
}

// at returns where something stands, for the end of a line; nothing for an
// object of a cluster.
func at(p object.Position) string {
	return report.Place(object.Position{File: p.File, Line: p.Line})
}

// named returns an object as a person names it within a namespace: Kind/name.
func named(r object.Ref) string { return r.Kind + "/" + r.Name }

// qualified returns an object as a person names it: Kind namespace/name.
func qualified(r object.Ref) string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// distinct returns sorted strings, each once, without empty ones.
func distinct(list []string) []string {
	out := append([]string{}, list...)
	slices.Sort(out)
	return slices.DeleteFunc(slices.Compact(out), func(s string) bool { return s == "" })
}
