package storetest

import "syscall"

// attributes runs a process as cred, and ends it with this one even if this one
// is killed.
func attributes(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: cred, Pdeathsig: syscall.SIGQUIT}
}
