package authority

import (
	"errors"
	"fmt"

	"holdfast/pki"
	"holdfast/store"
)

// InvalidError: the caller asked for something that cannot be.
type InvalidError struct {
	Field   string `json:"field"`         // what is wrong, as spelled in JSON
	Problem string `json:"problem"`       // why
	Fix     string `json:"fix,omitempty"` // how to mend it
}

func (e *InvalidError) Error() string {
	s := e.Field + ": " + e.Problem
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

func invalid(field, fix, format string, args ...any) error {
	return &InvalidError{Field: field, Fix: fix, Problem: fmt.Sprintf(format, args...)}
}

// errBusy: more passwords than this process can check in time are waiting.
var errBusy = errors.New("authority is overloaded")

// ErrNotFound and ErrExists are store's, so that callers need not import it.
var (
	ErrNotFound = store.ErrNotFound
	ErrExists   = store.ErrExists
)

// checkName is for CN and O of certificates.
func checkName(field, s string) error {
	if err := pki.CheckName(s); err != nil {
		return invalid(field, "choose a shorter or other one", "%v", err)
	}
	return nil
}
