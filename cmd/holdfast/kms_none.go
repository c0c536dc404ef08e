//go:build !kms && !pkcs11

package main

import (
	"context"

	"go.step.sm/crypto/kms/apiv1"
)

// openKMS refuses: the libraries of key management systems are in the binary
// only with the build tags kms or pkcs11, so that no gateway carries them.
func openKMS(context.Context, string) (apiv1.KeyManager, error) {
	return nil, &usageError{"--kms: this binary has no key management systems in it: build one with make build-kms"}
}
