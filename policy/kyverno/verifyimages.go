// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sconce.dev/sconce/object"
	"sconce.dev/sconce/policy/kyverno/jmes"
	"sconce.dev/sconce/policy/registry"
)

// compileImages prepares a rule that verifies images. What varies with the request
// is read when it is known.
func (r *Rule) compileImages() error {
	r.check = r.verify
	varies := slices.ContainsFunc(r.VerifyImages, func(c map[string]any) bool { return mentions(withoutConditions(c), "{{") })
	if varies {
		return nil
	}
	var err error
	r.images, err = r.imageChecks(nil)
	return err
}

// imageChecks are the entries of verifyImages for a request.
func (r *Rule) imageChecks(s *scope) ([]*imageCheck, error) {
	if r.images != nil {
		return r.images, nil
	}
	var out []*imageCheck
	for i, tree := range r.VerifyImages {
		c, err := newCheck(s, tree)
		if err != nil {
			return nil, fmt.Errorf("verifyImages[%d]: %w", i, err)
		}
		out = append(out, c)
	}
	return out, nil
}

// newCheck reads an entry of verifyImages. Variables in conditions are left to
// those.
func newCheck(s *scope, tree map[string]any) (*imageCheck, error) {
	c, err := decodeCheck(tree)
	if err != nil || s == nil {
		return valid(c, err)
	}
	told, err := s.tree(withoutConditions(tree))
	if err != nil {
		return nil, err
	}
	m, ok := told.(map[string]any)
	if !ok {
		return nil, errors.New("it is no map")
	}
	out, err := decodeCheck(m)
	if err != nil {
		return nil, err
	}
	for i := range out.Attestations {
		out.Attestations[i].Conditions = c.Attestations[i].Conditions
	}
	out.Validation.Deny = c.Validation.Deny
	return valid(out, nil)
}

func valid(c *imageCheck, err error) (*imageCheck, error) {
	if err != nil {
		return nil, err
	}
	out, err := c.asTold()
	if err != nil {
		return nil, err
	}
	return out, out.validate()
}

// withoutConditions returns an entry of verifyImages without what is evaluated
// later.
func withoutConditions(tree map[string]any) map[string]any {
	out := maps.Clone(tree)
	if list, ok := out["attestations"].([]any); ok {
		list = slices.Clone(list)
		for i, item := range list {
			if m, ok := item.(map[string]any); ok {
				m = maps.Clone(m)
				delete(m, "conditions")
				list[i] = m
			}
		}
		out["attestations"] = list
	}
	if m, ok := out["validate"].(map[string]any); ok {
		m = maps.Clone(m)
		delete(m, "deny")
		out["validate"] = m
	}
	return out
}

// verifyImages runs the rules that verify images.
func (e *evaluation) verifyImages() []Response {
	return e.rules(func(r *Rule) bool { return r.hasVerifyImages() }, e.run)
}

// pictured is an image of the object.
type pictured struct {
	info      map[string]any
	reference string
	pointer   string
	// digest is what the reference has, or gets.
	digest string
	added  bool
}

// outcome is what one check says of one image.
type outcome struct {
	status  Status
	message string
	unknown error // of what is not known
}

// verify verifies the images that a rule is about, and then holds them against
// what must be verified and must have a digest.
func (r *Rule) verify(s *scope, _ []*Exception) *Response {
	if len(r.ImageExtractors) > 0 {
		reason := "whether the images that imageExtractors finds are signed: looking for them in objects is not supported"
		return &Response{Status: Error, Message: reason, Unknown: reason}
	}
	all, err := s.pictures()
	if err != nil {
		return failed(TypeVerifyImages, "reading the images", err)
	}
	checks, err := r.imageChecks(s)
	if err != nil {
		return failed(TypeVerifyImages, "reading verifyImages", err)
	}
	of := slices.DeleteFunc(slices.Clone(all), func(p *pictured) bool {
		return !slices.ContainsFunc(checks, func(c *imageCheck) bool { return c.selects(p.reference) })
	})
	if len(of) == 0 {
		return nil
	}
	v := &verification{s: s, checks: checks, verified: map[string]Status{}}
	for _, c := range checks {
		for _, p := range of {
			v.add(c, p)
		}
	}
	v.hold(of)
	return v.response(of)
}

// pictures are the images of the object, in the order of their places.
func (s *scope) pictures() ([]*pictured, error) {
	images, err := s.e.subject.images()
	if err != nil {
		return nil, err
	}
	var out []*pictured
	for _, list := range sortedKeys(images) {
		infos, _ := images[list].(map[string]any)
		for _, name := range sortedKeys(infos) {
			p := &pictured{}
			p.info, _ = infos[name].(map[string]any)
			p.reference, _ = p.info["reference"].(string)
			p.pointer, _ = p.info["jsonPointer"].(string)
			p.digest, _ = p.info["digest"].(string)
			out = append(out, p)
		}
	}
	return out, nil
}

func (c *imageCheck) selects(reference string) bool { return anyWildcard(c.ImageReferences, reference) }

// verification is what a rule finds out about images.
type verification struct {
	s        *scope
	checks   []*imageCheck
	verified map[string]Status // by reference, of checks that verify
	passed   []string
	skipped  bool
	failures []Part
	unknown  error
	broken   string
}

// add adds what a check says of an image.
func (v *verification) add(c *imageCheck, p *pictured) {
	o, digest := v.s.verifyImage(c, p)
	if o != nil {
		if len(c.Attestors)+len(c.Attestations) > 0 {
			v.verified[p.reference] = o.status
		}
		v.note(o, p)
	}
	if !isOn(c.MutateDigest) || p.digest != "" {
		return
	}
	if digest == "" {
		var err error
		if digest, err = registry.Of(v.s.e.request.Network).Digest(v.s.e.ctx, registry.Lookup{Image: p.reference, Fresh: !isOn(c.UseCache)}); err != nil {
			if isUnasked(err) {
				v.unknown = cmpErr(v.unknown, fmt.Errorf("the digest of %s is not known: %w", p.reference, err))
			}
			v.broken = fmt.Sprintf("looking up the digest of %s: %v", p.reference, err)
			return
		}
	}
	p.digest, p.added = digest, true
	if o == nil {
		v.passed = append(v.passed, p.reference)
	}
}

// note takes an outcome up.
func (v *verification) note(o *outcome, p *pictured) {
	switch {
	case o.status == Pass:
		v.passed = append(v.passed, p.reference)
	case o.status == Skip:
		v.skipped = true
	case o.unknown != nil:
		v.unknown = cmpErr(v.unknown, o.unknown)
	default:
		v.fail(p, o.message)
	}
}

func (v *verification) fail(p *pictured, message string) {
	part := Part{Message: message, Path: v.s.e.subject.path(strings.Split(strings.TrimPrefix(p.pointer, "/"), "/"))}
	if !slices.ContainsFunc(v.failures, func(f Part) bool { return f.Message == part.Message && samePath(f.Path, part.Path) }) {
		v.failures = append(v.failures, part)
	}
}

func samePath(a, b object.Path) bool { return a.String() == b.String() }

// outcomeOf is what an error says of an image: a refusal fails, and what could not
// be found out is not known.
func outcomeOf(p *pictured, what string, err error) *outcome {
	if isUnasked(err) {
		return &outcome{status: Error, unknown: fmt.Errorf("%s is not known: %w", what, err)}
	}
	return &outcome{status: Fail, message: fmt.Sprintf("the image %s is not verified: %v", p.reference, err)}
}

// verifyImage says whether an image is signed and attested as a check asks; nil
// where it asks for neither.
func (s *scope) verifyImage(c *imageCheck, p *pictured) (*outcome, string) {
	if len(c.Attestors)+len(c.Attestations) == 0 {
		return nil, ""
	}
	s.own()["image"] = withoutField(p.info, "jsonPointer")
	if !c.selects(p.reference) || anyWildcard(c.SkipImageReferences, p.reference) {
		return &outcome{status: Skip}, ""
	}
	what := fmt.Sprintf("whether %s is signed as verifyImages asks", p.reference)
	digest := ""
	for i := range c.Attestors {
		d, err := s.attestors(c, &c.Attestors[i], p.reference)
		if err != nil {
			return outcomeOf(p, what, err), ""
		}
		digest = d
	}
	if len(c.Attestations) == 0 {
		return &outcome{status: Pass}, digest
	}
	image := p.reference
	if p.digest == "" && digest != "" { // what is attested is what was signed
		image = imageAt(p.info, digest)
	}
	d, err := s.attestations(c, image)
	if err == nil {
		err = s.denied()
	}
	if err != nil {
		return outcomeOf(p, strings.Replace(what, "signed", "attested", 1), err), ""
	}
	return &outcome{status: Pass}, d
}

// imageAt is the reference of an image by its digest.
func imageAt(info map[string]any, digest string) string {
	return fmt.Sprintf("%v/%v@%s", info["registry"], info["path"], digest)
}

// denied says why what is attested is denied.
func (s *scope) denied() error {
	checks, err := s.rule.imageChecks(s)
	if err != nil {
		return err
	}
	for _, c := range checks {
		if c.Validation.Deny == nil {
			continue
		}
		denied, message, err := jmes.Conditions(c.Validation.Deny.Conditions, s)
		switch {
		case err != nil:
			return fmt.Errorf("evaluating validate.deny: %w", err)
		case denied:
			text, err := s.text("validate.message", joined(c.Validation.Message, message))
			if err != nil {
				text = c.Validation.Message
			}
			return errors.New(joined("what is attested is denied", text))
		}
	}
	return nil
}

// hold says of images that must be verified, or have a digest, whether they are and
// have.
func (v *verification) hold(of []*pictured) {
	if len(v.failures) > 0 || v.unknown != nil || v.broken != "" {
		return
	}
	for _, c := range v.checks {
		for _, p := range of {
			switch {
			case !c.selects(p.reference):
			case isOn(c.VerifyDigest) && p.digest == "":
				v.fail(p, "missing digest for "+p.reference)
			case isOn(c.Required) && v.verified[p.reference] == "":
				v.fail(p, "unverified image "+p.reference)
			}
		}
	}
}

// response is what comes of it all.
func (v *verification) response(of []*pictured) *Response {
	out := &Response{Changed: v.changed(of)}
	switch {
	case len(v.failures) > 0:
		out.Status, out.Message, out.Parts = Fail, v.failures[0].Message, v.failures
		out.Path = v.failures[0].Path
	case v.unknown != nil:
		out.Status, out.Message, out.Unknown = Error, v.unknown.Error(), v.unknown.Error()
	case v.broken != "":
		out.Status, out.Message = Error, v.broken
	case len(v.passed) == 0 && v.skipped:
		out.Status, out.Message = Skip, "the images are skipped"
	default:
		out.Status, out.Message = Pass, "image verified"
	}
	return out
}

// changed is the object with the digests of the images that had none.
func (v *verification) changed(of []*pictured) map[string]any {
	out := v.s.e.subject.object
	any := false
	for _, p := range of {
		if p.added {
			out, any = withImage(out, strings.Split(strings.TrimPrefix(p.pointer, "/"), "/"), p.reference+"@"+p.digest), true
		}
	}
	if !any {
		return nil
	}
	return out
}

// withImage returns a tree with another image where the steps lead.
func withImage(tree map[string]any, steps []string, image string) map[string]any {
	out, _ := put(tree, steps, image).(map[string]any)
	return out
}

func put(tree any, steps []string, value any) any {
	if len(steps) == 0 {
		return value
	}
	switch tree := tree.(type) {
	case map[string]any:
		out := maps.Clone(tree)
		out[steps[0]] = put(tree[steps[0]], steps[1:], value)
		return out
	case []any:
		if i := itemNumber(steps[0]); i >= 0 && i < len(tree) {
			out := slices.Clone(tree)
			out[i] = put(tree[i], steps[1:], value)
			return out
		}
	}
	return tree
}

func withoutField(m map[string]any, field string) map[string]any {
	out := maps.Clone(m)
	delete(out, field)
	return out
}
