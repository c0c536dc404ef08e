package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/uri"

	"holdfast/authority"
)

// caKeyFlags say where the keys of the CAs are.
type caKeyFlags struct {
	CAPassphraseFile string `name:"ca-passphrase-file" help:"File with the passphrase of the CA keys. Default: ca.passphrase in the data directory, made at the first start." type:"path" placeholder:"FILE"`
	KMS              string `name:"kms" help:"Key management system that makes and holds the CA keys: pkcs11:…, awskms:…, cloudkms:…, azurekms:… (see docs/certificates.md). Default: encrypted files." placeholder:"URI"`
	KMSKey           string `name:"kms-key" help:"Name of a new key there, {name} being the CA's. Default: by the kind of system." placeholder:"PATTERN"`
}

// passphraseFile is where the passphrase is that nobody else keeps. It is beside
// the CA directory, not in it: a copy of that alone opens nothing.
const passphraseFile = "ca.passphrase"

// passphrase reads the passphrase, and makes one at the first start unless the
// operator keeps it.
func (f *caKeyFlags) passphrase(data string) ([]byte, error) {
	path := f.CAPassphraseFile
	if path == "" {
		path = filepath.Join(data, passphraseFile)
		if err := makePassphrase(path); err != nil {
			return nil, fmt.Errorf("passphrase of the CA keys: %w", err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("passphrase of the CA keys: %w (see --ca-passphrase-file)", err)
	}
	text = bytes.TrimRight(text, "\r\n")
	if len(text) < minPassphrase {
		return nil, fmt.Errorf("passphrase of the CA keys in %s: %d bytes, at least %d are needed", path, len(text), minPassphrase)
	}
	return text, nil
}

const minPassphrase = 8 // bytes

// makePassphrase writes a random passphrase unless the file is there: whole, for
// its owner only, and the same for processes that start at once.
func makePassphrase(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	secret := make([]byte, 32)
	rand.Read(secret)                                            // does not fail
	t, err := os.CreateTemp(filepath.Dir(path), ".passphrase-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(t.Name())
	_, err = t.WriteString(base64.RawURLEncoding.EncodeToString(secret) + "\n")
	if err := errors.Join(err, t.Sync(), t.Close()); err != nil {
		return err
	}
	if err := os.Link(t.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// open completes cfg with where the CA keys are. The caller calls the function
// that it returns when the authority has ended.
func (f *caKeyFlags) open(ctx context.Context, data string, cfg *authority.Config) (func() error, error) {
	var err error
	if cfg.Passphrase, err = f.passphrase(data); err != nil {
		return nil, err
	}
	if f.KMS == "" {
		if f.KMSKey != "" {
			return nil, &usageError{"--kms-key needs --kms"}
		}
		return func() error { return nil }, nil
	}
	if cfg.KMSKeyName, err = f.keyNames(); err != nil {
		return nil, err
	}
	if cfg.KMS, err = openKMS(ctx, f.KMS); err != nil {
		return nil, err
	}
	return cfg.KMS.Close, nil
}

// keyNames checks what --kms and --kms-key say, before anything is asked of the
// system, and returns how its new keys are named, by the CA.
func (f *caKeyFlags) keyNames() (func(label string) string, error) {
	scheme, _, _ := strings.Cut(f.KMS, ":") // the rest may hold a PIN: it is in no message
	u, err := uri.Parse(f.KMS)
	i := slices.IndexFunc(kmsSystems, func(s kmsSystem) bool { return s.scheme == scheme })
	switch {
	case i < 0:
		return nil, &usageError{fmt.Sprintf("--kms: %.20q is none of pkcs11, awskms, cloudkms and azurekms: want pkcs11:…, awskms:region=…, cloudkms: or azurekms:vault=…", scheme)}
	case err != nil:
		return nil, &usageError{fmt.Sprintf("--kms %s:…: what follows is not NAME=VALUE with semicolons between, and after a ? with & (spaces and the like as %%20)", scheme)}
	}
	system := kmsSystems[i]
	for _, name := range system.needs {
		if u.Get(name) == "" && !strings.Contains(f.KMSKey, name+"=") {
			return nil, &usageError{fmt.Sprintf("--kms %s:…: %s= is missing", scheme, name)}
		}
	}
	pattern := f.KMSKey
	if pattern == "" {
		if pattern = system.key; pattern == "" {
			return nil, &usageError{fmt.Sprintf("--kms %s:…: give the name of new keys with --kms-key, {name} in it: %s…/{name}", scheme, system.begins)}
		}
	}
	if !strings.Contains(pattern, "{name}") {
		return nil, &usageError{fmt.Sprintf("--kms-key %q lacks {name}: the CAs have a key each", pattern)}
	}
	if !strings.HasPrefix(strings.TrimPrefix(pattern, string(apiv1.CloudKMS)+":"), system.begins) {
		return nil, &usageError{fmt.Sprintf("--kms-key %q: for --kms %s: it begins with %s", pattern, scheme, system.begins)}
	}
	return func(label string) string {
		id := sha256.Sum256([]byte(label)) // PKCS#11 wants a number, too
		return strings.NewReplacer("{name}", label, "{id}", hex.EncodeToString(id[:8])).Replace(pattern)
	}, nil
}

// kmsSystem is a kind of key management system.
type kmsSystem struct {
	scheme string
	needs  []string // in its URI, or in the name of a key
	key    string   // the pattern of new keys' names; empty: the operator gives one
	begins string   // every name begins so
}

var kmsSystems = []kmsSystem{
	{scheme: string(apiv1.PKCS11), key: "pkcs11:id={id};object={name}", begins: "pkcs11:"},
	{scheme: string(apiv1.AmazonKMS), key: "holdfast-{name}"},
	{scheme: string(apiv1.CloudKMS), begins: "projects/"},
	{scheme: string(apiv1.AzureKMS), needs: []string{"vault"}, key: "azurekms:name=holdfast-{name}", begins: "azurekms:"},
}
