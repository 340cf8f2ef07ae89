// SPDX-License-Identifier: Apache-2.0

// Command sconce holds Kubernetes configuration against a security baseline.
package main

import (
	"os"

	"sconce.dev/sconce/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
