// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"errors"

	"sconce.dev/sconce/policy/kyverno"
)

// podSecurity writes a level of the Pod Security Standards.
func (w *ruleWriter) podSecurity(*searcher, *kyverno.PodSecurity) (string, error) {
	return "", errors.New("podSecurity")
}
