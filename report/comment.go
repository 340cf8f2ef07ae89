// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// What other packages print in Markdown and JSON holds texts of strangers, too.

// MaxMarkdown is how many bytes a comment on a pull request may have: GitHub
// refuses more than 65,536 characters, and a workflow may add some words.
const MaxMarkdown = maxMarkdown

// Markdown returns a text as Markdown that shows it and does nothing.
func Markdown(s string) string { return escapeMarkdown(visible(s)) }

// Code returns a text as HTML code, as hosts show it in Markdown.
func Code(s string) string { return code(visible(s)) }

// JSON writes a value as JSON that people can read, too, in which hidden
// characters are \u escapes.
func JSON(w io.Writer, value any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return fmt.Errorf("writing JSON: %w", err)
	}
	_, err := w.Write(escapeJSON(b.Bytes()))
	return err
}
