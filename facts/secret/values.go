// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
)

// Values returns the values of a Secret in the forms in which somebody who is
// given the Secret may tell them: as they are written, decoded, encoded, in
// capitals.
func Values(o *object.Object) []string {
	var out []string
	for _, field := range [...]string{"data", "stringData"} {
		values := o.Root.Get(field)
		if values == nil {
			continue
		}
		for i := range values.Fields {
			text, _ := scalar(values.Fields[i].Value)
			if text == "" {
				continue
			}
			out = append(out, forms(text)...)
			if plain, ok := decoded(text); ok && field == "data" {
				out = append(out, forms(plain)...)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// forms returns the forms in which a text may be told.
func forms(text string) []string {
	out := []string{
		text, strings.ToUpper(text), strings.ToLower(text),
		base64.RawStdEncoding.EncodeToString([]byte(text)), base64.RawURLEncoding.EncodeToString([]byte(text)),
		hex.EncodeToString([]byte(text)),
	}
	if trimmed := strings.TrimSpace(text); trimmed != text && trimmed != "" {
		out = append(out, trimmed)
	}
	if quoted, err := json.Marshal(text); err == nil {
		out = append(out, string(quoted[1:len(quoted)-1]))
	}
	return out
}

// MaskOfSecrets returns the mask of all values of Secrets, for what is told by
// those who are given them. A word may stand in any sentence, and is let be.
func MaskOfSecrets(all []*object.Object) Mask {
	var out []string
	for _, o := range all {
		for _, s := range Values(o) {
			if isWord(s) {
				continue
			}
			for line := range strings.Lines(s) {
				if line = strings.TrimSpace(line); len(line) >= minMasked {
					out = append(out, line)
				}
			}
		}
	}
	return newMask(out)
}
