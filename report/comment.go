// SPDX-License-Identifier: Apache-2.0

package report

// What other packages print in Markdown and JSON holds texts of strangers, too.

// MaxMarkdown is how many bytes a comment on a pull request may have: GitHub
// refuses more than 65,536 characters, and a workflow may add some words.
const MaxMarkdown = maxMarkdown

// Markdown returns a text as Markdown that shows it and does nothing.
func Markdown(s string) string { return escapeMarkdown(visible(s)) }

// Code returns a text as HTML code, as hosts show it in Markdown.
func Code(s string) string { return code(visible(s)) }

// EscapeJSON returns a JSON text in which hidden characters are \u escapes.
func EscapeJSON(text []byte) []byte { return escapeJSON(text) }
