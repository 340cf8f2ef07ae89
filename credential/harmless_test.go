// SPDX-License-Identifier: Apache-2.0

package credential

import "testing"

// harmlessValues are what users of other programs reported as found and no
// credential: the name, the value, and where it was reported.
var harmlessValues = []struct{ name, value, from string }{
	// Where the credential is, and not what it is.
	{"MARIADB_MASTER_ROOT_PASSWORD_FILE", "/opt/bitnami/mariadb/secrets/mariadb-root-password", "kubescape/regolibrary#563"},
	{"METALLB_ML_SECRET_KEY_PATH", "/etc/ml_secret_key", "kubescape/regolibrary#697"},
	{"SOME_TOKEN_PATH", "/var/run/secrets/token", "kubescape/regolibrary#697"},
	{"VAULT_SECRET_PATH", "secret/data/shop/db", "kubescape/kubescape#1588"},
	{"aws_secret", "my/secret/file/path", "kubescape/regolibrary#581"},
	{"my_password", "my/secret/file/path", "kubescape/regolibrary#581"},
	{"aws_access_key_id_file", "/etc/secret-volume/aws", "kubescape/regolibrary#581"},
	{"SECRETS_DIR", "/mnt/secrets", "stackrox/kube-linter#1198"},
	{"SESSION_SECRET_FILE", "/run/secrets/session", "moby/buildkit#6501"},
	{"MONGO_INITDB_ROOT_PASSWORD_FILE", "/run/secrets/db_username", "Yelp/detect-secrets#266"},
	{"github_token_filepath", "./conf/github-token", "gitleaks/gitleaks#531"},
	{"password", "/parameters/store_of_aws/key", "Yelp/detect-secrets#426"},
	{"SLACK_SIGNING_SECRET", "projects/455826092000/secrets/SlackSigningSecret/versions/latest", "Checkmarx/kics#5892"},
	{"DB_PASSWORD", "arn:aws:secretsmanager:eu-west-1:000000000000:secret:db-AbCdEf", "Checkmarx/kics#7277"},
	{"CLIENT_SECRET", "vault:secret/data/shop#client-secret", "kubescape/kubescape#16"},
	{"DB_PASSWORD", "op://shop/db/password", "references of stores"},
	{"API_TOKEN", "ref+awssecrets://shop/api-token", "references of stores"},
	{"OPENAI_API_KEY", "os.environ/OPENAI_API_KEY", "references of stores"},
	{"CLIENT_SECRET", `C:\secrets\client.txt`, "paths of Windows"},
	{"SERVER_TOKEN", "./token.txt", "paths"},
	{"TLS_PRIVATE_KEY", "tls.key", "file names"},
	{"PRIVATE_KEY", "~/.ssh/id_ed25519", "paths"},

	// Filled in later.
	{"AIRFLOW_VAR_GITLAB_PRIVATE_TOKEN", "$(GITLAB_PRIVATE_TOKEN)", "FairwindsOps/polaris#1046"},
	{"AIRFLOW_VAR_PROMETHEUS_PASSWORD", "$(PROMETHEUS_PASSWORD)", "FairwindsOps/polaris#1046"},
	{"vmAdminPassword", "$(VM_ADMIN_PASSWORD)", "Checkmarx/kics#7512"},
	{"yetanotherAdminPassword", "${{SQL_ADMIN_PASSWORD}}", "Checkmarx/kics#7512"},
	{"andyetanotherAdminPassword", "${{ SQL_ADMIN_PASSWORD }}", "Checkmarx/kics#7512"},
	{"anotherAdminPassword", "", "Checkmarx/kics#7512"},
	{"password", "{{ var }}", "Yelp/detect-secrets#360"},
	{"mysql_password", "{{ mysql_user_password }}", "Checkmarx/kics#6936"},
	{"AWS_ACCESS_KEY_ID", "<some-access-key>", "aquasecurity/trivy#3034"},
	{"AWS_SECRET_ACCESS_KEY", "<some-secret-access-key>", "aquasecurity/trivy#3034"},
	{"QUESTIONNAIRE_DB_PASSWORD", "", "gitleaks/gitleaks#1828"},
	{"SALESFORCE_SECRET", "REDACTED", "gitleaks/gitleaks#1188"},
	{"password", "PLACEHOLDER", "devantler-tech/platform#2892"},
	{"password", "*******", "Yelp/detect-secrets#426"},
	{"aws_access_key_id", "XXXX", "kubescape/regolibrary#581"},
	{"AWS_SECRET_ACCESS_KEY", "xxxxx", "FairwindsOps/polaris#817"},
	{"clientSecret", "xxxxxxxxxxxxxxxxxxxxxxxx", "semgrep/semgrep-rules#2877"},
	{"DB_PASSWORD", "%DB_PASSWORD%", "interpolation"},
	{"DB_PASSWORD", "@DB_PASSWORD@", "interpolation"},
	{"DB_PASSWORD", "#{DbPassword}#", "interpolation"},
	{"DB_PASSWORD", "__DB_PASSWORD__", "interpolation"},
	{"DB_PASSWORD", "$DB_PASSWORD", "interpolation"},
	{"DB_PASSWORD", "prefix-$(DB_PASSWORD)-suffix", "interpolation"},
	{"DB_PASSWORD", "<path:secret/data/db#password>", "interpolation"},
	{"DB_PASSWORD", "ENC[AES256_GCM,data:p5m+,iv:6Qk=,tag:8A==,type:str]", "GitGuardian/ggshield#1394"},
	{"DB_PASSWORD", "REPLACE_ME", "placeholders"},
	{"DB_PASSWORD", "CHANGE_ME", "placeholders"},
	{"API_KEY", "your-api-key-here", "placeholders"},
	{"API_KEY", "insert-key", "placeholders"},
	{"ADMIN_PASSWORD", "TODO", "placeholders"},
	{"OPENAI_API_KEY", "dummy", "placeholders"},
	{"OPENAI_API_KEY", "sk-no-key-required", "placeholders"},
	{"apiKey", "not-needed", "placeholders"},

	// The name of something.
	{"api_key_env", "MY_SECRET1", "gitleaks/gitleaks#1857"},
	{"LLM_SECRET_NAME", "NEXUS-GPT4-API-KEY", "gitleaks/gitleaks#1578"},
	{"secret_name", "TF_TEAM_TOKEN", "bridgecrewio/checkov#3487"},
	{"sm_name_secrets", "my-custom-resource-name", "bridgecrewio/checkov#5469"},
	{"secretName", "helloworld-cert", "bridgecrewio/checkov#4815"},
	{"secretName", "my-site-tld-tls-secret", "bridgecrewio/checkov#3784"},
	{"secretKey", "db-password", "devantler-tech/platform#2892"},
	{"secretKey", "r2_access_key_id", "devantler-tech/platform#2892"},
	{"secretKey", "dbPassword", "Checkmarx/kics#6812"},
	{"existingSecretPasswordKey", "redis-password", "devantler-tech/platform#2892"},
	{"existingSecret", "db", "secret names"},
	{"SECRET_NAME", "foo", "secret names"},
	{"IMAGE_PULL_SECRET", "regcred", "secret names"},
	{"TLS_SECRET", "istio-system/gateway-cert", "secret names"},
	{"AUTH_SECRET", "oauth2-proxy-credentials", "secret names"},
	{"vaultCredentialId", "approle-jenkins", "gitleaks/gitleaks#1321"},
	{"vaultKey", "inf-vsqt-01-secret-id", "gitleaks/gitleaks#1321"},
	{"resource_group_name", "rg-keyvault-southeastasia", "bridgecrewio/checkov#5405"},
	{"PROJECT_KEY", "SHOP", "aquasecurity/defsec#1133"},
	{"SECRET_KEY_ID", "shop-signing", "aquasecurity/defsec#1133"},
	{"SECRET_CREDENTIALS_KEY", "credentials.json", "aquasecurity/defsec#1133"},
	{"SECRET_REDIS_CA_CERTIFICATE_KEY", "ca.crt", "aquasecurity/defsec#1133"},
	{"EncryptionKey", "somekey", "Checkmarx/kics#5873 (the name of one)"},
	{"KMS_KEY_ALIAS", "alias/shop", "moby/buildkit#5775"},
	{"KEY_NAME", "shop", "moby/buildkit#5775"},
	{"CREDENTIAL_MANAGER", "pass", "moby/buildkit#5775"},
	{"GITHUB_TOKEN", "GITHUB_TOKEN", "names of variables"},

	// Switches, numbers, ways to do it.
	{"server-tokens", "false", "aquasecurity/trivy#3634"},
	{"external_secrets_replicas", "2", "devantler-tech/platform#3242"},
	{"PASSWORD_AUTH", "false", "switches"},
	{"MYSQL_ALLOW_EMPTY_PASSWORD", "yes", "prowler-cloud/prowler#4893"},
	{"update_password", "on_create", "Checkmarx/kics#6936"},
	{"password_expire", "never", "Checkmarx/kics#6936"},
	{"PASSWORD_PROMPT_STRING", "Who goes there", "moby/buildkit#5775"},
	{"REQUIRE_MFA_AUTH", "true", "moby/buildkit#5775"},
	{"RACKULA_AUTH_MODE", "none", "RackulaLives/Rackula#2348"},
	{"AUTH_MODULE_VERSION", "1.2.3", "moby/buildkit#6501"},
	{"MAX_TOKENS", "4096", "numbers"},
	{"TOKEN_TTL", "1h", "numbers"},
	{"REFRESH_TOKEN", "30d", "numbers"},
	{"PASSWORD_MIN_LENGTH", "12", "numbers"},
	{"PASSWORD_ENCRYPTION", "scram-sha-256", "ways"},
	{"SECRETS_BACKEND", "vault", "ways"},
	{"AUTH_TOKEN", "bearer", "ways"},
	{"EOS_TOKEN", "</s>", "tokens of language models"},
	{"PAD_TOKEN", "[PAD]", "tokens of language models"},
	{"TOKENIZER", "cl100k_base", "tokens of language models"},
	{"tokenizationId", "f865288c97ca4913887373728b8dfc4c", "gitleaks/gitleaks#1219"},
	{"CC", "/usr/bin/clang", "madhuakula/docker-security-checker#2"},
	{"GOPASS_VERSION", "1.8.5", "Checkmarx/kics#3763"},
	{"keyword", "Befaehigung_P2", "gitleaks/gitleaks#1578"},
	{"MantleAPI_version", "9a038989604e8da62ecddbe2094b16ce1b778be1", "gitleaks/gitleaks#1578"},
	{"minisat-master-keying", "x64-uwp=fail", "gitleaks/gitleaks#1578"},
	{"key", "ctrl+shift+down", "twpayne/chezmoi#4679"},
	{"COMPASS", "north", "words"},
	{"MONKEY", "ape", "words"},
	{"PWD", "home", "words"},
	{"BLAH", "secretsquirrels", "stackrox/kube-linter, its own test"},
	{"apiVersion", "2010-03-31", "gitleaks/gitleaks#760"},
	{"apiGroup", "rbac.authorization.k8s.io", "gitleaks/gitleaks#850"},
	{"CHANGE_PASSWORD", "changePassword", "Bearer/bearer-rules#73"},
	{"WRONG_PASSWORD", "Your password is incorrect. Please try again.", "Bearer/bearer-rules#73"},
	{"admin_email", "admin@example.com", "devantler-tech/platform#3240"},

	// Public halves, hashes, identifiers.
	{"PUBLIC_KEY", "Gc3Q0RXJM2CUNbgKpUMnkPtOfOzeFzsW", "gitleaks/gitleaks#1578"},
	{"PublicKeyToken", "a88a5c672034fd89", "gitleaks/gitleaks#1052"},
	{"AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE", "kubescape/kubescape#1364"},
	{"AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "aquasecurity/trivy#2296"},
	{"DB_URL", "AKIA", "kubescape/regolibrary, its own test"},
	{"STRIPE_KEY", "pk_" + "live_51HscJpKx9aQwErTyUiOpAsDfGhJkLzXcVbNm0011", "UnitOneAI/SecuritySkills#1105"},
	{"STRIPE_PUBLISHABLE_API_KEY", "pk_" + "test_51HscJpKx9aQwErTyUiOp", "UnitOneAI/SecuritySkills#1105"},
	{"NEXT_PUBLIC_API_KEY", "9f8e7d6c5b4a39281706f5e4d3c2b1a0", "UnitOneAI/SecuritySkills#1105"},
	{"VITE_FIREBASE_API_KEY", "AIza" + "SyD-1a2B3c4D5e6F7g8H9i0J1k2L3m4N5o6P", "UnitOneAI/SecuritySkills#1105"},
	{"SENTRY_DSN", "https://abcdef0123456789@o123456.ingest.sentry.io/123", "UnitOneAI/SecuritySkills#1105"},
	{"SUPABASE_KEY", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJzdXBhYmFzZSIsInJvbGUiOiJhbm9uIn0.c2lnbmF0dXJlLXNpZ25hdHVyZQ", "gitleaks/gitleaks#2278"},
	{"NOTE", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9...", "jsboige/CoursIA#10225"},
	{"token", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9...", "jsboige/CoursIA#10225"},
	{"source", "github.com/moov-io/infra//modules/github-exporter?ref=a436c10a95a71de7854079411ff9411ddfbb1de1", "gitleaks/gitleaks#531"},
	{"SOURCEGRAPH_REVISION", "a436c10a95a71de7854079411ff9411ddfbb1de1", "gitleaks/gitleaks#1898"},
	{"CONFIG", "glpat-" + "00000000000000000000", "tokens of nothing but zeros"},
	{"CALL", "s.MaxConnectionBytesPerSec,", "gitleaks/gitleaks#1490"},
	{"TOOLS", "getPagesInConfluenceSpace,searchConfluenceUsingCql", "gitleaks/gitleaks#1891"},
	{"PolicyName", "DecryptSecret485044a34a824a77dd95f3440eb9dcc7ServiceRoleDefaultPolicyFBB19A35", "bridgecrewio/checkov#5236"},
	{"SIGNATURE", "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJCrze8SNFZ4kKvN7xI0VniQq83vEjRWeJCrze8SNFZ4kA==", "GitGuardian/ggshield#9"},
	{"GF_ADMIN_PASSWORD", "$2y$10$000000000000000000000000000000000000000000000000000000", "hashes"},
	{"LDAP_PASSWORD", "{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "hashes"},
	{"PG_PASSWORD", "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy", "hashes"},
	{"PG_PASSWORD", "md532e12f215ba27cb750c9e093ce4b5127", "hashes"},
	{"MASTER_KEY", "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", "hashes"},
	{"IMAGE", "example.com/app@sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae", "digests"},
	{"PASSWORD_HASH", "5f4dcc3b5aa765d61d8327deb882cf99", "hashes"},
	{"SIGNING_KEY", "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END PUBLIC KEY-----\n", "public halves"},
	{"kube-root-ca.crt", "-----BEGIN CERTIFICATE-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END CERTIFICATE-----\n", "kubescape/kubescape#16"},
	{"the_good_stuff", "-----BEGIN OPENSSH PRIVATE KEY-----\nxxxxx\n-----END OPENSSH PRIVATE KEY-----\n", "a key with nothing in it"},
	{"DEPLOY_KEY", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJf me@example.com", "public halves"},
	{"CLIENT_ID", "0afae57f3ccfd9d7f5767067bc48b30f719e271ba470488056e37ab35d4b6506", "gitleaks/gitleaks#1587"},
	{"AZURE_TENANT_ID", "7f3d0c5e-6f0b-4a39-9b8e-0c9d1a2b3c4d", "UUIDs"},
	{"AZURE_CLIENT_SECRET", "00000000-0000-0000-0000-000000000000", "UUIDs"},

	// URLs that open nothing.
	{"JWT_GCP_TOKEN_URL", "https://oauth2.googleapis.com/token", "aquasecurity/defsec#1133"},
	{"FLYWAY_URL", "jdbc:postgresql://postgres:5432/mydb", "trufflesecurity/trufflehog#3856"},
	{"URL", "https://some_user:$SOME_BASH_VARIABLE@some.website.com", "trufflesecurity/trufflehog#894"},
	{"DATABASE_URL", "postgres://shop@db:5432/shop", "trufflesecurity/trufflehog#3886"},
	{"DATABASE_URL", "postgres://shop:$(DB_PASSWORD)@db:5432/shop", "interpolation"},
	{"DATABASE_URL", "postgres://shop:<password>@db:5432/shop", "placeholders"},
	{"DATABASE_URL", "postgres://user:password@host:5432/db", "a manual's"},
	{"REGISTRY", "https://registry.example.com:5000/@scope/package", "ports"},
	{"API_TOKEN", "https://login.example.com/token", "URLs"},
	{"JAVA_OPTS", "-Djavax.net.ssl.trustStorePassword=changeit", "what every trust store has"},
}

// TestHarmless holds that none of them is found.
func TestHarmless(t *testing.T) {
	for _, c := range harmlessValues {
		for _, f := range InValue(c.name, c.value) {
			t.Errorf("%s=%q is found to be a %s by the rule %s; reported in %s", c.name, c.value, f.Kind, f.Rule, c.from)
		}
	}
	if len(harmlessValues) < 80 {
		t.Errorf("only %d cases", len(harmlessValues))
	}
}

// harmlessTexts are files in which others found what is none.
var harmlessTexts = []struct{ file, text, from string }{
	{"enablebanking.js", "const secretKey = process.env.ENABLEBANKING_SECRETKEY;\nconst enablebanking_secretKey = await read('secretKey');\n", "devantler-tech/platform#3240"},
	{"password_validation.py", "from django.core.exceptions import ValidationError\n\nclass Validator:\n    def validate(self, password, user=None):\n        if not re.findall('[A-Z]', password):\n            raise ValidationError(_(\"The password must contain a capital\"), code='password_no_upper')\n    help_text = 'password: 12 characters'\n", "aquasecurity/trivy#8198"},
	{"app.js", "const configObject = _.merge({}, defaults, config, {\n  db: { password: '*******' },\n});\ntoken = secrets.token_hex(4)\n", "Yelp/detect-secrets#426"},
	{"external-secret.yaml", "spec:\n  data:\n  - secretKey: db-password\n    remoteRef: {key: shop/db, property: password}\n", "external-secrets/external-secrets#2880"},
	{"sealed.yaml", "kind: SealedSecret\nspec:\n  encryptedData:\n    password: \"{{ .Values.sealed }}\"\n", "gitleaks/gitleaks#1728"},
	{"deployment.yaml", "env:\n- name: DB_PASSWORD\n  valueFrom:\n    secretKeyRef:\n      name: db\n      key: password\n- name: DB_PASSWORD_FILE\n  value: /run/secrets/db\n", "kubescape/regolibrary#802"},
	{".gitleaks.toml", "# Detects secrets, crypto keys, PEM material, JWT tokens.\n[extend]\nuseDefault = true\n", "opena2a-org/hackmyagent#684"},
	{"app.env", "QUESTIONNAIRE_DB_PASSWORD=\nQUESTIONNAIRE_DB_ENABLED=1\n", "gitleaks/gitleaks#1828"},
	{"main.tf", "variable \"db_password\" {}\npassword = var.db_password\nmaster_password = random_password.master.result\nsecret_string = jsondecode(data.x.y)[\"password\"]\n", "Checkmarx/kics#7277"},
	{"grafana.ini", ";admin_password = admin\n# secret_key = SW2YcwTIb9zpOOhoPsMm\n", "comments"},
	{"messages.properties", "login.password=Password\nforgot.password=Forgot your password?\nerror.password=Passwords differ\n", "labels"},
	{"nginx.conf", "proxy_pass http://backend;\nproxy_pass_header Authorization;\nserver_tokens off;\nproxy_set_header Authorization \"Bearer $token\";\n", "settings"},
	{"run.sh", "#!/bin/sh\nPASSWORD=$(cat /run/secrets/password)\nTOKEN=\"$1\"\nif [ \"$PASSWORD\" == \"\" ]; then exit 1; fi\ncurl -u \"$USER:$PASSWORD\" https://example.com\nmysql -u root -p\"$PASSWORD\"\n", "scripts"},
	{"config.yaml", "password: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\ntoken: null\nsecret: {{ .Values.secret }}\napiKey: ${API_KEY:-}\nlicenseKey: trial\n", "templates"},
	{"dashboard.json", `{"panels": [{"title": "Tokens", "targets": [{"expr": "sum(token_count{job=\"x\"})", "key": "A"}], "primaryKey": "id"}]}`, "dashboards"},
	{"ca.yaml", "caBundle: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCk1JSUJJakFOQmdrcWhraUc5dzBCQVFFRkFBT0NBUThBTUlJQkNnS0NBUUVB\n", "certificates"},
	{"README.md", "Set the password: `password: hunter2`\n\n    postgresql://login:password@hostname:port/dbname\n", "manuals"},
	{"values.yaml", "auth:\n  existingSecret: db\n  secretKeys:\n    adminPasswordKey: postgres-password\n  password: db-password\n", "names of keys"},
}

// TestHarmlessTexts holds that nothing is found in them.
func TestHarmlessTexts(t *testing.T) {
	for _, c := range harmlessTexts {
		for _, f := range InText(c.text, SyntaxOf(c.file)) {
			t.Errorf("%s: %q is found to be a %s by the rule %s (%s); %s", c.file, c.text[f.Start:f.End], f.Kind, f.Rule, f.Name, c.from)
		}
	}
}
