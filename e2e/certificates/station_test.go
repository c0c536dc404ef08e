package certificates_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"testing"
	"time"

	"holdfast/e2e"
)

// issued is a certificate with its key, as the operator API gives it.
type issued struct {
	Certificate struct{ Serial string }
	Chain, Key  string
	CA          string
}

// station is a charging station on security profile 3: crypto/tls and an upgrade
// request, nothing else.
type station struct {
	id     string
	serial string // of its certificate
	tls    *tls.Config
	conn   *tls.Conn
	r      *bufio.Reader
}

// addStation registers a station and gets it a certificate.
func addStation(t *testing.T, api *e2e.Node, id, algorithm string) *station {
	t.Helper()
	var added struct{ Certificate issued }
	if status := api.Do("POST", "/api/v1/stations", map[string]any{"id": id, "profile": 3, "algorithm": algorithm}, &added); status != 201 {
		t.Fatalf("add %s: %d", id, status)
	}
	return newStation(t, id, added.Certificate)
}

func newStation(t *testing.T, id string, with issued) *station {
	t.Helper()
	pair, err := tls.X509KeyPair([]byte(with.Chain), []byte(with.Key))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(with.CA))
	return &station{id: id, serial: with.Certificate.Serial, tls: &tls.Config{
		RootCAs: roots, MinVersion: tls.VersionTLS12, ServerName: "localhost", ClientSessionCache: tls.NewLRUClientSessionCache(2),
		// Not Certificates: those would be held back if the CAs that the server names do not fit.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil },
	}}
}

// connect opens the station's connection at a gateway. The status is that of the
// upgrade, 0 if there was none because the handshake failed.
func (s *station) connect(address string) (status int, state tls.ConnectionState, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return 0, state, err
	}
	conn, err := tls.Dial("tcp", u.Host, s.tls)
	if err != nil {
		return 0, state, nil
	}
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(conn, "GET /ocpp/%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: ocpp1.6\r\n\r\n", url.PathEscape(s.id), u.Host); err != nil {
		conn.Close()
		return 0, conn.ConnectionState(), nil
	}
	r := bufio.NewReader(conn)
	answer, err := http.ReadResponse(r, nil)
	if err != nil { // TLS 1.3: the refusal comes with the first read
		conn.Close()
		return 0, conn.ConnectionState(), nil
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return answer.StatusCode, conn.ConnectionState(), nil
	}
	conn.SetDeadline(time.Time{})
	s.conn, s.r = conn, r
	return answer.StatusCode, conn.ConnectionState(), nil
}

// must connects.
func (s *station) must(t *testing.T, address string) tls.ConnectionState {
	t.Helper()
	status, state, err := s.connect(address)
	if err != nil || status != http.StatusSwitchingProtocols {
		t.Fatalf("station %s: %d, %v", s.id, status, err)
	}
	t.Cleanup(func() { s.conn.Close() })
	return state
}

// refused fails unless the station is soon refused at the address with its session
// ticket, and without one: each gateway is told for itself.
func (s *station) refused(t *testing.T, address string) {
	t.Helper()
	for _, how := range []string{"resumed", "full"} {
		if how == "full" {
			s.tls.ClientSessionCache = nil
		}
		e2e.Await(t, "station "+s.id+" is refused with a "+how+" handshake", 5*time.Second, func() bool {
			status, _, err := s.connect(address)
			if err == nil && status == http.StatusSwitchingProtocols {
				s.conn.Close()
			}
			return err == nil && (status == 0 || status == http.StatusUnauthorized || status == http.StatusForbidden)
		})
	}
}

// errTraffic is the end of waiting for a close in something else.
var errTraffic = errors.New("the gateway sent something that is neither a ping nor a close")

// awaitClose returns when the gateway closes the connection, with its close code;
// 0: it just ended.
func (s *station) awaitClose() (code int, err error) {
	defer s.conn.Close()
	for {
		head := make([]byte, 2)
		if _, err := io.ReadFull(s.r, head); err != nil {
			return 0, err
		}
		payload := make([]byte, head[1]&0x7f)
		if _, err := io.ReadFull(s.r, payload); err != nil {
			return 0, err
		}
		switch head[0] & 0xf {
		case 0x9:
		case 0x8:
			if len(payload) >= 2 {
				code = int(payload[0])<<8 | int(payload[1])
			}
			return code, nil
		default:
			return 0, errTraffic
		}
	}
}
