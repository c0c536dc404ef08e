package access_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/e2e"
)

// station is a client of its own: crypto/tls and an upgrade request, nothing else.
type station struct {
	url      string // wss://host:port/ocpp
	path     string // behind it; empty: /ID
	id       string
	password string
	user     string // empty: id
	protocol string // empty: ocpp1.6; "-": none
	tls      *tls.Config
}

// connect returns the HTTP status, 0 if the TLS handshake failed, and what was agreed.
func (s station) connect(t *testing.T) (status int, state tls.ConnectionState) {
	t.Helper()
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.tls.Clone()
	conn, err := tls.Dial("tcp", u.Host, cfg)
	if err != nil {
		return 0, state
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	path := s.path
	if path == "" {
		path = "/ocpp/" + url.PathEscape(s.id)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", path, u.Host)
	switch s.protocol {
	case "":
		b.WriteString("Sec-WebSocket-Protocol: ocpp1.6\r\n")
	case "-":
	default:
		fmt.Fprintf(&b, "Sec-WebSocket-Protocol: %s\r\n", s.protocol)
	}
	if s.password != "" {
		user := s.user
		if user == "" {
			user = s.id
		}
		fmt.Fprintf(&b, "Authorization: Basic %s\r\n", base64.StdEncoding.EncodeToString([]byte(user+":"+s.password)))
	}
	b.WriteString("\r\n")
	if _, err := conn.Write([]byte(b.String())); err != nil {
		return 0, conn.ConnectionState()
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil { // TLS 1.3: the refusal comes with the first read
		return 0, conn.ConnectionState()
	}
	return r.StatusCode, conn.ConnectionState()
}

// attempt is an item of GET …/attempts.
type attempt struct {
	Station, Reason, Detail, Remote string
	Registered                      bool
}

func attempts(n *e2e.Node, path string) []attempt {
	var page struct{ Items []attempt }
	n.Do("GET", path, nil, &page)
	return page.Items
}

// expect has a station connect, and looks for the outcome where an operator does:
// a refusal is in the station's attempts, in its record, in the metric and in the log.
func expect(t *testing.T, n *e2e.Node, s station, status int, reason, detail string) {
	t.Helper()
	profile := `profile="2"`
	if s.url == n.MTLS {
		profile = `profile="3"`
	}
	refusals := func() float64 {
		return n.Metric("holdfast_rejections_total", profile, `reason="`+reason+`"`)
	}
	before := refusals()
	if got, _ := s.connect(t); got != status {
		t.Errorf("status %d, want %d", got, status)
	}
	path := "/api/v1/stations/" + url.PathEscape(s.id)
	e2e.Await(t, "the attempt "+reason+" "+detail, 10*time.Second, func() bool {
		list := attempts(n, path+"/attempts")
		if reason == "admitted" { // a remembered decision is no new attempt
			return slices.ContainsFunc(list, func(a attempt) bool { return a.Reason == "admitted" })
		}
		return len(list) > 0 && list[0].Reason == reason && strings.Contains(list[0].Detail, detail)
	})
	if reason == "admitted" {
		return
	}
	if after := refusals(); after != before+1 {
		t.Errorf("holdfast_rejections_total grew by %v", after-before)
	}
	named := "station=" + s.id + " "
	if strings.Contains(s.id, " ") {
		named = fmt.Sprintf("station=%q ", s.id)
	}
	e2e.Await(t, "the reason in the log", 10*time.Second, func() bool {
		for line := range strings.Lines(n.Tail(1 << 20)) {
			if strings.Contains(line, named) && strings.Contains(line, "reason="+reason+" ") {
				return true
			}
		}
		return false
	})
	var record struct {
		Last struct{ Reason string } `json:"last_attempt"`
	}
	e2e.Await(t, "the station's record", 10*time.Second, func() bool {
		return n.Do("GET", path, nil, &record) == 404 || record.Last.Reason == reason // 404: not registered
	})
}

// expectNameless is expect for a station that is refused before it can say who it
// is: its attempt stands with its address.
func expectNameless(t *testing.T, n *e2e.Node, s station, status int, reason, detail string) {
	t.Helper()
	profile := `profile="2"`
	if s.url == n.MTLS {
		profile = `profile="3"`
	}
	refusals := func() float64 {
		return n.Metric("holdfast_rejections_total", profile, `reason="`+reason+`"`)
	}
	before := refusals()
	if got, _ := s.connect(t); got != status {
		t.Errorf("status %d, want %d", got, status)
	}
	e2e.Await(t, "an attempt "+reason+" from this address", 10*time.Second, func() bool {
		return slices.ContainsFunc(attempts(n, "/api/v1/attempts"), func(a attempt) bool {
			return a.Reason == reason && a.Station == "" && a.Remote == "127.0.0.1" && !a.Registered && strings.Contains(a.Detail, detail)
		})
	})
	if after := refusals(); after != before+1 {
		t.Errorf("holdfast_rejections_total grew by %v", after-before)
	}
	if !strings.Contains(n.Tail(1<<20), "reason="+reason+" ") {
		t.Error("the reason is not in the log")
	}
}

// TestAdmission connects over real TLS with each fault that is not about a
// certificate, and reads the reason where an operator looks for it: the
// station's attempts, its record, the metric and the log.
func TestAdmission(t *testing.T) {
	n := e2e.All(t, "--connect-rate", "0.1", "--log-level", "debug") // five connections at once
	ca, err := os.ReadFile(filepath.Join(n.Data, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	// No server name is sent: the address is none.
	base := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}

	add := func(body map[string]any) (password string, cert *tls.Certificate) {
		t.Helper()
		var added struct {
			Password    string
			Certificate *struct{ Chain, Key string }
		}
		if status := n.Do("POST", "/api/v1/stations", body, &added); status != 201 {
			t.Fatalf("add %v: %d", body, status)
		}
		if added.Certificate != nil {
			pair, err := tls.X509KeyPair([]byte(added.Certificate.Chain), []byte(added.Certificate.Key))
			if err != nil {
				t.Fatal(err)
			}
			return "", &pair
		}
		return added.Password, nil
	}
	with := func(change func(*tls.Config)) *tls.Config {
		c := base.Clone()
		change(c)
		return c
	}
	presenting := func(cert *tls.Certificate, change func(*tls.Config)) *tls.Config {
		return with(func(c *tls.Config) {
			// Not Certificates: those would be held back if the CAs that the server names do not fit.
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
			if change != nil {
				change(c)
			}
		})
	}
	pw := func(id string, more map[string]any) string {
		body := map[string]any{"id": id}
		for k, v := range more {
			body[k] = v
		}
		password, _ := add(body)
		return password
	}
	const wrong = "wrong-password-wrong"

	good, moving, named, pinned := pw("GOOD", nil), pw("MOVING", nil), pw("NAMED", map[string]any{"user": "vendor"}), pw("PINNED", map[string]any{"version": "2.0.1"})
	blocked, often, locked, silent := pw("BLOCKED", nil), pw("OFTEN", nil), pw("LOCKED", nil), pw("SILENT", nil)
	plain := pw("PLAIN", map[string]any{"profile": 1})
	assumed := pw("ASSUMED", map[string]any{"quirks": map[string]any{"assume_v16": true}})
	if status := n.Do("POST", "/api/v1/stations/BLOCKED/block", map[string]any{"reason": "stolen"}, nil); status != 200 {
		t.Fatalf("block: %d", status)
	}
	if status := n.Do("PATCH", "/api/v1/stations/MOVING", map[string]any{"profile": 3}, nil); status != 200 {
		t.Fatalf("change the profile: %d", status)
	}
	var issued struct{ Chain, Key string }
	if status := n.Do("POST", "/api/v1/stations/MOVING/certificate", map[string]any{}, &issued); status >= 300 {
		t.Fatalf("certificate: %d", status)
	}
	movingCert, err := tls.X509KeyPair([]byte(issued.Chain), []byte(issued.Key))
	if err != nil {
		t.Fatal(err)
	}
	_, mutual := add(map[string]any{"id": "MUTUAL", "profile": 3})
	_, rsa := add(map[string]any{"id": "MUTUAL RSA", "profile": 3, "algorithm": "rsa"})
	_, other := add(map[string]any{"id": "OTHER", "profile": 3})

	rows := []struct {
		name   string
		s      station
		status int
		reason string
		detail string // a part of it
	}{
		{"good", station{url: n.TLS, id: "GOOD", password: good, tls: base}, 101, "admitted", ""},
		{"unknown station", station{url: n.TLS, id: "NOBODY", password: good, tls: base}, 404, "unknown_station", "no station with this identity"},
		{"blocked", station{url: n.TLS, id: "BLOCKED", password: blocked, tls: base}, 403, "blocked", "stolen"},
		{"profile 2 for 3", station{url: n.TLS, id: "MUTUAL", password: good, tls: base}, 403, "wrong_profile", "came with security profile 2, is registered for 3"},
		{"profile 2 for 1", station{url: n.TLS, id: "PLAIN", password: plain, tls: base}, 403, "wrong_profile", "is registered for 1"},
		{"profile 3 for 2", station{url: n.MTLS, id: "GOOD", tls: presenting(other, nil)}, 403, "wrong_profile", "came with security profile 3"},
		{"no credentials", station{url: n.TLS, id: "SILENT", tls: base}, 401, "no_credentials", "no HTTP Basic"},
		{"wrong password", station{url: n.TLS, id: "SILENT", password: wrong, tls: base}, 401, "wrong_password", "(20 bytes) is wrong"},
		{"other's user name", station{url: n.TLS, id: "SILENT", user: "GOOD", password: silent, tls: base}, 401, "wrong_password", "user name"},
		{"own user name", station{url: n.TLS, id: "NAMED", user: "vendor", password: named, tls: base}, 101, "admitted", ""},
		{"identity instead of the own user name", station{url: n.TLS, id: "NAMED", password: named, tls: base}, 401, "wrong_password", "user name"},
		{"no common subprotocol", station{url: n.TLS, id: "GOOD", password: good, protocol: "ocpp1.5, soap", tls: base}, 101, "no_common_subprotocol", "ocpp1.5, soap"},
		{"no subprotocol", station{url: n.TLS, id: "GOOD", password: good, protocol: "-", tls: base}, 101, "no_common_subprotocol", "assume_v16"},
		{"no subprotocol, assumed", station{url: n.TLS, id: "ASSUMED", password: assumed, protocol: "-", tls: base}, 101, "admitted", ""},
		{"other than the pinned version", station{url: n.TLS, id: "PINNED", password: pinned, protocol: "ocpp1.6", tls: base}, 101, "no_common_subprotocol", "pinned: 2.0.1"},
		{"the pinned version", station{url: n.TLS, id: "PINNED", password: pinned, protocol: "ocpp1.6, ocpp2.0.1", tls: base}, 101, "admitted", ""},
		{"a change of profile, before", station{url: n.TLS, id: "MOVING", password: moving, tls: base}, 101, "admitted", ""},
		{"a change of profile, the new one", station{url: n.MTLS, id: "MOVING", tls: presenting(&movingCert, nil)}, 101, "admitted", ""},
		{"a change of profile, over", station{url: n.TLS, id: "MOVING", password: moving, tls: base}, 403, "wrong_profile", "is registered for 3"},
		{"certificate of another station", station{url: n.MTLS, id: "MUTUAL", tls: presenting(other, nil)}, 401, "wrong_serial", "OTHER"},
	}
	for i := range 6 { // five are free: the sixth is refused, the right password, too
		status, reason, password := 401, "wrong_password", wrong
		if i == 5 {
			status, reason, password = 429, "locked_out", locked
		}
		rows = append(rows, struct {
			name   string
			s      station
			status int
			reason string
			detail string
		}{fmt.Sprintf("guess %d", i+1), station{url: n.TLS, id: "LOCKED", password: password, tls: base}, status, reason, ""})
	}
	for i := range 6 {
		status, reason := 101, "admitted"
		if i == 5 {
			status, reason = 429, "connects_too_often"
		}
		rows = append(rows, struct {
			name   string
			s      station
			status int
			reason string
			detail string
		}{fmt.Sprintf("connection %d", i+1), station{url: n.TLS, id: "OFTEN", password: often, tls: base}, status, reason, ""})
	}
	for _, tt := range rows {
		t.Run(tt.name, func(t *testing.T) {
			expect(t, n, tt.s, tt.status, tt.reason, tt.detail)
		})
	}

	// Nobody can say who it is before the handshake: the address tells.
	for _, tt := range []struct {
		name   string
		s      station
		status int
		reason string
		detail string
	}{
		{"TLS 1.1", station{url: n.TLS, id: "GOOD", password: good, tls: with(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })}, 0, "tls_version_or_suite", "TLS 1.1"},
		{"an unfit suite", station{url: n.TLS, id: "GOOD", password: good, tls: with(func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		})}, 0, "tls_version_or_suite", "cipher suite"},
		{"no certificate", station{url: n.MTLS, id: "MUTUAL", tls: base}, 0, "no_certificate", ""},
		{"no certificate, TLS 1.2", station{url: n.MTLS, id: "MUTUAL", tls: with(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })}, 0, "no_certificate", ""},
		{"no identity", station{url: n.TLS, path: "/", tls: base}, 404, "no_identity", ""},
		{"a broken identity", station{url: n.TLS, path: "/ocpp/A%2", tls: base}, 404, "no_identity", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			expectNameless(t, n, tt.s, tt.status, tt.reason, tt.detail)
		})
	}

	// A00.FR.318: the suites that a CSMS must offer, each alone, for both kinds of
	// station, without a server name.
	for _, suite := range []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
	} {
		only := func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{suite} }
		id := tls.CipherSuiteName(suite)
		password := pw(id, nil)
		cert, certID := mutual, "MUTUAL"
		if strings.HasPrefix(id, "TLS_RSA") {
			cert, certID = rsa, "MUTUAL RSA"
		}
		for name, s := range map[string]station{
			"profile 2": {url: n.TLS, id: id, password: password, tls: with(only)},
			"profile 3": {url: n.MTLS, id: certID, tls: presenting(cert, only)},
		} {
			t.Run(id+", "+name, func(t *testing.T) {
				status, state := s.connect(t)
				if status != 101 || state.CipherSuite != suite || state.Version != tls.VersionTLS12 {
					t.Errorf("status %d, %s %s", status, tls.VersionName(state.Version), tls.CipherSuiteName(state.CipherSuite))
				}
			})
		}
	}
	t.Run("TLS 1.3", func(t *testing.T) {
		if status, state := (station{url: n.MTLS, id: "MUTUAL", tls: presenting(mutual, nil)}).connect(t); status != 101 || state.Version != tls.VersionTLS13 {
			t.Errorf("status %d, %s", status, tls.VersionName(state.Version))
		}
	})
}
