package certificates_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/e2e"
	"holdfast/pki"
)

// seen is the certificate that a new handshake is made with.
func (s *station) seen(t *testing.T, address string) *x509.Certificate {
	t.Helper()
	cfg := s.tls.Clone()
	cfg.ClientSessionCache = nil // a resumed session has the certificates of the first
	address, _, _ = strings.Cut(strings.TrimPrefix(address, "wss://"), "/")
	conn, err := tls.Dial("tcp", address, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// alive fails unless the connection answers a ping.
func (s *station) alive(t *testing.T) {
	t.Helper()
	s.conn.SetDeadline(time.Now().Add(patience))
	defer s.conn.SetDeadline(time.Time{})
	if _, err := s.conn.Write([]byte{0x89, 0x80, 1, 2, 3, 4}); err != nil {
		t.Fatal(err)
	}
	for {
		head := make([]byte, 2)
		_, err := io.ReadFull(s.r, head)
		if err == nil {
			_, err = s.r.Discard(int(head[1] & 0x7f))
		}
		if err != nil {
			t.Fatalf("station %s: %v", s.id, err)
		}
		switch head[0] {
		case 0x8a:
			return
		case 0x88:
			t.Fatalf("station %s: closed", s.id)
		}
	}
}

// command runs a client command of a node and reads its JSON.
func command(t *testing.T, n *e2e.Node, out any, args ...string) {
	t.Helper()
	text, err := exec.Command(e2e.Build(t, "holdfast/cmd/holdfast"), append(args, "--json", "--url", n.API, "--data", n.Data)...).Output()
	if err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		t.Fatalf("holdfast %v: %v\n%s", args, err, text)
	}
}

// TestServerCertificate: a short-lived server certificate is replaced, again and
// again, while a station stays connected; new handshakes get the new one, and the
// metric says when it expires.
func TestServerCertificate(t *testing.T) {
	t.Parallel()
	n := e2e.All(t, "--server-cert-lifetime", "10s")
	st := addStation(t, n, "CS-1", "ecdsa")
	st.must(t, n.MTLS)
	first := st.conn.ConnectionState().PeerCertificates[0]
	if left := time.Until(first.NotAfter); left > 10*time.Second {
		t.Fatalf("the certificate is good for %s", left)
	}
	last := first
	for range 2 {
		before := last
		n.Await("another certificate", patience, func() bool {
			last = st.seen(t, n.MTLS) // every handshake is good: none gets an expired one
			return !last.Equal(before)
		})
		st.alive(t)
	}
	if time.Now().Before(first.NotAfter) {
		n.Await("the first certificate expires", patience, func() bool { return time.Now().After(first.NotAfter) })
		st.alive(t)
	}
	for _, key := range []string{"ecdsa", "rsa"} {
		if at := n.Metric("holdfast_server_certificate_expiry_timestamp_seconds", `key="`+key+`"`, `source="authority"`); at < float64(last.NotAfter.Unix()) || at > float64(last.NotAfter.Unix()+60) {
			t.Errorf("expiry of the %s certificate: %v, want %d or later", key, at, last.NotAfter.Unix())
		}
	}
	var servers []struct{ Serial, Kind string }
	command(t, n, &servers, "cert", "list", "--kind", "server")
	if len(servers) < 6 || servers[0].Kind != "server" { // two kinds of key, three times
		t.Errorf("inventory: %+v", servers)
	}
	n.AwaitReady()
}

// TestExpiring: the inventory has certificates that were only seen, and lists those
// that expire soon; the metric has the first of them.
func TestExpiring(t *testing.T) {
	t.Parallel()
	n := e2e.All(t)
	dir := t.TempDir()
	openssl := func(args ...string) {
		t.Helper()
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	read := func(path string) string {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	ec := []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"}
	openssl(append([]string{"req", "-x509", "-keyout", "maker.key", "-out", "maker.crt", "-days", "60", "-subj", "/O=Maker/CN=Maker CA", "-addext", "keyUsage=critical,keyCertSign"}, ec...)...)
	openssl(append([]string{"req", "-keyout", "made.key", "-out", "made.csr", "-subj", "/O=Maker/CN=MADE-1"}, ec...)...)
	openssl("x509", "-req", "-in", "made.csr", "-CA", "maker.crt", "-CAkey", "maker.key", "-days", "5", "-out", "made.crt")
	command(t, n, nil, "cert", "trust", filepath.Join(dir, "maker.crt"))
	if status := n.Do("POST", "/api/v1/stations", map[string]any{"id": "MADE-1", "profile": 3, "no_certificate": true}, nil); status != 201 {
		t.Fatalf("add: %d", status)
	}
	made := newStation(t, "MADE-1", issued{Chain: read(filepath.Join(dir, "made.crt")), Key: read(filepath.Join(dir, "made.key")), CA: read(filepath.Join(n.Data, "ca.crt"))})
	e2e.Await(t, "the station of the maker is admitted", patience, func() bool {
		status, _, err := made.connect(n.MTLS)
		return err == nil && status == 101
	})
	made.conn.Close()
	ours := addStation(t, n, "CS-1", "ecdsa")
	ours.must(t, n.MTLS)
	ours.conn.Close()

	var soon []struct {
		Station, Kind, Fingerprint string
		Issued                     bool
		NotAfter                   time.Time `json:"not_after"`
	}
	command(t, n, &soon, "cert", "list", "--expiring", "30d")
	certs, err := pki.ParseCertificates([]byte(read(filepath.Join(dir, "made.crt"))))
	if err != nil {
		t.Fatal(err)
	}
	if len(soon) != 1 || soon[0].Station != "MADE-1" || soon[0].Issued || soon[0].Fingerprint != pki.Fingerprint(certs[0].Raw) || !soon[0].NotAfter.Equal(certs[0].NotAfter) {
		t.Errorf("expire within 30 days: %+v", soon)
	}
	command(t, n, &soon, "cert", "list", "--expiring", "3d")
	if len(soon) != 0 {
		t.Errorf("expire within 3 days: %+v", soon)
	}
	command(t, n, &soon, "cert", "list", "--expiring", "900d")
	if len(soon) != 2 {
		t.Errorf("expire within 900 days: %+v", soon)
	}
	n.Terminate()
	n.Wait(patience)
	n.Restart() // the metrics are counted at the start and every minute
	n.AwaitReady()
	maker, err := pki.ParseCertificates([]byte(read(filepath.Join(dir, "maker.crt"))))
	if err != nil {
		t.Fatal(err)
	}
	for kind, want := range map[string]time.Time{"station": certs[0].NotAfter, "imported_ca": maker[0].NotAfter} {
		e2e.Await(t, "expiry of kind "+kind, patience, func() bool {
			return n.Metric("holdfast_authority_next_expiry_timestamp_seconds", `kind="`+kind+`"`) == float64(want.Unix())
		})
	}
}
