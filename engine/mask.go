// SPDX-License-Identifier: Apache-2.0

package engine

import "strings"

// Masked stands where a secret would be shown.
const Masked = "****"

// mask hides what a line of a manifest says, and leaves where it says it: the
// indentation, the dash and the key.
func mask(line string) string {
	rest := strings.TrimLeft(line, " \t-")
	lead := line[:len(line)-len(rest)]
	if rest == "" {
		return line
	}
	key, _, ok := strings.Cut(rest, ": ")
	switch {
	case ok && plainKey(key):
		return lead + key + ": " + Masked
	case strings.HasSuffix(rest, ":") && plainKey(rest[:len(rest)-1]):
		return line
	}
	return lead + Masked
}

// plainKey says whether the text before a colon is a key, and no part of a
// value.
func plainKey(s string) bool {
	return len(s) <= 63 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/\"'") == ""
}
