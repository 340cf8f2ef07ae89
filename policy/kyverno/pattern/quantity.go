// SPDX-License-Identifier: Apache-2.0

package pattern

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

const (
	// maxQuantity is how long the text of a quantity may be, maxExponent how many
	// digits its exponent may have: with more, comparing two of them takes for ever.
	maxQuantity = 256
	maxExponent = 3
)

// ParseQuantity reads a quantity as Kubernetes does, and says whether it is one. What
// is too large to reckon with is none.
func ParseQuantity(s string) (resource.Quantity, bool) {
	if s == "" || len(s) > maxQuantity || !exponentInBounds(s) {
		return resource.Quantity{}, false
	}
	q, err := resource.ParseQuantity(s)
	return q, err == nil
}

func exponentInBounds(s string) bool {
	e := strings.IndexAny(s, "eE")
	if e < 0 {
		return true
	}
	digits := strings.TrimLeft(strings.TrimLeft(s[e+1:], "+-"), "0")
	return len(digits) <= maxExponent
}
