// SPDX-License-Identifier: Apache-2.0

// Command sconce holds Kubernetes configuration against a security baseline.
package main

import (
	"os"
	"runtime/debug"

	"sconce.dev/sconce/cli"
)

// A scan makes much garbage and keeps little. The heap may grow to five times
// what is live before it is collected, which saves a fifth of the time, but not
// beyond memoryLimit as long as what is live is below it. GOGC and GOMEMLIMIT,
// where they are set, win.
const (
	gcPercent   = 400
	memoryLimit = 120 << 20
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	os.Exit(cli.Main(os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
