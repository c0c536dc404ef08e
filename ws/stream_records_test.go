//go:build linux && !ws_goroutine && ws_records

package ws

import (
	"crypto/tls"
	"reflect"
	"testing"

	"holdfast/ws/record"
)

// connSize is the allocator's size class of a Conn.
const connSize = 288

func stock(t tlsStream) *tls.Conn {
	stock, _ := t.(*tls.Conn)
	return stock
}

// Connections of AEAD suites are carried by package record, resumed ones, too,
// and keep no buffer while they are idle; those with CBC stay with crypto/tls.
func TestStream(t *testing.T) {
	pki := newPKI(t)
	cert := pki.client(t, "CS1")
	for _, tt := range []struct {
		name   string
		change func(*tls.Config)
		record bool
	}{
		{"TLS 1.3", func(*tls.Config) {}, true},
		{"TLS 1.2, GCM", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		}, true},
		{"TLS 1.2, GCM with SHA-384", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}
		}, true},
		{"TLS 1.2, ChaCha20", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}
		}, true},
		{"TLS 1.2, CBC", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r *recorder
			s := startServer(t, Config{}, Endpoint{TLS: pki.serverConfig(true), Upgrade: upgrading(func() *recorder { return r })})
			cfg := clientConfig(pki, cert)
			cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			tt.change(cfg)
			for resumed := range 2 {
				r = echoSession()
				c := dial(t, s.addr, cfg)
				c.write(text("x"))
				c.expectText("x")
				untilIdle(t, r.conn.Load())
				conn := r.conn.Load()
				conn.mu.Lock()
				carrier, ok := conn.tls.(*record.Conn)
				if ok != tt.record {
					t.Errorf("carried by %T", conn.tls)
				}
				if ok && !reflect.ValueOf(carrier).Elem().FieldByName("reading").IsNil() {
					t.Error("an idle connection keeps what it read with")
				}
				conn.mu.Unlock()
				conn.state.Or(0) // what was read happened before the next turn
				if got := conn.Info().Resumed; got != (resumed == 1) {
					t.Errorf("connection %d: resumed %v", resumed, got)
				}
				c.conn.Close()
				r.wait(t)
			}
		})
	}
}
