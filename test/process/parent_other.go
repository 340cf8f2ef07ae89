// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package process

import "syscall"

// dieWithParent is nothing here: a test that is killed leaves its children.
func dieWithParent() *syscall.SysProcAttr { return nil }

// stopped cannot be told here.
func stopped(int) bool { return true }
