package gateway

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"holdfast/ocpp"
)

// testCA signs certificates for the tests of trust.
type testCA struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var testSerial int64

// issue makes a certificate; without a parent it signs itself.
func (parent *testCA) issue(t testing.TB, name string, ca bool, life time.Duration) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	testSerial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(testSerial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		BasicConstraintsValid: true, IsCA: ca, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if ca {
		template.KeyUsage = x509.KeyUsageCertSign
	}
	signer, above := crypto.Signer(key), template
	if parent != nil {
		signer, above = parent.key, parent.cert
	}
	der, err := x509.CreateCertificate(rand.Reader, template, above, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &testCA{cert: cert, key: key}
}

func (c *testCA) pair(chain ...*testCA) tls.Certificate {
	p := tls.Certificate{Certificate: [][]byte{c.cert.Raw}, PrivateKey: c.key}
	for _, above := range chain {
		p.Certificate = append(p.Certificate, above.cert.Raw)
	}
	return p
}

// handshake does one mutual-TLS handshake with a gateway and reports how the server saw it.
func handshake(t *testing.T, gw *tlsState, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := tls.Dial("tcp", l.Addr().String(), client)
		if err == nil {
			io.Copy(io.Discard, c) // takes the session ticket
			c.Close()
		}
	}()
	raw, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	raw.SetDeadline(time.Now().Add(10 * time.Second))
	server := tls.Server(raw, gw.config(ocpp.ProfileMTLS))
	err = server.Handshake()
	if err == nil {
		_, err = server.Write([]byte("x"))
	}
	state := server.ConnectionState()
	server.Close()
	raw.Close()
	<-done
	return state, err
}

// TestResumption follows a session ticket over two gateways: it resumes where the
// same CAs are trusted, and never past a change of trust, a revocation, or the
// end of a certificate.
func TestResumption(t *testing.T) {
	root := (*testCA)(nil).issue(t, "root", true, time.Hour)
	stations := root.issue(t, "stations", true, time.Hour)
	other := (*testCA)(nil).issue(t, "other", true, time.Hour)
	stale := (*testCA)(nil).issue(t, "stale", true, -time.Minute)
	leaf := stations.issue(t, "CS1", false, time.Hour)
	server := root.issue(t, "gateway", false, time.Hour)
	tickets := [][32]byte{{1}, {2}}
	trust := func(roots ...*testCA) Trust {
		var list []*x509.Certificate
		for _, r := range roots {
			list = append(list, r.cert)
		}
		return Trust{Roots: list}
	}
	revoked := trust(stations)
	revoked.Revoked = map[[32]byte]bool{sha256.Sum256(leaf.cert.Raw): true}
	asIntermediate := trust(root)
	asIntermediate.Intermediates = []*x509.Certificate{stations.cert}

	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, tt := range []struct {
			name    string
			trust   Trust
			tickets [][32]byte
			resumes bool
			reason  ocpp.Reason // of a refusal
		}{
			{"same trust", trust(stations), tickets, true, ""},
			{"same trust, rotated keys", trust(stations), [][32]byte{{9}, {1}, {2}}, true, ""},
			{"same trust, other keys", trust(stations), [][32]byte{{3}}, false, ""},
			{"one CA more", trust(stations, other), tickets, false, ""},
			{"the same CA as an intermediate", asIntermediate, tickets, false, ""},
			{"CA no longer trusted", trust(other), tickets, false, ocpp.ReasonUnknownCA},
			{"revoked", revoked, tickets, false, ocpp.ReasonRevoked},
		} {
			var first, second tlsState
			first.set(TLS{Certificates: []tls.Certificate{server.pair()}, Trust: trust(stations), Tickets: tickets})
			second.set(TLS{Certificates: []tls.Certificate{server.pair()}, Trust: tt.trust, Tickets: tt.tickets})
			client := &tls.Config{
				InsecureSkipVerify: true, MinVersion: version, MaxVersion: version,
				Certificates: []tls.Certificate{leaf.pair(stations)}, ClientSessionCache: tls.NewLRUClientSessionCache(4), ServerName: "gateway",
			}
			if cs, err := handshake(t, &first, client); err != nil || cs.DidResume {
				t.Fatalf("%s: first handshake: resumed %v, %v", tt.name, cs.DidResume, err)
			}
			cs, err := handshake(t, &second, client)
			if refused, _ := errors.AsType[*certificateError](err); tt.reason != "" {
				if refused == nil || refused.reason != tt.reason {
					t.Errorf("TLS %x, %s: %v, want %s", version, tt.name, err, tt.reason)
				}
			} else if err != nil || cs.DidResume != tt.resumes {
				t.Errorf("TLS %x, %s: resumed %v (want %v), %v", version, tt.name, cs.DidResume, tt.resumes, err)
			}
			if second.verified != nil && tt.resumes {
				t.Errorf("TLS %x, %s: the chain of a resumed session was verified again", version, tt.name)
			}
		}
	}

	// While an expired CA is trusted, a ticket does not say that its chain still ends elsewhere.
	var gw tlsState
	gw.set(TLS{Certificates: []tls.Certificate{server.pair()}, Trust: trust(stations, stale), Tickets: tickets})
	n := gw.now.Load()
	cs := tls.ConnectionState{DidResume: true, PeerCertificates: []*x509.Certificate{leaf.cert}}
	if err := gw.verify(n, cs, time.Now()); err != nil || len(gw.verified) != 1 {
		t.Errorf("resumed beside an expired CA: %v, %d chains verified, want one", err, len(gw.verified))
	}
	// And a resumed session ends with its certificates.
	var refused *certificateError
	if err := gw.verify(n, cs, time.Now().Add(2*time.Hour)); !errors.As(err, &refused) || refused.reason != ocpp.ReasonExpired {
		t.Errorf("resumed after the end of the certificate: %v", err)
	}
}

// TestKnownIntermediate: a station that sends a CA which is trusted anyway costs
// one signature less, and is admitted like one that sends its leaf only.
func TestKnownIntermediate(t *testing.T) {
	root := (*testCA)(nil).issue(t, "root", true, time.Hour)
	stations := root.issue(t, "stations", true, time.Hour)
	unknown := stations.issue(t, "maker", true, time.Hour)
	for name, tt := range map[string]struct {
		leaf  *testCA
		chain []*testCA
		ok    bool
	}{
		"leaf only":                  {leaf: stations.issue(t, "a", false, time.Hour), ok: true},
		"with its CA":                {leaf: stations.issue(t, "b", false, time.Hour), chain: []*testCA{stations}, ok: true},
		"up to the root":             {leaf: stations.issue(t, "c", false, time.Hour), chain: []*testCA{stations, root}, ok: true},
		"with a CA below":            {leaf: unknown.issue(t, "d", false, time.Hour), chain: []*testCA{unknown, stations}, ok: true},
		"without the CA that it has": {leaf: unknown.issue(t, "e", false, time.Hour), chain: []*testCA{stations}},
	} {
		var gw tlsState
		gw.set(TLS{Trust: Trust{Roots: []*x509.Certificate{stations.cert}}})
		cs := tls.ConnectionState{PeerCertificates: []*x509.Certificate{tt.leaf.cert}}
		for _, above := range tt.chain {
			cs.PeerCertificates = append(cs.PeerCertificates, above.cert)
		}
		if err := gw.verify(gw.now.Load(), cs, time.Now()); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
