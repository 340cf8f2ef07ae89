// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy"
	"sconce.dev/sconce/test/registry"
	"sconce.dev/sconce/verdict"
)

const (
	someone = "release@shop.example"
	issuer  = "https://accounts.shop.example"
	built   = "https://example.com/built/v1"
	scanned = "https://example.com/scanned/v1"
)

// imageCase is a check of images, and an image.
type imageCase struct {
	name string
	// check is the entry of verifyImages, without imageReferences, as JSON.
	check map[string]any
	// sign signs the image.
	sign func(w *signing)
	// digest refers to the image by it.
	digest bool
	root   []byte // the network's
	want   verdict.Outcome
	words  string // of the finding
}

// signing signs the image of a case.
type signing struct {
	*registry.Registry
	ref, digest string
}

func (w *signing) sign(s registry.Signing) { w.Sign(w.ref, w.digest, "", s) }

func (w *signing) attest(kind string, predicate any, s registry.Signing) {
	w.Attest(w.ref, w.digest, registry.Statement(w.digest, kind, predicate), s)
}

func (w *signing) bundle(predicate any, s registry.Signing) {
	w.Bundle(w.ref, w.digest, registry.Statement(w.digest, built, predicate), s)
}

// Short names for what checks are made of.
type (
	tree = map[string]any
	list = []any
)

func ignoring() tree { return tree{"url": "https://rekor.example.com", "ignoreTlog": true} }

// withKey is an attestor with a key and without logs.
func withKey(public string) tree {
	return tree{"keys": tree{"publicKeys": public, "rekor": ignoring(), "ctlog": tree{"ignoreSCT": true}}}
}

// with returns a tree with other fields.
func with(t tree, fields ...any) tree {
	text, err := json.Marshal(t)
	if err != nil {
		panic(err)
	}
	var out tree
	if err := json.Unmarshal(text, &out); err != nil {
		panic(err)
	}
	for i := 0; i < len(fields); i += 2 {
		at, steps := out, strings.Split(fields[i].(string), ".")
		for _, s := range steps[:len(steps)-1] {
			next, ok := at[s].(map[string]any)
			if !ok {
				next = tree{}
				at[s] = next
			}
			at = next
		}
		at[steps[len(steps)-1]] = fields[i+1]
	}
	return out
}

func signedBy(attestors ...any) tree { return tree{"attestors": list{tree{"entries": attestors}}} }

func attestedBy(kind string, conditions any, attestors ...any) tree {
	a := tree{"type": kind, "attestors": list{tree{"entries": attestors}}}
	if conditions != nil {
		a["conditions"] = conditions
	}
	return tree{"attestations": list{a}}
}

func all(key, operator string, value any) list {
	return list{tree{"all": list{tree{"key": key, "operator": operator, "value": value}}}}
}

// imageCases are images that are signed in all ways, and checks of them.
func imageCases(t testing.TB) []imageCase {
	key, public := registry.Key(t, "ecdsa")
	edKey, edPublic := registry.Key(t, "ed25519")
	rsaKey, rsaPublic := registry.Key(t, "rsa")
	log, otherLog := registry.NewLog(t), registry.NewLog(t)
	authority, stranger := registry.NewAuthority(t), registry.NewAuthority(t)
	signed := func(k registry.Signing) func(*signing) { return func(w *signing) { w.sign(k) } }
	byKey := signed(registry.Signing{Key: key})
	keyless := func(w *signing) { w.sign(authority.Keyless(someone, issuer)) }
	one := withKey(public)
	logged := with(one, "keys.rekor", tree{"url": "https://rekor.example.com", "pubkey": log.Public})
	// who is a keyless attestor with its own roots and log.
	who := tree{"keyless": tree{
		"issuer": issuer, "subject": someone, "roots": authority.Root(), "ctlog": tree{"ignoreSCT": true},
		"rekor": tree{"url": "https://rekor.example.com", "pubkey": rekorKey(t, authority)},
	}}
	trusted := tree{"keyless": tree{"issuer": issuer, "subject": someone, "ctlog": tree{"ignoreSCT": true}, "rekor": tree{"url": "https://rekor.example.com"}}}
	attested := func(kind string, predicate any) func(*signing) {
		return func(w *signing) { w.attest(kind, predicate, registry.Signing{Key: key}) }
	}
	good := tree{"by": "shop", "tests": tree{"failed": 0}}
	bundled := with(signedBy(one), "type", "SigstoreBundle")
	keylessBundle := func(w *signing) {
		w.KeylessBundle(w.ref, w.digest, registry.Statement(w.digest, built, good), authority, someone, issuer)
	}
	return []imageCase{
		{name: "unsigned", check: signedBy(one), want: verdict.Fail, words: "there is no signature"},
		{name: "signed", check: signedBy(one), sign: byKey, want: verdict.Pass},
		{name: "signed, by digest", check: signedBy(one), sign: byKey, digest: true, want: verdict.Pass},
		{name: "ed25519", check: signedBy(withKey(edPublic)), sign: signed(registry.Signing{Key: edKey}), want: verdict.Pass},
		{name: "rsa", check: signedBy(withKey(rsaPublic)), sign: signed(registry.Signing{Key: rsaKey}), want: verdict.Pass},
		{name: "another key", check: signedBy(withKey(rsaPublic)), sign: byKey, want: verdict.Fail, words: "by another key"},
		{name: "another digest", check: signedBy(one), sign: func(w *signing) {
			w.Sign(w.ref, w.digest, "sha256:"+strings.Repeat("a", 64), registry.Signing{Key: key})
		}, want: verdict.Fail, words: "it is of \"sha256:aaaa"},
		{name: "tampered with", check: signedBy(one), sign: signed(registry.Signing{Key: key, Payload: func(p []byte) []byte {
			return []byte(strings.Replace(string(p), "cosign", "notary", 1))
		}}), want: verdict.Fail, words: "of another payload"},
		{name: "second of two signatures", check: signedBy(one), sign: func(w *signing) {
			w.sign(registry.Signing{Key: rsaKey})
			w.sign(registry.Signing{Key: key})
		}, want: verdict.Pass},
		{name: "two keys in one text, both needed", check: signedBy(withKey(public + rsaPublic)), sign: byKey, want: verdict.Fail, words: "1 of 2 attestors"},
		{name: "two keys in one text, both signed", check: signedBy(withKey(public + rsaPublic)), sign: func(w *signing) {
			w.sign(registry.Signing{Key: rsaKey})
			w.sign(registry.Signing{Key: key})
		}, want: verdict.Pass},
		{name: "one of two keys", check: tree{"attestors": list{tree{"count": 1, "entries": list{withKey(rsaPublic), one}}}}, sign: byKey, want: verdict.Pass},
		{name: "two of three keys", check: tree{"attestors": list{tree{"count": 2, "entries": list{withKey(rsaPublic), withKey(edPublic), one}}}}, sign: func(w *signing) {
			w.sign(registry.Signing{Key: key})
			w.sign(registry.Signing{Key: rsaKey})
		}, want: verdict.Pass},
		{name: "two of three keys, one signed", check: tree{"attestors": list{tree{"count": 2, "entries": list{withKey(rsaPublic), withKey(edPublic), one}}}}, sign: byKey, want: verdict.Fail, words: "1 of 3"},
		{name: "all keys", check: signedBy(one, withKey(rsaPublic)), sign: byKey, want: verdict.Fail, words: "1 of 2"},
		{name: "two sets", check: tree{"attestors": list{tree{"entries": list{one}}, tree{"entries": list{withKey(edPublic)}}}}, sign: byKey, want: verdict.Fail, words: "0 of 1"},
		{name: "nested", check: signedBy(tree{"attestor": tree{"count": 1, "entries": list{withKey(rsaPublic), one}}}), sign: byKey, want: verdict.Pass},
		{name: "nested, other", check: signedBy(tree{"attestor": tree{"entries": list{withKey(rsaPublic)}}}), sign: byKey, want: verdict.Fail, words: "0 of 1"},
		{name: "legacy key", check: tree{"key": public}, sign: byKey, want: verdict.Unknown, words: "carries no entry"},
		{name: "annotations", check: with(signedBy(one), "annotations", tree{"stage": "prod"}), sign: signed(registry.Signing{Key: key, Annotations: tree{"stage": "prod", "a": "b"}}), want: verdict.Pass},
		{name: "no annotations", check: with(signedBy(one), "annotations", tree{"stage": "prod"}), sign: byKey, want: verdict.Fail, words: "annotation stage: prod"},
		{name: "other annotations", check: with(signedBy(one), "annotations", tree{"stage": "prod"}), sign: signed(registry.Signing{Key: key, Annotations: tree{"stage": "dev"}}), want: verdict.Fail, words: "annotation stage: prod"},
		{name: "annotations of the second signature", check: with(signedBy(one), "annotations", tree{"stage": "prod"}), sign: func(w *signing) {
			w.sign(registry.Signing{Key: key, Annotations: tree{"stage": "dev"}})
			w.sign(registry.Signing{Key: key, Annotations: tree{"stage": "prod"}})
		}, want: verdict.Pass},
		{name: "annotations of the attestor", check: with(signedBy(with(one, "annotations", tree{"stage": "dev"})), "annotations", tree{"stage": "prod"}), sign: signed(registry.Signing{Key: key, Annotations: tree{"stage": "dev"}}), want: verdict.Pass},
		{name: "a number is no annotation", check: with(signedBy(one), "annotations", tree{"stage": "1"}), sign: signed(registry.Signing{Key: key, Annotations: tree{"stage": 1}}), want: verdict.Fail, words: "annotation stage: 1"},
		{name: "in the log", check: signedBy(logged), sign: signed(registry.Signing{Key: key, Log: log}), want: verdict.Pass},
		{name: "in another log", check: signedBy(logged), sign: signed(registry.Signing{Key: key, Log: otherLog}), want: verdict.Fail, words: "not trusted"},
		{name: "another key, in the log", check: signedBy(logged), sign: signed(registry.Signing{Key: rsaKey, Log: log}), want: verdict.Fail, words: "by another key"},
		{name: "oci 1.1", check: with(signedBy(one), "cosignOCI11", true), sign: signed(registry.Signing{Key: key, Referrer: true}), want: verdict.Pass},
		{name: "oci 1.1 not asked for", check: signedBy(one), sign: signed(registry.Signing{Key: key, Referrer: true}), want: verdict.Fail, words: "no signature"},
		{name: "certificate", check: signedBy(tree{"certificates": tree{"cert": publicCertificate(t, authority), "rekor": ignoring(), "ctlog": tree{"ignoreSCT": true}}}), sign: byKey, want: verdict.Fail, words: "by another key"},
		{name: "chain", check: signedBy(tree{"certificates": tree{"certChain": authority.Chain(), "rekor": tree{"url": "https://rekor.example.com", "pubkey": rekorKey(t, authority)}, "ctlog": tree{"ignoreSCT": true}}}), sign: keyless, want: verdict.Pass},
		{name: "another chain", check: signedBy(tree{"certificates": tree{"certChain": stranger.Chain(), "rekor": tree{"url": "https://rekor.example.com", "pubkey": rekorKey(t, authority)}, "ctlog": tree{"ignoreSCT": true}}}), sign: keyless, want: verdict.Fail, words: "of no authority"},
		{name: "keyless", check: signedBy(who), sign: keyless, want: verdict.Pass},
		{name: "keyless, wildcards", check: signedBy(with(who, "keyless.subject", "*@shop.example", "keyless.issuer", "https://*")), sign: keyless, want: verdict.Pass},
		{name: "keyless, regexp", check: signedBy(with(who, "keyless.subject", "", "keyless.subjectRegExp", "^release@.+$", "keyless.issuer", "", "keyless.issuerRegExp", "shop")), sign: keyless, want: verdict.Pass},
		{name: "keyless, another subject", check: signedBy(with(who, "keyless.subject", "thief@shop.example")), sign: keyless, want: verdict.Fail, words: `the subject is "release@shop.example"; want "thief@shop.example"`},
		{name: "keyless, another issuer", check: signedBy(with(who, "keyless.issuer", "https://else.example")), sign: keyless, want: verdict.Fail, words: "the issuer is"},
		{name: "keyless, another regexp", check: signedBy(with(who, "keyless.subject", "", "keyless.subjectRegExp", "^thief")), sign: keyless, want: verdict.Fail, words: "the subject is"},
		{name: "keyless, another issuer's regexp", check: signedBy(with(who, "keyless.issuer", "", "keyless.issuerRegExp", "^else")), sign: keyless, want: verdict.Fail, words: "the issuer is"},
		{name: "keyless, a regexp that is none", check: signedBy(with(who, "keyless.subject", "", "keyless.subjectRegExp", "(")), sign: keyless, want: verdict.Fail, words: "cannot be read"},
		{name: "keyless, extension", check: signedBy(with(who, "keyless.additionalExtensions", tree{"oidcIssuer": issuer})), sign: keyless, want: verdict.Pass},
		{name: "keyless, another extension", check: signedBy(with(who, "keyless.additionalExtensions", tree{"githubWorkflowRef": "refs/heads/main"})), sign: keyless, want: verdict.Fail, words: "the extension githubWorkflowRef"},
		{name: "keyless, no such extension", check: signedBy(with(who, "keyless.additionalExtensions", tree{"shoeSize": "42"})), sign: keyless, want: verdict.Fail, words: "is not known"},
		{name: "keyless, another root", check: signedBy(with(who, "keyless.roots", stranger.Root())), sign: keyless, want: verdict.Fail, words: "of no authority"},
		{name: "keyless, by a key", check: signedBy(who), sign: byKey, want: verdict.Fail, words: "no certificate"},
		{name: "keyless, expired", check: signedBy(who), sign: func(w *signing) {
			s := authority.Keyless(someone, issuer)
			s.At = time.Now().Add(time.Hour)
			w.sign(s)
		}, want: verdict.Fail, words: "is valid from"},
		{name: "keyless, trusted root", check: signedBy(trusted), sign: keyless, root: authority.TrustedRoot(), want: verdict.Pass},
		{name: "keyless, no trusted root", check: signedBy(trusted), sign: keyless, want: verdict.Unknown, words: "spec.network.trustedRoot"},
		{name: "keyless, no log of certificates", check: signedBy(with(trusted, "keyless.ctlog", tree{})), sign: keyless, root: authority.TrustedRoot(), want: verdict.Fail, words: "log of certificates"},

		{name: "attested", check: attestedBy(built, nil, one), sign: attested(built, good), want: verdict.Pass},
		{name: "not attested", check: attestedBy(built, nil, one), sign: byKey, want: verdict.Fail, words: "no attestation"},
		{name: "attested, another kind", check: attestedBy(built, nil, one), sign: attested(scanned, good), want: verdict.Fail, words: "states a"},
		{name: "attested, another key", check: attestedBy(built, nil, withKey(rsaPublic)), sign: attested(built, good), want: verdict.Fail, words: "by another key"},
		{name: "conditions", check: attestedBy(built, all("{{ by }}", "Equals", "shop"), one), sign: attested(built, good), want: verdict.Pass},
		{name: "conditions, deeper", check: attestedBy(built, all("{{ tests.failed }}", "LessThanOrEquals", 0), one), sign: attested(built, good), want: verdict.Pass},
		{name: "conditions do not hold", check: attestedBy(built, all("{{ by }}", "Equals", "thief"), one), sign: attested(built, good), want: verdict.Fail, words: "do not hold"},
		{name: "conditions of all statements", check: attestedBy(built, all("{{ by }}", "Equals", "shop"), one), sign: func(w *signing) {
			w.attest(built, good, registry.Signing{Key: key})
			w.attest(built, tree{"by": "thief"}, registry.Signing{Key: key})
		}, want: verdict.Fail, words: "do not hold"},
		{name: "statements by others do not count", check: attestedBy(built, all("{{ by }}", "Equals", "shop"), one), sign: func(w *signing) {
			w.attest(built, good, registry.Signing{Key: key})
			w.attest(built, tree{"by": "thief"}, registry.Signing{Key: rsaKey})
		}, want: verdict.Pass},
		{name: "conditions with nothing to read", check: attestedBy(built, all("{{ nobody }}", "Equals", "shop"), one), sign: attested(built, good), want: verdict.Fail, words: "evaluating the conditions"},
		{name: "a predicate that is a list", check: attestedBy(built, nil, one), sign: attested(built, list{1}), want: verdict.Fail, words: "no map"},
		{name: "signed and attested", check: with(attestedBy(built, nil, one), "attestors", list{tree{"entries": list{one}}}), sign: func(w *signing) {
			byKey(w)
			attested(built, good)(w)
		}, want: verdict.Pass},
		{name: "attested, not signed", check: with(attestedBy(built, nil, one), "attestors", list{tree{"entries": list{one}}}), sign: attested(built, good), want: verdict.Fail, words: "no signature"},
		{name: "attested, keyless", check: attestedBy(built, nil, who), sign: func(w *signing) { w.attest(built, good, authority.Keyless(someone, issuer)) }, want: verdict.Pass},
		{name: "attested, keyless, another subject", check: attestedBy(built, nil, with(who, "keyless.subject", "thief@*")), sign: func(w *signing) { w.attest(built, good, authority.Keyless(someone, issuer)) }, want: verdict.Fail, words: "the subject is"},
		{name: "attested, with annotations", check: with(attestedBy(built, nil, one), "annotations", tree{"a": "b"}), sign: attested(built, good), want: verdict.Fail, words: "no annotations"},
		{name: "old name of the type", check: tree{"attestations": list{tree{"predicateType": built, "attestors": list{tree{"entries": list{one}}}}}}, sign: attested(built, good), want: verdict.Pass},
		{name: "denied", check: with(attestedBy(built, nil, one), "attestations", list{tree{"name": "build", "type": built, "attestors": list{tree{"entries": list{one}}}}},
			"validate", tree{"message": "built by whom", "deny": tree{"conditions": tree{"any": list{tree{"key": "{{ build.by }}", "operator": "Equals", "value": "shop"}}}}}),
			sign: attested(built, good), want: verdict.Fail, words: "what is attested is denied; built by whom"},
		{name: "not denied", check: with(attestedBy(built, nil, one), "attestations", list{tree{"name": "build", "type": built, "attestors": list{tree{"entries": list{one}}}}},
			"validate", tree{"message": "built by whom", "deny": tree{"conditions": tree{"any": list{tree{"key": "{{ build.by }}", "operator": "Equals", "value": "thief"}}}}}),
			sign: attested(built, good), want: verdict.Pass},

		{name: "bundle", check: bundled, sign: func(w *signing) { w.bundle(good, registry.Signing{Key: key}) }, want: verdict.Pass},
		{name: "bundle by another key", check: bundled, sign: func(w *signing) { w.bundle(good, registry.Signing{Key: rsaKey}) }, want: verdict.Fail, words: "no bundle"},
		{name: "no bundle", check: bundled, sign: byKey, want: verdict.Fail, words: "there is no bundle"},
		{name: "bundle is not looked at", check: signedBy(one), sign: func(w *signing) { w.bundle(good, registry.Signing{Key: key}) }, want: verdict.Fail, words: "no signature"},
		{name: "bundle tampered with", check: bundled, sign: func(w *signing) {
			w.bundle(good, registry.Signing{Key: key, Payload: func(p []byte) []byte { return []byte(strings.Replace(string(p), "shop", "else", 1)) }})
		}, want: verdict.Fail, words: "no bundle"},
		{name: "bundle of another digest", check: bundled, sign: func(w *signing) {
			w.Bundle(w.ref, w.digest, registry.Statement("sha256:"+strings.Repeat("a", 64), built, good), registry.Signing{Key: key})
		}, want: verdict.Fail, words: "no bundle"},
		{name: "attested in a bundle", check: with(attestedBy(built, all("{{ by }}", "Equals", "shop"), one), "type", "SigstoreBundle"), sign: func(w *signing) { w.bundle(good, registry.Signing{Key: key}) }, want: verdict.Pass},
		{name: "attested in a bundle, conditions", check: with(attestedBy(built, all("{{ by }}", "Equals", "thief"), one), "type", "SigstoreBundle"), sign: func(w *signing) { w.bundle(good, registry.Signing{Key: key}) }, want: verdict.Fail, words: "do not hold"},
		{name: "attested in a bundle, another kind", check: with(attestedBy(scanned, nil, one), "type", "SigstoreBundle"), sign: func(w *signing) { w.bundle(good, registry.Signing{Key: key}) }, want: verdict.Fail, words: "that states a"},
		{name: "keyless bundle", check: with(signedBy(with(trusted, "keyless.ctlog", tree{})), "type", "SigstoreBundle"), sign: keylessBundle, root: authority.TrustedRoot(), want: verdict.Pass},
		{name: "keyless bundle, another subject", check: with(signedBy(with(trusted, "keyless.ctlog", tree{}, "keyless.subject", "thief")), "type", "SigstoreBundle"), sign: keylessBundle, root: authority.TrustedRoot(), want: verdict.Fail, words: "no bundle"},
		{name: "keyless bundle, no trusted root", check: with(signedBy(with(trusted, "keyless.ctlog", tree{})), "type", "SigstoreBundle"), sign: keylessBundle, want: verdict.Unknown, words: "spec.network.trustedRoot"},
		{name: "bundle with annotations", check: with(bundled, "annotations", tree{"a": "b"}), want: verdict.Unknown, words: "does not look at annotations"},

		{name: "digest required, and not added", check: with(signedBy(one), "mutateDigest", false), sign: byKey, want: verdict.Fail, words: "missing digest"},
		{name: "digest required, and there", check: with(signedBy(one), "mutateDigest", false), sign: byKey, digest: true, want: verdict.Pass},
		{name: "nothing asked, and required", check: tree{"verifyDigest": false}, want: verdict.Fail, words: "unverified image"},
		{name: "only a digest", check: tree{"required": false}, want: verdict.Pass},
		{name: "skipped", check: with(signedBy(one), "skipImageReferences", list{"*"}), want: verdict.Pass, words: "none"},
		{name: "notary", check: with(signedBy(tree{"certificates": tree{"cert": publicCertificate(t, authority)}}), "type", "Notary"), want: verdict.Unknown, words: "Notary"},
		{name: "kms", check: signedBy(tree{"keys": tree{"kms": "awskms:///alias/shop"}}), want: verdict.Unknown, words: "key management"},
		{name: "key in a file", check: signedBy(tree{"keys": tree{"publicKeys": "/etc/key.pub"}}), want: verdict.Unknown, words: "write it as PEM"},
		{name: "key in a Secret", check: signedBy(tree{"keys": tree{"secret": tree{"name": "key", "namespace": "shop"}}}), want: verdict.Unknown, words: "the Secret shop/key"},
		{name: "certificate and chain", check: signedBy(tree{"certificates": tree{"cert": publicCertificate(t, authority), "certChain": authority.Chain()}}), sign: keyless, want: verdict.Fail, words: "a certificate with its chain is not accepted"},
		{name: "one unknown beside one that suffices", check: tree{"attestors": list{tree{"count": 1, "entries": list{tree{"keys": tree{"kms": "gcpkms://a"}}, one}}}}, sign: byKey, want: verdict.Pass},
		{name: "one unknown, and the other does not hold", check: tree{"attestors": list{tree{"count": 1, "entries": list{tree{"keys": tree{"kms": "gcpkms://a"}}, one}}}}, want: verdict.Unknown, words: "key management"},
		{name: "one unknown, and both needed", check: signedBy(tree{"keys": tree{"kms": "gcpkms://a"}}, one), want: verdict.Fail, words: "no signature"},
	}
}

// rekorKey is the key of an authority's transparency log.
func rekorKey(t testing.TB, a *registry.Authority) string {
	t.Helper()
	for _, log := range a.RekorLogs() {
		der, err := x509.MarshalPKIXPublicKey(log.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		return "-----BEGIN PUBLIC KEY-----\n" + base64.StdEncoding.EncodeToString(der) + "\n-----END PUBLIC KEY-----\n"
	}
	t.Fatal("there is no log")
	return ""
}

func publicCertificate(t testing.TB, a *registry.Authority) string {
	t.Helper()
	return a.Keyless(someone, issuer).Certificate
}

// policyOf is a policy with a check of images.
func policyOf(t testing.TB, host string, check tree) string {
	t.Helper()
	check = with(check, "imageReferences", list{host + "/*"})
	out, err := json.Marshal(tree{
		"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": tree{"name": "images", "annotations": tree{"pod-policies.kyverno.io/autogen-controllers": "none"}},
		"spec": tree{"validationFailureAction": "Enforce", "rules": list{tree{
			"name": "check", "match": tree{"any": list{tree{"resources": tree{"kinds": list{"Pod"}}}}}, "verifyImages": list{check},
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func podOf(image string) string {
	return fmt.Sprintf("{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: default}, spec: {containers: [{name: app, image: %q}]}}", image)
}

// prepared pushes and signs the image of a case.
func (c *imageCase) prepared(r *registry.Registry) (image, digest string) {
	ref, digest := r.Push("shop/web:1")
	if c.sign != nil {
		c.sign(&signing{r, ref, digest})
	}
	if c.digest {
		return r.Host + "/shop/web@" + digest, digest
	}
	return ref, digest
}

func objectsOf(t testing.TB, text string) []*object.Object {
	t.Helper()
	var out []*object.Object
	for _, d := range read(t, "objects.yaml", []byte(text)) {
		out = append(out, d.Object)
	}
	return out
}

func TestVerifyImages(t *testing.T) {
	for _, c := range imageCases(t) {
		t.Run(c.name, func(t *testing.T) {
			r := registry.New(t)
			image, digest := c.prepared(r)
			set := Load(objectsOf(t, policyOf(t, r.Host, c.check)), policy.Options{})
			if len(set.Problems) > 0 || len(set.Rules) != 1 || set.Rules[0].Info().Unsupported != "" {
				t.Fatalf("problems %v, %q", set.Problems, set.Rules[0].Info().Unsupported)
			}
			q := &policy.Request{Object: objectsOf(t, podOf(image))[0], Network: &policy.Network{Registries: []string{r.Host}, TrustedRoot: c.root}}
			v, applies := set.Rules[0].Judge(t.Context(), q)
			if c.words == "none" {
				if applies {
					t.Errorf("got %+v; want that the rule does not apply", v)
				}
				return
			}
			if !applies || v.Outcome != c.want {
				t.Fatalf("got %v %+v; want %s", applies, v, c.want)
			}
			if c.want != verdict.Pass && !strings.Contains(v.Findings[0].Message, c.words) {
				t.Errorf("got %q; want %q in it", v.Findings[0].Message, c.words)
			}
			if c.want == verdict.Fail && v.Findings[0].Path.String() != "spec.containers[app].image" {
				t.Errorf("got the path %s", v.Findings[0].Path)
			}
			for _, f := range v.Findings {
				if strings.Contains(f.Message, "BEGIN") {
					t.Errorf("a key is in %q", f.Message)
				}
			}
			c.unasked(t, r, set, q)
			if c.want == verdict.Pass && !c.digest {
				policies, _, _ := Read(objectsOf(t, policyOf(t, r.Host, c.check)), policy.Options{})
				responses := policies[0].Evaluate(t.Context(), q, EvaluateOptions{})
				if spec, _ := responses[0].Changed["spec"].(map[string]any); !strings.Contains(fmt.Sprint(spec), image+"@"+digest) {
					t.Errorf("the digest is not added: %v", responses)
				}
			}
		})
	}
}

// unasked holds that nothing passes, and nothing is asked, without a network.
func (c *imageCase) unasked(t *testing.T, r *registry.Registry, set *policy.Set, q *policy.Request) {
	t.Helper()
	before := r.Requests.Load()
	for _, n := range []*policy.Network{nil, {Registries: []string{"registry.example.com"}}} {
		v, applies := set.Rules[0].Judge(t.Context(), &policy.Request{Object: q.Object, Network: n})
		if !applies || v.Outcome == verdict.Pass || v.Outcome == verdict.Fail && c.want != verdict.Fail {
			t.Errorf("without the registry: got %v %+v", applies, v)
		}
	}
	if got := r.Requests.Load(); got != before {
		t.Errorf("a registry that is not allowed is asked %d times", got-before)
	}
}

func TestVerifyImagesForm(t *testing.T) {
	_, public := registry.Key(t, "ecdsa")
	for name, test := range map[string]struct {
		check tree
		words string
	}{
		"a field that there is not": {tree{"atestors": list{}}, `unknown field "atestors"`},
		"no entries":                {tree{"attestors": list{tree{}}}, "entries is empty"},
		"too many":                  {tree{"attestors": list{tree{"count": 2, "entries": list{withKey(public)}}}}, "count is 2"},
		"two in one":                {signedBy(with(withKey(public), "keyless", tree{})), "more than one of keys"},
		"no key":                    {signedBy(tree{"keys": tree{}}), "none of publicKeys"},
		"no certificate":            {signedBy(tree{"certificates": tree{}}), "neither cert nor certChain"},
		"another type":              {tree{"type": "GPG"}, `type is "GPG"`},
		"legacy with attestations":  {tree{"key": public, "attestations": list{tree{"type": built}}}, "beside attestations"},
		"subject alone":             {tree{"subject": someone}, "without an issuer"},
		"operator":                  {attestedBy(built, all("a", "Like", "b"), withKey(public)), "Like"},
	} {
		t.Run(name, func(t *testing.T) {
			set := Load(objectsOf(t, policyOf(t, "registry.example.com", test.check)), policy.Options{})
			if got := set.Rules[0].Info().Unsupported; !strings.Contains(got, "verifyImages[0]: ") || !strings.Contains(got, test.words) {
				t.Errorf("got %q; want %q in it", got, test.words)
			}
		})
	}
}

// TestVariablesInVerifyImages holds that what varies with the object is read with
// it, and that a key may stand in a ConfigMap and in a Secret.
func TestVariablesInVerifyImages(t *testing.T) {
	r := registry.New(t)
	key, public := registry.Key(t, "ecdsa")
	ref, digest := r.Push("shop/web:1")
	r.Sign(ref, digest, "", registry.Signing{Key: key})
	text := fmt.Sprintf(`
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: images}
spec:
  rules:
    - name: variable
      match: {any: [{resources: {kinds: [Pod]}}]}
      context: [{name: keys, configMap: {name: keys, namespace: shop}}]
      verifyImages:
        - imageReferences: ["%[1]s/*"]
          attestors: [{entries: [{keys: {publicKeys: "{{ keys.data.key }}", rekor: {url: "https://a", ignoreTlog: true}}}]}]
    - name: secret
      match: {any: [{resources: {kinds: [Pod]}}]}
      verifyImages:
        - imageReferences: ["%[1]s/*"]
          attestors: [{entries: [{keys: {secret: {name: key, namespace: shop}, rekor: {url: "https://a", ignoreTlog: true}}}]}]
    - name: context
      match: {any: [{resources: {kinds: [Pod]}}]}
      context: [{name: image, imageRegistry: {reference: "{{ request.object.spec.containers[0].image }}"}}]
      validate:
        message: "runs as {{ image.configData.config.User }}"
        deny: {conditions: {all: [{key: "{{ image.configData.config.User }}", operator: Equals, value: "65532"}]}}
    - name: resolved
      match: {any: [{resources: {kinds: [Pod]}}]}
      context: [{name: image, imageRegistry: {reference: "{{ request.object.spec.containers[0].image }}", jmesPath: "resolvedImage"}}]
      validate:
        message: "{{ image }}"
        deny: {conditions: {all: [{key: "{{ image }}", operator: NotEquals, value: "%[2]s"}]}}
`, r.Host, r.Host+"/shop/web@"+digest)
	cluster := &world{objects: objectsOf(t, fmt.Sprintf("{apiVersion: v1, kind: ConfigMap, metadata: {name: keys, namespace: shop}, data: {key: %q}}\n---\n"+
		"{apiVersion: v1, kind: Secret, metadata: {name: key, namespace: shop}, data: {cosign.pub: %q}}\n", public, base64.StdEncoding.EncodeToString([]byte(public))))}
	set := Load(objectsOf(t, text), policy.Options{})
	pod := objectsOf(t, podOf(ref))[0]
	judge := func(i int, n *policy.Network, c policy.Cluster) string {
		v, _ := set.Rules[i].Judge(t.Context(), &policy.Request{Object: pod, Network: n, Cluster: c})
		out := string(v.Outcome)
		for _, f := range v.Findings {
			out += " " + f.Message
		}
		return out
	}
	n := &policy.Network{Registries: []string{r.Host}}
	for i, want := range []string{"pass", "pass", "fail runs as 65532", "pass"} {
		if got := judge(i, n, cluster); got != want {
			t.Errorf("rule %d: got %q, want %q", i, got, want)
		}
		if got := judge(i, nil, cluster); !strings.HasPrefix(got, "unknown") || !strings.Contains(got, r.Host) {
			t.Errorf("rule %d without a network: got %q", i, got)
		}
	}
	if got := judge(1, n, &world{}); !strings.HasPrefix(got, "fail") || !strings.Contains(got, "there is no Secret shop/key") {
		t.Errorf("no Secret: got %q", got)
	}
	if !slices.Contains(set.Rules[1].Info().Needs.Kinds, object.GroupKind{Kind: "Secret"}) {
		t.Error("the Secret is not said to be needed")
	}
}

// TestService holds calls to services in contexts.
func TestService(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/echo":
			_, _ = fmt.Fprintf(w, `{"method": %q, "team": %q, "sent": %s}`, r.Method, r.Header.Get("X-Team"), append(body, " null"[:5*boolInt(len(body) == 0)]...))
		case "/text":
			_, _ = io.WriteString(w, "no JSON")
		case "/who":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	judge := func(call, key string, n *policy.Network) string {
		t.Helper()
		set := Load(objectsOf(t, fmt.Sprintf(`
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: calls}
spec:
  rules:
    - name: call
      match: {any: [{resources: {kinds: [Pod]}}]}
      context: [{name: said, apiCall: %s}]
      validate:
        message: "{{ %s }}"
        deny: {conditions: {all: [{key: "{{ %s }}", operator: NotEquals, value: nothing}]}}
`, call, key, key)), policy.Options{})
		v, _ := set.Rules[0].Judge(t.Context(), &policy.Request{Object: objectsOf(t, podOf("a"))[0], Network: n})
		return string(v.Outcome) + " " + v.Findings[0].Message
	}
	n := &policy.Network{Hosts: []string{host}}
	for _, test := range []struct{ call, key, want string }{
		{`{service: {url: "URL/echo", headers: [{key: X-Team, value: "{{ request.object.metadata.name }}"}]}}`, "said.join('/', [method, team])", "fail GET/web"},
		{`{method: POST, data: [{key: name, value: "{{ request.object.metadata.name }}"}], service: {url: "URL/echo"}, jmesPath: sent.name}`, "said", "fail web"},
		{`{service: {url: "URL/none"}, default: {a: b}}`, "said.a", "fail b"},
		{`{service: {url: "URL/none"}}`, "said", "context said: the call of URL/none is answered with 404"},
		{`{service: {url: "URL/who"}}`, "said", "answers to who may ask it"},
		{`{service: {url: "URL/text?token=sesame"}}`, "said", "context said: what URL/text answers is no JSON"},
		{`{method: PUT, service: {url: "URL/echo"}}`, "said", "want GET or POST"},
		{`{service: {url: "http://example.com/a?token=sesame"}, default: {a: b}}`, "said.a", `unknown context said: what GET http://example.com/a answers (calls to "example.com" are not allowed; a baseline allows them in spec.network.hosts) is not known`},
		{`{service: {url: [1]}}`, "said", "apiCall.service: it cannot be read"},
	} {
		got := judge(strings.ReplaceAll(test.call, "URL", s.URL), test.key, n)
		if want := strings.ReplaceAll(test.want, "URL", s.URL); !strings.Contains(got, want) || strings.Contains(got, "sesame") {
			t.Errorf("%s:\n got %q\nwant %q", test.call, got, want)
		}
	}
	if got := judge(strings.ReplaceAll(`{service: {url: "URL/echo"}}`, "URL", s.URL), "said", nil); !strings.Contains(got, "unknown") || !strings.Contains(got, "spec.network.hosts") {
		t.Errorf("without a network: got %q", got)
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestSlowRegistry holds that a rule waits as long as the network allows, and no
// longer.
func TestSlowRegistry(t *testing.T) {
	r := registry.New(t)
	_, public := registry.Key(t, "ecdsa")
	set := Load(objectsOf(t, policyOf(t, r.Host, signedBy(withKey(public)))), policy.Options{Timeout: time.Millisecond})
	r.Answer(func(_ http.ResponseWriter, req *http.Request) bool { <-req.Context().Done(); return true })
	start := time.Now()
	v, _ := set.Rules[0].Judge(t.Context(), &policy.Request{
		Object: objectsOf(t, podOf(r.Host+"/shop/web:1"))[0], Network: &policy.Network{Registries: []string{r.Host}, Timeout: 300 * time.Millisecond},
	})
	if took := time.Since(start); v.Outcome != verdict.Unknown || took < 250*time.Millisecond || took > 5*time.Second {
		t.Errorf("got %+v after %v", v, took)
	}
}

// TestTimeToAsk holds that a rule that asks a registry has the network's time, and
// not that of a rule over an object.
func TestTimeToAsk(t *testing.T) {
	r := registry.New(t)
	ref, _ := r.Push("shop/web:1")
	r.Answer(func(http.ResponseWriter, *http.Request) bool { time.Sleep(20 * time.Millisecond); return false })
	set := Load(objectsOf(t, `
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: images}
spec:
  rules:
    - name: users
      match: {any: [{resources: {kinds: [Pod]}}]}
      validate:
        message: users
        foreach:
          - list: request.object.spec.containers
            context: [{name: data, imageRegistry: {reference: "{{ element.image }}"}}]
            deny: {conditions: {all: [{key: "{{ data.configData.config.User }}", operator: Equals, value: "0"}]}}
`), policy.Options{Timeout: time.Millisecond})
	v, _ := set.Rules[0].Judge(t.Context(), &policy.Request{Object: objectsOf(t, podOf(ref))[0], Network: &policy.Network{Registries: []string{r.Host}}})
	if v.Outcome != verdict.Pass {
		t.Errorf("got %+v", v)
	}
}

func BenchmarkVerifyImages(b *testing.B) {
	r := registry.New(b)
	key, public := registry.Key(b, "ecdsa")
	ref, digest := r.Push("shop/web:1")
	r.Sign(ref, digest, "", registry.Signing{Key: key})
	set := Load(objectsOf(b, policyOf(b, r.Host, signedBy(withKey(public)))), policy.Options{})
	n, pod := &policy.Network{Registries: []string{r.Host}}, objectsOf(b, podOf(ref))[0]
	b.ReportAllocs()
	for b.Loop() {
		if v, _ := set.Rules[0].Judge(b.Context(), &policy.Request{Object: pod, Network: n}); v.Outcome != verdict.Pass {
			b.Fatal(v)
		}
	}
}
