// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// format is how a credential looks.
type format struct {
	id string
	// words, in lower case, are those without one of which a text holds none:
	// to look for them costs little, and most texts hold no word of any format.
	words []string
	// expr is what it looks like; the credential is the group, or else the
	// first group that is not empty, or else the whole match.
	expr  string
	group int
	// entropy, in bits for each byte, is what a credential has at least.
	entropy float64
	// allow are expressions for what is none.
	allow []string
	// kind is Token if it is empty.
	kind Kind
	// likely says that the format alone is not enough to be certain.
	likely bool
	// reach is how far behind a word the format may go, in bytes.
	reach int
	// is looks closer.
	is func(secret string) bool
	// at takes the place of expr where that would be slow: it returns the
	// credential at a word.
	at func(text string, word int) (start, end int, ok bool)
}

// own are formats of our own, beside those in tokens.
var own = [...]format{
	{id: "private-key", words: []string{"private key"}, kind: PrivateKey, reach: 16 << 10, is: isPEM,
		expr: `-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----[^-]{64,}?-----END`},
	{id: "base64-private-key", words: []string{"ls0tls1crudjti"}, kind: PrivateKey, is: isBase64Key,
		expr: `LS0tLS1CRUdJTi[A-Za-z0-9+/]{80,}`},
	{id: "url-password", words: []string{"://"}, kind: URL, is: isPassword, at: urlPassword},
	{id: "dsn-password", words: []string{"@tcp(", "@unix("}, kind: URL, is: isPassword,
		expr: `[\w.-]+:([^\s@:/"'<>{}()]{2,})@(?:tcp|unix)\(`},
	{id: "authorization-header", words: []string{"authorization"}, likely: true, is: isAuthorization, reach: 512,
		expr: `(?i)\bauthorization\\?["']?[\s:=,]{0,3}(?:\\?["']?value\\?["']?\s{0,3}[:=]\s{0,3})?\\?["']?((?:basic|bearer|token)\s{1,3}[\w.~+/=-]{8,})`},
	{id: "bearer-token", words: []string{"bearer "}, likely: true, is: func(s string) bool { return Random(s) && isPassword(s) },
		expr: `(?i)\bbearer\s{1,3}([\w.~+/-]{16,}={0,2})`},
	{id: "atlassian-api-token", words: []string{"atatt3"},
		expr: `\bATATT3[A-Za-z0-9_=-]{186}`},
	{id: "telegram-bot-token", words: []string{":aa"},
		expr: `\b\d{8,10}:AA[\w-]{33}\b`},
	{id: "docker-auth", words: []string{`"auth`}, kind: Password, is: isBasic,
		expr: `"auth\\?"\s*:\s*\\?"([A-Za-z0-9+/]{6,}={0,2})\\?"`},
	{id: "gcp-service-account-key", words: []string{"private_key_id"}, kind: CloudKey,
		expr: `"private_key_id\\?"\s*:\s*\\?"([0-9a-f]{40})\\?"`},
	{id: "azure-account-key", words: []string{"accountkey="}, kind: CloudKey,
		expr: `(?i)AccountKey=([A-Za-z0-9+/]{86}==)`},
	{id: "azure-shared-access-key", words: []string{"sharedaccesskey="}, kind: CloudKey,
		expr: `(?i)SharedAccessKey=([A-Za-z0-9+/]{43}=)`},
	{id: "azure-shared-access-signature", words: []string{"sig="}, kind: CloudKey,
		expr: `[?&]sig=([A-Za-z0-9%+/]{40,}(?:%3[dD]|=))`},
	{id: "sql-password", words: []string{"identified", "create user", "create role", "alter user", "alter role"}, kind: Password, likely: true, is: isPassword,
		expr: `(?i)\b(?:identified\s{1,3}(?:with\s{1,3}\w{1,40}\s{1,3})?by|(?:create|alter)\s{1,3}(?:user|role)\s[^;\n]{1,200}?\bpassword)\s{1,3}e?'([^'\s]{3,})'`},
	{id: "client-password", words: []string{"sshpass", "redis-cli", "mysql", "mariadb", "ldap"}, kind: Password, likely: true, is: isPassword,
		expr: `\b(?:sshpass\s+-p\s*|redis-cli\s(?:[^\n;|&]*\s)?(?:-a|--pass)\s+|(?:mysql|mariadb)(?:admin|dump|show|import|-admin|-dump|check)?\s(?:[^\n;|&]*\s)?-p|ldap(?:search|modify|add|delete|whoami|passwd)\s(?:[^\n;|&]*\s)?-w\s*)["']?([^\s"'$-][^\s"']+)`},
}

// kinds are the formats of tokens that are no token, by the beginning of their
// name.
var kinds = []struct {
	prefix string
	kind   Kind
}{
	{"aws-access-token", CloudKeyID}, {"alibaba-access-key-id", CloudKeyID},
	{"aws-", CloudKey}, {"azure-", CloudKey}, {"digitalocean-", CloudKey}, {"yandex-", CloudKey}, {"gcp-", CloudKey},
	{"age-secret-key", PrivateKey}, {"curl-auth-user", Password},
}

// checks look closer at tokens.
var checks = map[string]func(secret string) bool{
	"aws-access-token":    func(s string) bool { return strings.HasPrefix(s, "AKIA") }, // others end by themselves
	"jwt":                 isJWT,
	"curl-auth-user":      func(s string) bool { _, p, _ := strings.Cut(s, ":"); return isPassword(p) },
	"curl-auth-header":    func(s string) bool { return Random(s) && isPassword(s) },
	"square-access-token": func(s string) bool { return strings.HasPrefix(s, "sq0atp-") || strings.ContainsAny(s, "_-") }, // else any base64
}

// reaches are those of long tokens.
var reaches = map[string]int{"jwt": 8 << 10, "jwt-base64": 8 << 10, "curl-auth-user": 2 << 10, "curl-auth-header": 2 << 10}

// guesses are formats of tokens that may be something else.
var guesses = []string{"curl-auth-user", "curl-auth-header", "square-access-token", "octopus-deploy-api-key"}

// public are the tokens that programs hand to every browser, where their name
// says that.
var public = []string{"gcp-api-key"}

// formats are all formats; what must be worked out of them is, when the first is
// needed.
var formats = sync.OnceValue(func() []*compiled {
	var out []*compiled
	for i := range own {
		out = append(out, &compiled{format: &own[i]})
	}
	for i := range tokens {
		f := tokens[i]
		f.is, f.likely, f.reach = checks[f.id], slices.Contains(guesses, f.id), reaches[f.id]
		for _, k := range kinds {
			if strings.HasPrefix(f.id, k.prefix) {
				f.kind = k.kind
				break
			}
		}
		out = append(out, &compiled{format: &f})
	}
	for _, c := range out {
		if c.kind == "" {
			c.kind = Token
		}
		if c.reach == 0 {
			c.reach = 1 << 10
		}
	}
	return out
})

// compiled is a format whose expressions are compiled when a text holds one of
// its words.
type compiled struct {
	*format
	once  sync.Once
	re    *regexp.Regexp
	allow []*regexp.Regexp
}

func (c *compiled) compile() {
	c.once.Do(func() {
		c.re = regexp.MustCompile(c.expr)
		for _, a := range c.format.allow {
			c.allow = append(c.allow, regexp.MustCompile(a))
		}
	})
}

// before is how far before a word a format may begin, in bytes.
const before = 128

// find adds what of the format stands around a word at the offset. It returns
// how far it looked.
func (c *compiled) find(text string, at int, out []Found) ([]Found, int) {
	if c.at != nil {
		start, end, ok := c.at(text, at)
		if ok && !c.allows(text[start:end]) {
			out = append(out, Found{Rule: c.id, Kind: c.kind, Certain: !c.likely, Start: start, End: end})
		}
		return out, max(at+1, end)
	}
	c.compile()
	lo, hi := max(0, at-before), min(len(text), at+c.reach)
	for _, m := range c.re.FindAllStringSubmatchIndex(text[lo:hi], -1) {
		start, end := c.secret(m)
		if secret := text[lo+start : lo+end]; c.allows(secret) {
			continue
		}
		out = append(out, Found{Rule: c.id, Kind: c.kind, Certain: !c.likely, Start: lo + start, End: lo + end})
	}
	return out, hi
}

// secret returns which part of a match is the credential.
func (c *compiled) secret(m []int) (start, end int) {
	switch {
	case c.id == "jwt-base64": // its groups are the names of claims
		return m[0], m[1]
	case c.group > 0:
		return m[2*c.group], m[2*c.group+1]
	}
	for i := 2; i < len(m); i += 2 {
		if m[i] >= 0 && m[i] < m[i+1] {
			return m[i], m[i+1]
		}
	}
	return m[0], m[1]
}

// allows says whether what has the format is no credential.
func (c *compiled) allows(secret string) bool {
	if c.entropy > 0 && entropy(secret) <= c.entropy {
		return true
	}
	for _, re := range c.allow {
		if re.MatchString(secret) {
			return true
		}
	}
	lower := strings.ToLower(secret)
	if strings.Contains(lower, "abcdefghijklmnopqrstuvwxyz") || strings.Contains(lower, "xxxxxxxx") || strings.Contains(lower, "example") {
		return true
	}
	return c.is != nil && !c.is(secret)
}

// entropy returns the entropy of a text in bits for each byte, as Shannon
// defines it.
func entropy(s string) float64 {
	var count [256]int
	for i := range len(s) {
		count[s[i]]++
	}
	sum := 0.0
	for _, n := range count {
		if n > 0 {
			p := float64(n) / float64(len(s))
			sum -= p * math.Log2(p)
		}
	}
	return sum
}

// isPEM says whether a private key has a body, and no place for one.
func isPEM(s string) bool {
	body := strings.TrimSuffix(s, "-----END")
	body = body[strings.LastIndex(body, "-----")+5:]
	return !strings.Contains(body, "...") && !strings.ContainsAny(body, "<>{}$*") && entropy(body) > 3
}

// isBase64Key says whether what base64 hides begins like a private key.
func isBase64Key(s string) bool {
	head, err := base64.StdEncoding.DecodeString(s[:min(len(s), 80)/4*4])
	return err == nil && strings.Contains(string(head), "PRIVATE KEY-----")
}

// isPassword says whether a password that stands at a place for one is a
// password.
func isPassword(s string) bool {
	return !interpolated(s) && !placeholder(s) && !uniform(s) && !isHash(s)
}

// urlPassword returns the password of a URL: scheme://user:password@host.
func urlPassword(text string, word int) (start, end int, ok bool) {
	scheme := word
	for scheme > 0 && (isNameByte(text[scheme-1]) || text[scheme-1] == '+') {
		scheme--
	}
	rest := text[word+len("://"):]
	if stop := strings.IndexAny(rest[:min(len(rest), maxAuthority)], " \t\r\n/?#\"'`<>{}()\\"); stop >= 0 {
		rest = rest[:stop]
	} else {
		rest = rest[:min(len(rest), maxAuthority)]
	}
	at := strings.LastIndexByte(rest, '@')
	colon := strings.IndexByte(rest, ':')
	if word-scheme < 2 || colon < 0 || at < colon+3 || at+1 == len(rest) || !isLetter(rest[at+1]) && !isDigit(rest[at+1]) && rest[at+1] != '[' {
		return 0, 0, false
	}
	user, password, host := rest[:colon], rest[colon+1:at], rest[at+1:]
	if anyone[strings.ToLower(user)] && anyone[strings.ToLower(password)] && (strings.HasPrefix(host, "host") || strings.HasPrefix(host, "server") || strings.HasPrefix(host, "example.")) {
		return 0, 0, false // user:password@host, in a manual
	}
	start = word + len("://") + colon + 1
	return start, start + len(password), true
}

// maxAuthority is the longest authority of a URL that is looked at, in bytes.
const maxAuthority = 512

var anyone = set(`user username login name usr me foo pass password passwd pwd pw secret bar`)

// isAuthorization says whether a header carries a credential.
func isAuthorization(s string) bool {
	scheme, value, _ := strings.Cut(s, " ")
	value = strings.TrimSpace(value)
	if strings.EqualFold(scheme, "basic") {
		return isBasic(value)
	}
	return len(value) >= 16 && Random(value) && isPassword(value)
}

// isBasic says whether base64 hides a name and a password.
func isBasic(s string) bool {
	if len(s)%4 != 0 {
		s = strings.TrimRight(s, "=")
		s += strings.Repeat("=", (4-len(s)%4)%4)
	}
	plain, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return false
	}
	for _, c := range plain {
		if c < ' ' || c > '~' {
			return false
		}
	}
	_, password, ok := strings.Cut(string(plain), ":")
	return ok && password != "" && isPassword(password)
}

// isJWT says whether a token has a header, and opens more than what everybody
// may see: Supabase gives browsers a token of the role anon, and one token
// stands as the example in every manual.
func isJWT(s string) bool {
	parts := strings.Split(s, ".")
	var header, claims map[string]any
	if len(parts) != 3 || parts[2] == "" || !part(parts[0], &header) || header["alg"] == nil {
		return false
	}
	if !part(parts[1], &claims) {
		return header["enc"] != nil // encrypted: its claims are not to be seen
	}
	return claims["role"] != "anon" && (claims["sub"] != "1234567890" || claims["name"] != "John Doe")
}

// part reads a part of a token.
func part(s string, into *map[string]any) bool {
	data, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(s), "="))
	return err == nil && json.Unmarshal(data, into) == nil
}
