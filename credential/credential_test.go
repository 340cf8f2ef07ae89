// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	digits = "0123456789"
	hex    = digits + "abcdef"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lower  = "abcdefghijklmnopqrstuvwxyz"
	alnum  = upper + lower + digits
)

// made returns text that a program would make; the same in every run, so that
// no token stands in the repository that looks like someone's.
func made(n int, alphabet string) string {
	r := rand.New(rand.NewPCG(uint64(n), uint64(len(alphabet))))
	b := make([]byte, n)
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

// pem returns a private key that is none.
func pem(kind string) string {
	return "-----BEGIN " + kind + "PRIVATE KEY-----\n" + made(64, alnum) + "\n" + made(65, alnum) + "\n-----END " + kind + "PRIVATE KEY-----\n"
}

func jwt(header, claims string) string {
	e := base64.RawURLEncoding
	return e.EncodeToString([]byte(header)) + "." + e.EncodeToString([]byte(claims)) + "." + made(43, alnum)
}

// tokenSamples are tokens of many formats, by the rule that finds them.
var tokenSamples = []struct {
	rule, text string
	kind       Kind
}{
	{"1password-secret-key", "A3-" + made(6, upper) + "-" + made(11, upper+digits) + "-" + made(5, upper) + "-" + made(5, digits+upper) + "-" + made(5, upper+digits), Token},
	{"age-secret-key", "AGE-SECRET-KEY-1" + made(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"), PrivateKey},
	{"alibaba-access-key-id", "LTAI" + made(20, alnum), CloudKeyID},
	{"anthropic-api-key", "sk-ant-api03-" + made(93, alnum) + "AA", Token},
	{"atlassian-api-token", "ATATT3" + made(186, alnum), Token},
	{"aws-access-token", "AKIA" + made(16, upper), CloudKeyID},
	{"azure-ad-client-secret", made(3, alnum) + "8Q~" + made(34, alnum), CloudKey},
	{"azure-account-key", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=" + made(86, alnum) + "==", CloudKey},
	{"azure-shared-access-key", "Endpoint=sb://a/;SharedAccessKeyName=b;SharedAccessKey=" + made(43, alnum) + "=", CloudKey},
	{"azure-shared-access-signature", "https://a.blob.core.windows.net/b?sv=2022-11-02&sig=" + made(43, alnum) + "%3D", CloudKey},
	{"base64-private-key", base64.StdEncoding.EncodeToString([]byte(pem("EC "))), PrivateKey},
	{"bearer-token", "X-Header: Bearer " + made(32, alnum), Token},
	{"authorization-header", "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("shop:hunter2")), Token},
	{"authorization-header", `{"Authorization": "Token ` + made(40, hex) + `"}`, Token},
	{"client-password", "sshpass -p hunter2 ssh root@db", Password},
	{"client-password", "redis-cli -h db -a hunter2 ping", Password},
	{"client-password", "mysqldump -u root -phunter2 shop", Password},
	{"curl-auth-user", `curl -u "shop:hunter2" https://example.com`, Password},
	{"databricks-api-token", "dapi" + made(32, hex), Token},
	{"digitalocean-pat", "dop_v1_" + made(64, hex), CloudKey},
	{"docker-auth", `{"auths": {"example.com": {"auth": "` + base64.StdEncoding.EncodeToString([]byte("shop:hunter2")) + `"}}}`, Password},
	{"dsn-password", "shop:hunter2@tcp(db:3306)/shop", URL},
	{"gcp-api-key", "AIza" + made(35, alnum), CloudKey},
	{"gcp-service-account-key", `{"type": "service_account", "private_key_id": "` + made(40, hex) + `", "private_key": "-----BEGIN PRIVATE KEY-----\n` + made(128, alnum) + `\n-----END PRIVATE KEY-----\n"}`, CloudKey},
	{"github-pat", "ghp_" + made(36, alnum), Token},
	{"github-app-token", "ghs_" + made(36, alnum), Token},
	{"github-fine-grained-pat", "github_pat_" + made(82, alnum), Token},
	{"gitlab-pat", "glpat-" + made(20, alnum), Token},
	{"gitlab-runner-authentication-token", "glrt-" + made(20, alnum), Token},
	{"grafana-service-account-token", "glsa_" + made(32, alnum) + "_" + made(8, hex), Token},
	{"hashicorp-tf-api-token", made(14, alnum) + ".atlasv1." + made(64, alnum), Token},
	{"huggingface-access-token", "hf_" + made(34, upper+lower), Token},
	{"jwt", jwt(`{"alg":"HS256","typ":"JWT"}`, `{"sub":"shop","role":"service_role"}`), Token},
	{"new-relic-user-api-key", "new-relic: NRAK-" + made(27, lower), Token},
	{"npm-access-token", "npm_" + made(36, alnum), Token},
	{"openai-api-key", "sk-" + made(20, alnum) + "T3BlbkFJ" + made(20, alnum), Token},
	{"openshift-user-token", "sha256~" + made(43, alnum), Token},
	{"private-key", pem(""), PrivateKey},
	{"private-key", pem("OPENSSH "), PrivateKey},
	{"private-key", strings.ReplaceAll(pem("RSA "), "\n", `\n`), PrivateKey},
	{"private-key", strings.ReplaceAll(pem("EC "), "\n", "\n    "), PrivateKey},
	{"pypi-upload-token", "pypi-AgEIcHlwaS5vcmc" + made(60, alnum), Token},
	{"sendgrid-api-token", "SG." + made(66, alnum), Token},
	{"shopify-access-token", "shpat_" + made(32, hex), Token},
	{"slack-bot-token", "xoxb-" + made(12, digits) + "-" + made(12, digits) + made(24, alnum), Token},
	{"slack-webhook-url", "https://hooks.slack.com/services/" + made(44, alnum), Token},
	{"sql-password", "CREATE USER shop WITH LOGIN PASSWORD 'hunter2';", Password},
	{"sql-password", "CREATE USER 'shop'@'%' IDENTIFIED BY 'hunter2';", Password},
	{"stripe-access-token", "sk_" + "live_" + made(24, alnum), Token},
	{"telegram-bot-token", made(10, digits) + ":AA" + made(33, alnum), Token},
	{"url-password", "postgres://shop:hunter2@db:5432/shop", URL},
	{"url-password", "redis://:hunter%322@cache:6379", URL},
	{"url-password", "https://bot:p@ss@example.com/x", URL},
	{"vault-service-token", "hvs." + made(95, alnum), Token},
}

// TestKnown holds that each is found, alone and in a text, as what it is.
func TestKnown(t *testing.T) {
	for _, c := range tokenSamples {
		for _, text := range []string{c.text, "a: b\nc: " + c.text + "\nd: e\n", `"` + c.text + `"`} {
			if text[0] == '"' && strings.ContainsAny(c.text, `"'`) {
				continue
			}
			found := Known(text)
			if len(found) != 1 || found[0].Rule != c.rule || found[0].Kind != c.kind {
				t.Errorf("%s: found %v in %q", c.rule, found, text)
			}
		}
	}
}

// TestFormats holds that every format compiles and can be found by a word.
func TestFormats(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range formats() {
		if f.at == nil {
			f.compile()
		}
		if seen[f.id] {
			t.Errorf("%s stands twice", f.id)
		}
		seen[f.id] = true
		for _, w := range f.words {
			if len(w) < 3 || w != strings.ToLower(w) {
				t.Errorf("%s: the word %q", f.id, w)
			}
		}
		if len(f.words) == 0 {
			t.Errorf("%s has no words", f.id)
		}
	}
	for id := range checks {
		if !seen[id] {
			t.Errorf("there is no format %s to look at more closely", id)
		}
	}
	for id := range reaches {
		if !seen[id] {
			t.Errorf("there is no format %s to reach further", id)
		}
	}
	for _, id := range slices.Concat(guesses, public) {
		if !seen[id] {
			t.Errorf("there is no format %s", id)
		}
	}
}

// TestValues holds what is found by its name.
func TestValues(t *testing.T) {
	cases := []struct {
		name, value string
		kind        Kind
	}{
		{"POSTGRES_PASSWORD", "example", Password},
		{"POSTGRES_PASSWORD", "changeme", Password},
		{"POSTGRES_PASSWORD", "password", Password},
		{"MYSQL_PWD", "123456", Password},
		{"MYSQL_ROOT_PASSWORD", "fake_password", Password},
		{"DB_PASS", "hunter2", Password},
		{"PGPASSWORD", "hunter2", Password},
		{"dbpass", "hunter2", Password},
		{"ADMIN_PW", "hunter2", Password},
		{"PASSWORD2", "hunter2", Password},
		{"PASSWORD_PROD", "hunter2", Password},
		{"ADMIN_PASSPHRASE", "correct horse battery staple", Password},
		{"WIFI_PSK", "hunter2hunter2", Password},
		{"PASSWORD", "dY^5Ke76gdSiF", Password}, // Yelp/detect-secrets#458
		{"pwd", "cGFzc3dvcmQ=", Password},
		{"keystorePassword", "hunter2", Password},
		{"jwtSecret", "supersecret", Token},
		{"CLIENT_SECRET", made(32, alnum), Token},
		{"REDIS_CREDENTIALS", "admin:hunter2", Token},
		{"GITHUB_TOKEN", "/9j+4AAQ=", Token},
		{"GITHUB_TOKEN", made(40, hex), Token},
		{"ANODOT_TOKEN", "uvqcblfxi1d3ohvwjftgb59e3mba1x98", Token}, // Yelp/detect-secrets#458
		{"linode-token", "55b4c52123462dk23sa165cc3dba1234123125666f1422c8", Token},
		{"AZP_PAT", made(52, lower+digits), Key},
		{"SECRET_KEY_BASE", "0a1b2c3d4e5f", Key},
		{"API_KEY", "abc-def", Key},
		{"OPSGENIE_API_KEY", "oov9e5e9-3ccb-20c3-1097-74gyye7tx42q", Key}, // Yelp/detect-secrets#458
		{"APP_KEY", "base64:" + made(43, alnum) + "=", Key},
		{"BACKUP_ENCRYPTION_KEY", "0a1b2c3d4e5f", Key},
		{"SECRET_DJANGO", made(24, alnum), Key},
		{"VAULT_SECRET_ID", "7f3d0c5e-6f0b-4a39-9b8e-0c9d1a2b3c4d", Key},
		{"AWS_SECRET_ACCESS_KEY", made(40, alnum), CloudKey},
		{"aws.secret-access-key", made(40, alnum), CloudKey},
		{"AWS_SECRET_ACCESS_KEY", "minio123", Key},
		{"AZURE_CLIENT_SECRET", made(34, alnum), CloudKey},
		{"azurestorageaccountkey", made(86, alnum) + "==", CloudKey},
		{"DROPBOX", "dropbox=" + made(11, lower) + "AAAAAAAAAA" + made(43, alnum), Token},
	}
	for _, c := range cases {
		found := InValue(c.name, c.value)
		if len(found) != 1 || found[0].Kind != c.kind {
			t.Errorf("%s=%q: found %v; want a %s", c.name, c.value, found, c.kind)
		}
	}
}

// TestInText holds what is found in files and scripts: the name, and the value.
func TestInText(t *testing.T) {
	cases := []struct{ file, text, want string }{
		{"app.properties", "level=debug\nspring.datasource.password=hunter2\n", "spring.datasource.password=hunter2"},
		{"app.properties", "db.password = hunter2 # the password\n", "db.password=hunter2"},
		{"app.env", "export DB_PASSWORD='hunter2'\n", "DB_PASSWORD=hunter2"},
		{"app.yaml", "db:\n  password: hunter2 # not this\n  port: 1\n", "password=hunter2"},
		{"app.yaml", "db: {user: shop, password: hunter2, port: 1}\n", "password=hunter2"},
		{"app.yaml", "- name: DB_PASSWORD\n  value: hunter2\n", "DB_PASSWORD=hunter2"},
		{"app.yaml", "password: \"hun ter2\"\n", ""},
		{"app.json", `{"password": "hunter2", "user": "shop"}`, "password=hunter2"},
		{"app.json", `{"env": [{"name": "DB_PASSWORD", "value": "hunter2"}]}`, "DB_PASSWORD=hunter2"},
		{"app.json", `"{\"password\": \"hunter2\"}"`, "password=hunter2"},
		{"app.toml", "api_key = \"" + made(32, hex) + "\"\n", "api_key=" + made(32, hex)},
		{"app.xml", "<password>hunter2</password>\n", "password=hunter2"},
		{"app.xml", `<property name="password" value="hunter2"/>`, "password=hunter2"},
		{"site.xml", "<name>fs.s3a.secret.key</name>\n<value>" + made(40, alnum) + "</value>", "fs.s3a.secret.key=" + made(40, alnum)},
		{"web.config", `connectionString="Server=db;User ID=shop;Password=hunter2;Encrypt=True"`, "Password=hunter2"}, // trufflesecurity/trufflehog#3576
		{"pg.conf", "host=db port=5432 user=shop password=hunter2 dbname=shop\n", "password=hunter2"},
		{"jdbc", "url=jdbc:postgresql://db/shop?user=shop&password=hunter2&ssl=true\n", "password=hunter2"},
		{"redis.conf", "requirepass hunter2\n", ""},
		{"my.cnf", "[client]\nuser=root\npassword=hunter2\n", "password=hunter2"},
		{"init.sh", "#!/bin/sh\nPGPASSWORD=hunter2 psql -c 'select 1'\n", "PGPASSWORD=hunter2"},
		{"app.py", "API_KEY = \"" + made(32, alnum) + "\"\npassword = get_password()\n", "API_KEY=" + made(32, alnum)},
		{"app.py", "password = \"password\"\n", ""},
		{"app.yaml", "token: " + made(40, hex) + "\n", "token=" + made(40, hex)},
		{"app.yaml", "token: file\n", ""},
		{"cloud-config", "[global]\nlinode-token=55b4c52123462dk23sa165cc3dba1234123125666f1422c8\n", "linode-token=55b4c52123462dk23sa165cc3dba1234123125666f1422c8"},
	}
	for _, c := range cases {
		var got []string
		for _, f := range InText(c.text, SyntaxOf(c.file)) {
			got = append(got, f.Name+"="+c.text[f.Start:f.End])
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %q: found %q, want %q", c.file, c.text, s, c.want)
		}
	}
}

// TestInCommand holds what is found in commands: in which word, and what.
func TestInCommand(t *testing.T) {
	cases := []struct {
		words []string
		want  string
	}{
		{[]string{"shop", "--db-password=hunter2"}, "1:db-password=hunter2"},
		{[]string{"shop", "--db-password", "hunter2"}, "2:--db-password=hunter2"},
		{[]string{"shop", "--db-password", "--verbose"}, ""},
		{[]string{"shop", "-Dspring.datasource.password=hunter2"}, "1:Dspring.datasource.password=hunter2"},
		{[]string{"redis-server", "--requirepass", "hunter2"}, "2:--requirepass=hunter2"},
		{[]string{"curl", "-u", "shop:hunter2", "https://example.com"}, "2:=shop:hunter2"},
		{[]string{"/usr/bin/curl", "-u", "shop:hun;ter2!", "https://example.com"}, "2:=hun;ter2!"},
		{[]string{"curl", "-u", "$USER:$PASSWORD", "https://example.com"}, ""},
		{[]string{"redis-cli", "-a", "hunter2", "ping"}, "2:=hunter2"},
		{[]string{"sh", "-c", "mysql -u root -phunter2 -e 'select 1'"}, "2:=hunter2"},
		{[]string{"sh", "-c", "export A=b\nDB_PASSWORD=hunter2 shop --client-secret \"abcdef\"\n"}, "2:DB_PASSWORD=hunter2 2:client-secret=abcdef"},
		{[]string{"kubectl", "create", "secret", "generic", "db", "--from-literal=password=hunter2"}, "5:password=hunter2"},
		{[]string{"shop", "postgres://shop:hunter2@db/shop"}, "1:=hunter2"},
		{[]string{"--token-file", "/run/token", "--max-tokens", "4096", "--tls-private-key-file=/keys/tls.key", "--webhook-secret-name", "hook"}, ""},
		{[]string{"kubectl", "get", "secret", "db"}, ""},
		{nil, ""},
	}
	for _, c := range cases {
		var got []string
		for _, f := range InCommand(c.words) {
			got = append(got, fmt.Sprintf("%d:%s=%s", f.Word, f.Name, c.words[f.Word][f.Start:f.End]))
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%q: found %q, want %q", c.words, s, c.want)
		}
	}
}

// TestInSecret holds which values of a Secret are secret.
func TestInSecret(t *testing.T) {
	secret := map[string]string{
		"password": "hunter2", "token": "my-shop-token", "anything": "kW3vR8pL1xZ6", "key": "mypassword",
		"tls.key": pem(""), "database": "postgres://shop:hunter2@db/shop", "keytab": "\xff\xfe" + made(32, alnum),
		"settings": "level=debug\ndb.password=hunter2\n", ".dockerconfigjson": `{"auths":{"example.com":{"auth":"c2hvcDpodW50ZXIy"}}}`,
		"token-secret": "f395accd246ae52d",
	}
	for name, value := range secret {
		if len(InSecret(name, value)) == 0 {
			t.Errorf("%s=%q is not found", name, value)
		}
	}
	open := map[string]string{
		"username": "shop", "type": "git", "url": "https://example.com/shop.git", "insecure": "true", "password": "",
		"ca.crt": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "b_password": "REPLACE_ME", "region": "eu-west-1",
		"alertmanager.yaml": "route:\n  receiver: none\n", "users": "shop:$2y$10$0000000000000000000000000000000000000000000000000000\n",
		"client-id": "0oa1b2c3d4e5f6g7h8i9", "DJANGO_ALLOWED_HOSTS": "localhost,127.0.0.1,shop-api", "host": "db-1.c9akciq32.eu-west-1.rds.amazonaws.com",
		"foo": "bar", ".dockerconfigjson": `{"auths":{}}`,
	}
	for name, value := range open {
		if found := InSecret(name, value); len(found) > 0 {
			t.Errorf("%s=%q is found by the rule %s", name, value, found[0].Rule)
		}
	}
}

// TestLinear holds that no text makes the search slow: each is built of what
// makes it look far. Were the time to grow with the square of the length, a
// text would take minutes; as it is, it takes milliseconds.
func TestLinear(t *testing.T) {
	for _, part := range []string{
		"key=", "password=\"", "password: ", "\"token\":\"", "://a:", "a://b:c", "-----BEGIN PRIVATE KEY-----", "eyJ", "curl -u ", "curl -H \"Authorization: ",
		"authorization ", "<password>", "name: password\nvalue", "secret", "LS0tLS1CRUdJTi", "sig=", "create user ", "mysql -p", "--token ", "key-", " ", "\"", "{{", "api-", ".acc-", "v1.0-",
	} {
		text := strings.Repeat(part, 1<<18/len(part))
		start := time.Now()
		InText(text, CommandLine)
		InValue("password", text)
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%q again and again: 256 KiB take %v", part, took)
		}
	}
}

// ordered holds that what was found stands in the text, in order and apart.
func ordered(t *testing.T, text string, found []Found) {
	t.Helper()
	end := 0
	for _, f := range found {
		if f.Start < end || f.End <= f.Start || f.End > len(text) || f.Rule == "" || f.Kind == "" {
			t.Fatalf("%q: found %+v after %d", text, f, end)
		}
		end = f.End
	}
}

// seeds are texts for the fuzzers.
func seeds(f *testing.F) {
	for _, c := range tokenSamples {
		f.Add("name", c.text)
	}
	for _, c := range harmlessTexts {
		f.Add(c.file, c.text)
	}
	for _, c := range harmlessValues {
		f.Add(c.name, c.value)
	}
	f.Add("a", `password: "`)
	f.Add("a", `<password>`)
	f.Add("a", "name: PASSWORD\nvalue:")
	f.Add("PASSWORD", "\\\"")
}

// FuzzFind holds for any text that what is found stands in it, in order and
// apart, and that the text as a whole decides: no order of calls does.
func FuzzFind(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, name, text string) {
		ordered(t, text, Known(text))
		ordered(t, text, InText(text, Config))
		ordered(t, text, InText(text, Code))
		ordered(t, text, InText(text, CommandLine))
		ordered(t, text, InValue(name, text))
		ordered(t, text, InSecret(name, text))
		if !MayHold(text) && len(InText(text, Config)) > 0 {
			t.Fatalf("%q: found without a word", text)
		}
	})
}

// FuzzInCommand holds the same for the words of a command.
func FuzzInCommand(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, a, b string) {
		words := append(strings.Fields(b), a, b)
		byWord := make([][]Found, len(words))
		for _, found := range InCommand(words) {
			byWord[found.Word] = append(byWord[found.Word], found.Found)
		}
		for i := range words {
			ordered(t, words[i], byWord[i])
		}
	})
}
