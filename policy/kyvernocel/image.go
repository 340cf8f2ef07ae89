// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/gobwas/glob"
	"github.com/google/cel-go/cel"
	"github.com/kyverno/api/api/policies.kyverno.io/v1alpha1"
	"github.com/kyverno/sdk/extensions/cel/compiler"
	"github.com/kyverno/sdk/extensions/cel/libs/image"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sconce.dev/sconce/policy/celguard"
)

// imageProgram is what an ImageValidatingPolicy has beside.
type imageProgram struct {
	references []imageReference
	extractors []extractor
	// digests says that images must be given by digest.
	digests bool
	// pinned says that tags count as the digests that they mean.
	pinned bool
	// required says that each image must have been verified.
	required     bool
	attestors    map[string]any
	attestations map[string]any
	spec         *v1alpha1.ImageValidatingPolicySpec
	byName       map[string]*attestorProgram
}

// imageReference selects images: by a pattern, or by an expression.
type imageReference struct {
	pattern glob.Glob
	program cel.Program
}

// extractor finds images in the object.
type extractor struct {
	name       string
	expression *expression
}

// referenceEnv is what expressions that select images are compiled in.
var referenceEnv = sync.OnceValues(func() (*cel.Env, error) {
	return cel.NewEnv(
		cel.HomogeneousAggregateLiterals(), cel.OptionalTypes(),
		cel.Variable(compiler.ImageRefKey, cel.StringType), image.Lib(image.Latest()),
	)
})

func (b *builder) images() {
	s := b.spec.image
	yes := func(p *bool) bool { return p == nil || *p }
	out := &imageProgram{
		digests: yes(s.ValidationConfigurations.VerifyDigest), required: yes(s.ValidationConfigurations.Required),
		pinned:    yes(s.ValidationConfigurations.MutateDigest),
		attestors: map[string]any{}, attestations: map[string]any{}, spec: s, byName: map[string]*attestorProgram{},
	}
	for i, r := range s.MatchImageReferences {
		if b.err != nil {
			return
		}
		reference, err := newReference(r.Glob, r.Expression)
		if err != nil {
			b.err = &compileError{item("matchImageReferences", i), err}
		}
		out.references = append(out.references, reference)
	}
	for i, x := range s.ImageExtractors {
		e := b.add(item("images", i, "expression"), x.Expression, cel.ListType(cel.StringType), cel.ListType(cel.DynType), cel.DynType)
		out.extractors = append(out.extractors, extractor{x.Name, e})
	}
	for i := range s.Attestors {
		t := &s.Attestors[i]
		out.attestors[t.Name] = map[string]any{"name": t.Name}
		out.byName[t.Name] = b.attestor(i, t)
	}
	for _, t := range s.Attestations {
		out.attestations[t.Name] = t.Name
	}
	b.out.images = out
}

// attestor compiles the expressions of an attestor.
func (b *builder) attestor(i int, t *v1alpha1.Attestor) *attestorProgram {
	out := &attestorProgram{spec: t}
	if t.Cosign == nil {
		return out
	}
	add := func(into **expression, s *v1alpha1.StringOrExpression, fields ...string) {
		if s != nil && s.Expression != "" {
			*into = b.add(item("attestors", i, append([]string{"cosign"}, fields...)...), s.Expression)
		}
	}
	add(&out.trustedRoot, t.Cosign.TrustedRoot, "trustedRoot", "expression")
	if k := t.Cosign.Key; k != nil && k.Expression != "" {
		out.key = b.add(item("attestors", i, "cosign", "key", "expression"), k.Expression)
	}
	if c := t.Cosign.Certificate; c != nil {
		add(&out.certificate, c.Certificate, "certificate", "cert", "expression")
		add(&out.chain, c.CertificateChain, "certificate", "certChain", "expression")
	}
	return out
}

func newReference(pattern, source string) (imageReference, error) {
	if pattern != "" {
		g, err := glob.Compile(pattern)
		return imageReference{pattern: g}, err
	}
	if source == "" {
		return imageReference{}, errors.New("glob or expression must be set")
	}
	env, err := referenceEnv()
	if err != nil {
		return imageReference{}, fmt.Errorf("building the CEL environment: %w", err)
	}
	ast, issues := env.Compile(source)
	if err := issues.Err(); err != nil {
		return imageReference{}, err
	}
	if !ast.OutputType().IsExactType(cel.BoolType) {
		return imageReference{}, fmt.Errorf("the expression is of type %s; want bool", ast.OutputType())
	}
	p, err := env.Program(ast, programOptions(celguard.New(env))...)
	return imageReference{program: p}, err
}

func (r *imageReference) matches(ctx context.Context, image string) (bool, error) {
	if r.pattern != nil {
		return r.pattern.Match(image), nil
	}
	out, _, err := r.program.ContextEval(ctx, map[string]any{compiler.ImageRefKey: image})
	if err != nil {
		return false, err
	}
	b, _ := out.Value().(bool)
	return b, nil
}

// podSpecs says where resources of Kubernetes hold the spec of a pod.
var podSpecs = map[schema.GroupResource][]string{
	{Resource: "pods"}:                        {"spec"},
	{Group: "batch", Resource: "jobs"}:        {"spec", "template", "spec"},
	{Group: "apps", Resource: "deployments"}:  {"spec", "template", "spec"},
	{Group: "apps", Resource: "statefulsets"}: {"spec", "template", "spec"},
	{Group: "apps", Resource: "daemonsets"}:   {"spec", "template", "spec"},
	{Group: "apps", Resource: "replicasets"}:  {"spec", "template", "spec"},
	{Group: "batch", Resource: "cronjobs"}:    {"spec", "jobTemplate", "spec", "template", "spec"},
}

// podImages returns the images of the containers of a pod, by the list that they
// stand in.
func podImages(a *activation) (map[string][]string, error) {
	path, ok := podSpecs[a.attributes.resource.GroupResource()]
	if !ok {
		return nil, nil
	}
	tree := a.current
	if tree == nil {
		tree = a.old
	}
	for _, field := range path {
		next, ok := tree[field].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("the object has no %s", strings.Join(path, "."))
		}
		tree = next
	}
	out := map[string][]string{}
	for _, list := range []string{"containers", "initContainers", "ephemeralContainers"} {
		out[list] = []string{}
		items, _ := tree[list].([]any)
		for i, c := range items {
			c, _ := c.(map[string]any)
			image, ok := c["image"].(string)
			if !ok {
				return nil, fmt.Errorf("%s.%s[%d] has no image", strings.Join(path, "."), list, i)
			}
			out[list] = append(out[list], image)
		}
	}
	return out, nil
}

// extractAll returns the images that the policy is about, by where they were
// found, and all of them.
func (v *imageVerifier) extractAll(ctx context.Context) (map[string][]string, []string, error) {
	found, err := podImages(v.a)
	if err != nil {
		return nil, nil, err
	}
	if found == nil {
		found = map[string][]string{}
	}
	for _, x := range v.program.extractors {
		out, err := x.expression.eval(ctx, v.a)
		if err != nil {
			return nil, nil, err
		}
		native, err := toNative(out)
		if err != nil {
			return nil, nil, err
		}
		items, ok := native.([]any)
		if !ok {
			return nil, nil, fmt.Errorf("images of %s: the expression is no list", x.name)
		}
		found[x.name] = []string{}
		for _, item := range items {
			s, ok := item.(string)
			if !ok {
				return nil, nil, fmt.Errorf("images of %s: the list holds what is no string", x.name)
			}
			found[x.name] = append(found[x.name], s)
		}
	}
	return v.filter(ctx, found)
}

// filter keeps the images that the policy's references select.
func (v *imageVerifier) filter(ctx context.Context, found map[string][]string) (map[string][]string, []string, error) {
	var list []string
	names := make([]string, 0, len(found))
	for key := range found {
		names = append(names, key)
	}
	slices.Sort(names)
	for _, key := range names {
		kept := []string{}
		for _, image := range found[key] {
			selected, err := v.selects(ctx, image)
			if err != nil {
				return nil, nil, err
			}
			if selected {
				kept, list = append(kept, image), append(list, image)
			}
		}
		found[key] = kept
	}
	return found, list, nil
}

// selects says whether the policy is about an image; one without references is
// about all.
func (p *imageProgram) selects(ctx context.Context, image string) (bool, error) {
	if len(p.references) == 0 {
		return true, nil
	}
	for i := range p.references {
		if ok, err := p.references[i].matches(ctx, image); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// verify judges the images of the object.
func (v *variant) verify(ctx context.Context, a *activation, p *program) Response {
	i := &imageVerifier{
		ctx: ctx, a: a, program: p.images, verified: map[string]bool{}, payloads: map[[2]string]any{},
		pins: pins{tags: map[string]string{}, undecided: map[string]bool{}},
	}
	if err := v.pin(ctx, a, i); err != nil {
		return failure("evaluation", err)
	}
	a.bind(ctx, p.names, p.variables)
	images, list, err := i.extractAll(ctx)
	if err != nil {
		return failure("evaluation", err)
	}
	if resp := i.undigested(list); resp != nil {
		resp.Rule = v.policy.Name
		return *resp
	}
	a.extra = map[string]any{compiler.ImagesKey: images, compiler.AttestorsKey: p.images.attestors, compiler.AttestationsKey: p.images.attestations, verifierKey: i}
	resp := i.judge(list, func() Response { return validate(ctx, a, p) })
	resp.Rule = v.policy.Name
	return resp
}

// judge judges images: they must be there, and verified by some expression where
// the policy requires that. A requirement that is not met fails, whatever else is
// not known.
func (v *imageVerifier) judge(list []string, validate func() Response) Response {
	missing := v.pins.why
	for _, image := range list {
		if missing != nil {
			break
		}
		missing = v.fetch(image)
	}
	var unknown *unknownError
	if missing != nil && !errors.As(missing, &unknown) {
		return failure("evaluation", missing)
	}
	v.a.asked = ""
	resp := validate()
	switch {
	case resp.Status == Fail, resp.Unknown != "":
		return resp
	case missing != nil && (v.program.required || resp.Status == Error):
		return failure("evaluation", missing)
	case resp.Status == Error || !v.program.required:
		return resp
	}
	for _, image := range list {
		switch verified, tried := v.verified[image]; {
		case verified:
		case tried:
			return Response{Status: Fail, Message: fmt.Sprintf("image %s failed signature or attestation verification", image)}
		default:
			return failure("evaluation", &unknownError{fmt.Sprintf("whether some policy verifies the image %s, which the policy requires: none of its own expressions does; set validationConfigurations.required to false if none needs to", image)})
		}
	}
	return resp
}
