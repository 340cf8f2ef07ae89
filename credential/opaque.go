// SPDX-License-Identifier: Apache-2.0

package credential

import "unicode/utf8"

// known are last words of names whose values anyone may know, even where they
// stand in a Secret.
var known = set(`id ids user username login email mail host hostname server address addr hosts port url uri endpoint region
	zone type kind name namespace database db dbname schema project org organization bucket path file dir filename folder insecure
	ssl sslmode tls mode level timeout version expiration expires description subject audience issuer scope scopes
	fingerprint thumbprint usages groups comment`)

// opaque returns which part of a value of a Secret is secret because it stands
// there. False for what anyone may know: names and addresses, switches,
// certificates, what is filled in later.
func opaque(name, value string) (start, end int, ok bool) {
	start, end = trimmed(value)
	v := value[start:end]
	if !utf8.ValidString(v) {
		return start, end, len(v) >= 16
	}
	var buffer [12]string
	words := wordsOf(name, buffer[:0])
	for len(words) > 1 && which[words[len(words)-1]] {
		words = words[:len(words)-1]
	}
	n := weak
	if len(words) > 0 {
		switch last := words[len(words)-1]; {
		case known[last], notSecret[last]:
			return 0, 0, false
		case last == "key":
			n = key
		}
	}
	return start, end, !hasLines(v) && !harmless(name, n, v, held)
}
