// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// What a JSON patch may be and do is bounded.
const (
	maxPatch      = 1 << 20 // bytes of its text
	maxOperations = 1000
	maxCopied     = 4 << 20 // bytes that its copies may add
	maxIndex      = 1000    // a place in a list that is filled up with nulls
)

// JSONPatch applies a JSON patch, written as JSON or YAML, to an object and
// returns the new object. The argument is not changed.
func JSONPatch(base any, patch string) (any, error) {
	p, err := ParseJSONPatch(patch)
	if err != nil {
		return nil, err
	}
	return p.Apply(base)
}

// Patch is a JSON patch that was read. It is safe for concurrent use.
type Patch struct{ operations jsonpatch.Patch }

// ParseJSONPatch reads a JSON patch, written as JSON or YAML.
func ParseJSONPatch(text string) (p *Patch, err error) {
	defer recovered(&err, "reading patchesJson6902")
	if len(text) > maxPatch {
		return nil, fmt.Errorf("patchesJson6902 has %d bytes; at most %d", len(text), maxPatch)
	}
	data := []byte(text)
	if !strings.HasPrefix(text, "[") && text != "" {
		if data, err = yaml.YAMLToJSON(data); err != nil {
			return nil, fmt.Errorf("reading patchesJson6902: %w", err)
		}
	}
	operations, err := jsonpatch.DecodePatch(data)
	if err != nil {
		return nil, fmt.Errorf("reading patchesJson6902: %w; want a list of operations, each with op and path", err)
	}
	if len(operations) > maxOperations {
		return nil, fmt.Errorf("patchesJson6902 has %d operations; at most %d", len(operations), maxOperations)
	}
	return &Patch{operations}, nil
}

// Apply applies the patch to an object and returns the new object; the argument
// is not changed. As in Kyverno, what an add lacks on its way is made, removing
// what is not there does nothing, and negative indexes count from the end.
func (p *Patch) Apply(base any) (out any, err error) {
	defer recovered(&err, "applying patchesJson6902")
	for _, op := range p.operations {
		if err := p.checkIndexes(op, base); err != nil {
			return nil, err
		}
	}
	data, err := json.Marshal(base)
	if err != nil {
		return nil, fmt.Errorf("applying patchesJson6902: writing the object: %w", err)
	}
	data, err = p.operations.ApplyWithOptions(data, &jsonpatch.ApplyOptions{
		SupportNegativeIndices: true, AllowMissingPathOnRemove: true, EnsurePathExistsOnAdd: true,
		AccumulatedCopySizeLimit: maxCopied,
	})
	if err != nil {
		return nil, fmt.Errorf("applying patchesJson6902: %w", err)
	}
	var tree map[string]any
	if err := kjson.UnmarshalCaseSensitivePreserveInts(data, &tree); err != nil {
		return nil, fmt.Errorf("applying patchesJson6902: reading what it leaves: %w", err)
	}
	if tree == nil {
		return nil, fmt.Errorf("patchesJson6902 deletes the whole object, which a mutation cannot")
	}
	return tree, nil
}

// checkIndexes refuses a path that would fill a list with a great many nulls.
// Numbers that are keys of a map are no indexes.
func (p *Patch) checkIndexes(op jsonpatch.Operation, base any) error {
	path, err := op.Path()
	if err != nil {
		return nil //nolint:nilerr // applying says so
	}
	at := base
	for _, part := range strings.Split(strings.TrimPrefix(path, "/"), "/") {
		m, isMap := at.(map[string]any)
		if i, err := strconv.Atoi(part); err == nil && !isMap && i > maxIndex {
			if list, _ := at.([]any); i > len(list) {
				return fmt.Errorf("applying patchesJson6902: the path %q: there is nothing at the index %d; at most %d places are filled up", path, i, maxIndex)
			}
		}
		at = child(at, m, unescape.Replace(part))
	}
	return nil
}

var unescape = strings.NewReplacer("~1", "/", "~0", "~")

func child(at any, m map[string]any, key string) any {
	if m != nil {
		return m[key]
	}
	list, ok := at.([]any)
	if i, err := strconv.Atoi(key); ok && err == nil && i >= 0 && i < len(list) {
		return list[i]
	}
	return nil
}

// recovered makes an error of a panic of the library that applies patches.
func recovered(err *error, doing string) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("%s: a path or value of it cannot be applied (%v)", doing, r)
	}
}
