// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"

	"sconce.dev/sconce/control"
	"sconce.dev/sconce/object"
	"sconce.dev/sconce/verdict"
)

// Passed is the verdict of a rule that finds nothing.
func Passed() control.Verdict { return control.Verdict{Outcome: verdict.Pass} }

// Failed is the verdict of a rule that does not hold, at a place of the object.
func Failed(path object.Path, message string) control.Verdict {
	return control.Verdict{Outcome: verdict.Fail, Findings: []control.Finding{{Outcome: verdict.Fail, Path: path, Message: message}}}
}

// Unknown is the verdict of a rule that cannot be decided, and why.
func Unknown(reason string) control.Verdict {
	return control.Verdict{Outcome: verdict.Unknown, Findings: []control.Finding{{Outcome: verdict.Unknown, Message: reason}}}
}

// inExpression stands between the reason and the expression that fails for it.
const inExpression = ", in the expression "

// maxQuoted is how much of an expression a message quotes, in characters.
const maxQuoted = 60

// Failing says why an expression of a policy cannot be evaluated: the reason,
// and the beginning of the expression on one line.
func Failing(reason, expression string) string {
	quoted := []rune(strings.Join(strings.Fields(expression), " "))
	if len(quoted) > maxQuoted {
		quoted = append(quoted[:maxQuoted-1], '…')
	}
	return reason + inExpression + string(quoted)
}

// IsFailing says whether a message is one of Failing.
func IsFailing(message string) bool { return strings.Contains(message, inExpression) }

// Reworded says what the API server says of expressions that fail with the
// reasons first; another message as it is.
func Reworded(message string) string {
	const begins, ends = "expression '", "' resulted in error: "
	before, rest, found := strings.Cut(message, begins)
	expression, reason, fails := strings.Cut(rest, ends)
	if !found || !fails {
		return message
	}
	closing := ""
	if strings.HasSuffix(before, "[") && strings.HasSuffix(reason, "]") { // there are several
		reason, closing = strings.TrimSuffix(reason, "]"), "]"
	}
	reason, more, several := strings.Cut(reason, ", "+begins)
	if several {
		closing = ", " + Reworded(begins+more) + closing
	}
	return before + Failing(reason, expression) + closing
}

// Hushed is the reason that is given where the one that an expression gives may
// hold values of a Secret.
const Hushed = "what fails may hold values of the Secret, and is left out"
