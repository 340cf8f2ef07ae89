// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"strings"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
)

// message is a text with CEL expressions in braces.
type message struct {
	// texts has one more element than exprs: they alternate.
	texts []string
	exprs []*expression
}

// parseMessage reads spec.message. Braces inside strings of an expression
// count like any others.
func parseMessage(s string, shared *Expressions) (message, error) {
	var m message
	for {
		open := strings.IndexByte(s, '{')
		if open < 0 {
			m.texts = append(m.texts, s)
			return m, nil
		}
		depth, end := 0, -1
		for i := open; i < len(s) && end < 0; i++ {
			switch s[i] {
			case '{':
				depth++
			case '}':
				if depth--; depth == 0 {
					end = i
				}
			}
		}
		if end < 0 {
			return m, fmt.Errorf("message %q: { without }", s)
		}
		m.texts = append(m.texts, s[:open])
		m.exprs = append(m.exprs, shared.expression(s[open+1:end], nil))
		s = s[end+1:]
	}
}

// maxMessage bounds what an expression may add to a message.
const maxMessage = 200

// text returns the message for what the scope holds. An expression that has no
// value shows as "?": it must never keep a finding from being told.
func (m *message) text(s *scope) string {
	if len(m.exprs) == 0 {
		return m.texts[0]
	}
	var b strings.Builder
	for i, e := range m.exprs {
		b.WriteString(m.texts[i])
		cost := s.cost
		v := printed(s.eval(e))
		s.cost = cost // telling costs nothing that judging may not spend
		if len(v) > maxMessage {
			v = strings.ToValidUTF8(v[:maxMessage], "") + "…"
		}
		b.WriteString(v)
	}
	b.WriteString(m.texts[len(m.exprs)])
	return b.String()
}

// printed returns a value as a message shows it: strings bare, lists with
// commas.
func printed(v ref.Val) string {
	switch v := v.(type) {
	case types.String:
		return string(v)
	case types.Bool, types.Int, types.Uint, types.Double:
		return fmt.Sprint(v.Value())
	case traits.Lister:
		var parts []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			parts = append(parts, printed(it.Next()))
		}
		return strings.Join(parts, ", ")
	}
	return "?"
}
