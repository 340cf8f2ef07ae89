// SPDX-License-Identifier: Apache-2.0

//go:build !race

package render

import "syscall"

// limitData has the kernel refuse memory far above the limit, for the template
// that asks for it all at once. It is only a backstop, and above the limit by
// enough that what Go reserves and does not use never comes near it.
func limitData(limitMiB int) {
	var now syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_DATA, &now) != nil {
		return
	}
	now.Cur = min(uint64(limitMiB)*2<<20+512<<20, now.Max)
	_ = syscall.Setrlimit(syscall.RLIMIT_DATA, &now)
}
