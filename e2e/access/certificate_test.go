package access_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.step.sm/crypto/pemutil"

	"holdfast/e2e"
)

// ca is a CA whose key the test has.
type ca struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// signed makes a certificate for key: of CN cn and the operator, valid now,
// without extended key usage, changed as the case wants it. Nil signs itself.
func (c *ca) signed(t *testing.T, cn string, key crypto.Signer, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: cn, Organization: []string{"Holdfast"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(cert)
	}
	parent, signer := cert, key
	if c != nil {
		parent, signer = c.cert, c.key
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func isCA(c *x509.Certificate) {
	c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
}

// below makes a CA that c certified; nil: a root.
func (c *ca) below(t *testing.T, cn string) *ca {
	key := ecKey(t, elliptic.P256())
	return &ca{c.signed(t, cn, key, isCA), key}
}

func ecKey(t *testing.T, curve elliptic.Curve) crypto.Signer {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func rsaKey(t *testing.T, bits int) crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// pair is what a station presents: its certificate, and those above it that it sends.
func pair(key crypto.Signer, chain ...*x509.Certificate) *tls.Certificate {
	p := &tls.Certificate{PrivateKey: key}
	for _, c := range chain {
		p.Certificate = append(p.Certificate, c.Raw)
	}
	return p
}

// stationCA opens the key of one of Holdfast's own CAs for stations, as somebody
// who stole its directory and passphrase could.
func stationCA(t *testing.T, data, name string) *ca {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(data, "ca", name))
	if err != nil {
		t.Fatal(err)
	}
	passphrase, err := os.ReadFile(filepath.Join(data, "ca.passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	c := &ca{}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "CERTIFICATE" && c.cert == nil:
			c.cert, err = x509.ParseCertificate(block.Bytes)
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			var key any
			key, err = pemutil.Parse(pem.EncodeToMemory(block), pemutil.WithPassword([]byte(strings.TrimSpace(string(passphrase)))))
			c.key, _ = key.(crypto.Signer)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if c.cert == nil || c.key == nil {
		t.Fatalf("%s: certificate %v, key %v", name, c.cert != nil, c.key != nil)
	}
	return c
}

// issued registers a station and returns it with a certificate that Holdfast
// issued, which resumes its TLS session, and the certificate's serial number.
func issued(t *testing.T, n *e2e.Node, base *tls.Config, id string, version uint16) (s station, serial string) {
	t.Helper()
	var added struct {
		Certificate struct{ Chain, Key string }
	}
	if status := n.Do("POST", "/api/v1/stations", map[string]any{"id": id, "profile": 3}, &added); status != 201 {
		t.Fatalf("add a station: %d", status)
	}
	p, err := tls.X509KeyPair([]byte(added.Certificate.Chain), []byte(added.Certificate.Key))
	if err != nil {
		t.Fatal(err)
	}
	cfg := base.Clone()
	cfg.MinVersion, cfg.MaxVersion, cfg.Certificates = version, version, []tls.Certificate{p}
	cfg.ServerName, cfg.ClientSessionCache = serverName, tls.NewLRUClientSessionCache(1)
	return station{url: n.MTLS, id: id, tls: cfg}, p.Leaf.SerialNumber.Text(16)
}

// revoke has the certificate of s revoked, and waits until the gateway knows: a
// handshake before that succeeds, and the authority refuses what follows.
func revoke(t *testing.T, n *e2e.Node, s station, serial string) {
	t.Helper()
	if status := n.Do("POST", "/api/v1/certificates/"+serial+"/revoke", map[string]any{"reason": "key_compromise"}, nil); status != 200 {
		t.Fatalf("revoke: %d", status)
	}
	s.tls = s.tls.Clone()
	s.tls.ClientSessionCache = nil
	refusals := func() float64 { return n.Metric("holdfast_rejections_total", `reason="certificate_revoked"`) }
	counted := refusals()
	e2e.Await(t, "the gateway knows of the revocation", 10*time.Second, func() bool {
		status, _ := s.connect(t)
		if status != 101 {
			counted++
		}
		return status == 0
	})
	e2e.Await(t, "the refusals so far are counted", 10*time.Second, func() bool { return refusals() == counted })
}

const serverName = "ocpp.example.com"

// byCommonName is how OCPP has a station know its CSMS (A00.FR.507): by the CN
// of a certificate of a CA that it trusts. crypto/tls would look for a SAN.
func byCommonName(roots *x509.CertPool) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, InsecureSkipVerify: true,
		VerifyConnection: func(cs tls.ConnectionState) error {
			leaf := cs.PeerCertificates[0]
			if len(leaf.DNSNames)+len(leaf.IPAddresses) > 0 || leaf.Subject.CommonName != serverName {
				return fmt.Errorf("server's CN %q, SAN %v", leaf.Subject.CommonName, leaf.DNSNames)
			}
			_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
			return err
		},
	}
}

// TestCertificates connects over real TLS with real certificates of every kind.
// Each refusal has its reason in the log, the metric, the station's record and
// its attempts. The server's own certificates, ECDSA and RSA, have a CN and no SAN.
func TestCertificates(t *testing.T) {
	servers := (*ca)(nil).below(t, "Servers")
	dir := t.TempDir()
	args := []string{"--log-level", "debug"}
	for i, key := range []crypto.Signer{ecKey(t, elliptic.P256()), rsaKey(t, 2048)} {
		cert := servers.signed(t, serverName, key, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageKeyEncipherment })
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, fmt.Sprint("server-", i+1))
		for suffix, block := range map[string]*pem.Block{".crt": {Type: "CERTIFICATE", Bytes: cert.Raw}, ".key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
			if err := os.WriteFile(file+suffix, pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		args = append(args, "--server-cert", file+".crt", "--server-key", file+".key")
	}
	n := e2e.All(t, args...)
	roots := x509.NewCertPool()
	roots.AddCert(servers.cert)
	base := byCommonName(roots)

	ours, oursRSA := stationCA(t, n.Data, "station-ecdsa.pem"), stationCA(t, n.Data, "station-rsa.pem")
	maker, stranger := (*ca)(nil).below(t, "Maker Root"), (*ca)(nil).below(t, "Stranger")
	makerCA, oldCA := maker.below(t, "Maker CA"), maker.below(t, "Old CA")
	oldCA.cert = maker.signed(t, "Old CA", oldCA.key, func(c *x509.Certificate) { isCA(c); c.NotAfter = time.Now().Add(-time.Minute) })
	body := map[string]any{"pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: maker.cert.Raw}))}
	if status := n.Do("POST", "/api/v1/cas", body, nil); status >= 300 {
		t.Fatalf("import a CA: %d", status)
	}

	key, key384, weak, short := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P384()), rsaKey(t, 2048), rsaKey(t, 1024)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	changed := func(change func(*x509.Certificate)) func(string) *tls.Certificate {
		return func(cn string) *tls.Certificate { return pair(key, ours.signed(t, cn, key, change)) }
	}
	with := func(k crypto.Signer, by *ca) func(string) *tls.Certificate {
		return func(cn string) *tls.Certificate { return pair(k, by.signed(t, cn, k, nil), by.cert) }
	}
	usage := func(u ...x509.ExtKeyUsage) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.ExtKeyUsage = u }
	}
	makers := func(c *x509.Certificate) { c.Subject.Organization = []string{"Maker"} }

	for _, tt := range []struct {
		name   string
		cert   func(cn string) *tls.Certificate // of the station with this serial number
		status int                              // HTTP; 0: the handshake failed
		reason string
		detail string // a part of it
	}{
		{"ECDSA, with its CA", with(key, ours), 101, "admitted", ""},
		{"leaf only", changed(nil), 101, "admitted", ""},
		{"RSA", with(weak, oursRSA), 101, "admitted", ""},
		{"RSA key, CA with ECDSA", with(weak, ours), 101, "admitted", ""},
		{"P-384", with(key384, ours), 101, "admitted", ""},
		{"no extended key usage", changed(usage()), 101, "admitted", ""},
		{"extended key usage of a client", changed(usage(x509.ExtKeyUsageClientAuth)), 101, "admitted", ""},
		{"extended key usage of a server alone", changed(usage(x509.ExtKeyUsageServerAuth)), 101, "admitted", ""},
		{"maker's, with the intermediate", func(cn string) *tls.Certificate {
			return pair(key, makerCA.signed(t, cn, key, makers), makerCA.cert)
		}, 101, "admitted", ""},
		{"maker's, with intermediate and root", func(cn string) *tls.Certificate {
			return pair(key, makerCA.signed(t, cn, key, makers), makerCA.cert, maker.cert)
		}, 101, "admitted", ""},
		{"maker's, leaf only", func(cn string) *tls.Certificate {
			return pair(key, makerCA.signed(t, cn, key, makers))
		}, 0, "unknown_ca", "unknown authority"},
		{"wrong CA", with(key, stranger), 0, "unknown_ca", "unknown authority"},
		{"wrong CA of the same name", func(cn string) *tls.Certificate {
			double := &ca{key: ecKey(t, elliptic.P256())}
			double.cert = (*ca)(nil).signed(t, ours.cert.Subject.CommonName, double.key, func(c *x509.Certificate) { isCA(c); c.Subject = ours.cert.Subject })
			return pair(key, double.signed(t, cn, key, nil), double.cert)
		}, 0, "unknown_ca", ""},
		{"self-signed", func(cn string) *tls.Certificate {
			return pair(key, (*ca)(nil).signed(t, cn, key, nil))
		}, 0, "unknown_ca", ""},
		{"signed by another station", func(cn string) *tls.Certificate {
			own := &ca{ours.signed(t, "OTHER", key384, nil), key384}
			return pair(key, own.signed(t, cn, key, nil), own.cert)
		}, 0, "unknown_ca", ""},
		{"expired", func(cn string) *tls.Certificate {
			expired := ours.signed(t, cn, key, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-42 * time.Minute) })
			return pair(key, expired)
		}, 0, "certificate_expired", "expired 42m"},
		{"its CA expired", with(key, oldCA), 0, "certificate_expired", ""},
		{"future", func(cn string) *tls.Certificate {
			future := ours.signed(t, cn, key, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(42*time.Minute + 30*time.Second) })
			return pair(key, future)
		}, 0, "certificate_not_yet_valid", "valid in 42m"},
		{"wrong CN", func(string) *tls.Certificate {
			return pair(key, ours.signed(t, "OTHER", key, nil))
		}, 401, "wrong_serial", "OTHER"},
		{"a CN that contains the serial number", func(cn string) *tls.Certificate {
			return pair(key, ours.signed(t, cn+"0", key, nil))
		}, 401, "wrong_serial", ""},
		{"the serial number as a SAN", func(cn string) *tls.Certificate {
			return pair(key, ours.signed(t, "OTHER", key, func(c *x509.Certificate) { c.DNSNames = []string{cn} }))
		}, 401, "wrong_serial", ""},
		{"maker's, wrong CN", func(string) *tls.Certificate {
			return pair(key, makerCA.signed(t, "OTHER", key, makers), makerCA.cert)
		}, 401, "wrong_serial", "OTHER"},
		{"wrong O", changed(func(c *x509.Certificate) { c.Subject.Organization = []string{"Elsewhere"} }), 401, "wrong_organization", "Elsewhere"},
		{"no O", changed(func(c *x509.Certificate) { c.Subject.Organization = nil }), 401, "wrong_organization", ""},
		{"Ed25519", with(ed, ours), 401, "bad_certificate", "neither RSA nor ECDSA"},
		{"RSA of 1024 bits", with(short, oursRSA), 401, "bad_certificate", "1024 bits"},
		{"SHA-1, RSA", func(cn string) *tls.Certificate {
			return pair(weak, oursRSA.signed(t, cn, weak, func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }))
		}, 0, "bad_certificate", "SHA1-RSA"},
		{"SHA-1, ECDSA", changed(func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 }), 0, "bad_certificate", "SHA1"},
		{"unknown critical extension", changed(func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}), 0, "bad_certificate", "critical extension"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(fmt.Sprintf("%s, %s", tt.name, tls.VersionName(version)), func(t *testing.T) {
				id := strings.Map(func(r rune) rune {
					if r == ' ' || r == ',' {
						return '-'
					}
					return r
				}, tt.name+tls.VersionName(version))
				if status := n.Do("POST", "/api/v1/stations", map[string]any{"id": id, "serial": "SN-" + id, "profile": 3}, nil); status != 201 {
					t.Fatalf("add a station: %d", status)
				}
				cfg := base.Clone()
				cfg.MinVersion, cfg.MaxVersion = version, version
				cert := tt.cert("SN-" + id)
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
				expect(t, n, station{url: n.MTLS, id: id, tls: cfg}, tt.status, tt.reason, tt.detail)
			})
		}
	}

	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		name := tls.VersionName(version)
		t.Run("revoked, "+name, func(t *testing.T) {
			s, serial := issued(t, n, base, "REVOKED "+name, version)
			if status, _ := s.connect(t); status != 101 {
				t.Fatalf("before: %d", status)
			}
			revoke(t, n, s, serial)
			s.tls.ClientSessionCache = nil
			expect(t, n, s, 0, "certificate_revoked", "revoked")
		})
		t.Run("resumed after revocation, "+name, func(t *testing.T) {
			s, serial := issued(t, n, base, "RESUMED "+name, version)
			s.connect(t)
			if status, state := s.connect(t); status != 101 || !state.DidResume {
				t.Fatalf("before: %d, resumed: %v", status, state.DidResume)
			}
			revoke(t, n, s, serial)
			expect(t, n, s, 0, "certificate_revoked", "revoked")
		})
	}

	// A station that does not believe the server says so in the handshake. Who it
	// is cannot be known yet: the address tells.
	for name, cfg := range map[string]*tls.Config{
		"a station that wants a SAN":           {RootCAs: roots, ServerName: serverName},
		"a station that trusts another CA":     {RootCAs: x509.NewCertPool(), ServerName: serverName},
		"a station whose clock is a year late": {RootCAs: roots, ServerName: serverName, Time: func() time.Time { return time.Now().AddDate(-1, 0, 0) }},
	} {
		t.Run(name, func(t *testing.T) {
			expectNameless(t, n, station{url: n.TLS, id: "X", password: "x", tls: cfg}, 0, "server_certificate_refused", "certificate")
		})
	}
}
