// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/test/registry"
	"sconce.dev/sconce/verdict"
)

const (
	someone = "release@shop.example"
	issuer  = "https://accounts.shop.example"
	built   = "https://example.com/built/v1"
	signed  = "images.containers.map(i, verifyImageSignatures(i, [attestors.shop])).all(n, n > 0)"
	attests = `images.containers.map(i, verifyAttestationSignatures(i, attestations.built, [attestors.shop])).all(n, n > 0)`
)

type (
	tree = map[string]any
	list = []any
)

// celCase is an attestor, and an image.
type celCase struct {
	name       string
	attestor   tree // cosign
	others     list // more attestors
	expression string
	required   bool
	sign       func(w *signing)
	root       []byte
	want       verdict.Outcome
	words      string
}

type signing struct {
	*registry.Registry
	ref, digest string
}

func (w *signing) sign(s registry.Signing) { w.Sign(w.ref, w.digest, "", s) }

func (w *signing) attest(s registry.Signing) {
	w.Attest(w.ref, w.digest, registry.Statement(w.digest, built, tree{"by": "shop"}), s)
}

func (w *signing) bundle(s registry.Signing) {
	w.Bundle(w.ref, w.digest, registry.Statement(w.digest, built, tree{"by": "shop"}), s)
}

func celCases(t testing.TB) []celCase {
	key, public := registry.Key(t, "ecdsa")
	_, other := registry.Key(t, "ecdsa")
	authority, stranger := registry.NewAuthority(t), registry.NewAuthority(t)
	ignoring := tree{"insecureIgnoreTlog": true, "insecureIgnoreSCT": true}
	byKey := func(w *signing) { w.sign(registry.Signing{Key: key}) }
	keyless := func(w *signing) { w.sign(authority.Keyless(someone, issuer)) }
	keylessBundle := func(w *signing) {
		w.KeylessBundle(w.ref, w.digest, registry.Statement(w.digest, built, tree{"by": "shop"}), authority, someone, issuer)
	}
	keyed := tree{"key": tree{"data": public}, "ctlog": ignoring}
	identity := func(i ...any) tree {
		return tree{"keyless": tree{"identities": i}, "ctlog": tree{"url": "https://rekor.example.com", "insecureIgnoreSCT": true}}
	}
	who := identity(tree{"issuer": issuer, "subject": someone})
	logged := registry.Signing{Key: key, Log: authority}
	own := authority.Keyless(someone, issuer)
	unlogged := own
	unlogged.Log, unlogged.Certificate, unlogged.Chain = nil, "", ""
	return []celCase{
		{name: "signed", attestor: keyed, sign: byKey, required: true, want: verdict.Pass},
		{name: "unsigned", attestor: keyed, required: true, want: verdict.Fail, words: "requirement 1"},
		{name: "another key", attestor: tree{"key": tree{"data": other}, "ctlog": ignoring}, sign: byKey, want: verdict.Fail},
		{name: "key of an expression", attestor: tree{"key": tree{"expression": fmt.Sprintf("%q + object.metadata.labels.nothing", strings.TrimSpace(public))}, "ctlog": ignoring}, sign: byKey, want: verdict.Pass},
		{name: "empty key", attestor: tree{"key": tree{"data": ""}, "ctlog": ignoring}, sign: byKey, want: verdict.Fail},
		{name: "kms", attestor: tree{"key": tree{"kms": "awskms:///a"}, "ctlog": ignoring}, sign: byKey, want: verdict.Unknown, words: "key management"},
		{name: "notary", others: list{tree{"name": "other", "notary": tree{"certs": tree{"value": "a"}}}}, attestor: keyed, expression: "images.containers.map(i, verifyImageSignatures(i, [attestors.other])).all(n, n > 0)", want: verdict.Unknown, words: "Notary"},
		{name: "two attestors, one signed", others: list{tree{"name": "other", "cosign": tree{"key": tree{"data": other}, "ctlog": ignoring}}}, attestor: keyed, sign: byKey,
			expression: "images.containers.map(i, verifyImageSignatures(i, [attestors.shop, attestors.other])).all(n, n == 1)", required: true, want: verdict.Pass},
		{name: "no such attestor", attestor: keyed, expression: "verifyImageSignatures(images.containers[0], [{'name': 'nobody'}]) == 0", want: verdict.Pass},
		{name: "attestors that are none", attestor: keyed, expression: "verifyImageSignatures(images.containers[0], [1]) == 0", want: verdict.Unknown, words: "none of the policy's"},
		{name: "in the log", attestor: tree{"key": tree{"data": public}}, sign: func(w *signing) { w.sign(logged) }, root: authority.TrustedRoot(), want: verdict.Pass},
		{name: "in no log, which is not asked", attestor: tree{"key": tree{"data": public}}, sign: byKey, root: authority.TrustedRoot(), want: verdict.Fail},
		{name: "in no log, which would be asked", attestor: tree{"key": tree{"data": public}, "ctlog": tree{"url": "https://rekor.example.com"}}, sign: byKey, root: authority.TrustedRoot(), want: verdict.Unknown, words: "carries no entry"},
		{name: "in the log, no trusted root", attestor: tree{"key": tree{"data": public}}, sign: func(w *signing) { w.sign(logged) }, want: verdict.Unknown, words: "spec.network.trustedRoot"},
		{name: "own trusted root", attestor: tree{"key": tree{"data": public}, "trustedRoot": tree{"value": string(authority.TrustedRoot())}}, sign: func(w *signing) { w.sign(logged) }, want: verdict.Pass},
		{name: "annotations", attestor: tree{"key": tree{"data": public}, "ctlog": ignoring, "annotations": tree{"stage": "prod"}}, sign: func(w *signing) {
			w.sign(registry.Signing{Key: key, Annotate: func(a map[string]string) { a["stage"] = "prod" }})
		}, want: verdict.Pass},
		{name: "no annotations", attestor: tree{"key": tree{"data": public}, "ctlog": ignoring, "annotations": tree{"stage": "prod"}}, sign: byKey, want: verdict.Fail},
		{name: "certificate", attestor: tree{"certificate": tree{"cert": tree{"value": own.Certificate}}, "ctlog": ignoring}, sign: func(w *signing) { w.sign(unlogged) }, want: verdict.Pass},
		{name: "certificate and chain", attestor: tree{"certificate": tree{"cert": tree{"value": own.Certificate}, "certChain": tree{"value": authority.Chain()}}, "ctlog": ignoring}, sign: func(w *signing) { w.sign(unlogged) }, want: verdict.Pass},
		{name: "certificate and another chain", attestor: tree{"certificate": tree{"cert": tree{"value": own.Certificate}, "certChain": tree{"value": stranger.Chain()}}, "ctlog": ignoring}, sign: func(w *signing) { w.sign(unlogged) }, want: verdict.Fail},
		{name: "keyless", attestor: who, sign: keyless, root: authority.TrustedRoot(), want: verdict.Pass},
		{name: "keyless, no trusted root", attestor: who, sign: keyless, want: verdict.Unknown, words: "spec.network.trustedRoot"},
		{name: "keyless, of a stranger", attestor: who, sign: keyless, root: stranger.TrustedRoot(), want: verdict.Fail},
		{name: "keyless, another subject", attestor: identity(tree{"issuer": issuer, "subject": "thief"}), sign: keyless, root: authority.TrustedRoot(), want: verdict.Fail},
		{name: "keyless, another issuer", attestor: identity(tree{"issuer": "https://else.example", "subject": someone}), sign: keyless, root: authority.TrustedRoot(), want: verdict.Fail},
		{name: "keyless, one of two identities", attestor: identity(tree{"issuer": issuer, "subject": "thief"}, tree{"issuerRegExp": "shop", "subjectRegExp": "^release@"}), sign: keyless, root: authority.TrustedRoot(), want: verdict.Pass},
		{name: "keyless, no log of certificates", attestor: tree{"keyless": tree{"identities": list{tree{"issuer": issuer, "subject": someone}}}}, sign: keyless, root: authority.TrustedRoot(), want: verdict.Fail},
		{name: "keyless, own roots", attestor: tree{"keyless": tree{"identities": list{tree{"issuer": issuer}}, "roots": authority.Root()}}, sign: keyless, root: authority.TrustedRoot(), want: verdict.Unknown, words: "does not look at keyless.roots"},
		{name: "own repository of trust", attestor: tree{"keyless": tree{"identities": list{tree{"issuer": issuer}}}, "tuf": tree{"mirror": "https://tuf.example.com"}}, want: verdict.Unknown, words: "TUF"},
		{name: "bundle", attestor: keyed, sign: func(w *signing) { w.bundle(registry.Signing{Key: key}) }, want: verdict.Pass},
		{name: "bundle by another key", attestor: tree{"key": tree{"data": other}, "ctlog": ignoring}, sign: func(w *signing) { w.bundle(registry.Signing{Key: key}) }, want: verdict.Fail},
		{name: "bundle before a tag", attestor: tree{"key": tree{"data": other}, "ctlog": ignoring}, sign: func(w *signing) {
			byKey(w)
			w.bundle(registry.Signing{Key: key})
		}, want: verdict.Fail},
		{name: "keyless bundle", attestor: who, sign: keylessBundle, root: authority.TrustedRoot(), want: verdict.Pass},
		{name: "keyless bundle, another subject", attestor: identity(tree{"issuer": issuer, "subject": "thief"}), sign: keylessBundle, root: authority.TrustedRoot(), want: verdict.Fail},
		{name: "keyless bundle, two identities", attestor: identity(tree{"issuer": issuer, "subject": someone}, tree{"issuer": issuer}), sign: keylessBundle, root: authority.TrustedRoot(), want: verdict.Fail},
		{name: "attested, in the log", attestor: tree{"key": tree{"data": public}}, expression: attests, sign: func(w *signing) { w.attest(logged) }, root: authority.TrustedRoot(), want: verdict.Pass},
		{name: "attested, in no log", attestor: keyed, expression: attests, sign: func(w *signing) { w.attest(registry.Signing{Key: key}) }, want: verdict.Fail},
		{name: "attested in a bundle", attestor: keyed, expression: attests + ` && extractPayload(images.containers[0], attestations.built).predicate.by == "shop"`, sign: func(w *signing) { w.bundle(registry.Signing{Key: key}) }, required: true, want: verdict.Pass},
		{name: "payload of another", attestor: keyed, expression: attests + ` && extractPayload(images.containers[0], attestations.built).predicate.by == "thief"`, sign: func(w *signing) { w.bundle(registry.Signing{Key: key}) }, want: verdict.Fail},
		{name: "attested, another type", attestor: keyed, expression: strings.ReplaceAll(attests, "attestations.built", "attestations.scanned"), sign: func(w *signing) { w.bundle(registry.Signing{Key: key}) }, want: verdict.Fail},
		{name: "payload before it is verified", attestor: keyed, expression: `extractPayload(images.containers[0], attestations.built).predicate.by == "shop"`, sign: func(w *signing) { w.bundle(registry.Signing{Key: key}) }, want: verdict.Unknown, words: "was not verified before it is read"},
		{name: "an artifact", attestor: keyed, expression: `extractPayload(images.containers[0], attestations.sbom).name == "shop"`, sign: func(w *signing) { w.Refer(w.ref, w.digest, "text/sbom", []byte(`{"name": "shop"}`)) }, want: verdict.Pass},
		{name: "no artifact", attestor: keyed, expression: `extractPayload(images.containers[0], attestations.sbom).name == "shop"`, want: verdict.Unknown, words: "no artifact of type text/sbom"},
		{name: "no such attestation", attestor: keyed, expression: `verifyAttestationSignatures(images.containers[0], "none", [attestors.shop]) > 0`, want: verdict.Unknown, words: `no attestation "none"`},
		{name: "metadata", attestor: keyed, expression: `image.getMetadata(images.containers[0]).config.config.User == "65532"`, want: verdict.Pass},
		{name: "image data", attestor: keyed, expression: `getImageData(images.containers[0]).ConfigData.Config.User == "65532" && getImageData(images.containers[0]).Digest.startsWith("sha256:") && getImageData(images.containers[0]).Manifest.SchemaVersion == 2`, want: verdict.Pass},
		{name: "required, and tried in vain", attestor: keyed, expression: "verifyImageSignatures(images.containers[0], [attestors.shop]) == 0", required: true, want: verdict.Fail, words: "failed signature or attestation verification"},
		{name: "required, and not tried", attestor: keyed, expression: "true", required: true, want: verdict.Unknown, words: "none of its own expressions does"},
	}
}

// policyOf is a policy with an attestor.
func (c *celCase) policyOf(t testing.TB, host string) string {
	t.Helper()
	expression := c.expression
	if expression == "" {
		expression = signed
	}
	if c.name == "key of an expression" {
		c.attestor["key"].(tree)["expression"] = strings.ReplaceAll(c.attestor["key"].(tree)["expression"].(string), " + object.metadata.labels.nothing", ` + (object.metadata.name == "web" ? "\n" : "")`)
	}
	out, err := json.Marshal(tree{
		"apiVersion": "policies.kyverno.io/v1beta1", "kind": "ImageValidatingPolicy", "metadata": tree{"name": "images"},
		"spec": tree{
			"validationActions": list{"Deny"}, "matchConstraints": tree{"resourceRules": list{tree{"apiGroups": list{""}, "apiVersions": list{"v1"}, "operations": list{"CREATE"}, "resources": list{"pods"}}}},
			"matchImageReferences":     list{tree{"glob": host + "/*"}},
			"validationConfigurations": tree{"required": c.required, "verifyDigest": false, "mutateDigest": false},
			"autogen":                  tree{"podControllers": tree{"controllers": list{}}},
			"attestors":                append(list{tree{"name": "shop", "cosign": c.attestor}}, c.others...),
			"attestations": list{
				tree{"name": "built", "intoto": tree{"type": built}}, tree{"name": "scanned", "intoto": tree{"type": "https://example.com/scanned"}},
				tree{"name": "sbom", "referrer": tree{"type": "text/sbom"}},
			},
			"validations": list{tree{"expression": expression}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func podOf(image string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: default}, spec: {containers: [{name: app, image: %q}]}}", image)
}

func (c *celCase) prepared(r *registry.Registry) string {
	ref, digest := r.Push("shop/web:1")
	if c.sign != nil {
		c.sign(&signing{r, ref, digest})
	}
	return ref
}

func TestImageVerification(t *testing.T) {
	for _, c := range celCases(t) {
		t.Run(c.name, func(t *testing.T) {
			r := registry.New(t)
			image := c.prepared(r)
			set := load(t, c.policyOf(t, r.Host))
			pod := parse(t, podOf(image))[0]
			v, applies := judge(t, set, &policy.Request{Object: pod, Network: &policy.Network{Registries: []string{r.Host}, TrustedRoot: c.root}})
			if !applies || v.Outcome != c.want {
				t.Fatalf("got %v %+v; want %s", applies, v, c.want)
			}
			if c.words != "" && !strings.Contains(v.Findings[0].Message, c.words) {
				t.Errorf("got %q; want %q in it", v.Findings[0].Message, c.words)
			}
			for _, f := range v.Findings {
				if strings.Contains(f.Message, "BEGIN") {
					t.Errorf("a key is in %q", f.Message)
				}
			}
			before := r.Requests.Load()
			for _, n := range []*policy.Network{nil, {Registries: []string{"registry.example.com"}}} {
				v, _ := judge(t, set, &policy.Request{Object: pod, Network: n})
				if v.Outcome == verdict.Fail || v.Outcome == verdict.Pass && (c.expression != "true" || c.required) {
					t.Errorf("without the registry: got %+v", v)
				}
				if v.Outcome == verdict.Unknown && c.expression != "true" && !strings.Contains(v.Findings[0].Message, "spec.network.registries") {
					t.Errorf("without the registry: got %q", v.Findings[0].Message)
				}
			}
			if got := r.Requests.Load(); got != before {
				t.Errorf("a registry that is not allowed is asked %d times", got-before)
			}
		})
	}
}

// TestTags holds what becomes of images that are given by tag: as at admission,
// they count as the digests that they mean.
func TestTags(t *testing.T) {
	key, public := registry.Key(t, "ecdsa")
	for _, test := range []struct {
		name, configurations, glob, expression, images string
		named                                          bool // the image is given by digest
		allowed, denied                                verdict.Outcome
		words                                          string // where it is allowed
	}{
		{name: "by default", configurations: "{}", allowed: verdict.Pass, denied: verdict.Unknown},
		{name: "pinned", configurations: "{verifyDigest: true, mutateDigest: true}", allowed: verdict.Pass, denied: verdict.Unknown},
		{name: "not pinned", configurations: "{mutateDigest: false}", allowed: verdict.Fail, denied: verdict.Fail, words: "does not have a digest"},
		{name: "neither", configurations: "{mutateDigest: false, verifyDigest: false}", allowed: verdict.Pass, denied: verdict.Unknown},
		{name: "by digest", configurations: "{mutateDigest: false}", named: true, allowed: verdict.Pass, denied: verdict.Unknown},
		{name: "the tag is selected", configurations: "{}", glob: "HOST/shop/web:1", allowed: verdict.Pass, denied: verdict.Unknown},
		{name: "no image is selected", configurations: "{}", glob: "example.com/*", allowed: verdict.Pass, denied: verdict.Pass},
		{name: "not signed", configurations: "{}", expression: `images.containers.map(i, verifyImageSignatures(i, [attestors.other])).all(n, n > 0)`, allowed: verdict.Fail, denied: verdict.Unknown, words: "requirement 1"},
		{name: "what expressions see", configurations: "{required: false}", allowed: verdict.Pass, denied: verdict.Unknown,
			expression: `images.containers.all(i, i.contains("/shop/web:1@sha256:")) && images.containers == object.spec.containers.map(c, c.image) && request.object.spec.containers == object.spec.containers`},
		{name: "images of its own", configurations: "{required: false}", expression: "true", images: `[{name: ci, expression: "[object.spec.containers[0].image.split('@')[0]]"}]`, allowed: verdict.Fail, denied: verdict.Unknown, words: "does not have a digest"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := registry.New(t)
			image, digest := r.Push("shop/web:1")
			r.Sign(image, digest, "", registry.Signing{Key: key})
			if test.named {
				image += "@" + digest
			}
			_, other := registry.Key(t, "ecdsa")
			trusted := func(name, key string) string {
				return fmt.Sprintf("{name: %s, cosign: {key: {data: %q}, ctlog: {insecureIgnoreTlog: true, insecureIgnoreSCT: true}}}", name, key)
			}
			set := load(t, fmt.Sprintf(`
apiVersion: policies.kyverno.io/v1beta1
kind: ImageValidatingPolicy
metadata: {name: images}
spec:
  validationActions: [Deny]
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}
  matchImageReferences: [{glob: %q}]
  validationConfigurations: %s
  images: %s
  attestors: [%s, %s]
  validations: [{expression: %q}]
`, strings.ReplaceAll(cmp.Or(test.glob, "HOST/*"), "HOST", r.Host), test.configurations, cmp.Or(test.images, "[]"), trusted("shop", public), trusted("other", other), cmp.Or(test.expression, signed)))
			pod := parse(t, podOf(image))[0]
			v, _ := judge(t, set, &policy.Request{Object: pod, Network: &policy.Network{Registries: []string{r.Host}}})
			if v.Outcome != test.allowed || test.words != "" && !strings.Contains(v.Findings[0].Message, test.words) {
				t.Errorf("got %+v; want %s %s", v, test.allowed, test.words)
			}
			v, _ = judge(t, set, &policy.Request{Object: pod})
			if v.Outcome != test.denied || v.Outcome == verdict.Unknown && !strings.Contains(v.Findings[0].Message, "spec.network.registries") {
				t.Errorf("without the registry: got %+v; want %s", v, test.denied)
			}
		})
	}
}

func TestNoImage(t *testing.T) {
	r := registry.New(t)
	_, public := registry.Key(t, "ecdsa")
	c := celCase{attestor: tree{"key": tree{"data": public}, "ctlog": tree{"insecureIgnoreTlog": true}}, required: true}
	set := load(t, c.policyOf(t, r.Host))
	q := func() *policy.Request {
		return &policy.Request{Object: parse(t, podOf(r.Host+"/shop/none:1"))[0], Network: &policy.Network{Registries: []string{r.Host}, Timeout: 300 * time.Millisecond}}
	}
	v, _ := judge(t, set, q())
	if v.Outcome != verdict.Unknown || !strings.Contains(v.Findings[0].Message, "there is no image") {
		t.Errorf("got %+v", v)
	}
	r.Answer(func(_ http.ResponseWriter, req *http.Request) bool { <-req.Context().Done(); return true })
	start := time.Now()
	if v, _ = judge(t, set, q()); v.Outcome != verdict.Unknown || time.Since(start) > 5*time.Second {
		t.Errorf("a slow registry: got %+v after %v", v, time.Since(start))
	}
}

func TestHTTP(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/list":
			w.WriteHeader(http.StatusAccepted)
			_, _ = io.WriteString(w, "[1]")
		case "/text":
			_, _ = io.WriteString(w, "no JSON")
		default:
			_, _ = fmt.Fprintf(w, `{"method": %q, "team": %q, "sent": %q}`, r.Method, r.Header.Get("X-Team"), body)
		}
	}))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	for _, test := range []struct{ expression, want string }{
		{`http.Get("URL/a", {"X-Team": "shop"}).team == "shop"`, "pass"},
		{`http.Get("URL/a").method == "GET" && http.Get("URL/a").statusCode == 200`, "pass"},
		{`http.Get("URL/a").method == "POST"`, "fail"},
		{`http.Post("URL/a", {"a": 1}).sent == "{\"a\":1}\n"`, "pass"},
		{`http.Get("URL/list").body == [1] && http.Get("URL/list").statusCode == 202`, "pass"},
		{`http.Get("URL/text").body == null`, "pass"},
		{`http.Get("http://example.com/?token=sesame").a == 1`, "unknown"},
		{`http.Get("ftp://example.com").a == 1`, "unknown"},
	} {
		set := load(t, fmt.Sprintf(`
apiVersion: policies.kyverno.io/v1
kind: ValidatingPolicy
metadata: {name: calls}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}]}
  validations: [{expression: %q}]
`, strings.ReplaceAll(test.expression, "URL", s.URL)))
		pod := parse(t, podOf("a"))[0]
		v, _ := judge(t, set, &policy.Request{Object: pod, Network: &policy.Network{Hosts: []string{host}}})
		if string(v.Outcome) != test.want {
			t.Errorf("%s: got %+v; want %s", test.expression, v, test.want)
		}
		if v.Outcome == verdict.Unknown && strings.Contains(v.Findings[0].Message, "sesame") {
			t.Errorf("an address is shown: %s", v.Findings[0].Message)
		}
		if v, _ := judge(t, set, &policy.Request{Object: pod}); v.Outcome != verdict.Unknown || !strings.Contains(test.expression, "ftp") && !strings.Contains(v.Findings[0].Message, "spec.network.hosts") {
			t.Errorf("%s: without a network: got %+v", test.expression, v)
		}
	}
}
