// SPDX-License-Identifier: Apache-2.0

package render

import "runtime/metrics"

// used returns the memory that the process holds, in bytes, as Go's own memory
// limit counts it.
func used() int64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return int64(samples[0].Value.Uint64() - samples[1].Value.Uint64())
}
