//go:build !linux

package testenv

import "syscall"

// DiesWithParent does nothing here: a test binary that is killed leaves its
// children behind.
func DiesWithParent() *syscall.SysProcAttr { return nil }
