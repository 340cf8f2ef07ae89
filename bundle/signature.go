// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/sign"
	"github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"
)

// A signature is what cosign makes and checks: a Sigstore bundle with an in-toto
// statement about the digest of the manifest.
const (
	signatureType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	statementType = "https://in-toto.io/Statement/v1"
	predicateType = "https://sigstore.dev/cosign/sign/v1"
	payloadType   = "application/vnd.in-toto+json"
)

// Signer is a private key: ECDSA, Ed25519 or RSA. The key may be elsewhere.
type Signer = crypto.Signer

// ParsePrivateKey reads a private key as openssl or cosign write it. Password is
// asked where the key is encrypted; it may be nil.
func ParsePrivateKey(pem []byte, password func() ([]byte, error)) (Signer, error) {
	var ask cryptoutils.PassFunc
	if password != nil {
		ask = func(bool) ([]byte, error) { return password() }
	}
	key, err := cryptoutils.UnmarshalPEMToPrivateKey(pem, ask)
	if err != nil {
		return nil, fmt.Errorf("reading the private key: %w", err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("reading the private key: a %T does not sign; want ECDSA or Ed25519", key)
	}
	return signer, nil
}

// Sign signs the bundle and returns the signature, to be saved with it or
// attached to where it is pushed.
func (b *Bundle) Sign(ctx context.Context, key Signer) ([]byte, error) {
	out, err := signDigest(ctx, b.Digest, key)
	if err != nil {
		return nil, fmt.Errorf("signing %s %s: %w", b.Name, b.Version, err)
	}
	return out, nil
}

type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     struct{}  `json:"predicate"`
}

type subject struct {
	Digest map[string]string `json:"digest"`
}

func signDigest(ctx context.Context, digest string, key Signer) ([]byte, error) {
	pair, err := newKeypair(key)
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(statement{
		Type: statementType, PredicateType: predicateType,
		Subject: []subject{{map[string]string{"sha256": strings.TrimPrefix(digest, "sha256:")}}},
	})
	if err != nil {
		return nil, err
	}
	signed, err := sign.Bundle(&sign.DSSEData{Data: payload, PayloadType: payloadType}, pair, sign.BundleOptions{Context: ctx})
	if err != nil {
		return nil, err
	}
	return protojson.Marshal(signed)
}

// keypair is a private key as Sigstore's library uses it.
type keypair struct {
	Signer
	algorithm signature.AlgorithmDetails
	hint, pem []byte
}

func newKeypair(key Signer) (*keypair, error) {
	if key == nil {
		return nil, errors.New("there is no private key")
	}
	algorithm, err := signature.GetDefaultAlgorithmDetails(key.Public())
	if err != nil {
		return nil, fmt.Errorf("a key of type %T: %w; want ECDSA or Ed25519", key.Public(), err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	pem, err := cryptoutils.MarshalPublicKeyToPEM(key.Public())
	if err != nil {
		return nil, err
	}
	return &keypair{key, algorithm, []byte(hintOf(der)), pem}, nil
}

// hintOf names a public key.
func hintOf(der []byte) string {
	sum := sha256.Sum256(der)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (k *keypair) GetHashAlgorithm() protocommon.HashAlgorithm { return k.algorithm.GetProtoHashType() }
func (k *keypair) GetSigningAlgorithm() protocommon.PublicKeyDetails {
	return k.algorithm.GetSignatureAlgorithm()
}
func (k *keypair) GetHint() []byte                  { return k.hint }
func (k *keypair) GetKeyAlgorithm() string          { return fmt.Sprint(k.algorithm.GetKeyType()) }
func (k *keypair) GetPublicKey() crypto.PublicKey   { return k.Public() }
func (k *keypair) GetPublicKeyPem() (string, error) { return string(k.pem), nil }

// SignData returns the signature of data and what was signed: its hash, or
// itself where the algorithm does that by itself.
func (k *keypair) SignData(_ context.Context, data []byte) (sig, signed []byte, err error) {
	hash := k.algorithm.GetHashType()
	if hash != crypto.Hash(0) {
		h := hash.New()
		h.Write(data)
		data = h.Sum(nil)
	}
	sig, err = k.Sign(rand.Reader, data, hash)
	return sig, data, err
}

// signatureArtifact makes what a registry keeps of a signature: an artifact whose
// subject is the manifest.
func signatureArtifact(manifest, sig []byte) (*artifact, error) {
	if _, err := parseSignature(sig); err != nil {
		return nil, err
	}
	s, err := blob{types.OCIManifestSchema1, manifest}.descriptor()
	if err != nil {
		return nil, err
	}
	return newArtifact(v1.Manifest{
		ArtifactType: signatureType, Subject: &s,
		Annotations: map[string]string{"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": predicateType},
	}, blob{emptyType, []byte("{}")}, blob{signatureType, sig})
}

// readSignature reads what a registry keeps of a signature.
func readSignature(manifest []byte, blobs func(v1.Descriptor) (io.ReadCloser, error)) ([]byte, error) {
	p, err := readManifest(manifest, emptyType, signatureType)
	if err != nil {
		return nil, fmt.Errorf("reading a signature: %w", err)
	}
	sig, err := read(p.layer, blobs)
	if err != nil {
		return nil, fmt.Errorf("reading a signature: %w", err)
	}
	return sig, nil
}

const maxSignature = 1 << 20

func parseSignature(data []byte) (*bundle.Bundle, error) {
	if len(data) > maxSignature {
		return nil, fmt.Errorf("a signature has %d bytes; at most %d", len(data), maxSignature)
	}
	var b bundle.Bundle
	if err := b.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("reading a signature: %w", err)
	}
	return &b, nil
}

// Identity is who a keyless signature must be by.
type Identity struct {
	// Issuer is who vouches for the subject: https://token.actions.githubusercontent.com.
	// Subject is an address of mail, or of a workflow. Each is to be met exactly, or
	// by the regular expression, which must match as a whole.
	Issuer, IssuerRegexp   string
	Subject, SubjectRegexp string
}

// VerifierOptions say whose signatures are accepted: those of any of the keys, and
// those of any of the identities.
type VerifierOptions struct {
	// Keys are public keys, as PEM.
	Keys [][]byte
	// TrustedRoot is a trusted_root.json of Sigstore, which keyless signatures are
	// held against. Nothing is fetched to complete it.
	TrustedRoot []byte
	Identities  []Identity
}

// Verifier accepts signatures or refuses them. It is safe for concurrent use.
type Verifier struct {
	keys       []*verify.Verifier // one for each public key
	root       *verify.Verifier   // nil if there is none
	identities []verify.PolicyOption
}

// NewVerifier makes a verifier.
func NewVerifier(o VerifierOptions) (*Verifier, error) {
	v := &Verifier{}
	if len(o.Keys) == 0 && len(o.Identities) == 0 {
		return nil, errors.New("nothing says whose signatures to accept; want a public key, or a trusted root and an identity")
	}
	if (len(o.TrustedRoot) == 0) != (len(o.Identities) == 0) {
		return nil, errors.New("a keyless signature needs a trusted root and an identity; one of them is missing")
	}
	if err := v.trustKeys(o.Keys); err != nil {
		return nil, err
	}
	if err := v.trustRoot(o.TrustedRoot, o.Identities); err != nil {
		return nil, err
	}
	return v, nil
}

func (v *Verifier) trustKeys(keys [][]byte) error {
	for i, pem := range keys {
		verifier, err := keyVerifier(pem)
		if err != nil {
			return fmt.Errorf("reading public key %d of %d: %w", i+1, len(keys), err)
		}
		v.keys = append(v.keys, verifier)
	}
	return nil
}

// keyVerifier accepts what one key signed, whatever name a signature has for it.
func keyVerifier(pem []byte) (*verify.Verifier, error) {
	key, err := cryptoutils.UnmarshalPEMToPublicKey(pem)
	if err != nil {
		return nil, err
	}
	verifier, err := signature.LoadDefaultVerifier(key)
	if err != nil {
		return nil, err
	}
	trusted := root.NewExpiringKey(verifier, time.Time{}, time.Time{})
	return verify.NewVerifier(root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) {
		return trusted, nil
	}), verify.WithNoObserverTimestamps())
}

func (v *Verifier) trustRoot(data []byte, identities []Identity) error {
	if len(data) == 0 {
		return nil
	}
	trusted, err := root.NewTrustedRootFromJSON(data)
	if err != nil {
		return fmt.Errorf("reading the trusted root: %w", err)
	}
	options := []verify.VerifierOption{verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1)}
	if len(trusted.CTLogs()) > 0 {
		options = append(options, verify.WithSignedCertificateTimestamps(1))
	}
	if v.root, err = verify.NewVerifier(trusted, options...); err != nil {
		return fmt.Errorf("reading the trusted root: %w", err)
	}
	for _, i := range identities {
		identity, err := verify.NewShortCertificateIdentity(i.Issuer, whole(i.IssuerRegexp), i.Subject, whole(i.SubjectRegexp))
		if err != nil {
			return fmt.Errorf("the identity %q of %q: %w", i.Subject+i.SubjectRegexp, i.Issuer+i.IssuerRegexp, err)
		}
		v.identities = append(v.identities, verify.WithCertificateIdentity(identity))
	}
	return nil
}

func whole(expression string) string {
	if expression == "" {
		return ""
	}
	return "^(?:" + expression + ")$"
}

// any says whether one of the signatures holds for a digest.
func (v *Verifier) any(digest string, signatures [][]byte, unread error) error {
	if len(signatures) == 0 && unread == nil {
		return fmt.Errorf("there is no signature of %s; sign it, or pull it without asking for one", digest)
	}
	refused := unread
	for _, s := range signatures {
		err := v.one(digest, s)
		if err == nil {
			return nil
		}
		refused = errors.Join(refused, err)
	}
	return fmt.Errorf("no signature of %s holds (%d found): %w", digest, len(signatures), refused)
}

func (v *Verifier) one(digest string, sig []byte) error {
	entity, err := parseSignature(sig)
	if err != nil {
		return err
	}
	content, err := entity.VerificationContent()
	if err != nil {
		return fmt.Errorf("reading a signature: %w", err)
	}
	sum, err := hex.DecodeString(strings.TrimPrefix(digest, "sha256:"))
	if err != nil {
		return fmt.Errorf("reading the digest %q: %w", digest, err)
	}
	artifact := verify.WithArtifactDigest("sha256", sum)
	switch keyless := content.Certificate() != nil; {
	case keyless && v.root == nil:
		return errors.New("a signature is keyless, and no trusted root and identity are given")
	case keyless:
		return holds(v.root, entity, verify.NewPolicy(artifact, v.identities...))
	case len(v.keys) == 0:
		return errors.New("a signature is by a key, and no public key is trusted")
	}
	for _, key := range v.keys {
		if err = holds(key, entity, verify.NewPolicy(artifact, verify.WithKey())); err == nil {
			return nil
		}
	}
	return fmt.Errorf("a signature is by none of the public keys that are trusted (%d), or of another digest: %w", len(v.keys), err)
}

// holds says whether a signature holds, and that it is one: a statement of
// another kind about the same digest, such as where it was built, is not.
func holds(v *verify.Verifier, entity *bundle.Bundle, policy verify.PolicyBuilder) error {
	result, err := v.Verify(entity, policy)
	if err != nil {
		return fmt.Errorf("a signature does not hold: %w", err)
	}
	if s := result.Statement; s != nil && s.GetPredicateType() != predicateType {
		return fmt.Errorf("a signed statement is a %q; want a %q", s.GetPredicateType(), predicateType)
	}
	return nil
}
