// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// What else is printed for a person at a terminal is safe in the same way.

// Visible returns a text as one line in which every character that a terminal
// would obey, or that does not show itself, is replaced by its escape.
func Visible(s string) string { return visible(s) }

// Width returns how many columns of a terminal a visible text takes.
func Width(s string) int { return width(s) }

// Wrap breaks prose into visible lines of at most max columns.
func Wrap(s string, max int) []string { return wrap(s, max) }

// maxLines is how many lines of one sort a list has.
const maxLines = 12

// List writes a list under a title, the first of its lines and how many there are
// more, each a visible one behind an indent; nothing if it is empty.
func List(b *strings.Builder, indent, title string, list []string) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "%s%s:\n", indent, title)
	for i, line := range list {
		if i == maxLines {
			fmt.Fprintf(b, "%s  and %d more\n", indent, len(list)-i)
			break
		}
		fmt.Fprintf(b, "%s  %s\n", indent, visible(line))
	}
}

// Place returns a position as compilers write it, file:line:column; empty for
// that of an object of a cluster.
func Place(p object.Position) string { return placeText(p) }

// ProblemText returns what could not be read, and why, as one line.
func ProblemText(p *verdict.Problem) string {
	if place := placeText(p.Position); place != "" {
		return place + ": " + prose(p.Message)
	}
	return prose(p.Message)
}
