package certificates_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/e2e"
)

// certificateFile writes a server certificate of its own and its key, as an
// operator does who brings them.
func certificateFile(t *testing.T, roots *x509.CertPool, cert, key string, serial int64, life time.Duration) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(parsed)
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// unready are the reasons of /readyz; none if it is ready.
func unready(t *testing.T, n *e2e.Node) []string {
	t.Helper()
	r, err := http.Get(n.Admin + "/readyz")
	if err != nil {
		return []string{err.Error()}
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Reasons []string }
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if (r.StatusCode == http.StatusOK) != (len(answer.Reasons) == 0) {
		t.Errorf("status %d with %q", r.StatusCode, answer.Reasons)
	}
	return answer.Reasons
}

// TestServerCertificateFiles: a gateway with its operator's certificate files takes
// new ones while the authority is away, keeps what it has when they are damaged,
// follows what is trusted all the same, and says so in its readiness when the
// certificate expires. A station stays connected through all of it.
func TestServerCertificateFiles(t *testing.T) {
	t.Parallel()
	s, dir := newSite(t), t.TempDir()
	cert, key := filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	st := addStation(t, s.csms, "CS-1", "ecdsa")
	roots := x509.NewCertPool()
	st.tls.RootCAs, st.tls.ClientSessionCache = roots, nil
	certificateFile(t, roots, cert, key, 1, time.Hour)
	gw := s.gateways[0]
	gw.Kill()
	gw.Args = append(gw.Args, "--server-cert", cert, "--server-key", key)
	gw.Restart()
	gw.AwaitReady()
	st.must(t, gw.MTLS)
	st.tls.InsecureSkipVerify = true // from here on it looks at the certificate itself
	shown := func() int64 { t.Helper(); return st.seen(t, gw.MTLS).SerialNumber.Int64() }
	if got := shown(); got != 1 {
		t.Fatalf("certificate %d", got)
	}
	shows := func(want int64) {
		t.Helper()
		gw.Await("a new certificate is shown", 3*patience, func() bool { return shown() == want })
		st.alive(t)
	}

	s.authority.Kill()
	certificateFile(t, roots, cert, key, 2, time.Hour)
	shows(2)
	if err := os.WriteFile(key, []byte("half a k"), 0o600); err != nil {
		t.Fatal(err)
	}
	gw.Await("the log tells of it", 3*patience, func() bool { return strings.Contains(gw.Tail(1<<20), "both must be PEM and belong together") })
	shows(2)

	// The files are still damaged. What the authority trusts is followed.
	s.authority.Restart()
	s.authority.AwaitReady()
	script := exec.Command("bash", "-ec", maker+`
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout made.key -out made.csr -subj /O=Maker/CN=MADE-1
openssl x509 -req -in made.csr -CA maker.pem -CAkey maker.key -days 5 -out made.crt`)
	script.Dir = dir
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	command(t, s.csms, nil, "cert", "trust", filepath.Join(dir, "maker.pem"))
	if status := s.csms.Do("POST", "/api/v1/stations", map[string]any{"id": "MADE-1", "profile": 3, "no_certificate": true}, nil); status != http.StatusCreated {
		t.Fatalf("add: %d", status)
	}
	made := newStation(t, "MADE-1", issued{Chain: read("made.crt"), Key: read("made.key")})
	made.tls.RootCAs = roots
	gw.Await("the gateway with damaged files knows a new CA", 3*patience, func() bool {
		status, _, err := made.connect(gw.MTLS)
		return err == nil && status == http.StatusSwitchingProtocols
	})
	made.conn.Close()

	certificateFile(t, roots, cert, key, 3, 25*time.Second)
	shows(3)
	gw.Await("the certificate expires", 3*patience, func() bool { return len(unready(t, gw)) > 0 })
	if why := unready(t, gw); len(why) != 1 || !strings.Contains(why[0], "the server certificate expired on") || !strings.Contains(why[0], "replace the files of --server-cert") {
		t.Errorf("readiness: %q", why)
	}
	st.alive(t)
	certificateFile(t, roots, cert, key, 4, time.Hour)
	shows(4)
	gw.AwaitReady()
}
