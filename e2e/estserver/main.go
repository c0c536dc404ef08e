// Command estserver is a CA elsewhere for tests: an EST server by others
// (GlobalSign's) over a root and an issuing CA that are made at the start. It is a
// module of its own, because that server needs versions of modules that Holdfast
// does not.
//
// The label in the path says how it behaves: as a good CA (stations), or as one
// that issues something else than was asked for, or nothing (the functions below).
package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/globalsign/est"
)

func main() {
	address := flag.String("listen", "127.0.0.1:0", "address")
	dir := flag.String("dir", ".", "directory for root.crt, issuing.crt, client.crt and client.key")
	user := flag.String("user", "", "name that is asked for")
	password := flag.String("password", "", "and its password")
	mutual := flag.Bool("mutual", false, "ask for a client certificate of the root")
	flag.Parse()
	if err := run(*address, *dir, *user, *password, *mutual); err != nil {
		log.Fatal(err)
	}
}

func run(address, dir, user, password string, mutual bool) error {
	c := &ca{seen: make(map[string]bool)}
	var err error
	if c.root, err = issuer(nil, "Elsewhere Root"); err != nil {
		return err
	}
	if c.issuing, err = issuer(c.root, "Elsewhere Issuing CA"); err != nil {
		return err
	}
	server, err := c.root.leaf(&x509.Certificate{Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost", "ca.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	if err != nil {
		return err
	}
	client, err := c.root.leaf(&x509.Certificate{Subject: pkix.Name{CommonName: "holdfast"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return err
	}
	key, err := x509.MarshalPKCS8PrivateKey(client.PrivateKey)
	if err != nil {
		return err
	}
	for name, block := range map[string]*pem.Block{
		"root.crt": {Type: "CERTIFICATE", Bytes: c.root.cert.Raw}, "issuing.crt": {Type: "CERTIFICATE", Bytes: c.issuing.cert.Raw},
		"client.crt": {Type: "CERTIFICATE", Bytes: client.Certificate[0]}, "client.key": {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			return err
		}
	}
	cfg := &est.ServerConfig{CA: c}
	if user != "" {
		cfg.CheckBasicAuth = func(_ context.Context, _ *http.Request, _, u, p string) error {
			if subtle.ConstantTimeCompare([]byte(u+":"+p), []byte(user+":"+password)) != 1 {
				return decision{http.StatusUnauthorized, "unknown user or password", 0}
			}
			return nil
		}
	}
	h, err := est.NewRouter(cfg)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.HandleFunc("/crl", c.crl) // no part of EST: a list with everything that was issued
	t := &tls.Config{Certificates: []tls.Certificate{*server}}
	if mutual {
		t.ClientAuth, t.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		t.ClientCAs.AddCert(c.root.cert)
	}
	l, err := tls.Listen("tcp", address, t)
	if err != nil {
		return err
	}
	fmt.Println("ready", l.Addr())
	return http.Serve(l, mux)
}

// authority is a CA with its key.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func issuer(parent *authority, name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	self := &authority{key: key}
	t := &x509.Certificate{Subject: pkix.Name{CommonName: name, Organization: []string{"Elsewhere"}}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	if parent == nil {
		parent = self
	}
	self.cert, err = parent.sign(t, key.Public())
	return self, err
}

func (a *authority) sign(t *x509.Certificate, public crypto.PublicKey) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t.SerialNumber = serial
	if t.NotBefore.IsZero() {
		t.NotBefore, t.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour)
	}
	parent := a.cert
	if parent == nil {
		parent = t
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (a *authority) leaf(t *x509.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	cert, err := a.sign(t, key.Public())
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}, nil
}

// ca is what the EST server asks.
type ca struct {
	root, issuing *authority

	mu     sync.Mutex
	seen   map[string]bool            // keys, by label "patient": approved the second time
	issued []x509.RevocationListEntry // guarded by mu
}

// decision is an answer without a certificate.
type decision struct {
	status int
	text   string
	after  int
}

func (d decision) Error() string   { return d.text }
func (d decision) StatusCode() int { return d.status }
func (d decision) RetryAfter() int { return d.after }

func (c *ca) CACerts(context.Context, string, *http.Request) ([]*x509.Certificate, error) {
	return []*x509.Certificate{c.issuing.cert, c.root.cert}, nil
}

func (c *ca) CSRAttrs(context.Context, string, *http.Request) (est.CSRAttrs, error) {
	return est.CSRAttrs{}, nil
}

func (c *ca) Enroll(_ context.Context, csr *x509.CertificateRequest, label string, _ *http.Request) (*x509.Certificate, error) {
	t := &x509.Certificate{Subject: pkix.Name{CommonName: csr.Subject.CommonName, Organization: csr.Subject.Organization},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	by, public := c.issuing, csr.PublicKey
	switch label {
	case "stations":
	case "patient":
		c.mu.Lock()
		again := c.seen[string(csr.RawSubjectPublicKeyInfo)]
		c.seen[string(csr.RawSubjectPublicKeyInfo)] = true
		c.mu.Unlock()
		if !again {
			return nil, decision{http.StatusAccepted, "", 60}
		}
	case "refusing":
		return nil, decision{http.StatusBadRequest, "no certificates on Thursdays", 0}
	case "broken":
		return nil, decision{http.StatusInternalServerError, "database away", 0}
	case "other-key":
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		public = key.Public()
	case "other-serial":
		t.Subject.CommonName = "SOMEBODY-ELSE"
	case "other-owner":
		t.Subject.Organization = []string{"Somebody Else"}
	case "sub-ca":
		t.IsCA, t.BasicConstraintsValid, t.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature
	case "server-only":
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case "expired":
		t.NotBefore, t.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	case "future":
		t.NotBefore, t.NotAfter = time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
	case "other-ca":
		other, err := issuer(nil, "Elsewhere Root") // the same name, another key
		if err != nil {
			return nil, err
		}
		by = other
	default:
		return nil, decision{http.StatusNotFound, "no such label", 0}
	}
	cert, err := by.sign(t, public)
	if err == nil {
		c.mu.Lock()
		c.issued = append(c.issued, x509.RevocationListEntry{SerialNumber: cert.SerialNumber, RevocationTime: time.Now(), ReasonCode: 1})
		c.mu.Unlock()
	}
	return cert, err
}

// crl serves a revocation list with all that was issued.
func (c *ca) crl(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Second), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: c.issued}, c.issuing.cert, c.issuing.key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Write(der)
}

func (c *ca) Reenroll(context.Context, *x509.Certificate, *x509.CertificateRequest, string, *http.Request) (*x509.Certificate, error) {
	return nil, errors.ErrUnsupported
}

func (c *ca) ServerKeyGen(context.Context, *x509.CertificateRequest, string, *http.Request) (*x509.Certificate, []byte, error) {
	return nil, nil, errors.ErrUnsupported
}

func (c *ca) TPMEnroll(context.Context, *x509.CertificateRequest, []*x509.Certificate, []byte, []byte, string, *http.Request) ([]byte, []byte, []byte, error) {
	return nil, nil, nil, errors.ErrUnsupported
}
