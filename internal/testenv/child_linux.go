package testenv

import "syscall"

// DiesWithParent has the kernel end a child when the test binary ends, also by
// a panic or a kill, which run no cleanup.
func DiesWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
