package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/gob"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// credential is what one station connects with.
type credential struct {
	Station  string
	Password string   // security profiles 1 and 2
	Chain    [][]byte // DER: leaf, intermediate; security profile 3
	Key      []byte   // PKCS #8
}

func (c *credential) certificate() (tls.Certificate, error) {
	if c.Chain == nil {
		return tls.Certificate{}, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(c.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("key of station %s: %w", c.Station, err)
	}
	return tls.Certificate{Certificate: c.Chain, PrivateKey: key}, nil
}

// writeCredentials leaves stations' credentials for a client process.
func writeCredentials(file string, list []credential) error {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := gob.NewEncoder(f).Encode(list); err != nil {
		return err
	}
	return f.Close()
}

func readCredentials(file string) (list []credential, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return list, gob.NewDecoder(f).Decode(&list)
}

// pki is the PKI of the servers that have none: a root, a CA below it that
// signs stations, all ECDSA P-256.
type pki struct {
	root, ca *x509.Certificate
	caKey    crypto.Signer
	serial   int64
}

// Files that newPKI leaves for the servers.
const (
	caFile     = "ca.crt"
	serverFile = "server.crt"
	serverKey  = "server.key"
)

// newPKI leaves root, server certificate and key in dir.
func newPKI(dir string) (*pki, error) {
	p := &pki{}
	rootKey, err := newKey()
	if err != nil {
		return nil, err
	}
	p.root, err = p.issue(pkix.Name{CommonName: "bench root"}, rootKey.Public(), nil, rootKey, true)
	if err != nil {
		return nil, err
	}
	caKey, err := newKey()
	if err != nil {
		return nil, err
	}
	p.caKey = caKey
	p.ca, err = p.issue(pkix.Name{CommonName: "bench station CA", Organization: []string{"Holdfast"}}, caKey.Public(), p.root, rootKey, true)
	if err != nil {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	server, err := p.issue(pkix.Name{CommonName: "localhost"}, key.Public(), p.root, rootKey, false)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	for name, block := range map[string]*pem.Block{
		caFile:     {Type: "CERTIFICATE", Bytes: p.root.Raw},
		serverFile: {Type: "CERTIFICATE", Bytes: server.Raw},
		serverKey:  {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

func (p *pki) issue(name pkix.Name, key crypto.PublicKey, parent *x509.Certificate, signer crypto.Signer, ca bool) (*x509.Certificate, error) {
	p.serial++
	t := &x509.Certificate{
		SerialNumber: big.NewInt(p.serial), Subject: name,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(365 * 24 * time.Hour),
		IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if ca {
		t.KeyUsage, t.ExtKeyUsage = x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	} else {
		t.DNSNames, t.IPAddresses = []string{name.CommonName}, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	if parent == nil {
		parent = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key, signer)
	if err != nil {
		return nil, fmt.Errorf("certificate for %s: %w", name.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// stations issues n certificates, each with a key of its own.
func (p *pki) stations(n int) ([]credential, error) {
	list := make([]credential, n)
	for i := range list {
		id := fmt.Sprintf("BENCH-%05d", i)
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		leaf, err := p.issue(pkix.Name{CommonName: id, Organization: []string{"Holdfast"}}, key.Public(), p.ca, p.caKey, false)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		list[i] = credential{Station: id, Chain: [][]byte{leaf.Raw, p.ca.Raw}, Key: der}
	}
	return list, nil
}

// serverTLS is the TLS configuration of the servers that echo.
func serverTLS(dir string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, serverFile), filepath.Join(dir, serverKey))
	if err != nil {
		return nil, err
	}
	roots, err := readPool(filepath.Join(dir, caFile))
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
		NextProtos: []string{"http/1.1"},
	}, nil
}

func readPool(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificates", file)
	}
	return pool, nil
}
