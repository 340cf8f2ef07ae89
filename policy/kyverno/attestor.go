// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// imageCheck is an entry of verifyImages.
type imageCheck struct {
	Type                 string            `json:"type,omitempty"`
	Image                string            `json:"image,omitempty"`
	ImageReferences      []string          `json:"imageReferences,omitempty"`
	SkipImageReferences  []string          `json:"skipImageReferences,omitempty"`
	Key                  string            `json:"key,omitempty"`
	Roots                string            `json:"roots,omitempty"`
	Subject              string            `json:"subject,omitempty"`
	Issuer               string            `json:"issuer,omitempty"`
	AdditionalExtensions map[string]string `json:"additionalExtensions,omitempty"`
	Attestors            []attestorSet     `json:"attestors,omitempty"`
	Attestations         []attestation     `json:"attestations,omitempty"`
	Annotations          map[string]string `json:"annotations,omitempty"`
	Repository           string            `json:"repository,omitempty"`
	CosignOCI11          bool              `json:"cosignOCI11,omitempty"`
	MutateDigest         *bool             `json:"mutateDigest,omitempty"`
	VerifyDigest         *bool             `json:"verifyDigest,omitempty"`
	Required             *bool             `json:"required,omitempty"`
	UseCache             *bool             `json:"useCache,omitempty"`
	FailureAction        string            `json:"failureAction,omitempty"`
	Validation           imageValidation   `json:"validate,omitempty"`
	Credentials          any               `json:"imageRegistryCredentials,omitempty"`
}

// imageValidation is what must hold of the predicates of attestations.
type imageValidation struct {
	Message string `json:"message,omitempty"`
	Deny    *Deny  `json:"deny,omitempty"`
}

// attestorSet is who must have signed: so many of the entries, or all.
type attestorSet struct {
	Count   *int       `json:"count,omitempty"`
	Entries []attestor `json:"entries,omitempty"`
}

func (s *attestorSet) required() int {
	if s.Count == nil || *s.Count == 0 {
		return len(s.Entries)
	}
	return *s.Count
}

// attestor is who may have signed: one of its fields is set.
type attestor struct {
	Keys               *keyAttestor         `json:"keys,omitempty"`
	Certificates       *certificateAttestor `json:"certificates,omitempty"`
	Keyless            *keylessAttestor     `json:"keyless,omitempty"`
	Attestor           *attestorSet         `json:"attestor,omitempty"`
	Annotations        map[string]string    `json:"annotations,omitempty"`
	Repository         string               `json:"repository,omitempty"`
	SignatureAlgorithm string               `json:"signatureAlgorithm,omitempty"`
}

type keyAttestor struct {
	PublicKeys         string     `json:"publicKeys,omitempty"`
	SignatureAlgorithm string     `json:"signatureAlgorithm,omitempty"`
	KMS                string     `json:"kms,omitempty"`
	Secret             *secretRef `json:"secret,omitempty"`
	Rekor              *rekorLog  `json:"rekor,omitempty"`
	CTLog              *ctLog     `json:"ctlog,omitempty"`
}

type secretRef struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
}

type certificateAttestor struct {
	Certificate string    `json:"cert,omitempty"`
	Chain       string    `json:"certChain,omitempty"`
	Rekor       *rekorLog `json:"rekor,omitempty"`
	CTLog       *ctLog    `json:"ctlog,omitempty"`
}

type keylessAttestor struct {
	Rekor         *rekorLog         `json:"rekor,omitempty"`
	CTLog         *ctLog            `json:"ctlog,omitempty"`
	Issuer        string            `json:"issuer,omitempty"`
	IssuerRegExp  string            `json:"issuerRegExp,omitempty"`
	Subject       string            `json:"subject,omitempty"`
	SubjectRegExp string            `json:"subjectRegExp,omitempty"`
	Roots         string            `json:"roots,omitempty"`
	Extensions    map[string]string `json:"additionalExtensions,omitempty"`
}

type rekorLog struct {
	URL        string `json:"url"`
	PublicKey  string `json:"pubkey,omitempty"`
	IgnoreTlog bool   `json:"ignoreTlog,omitempty"`
}

type ctLog struct {
	IgnoreSCT bool   `json:"ignoreSCT,omitempty"`
	PublicKey string `json:"pubkey,omitempty"`
	TSAChain  string `json:"tsaCertChain,omitempty"`
}

// attestation is what must be attested of an image.
type attestation struct {
	Name          string        `json:"name,omitempty"`
	PredicateType string        `json:"predicateType,omitempty"`
	Type          string        `json:"type,omitempty"`
	Attestors     []attestorSet `json:"attestors,omitempty"`
	Conditions    any           `json:"conditions,omitempty"`
}

func isOn(b *bool) bool { return b == nil || *b }

// decodeCheck reads an entry of verifyImages.
func decodeCheck(tree map[string]any) (*imageCheck, error) {
	text, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	out := &imageCheck{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(out); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return out, nil
}

// asTold returns a check in the present form: who has signed may stand beside the
// attestors. What Kyverno (1.19) does not look at in that form is an error.
func (c *imageCheck) asTold() (*imageCheck, error) {
	if c.Image == "" && c.Key == "" && c.Issuer == "" {
		if c.Subject != "" || len(c.AdditionalExtensions) > 0 {
			return nil, errors.New("subject and additionalExtensions are not looked at without an issuer beside them: write them in a keyless attestor")
		}
		return c, nil
	}
	out := *c
	if c.Image != "" {
		out.ImageReferences = append(slices.Clip(c.ImageReferences), c.Image)
	}
	out.Image, out.Key, out.Issuer, out.Subject, out.Roots = "", "", "", "", ""
	if len(c.Annotations) == 0 && c.Key == "" && c.Issuer == "" {
		return &out, nil
	}
	if len(c.Attestations) > 0 {
		return nil, errors.New("key, issuer and annotations are not looked at beside attestations: write them in the attestors of each")
	}
	a := attestor{Annotations: c.Annotations}
	switch {
	case c.Key != "":
		a.Keys = &keyAttestor{PublicKeys: c.Key}
	case c.Issuer != "":
		a.Keyless = &keylessAttestor{Issuer: c.Issuer, Subject: c.Subject, Roots: c.Roots, Extensions: c.AdditionalExtensions}
	}
	out.Attestors = append(slices.Clip(c.Attestors), attestorSet{Entries: []attestor{a}})
	return &out, nil
}

// validate says what is wrong with the form of a check, as Kyverno does where a
// policy is created.
func (c *imageCheck) validate() error {
	if len(c.ImageReferences) == 0 {
		return errors.New("imageReferences is empty: name the images")
	}
	switch c.Type {
	case "", "Cosign", "SigstoreBundle", "Notary":
	default:
		return fmt.Errorf("type is %q; want Cosign, SigstoreBundle or Notary", c.Type)
	}
	for i, s := range c.Attestors {
		if err := s.validate(0); err != nil {
			return fmt.Errorf("attestors[%d]: %w", i, err)
		}
	}
	for i, a := range c.Attestations {
		for j, s := range a.Attestors {
			if err := s.validate(0); err != nil {
				return fmt.Errorf("attestations[%d].attestors[%d]: %w", i, j, err)
			}
		}
		if err := a.checkConditions(); err != nil {
			return fmt.Errorf("attestations[%d].%w", i, err)
		}
	}
	return c.Validation.Deny.check()
}

// checkConditions says what is wrong with the form of conditions: a list of maps
// with any and all.
func (a *attestation) checkConditions() error {
	if a.Conditions == nil {
		return nil
	}
	blocks, ok := a.Conditions.([]any)
	if !ok {
		return errors.New("conditions must be a list")
	}
	for i, b := range blocks {
		at := fmt.Sprintf("conditions[%d]", i)
		if _, ok := b.(map[string]any); !ok {
			return fmt.Errorf("%s must be a map with any or all", at)
		}
		if err := checkConditions(at, b); err != nil {
			return err
		}
	}
	return nil
}

func (s *attestorSet) validate(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("attestors are nested deeper than %d levels", maxDepth)
	}
	if len(s.Entries) == 0 {
		return errors.New("entries is empty: name an attestor")
	}
	if s.Count != nil && (*s.Count > len(s.Entries) || *s.Count < 0) {
		return fmt.Errorf("count is %d, and there are %d entries", *s.Count, len(s.Entries))
	}
	for i := range s.Entries {
		if err := s.Entries[i].validate(depth); err != nil {
			return fmt.Errorf("entries[%d]: %w", i, err)
		}
	}
	return nil
}

func (a *attestor) validate(depth int) error {
	set := 0
	for _, is := range []bool{a.Keys != nil, a.Certificates != nil, a.Keyless != nil, a.Attestor != nil} {
		if is {
			set++
		}
	}
	switch {
	case set > 1:
		return errors.New("it has more than one of keys, certificates, keyless and attestor")
	case a.Keys != nil && a.Keys.PublicKeys == "" && a.Keys.KMS == "" && a.Keys.Secret == nil:
		return errors.New("keys has none of publicKeys, kms and secret")
	case a.Certificates != nil && a.Certificates.Certificate == "" && a.Certificates.Chain == "":
		return errors.New("certificates has neither cert nor certChain")
	case a.Attestor != nil:
		return a.Attestor.validate(depth + 1)
	}
	return nil
}

// expanded returns a set in which each key is an entry of its own.
func (s *attestorSet) expanded() *attestorSet {
	out := &attestorSet{Count: s.Count}
	for _, e := range s.Entries {
		const end = "-----END PUBLIC KEY-----"
		if e.Keys == nil || strings.Count(e.Keys.PublicKeys, end) < 2 {
			out.Entries = append(out.Entries, e)
			continue
		}
		keys := strings.SplitAfter(e.Keys.PublicKeys, end)
		for _, key := range keys[:len(keys)-1] {
			one, k := e, *e.Keys
			k.PublicKeys = key
			one.Keys = &k
			out.Entries = append(out.Entries, one)
		}
	}
	return out
}
