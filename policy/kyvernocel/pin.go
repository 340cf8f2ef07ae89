// SPDX-License-Identifier: Apache-2.0

package kyvernocel

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/go-containerregistry/pkg/name"

	"sconce.dev/sconce/policy/kyverno/jmes"
	"sconce.dev/sconce/policy/registry"
)

// pins is what became of tags.
type pins struct {
	// tags are the images of the object, by what stands in their place.
	tags map[string]string
	// undecided are those in place whose digests were not found out, and why is the
	// reason of the first.
	undecided map[string]bool
	why       error
}

// pin puts the digests that tags mean into the object, where the policy has them
// pinned: Kyverno does that to images of containers at admission, before it
// validates. Its command line does not, nor is it done to pods in objects of other
// kinds.
func (v *variant) pin(ctx context.Context, a *activation, i *imageVerifier) error {
	if !i.program.pinned || v.config == extracted || a.lookup.told != nil || a.current == nil {
		return nil
	}
	found, err := podImages(a)
	if err != nil || found == nil {
		return err
	}
	for _, list := range slices.Sorted(maps.Keys(found)) {
		for at, image := range found[list] {
			if found[list][at], err = i.digested(ctx, image); err != nil {
				return err
			}
		}
	}
	if len(i.pins.tags) == 0 {
		return nil
	}
	s := *a.subject
	s.object = withImages(a.current, podSpecs[a.attributes.resource.GroupResource()], found)
	s.request = s.newRequest()
	a.subject, a.current, a.asked = &s, s.object, ""
	return nil
}

// digested returns the image that a tag means, or the whole reference where that
// is not found out; empty where it is not pinned.
func (v *imageVerifier) digested(ctx context.Context, image string) (string, error) {
	parts, err := jmes.ParseImage(image)
	if err != nil {
		return "", fmt.Errorf("reading the image reference %s: %w", image, err)
	}
	if parts.Digest != "" {
		return "", nil
	}
	whole := parts.String()
	selected, err := v.program.selects(ctx, whole)
	if err != nil || !selected {
		return "", err
	}
	data, err := v.client().Image(ctx, registry.Lookup{Image: whole})
	if err != nil {
		v.pins.tags[whole], v.pins.undecided[whole] = image, true
		if v.pins.why == nil {
			v.pins.why = v.outside("the digest of the image "+image, err)
		}
		return whole, nil
	}
	full := whole + "@" + data.Digest
	v.pins.tags[full] = image
	return full, nil
}

// withImages returns an object with other images in its containers; those that are
// empty stay as they are.
func withImages(tree map[string]any, path []string, images map[string][]string) map[string]any {
	out := maps.Clone(tree)
	if len(path) > 0 {
		inner, _ := tree[path[0]].(map[string]any)
		out[path[0]] = withImages(inner, path[1:], images)
		return out
	}
	for list, of := range images {
		items, _ := tree[list].([]any)
		items = slices.Clone(items)
		for i, image := range of {
			if image == "" {
				continue
			}
			container, _ := items[i].(map[string]any)
			container = maps.Clone(container)
			container["image"] = image
			items[i] = container
		}
		if items != nil {
			out[list] = items
		}
	}
	return out
}

// undigested is the response where an image must be given by digest and is not;
// nil where all are.
func (v *imageVerifier) undigested(list []string) *Response {
	if !v.program.digests {
		return nil
	}
	for _, image := range list {
		reference, err := name.ParseReference(image)
		if err != nil {
			resp := failure("evaluation", fmt.Errorf("reading the image reference %s: %w", image, err))
			return &resp
		}
		if _, ok := reference.(name.Digest); !ok && !v.pins.undecided[image] {
			return &Response{Status: Fail, Message: fmt.Sprintf("image %s does not have a digest", image)}
		}
	}
	if v.pins.why != nil {
		resp := failure("evaluation", v.pins.why)
		return &resp
	}
	return nil
}
