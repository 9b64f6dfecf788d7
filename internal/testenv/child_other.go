//go:build !linux

package testenv

import "syscall"

// diesWithParent does nothing here: a test binary that is killed leaves its
// children behind.
func diesWithParent() *syscall.SysProcAttr { return nil }
