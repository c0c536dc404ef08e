//go:build kms || pkcs11

package main

import (
	"context"
	"fmt"
	"strings"

	"go.step.sm/crypto/kms"
	"go.step.sm/crypto/kms/apiv1"
	_ "go.step.sm/crypto/kms/pkcs11"
)

// openKMS opens a key management system by its URI. PKCS#11 needs cgo as well.
func openKMS(ctx context.Context, uri string) (apiv1.KeyManager, error) {
	typ, err := apiv1.TypeOf(uri)
	if err != nil {
		return nil, &usageError{fmt.Sprintf("--kms: %v", err)}
	}
	if _, ok := apiv1.LoadKeyManagerNewFunc(typ); !ok {
		return nil, &usageError{fmt.Sprintf("--kms: this binary cannot speak to %s: build one with make build-kms (and cgo, for PKCS#11)", typ)}
	}
	m, err := kms.New(ctx, apiv1.Options{Type: typ, URI: uri})
	if err != nil {
		scheme, _, _ := strings.Cut(uri, ":") // the rest may hold a PIN
		return nil, fmt.Errorf("key management system %s: %w", scheme, err)
	}
	return m, nil
}
