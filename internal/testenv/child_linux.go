package testenv

import "syscall"

// diesWithParent has the kernel end a child when the test binary ends, also by
// a panic or a kill, which run no cleanup.
func diesWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
