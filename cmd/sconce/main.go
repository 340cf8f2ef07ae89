// SPDX-License-Identifier: Apache-2.0

// Command sconce holds Kubernetes configuration against a security baseline.
package main

import (
	"os"
	"runtime/debug"

	"sconce.dev/sconce/cli"
)

// gcPercent lets the heap grow to five times what is live before it is
// collected: a scan makes much garbage and keeps little, and this saves a fifth
// of its time. GOGC, where it is set, wins.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(cli.Main(os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
