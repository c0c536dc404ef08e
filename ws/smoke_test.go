package ws

import (
	"crypto/tls"
	"testing"
)

func TestEcho(t *testing.T) {
	pki := newPKI(t)
	cert := pki.client(t, "CS1")
	for _, tt := range []struct {
		name   string
		server *tls.Config
		client *tls.Config
	}{
		{"plain", nil, nil},
		{"tls", pki.serverConfig(false), clientConfig(pki)},
		{"mutual", pki.serverConfig(true), clientConfig(pki, cert)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := echoSession()
			s := startServer(t, Config{}, Endpoint{Label: "3", TLS: tt.server, Upgrade: upgrading(func() *recorder { return r })})
			c := dial(t, s.addr, tt.client)
			for _, m := range []string{"", "a", "[2,\"1\",\"Heartbeat\",{}]"} {
				c.write(text(m))
				c.expectText(m)
			}
			c.write(frame(bitFin|opPing, []byte("x")))
			c.expect(bitFin|opPong, []byte("x"))
			c.write(frame(bitFin|opClose, closePayload(1000, "")))
			c.expectClose(1000)
			if got := r.wait(t); got != ReasonPeerClose {
				t.Errorf("closed with %s", got)
			}
			if err := s.Check(); err != nil {
				t.Error(err)
			}
		})
	}
}
