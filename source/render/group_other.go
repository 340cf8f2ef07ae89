// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package render

import (
	"os"
	"os/exec"
)

// ownGroup does nothing here: the worker is ended by itself.
func ownGroup(*exec.Cmd) {}

// killGroup ends a worker.
func killGroup(p *os.Process) { _ = p.Kill() }

// endGroup does nothing here.
func endGroup() {}
