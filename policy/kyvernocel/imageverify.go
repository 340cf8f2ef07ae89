// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"github.com/google/cel-go/cel"
	celast "github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/kyverno/api/api/policies.kyverno.io/v1alpha1"

	"sconce.dev/sconce/policy/answers"
	"sconce.dev/sconce/policy/registry"
)

// verifierKey is the variable that the functions of verifyLib are called with.
const verifierKey = "__images__"

// verifyLib declares what ImageValidatingPolicies verify images with, as Kyverno's
// library of that name does.
type verifyLib struct{}

// LibraryName implements cel.SingletonLibrary.
func (verifyLib) LibraryName() string { return "kyverno.imageverify" }

// CompileOptions implements cel.Library.
func (verifyLib) CompileOptions() []cel.EnvOption {
	var adapter types.Adapter
	adapts := func(e *cel.Env) (*cel.Env, error) {
		adapter = e.CELTypeAdapter()
		return e, nil
	}
	out := []cel.EnvOption{cel.Variable(verifierKey, verifierType), adapts}
	strs, anys := cel.StringType, cel.ListType(cel.DynType)
	for _, f := range []struct {
		name   string
		args   []*cel.Type
		result *cel.Type
		call   func(v *imageVerifier, args []ref.Val) (any, error)
	}{
		{"verifyImageSignatures", []*cel.Type{strs, anys}, cel.IntType, (*imageVerifier).signatures},
		{"verifyAttestationSignatures", []*cel.Type{strs, strs, anys}, cel.IntType, (*imageVerifier).attestations},
		{"getImageData", []*cel.Type{strs}, cel.DynType, (*imageVerifier).data},
		{"extractPayload", []*cel.Type{strs, strs}, cel.DynType, (*imageVerifier).payload},
	} {
		hidden := "__" + f.name + "__"
		macro := func(m cel.MacroExprFactory, _ celast.Expr, args []celast.Expr) (celast.Expr, *cel.Error) {
			return m.NewCall(hidden, append([]celast.Expr{m.NewIdent(verifierKey)}, args...)...), nil
		}
		binding := func(args ...ref.Val) ref.Val {
			v, ok := args[0].(*imageVerifier)
			if !ok {
				return types.MaybeNoSuchOverloadErr(args[0])
			}
			value, err := f.call(v, args[1:])
			if err != nil {
				return types.WrapErr(err)
			}
			return adapter.NativeToValue(value)
		}
		out = append(out, cel.Macros(cel.GlobalMacro(f.name, len(f.args), macro)),
			cel.Function(hidden, cel.Overload(hidden+"_images", append([]*cel.Type{verifierType}, f.args...), f.result, cel.FunctionBinding(binding))))
	}
	return out
}

// ProgramOptions implements cel.Library.
func (verifyLib) ProgramOptions() []cel.ProgramOption { return nil }

var verifierType = cel.OpaqueType("kyvernocel.Images")

// imageVerifier verifies images in one evaluation. It is a value of expressions.
type imageVerifier struct {
	ctx      context.Context //nolint:containedctx // it lives as long as the evaluation
	a        *activation
	program  *imageProgram
	verified map[string]bool // by image; false where it was tried
	payloads map[[2]string]any
	pins     pins
}

// ConvertToNative implements ref.Val.
func (v *imageVerifier) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("images are no %s", t)
}

// ConvertToType implements ref.Val.
func (v *imageVerifier) ConvertToType(t ref.Type) ref.Val {
	return types.NewErr("images are no %s", t.TypeName())
}

// Equal implements ref.Val.
func (v *imageVerifier) Equal(other ref.Val) ref.Val { return types.Bool(other == ref.Val(v)) }

// Type implements ref.Val.
func (v *imageVerifier) Type() ref.Type { return verifierType }

// Value implements ref.Val.
func (v *imageVerifier) Value() any { return v }

// outside makes of an error what an evaluation makes of it: what could not be
// found out is not known.
func (v *imageVerifier) outside(what string, err error) error {
	var told *answers.UnknownError
	var unknown *unknownError
	switch {
	case errors.As(err, &told):
		return v.a.lookup.unknown("%s: %s", what, told.What)
	case errors.As(err, &unknown):
		return err
	}
	return fmt.Errorf("%s: %w", what, err)
}

// image looks an image up, or says that the policy is not about it.
func (v *imageVerifier) image(arg ref.Val) (image string, selected bool, err error) {
	image, ok := arg.Value().(string)
	if !ok {
		return "", false, errors.New("the image is no string")
	}
	selected, err = v.selects(v.ctx, image)
	if err != nil || !selected {
		return image, false, err
	}
	return image, true, v.fetch(image)
}

// selects says whether the policy is about an image: as it is, or as the tag that
// it was.
func (v *imageVerifier) selects(ctx context.Context, image string) (bool, error) {
	if selected, err := v.program.selects(ctx, image); err != nil || selected {
		return selected, err
	}
	tag, ok := v.pins.tags[image]
	if !ok {
		return false, nil
	}
	return v.program.selects(ctx, tag)
}

func (v *imageVerifier) client() *registry.Client { return registry.Of(v.a.lookup.network()) }

// fetch looks an image up.
func (v *imageVerifier) fetch(image string) error {
	_, err := v.client().Image(v.ctx, registry.Lookup{Image: image})
	if err != nil {
		return v.outside("what its registry says of the image "+image, err)
	}
	return nil
}

// signatures is verifyImageSignatures: how many of some attestors have signed.
func (v *imageVerifier) signatures(args []ref.Val) (any, error) {
	image, selected, err := v.image(args[0])
	if err != nil || !selected {
		return 0, err
	}
	return v.count(image, args[1], "whether the image "+image+" is signed", func(q *cosignAsked) error {
		_, err := v.signed(q, image, false)
		return err
	})
}

// attestations is verifyAttestationSignatures: how many of some attestors have
// attested.
func (v *imageVerifier) attestations(args []ref.Val) (any, error) {
	image, selected, err := v.image(args[0])
	if err != nil || !selected {
		return 0, err
	}
	of, err := v.attestation(args[1])
	if err != nil {
		return nil, err
	}
	return v.count(image, args[2], "whether it is attested of the image "+image, func(q *cosignAsked) error {
		if of.InToto == nil {
			return errors.New("cosign attests statements of in-toto, and no other artifacts")
		}
		return v.attested(q, image, of)
	})
}

// attestation returns what a policy calls by a name.
func (v *imageVerifier) attestation(arg ref.Val) (*v1alpha1.Attestation, error) {
	name, _ := arg.Value().(string)
	for i := range v.program.spec.Attestations {
		if a := &v.program.spec.Attestations[i]; a.Name == name {
			return a, nil
		}
	}
	return nil, fmt.Errorf("the policy has no attestation %q", name)
}

// count counts the attestors for whom something holds.
func (v *imageVerifier) count(image string, list ref.Val, what string, verify func(*cosignAsked) error) (any, error) {
	names, err := attestorNames(list)
	if err != nil {
		return nil, err
	}
	n := 0
	var undecided error
	for _, name := range names {
		q, err := v.ask(name)
		if err == nil {
			err = verify(q)
		}
		var unknown *answers.UnknownError
		var deeper *unknownError
		switch {
		case err == nil:
			n++
		case (errors.As(err, &unknown) || errors.As(err, &deeper)) && undecided == nil:
			undecided = v.outside(what, err)
		}
	}
	if undecided != nil {
		return nil, undecided
	}
	if len(names) > 0 {
		v.verified[image] = v.verified[image] || n > 0
	}
	return n, nil
}

// attestorNames returns the names of attestors in a list of them.
func attestorNames(list ref.Val) ([]string, error) {
	native, err := toNative(list)
	if err != nil {
		return nil, err
	}
	items, ok := native.([]any)
	if !ok {
		return nil, errors.New("the attestors are no list")
	}
	var out []string
	for _, item := range items {
		m, _ := item.(map[string]any)
		name, ok := m["name"].(string)
		if !ok {
			return nil, errors.New("an attestor is none of the policy's")
		}
		out = append(out, name)
	}
	return out, nil
}

// ImageData is what getImageData returns: its fields have the names that they have
// in Kyverno.
type ImageData struct {
	Image, ResolvedImage, Registry, Repository, Identifier, Tag, Digest string

	ImageIndex any
	Manifest   *v1.Manifest
	ConfigData *v1.ConfigFile
}

// data is getImageData.
func (v *imageVerifier) data(args []ref.Val) (any, error) {
	image, ok := args[0].Value().(string)
	if !ok {
		return nil, errors.New("the image is no string")
	}
	data, err := v.client().Image(v.ctx, registry.Lookup{Image: image})
	if err != nil {
		return nil, v.outside("what its registry says of the image "+image, err)
	}
	out := ImageData{
		Image: data.Image, ResolvedImage: data.ResolvedImage, Registry: data.Registry, Repository: data.Repository,
		Identifier: data.Identifier, Tag: data.Tag, Digest: data.Digest, ImageIndex: data.Index,
	}
	for _, part := range []struct{ from, into any }{{data.Manifest, &out.Manifest}, {data.Config, &out.ConfigData}} {
		text, err := json.Marshal(part.from)
		if err == nil {
			err = json.Unmarshal(text, part.into)
		}
		if err != nil {
			return nil, fmt.Errorf("what its registry says of the image %s cannot be read: %w", image, err)
		}
	}
	return out, nil
}

// payload is extractPayload: what was attested, or an artifact that refers to the
// image.
func (v *imageVerifier) payload(args []ref.Val) (any, error) {
	image, ok := args[0].Value().(string)
	if !ok {
		return nil, errors.New("the image is no string")
	}
	of, err := v.attestation(args[1])
	if err != nil {
		return nil, err
	}
	if err := v.fetch(image); err != nil {
		return nil, err
	}
	switch {
	case of.InToto != nil:
		out, ok := v.payloads[[2]string{image, of.InToto.Type}]
		if !ok {
			return nil, fmt.Errorf("the attestation %q of %s was not verified before it is read", of.Name, image)
		}
		return out, nil
	case of.Referrer == nil:
		return nil, fmt.Errorf("the attestation %q has neither intoto nor referrer", of.Name)
	}
	text, err := v.client().Artifact(v.ctx, registry.Lookup{Image: image}, of.Referrer.Type)
	if err != nil {
		return nil, v.outside("what refers to the image "+image, err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("the artifact %s of %s is no JSON: %w", of.Referrer.Type, image, err)
	}
	return out, nil
}

// cosignAsked is what one attestor asks.
type cosignAsked struct {
	*v1alpha1.Cosign
	place registry.Place
	trust registry.Trust
	// bare says that Kyverno asks nothing of Sigstore for it.
	bare bool
}

// attestorProgram are the expressions of an attestor.
type attestorProgram struct {
	spec                                 *v1alpha1.Attestor
	key, certificate, chain, trustedRoot *expression
}

// ask returns what an attestor asks.
func (v *imageVerifier) ask(name string) (*cosignAsked, error) {
	p := v.program.byName[name]
	switch {
	case p == nil:
		return nil, fmt.Errorf("the policy has no attestor %q", name)
	case p.spec.Notary != nil:
		return nil, answers.Unknown("the attestor %s verifies signatures of Notary, which are not verified here; those of cosign are", name)
	case p.spec.Cosign == nil:
		return nil, fmt.Errorf("the attestor %q has neither cosign nor notary", name)
	}
	q := &cosignAsked{Cosign: p.spec.Cosign}
	if s := q.Source; s != nil {
		q.place.Repository, q.place.Prefix = s.Repository, s.TagPrefix
	}
	if l := q.CTLog; l != nil {
		q.trust.NoLog, q.trust.NoTimestamp, q.trust.Timestamps = l.InsecureIgnoreTlog, l.InsecureIgnoreSCT, l.TSACertChain
	}
	q.bare = q.trust.NoLog && q.Keyless == nil
	q.trust.Offline = q.CTLog == nil
	q.trust.Whole = !q.bare
	var err error
	if q.trust.TrustedRoot, err = v.value(q.TrustedRoot, p.trustedRoot); err != nil {
		return nil, err
	}
	if err := q.unlooked(name); err != nil {
		return nil, err
	}
	return q, v.who(q, p)
}

// unlooked is what a policy asks of logs and of Sigstore, and Kyverno does not look
// at, or asks over the network.
func (q *cosignAsked) unlooked(name string) error {
	var fields []string
	note := func(set bool, field string) {
		if set {
			fields = append(fields, field)
		}
	}
	if l := q.CTLog; l != nil {
		if !l.InsecureIgnoreTlog && l.URL == "" {
			return fmt.Errorf("the attestor %s has a ctlog without a url", name)
		}
		note(!l.InsecureIgnoreTlog && l.RekorPubKey != "", "ctlog.rekorPubKey")
		note(!l.InsecureIgnoreSCT && l.CTLogPubKey != "" && q.Key == nil, "ctlog.ctLogPubKey")
	}
	if k := q.Keyless; k != nil {
		note(k.Roots != "", "keyless.roots")
		note(len(k.AdditionalExtensions) > 0, "keyless.additionalExtensions")
		for _, i := range k.Identities {
			note(i.SubjectExpression != "", "keyless.identities.subjectExpression")
		}
	}
	if c := q.Certificate; c != nil && !q.bare && q.Key == nil {
		note(c.CertificateChain != nil, "certificate.certChain")
	}
	switch {
	case len(fields) > 0:
		return answers.Unknown("Kyverno (1.19) does not look at %s of the attestor %s", strings.Join(fields, ", "), name)
	case q.TUF != nil && !q.bare && q.TrustedRoot == nil:
		return answers.Unknown("the attestor %s has its trusted root from a repository of TUF, which is not asked: write it as trustedRoot", name)
	}
	return nil
}

// value is a text, or what an expression makes.
func (v *imageVerifier) value(s *v1alpha1.StringOrExpression, e *expression) (string, error) {
	switch {
	case e != nil:
		return e.text(v.ctx, v.a)
	case s != nil:
		return s.Value, nil
	}
	return "", nil
}

// who takes over whose signatures hold.
func (v *imageVerifier) who(q *cosignAsked, p *attestorProgram) (err error) {
	name := p.spec.Name
	switch {
	case q.Keyless != nil:
		return nil
	case q.Key != nil:
		q.trust.Hash, q.trust.Key = q.Key.HashAlgorithm, q.Key.Data
		if p.key != nil {
			q.trust.Key, err = p.key.text(v.ctx, v.a)
		}
		switch {
		case err == nil && q.trust.Key == "" && q.Key.KMS != "":
			return answers.Unknown("the key of the attestor %s is in a key management service, which is not asked", name)
		case err == nil && q.trust.Key == "":
			return fmt.Errorf("the key of the attestor %s is empty", name)
		}
		return err
	case q.Certificate != nil:
		if q.trust.Certificate, err = v.value(q.Certificate.Certificate, p.certificate); err != nil {
			return err
		}
		if q.trust.Chain, err = v.value(q.Certificate.CertificateChain, p.chain); err != nil {
			return err
		}
		if q.trust.Certificate == "" {
			q.trust.Roots, q.trust.Chain = q.trust.Chain, ""
		}
		return nil
	}
	return fmt.Errorf("the attestor %s has none of key, keyless and certificate", name)
}

// found verifies what is in the registry: bundles of Sigstore if there are some,
// and otherwise what is under cosign's tags.
func (v *imageVerifier) found(q *cosignAsked, image string, attested bool) (out *registry.Verified, bundled bool, err error) {
	place := q.place
	place.Image = image
	if bundled, err = v.client().HasBundles(v.ctx, place); err != nil {
		return nil, false, err
	}
	switch {
	case bundled:
		out, err = v.bundles(q, place)
	case attested:
		out, err = v.client().Attestations(v.ctx, place, q.trust)
	default:
		out, err = v.client().Signatures(v.ctx, place, q.trust)
	}
	if err != nil {
		return nil, bundled, err
	}
	if !bundled && q.Keyless != nil {
		kept := out.Signatures[:0:0]
		for _, s := range out.Signatures {
			if q.identified(&s) {
				kept = append(kept, s)
			}
		}
		if len(kept) == 0 {
			return nil, bundled, errors.New("no signature is by one of the identities")
		}
		out = &registry.Verified{Digest: out.Digest, Signatures: kept}
	}
	return out, bundled, nil
}

// signed verifies the signatures of an image.
func (v *imageVerifier) signed(q *cosignAsked, image string, attested bool) (*registry.Verified, error) {
	out, _, err := v.found(q, image, attested)
	if err != nil || len(q.Annotations) == 0 {
		return out, err
	}
	for i := range out.Signatures {
		if q.annotated(&out.Signatures[i]) {
			return out, nil
		}
	}
	return nil, errors.New("no signature has the annotations")
}

// attested verifies what is attested of an image, and keeps it.
func (v *imageVerifier) attested(q *cosignAsked, image string, of *v1alpha1.Attestation) error {
	out, bundled, err := v.found(q, image, true)
	if err != nil {
		return err
	}
	if !bundled && q.trust.NoLog {
		return errors.New("an attestation under a tag that is in no transparency log is not accepted by Kyverno (1.19), whatever insecureIgnoreTlog says")
	}
	kind := of.InToto.Type
	if known := predicateTypes[kind]; known != "" {
		kind = known
	}
	found := false
	for i := range out.Signatures {
		s := &out.Signatures[i]
		var statement map[string]any
		if err := json.Unmarshal(s.Payload, &statement); err != nil {
			return fmt.Errorf("a statement cannot be read: %w", err)
		}
		if statement["predicateType"] != kind || len(q.Annotations) > 0 && !q.annotated(s) {
			continue
		}
		found = true
		v.payloads[[2]string{image, kind}] = statement
	}
	if !found {
		return fmt.Errorf("no attestation that holds states a %q", kind)
	}
	return nil
}

// predicateTypes are the names that cosign has for what is stated.
var predicateTypes = map[string]string{
	"custom":           "https://cosign.sigstore.dev/attestation/v1",
	"slsaprovenance":   "https://slsa.dev/provenance/v0.2",
	"slsaprovenance02": "https://slsa.dev/provenance/v0.2",
	"slsaprovenance1":  "https://slsa.dev/provenance/v1",
	"spdx":             "https://spdx.dev/Document",
	"spdxjson":         "https://spdx.dev/Document",
	"cyclonedx":        "https://cyclonedx.org/bom",
	"link":             "https://in-toto.io/Link/v1",
	"vuln":             "https://cosign.sigstore.dev/attestation/vuln/v1",
	"openvex":          "https://openvex.dev/ns",
}

// annotated says whether a signature has the annotations beside it. They are not
// signed.
func (q *cosignAsked) annotated(s *registry.Signature) bool {
	for key, value := range q.Annotations {
		if s.Annotations[key] != value {
			return false
		}
	}
	return true
}

// identified says whether a signature is by one of the identities.
func (q *cosignAsked) identified(s *registry.Signature) bool {
	if len(q.Keyless.Identities) == 0 {
		return true
	}
	if s.Certificate == nil {
		return false
	}
	issuer, names := registry.Issuer(s.Certificate), registry.Subjects(s.Certificate)
	for _, i := range q.Keyless.Identities {
		if meets(i.IssuerRegExp, i.Issuer, issuer) && meets(i.SubjectRegExp, i.Subject, names...) {
			return true
		}
	}
	return false
}

// meets says whether one of some names is what is wanted, or matches; everything
// does where nothing is wanted.
func meets(expression, wanted string, names ...string) bool {
	if expression == "" && wanted == "" {
		return true
	}
	re, err := regexp.Compile(expression)
	for _, name := range names {
		if expression != "" && err == nil && re.MatchString(name) || expression == "" && name == wanted {
			return true
		}
	}
	return false
}

// bundles verifies the bundles of Sigstore of an image.
func (v *imageVerifier) bundles(q *cosignAsked, place registry.Place) (*registry.Verified, error) {
	t := registry.BundleTrust{Trust: q.trust}
	byKey := q.Keyless == nil && (t.Key != "" || t.Certificate != "")
	signed := t.Timestamps != "" || t.NoLog && !q.bare
	t.Observed = registry.Observed{
		Log: !t.NoLog, SCT: !byKey && !t.NoTimestamp, Signed: signed,
		Integrated: !t.NoLog && !signed && !byKey, None: byKey && !signed, Now: t.NoLog && !signed && !byKey,
		SignedIfTimeless: !t.NoLog && !byKey,
	}
	if q.Keyless != nil {
		if len(q.Keyless.Identities) != 1 {
			return nil, fmt.Errorf("there are %d identities; Kyverno (1.19) accepts one for bundles of Sigstore", len(q.Keyless.Identities))
		}
		i := q.Keyless.Identities[0]
		t.Identity = registry.Identity{Issuer: i.Issuer, IssuerRegexp: i.IssuerRegExp, Subject: i.Subject, SubjectRegexp: i.SubjectRegExp}
	}
	out, err := v.client().Bundles(v.ctx, place, t)
	if err != nil {
		return nil, err
	}
	for _, s := range out.Signatures {
		if s.Payload != nil {
			return out, nil
		}
	}
	return nil, errors.New("no bundle of Sigstore holds a statement")
}
