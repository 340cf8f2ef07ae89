// SPDX-License-Identifier: Apache-2.0

package compare

import "sconce.dev/sconce/api/v1alpha1"

// gatekeeperParameters says what the parameters of a constraint mean for our
// controls.
func gatekeeperParameters(rule string, constraint []byte) (map[string]map[string]v1alpha1.Value, error) {
	return nil, nil
}
