// SPDX-License-Identifier: Apache-2.0

package policy

import (
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
