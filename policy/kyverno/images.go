// SPDX-License-Identifier: Apache-2.0

package kyverno

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sconce.dev/sconce/policy/kyverno/jmes"
)

// podSteps lead to the spec of the pod that an object of a kind holds; nil where it
// holds none.
func podSteps(kind string) []string {
	switch kind {
	case "Pod":
		return []string{"spec"}
	case "CronJob":
		return []string{"spec", "jobTemplate", "spec", "template", "spec"}
	case "DaemonSet", "Deployment", "ReplicaSet", "ReplicationController", "StatefulSet", "Job":
		return []string{"spec", "template", "spec"}
	}
	return nil
}

var containerLists = []string{"initContainers", "containers", "ephemeralContainers"}

// imagesOf is the variable images: what the images of the containers are made of.
func imagesOf(tree map[string]any, kind string) (map[string]any, error) {
	steps, out := podSteps(kind), map[string]any{}
	if steps == nil {
		return out, nil
	}
	for _, list := range containerLists {
		infos := map[string]any{}
		if err := addImages(infos, tree, append(slices.Clip(steps), list), ""); err != nil {
			return nil, err
		}
		if len(infos) > 0 {
			out[list] = infos
		}
	}
	return out, nil
}

// addImages adds the images of the containers to which steps lead. As in Kyverno,
// containers may also stand in lists of lists, or in a map; what else stands where
// a map must be is an error, and null is nothing.
func addImages(out map[string]any, tree any, steps []string, at string) error {
	if tree == nil {
		return nil
	}
	if len(steps) > 0 {
		m, ok := tree.(map[string]any)
		if !ok {
			return fmt.Errorf("%s holds %T where a map must be: its images cannot be read", cmp.Or(at, "/"), tree)
		}
		return addImages(out, m[steps[0]], steps[1:], at+"/"+steps[0])
	}
	switch tree := tree.(type) {
	case []any:
		for i, item := range tree {
			var err error
			switch item := item.(type) {
			case map[string]any:
				err = addImage(out, item, at+"/"+strconv.Itoa(i))
			case []any:
				err = addImages(out, item, nil, at+"/"+strconv.Itoa(i))
			}
			if err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		for _, key := range sortedKeys(tree) {
			switch item := tree[key].(type) {
			case map[string]any:
				if err := addImage(out, item, at+"/"+key); err != nil {
					return err
				}
			case []any:
				return fmt.Errorf("%s/%s is a list where a container must be: its image cannot be read", at, key)
			}
		}
		return nil
	}
	return fmt.Errorf("%s holds %T where containers must be: their images cannot be read", at, tree)
}

// addImage adds the image of a container.
func addImage(out, container map[string]any, at string) error {
	name, ok := container["name"].(string)
	if !ok {
		return fmt.Errorf("the container at %s has no name", at)
	}
	image, _ := container["image"].(string)
	if strings.TrimSpace(image) == "" {
		return nil
	}
	info, err := parseImage(image)
	if err != nil {
		return err
	}
	info["jsonPointer"] = at + "/image"
	out[name] = info
	return nil
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
