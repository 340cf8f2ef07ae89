// SPDX-License-Identifier: Apache-2.0

package diff

import "sconce.dev/sconce/verdict"

// Stream returns the change as the stream of a scan that found only what is new:
// what fails and did not, what cannot be decided and was not unknown, and what
// may be new. The reports for programs are made from it. Summary is that of the
// head, which counts all.
func (c *Change) Stream(config verdict.Config, control func(name string) *verdict.Control, summary *verdict.Summary) []*verdict.Message {
	config.Base = c.Base.Name
	out := []*verdict.Message{{Config: &config}}
	told := map[string]bool{}
	for _, list := range [][]Finding{c.Findings.New, c.Findings.Unknown, c.Findings.Unclear} {
		for i := range list {
			f := &list[i]
			if f.Is == Unread {
				continue
			}
			if !told[f.Control] {
				told[f.Control] = true
				out = append(out, &verdict.Message{Control: control(f.Control)})
			}
			out = append(out, &verdict.Message{Finding: &f.Finding})
		}
	}
	for i := range c.Problems {
		out = append(out, &verdict.Message{Problem: &c.Problems[i].Problem})
	}
	return append(out, &verdict.Message{Summary: summary})
}
