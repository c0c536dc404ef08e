package main

import (
	"errors"
	"strings"
	"testing"
)

// TestKMSForms: each form of --kms and --kms-key that docs/certificates.md gives is
// taken, and names a key for each CA; what is wrong is told before anything is
// asked of the system, without a PIN in the message. It asks no cloud.
func TestKMSForms(t *testing.T) {
	const gcp = "projects/P/locations/L/keyRings/R/cryptoKeys/{name}"
	for _, tt := range []struct{ kms, key, name, says string }{
		{kms: "pkcs11:module-path=/usr/lib/softhsm/libsofthsm2.so;token=holdfast?pin-source=/etc/holdfast/pin", name: "pkcs11:id=%s;object=root-ecdsa"},
		{kms: "pkcs11:token=a%20b?pin-value=1234", key: "pkcs11:object={name};id={id}", name: "pkcs11:object=root-ecdsa;id=%s"},
		{kms: "awskms:region=eu-central-1", name: "holdfast-root-ecdsa"},
		{kms: "awskms:profile=holdfast;credentials-file=/etc/aws", key: "ca/{name}", name: "ca/root-ecdsa"},
		{kms: "awskms:", name: "holdfast-root-ecdsa"}, // the region is in the environment
		{kms: "cloudkms:", key: gcp, name: "projects/P/locations/L/keyRings/R/cryptoKeys/root-ecdsa"},
		{kms: "cloudkms:credentials-file=/etc/gcp.json", key: gcp, name: "projects/P/locations/L/keyRings/R/cryptoKeys/root-ecdsa"},
		{kms: "azurekms:vault=my-vault", name: "azurekms:name=holdfast-root-ecdsa"},
		{kms: "azurekms:vault=my-vault;hsm=true", key: "azurekms:name={name}", name: "azurekms:name=root-ecdsa"},

		{kms: "softhsm", says: `"softhsm" is none of pkcs11`},
		{kms: "vault:address=x", says: "is none of pkcs11"},
		{kms: "AWSKMS", says: "is none of pkcs11"},
		{kms: "pkcs11:token=%zz?pin-value=4711", says: "NAME=VALUE"},
		{kms: "pkcs11:token=x?pin-value=4711", key: "{name}", says: "begins with pkcs11:"},
		{kms: "awskms:region=eu-central-1", key: "holdfast", says: "lacks {name}"},
		{kms: "cloudkms:", says: "--kms-key"},
		{kms: "cloudkms:", key: "{name}", says: "begins with projects/"},
		{kms: "azurekms:", says: "vault= is missing"},
		{kms: "azurekms:vault=v", key: "holdfast-{name}", says: "begins with azurekms:"},
	} {
		t.Run(tt.kms+" "+tt.key, func(t *testing.T) {
			names, err := (&caKeyFlags{KMS: tt.kms, KMSKey: tt.key}).keyNames()
			if tt.says != "" {
				var usage *usageError
				if !errors.As(err, &usage) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "--kms") || strings.Contains(err.Error(), "4711") {
					t.Errorf("%v, want an error of usage that says %q", err, tt.says)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := names("root-ecdsa")
			before, after, numbered := strings.Cut(tt.name, "%s")
			switch {
			case numbered:
				if !strings.HasPrefix(got, before) || !strings.HasSuffix(got, after) || len(got) != len(before)+16+len(after) {
					t.Errorf("name %s, want %s with a number of 16 digits", got, tt.name)
				}
			case got != tt.name:
				t.Errorf("name %s, want %s", got, tt.name)
			}
			if got == names("root-rsa") {
				t.Error("two CAs have one key")
			}
		})
	}
}
