package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
)

// Algorithm is a kind of key. Both kinds of CA stand side by side, because OCPP
// stations have either the ECDSA or the RSA cipher suites.
type Algorithm string

const (
	ECDSA Algorithm = "ecdsa" // P-256
	RSA   Algorithm = "rsa"   // 3072 bits
)

// Algorithms are all kinds, the preferred one first.
var Algorithms = []Algorithm{ECDSA, RSA}

// GenerateKey makes a key of the given kind.
func GenerateKey(a Algorithm) (crypto.Signer, error) {
	switch a {
	case ECDSA:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA:
		return rsa.GenerateKey(rand.Reader, 3072)
	}
	return nil, fmt.Errorf("key algorithm %q: neither %s nor %s", a, ECDSA, RSA)
}

// AlgorithmOf returns the kind of a public key.
func AlgorithmOf(public any) (Algorithm, error) {
	switch public.(type) {
	case *ecdsa.PublicKey:
		return ECDSA, nil
	case *rsa.PublicKey:
		return RSA, nil
	}
	return "", errKeyKind
}

var errKeyKind = errors.New("key is neither RSA nor ECDSA")

// maxRSABits is the longest RSA key that is looked at. crypto/tls refuses
// longer ones, and checking a signature gets slow.
const maxRSABits = 8192

// CheckKey reports why a public key is not fit for OCPP: less than 112 bits of
// security (OCPP 2.0.1 A00.FR.501), or of a kind for which OCPP's cipher suites
// have no use, such as Ed25519.
func CheckKey(public any) error {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < 2048 || n > maxRSABits {
			return fmt.Errorf("RSA key of %d bits: between 2048 and %d are allowed", n, maxRSABits)
		}
		return nil
	case *ecdsa.PublicKey:
		if n := k.Curve.Params().BitSize; n < 224 {
			return fmt.Errorf("EC key of %d bits: at least 224 are needed", n)
		}
		return nil
	}
	return errKeyKind
}

// weakSignature reports a signature that must not be believed.
func weakSignature(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return true
	}
	return false
}

// CheckStrength reports why a certificate is too weak to be believed, whoever
// signed it.
func CheckStrength(c *x509.Certificate) error {
	if weakSignature(c.SignatureAlgorithm) {
		return fmt.Errorf("signed with %s", c.SignatureAlgorithm)
	}
	if _, err := AlgorithmOf(c.PublicKey); err != nil {
		return err
	}
	return CheckKey(c.PublicKey)
}
