//go:build !linux

package memory

import (
	"context"
	"errors"
)

// PID is a process of this machine; only on Linux it can be read.
type PID struct{}

var errNoProc = errors.New("reading a process by its pid works on Linux only")

// OpenPID returns an error.
func OpenPID(int) (*PID, error) { return nil, errNoProc }

func (*PID) Read(context.Context) (Sample, error) { return Sample{}, errNoProc }

func (*PID) Close() error { return nil }
