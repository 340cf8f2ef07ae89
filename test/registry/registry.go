// SPDX-License-Identifier: Apache-2.0

// Package registry stands in for a registry of images in tests: images are pushed
// to it, and signed as cosign signs them. It counts what it is asked.
package registry

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protodsse "github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/testing/ca"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"
	"google.golang.org/protobuf/encoding/protojson"
)

// Registry is one that runs on this machine while a test does.
type Registry struct {
	tb   testing.TB
	Host string
	// Requests counts what it was asked since the last push.
	Requests atomic.Int64
	// Before is called before it answers, if it is set; it may answer itself.
	Before atomic.Pointer[func(http.ResponseWriter, *http.Request) (answered bool)]
}

// New runs a registry.
func New(tb testing.TB) *Registry {
	tb.Helper()
	r := &Registry{tb: tb}
	handler := registry.New(registry.WithReferrersSupport(true), registry.Logger(log.New(io.Discard, "", 0)))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.Requests.Add(1)
		if before := r.Before.Load(); before != nil && (*before)(w, req) {
			return
		}
		handler.ServeHTTP(w, req)
	}))
	tb.Cleanup(s.Close)
	r.Host = strings.TrimPrefix(s.URL, "http://")
	return r
}

// Answer calls a function before each answer.
func (r *Registry) Answer(before func(http.ResponseWriter, *http.Request) bool) {
	r.Before.Store(&before)
}

func (r *Registry) check(err error) {
	r.tb.Helper()
	if err != nil {
		r.tb.Fatal(err)
	}
}

// Push pushes an image that nobody has pushed, and returns its reference by tag and
// its digest.
func (r *Registry) Push(path string) (ref, digest string) {
	r.tb.Helper()
	image, err := random.Image(64, 1)
	r.check(err)
	image, err = mutate.Config(image, v1.Config{User: "65532", Labels: map[string]string{"team": "shop"}})
	r.check(err)
	ref = r.Host + "/" + path
	tag, err := name.ParseReference(ref)
	r.check(err)
	r.check(remote.Write(tag, image))
	sum, err := image.Digest()
	r.check(err)
	r.Requests.Store(0)
	return ref, sum.String()
}

// Index pushes an image for two platforms.
func (r *Registry) Index(path string) (ref, digest string) {
	r.tb.Helper()
	index, err := random.Index(64, 1, 2)
	r.check(err)
	m, err := index.IndexManifest()
	r.check(err)
	for i, p := range []string{"amd64", "arm64"} {
		m.Manifests[i].Platform = &v1.Platform{OS: "linux", Architecture: p}
	}
	ref = r.Host + "/" + path
	tag, err := name.ParseReference(ref)
	r.check(err)
	r.check(remote.WriteIndex(tag, index))
	sum, err := index.Digest()
	r.check(err)
	r.Requests.Store(0)
	return ref, sum.String()
}

// Key makes a key: ecdsa, ed25519 or rsa. Public is PEM.
func Key(tb testing.TB, kind string) (key crypto.Signer, public string) {
	tb.Helper()
	var err error
	switch kind {
	case "ed25519":
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case "rsa":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		tb.Fatal(err)
	}
	text, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil {
		tb.Fatal(err)
	}
	return key, string(text)
}

// Log is a transparency log of a test.
type Log struct {
	key    *ecdsa.PrivateKey
	Public string // PEM
}

// NewLog makes one.
func NewLog(tb testing.TB) *Log {
	tb.Helper()
	key, public := Key(tb, "ecdsa")
	return &Log{key.(*ecdsa.PrivateKey), public}
}

// Signing is how an image is signed.
type Signing struct {
	Key  crypto.Signer
	Hash crypto.Hash // SHA-256 where it is zero
	// Annotations are signed with the digest.
	Annotations map[string]any
	// Certificate and Chain are attached, as PEM.
	Certificate, Chain string
	// Log gets an entry, at the time At; now where it is zero.
	Log Logs
	At  time.Time
	// Payload changes what the registry has as signed, after it is signed.
	Payload func([]byte) []byte
	// Annotate changes what is attached.
	Annotate func(map[string]string)
	// Repository gets the signature in place of the image's.
	Repository string
	// Referrer attaches the signature as a referrer, and not under a tag.
	Referrer bool
	// Type is that of an attestation's envelope, where it is another.
	Type string
	// TagPrefix stands before cosign's tag.
	TagPrefix string
}

// Logs signs entries of a transparency log.
type Logs interface {
	ID() (string, error)
	Sign(tlog.RekorPayload) ([]byte, error)
}

// ID implements Logs.
func (l *Log) ID() (string, error) {
	der, err := x509.MarshalPKIXPublicKey(l.key.Public())
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), err
}

// Sign implements Logs.
func (l *Log) Sign(p tlog.RekorPayload) ([]byte, error) {
	text, err := json.Marshal(map[string]any{"body": p.Body, "integratedTime": p.IntegratedTime, "logID": p.LogID, "logIndex": p.LogIndex})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	return ecdsa.SignASN1(rand.Reader, l.key, sum[:])
}

// Authority is Sigstore in a test: it gives certificates, logs signatures and signs
// times.
type Authority struct {
	*ca.VirtualSigstore
	tb testing.TB
}

// NewAuthority makes one.
func NewAuthority(tb testing.TB) *Authority {
	tb.Helper()
	a, err := ca.NewVirtualSigstore()
	if err != nil {
		tb.Fatal(err)
	}
	return &Authority{a, tb}
}

// ID implements Logs.
func (a *Authority) ID() (string, error) { return a.RekorLogID() }

// Sign implements Logs.
func (a *Authority) Sign(p tlog.RekorPayload) ([]byte, error) { return a.RekorSignPayload(p) }

// Keyless returns how somebody signs who has an identity and no key.
func (a *Authority) Keyless(subject, issuer string) Signing {
	a.tb.Helper()
	certificate, key, err := a.GenerateLeafCert(subject, issuer)
	if err != nil {
		a.tb.Fatal(err)
	}
	return Signing{Key: key.(crypto.Signer), Certificate: PEM(certificate), Chain: a.Chain(), Log: a, At: time.Now().Add(time.Minute)}
}

// Chain is that of certificates that the authority gives, with the root.
func (a *Authority) Chain() string {
	f := a.FulcioCertificateAuthorities()[0].(*root.FulcioCertificateAuthority)
	return PEM(append(f.Intermediates, f.Root)...)
}

// Root is the root of the authority.
func (a *Authority) Root() string {
	return PEM(a.FulcioCertificateAuthorities()[0].(*root.FulcioCertificateAuthority).Root)
}

// PEM writes certificates.
func PEM(certificates ...*x509.Certificate) string {
	var out strings.Builder
	for _, c := range certificates {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return out.String()
}

// TrustedRoot is what is to be known of the authority, as trusted_root.json.
func (a *Authority) TrustedRoot() []byte {
	a.tb.Helper()
	logs := a.RekorLogs()
	for id := range logs {
		key, err := hex.DecodeString(id)
		if err != nil {
			a.tb.Fatal(err)
		}
		logs[id].ID = key
	}
	trusted, err := root.NewTrustedRoot(root.TrustedRootMediaType01, a.FulcioCertificateAuthorities(), nil, a.TimestampingAuthorities(), logs)
	if err != nil {
		a.tb.Fatal(err)
	}
	out, err := trusted.MarshalJSON()
	if err != nil {
		a.tb.Fatal(err)
	}
	return out
}

// Payload is the simple-signing document of an image.
func Payload(repository, digest string, annotations map[string]any) []byte {
	out, err := json.Marshal(map[string]any{
		"critical": map[string]any{
			"identity": map[string]any{"docker-reference": repository},
			"image":    map[string]any{"docker-manifest-digest": digest},
			"type":     "cosign container image signature",
		},
		"optional": annotations,
	})
	if err != nil {
		panic(err)
	}
	return out
}

// Statement is a statement of in-toto about an image.
func Statement(digest, predicateType string, predicate any) []byte {
	out, err := json.Marshal(map[string]any{
		"_type": "https://in-toto.io/Statement/v0.1", "predicateType": predicateType, "predicate": predicate,
		"subject": []any{map[string]any{"name": "image", "digest": map[string]any{"sha256": strings.TrimPrefix(digest, "sha256:")}}},
	})
	if err != nil {
		panic(err)
	}
	return out
}

func (s *Signing) signer() (signature.Signer, error) {
	hash := s.Hash
	if hash == 0 {
		hash = crypto.SHA256
	}
	return signature.LoadSigner(s.Key, hash)
}

// Sign signs an image as cosign does, beside the signatures that it has. About is
// the digest that is signed; the image's where it is empty.
func (r *Registry) Sign(ref, digest, about string, s Signing) {
	r.tb.Helper()
	if about == "" {
		about = digest
	}
	repository, err := name.ParseReference(ref)
	r.check(err)
	payload := Payload(repository.Context().Name(), about, s.Annotations)
	signer, err := s.signer()
	r.check(err)
	sig, err := signer.SignMessage(bytes.NewReader(payload))
	r.check(err)
	annotations := map[string]string{"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig)}
	if s.Log != nil {
		sum := sha256.Sum256(payload)
		annotations["dev.sigstore.cosign/bundle"] = r.entry(&s, map[string]any{
			"apiVersion": "0.0.1", "kind": "hashedrekord",
			"spec": map[string]any{
				"data":      map[string]any{"hash": map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}},
				"signature": map[string]any{"content": sig, "publicKey": map[string]any{"content": []byte(r.verifier(&s))}},
			},
		})
	}
	r.attach(ref, digest, "sig", "application/vnd.dev.cosign.simplesigning.v1+json", payload, annotations, &s)
}

// verifier is what a log has of who signed.
func (r *Registry) verifier(s *Signing) string {
	if s.Certificate != "" {
		return s.Certificate
	}
	out, err := cryptoutils.MarshalPublicKeyToPEM(s.Key.Public())
	r.check(err)
	return string(out)
}

// entry logs a body.
func (r *Registry) entry(s *Signing, body any) string {
	r.tb.Helper()
	text, err := json.Marshal(body)
	r.check(err)
	at := s.At
	if at.IsZero() {
		at = time.Now()
	}
	id, err := s.Log.ID()
	r.check(err)
	payload := tlog.RekorPayload{Body: base64.StdEncoding.EncodeToString(text), IntegratedTime: at.Unix(), LogIndex: 7, LogID: id}
	set, err := s.Log.Sign(payload)
	r.check(err)
	out, err := json.Marshal(map[string]any{"SignedEntryTimestamp": set, "Payload": payload})
	r.check(err)
	return string(out)
}

// Attest attests a statement about an image as cosign does.
func (r *Registry) Attest(ref, digest string, statement []byte, s Signing) {
	r.tb.Helper()
	envelope := r.envelope(statement, &s)
	annotations := map[string]string{"dev.cosignproject.cosign/signature": ""}
	if s.Log != nil {
		sum, inner := sha256.Sum256(envelope), sha256.Sum256(statement)
		var e struct{ Signatures []struct{ Sig string } }
		r.check(json.Unmarshal(envelope, &e))
		annotations["dev.sigstore.cosign/bundle"] = r.entry(&s, map[string]any{
			"apiVersion": "0.0.1", "kind": "dsse",
			"spec": map[string]any{
				"envelopeHash": map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])},
				"payloadHash":  map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(inner[:])},
				"signatures":   []any{map[string]any{"signature": e.Signatures[0].Sig, "verifier": []byte(r.verifier(&s))}},
			},
		})
	}
	r.attach(ref, digest, "att", "application/vnd.dsse.envelope.v1+json", envelope, annotations, &s)
}

func (r *Registry) envelope(statement []byte, s *Signing) []byte {
	r.tb.Helper()
	signer, err := s.signer()
	r.check(err)
	kind := s.Type
	if kind == "" {
		kind = "application/vnd.in-toto+json"
	}
	out, err := dsse.WrapSigner(signer, kind).SignMessage(bytes.NewReader(statement))
	r.check(err)
	return out
}

// attach puts a signature beside an image.
func (r *Registry) attach(ref, digest, suffix, mediaType string, payload []byte, annotations map[string]string, s *Signing) {
	r.tb.Helper()
	if s.Payload != nil {
		payload = s.Payload(payload)
	}
	if s.Certificate != "" {
		annotations["dev.sigstore.cosign/certificate"] = s.Certificate
	}
	if s.Chain != "" {
		annotations["dev.sigstore.cosign/chain"] = s.Chain
	}
	if s.Annotate != nil {
		s.Annotate(annotations)
	}
	in, err := name.ParseReference(ref)
	r.check(err)
	repository := in.Context()
	if s.Repository != "" {
		repository, err = name.NewRepository(s.Repository)
		r.check(err)
	}
	tag := name.Reference(repository.Tag(s.TagPrefix + strings.Replace(digest, ":", "-", 1) + "." + suffix))
	base := empty.Image
	if before, err := remote.Image(tag); err == nil && !s.Referrer {
		base = before
	}
	base = mutate.MediaType(base, types.OCIManifestSchema1)
	base, err = mutate.Append(base, mutate.Addendum{Layer: static.NewLayer(payload, types.MediaType(mediaType)), Annotations: annotations})
	r.check(err)
	if s.Referrer {
		base = mutate.ConfigMediaType(base, "application/vnd.dev.cosign.artifact.sig.v1+json")
		subject, err := remote.Head(in.Context().Digest(digest))
		r.check(err)
		base = mutate.Subject(base, *subject).(v1.Image)
		sum, err := base.Digest()
		r.check(err)
		tag = repository.Digest(sum.String())
	}
	r.check(remote.Write(tag, base))
	r.Requests.Store(0)
}

const typeBundle = "application/vnd.dev.sigstore.bundle.v0.3+json"

// Refer attaches an artifact to an image, as the last of its referrers.
func (r *Registry) Refer(ref, digest, artifactType string, content []byte) {
	r.tb.Helper()
	in, err := name.ParseReference(ref)
	r.check(err)
	image, err := mutate.Append(mutate.MediaType(empty.Image, types.OCIManifestSchema1), mutate.Addendum{Layer: static.NewLayer(content, types.MediaType(artifactType))})
	r.check(err)
	subject, err := remote.Head(in.Context().Digest(digest))
	r.check(err)
	image = mutate.ConfigMediaType(image, types.MediaType(artifactType))
	image = mutate.Subject(image, *subject).(v1.Image)
	sum, err := image.Digest()
	r.check(err)
	r.check(remote.Write(in.Context().Digest(sum.String()), image))
	r.Requests.Store(0)
}

// Bundle attaches a bundle of Sigstore with a statement that is signed with a key.
func (r *Registry) Bundle(ref, digest string, statement []byte, s Signing) {
	r.tb.Helper()
	var e struct {
		PayloadType string `json:"payloadType"`
		Signatures  []struct{ Sig []byte }
	}
	r.check(json.Unmarshal(r.envelope(statement, &s), &e))
	if s.Payload != nil {
		statement = s.Payload(statement)
	}
	r.refer(ref, digest, &protobundle.Bundle{
		MediaType: typeBundle,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &protocommon.PublicKeyIdentifier{Hint: "key"}},
		},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: statement, PayloadType: e.PayloadType, Signatures: []*protodsse.Signature{{Sig: e.Signatures[0].Sig}},
		}},
	})
}

// KeylessBundle attaches a bundle of Sigstore with a statement that somebody signs
// who has an identity and no key.
func (r *Registry) KeylessBundle(ref, digest string, statement []byte, a *Authority, subject, issuer string) {
	r.tb.Helper()
	entity, err := a.AttestAtTime(subject, issuer, statement, time.Now().Add(5*time.Minute), true)
	r.check(err)
	content, err := entity.VerificationContent()
	r.check(err)
	signed, err := entity.SignatureContent()
	r.check(err)
	entries, err := entity.TlogEntries()
	r.check(err)
	entry := entries[0].TransparencyLogEntry()
	entry.KindVersion = &rekor.KindVersion{Kind: "dsse", Version: "0.0.1"}
	set, err := a.RekorSignPayload(tlog.RekorPayload{
		Body: base64.StdEncoding.EncodeToString(entry.GetCanonicalizedBody()), IntegratedTime: entry.GetIntegratedTime(),
		LogIndex: entry.GetLogIndex(), LogID: hex.EncodeToString(entry.GetLogId().GetKeyId()),
	})
	r.check(err)
	entry.InclusionPromise = &rekor.InclusionPromise{SignedEntryTimestamp: set}
	stamps, err := entity.Timestamps()
	r.check(err)
	envelope := signed.EnvelopeContent().RawEnvelope()
	sig, err := base64.StdEncoding.DecodeString(envelope.Signatures[0].Sig)
	r.check(err)
	r.refer(ref, digest, &protobundle.Bundle{
		MediaType: typeBundle,
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content:     &protobundle.VerificationMaterial_Certificate{Certificate: &protocommon.X509Certificate{RawBytes: content.Certificate().Raw}},
			TlogEntries: []*rekor.TransparencyLogEntry{entry},
			TimestampVerificationData: &protobundle.TimestampVerificationData{
				Rfc3161Timestamps: []*protocommon.RFC3161SignedTimestamp{{SignedTimestamp: stamps[0]}},
			},
		},
		Content: &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &protodsse.Envelope{
			Payload: statement, PayloadType: envelope.PayloadType, Signatures: []*protodsse.Signature{{Sig: sig}},
		}},
	})
}

func (r *Registry) refer(ref, digest string, b *protobundle.Bundle) {
	r.tb.Helper()
	text, err := protojson.Marshal(b)
	r.check(err)
	r.Refer(ref, digest, typeBundle, text)
}
