package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// chains makes a root, station CA and server CA of each kind, once: RSA keys take time.
var chains = sync.OnceValue(func() map[Algorithm]map[string]*CA {
	all := make(map[Algorithm]map[string]*CA)
	for _, a := range Algorithms {
		must := func(ca *CA, err error) *CA {
			if err != nil {
				panic(err)
			}
			return ca
		}
		key := func() crypto.Signer {
			k, err := GenerateKey(a)
			if err != nil {
				panic(err)
			}
			return k
		}
		root := must(NewRoot(Root, Subject{CommonName: "Root CA", Organization: "Op"}, key(), now))
		below := func(p Profile, name string) *CA {
			k := key()
			cert, err := root.Issue(p, Subject{CommonName: name, Organization: "Op"}, k.Public(), now)
			return must(&CA{Cert: cert, Key: k}, err)
		}
		all[a] = map[string]*CA{"root": root, "station": below(StationCA, "Station CA"), "server": below(ServerCA, "Server CA")}
	}
	return all
})

func request(t *testing.T, key crypto.Signer, subject pkix.Name) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject, DNSNames: []string{"evil.example"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func TestStationCertificate(t *testing.T) {
	for _, a := range Algorithms {
		for _, pss := range []bool{false, true} {
			ca := *chains()[a]["station"]
			ca.PSS = pss
			key, err := GenerateKey(a)
			if err != nil {
				t.Fatal(err)
			}
			csr, err := ParseCSR([]byte(strings.ReplaceAll(request(t, key, pkix.Name{CommonName: "SN_1"}), "\n", "\r\n")))
			if err != nil {
				t.Fatal(err)
			}
			c, err := ca.Issue(Station, StationSubject("SN_1", "Op"), csr.PublicKey, now)
			if err != nil {
				t.Fatal(err)
			}
			if c.Subject.CommonName != "SN_1" || c.Subject.Organization[0] != "Op" || len(c.DNSNames) != 1 || c.DNSNames[0] != "SN_1" {
				t.Errorf("%s: subject %s, SAN %v", a, c.Subject, c.DNSNames)
			}
			if c.IsCA || c.KeyUsage&x509.KeyUsageDigitalSignature == 0 || len(c.ExtKeyUsage) != 0 {
				t.Errorf("%s: CA %v, key usage %b, extended %v", a, c.IsCA, c.KeyUsage, c.ExtKeyUsage)
			}
			if c.SerialNumber.BitLen() != 128 || !c.NotBefore.Equal(ca.Cert.NotBefore) || !c.NotAfter.Equal(now.Add(Station.Lifetime)) {
				t.Errorf("%s: serial of %d bits, valid from %s to %s", a, c.SerialNumber.BitLen(), c.NotBefore, c.NotAfter)
			}
			want := map[Algorithm]x509.SignatureAlgorithm{ECDSA: x509.ECDSAWithSHA256, RSA: x509.SHA256WithRSA}[a]
			if pss && a == RSA {
				want = x509.SHA256WithRSAPSS
			}
			if c.SignatureAlgorithm != want {
				t.Errorf("%s: signed with %s, want %s", a, c.SignatureAlgorithm, want)
			}
		}
	}
}

func TestLifeWithinIssuer(t *testing.T) {
	ca := chains()[ECDSA]["station"]
	key, _ := GenerateKey(ECDSA)
	late := ca.Cert.NotAfter.Add(-time.Hour)
	c, err := ca.Issue(Station, StationSubject("A", "Op"), key.Public(), late)
	if err != nil || !c.NotAfter.Equal(ca.Cert.NotAfter) {
		t.Errorf("certificate ends %v (%v), its issuer %s", c.NotAfter, err, ca.Cert.NotAfter)
	}
	if _, err := ca.Issue(Station, StationSubject("A", "Op"), key.Public(), ca.Cert.NotAfter.Add(time.Hour)); err == nil {
		t.Error("an expired CA issued a certificate")
	}
	if _, err := (&CA{Cert: ca.Cert}).Issue(Station, StationSubject("A", "Op"), key.Public(), now); err == nil {
		t.Error("a CA without a key issued a certificate")
	}
	if ca.Cert.NotAfter.After(time.Date(2038, 1, 19, 0, 0, 0, 0, time.UTC)) {
		t.Error("CA lives beyond 32-bit clocks")
	}
}

func TestParseCSR(t *testing.T) {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p224, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	rsa2048, _ := rsa.GenerateKey(rand.Reader, 2048)
	rsa1536, _ := rsa.GenerateKey(rand.Reader, 1536)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	name := pkix.Name{CommonName: "A"}
	good := request(t, p256, name)
	block, _ := pem.Decode([]byte(good))
	broken := append([]byte(nil), block.Bytes...)
	broken[len(broken)-1] ^= 1
	for _, tt := range []struct {
		name, text string
		ok         bool
	}{
		{"P-256", good, true},
		{"P-384", request(t, p384, name), true},
		{"P-224", request(t, p224, name), true},
		{"RSA 2048", request(t, rsa2048, name), true},
		{"RSA 1536", request(t, rsa1536, name), false},
		{"Ed25519", request(t, ed, name), false},
		{"CRLF", strings.ReplaceAll(good, "\n", "\r\n"), true},
		{"CR", strings.ReplaceAll(good, "\n", "\r"), true},
		{"text around", "Certificate Request:\n" + good + "\n\n", true},
		{"old label", strings.ReplaceAll(good, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"), true},
		{"broken signature", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: broken})), false},
		{"certificate", EncodeCertificates(chains()[ECDSA]["root"].Cert), false},
		{"empty", "", false},
		{"garbage", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", false},
		{"too long", strings.Repeat("x", MaxCSR+1), false},
	} {
		if _, err := ParseCSR([]byte(tt.text)); (err == nil) != tt.ok {
			t.Errorf("%s: %v, want ok %v", tt.name, err, tt.ok)
		}
	}
}

func TestCheckSubject(t *testing.T) {
	for _, tt := range []struct {
		subject pkix.Name
		ok      bool
	}{
		{pkix.Name{CommonName: "SN1"}, true},
		{pkix.Name{CommonName: "sn1", Organization: []string{"op"}}, true},
		{pkix.Name{CommonName: "SN1", Organization: []string{""}}, true},
		{pkix.Name{CommonName: "SN1", Organization: []string{"Other", "Op"}}, true},
		{pkix.Name{CommonName: "SN1", Organization: []string{"Other"}}, false},
		{pkix.Name{CommonName: "SN12"}, false},
		{pkix.Name{CommonName: "XSN1"}, false},
		{pkix.Name{}, false},
	} {
		if err := CheckSubject(&x509.CertificateRequest{Subject: tt.subject}, "SN1", "Op"); (err == nil) != tt.ok {
			t.Errorf("%s: %v, want ok %v", tt.subject, err, tt.ok)
		}
	}
}

func TestServerSubject(t *testing.T) {
	s, err := ServerSubject([]string{"ocpp.example.com", "192.0.2.1", "::1", "localhost"}, "Op")
	if err != nil || s.CommonName != "ocpp.example.com" || len(s.DNSNames) != 2 || len(s.IPAddresses) != 2 || !s.IPAddresses[0].Equal(net.ParseIP("192.0.2.1")) {
		t.Errorf("%+v, %v", s, err)
	}
	for _, names := range [][]string{nil, {""}, {"*.example.com"}, {"a..b"}, {"a b"}, {"-a"}, {strings.Repeat("a", 64)}} {
		if _, err := ServerSubject(names, "Op"); err == nil {
			t.Errorf("%q were accepted", names)
		}
	}
}

func TestKeysAndCertificatesAsPEM(t *testing.T) {
	for _, a := range Algorithms {
		key, err := GenerateKey(a)
		if err != nil {
			t.Fatal(err)
		}
		text, err := EncodeKey(key)
		if err != nil {
			t.Fatal(err)
		}
		back, err := ParseKey([]byte(strings.ReplaceAll(text, "\n", "\r\n")))
		if err != nil || !back.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
			t.Errorf("%s: key came back as another one: %v", a, err)
		}
	}
	if _, err := ParseKey([]byte("nothing")); err != ErrNoKey {
		t.Errorf("no key: %v", err)
	}
	if _, err := ParseCertificates([]byte("nothing")); err == nil {
		t.Error("no certificate: no error")
	}
	if _, err := ParseCertificates([]byte(strings.Repeat(EncodeCertificates(chains()[ECDSA]["root"].Cert), maxBlocks+1))); err == nil {
		t.Error("too many certificates: no error")
	}
}

func FuzzParseCSR(f *testing.F) { // seeds: testdata/fuzz
	f.Fuzz(func(t *testing.T, der []byte) {
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		if csr, err := ParseCSR(text); err == nil && CheckKey(csr.PublicKey) != nil {
			t.Errorf("weak key accepted")
		}
		ParseCSR(der)
		ParseCertificates(der)
		ParseKey(der)
	})
}

func FuzzParseOCSPRequest(f *testing.F) {
	ca := chains()[ECDSA]["station"].Cert
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
		der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: big.NewInt(77)}, ca, &ocsp.RequestOptions{Hash: hash})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		q, err := ParseOCSPRequest(der)
		if err == nil && (q.Serial.Sign() <= 0 || q.Serial.BitLen() > 160) {
			t.Errorf("serial number %s was accepted", q.Serial)
		}
		if err == nil {
			q.IssuedBy(ca)
		}
	})
}

func FuzzCheckOCSP(f *testing.F) {
	ca := chains()[ECDSA]["station"]
	name, key := sha256.Sum256(ca.Cert.RawSubject), sha256.Sum256(nil)
	id := CertID{Hash: crypto.SHA256, IssuerName: name[:], IssuerKey: key[:], Serial: big.NewInt(77)}
	for _, certificate := range []*x509.Certificate{nil, ca.Cert} {
		der, err := ocsp.CreateResponse(ca.Cert, ca.Cert, ocsp.Response{SerialNumber: id.Serial, ThisUpdate: now, NextUpdate: now.Add(day), Certificate: certificate, IssuerHash: crypto.SHA256}, ca.Key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Add(OCSPTryLater)
	f.Fuzz(func(t *testing.T, der []byte) {
		// The issuer's key is another one, so nothing can be good.
		if a, err := CheckOCSP(der, id, []*x509.Certificate{ca.Cert}, now); err == nil {
			t.Errorf("believed: %+v", a)
		}
	})
}

func openssl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	out, err := exec.Command(path, args...).CombinedOutput()
	return string(out), err
}

func TestOpenSSL(t *testing.T) {
	for _, a := range Algorithms {
		t.Run(string(a), func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, text string) string {
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return path
			}
			c := chains()[a]
			key, err := GenerateKey(a)
			if err != nil {
				t.Fatal(err)
			}
			leaf, err := c["station"].Issue(Station, StationSubject("SN1", "Op"), key.Public(), now)
			if err != nil {
				t.Fatal(err)
			}
			subject, err := ServerSubject([]string{"ocpp.example.com", "127.0.0.1"}, "Op")
			if err != nil {
				t.Fatal(err)
			}
			server, err := c["server"].Issue(Server, subject, key.Public(), now)
			if err != nil {
				t.Fatal(err)
			}
			root := write("root.pem", EncodeCertificates(c["root"].Cert))
			ca := write("ca.pem", EncodeCertificates(c["station"].Cert, c["server"].Cert))
			leafFile, serverFile := write("leaf.pem", EncodeCertificates(leaf)), write("server.pem", EncodeCertificates(server))
			at := []string{"verify", "-x509_strict", "-attime", "1795348800", "-CAfile", root, "-untrusted", ca} // 2026-11-22
			for _, args := range [][]string{
				{"-purpose", "sslclient", leafFile},
				{"-purpose", "sslserver", "-verify_hostname", "ocpp.example.com", serverFile},
				{"-purpose", "sslserver", "-verify_ip", "127.0.0.1", serverFile},
			} {
				if out, err := openssl(t, append(at[:len(at):len(at)], args...)...); err != nil {
					t.Errorf("openssl verify %v: %v\n%s", args, err, out)
				}
			}
			crl := func(number int64, entries ...Revoked) string {
				der, err := c["station"].RevocationList(entries, number, now.Add(-time.Hour), now.Add(day))
				if err != nil {
					t.Fatal(err)
				}
				return EncodeCRL(der)
			}
			check := append(at[:len(at):len(at)], "-crl_check", "-CRLfile")
			if out, err := openssl(t, append(check, write("empty.crl", crl(1)), leafFile)...); err != nil {
				t.Errorf("empty revocation list: %v\n%s", err, out)
			}
			full := write("full.crl", crl(2, Revoked{Serial: SerialHex(leaf), At: now, Reason: KeyCompromise}))
			if out, err := openssl(t, append(check, full, leafFile)...); err == nil || !strings.Contains(out, "revoked") {
				t.Errorf("revoked certificate: %v\n%s", err, out)
			}
		})
	}
}

func TestRevocationListRefuses(t *testing.T) {
	ca := chains()[ECDSA]["station"]
	for _, e := range []Revoked{{Serial: "xyz", Reason: Unspecified}, {Serial: "1", Reason: "bored"}} {
		if _, err := ca.RevocationList([]Revoked{e}, 1, now, now.Add(day)); err == nil {
			t.Errorf("%+v was accepted", e)
		}
	}
}

func TestCheckStrengthOfSHA1(t *testing.T) {
	c := *chains()[RSA]["station"].Cert
	if err := CheckStrength(&c); err != nil {
		t.Error(err)
	}
	c.SignatureAlgorithm = x509.SHA1WithRSA
	if CheckStrength(&c) == nil {
		t.Error("SHA-1 was accepted")
	}
}
