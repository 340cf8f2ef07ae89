// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"strings"
)

// place is what a name and its value stand in.
type place uint8

// The places: a variable, a flag or a key of its own; a text, in which names
// are less telling; a Secret, in which values are not the names of Secrets.
const (
	setting place = iota
	inText
	held
)

// harmless says whether the value of a name that says that it is secret is
// none: nothing, a switch, a reference to a file or a store, what is filled in
// later, a public half, a hash. changeme is a password: programs run with it.
func harmless(name string, n noun, v string, at place) bool {
	switch {
	case v == "", uniform(v), isSwitch(v), interpolated(v), placeholder(v):
		return true
	case isNumber(v):
		return len(v) < 4 || n != password && len(v) < 8
	case isPath(v), isReference(v), isHash(v), isPublicHalf(v), isDuration(v):
		return true
	case strings.ContainsAny(v, " \t\n"):
		return n != passphrase || strings.ContainsAny(v, "\n:") || at == inText
	case strings.Contains(v, "://"):
		return true // with a password in it, it was found before
	case strings.EqualFold(v, "changeit"):
		return true // what every Java trust store of public certificates has
	case n == password || n == passphrase:
		return at == inText && (isLabel(v) || namesNoun(v)) || at != held && isConstant(v)
	case len(v) < 6, isMode(v), isDummy(v), sameName(name, v):
		return true
	case n == weak || at == inText:
		return !Random(v)
	case at == held:
		return false
	}
	// What is called a secret may be the name of one, a key the name of a key.
	return isConstant(v) || isResource(v) || namesNoun(v) || strings.HasPrefix(strings.ToLower(v), "my") && !Random(v)
}

// trimmed returns which part of a value counts.
func trimmed(v string) (start, end int) {
	end = len(strings.TrimRight(v, " \t\r\n"))
	start = end - len(strings.TrimLeft(v[:end], " \t\r\n"))
	return start, end
}

// hasLines says whether a value is a text of several lines.
func hasLines(v string) bool { return strings.Contains(strings.TrimSpace(v), "\n") }

// uniform says whether a value is one character, again and again, or two that
// take turns with nothing behind them: ****, xxxx, x-x-x.
func uniform(v string) bool {
	return strings.Trim(v, "*.-_# ") == "" || strings.Trim(strings.ToLower(v), "x*.-") == "" ||
		len(v) > 3 && strings.Trim(v, v[:1]) == "" || strings.Trim(v, "0-") == ""
}

var (
	switches = set(`true false yes no on off y n enable enabled disable disabled none null nil undefined unset empty auto
		optional required n/a`)
	modes = set(`always never default any all basic bearer token tokens password passwords secret secrets key keys file
		env environment kubernetes vault cookie header query plain md5 sha1 sha256 sha512 scram-sha-256 ldap oidc oauth
		oauth2 jwt saml internal external manual ignore ignored unused notused inherit anonymous random string bytes`)
)

// isSwitch says whether a value turns something on or off.
func isSwitch(v string) bool { return len(v) <= 9 && switches[strings.ToLower(v)] }

// isMode says whether a value says how something is done. Of a password it is
// one.
func isMode(v string) bool { return len(v) <= 13 && modes[strings.ToLower(v)] }

// interpolated says whether something is put into a value later.
func interpolated(v string) bool {
	for _, open := range [...]string{"$(", "${", "{{", "<%", "%(", "#{", "[[", "$[", "((", "ENC["} {
		if strings.Contains(v, open) {
			return true
		}
	}
	if len(v) > 2 && (v[0] == '%' && v[len(v)-1] == '%' || v[0] == '@' && v[len(v)-1] == '@' || strings.HasPrefix(v, "__") && strings.HasSuffix(v, "__")) {
		return true
	}
	if at := strings.IndexByte(v, '<'); at >= 0 && strings.IndexByte(v[at:], '>') > 1 {
		return true
	}
	if len(v) > 2 && (v[0] == '{' && v[len(v)-1] == '}' || v[0] == '[' && v[len(v)-1] == ']') && isWord(v[1:len(v)-1]) {
		return true
	}
	return len(v) > 1 && v[0] == '$' && (isWord(v[1:]) || strings.Trim(v[1:], "0123456789@*#?") == "")
}

// isWord says whether a text could name a variable.
func isWord(v string) bool {
	for i := range len(v) {
		if c := v[i]; !isLetter(c) && c != '_' && c != '-' && c != '.' && (i == 0 || !isDigit(c)) {
			return false
		}
	}
	return v != ""
}

// placeholders begin what a person puts something in place of.
var placeholders = []string{
	"replace", "insert", "enter", "your", "todo", "fixme", "redacted", "placeholder", "change-me", "change_me", "change-this", "change_this", "changethis",
	"tbd", "fill-in", "fill_in", "fillin", "put-your", "put_your", "add-your", "add_your", "...", "xxx", "set-me", "set_me", "setme",
}

// placeholder says whether a value stands where a person puts another one.
func placeholder(v string) bool {
	lower := strings.ToLower(strings.Trim(v, `"'`))
	for _, p := range placeholders {
		rest, ok := strings.CutPrefix(lower, p)
		if ok && (rest == "" || !isLower(rest[0]) || strings.HasSuffix(p, "-") || strings.HasSuffix(p, "_") || strings.HasPrefix(rest, "me") || p == "xxx") {
			return true
		}
	}
	return strings.HasSuffix(lower, "-here") || strings.HasSuffix(lower, "_here") || strings.Contains(lower, "goes-here") ||
		strings.Contains(lower, "placeholder") || strings.Contains(lower, "redacted") || strings.Contains(lower, "xxxxx") || strings.Contains(lower, "...")
}

// isDummy says whether a value stands where a program asks for one that nobody
// checks.
func isDummy(v string) bool {
	lower := strings.ToLower(v)
	if strings.Contains(v, "EXAMPLE") {
		return true // wJalr…EXAMPLEKEY, of every manual of AWS
	}
	for _, p := range [...]string{"dummy", "fake", "sample", "not-used", "not-needed", "no-key", "sk-no-key", "some", "test-", "test_"} {
		if strings.HasPrefix(lower, p) && !Random(v) {
			return true
		}
	}
	return false
}

func isNumber(v string) bool { return strings.Trim(v, "0123456789.,") == "" }

// isDuration says whether a value is a number with a unit: 1h, 30s, 512Mi.
func isDuration(v string) bool {
	unit := strings.TrimLeft(v, "0123456789.")
	return unit != v && len(unit) <= 3 && len(v) <= 8 && strings.Trim(strings.ToLower(unit), "nusmhdwykgtib%") == ""
}

// isPath says whether a value is the path of a file, or the name of one.
func isPath(v string) bool {
	rest := strings.TrimPrefix(v, "file:")
	if len(rest) > 2 && rest[1] == ':' && isLetter(rest[0]) && (rest[2] == '\\' || rest[2] == '/') {
		return true
	}
	rest = strings.TrimLeft(rest, ".~")
	if rest != "" && (rest[0] == '/' || rest[0] == '\\') {
		// A key in base64 may begin with a slash, too.
		return strings.Trim(rest, pathBytes) == "" && !(len(v) >= 32 && strings.Count(v, "/") < 3 && Random(v))
	}
	at := strings.LastIndexByte(v, '.')
	return at > 0 && fileExtensions[strings.ToLower(v[at+1:])] && strings.Trim(v, pathBytes) == ""
}

const pathBytes = `abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-/\@:*`

var fileExtensions = set(`pem key crt cer cert pub txt json yaml yml toml ini conf cfg env properties jks p12 pfx
	keystore truststore kdbx gpg asc html js py sh sock`)

// schemes begin references to what is kept elsewhere.
var schemes = []string{
	"arn:", "aws-sm:", "aws-ssm:", "awssm:", "gcp-sm:", "gcpsm:", "sm:", "op:", "ref+", "secretref:", "secretkeyref:", "ssm:", "vault:", "bao:", "akv:", "azurekeyvault:",
	"keyvault:", "@microsoft.keyvault", "env:", "os.environ/", "file:", "k8s:", "kubernetes:", "kms:", "gsm:", "berglas:", "sops:", "valuefrom:", "configmap:",
	"secretsmanager:", "secret:", "projects/", "resolve:", "{{resolve:", "lookup:", "doppler:", "infisical:", "bws:", "keyring:", "literal:$", "encrypted:", "enc:", "enc(", "crypt:",
	"secure:", "awskms:", "gcpkms:",
}

// isReference says whether a value says where a secret is kept.
func isReference(v string) bool {
	lower := strings.ToLower(v)
	for _, s := range schemes {
		if strings.HasPrefix(lower, s) {
			return true
		}
	}
	// namespace/name, store/data/path#field: no capitals, nothing random
	if strings.Contains(v, "/") && strings.Trim(v, "abcdefghijklmnopqrstuvwxyz0123456789_.-/#") == "" && !Random(v) {
		return true
	}
	return false
}

// isHash says whether a value is a hash: of no use until it is broken.
func isHash(v string) bool {
	for _, p := range [...]string{"$2a$", "$2b$", "$2y$", "$2x$", "$argon2", "$1$", "$5$", "$6$", "$y$", "$7$", "$apr1$", "$pbkdf2", "$scrypt", "pbkdf2", "scrypt:", "SCRAM-SHA-", "sha1:", "sha224:", "sha256:", "sha384:", "sha512:", "sha1-", "sha256-", "sha384-", "sha512-", "md5:", "bcrypt:", "argon2"} {
		if strings.HasPrefix(v, p) {
			return true
		}
	}
	if v[0] == '{' { // {SSHA}…, {bcrypt}…
		end := strings.IndexByte(v, '}')
		return end > 1 && end < 16 && isWord(strings.ReplaceAll(v[1:end], "@", ""))
	}
	return len(v) == 35 && strings.HasPrefix(v, "md5") && isHex(v[3:])
}

// isPublicHalf says whether a value is a certificate or a public key.
func isPublicHalf(v string) bool {
	for _, p := range [...]string{"ssh-", "ecdsa-sha2-", "sk-ssh-", "-----BEGIN CERTIFICATE", "-----BEGIN PUBLIC KEY", "-----BEGIN RSA PUBLIC KEY", "-----BEGIN TRUSTED CERTIFICATE", "-----BEGIN X509 CRL", "LS0tLS1CRUdJTiBDRVJU", "LS0tLS1CRUdJTiBQVUJMSUMg", "age1", "pk_live_", "pk_test_"} {
		if strings.HasPrefix(v, p) {
			return true
		}
	}
	return false
}

// isConstant says whether a value is written like the name of a variable:
// GITHUB_TOKEN.
func isConstant(v string) bool {
	return strings.Contains(v, "_") && isLetter(v[0]) && strings.Trim(v, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == "" && nounOf(v) != none
}

// isLabel says whether a value is a word on a screen: Password.
func isLabel(v string) bool {
	return len(v) > 1 && isUpper(v[0]) && strings.Trim(v[1:], "abcdefghijklmnopqrstuvwxyz:?!.") == ""
}

// isResource says whether a value is written like the name of an object: words
// that hyphens join, the last of which says what is in it.
func isResource(v string) bool {
	at := strings.LastIndexAny(v, "-./")
	if at < 1 || strings.Trim(v, "abcdefghijklmnopqrstuvwxyz0123456789-./") != "" {
		return false
	}
	switch v[at+1:] {
	case "secret", "secrets", "credentials", "creds", "token", "tls", "cert", "certs", "certificate", "key", "keys", "auth", "ca", "config", "pull", "name":
		return true
	}
	return false
}

// namesNoun says whether a value is itself the name of a credential:
// redis-password, r2_access_key_id, dbPassword.
func namesNoun(v string) bool {
	if Random(v) || strings.Trim(v, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
		return false
	}
	var buffer [12]string
	words := wordsOf(v, buffer[:0])
	return len(words) > 1 && hasWord(words, "password", "passwd", "secret", "token", "key", "credentials")
}

// sameName says whether a value repeats its name: mySecretKey.
func sameName(name, v string) bool {
	var a, b [12]string
	return strings.Join(wordsOf(name, a[:0]), "") == strings.TrimPrefix(strings.Join(wordsOf(v, b[:0]), ""), "my")
}

// Random says whether a value looks as if a program had made it.
func Random(v string) bool {
	if len(v) < 8 || strings.ContainsAny(v, " \t\n,") {
		return false
	}
	letters, digits := 0, 0
	changes := 0 // from letters to digits or back, and from small letters to capitals
	for i := range len(v) {
		c := v[i]
		switch {
		case isDigit(c):
			digits++
		case isLetter(c):
			letters++
		}
		if i == 0 {
			continue
		}
		if p := v[i-1]; isDigit(c) && isLetter(p) || isLetter(c) && isDigit(p) || isUpper(c) && isLower(p) {
			changes++
		}
	}
	switch {
	case letters == 0:
		return false
	case digits > 0 && isHex(v):
		return len(v) >= 12
	}
	e := entropy(v)
	if digits > 2 && len(v) >= 20 && e >= 3.8 && !strings.ContainsAny(v, "-_./") {
		return true
	}
	return changes*4 >= len(v) && (digits > 1 && e >= 2.8 || len(v) >= 16 && e >= 3.5)
}

func isHex(v string) bool { return strings.Trim(v, "0123456789abcdefABCDEF") == "" }
