//go:build !linux

package storetest

import "syscall"

// attributes runs a process as cred.
func attributes(cred *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: cred}
}
