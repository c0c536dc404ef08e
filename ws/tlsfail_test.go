package ws

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type namedError struct{}

func (namedError) Error() string            { return "wrong operator" }
func (namedError) HandshakeFailure() string { return "wrong_operator" }

func TestHandshakeFailures(t *testing.T) {
	pki, other := newPKI(t), newPKI(t)
	good := pki.client(t, "CS1")
	for _, tt := range []struct {
		kind   string
		server func(*tls.Config)
		dial   func(addr string) error
	}{
		{failNoCertificate, nil, func(addr string) error { return handshake2(addr, clientConfig(pki)) }},
		{failUnknownCA, nil, func(addr string) error { return handshake2(addr, clientConfig(pki, other.client(t, "CS1"))) }},
		{failExpired, func(c *tls.Config) { c.Time = func() time.Time { return time.Now().Add(1000 * time.Hour) } },
			func(addr string) error { return handshake2(addr, clientConfig(pki, good)) }},
		{failProtocolVersion, nil, func(addr string) error {
			cfg := clientConfig(pki, good)
			cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
			return handshake2(addr, cfg)
		}},
		{failNoCipher, nil, func(addr string) error {
			cfg := clientConfig(pki, good)
			cfg.MaxVersion, cfg.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
			return handshake2(addr, cfg)
		}},
		{failRefusedByPeer, nil, func(addr string) error {
			return handshake2(addr, &tls.Config{RootCAs: other.pool, ServerName: "localhost", MaxVersion: tls.VersionTLS12})
		}},
		{failNotTLS, nil, func(addr string) error { return writeAndClose(addr, "GET / HTTP/1.1\r\n\r\n") }},
		{failEOF, nil, func(addr string) error { return writeAndClose(addr, "\x16\x03\x01\x00\x80") }},
		{failTimeout, nil, func(addr string) error { return writeAndWait(addr, "\x16\x03\x01\x00\x80") }},
		{"wrong_operator", func(c *tls.Config) { c.VerifyConnection = func(tls.ConnectionState) error { return namedError{} } },
			func(addr string) error { return handshake2(addr, clientConfig(pki, good)) }},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			cfg := pki.serverConfig(true)
			if tt.server != nil {
				tt.server(cfg)
			}
			told := make(chan error, 1)
			s := startServer(t, Config{HandshakeTime: 300 * time.Millisecond}, Endpoint{Label: "3", TLS: cfg, Upgrade: upgrading(echoSession),
				Failed: func(_ netip.AddrPort, err error) { told <- err }})
			if err := tt.dial(s.addr); err == nil {
				t.Error("the client saw no error")
			}
			select {
			case <-told:
			case <-time.After(waitTime):
				t.Fatal("Failed was not called")
			}
			if n := value(s.metrics.handshakes.WithLabelValues("3", tt.kind)); n != 1 {
				t.Errorf("%v failures %s counted; all: %v", n, tt.kind, collect(s))
			}
			eventually(t, "accounts even", func() bool { return s.accepted.Load() == 0 })
		})
	}
}

func collect(s *testServer) string {
	reg := prometheus.NewRegistry()
	reg.MustRegister(s.metrics.handshakes)
	families, _ := reg.Gather()
	var b strings.Builder
	for _, f := range families {
		b.WriteString(f.String())
	}
	return b.String()
}

// handshake2 does a handshake and waits for the server's verdict, which a TLS
// 1.3 client learns only from its first read.
func handshake2(addr string, cfg *tls.Config) error {
	c, err := tryDial(addr, cfg)
	if err != nil {
		return err
	}
	defer c.net.Close()
	_, err = c.conn.Read(make([]byte, 1))
	return err
}

func writeAndClose(addr, s string) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	_, _ = io.WriteString(nc, s)
	return errors.New("closed")
}

// writeAndWait stays until the server ends the connection.
func writeAndWait(addr, s string) error {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	_, _ = io.WriteString(nc, s)
	_ = nc.SetReadDeadline(time.Now().Add(waitTime))
	if _, err = io.Copy(io.Discard, nc); err == nil {
		err = io.EOF
	}
	return err
}

func TestFailureKindsAreBounded(t *testing.T) {
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for i := range 1000 {
		seen[s.metrics.kind("kind_"+strings.Repeat("x", i%20)+string(rune('a'+i%26)))] = true
	}
	if len(seen) > maxKinds+1 {
		t.Errorf("%d kinds", len(seen))
	}
	for _, name := range []string{"", "With Space", strings.Repeat("x", 50)} {
		if got := s.metrics.kind(name); got != failOther {
			t.Errorf("%q is counted as %q", name, got)
		}
	}
	for err, want := range map[error]string{
		x509.HostnameError{Certificate: &x509.Certificate{}}: failBadCertificate,
		errors.New("out of tea"):                             failOther,
	} {
		if got := s.metrics.failure(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}
