// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"fmt"
	"slices"
	"strings"

	"sconce.dev/sconce/policy/kyverno/jmes"
)

// podOf returns the spec of the pod that an object of a kind holds, as maps.
func podOf(tree map[string]any, kind string) (map[string]any, []string) {
	var steps []string
	switch kind {
	case "Pod":
		steps = []string{"spec"}
	case "CronJob":
		steps = []string{"spec", "jobTemplate", "spec", "template", "spec"}
	case "DaemonSet", "Deployment", "ReplicaSet", "ReplicationController", "StatefulSet", "Job":
		steps = []string{"spec", "template", "spec"}
	default:
		return nil, nil
	}
	for _, step := range steps {
		tree, _ = tree[step].(map[string]any)
	}
	return tree, steps
}

var containerLists = []string{"initContainers", "containers", "ephemeralContainers"}

// imagesOf is the variable images: what the images of the containers are made of.
func imagesOf(tree map[string]any, kind string) (map[string]any, error) {
	spec, steps := podOf(tree, kind)
	out := map[string]any{}
	for _, list := range containerLists {
		containers, _ := spec[list].([]any)
		infos := map[string]any{}
		for i, item := range containers {
			c, ok := item.(map[string]any)
			if !ok {
				continue
			}
			image, _ := c["image"].(string)
			name, ok := c["name"].(string)
			if !ok {
				return nil, fmt.Errorf("%s[%d] has no name", list, i)
			}
			if strings.TrimSpace(image) == "" {
				continue
			}
			info, err := parseImage(image)
			if err != nil {
				return nil, err
			}
			info["jsonPointer"] = "/" + strings.Join(steps, "/") + fmt.Sprintf("/%s/%d/image", list, i)
			infos[name] = info
		}
		if len(infos) > 0 {
			out[list] = infos
		}
	}
	return out, nil
}

// parseImage takes an image apart.
func parseImage(image string) (map[string]any, error) {
	i, err := jmes.ParseImage(image)
	if err != nil {
		return nil, fmt.Errorf("the image %q: %w", image, err)
	}
	out := map[string]any{
		"registry": i.Registry, "path": i.Path, "name": i.Name, "reference": i.String(),
		"referenceWithTag": i.Registry + "/" + i.Path + ":" + i.Tag,
	}
	if i.Tag != "" {
		out["tag"] = i.Tag
	}
	if i.Digest != "" {
		out["digest"] = i.Digest
	}
	return out, nil
}

// verifyImages runs the rules that verify images.
func (e *evaluation) verifyImages() []Response {
	return e.rules(func(r *Rule) bool { return r.hasVerifyImages() }, e.run)
}

// verify says of which images a registry would have to be asked.
func (r *Rule) verify(s *scope, _ []*Exception) *Response {
	images, err := s.e.subject.images()
	if err != nil {
		return failed(TypeVerifyImages, "reading the images", err)
	}
	if len(r.ImageExtractors) > 0 {
		return unverified("the images that imageExtractors finds")
	}
	var asked []string
	for _, list := range sortedKeys(images) {
		infos, _ := images[list].(map[string]any)
		for _, name := range sortedKeys(infos) {
			info, _ := infos[name].(map[string]any)
			reference, _ := info["reference"].(string)
			if r.verifies(reference) {
				asked = append(asked, reference)
			}
		}
	}
	if len(asked) == 0 {
		return nil
	}
	slices.Sort(asked)
	asked = slices.Compact(asked)
	if !slices.ContainsFunc(r.VerifyImages, asksRegistry) {
		return r.digests(asked)
	}
	return unverified("the images " + strings.Join(asked, ", "))
}

// asksRegistry says whether a check of images needs more than their references.
func asksRegistry(c map[string]any) bool {
	for _, field := range []string{"attestors", "attestations", "key", "roots", "subject", "issuer", "validate"} {
		if c[field] != nil {
			return true
		}
	}
	off := func(field string) bool { v, ok := c[field].(bool); return ok && !v }
	return !off("mutateDigest") || !off("required")
}

// digests fails if an image has no digest and must have one.
func (r *Rule) digests(images []string) *Response {
	for _, c := range r.VerifyImages {
		if verify, ok := c["verifyDigest"].(bool); ok && !verify {
			continue
		}
		for _, image := range images {
			if !strings.Contains(image, "@") && checks(c, image) {
				return &Response{Status: Fail, Message: "missing digest for " + image}
			}
		}
	}
	return &Response{Status: Pass, Message: "image verified"}
}

func unverified(what string) *Response {
	reason := "whether " + what + " are signed as verifyImages asks: their registries are not asked"
	return &Response{Status: Error, Message: reason, Unknown: reason}
}

// verifies says whether a rule is about an image.
func (r *Rule) verifies(reference string) bool {
	return slices.ContainsFunc(r.VerifyImages, func(c map[string]any) bool { return checks(c, reference) })
}

// checks says whether one check of a rule is about an image.
func checks(c map[string]any, reference string) bool {
	patterns := append(texts(c["imageReferences"]), texts(c["image"])...)
	return anyWildcard(patterns, reference) && !anyWildcard(texts(c["skipImageReferences"]), reference)
}

func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, item := range v {
			if s, ok := item.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}
