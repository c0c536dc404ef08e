package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/fleet"
	"holdfast/ocpp"
)

// KeyKind is a kind of station key.
type KeyKind string

const (
	ECDSA KeyKind = "ecdsa" // P-256
	RSA   KeyKind = "rsa"   // 2048 bits
)

// rsaKeys is how many RSA keys a CA makes for its stations; more stations share
// them. A key takes a tenth of a second to make, and a server under test sees no
// difference.
const rsaKeys = 32

// maxFile bounds a PEM file, in bytes.
const maxFile = 1 << 20

// Leaf says what minted certificates look like.
type Leaf struct {
	// Key is the kind of key. Empty means ECDSA.
	Key KeyKind
	// CommonName and Organization are templates. Empty means {serial}, and the
	// organization of the CA.
	CommonName, Organization Text
	// Alone presents the leaf without the CA's certificates.
	Alone bool
	// Valid is how long from now; certificates begin an hour ago, for stations and
	// servers whose clocks differ, and never outlive the CA. Zero means a year.
	Valid time.Duration
}

// CA mints stations' certificates. It may be used by any goroutine.
type CA struct {
	certificate *x509.Certificate
	key         crypto.Signer
	chain       [][]byte // what follows a leaf: the CA, unless it is a root, and what stands above it
	rsa         []*rsa.PrivateKey
	next        atomic.Uint64 // of rsa
}

// LoadCA reads a CA's certificate, which the issuers' up to the root may follow,
// and its key, both PEM.
func LoadCA(certFile, keyFile string) (*CA, error) {
	cert, err := readFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	key, err := readFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("CA key: %w", err)
	}
	ca, err := ParseCA(cert, key)
	if err != nil {
		return nil, fmt.Errorf("CA of %s and %s: %w", certFile, keyFile, err)
	}
	return ca, nil
}

// ParseCA is LoadCA for PEM text.
func ParseCA(certificates, key []byte) (*CA, error) {
	pair, err := tls.X509KeyPair(certificates, key)
	if err != nil {
		return nil, err
	}
	ca := &CA{certificate: pair.Leaf}
	switch {
	case !ca.certificate.IsCA:
		return nil, errors.New("the certificate is not a CA's (basic constraints)")
	case ca.certificate.KeyUsage != 0 && ca.certificate.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("the certificate may not sign certificates (key usage)")
	case time.Now().After(ca.certificate.NotAfter):
		return nil, fmt.Errorf("the certificate ended on %s", ca.certificate.NotAfter.Format(time.DateOnly))
	}
	var ok bool
	if ca.key, ok = pair.PrivateKey.(crypto.Signer); !ok {
		return nil, errors.New("the key cannot sign")
	}
	for _, der := range pair.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(c.RawIssuer, c.RawSubject) { // a root is the server's to know
			ca.chain = append(ca.chain, der)
		}
	}
	return ca, nil
}

// Roots is a pool with the CA alone, for a server whose own certificate it issued.
func (ca *CA) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.certificate)
	return pool
}

// Mint makes the plan's identities with a certificate for each of profile 3: some
// thousands per second and processor with ECDSA.
func (ca *CA) Mint(ctx context.Context, p Plan, leaf Leaf) ([]fleet.Identity, error) {
	list, err := p.Identities()
	if err != nil {
		return nil, err
	}
	fill, err := ca.Filler(ctx, p, func(*fleet.Identity) Leaf { return leaf }, leaf.Key == RSA)
	if err != nil {
		return nil, err
	}
	return list, Fill(ctx, list, 0, fill)
}

// Filler returns the function that mints an identity's certificate. leafOf says
// what it looks like; withRSA must be set if any has an RSA key.
func (ca *CA) Filler(ctx context.Context, p Plan, leafOf func(*fleet.Identity) Leaf, withRSA bool) (func(context.Context, int, *fleet.Identity) error, error) {
	if withRSA && ca.rsa == nil {
		keys := make([]*rsa.PrivateKey, min(rsaKeys, p.Stations))
		eg, _ := errgroup.WithContext(ctx)
		for i := range keys {
			eg.Go(func() (err error) {
				keys[i], err = rsa.GenerateKey(rand.Reader, 2048)
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			return nil, fmt.Errorf("RSA keys: %w", err)
		}
		ca.rsa = keys
	}
	return func(_ context.Context, i int, id *fleet.Identity) error {
		if id.Profile != ocpp.ProfileMTLS {
			return nil
		}
		pair, err := ca.mint(leafOf(id), *id, p.Number(i))
		id.Certificate = pair
		return err
	}, nil
}

func (ca *CA) mint(leaf Leaf, id fleet.Identity, n int) (*tls.Certificate, error) {
	var key crypto.Signer
	var err error
	switch leaf.Key {
	case ECDSA, "":
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA:
		key = ca.rsa[ca.next.Add(1)%uint64(len(ca.rsa))]
	default:
		err = fmt.Errorf("key kind %q: ecdsa or rsa", leaf.Key)
	}
	if err != nil {
		return nil, err
	}
	if leaf.CommonName == "" {
		leaf.CommonName = "{serial}"
	}
	subject := pkix.Name{CommonName: leaf.CommonName.of(id, n), Organization: ca.certificate.Subject.Organization}
	if leaf.Organization != "" {
		subject.Organization = []string{leaf.Organization.of(id, n)}
	}
	if leaf.Valid == 0 {
		leaf.Valid = 365 * 24 * time.Hour
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	end := now.Add(leaf.Valid)
	if end.After(ca.certificate.NotAfter) {
		end = ca.certificate.NotAfter
	}
	usage := x509.KeyUsageDigitalSignature
	if leaf.Key == RSA {
		usage |= x509.KeyUsageKeyEncipherment
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)),
		Subject:      subject,
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     end,
		KeyUsage:     usage,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca.certificate, key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	chain := [][]byte{der}
	if !leaf.Alone {
		chain = append(chain, ca.chain...)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key}, nil
}

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes, at most %d", path, info.Size(), maxFile)
	}
	return os.ReadFile(path)
}

// encodeCertificates is PEM of a chain.
func encodeCertificates(chain [][]byte) []byte {
	var b bytes.Buffer
	for _, der := range chain {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // to memory: cannot fail
	}
	return b.Bytes()
}
