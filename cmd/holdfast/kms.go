//go:build kms

package main

import (
	"context"
	"fmt"
	"strings"

	"go.step.sm/crypto/kms"
	"go.step.sm/crypto/kms/apiv1"
	_ "go.step.sm/crypto/kms/awskms"
	_ "go.step.sm/crypto/kms/azurekms"
	_ "go.step.sm/crypto/kms/cloudkms"
	_ "go.step.sm/crypto/kms/pkcs11"
)

// openKMS opens a key management system by its URI. PKCS#11 needs cgo as well.
func openKMS(ctx context.Context, uri string) (apiv1.KeyManager, error) {
	typ, err := apiv1.TypeOf(uri)
	if err != nil {
		return nil, &usageError{fmt.Sprintf("--kms: %v", err)}
	}
	m, err := kms.New(ctx, apiv1.Options{Type: typ, URI: uri})
	if err != nil {
		scheme, _, _ := strings.Cut(uri, ":") // the rest may hold a PIN
		return nil, fmt.Errorf("key management system %s: %w", scheme, err)
	}
	return m, nil
}
