// SPDX-License-Identifier: Apache-2.0

package gatekeeper

import "sconce.dev/sconce/object"

func (l *loader) mutator(*object.Object) {}
