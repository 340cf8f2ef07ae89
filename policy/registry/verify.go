// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"

	"sconce.dev/sconce/policy/answers"
)

// typeStatement is the type of what attestations sign.
const typeStatement = "application/vnd.in-toto+json"

// one verifies one signature, or attestation, of an image: that whoever is trusted
// has signed it, that it is about the image, and that it was signed while its
// certificate was valid.
func (v *verifier) one(digest string, l layer, attested bool) (*Signature, error) {
	certificate, between, err := certificatesIn(l)
	if err != nil {
		return nil, err
	}
	key, chain := v.key, []*x509.Certificate(nil)
	if key == nil {
		if key, chain, err = v.signer(certificate, between); err != nil {
			return nil, err
		}
	}
	out := &Signature{Payload: l.data, Certificate: certificate, Annotations: l.Annotations}
	signed := l.data // what times and logs are about
	if attested {
		out.Payload, err = statementIn(key, l.data, digest)
	} else {
		signed, err = simple(key, l, digest)
	}
	if err != nil {
		return nil, err
	}
	return out, v.when(out, l, signed, chain)
}

// certificatesIn reads the certificate of a signature, and those between it and its
// root.
func certificatesIn(l layer) (own *x509.Certificate, between []*x509.Certificate, err error) {
	if text := l.Annotations[annotationCertificate]; text != "" {
		all, err := certificatesOf(text)
		if err != nil {
			return nil, nil, refused("its certificate cannot be read: %v", err)
		}
		own = all[0]
		// Go knows not all names that a certificate may be for; what they are is not
		// what is trusted here.
		own.UnhandledCriticalExtensions = slices.DeleteFunc(own.UnhandledCriticalExtensions, func(id asn1.ObjectIdentifier) bool { return id.Equal(cryptoutils.SANOID) })
	}
	if text := l.Annotations[annotationChain]; text != "" {
		all, err := certificatesOf(text)
		if err != nil {
			return nil, nil, refused("its chain of certificates cannot be read: %v", err)
		}
		between = all[:len(all)-1]
	}
	return own, between, nil
}

// signer returns the key of a certificate that is trusted.
func (v *verifier) signer(c *x509.Certificate, between []*x509.Certificate) (signature.Verifier, []*x509.Certificate, error) {
	if c == nil {
		return nil, nil, refused("it has no certificate")
	}
	chains, err := v.authority(c, between)
	if err != nil {
		return nil, nil, err
	}
	if err := v.logged(chains); err != nil {
		return nil, nil, err
	}
	key, err := signature.LoadVerifier(c.PublicKey, hashes[""])
	if err != nil {
		return nil, nil, refused("the key of its certificate cannot be used: %v", err)
	}
	return key, chains[0][1:], nil
}

// simple verifies a signature of a simple-signing document, and returns it.
func simple(key signature.Verifier, l layer, digest string) ([]byte, error) {
	sig, err := base64.StdEncoding.DecodeString(l.Annotations[annotationSignature])
	if err != nil || len(sig) == 0 {
		return nil, refused("it cannot be read")
	}
	if err := key.VerifySignature(bytes.NewReader(sig), bytes.NewReader(l.data)); err != nil {
		return nil, refused("it is by another key, or of another payload")
	}
	payload, err := ParsePayload(l.data)
	if err != nil {
		return nil, refused("%v", err)
	}
	if payload.Digest != digest {
		return nil, refused("it is of %q", payload.Digest)
	}
	return sig, nil
}

// statement is what an attestation signs:
// https://github.com/in-toto/attestation/tree/main/spec
type statement struct {
	PredicateType string `json:"predicateType"`
	Subject       []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
}

// statementIn verifies an envelope, and returns the statement about the image that
// is in it.
func statementIn(key signature.Verifier, envelope []byte, digest string) ([]byte, error) {
	var in struct {
		Type string `json:"payloadType"`
	}
	if err := json.Unmarshal(envelope, &in); err != nil {
		return nil, refused("its envelope cannot be read: %v", err)
	}
	if in.Type != typeStatement {
		return nil, refused("it holds a %q; want a %q", in.Type, typeStatement)
	}
	var payload []byte
	if err := dsse.WrapVerifier(key, dsse.WithDecodedPayload(&payload)).VerifySignature(bytes.NewReader(envelope), nil); err != nil {
		return nil, refused("it is by another key, or of another payload")
	}
	return payload, about(payload, digest)
}

// about says why a statement is not about an image.
func about(payload []byte, digest string) error {
	var s statement
	if err := json.Unmarshal(payload, &s); err != nil {
		return refused("its statement cannot be read: %v", err)
	}
	for _, subject := range s.Subject {
		if "sha256:"+subject.Digest["sha256"] == digest {
			return nil
		}
	}
	return refused("it is about none of the image's digest")
}

// Issuer is who vouches for the subject of a certificate of Fulcio.
func Issuer(c *x509.Certificate) string { return Extension(c, "1.3.6.1.4.1.57264.1.1") }

// Extension is the value of an extension of a certificate.
func Extension(c *x509.Certificate, id string) string {
	for _, e := range c.Extensions {
		if e.Id.String() == id {
			return string(e.Value)
		}
	}
	return ""
}

// Subjects are the names that a certificate is for.
func Subjects(c *x509.Certificate) []string { return cryptoutils.GetSubjectAlternateNames(c) }

// when verifies when a signature was made, and that its certificate was valid then.
func (v *verifier) when(out *Signature, l layer, signed []byte, chain []*x509.Certificate) error {
	var times []time.Time
	if len(v.times) > 0 {
		at, err := v.timestamp(l.Annotations[annotationTimestamp], signed)
		if err != nil {
			return err
		}
		if !at.IsZero() {
			times = append(times, at)
		}
	}
	if !v.trust.NoLog {
		at, err := v.entry(out, l, signed)
		if err != nil {
			return err
		}
		out.Logged = true
		times = append(times, at)
	}
	if out.Certificate == nil {
		return nil
	}
	if len(times) == 0 {
		times = append(times, v.now)
	}
	for _, at := range times {
		for _, c := range append([]*x509.Certificate{out.Certificate}, chain...) {
			if at.Before(c.NotBefore) || at.After(c.NotAfter) {
				return refused("its certificate, or one above, is valid from %s to %s, and not at %s", stamp(c.NotBefore), stamp(c.NotAfter), stamp(at))
			}
		}
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// timestamp returns the time that an authority signed; none where there is none.
func (v *verifier) timestamp(text string, signed []byte) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	var in struct{ SignedRFC3161Timestamp []byte }
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		return time.Time{}, refused("its timestamp cannot be read: %v", err)
	}
	for _, a := range v.times {
		if at, err := a.Verify(in.SignedRFC3161Timestamp, signed); err == nil {
			return at.Time, nil
		}
	}
	return time.Time{}, refused("its timestamp is by no authority that is trusted")
}

// logEntry is what cosign keeps of an entry of a transparency log.
type logEntry struct {
	SignedEntryTimestamp []byte
	Payload              struct {
		Body           string `json:"body"`
		IntegratedTime int64  `json:"integratedTime"`
		LogID          string `json:"logID"`
		LogIndex       int64  `json:"logIndex"`
	}
}

// entry verifies the entry of a signature in a transparency log, and returns when
// it was made.
func (v *verifier) entry(s *Signature, l layer, signed []byte) (time.Time, error) {
	text := l.Annotations[annotationBundle]
	if text == "" && v.trust.Offline {
		return time.Time{}, refused("it carries no entry of a transparency log")
	}
	if text == "" {
		return time.Time{}, answers.Unknown("a signature holds, and carries no entry of a transparency log; the log itself is not asked: sign with one, or set rekor.ignoreTlog in the policy")
	}
	var e logEntry
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		return time.Time{}, refused("its entry of a transparency log cannot be read: %v", err)
	}
	key, log, err := v.log(e.Payload.LogID)
	if err != nil {
		return time.Time{}, err
	}
	// What the log signs are the fields in the order of their names, without space.
	canonical, err := json.Marshal(e.Payload)
	if err != nil {
		return time.Time{}, refused("its entry of a transparency log cannot be read: %v", err)
	}
	sum := sha256.Sum256(canonical)
	if !ecdsa.VerifyASN1(key, sum[:], e.SignedEntryTimestamp) {
		return time.Time{}, refused("its entry of a transparency log is not signed by the log")
	}
	at := time.Unix(e.Payload.IntegratedTime, 0)
	if !log.ValidityPeriodStart.IsZero() && at.Before(log.ValidityPeriodStart) || !log.ValidityPeriodEnd.IsZero() && at.After(log.ValidityPeriodEnd) {
		return time.Time{}, refused("its entry of a transparency log is of a time at which the key of the log is not valid")
	}
	return at, v.same(s, l, e.Payload.Body, signed)
}

// same says why an entry of a transparency log is not that of a signature.
func (v *verifier) same(s *Signature, l layer, body string, signed []byte) error {
	entry, err := parseEntry(body)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(l.data)
	if entry.algorithm != "sha256" || entry.hash != hex.EncodeToString(sum[:]) {
		return refused("its entry of a transparency log is of another payload")
	}
	if l.Annotations[annotationSignature] != "" && len(entry.signature) > 0 && !bytes.Equal(entry.signature, signed) {
		return refused("its entry of a transparency log is of another signature")
	}
	block, rest := pem.Decode(entry.key)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return refused("the key in its entry of a transparency log cannot be read")
	}
	der, err := v.der(s.Certificate)
	if err != nil {
		return err
	}
	if !bytes.Equal(block.Bytes, der) {
		return refused("its entry of a transparency log is of another key")
	}
	return nil
}

// der is what a transparency log has of who signed: the certificate, or else the
// key.
func (v *verifier) der(c *x509.Certificate) ([]byte, error) {
	if v.key == nil {
		return c.Raw, nil
	}
	key, err := v.key.PublicKey()
	if err != nil {
		return nil, refused("the public key cannot be used: %v", err)
	}
	if c == nil {
		return x509.MarshalPKIXPublicKey(key)
	}
	if err := cryptoutils.EqualKeys(c.PublicKey, key); err != nil {
		return nil, refused("its certificate is of another key")
	}
	return c.Raw, nil
}

// loggedEntry is what the entry of a transparency log is of.
type loggedEntry struct {
	algorithm, hash string
	signature, key  []byte
}

type hashValue struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"value"`
}

// parseEntry reads the body of an entry, of the kinds that cosign makes:
// https://github.com/sigstore/rekor/tree/main/pkg/types
func parseEntry(body string) (*loggedEntry, error) {
	text, err := base64.StdEncoding.DecodeString(body)
	if err != nil {
		return nil, refused("its entry of a transparency log cannot be read: %v", err)
	}
	var in struct {
		Kind    string `json:"kind"`
		Version string `json:"apiVersion"`
		Spec    struct {
			Data struct {
				Hash hashValue `json:"hash"`
			} `json:"data"`
			Signature struct {
				Content   []byte `json:"content"`
				PublicKey struct {
					Content []byte `json:"content"`
				} `json:"publicKey"`
			} `json:"signature"`
			EnvelopeHash hashValue `json:"envelopeHash"`
			Signatures   []struct {
				Verifier []byte `json:"verifier"`
			} `json:"signatures"`
			Content struct {
				Hash     hashValue `json:"hash"`
				Envelope struct {
					Signatures []struct {
						PublicKey []byte `json:"publicKey"`
					} `json:"signatures"`
				} `json:"envelope"`
			} `json:"content"`
			PublicKey json.RawMessage `json:"publicKey"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, refused("its entry of a transparency log cannot be read: %v", err)
	}
	s := &in.Spec
	switch in.Kind + "/" + in.Version {
	case "hashedrekord/0.0.1", "rekord/0.0.1":
		return &loggedEntry{s.Data.Hash.Algorithm, s.Data.Hash.Value, s.Signature.Content, s.Signature.PublicKey.Content}, nil
	case "dsse/0.0.1":
		if len(s.Signatures) == 1 {
			return &loggedEntry{s.EnvelopeHash.Algorithm, s.EnvelopeHash.Value, nil, s.Signatures[0].Verifier}, nil
		}
	case "intoto/0.0.1":
		var key []byte
		if err := json.Unmarshal(s.PublicKey, &key); err == nil {
			return &loggedEntry{s.Content.Hash.Algorithm, s.Content.Hash.Value, nil, key}, nil
		}
	case "intoto/0.0.2":
		if len(s.Content.Envelope.Signatures) == 1 {
			return &loggedEntry{s.Content.Hash.Algorithm, s.Content.Hash.Value, nil, s.Content.Envelope.Signatures[0].PublicKey}, nil
		}
	default:
		return nil, answers.Unknown("an entry of a transparency log is a %s, which is not read", strings.TrimSpace(fmt.Sprintf("%.60q", in.Kind+" "+in.Version)))
	}
	return nil, refused("its entry of a transparency log cannot be read: it has not one signature")
}
