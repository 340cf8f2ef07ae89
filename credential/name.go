// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"slices"
	"strings"
)

// noun is what a name says of its value.
type noun uint8

// The nouns. A weak one is what other things are called, too: its value must
// look random.
const (
	none noun = iota
	password
	passphrase
	secret // client secret, credentials: often the name of one
	token
	key
	weak
)

// nounOf returns what a name says: its last word decides, apart from those that
// only tell which. DB_PASSWORD_FILE is a file, MAX_TOKENS a number, TOKEN_URL a
// URL, SECRET_NAME a name.
func nounOf(name string) noun {
	if !hasNameWord(name) && !strings.EqualFold(name, "pw") && !strings.EqualFold(name, "pat") {
		return none
	}
	if name == "PWD" || name == "OLDPWD" {
		return none // where the shell is
	}
	var buffer [12]string
	words := wordsOf(name, buffer[:0])
	if len(words) > 1 && verbs[words[0]] {
		return none
	}
	for _, w := range words {
		if notSecret[w] {
			return none
		}
	}
	for len(words) > 1 && (which[words[len(words)-1]] || strings.Trim(words[len(words)-1], "0123456789") == "") {
		words = words[:len(words)-1]
	}
	if len(words) == 0 {
		return none
	}
	last, prev, first := words[len(words)-1], "", ""
	if len(words) > 1 {
		prev = words[len(words)-2]
	}
	if len(words) > 2 {
		first = words[len(words)-3]
	}
	switch last {
	case "password", "passwords", "passwd", "pass", "pwd", "pw", "psw", "psk", "masterauth":
		return password
	case "passphrase":
		return passphrase
	case "secret", "credential", "credentials", "creds":
		if ofSecret[prev] {
			return none // imagePullSecret, existingSecret: the name of one
		}
		return secret
	case "token":
		if ofToken[prev] {
			return none
		}
		return token
	case "pat":
		return weak
	case "key":
		switch {
		case prev == "api" && isPublic(name):
			return none
		case prev == "access" && first == "secret":
			return key
		case ofKey[prev]:
			return key
		case ofWeakKey[prev], hasWord(words, "azure", "aws"):
			return weak
		}
		return none
	case "id":
		if prev == "secret" && hasWord(words, "vault", "approle", "role") {
			return weak
		}
	}
	if n := compound(last); n != none || known[last] || about[last] {
		return n
	}
	return inFront(words)
}

// hasNameWord says, at little cost, whether a word of names stands in a name.
func hasNameWord(name string) bool {
	words := table().in(name)
	for w, _ := words.next(); w != nil; w, _ = words.next() {
		if w.formats == nil {
			return true
		}
	}
	return false
}

// inFront returns weak where a name begins with what it is: SECRET_DJANGO.
func inFront(words []string) noun {
	switch words[0] {
	case "password", "passwd", "passphrase", "pass", "secret", "token", "credential", "credentials", "creds", "apikey":
		return weak
	}
	return none
}

// compound returns what a word says that was written together: PGPASSWORD.
func compound(word string) noun {
	switch {
	case hasSuffix(word, "password"), hasSuffix(word, "passwd"):
		return password
	case hasSuffix(word, "passphrase"):
		return passphrase
	case hasSuffix(word, "secret"):
		if ofSecret[strings.TrimSuffix(word, "secret")] {
			return none
		}
		return secret
	case hasSuffix(word, "token"):
		return token
	case hasSuffix(word, "pass"):
		if ofPass[strings.TrimSuffix(word, "pass")] {
			return password
		}
	case hasSuffix(word, "key"):
		switch of := strings.TrimSuffix(word, "key"); {
		case ofKey[of], of == "secretaccess":
			return key
		case ofWeakKey[of]:
			return weak
		case of != "" && (hasSuffix(of, "api") || hasSuffix(of, "secret")):
			return key // stripeapikey
		}
	}
	return none
}

func hasSuffix(s, suffix string) bool { return len(s) > len(suffix) && strings.HasSuffix(s, suffix) }

// set returns a set of words.
func set(words string) map[string]bool {
	out := map[string]bool{}
	for w := range strings.FieldsSeq(words) {
		out[w] = true
	}
	return out
}

var (
	// which are last words that tell which of several, or how it is written.
	which = set(`base value val string str text plain plaintext raw literal b64 base64 prod production dev develop
		development stage staging stg test testing qa uat live local current previous old new primary secondary default
		v in out`)
	// notSecret are words of names whose values are no secret: halves that
	// everybody has, what was hashed or encrypted, labels on a screen.
	notSecret = set(`public publishable pub anon hash hashed digest checksum fingerprint encrypted sealed label hint
		placeholder title message error invalid forgot forgotten reset confirm help regex regexp pattern policy`)
	// verbs begin names that say what is done with a credential.
	verbs = set(`update expire expires require requires prompt show hide allow use uses enable disable no skip is has
		need needs ask check validate verify generate rotate change force with without create wrong auto`)
	// about are last words that tell of a credential and are none.
	about = set(`version revision length size count limit ttl age lifetime expiry window period interval header prefix
		suffix field param parameter format charset encoding algorithm algo hasher hashing encryption auth authentication
		enabled disabled required rotation manager provider backend store storage service audience client account role
		endpoint`)
	// ofSecret come before "secret" where a Secret is named.
	ofSecret = set(`existing image pull imagepull registry tls ssl cert certs certificate ca kube kubernetes k8s docker
		dockerconfig ref from mount volume webhookcert servingcert`)
	// ofToken come before "token" where it is part of a text, or opens nothing.
	ofToken = set(`eos bos pad unk mask stop sep cls start end max min num next page continuation continue sync cursor
		cancel csrf xsrf delimiter`)
	// ofKey come before "key" where it is one that opens.
	ofKey = set(`api secret private auth authentication encryption encrypt enc master shared signing sign crypto cipher
		hmac jwt cookie aes unseal webhook`)
	// ofWeakKey come before "key" where it may be one, or a name.
	ofWeakKey = set(`access account storage session app application license licence service integration ingestion
		ingest routing write deploy user subscription function functions admin client azurestorageaccount`)
	// ofPass come before "pass" in one word.
	ofPass = set(`db my root user admin store key trust keystore truststore require smtp mail ftp ldap mysql pg postgres
		redis mongo rabbitmq http auth api sql sudo ssh vnc rcon web basic`)
)

// wordsOf splits a name into its words, in lower case: at what is no letter or
// digit, and where a capital follows a small letter or begins a word after
// others.
func wordsOf(name string, out []string) []string {
	start := -1
	flush := func(end int) {
		if start >= 0 {
			out = append(out, strings.ToLower(name[start:end]))
		}
		start = -1
	}
	for i := range len(name) {
		c := name[i]
		switch {
		case isUpper(c):
			if i > 0 && (isLower(name[i-1]) || isDigit(name[i-1]) && i > 1 && isLower(name[i-2])) || i > 0 && isUpper(name[i-1]) && i+1 < len(name) && isLower(name[i+1]) {
				flush(i)
			}
		case isLower(c):
		case isDigit(c):
			if i > 0 && !isDigit(name[i-1]) && (i+1 == len(name) || !isLetter(name[i+1])) {
				flush(i) // PASSWORD2, but OAUTH2CLIENT and S3KEY
			}
		default:
			flush(i)
			continue
		}
		if start < 0 {
			start = i
		}
	}
	flush(len(name))
	return out
}

func isUpper(c byte) bool  { return 'A' <= c && c <= 'Z' }
func isLower(c byte) bool  { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool  { return '0' <= c && c <= '9' }
func isLetter(c byte) bool { return isUpper(c) || isLower(c) }

// kindOf returns what the value of a name is good for.
func kindOf(name string, n noun, value string) Kind {
	switch n {
	case password, passphrase:
		return Password
	case token:
		return Token
	}
	var buffer [12]string
	words := wordsOf(name, buffer[:0])
	switch {
	case isAWSKey(value) && hasWord(words, "aws", "amazon", "s3", "access"):
		return CloudKey
	case len(value) >= 32 && Random(value) && hasWord(words, "azure", "arm", "azurestorageaccountkey", "azurestorageaccount"):
		return CloudKey
	case n == secret:
		return Token
	}
	return Key
}

// hasWord says whether one of the words is among those of a name, or begins
// one.
func hasWord(words []string, any ...string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(any, w) })
}

// isAWSKey says whether a value has the form of a secret access key.
func isAWSKey(s string) bool {
	if len(s) != 40 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isLetter(c) && !isDigit(c) && c != '/' && c != '+' {
			return false
		}
	}
	return Random(s)
}

// isPublic says whether a name says that every browser gets its value.
func isPublic(name string) bool {
	var buffer [12]string
	return hasWord(wordsOf(name, buffer[:0]), "public", "react", "vite", "firebase", "browser")
}
