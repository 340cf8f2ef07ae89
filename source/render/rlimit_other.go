// SPDX-License-Identifier: Apache-2.0

//go:build !linux || race

package render

// limitData does nothing here: the watch alone holds the limit.
func limitData(int) {}
