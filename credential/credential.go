// SPDX-License-Identifier: Apache-2.0

// Package credential knows what a credential looks like in a text, and what
// only resembles one: the formats of known tokens, URLs with a password, and
// values that stand under a name that says what they are.
//
// It says where a credential stands and never what it is. Which objects hold
// text, and which credential is a fault, is for others to say.
package credential

// Kind says what a credential is good for.
type Kind string

// The kinds. An access key's ID names a key that lives until someone revokes
// it; it opens nothing by itself.
const (
	Password   Kind = "password"
	Token      Kind = "token"
	Key        Kind = "key"
	PrivateKey Kind = "private-key"
	CloudKey   Kind = "cloud-key"
	CloudKeyID Kind = "cloud-key-id"
	URL        Kind = "url"
)

// Found is a credential in a text.
type Found struct {
	// Rule is the format that it has, by the name of its rule; "name" where
	// only its name gives it away, "opaque" where only its place does.
	Rule string
	Kind Kind
	// Certain says that it has a known format. Otherwise it is likely.
	Certain bool
	// Name is what it is called in the text: a variable, a flag, a key of a
	// file; empty where it stands alone.
	Name string
	// Start and End are the bytes of the text that it takes.
	Start, End int
}

// byName is the rule of what only its name gives away.
const byName = "name"

// Syntax says how a text is read where it does not say itself.
type Syntax uint8

// The syntaxes: configuration of any kind; a program, in which only quoted
// values are values; the words of a command line.
const (
	Config Syntax = iota
	Code
	CommandLine
)

// codeExtensions end the names of files that are programs, or prose. Scripts of
// the shell are not among them: they assign as a configuration does.
var codeExtensions = set(`py js mjs cjs ts tsx jsx go lua rb java groovy kt php cs rs pl star rego cel html htm css md txt
	sql tpl tmpl gotmpl vcl awk ps1 jinja j2 svg`)

// SyntaxOf returns how a file is read, by its name.
func SyntaxOf(file string) Syntax {
	for i := len(file) - 1; i >= 0; i-- {
		if file[i] == '.' {
			if codeExtensions[file[i+1:]] {
				return Code
			}
			break
		}
	}
	return Config
}

// Known returns the credentials of a text that are known by their format, in
// their order.
func Known(text string) []Found {
	return find(text, hits{tokens: true})
}

// InText returns the credentials of a text of several lines: those that are
// known by their format, and values of names that say that they are secret.
func InText(text string, syntax Syntax) []Found {
	return find(text, hits{tokens: true, names: true, syntax: syntax})
}

// InValue returns the credential that a value holds, under its name. A value of
// several lines, or of several settings, may hold more than one.
func InValue(name, value string) []Found { return inValue(name, value, setting) }

// InSecret returns the credentials of a value that stands in a Secret: besides
// those of InValue and InText, of the rule "opaque", what looks made by a
// program, under a name that tells nothing.
func InSecret(name, value string) []Found {
	var found []Found
	if hasLines(value) {
		found = InText(value, SyntaxOf(name))
	} else {
		found = inValue(name, value, held)
	}
	if len(found) == 0 {
		if start, end, ok := opaque(name, value); ok {
			found = []Found{{Rule: "opaque", Kind: Key, Start: start, End: end}}
		}
	}
	return found
}

func inValue(name, value string, at place) []Found {
	if found := knownValue(name, value); len(found) > 0 {
		return found
	}
	if n := nounOf(name); n != none {
		start, end := trimmed(value)
		if v := value[start:end]; !harmless(name, n, v, at) {
			return []Found{{Rule: byName, Kind: kindOf(name, n, v), Start: start, End: end}}
		}
		if !hasLines(value) {
			return nil
		}
	}
	return find(value, hits{names: true, syntax: CommandLine})
}
