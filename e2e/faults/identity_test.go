package faults

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"holdfast/e2e"
)

// TestFault01CertificateOfAnotherStation: the certificate of A opens no session
// as B (OCPP 2.0.1 A00.FR.405: the CN is this station's serial number).
func TestFault01CertificateOfAnotherStation(t *testing.T) {
	n := all(t)
	a, b := add(t, n, "A", 3, nil), add(t, n, "B", 3, nil)
	attempt{station: b}.must(t).boot(t)
	thief := b
	thief.certificate = a.certificate
	for i := range 20 {
		at := attempt{station: thief}
		if i%2 == 1 { // also after A's certificate was admitted and the session can be resumed
			attempt{station: a}.must(t).leave()
			at.tls = func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }
		}
		if status, _ := at.status(t); status != http.StatusUnauthorized {
			t.Errorf("attempt %d: HTTP %d, want 401", i, status)
		}
	}
	if got := n.Metric("holdfast_rejections_total", `reason="wrong_serial"`); got != 20 {
		t.Errorf("%v rejections with reason wrong_serial, want 20", got)
	}
	if got := connections(n); got != 1 {
		t.Errorf("%d connections, want that of B alone", got)
	}
	var attempts struct {
		Items []struct {
			Reason string
			Times  int
		}
	}
	n.Do("GET", "/api/v1/stations/B/attempts", nil, &attempts)
	if len(attempts.Items) == 0 || attempts.Items[0].Reason != "wrong_serial" {
		t.Errorf("attempts of B: %+v, want wrong_serial first", attempts.Items)
	}
}

// TestFault02UnknownIdentity: who is not registered costs nothing that stays.
func TestFault02UnknownIdentity(t *testing.T) {
	n := all(t)
	real := map[string]station{"plain": add(t, n, "P", 1, nil), "tls": add(t, n, "T", 2, nil), "mtls": add(t, n, "M", 3, nil)}
	knock := func(i int) {
		for _, s := range real {
			s.id = fmt.Sprintf("nobody-%d", i)
			if status, r := (attempt{station: s}).status(t); status != http.StatusNotFound {
				t.Fatalf("unknown identity %s: %d %v, want 404", s.id, status, r)
			}
		}
	}
	for i := range 10 {
		knock(i)
	}
	before := use(t, n)
	for i := range 100 { // 300 in all
		knock(100 + i)
	}
	after := returned(t, n, before, 2<<20)
	t.Logf("300 unknown identities: before %v, after %v", before, after)
}

// TestFault11NoServerName: a client without SNI gets a certificate, whichever
// suite it knows.
func TestFault11NoServerName(t *testing.T) {
	n := all(t)
	two, three := add(t, n, "TWO", 2, nil), add(t, n, "THREE", 3, map[string]any{"algorithm": "rsa"})
	for _, s := range []station{two, three} {
		for name, set := range map[string]func(*tls.Config){
			"TLS 1.3":            func(*tls.Config) {},
			"TLS 1.2":            func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
			"ECDSA AES-256":      only(tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
			"ECDSA AES-128":      only(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
			"static RSA AES-128": only(tls.TLS_RSA_WITH_AES_128_GCM_SHA256),
			"static RSA AES-256": only(tls.TLS_RSA_WITH_AES_256_GCM_SHA384),
		} {
			t.Run(fmt.Sprintf("profile %d, %s", s.profile, name), func(t *testing.T) {
				p := attempt{station: s, tls: func(c *tls.Config) {
					set(c)
					c.ServerName, c.InsecureSkipVerify = "", true // no SNI: crypto/tls sends none for an empty name
				}}.must(t)
				if sent := p.nc.(*tls.Conn).ConnectionState().ServerName; sent != "" {
					t.Fatalf("sent the server name %q", sent)
				}
				p.boot(t)
				p.leave()
			})
		}
	}
}

func only(suite uint16) func(*tls.Config) {
	return func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite} }
}

// TestFault13HeadersOfAProxy: what only a proxy may say is believed of no other
// peer: neither an address nor that a certificate was seen.
func TestFault13HeadersOfAProxy(t *testing.T) {
	n := all(t, "--trust-proxy", "127.0.0.77/32")
	remote := func(id string) string {
		var view struct{ State struct{ Remote string } }
		n.Do("GET", "/api/v1/stations/"+id, nil, &view)
		return view.State.Remote
	}
	plain, three := add(t, n, "PLAIN", 1, nil), add(t, n, "THREE", 3, nil)
	claims := map[string]string{
		"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9;proto=https", "X-Real-IP": "203.0.113.9",
		"X-Forwarded-Proto": "https", "X-Client-Verify": "SUCCESS", "X-SSL-Client-Verify": "SUCCESS",
		"X-Client-Cert-CN": "THREE", "X-SSL-Client-S-DN": "CN=THREE,O=Holdfast", "X-Forwarded-Client-Cert": `Hash=00;Subject="CN=THREE,O=Holdfast"`,
	}

	t.Run("address", func(t *testing.T) {
		p := attempt{station: plain, header: claims}.must(t)
		p.boot(t)
		e2e.Await(t, "the station's own address in the record", patience, func() bool { return remote("PLAIN") == "127.0.0.1" })
	})
	t.Run("certificate on the plain port", func(t *testing.T) {
		s := three
		s.url, s.roots, s.certificate = n.Plain, nil, nil
		if status, r := (attempt{station: s, header: claims}).status(t); status != http.StatusForbidden {
			t.Errorf("HTTP %d %v, want 403: registered for another profile", status, r)
		}
	})
	t.Run("certificate on the TLS port", func(t *testing.T) {
		s := three
		s.url, s.certificate = n.TLS, nil
		if status, r := (attempt{station: s, header: claims}).status(t); status != http.StatusForbidden {
			t.Errorf("HTTP %d %v, want 403: registered for another profile", status, r)
		}
	})
	t.Run("certificate header instead of a certificate", func(t *testing.T) {
		s := three
		s.certificate = nil
		if _, err := (attempt{station: s, header: claims}).dial(); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%v, want the TLS alert that a certificate is required", err)
		}
	})
	t.Run("PROXY header of a stranger", func(t *testing.T) {
		for _, s := range []station{plain, three} {
			if _, err := (attempt{station: s, first: proxyHeader("203.0.113.9:1")}).dial(); err == nil {
				t.Errorf("profile %d: connected behind a PROXY header", s.profile)
			}
		}
	})
	t.Run("PROXY header of a listed peer", func(t *testing.T) {
		p := attempt{station: three, from: "127.0.0.77", first: proxyHeader("203.0.113.9:1")}.must(t)
		p.boot(t)
		e2e.Await(t, "the address that the listed proxy tells", patience, func() bool { return remote("THREE") == "203.0.113.9" })
	})
	t.Run("no PROXY header of a listed peer", func(t *testing.T) {
		_, err := attempt{station: three, from: "127.0.0.77"}.dial()
		if _, answered := errors.AsType[*refusal](err); err == nil || answered {
			t.Errorf("%v, want the connection cut: its address is unknown", err)
		}
	})
}

// proxyHeader is a PROXY protocol v2 header for a client's address.
func proxyHeader(client string) []byte {
	a := netip.MustParseAddrPort(client)
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x21, 0x11, 0, 12)
	ip := a.Addr().As4()
	b = append(append(b, ip[:]...), 127, 0, 0, 1)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, a.Port()), 8883)
}
