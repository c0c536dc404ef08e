package fleet

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestClientTLS: each way of speaking TLS is what the server sees, at the first
// connection and at the next one.
func TestClientTLS(t *testing.T) {
	ca := newTestCA(t)
	chained := func(c *tls.Certificate) *tls.Certificate {
		c.Certificate = append(c.Certificate, ca.cert.Raw)
		return c
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	withRSA := &tls.Certificate{Certificate: [][]byte{ca.sign(t, "CS-0", &rsaKey.PublicKey)}, PrivateKey: rsaKey}
	for _, tt := range []struct {
		name        string
		options     *ClientTLS
		certificate *tls.Certificate // nil: ECDSA, with its chain
		want        func(first, second *tls.ConnectionState) bool
	}{
		{"as most do", nil, nil, func(a, b *tls.ConnectionState) bool {
			return a.Version == tls.VersionTLS13 && a.ServerName == "localhost" && len(a.PeerCertificates) == 2 && !b.DidResume &&
				a.PeerCertificates[0].PublicKeyAlgorithm == x509.ECDSA
		}},
		{"TLS 1.2", &ClientTLS{MaxVersion: tls.VersionTLS12}, nil, func(a, b *tls.ConnectionState) bool { return a.Version == tls.VersionTLS12 }},
		{"TLS 1.3 only", &ClientTLS{MinVersion: tls.VersionTLS13}, nil, func(a, b *tls.ConnectionState) bool { return a.Version == tls.VersionTLS13 }},
		{"one suite", &ClientTLS{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}}, nil,
			func(a, b *tls.ConnectionState) bool {
				return a.CipherSuite == tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
			}},
		{"resumption, TLS 1.3", &ClientTLS{Resume: true}, nil, func(a, b *tls.ConnectionState) bool {
			return !a.DidResume && b.DidResume && b.Version == tls.VersionTLS13 && len(b.PeerCertificates) == 2
		}},
		{"resumption, TLS 1.2", &ClientTLS{Resume: true, MaxVersion: tls.VersionTLS12}, nil, func(a, b *tls.ConnectionState) bool {
			return !a.DidResume && b.DidResume && b.Version == tls.VersionTLS12
		}},
		{"no SNI", &ClientTLS{NoSNI: true}, nil, func(a, b *tls.ConnectionState) bool { return a.ServerName == "" }},
		{"leaf only", &ClientTLS{LeafOnly: true}, nil, func(a, b *tls.ConnectionState) bool { return len(a.PeerCertificates) == 1 }},
		{"RSA", nil, withRSA, func(a, b *tls.ConnectionState) bool {
			return a.PeerCertificates[0].PublicKeyAlgorithm == x509.RSA
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			states := make(chan *tls.ConnectionState, 100)
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				states <- r.TLS
				w.Header().Set("Connection", "close")
				w.WriteHeader(http.StatusServiceUnavailable)
			}))
			server.Config.ErrorLog = discardLog
			server.TLS = &tls.Config{Certificates: []tls.Certificate{*ca.issue(t, "localhost", net.IPv4(127, 0, 0, 1))},
				ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.roots}
			server.StartTLS()
			defer server.Close()
			certificate := tt.certificate
			if certificate == nil {
				certificate = chained(ca.issue(t, "CS-0"))
			}
			_, port, _ := strings.Cut(strings.TrimPrefix(server.URL, "https://"), ":")
			f, err := New(Config{
				Targets: map[ocpp.SecurityProfile]string{ocpp.ProfileMTLS: "wss://localhost:" + port + "/ocpp"}, Roots: ca.anchors(),
				Stations: []Identity{{ID: "CS-0", Profile: ocpp.ProfileMTLS, Certificate: certificate, TLS: tt.options}},
				BackOff:  BackOff{Minimum: time.Millisecond, Random: -1, Repeat: -1},
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- f.Run(ctx) }()
			defer func() { cancel(); <-done }()
			next := func() *tls.ConnectionState {
				select {
				case s := <-states:
					return s
				case <-time.After(10 * time.Second):
					t.Fatalf("no connection: %+v", f.Stats())
					return nil
				}
			}
			a, b := next(), next()
			if !tt.want(a, b) {
				t.Errorf("first %x %x %q resumed %t, %d certificates; then resumed %t, %d certificates",
					a.Version, a.CipherSuite, a.ServerName, a.DidResume, len(a.PeerCertificates), b.DidResume, len(b.PeerCertificates))
			}
		})
	}
}
