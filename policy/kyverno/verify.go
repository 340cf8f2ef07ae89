// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/answers"
	"sconce.dev/sconce/policy/kyverno/jmes"
	"sconce.dev/sconce/policy/kyverno/pattern"
	"sconce.dev/sconce/policy/registry"
)

// asked is what one attestor asks of an image.
type asked struct {
	place       registry.Place
	trust       registry.Trust
	who         keylessAttestor
	annotations map[string]string
	// kind is that of the attestation; empty for a signature.
	kind   string
	bundle bool
}

// ask returns what an attestor asks.
func (s *scope) ask(c *imageCheck, a *attestor, image string, of *attestation) (*asked, error) {
	out := &asked{
		place:       registry.Place{Lookup: registry.Lookup{Image: image, Fresh: !isOn(c.UseCache)}, Repository: c.Repository, OCI11: c.CosignOCI11},
		trust:       registry.Trust{Hash: a.SignatureAlgorithm, Roots: c.Roots},
		annotations: c.Annotations, bundle: c.Type == "SigstoreBundle",
	}
	if of != nil {
		out.kind, out.trust.NoTimestamp = of.kind(), true
	}
	if a.Repository != "" {
		out.place.Repository = a.Repository
	}
	if a.Annotations != nil {
		out.annotations = a.Annotations
	}
	var err error
	switch {
	case c.Type == "Notary":
		return nil, answers.Unknown("signatures of Notary are not verified; those of cosign and of Sigstore are")
	case a.Attestor != nil:
		return nil, answers.Unknown("attestors inside an attestor of an attestation are not looked at by Kyverno (1.19): write them beside each other")
	case a.Keys != nil:
		out.trust.Hash = a.Keys.SignatureAlgorithm
		out.logs(a.Keys.Rekor, a.Keys.CTLog)
		out.trust.Key, err = s.publicKey(a.Keys)
	case a.Certificates != nil:
		out.logs(a.Certificates.Rekor, a.Certificates.CTLog)
		err = out.certificates(a.Certificates)
	case a.Keyless != nil:
		out.logs(a.Keyless.Rekor, a.Keyless.CTLog)
		out.who, out.trust.Roots = *a.Keyless, a.Keyless.Roots
	}
	if err == nil && out.bundle {
		err = out.unlooked(a)
	}
	return out, err
}

// kind is what an attestation states.
func (a *attestation) kind() string {
	if a.Type == "" {
		return a.PredicateType
	}
	return a.Type
}

// logs takes over what is said of logs.
func (q *asked) logs(r *rekorLog, c *ctLog) {
	q.trust.NoTimestamp = false
	if r != nil {
		q.trust.NoLog, q.trust.LogKey = r.IgnoreTlog, r.PublicKey
	}
	if c != nil {
		q.trust.NoTimestamp, q.trust.CertificateLogKey, q.trust.Timestamps = c.IgnoreSCT, c.PublicKey, c.TSAChain
	}
}

// certificates takes over certificates.
func (q *asked) certificates(c *certificateAttestor) error {
	switch {
	case c.Certificate != "" && c.Chain != "":
		return errors.New("a certificate with its chain is not accepted by Kyverno (1.19): it wants the certificate to be in a log of certificates, whatever ctlog says, and has not read the keys of the log by then; write cert without certChain, or certChain alone")
	case c.Certificate != "":
		q.trust.Certificate = c.Certificate
	default:
		q.trust.Roots = c.Chain
	}
	return nil
}

// unlooked is what Kyverno does not look at in bundles of Sigstore.
func (q *asked) unlooked(a *attestor) error {
	var fields []string
	for _, f := range []struct {
		set  bool
		name string
	}{
		{len(q.annotations) > 0, "annotations"}, {q.trust.LogKey != "", "rekor.pubkey"}, {q.trust.CertificateLogKey != "", "ctlog.pubkey"},
		{q.trust.Timestamps != "", "ctlog.tsaCertChain"}, {q.who.Roots != "", "keyless.roots"}, {len(q.who.Extensions) > 0, "keyless.additionalExtensions"},
		{a.Certificates != nil, "certificates"}, {q.trust.Roots != "" && a.Keyless == nil, "roots"},
	} {
		if f.set {
			fields = append(fields, f.name)
		}
	}
	if len(fields) > 0 {
		return answers.Unknown("with type SigstoreBundle Kyverno (1.19) does not look at %s", strings.Join(fields, ", "))
	}
	q.place.Repository = "" // nor at another repository: bundles are beside the image
	return nil
}

const beginKey = "-----BEGIN PUBLIC KEY-----"

// publicKey returns the key of an attestor, as PEM. It may stand in a Secret.
func (s *scope) publicKey(k *keyAttestor) (string, error) {
	switch {
	case strings.HasPrefix(strings.TrimSpace(k.PublicKeys), beginKey):
		return k.PublicKeys, nil
	case strings.HasPrefix(k.PublicKeys, "k8s://"):
		namespace, name, _ := strings.Cut(strings.TrimPrefix(k.PublicKeys, "k8s://"), "/")
		return s.keySecret(namespace, name)
	case k.PublicKeys != "":
		return "", answers.Unknown("the public key stands in a file, at an address or in a key management service, which are not asked: write it as PEM")
	case k.Secret != nil:
		return s.keySecret(k.Secret.Namespace, k.Secret.Name)
	}
	return "", answers.Unknown("the public key stands in a key management service, which is not asked: write it as PEM")
}

// keySecret looks a key up in a Secret, as cosign keeps it there.
func (s *scope) keySecret(namespace, name string) (string, error) {
	if c := s.e.request.Cluster; c != nil {
		objects, all := c.Objects(object.GroupKind{Kind: "Secret"}, namespace)
		for _, o := range objects {
			if o.Name != name || o.Namespace != namespace {
				continue
			}
			key, err := base64.StdEncoding.DecodeString(o.Root.At("data", "cosign.pub").Str())
			if err != nil || !strings.HasPrefix(strings.TrimSpace(string(key)), beginKey) {
				return "", answers.Unknown("the Secret %s/%s has no public key as cosign.pub that is known", namespace, name)
			}
			return string(key), nil
		}
		if all && s.e.subject.strict {
			return "", &registry.RefusedError{What: fmt.Sprintf("there is no Secret %s/%s, which holds the public key", namespace, name)}
		}
	}
	return "", answers.Unknown("the public key stands in the Secret %s/%s, which is not known", namespace, name)
}

// signature verifies that an attestor has signed an image, and returns the image's
// digest.
func (s *scope) signature(q *asked) (string, error) {
	client := registry.Of(s.e.request.Network)
	if q.bundle {
		out, err := client.Bundles(s.e.ctx, q.place, q.bundleTrust())
		if err != nil {
			return "", err
		}
		return out.Digest, nil
	}
	out, err := client.Signatures(s.e.ctx, q.place, q.trust)
	if err != nil {
		return "", err
	}
	var why error
	for i := range out.Signatures {
		sig := &out.Signatures[i]
		err := q.by(sig.Certificate)
		if err == nil {
			err = q.annotated(sig.Payload)
		}
		if err == nil {
			return out.Digest, nil
		}
		why = cmpErr(why, err)
	}
	return "", why
}

// bundleTrust is what an attestor asks of bundles of Sigstore.
func (q *asked) bundleTrust() registry.BundleTrust {
	t := registry.BundleTrust{Trust: q.trust, PredicateType: q.kind}
	t.Observed = registry.Observed{Log: !q.trust.NoLog, Any: !q.trust.NoTimestamp}
	if q.trust.NoLog && q.trust.NoTimestamp {
		t.Observed.None, t.Observed.Now = q.trust.Key != "", q.trust.Key == ""
	}
	if (q.who.Issuer != "" || q.who.IssuerRegExp != "") && (q.who.Subject != "" || q.who.SubjectRegExp != "") {
		t.Identity = registry.Identity{Issuer: q.who.Issuer, IssuerRegexp: q.who.IssuerRegExp, Subject: q.who.Subject, SubjectRegexp: q.who.SubjectRegExp}
	}
	return t
}

// annotated says why a signed document does not have the annotations.
func (q *asked) annotated(payload []byte) error {
	if len(q.annotations) == 0 {
		return nil
	}
	p, err := registry.ParsePayload(payload)
	if err != nil {
		return err
	}
	for _, key := range sortedKeys(q.annotations) {
		if p.Annotations[key] != q.annotations[key] {
			return fmt.Errorf("the signature does not have the annotation %s: %s", key, q.annotations[key])
		}
	}
	return nil
}

// by says why a certificate is not that of who must have signed.
func (q *asked) by(c *x509.Certificate) error {
	w := &q.who
	if w.Issuer == "" && w.IssuerRegExp == "" && w.Subject == "" && w.SubjectRegExp == "" && len(w.Extensions) == 0 {
		return nil
	}
	if c == nil {
		return errors.New("the signature has no certificate")
	}
	if err := w.subject(c); err != nil {
		return err
	}
	issuer := registry.Issuer(c)
	if w.Issuer != "" && !pattern.Wildcard(w.Issuer, issuer) {
		return fmt.Errorf("the issuer is %q; want %q", issuer, w.Issuer)
	}
	if ok, err := found(w.IssuerRegExp, issuer); err != nil || !ok {
		return cmpErr(err, fmt.Errorf("the issuer is %q; want what %q matches", issuer, w.IssuerRegExp))
	}
	for _, key := range sortedKeys(w.Extensions) {
		id := extensions[key]
		if id == "" && slices.Contains(slices.Collect(maps.Values(extensions)), key) {
			id = key
		}
		if id == "" {
			return fmt.Errorf("the extension %q of certificates is not known", key)
		}
		if got := registry.Extension(c, id); !pattern.Wildcard(w.Extensions[key], got) {
			return fmt.Errorf("the extension %s is %q; want %q", key, got, w.Extensions[key])
		}
	}
	return nil
}

// subject says why a certificate is not for the subject: one of its names must be
// it, or match.
func (k *keylessAttestor) subject(c *x509.Certificate) error {
	if k.Subject == "" && k.SubjectRegExp == "" {
		return nil
	}
	names := registry.Subjects(c)
	for _, name := range names {
		if k.Subject != "" && pattern.Wildcard(k.Subject, name) {
			return nil
		}
		if k.SubjectRegExp == "" {
			continue
		}
		if ok, err := found(k.SubjectRegExp, name); ok || err != nil {
			return err
		}
	}
	want := k.Subject
	if want == "" {
		want = k.SubjectRegExp
	}
	return fmt.Errorf("the subject is %q; want %q", strings.Join(names, ", "), want)
}

// found says whether an expression matches somewhere; none matches everything.
func found(expression, text string) (bool, error) {
	if expression == "" {
		return true, nil
	}
	re, err := regexp.Compile(expression)
	if err != nil {
		return false, fmt.Errorf("the expression %q cannot be read", expression)
	}
	return re.MatchString(text), nil
}

// extensions are those of Fulcio's certificates that a policy can ask for:
// https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
var extensions = map[string]string{
	"oidcIssuer":               "1.3.6.1.4.1.57264.1.1",
	"githubWorkflowTrigger":    "1.3.6.1.4.1.57264.1.2",
	"githubWorkflowSha":        "1.3.6.1.4.1.57264.1.3",
	"githubWorkflowName":       "1.3.6.1.4.1.57264.1.4",
	"githubWorkflowRepository": "1.3.6.1.4.1.57264.1.5",
	"githubWorkflowRef":        "1.3.6.1.4.1.57264.1.6",
}

// statements returns what an attestor attests of an image: the statements of the
// kind that is asked for, and the image's digest.
func (s *scope) statements(q *asked) ([]map[string]any, string, error) {
	client := registry.Of(s.e.request.Network)
	var out *registry.Verified
	var err error
	if q.bundle {
		out, err = client.Bundles(s.e.ctx, q.place, q.bundleTrust())
	} else {
		out, err = client.Attestations(s.e.ctx, q.place, q.trust)
	}
	if err != nil {
		return nil, "", err
	}
	var statements []map[string]any
	for i := range out.Signatures {
		sig := &out.Signatures[i]
		var statement map[string]any
		if err := json.Unmarshal(sig.Payload, &statement); err != nil {
			return nil, "", fmt.Errorf("a statement cannot be read: %w", err)
		}
		if statement["predicateType"] != q.kind {
			continue
		}
		if !q.bundle {
			if err := q.by(sig.Certificate); err != nil {
				return nil, "", err
			}
		}
		statements = append(statements, statement)
	}
	switch {
	case len(statements) == 0:
		return nil, "", fmt.Errorf("no attestation that holds states a %q", q.kind)
	case len(q.annotations) > 0:
		return nil, "", errors.New("attestations have no annotations as signatures have")
	}
	return statements, out.Digest, nil
}

// attested verifies that an attestor attests of an image what is asked.
func (s *scope) attested(a *attestation, q *asked) (string, error) {
	statements, digest, err := s.statements(q)
	if err != nil {
		return "", err
	}
	for i, statement := range statements {
		predicate, ok := statement["predicate"].(map[string]any)
		if !ok {
			return "", fmt.Errorf("what the attestation %q states is no map", q.kind)
		}
		if i == 0 && a.Name != "" {
			s.own()[a.Name] = predicate
		}
		if a.Conditions == nil {
			continue
		}
		inner := s.inner()
		root := inner.own()
		for key, value := range predicate {
			root[key] = merged(root[key], value)
		}
		holds, message, err := jmes.Conditions(a.Conditions, inner)
		switch {
		case err != nil:
			return "", fmt.Errorf("evaluating the conditions of the attestation %q: %w", q.kind, err)
		case !holds:
			return "", errors.New(joined(fmt.Sprintf("the conditions of the attestation %q do not hold", q.kind), message))
		}
	}
	return digest, nil
}

// count verifies that so many of some attestors have signed. What is not known of
// one is needed only where the others do not suffice.
func count(required, entries int, verify func(i int) (string, error)) (digest string, err error) {
	verified, undecided := 0, 0
	var why []string
	var unknown error
	for i := range entries {
		d, err := verify(i)
		if err == nil {
			if verified++; verified >= required {
				return d, nil
			}
			continue
		}
		if isUnasked(err) {
			undecided, unknown = undecided+1, cmpErr(unknown, err)
		}
		why = append(why, fmt.Sprintf("entries[%d]: %v", i, err))
	}
	if verified+undecided >= required && unknown != nil {
		return "", unknown
	}
	return "", fmt.Errorf("%d of %d attestors have signed, and %d must: %s", verified, entries, required, strings.Join(why, "; "))
}

// isUnasked says whether an error is that something could not be found out.
func isUnasked(err error) bool {
	var unknown *answers.UnknownError
	return errors.As(err, &unknown) || isUnknown(err)
}

// attestors verifies that a set of attestors has signed an image.
func (s *scope) attestors(c *imageCheck, set *attestorSet, image string) (string, error) {
	set = set.expanded()
	return count(set.required(), len(set.Entries), func(i int) (string, error) {
		a := &set.Entries[i]
		if a.Attestor != nil {
			return s.attestors(c, a.Attestor, image)
		}
		q, err := s.ask(c, a, image, nil)
		if err != nil {
			return "", err
		}
		return s.signature(q)
	})
}

// attestations verifies that all is attested of an image that must be.
func (s *scope) attestations(c *imageCheck, image string) (digest string, err error) {
	for i := range c.Attestations {
		a := &c.Attestations[i]
		if a.kind() == "" {
			return "", fmt.Errorf("attestations[%d] has no type", i)
		}
		sets := a.Attestors
		if len(sets) == 0 {
			sets = []attestorSet{{Entries: []attestor{{}}}}
		}
		for j := range sets {
			set := &sets[j]
			digest, err = count(set.required(), len(set.Entries), func(n int) (string, error) {
				q, err := s.ask(c, &set.Entries[n], image, a)
				if err != nil {
					return "", err
				}
				return s.attested(a, q)
			})
			if err != nil {
				return "", fmt.Errorf("attestations[%d]: %w", i, err)
			}
		}
	}
	return digest, nil
}
