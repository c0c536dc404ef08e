package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

const (
	typeCertificate = "CERTIFICATE"
	typeRequest     = "CERTIFICATE REQUEST"
	typeKey         = "PRIVATE KEY"
)

// TypeEncryptedKey is the PEM type of a PKCS#8 key under a passphrase.
const TypeEncryptedKey = "ENCRYPTED PRIVATE KEY"

// EncodeCertificates returns certificates as PEM, in their order.
func EncodeCertificates(certs ...*x509.Certificate) string {
	var b strings.Builder
	for _, c := range certs {
		pem.Encode(&b, &pem.Block{Type: typeCertificate, Bytes: c.Raw}) // a Builder does not fail
	}
	return b.String()
}

// EncodeKey returns a private key as PKCS#8 PEM.
func EncodeKey(key crypto.Signer) (string, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("private key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: typeKey, Bytes: der})), nil
}

// maxPEM is the longest PEM text that is looked at, in bytes, and maxBlocks
// the number of blocks in it.
const (
	maxPEM    = 256 << 10
	maxBlocks = 100
)

// blocks splits PEM text; other text around the blocks is ignored, and so are
// CRLF and old Mac line ends.
func blocks(text []byte) ([]*pem.Block, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("PEM text of %d bytes: at most %d are read", len(text), maxPEM)
	}
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	var list []*pem.Block
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			return list, nil
		}
		if list = append(list, b); len(list) > maxBlocks {
			return nil, fmt.Errorf("PEM text of more than %d blocks", maxBlocks)
		}
	}
}

// ParseCertificates returns the certificates in PEM text, at least one.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	list, err := blocks(text)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for _, b := range list {
		if b.Type != typeCertificate {
			continue
		}
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM block of type CERTIFICATE")
	}
	return certs, nil
}

// ErrNoKey: the PEM text holds no private key.
var ErrNoKey = errors.New("no PEM block of a private key")

// ErrEncryptedKey: the private key in the PEM text needs a passphrase.
var ErrEncryptedKey = errors.New("private key is encrypted with a passphrase")

// ParseKey returns the first private key in PEM text: PKCS#8, or the older
// forms of OpenSSL.
func ParseKey(text []byte) (crypto.Signer, error) {
	list, err := blocks(text)
	if err != nil {
		return nil, err
	}
	for _, b := range list {
		var key any
		switch b.Type {
		case typeKey:
			key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(b.Bytes)
		case "RSA PRIVATE KEY":
			key, err = x509.ParsePKCS1PrivateKey(b.Bytes)
		case TypeEncryptedKey:
			return nil, ErrEncryptedKey
		default:
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("private key: %w", err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("private key of type %T cannot sign", key)
		}
		return signer, nil
	}
	return nil, ErrNoKey
}
