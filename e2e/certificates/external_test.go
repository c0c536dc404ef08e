package certificates_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/e2e"
)

// estServer is a CA elsewhere, with an EST server by others.
type estServer struct {
	t       *testing.T
	dir     string
	address string
	cmd     *exec.Cmd
}

// newESTServer builds and starts one, and writes the password for it.
func newESTServer(t *testing.T) *estServer {
	t.Helper()
	x := &estServer{t: t, dir: t.TempDir(), address: "127.0.0.1:" + e2e.FreePort(t)}
	if out, err := exec.Command("go", "build", "-C", "../estserver", "-o", x.file("estserver"), ".").CombinedOutput(); err != nil {
		t.Fatalf("build the EST server: %v\n%s", err, out)
	}
	x.start()
	t.Cleanup(func() { x.stop() })
	if err := os.WriteFile(x.file("password"), []byte("sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return x
}

// start starts it, with a new root, at a free port.
func (x *estServer) start() {
	x.t.Helper()
	x.cmd = exec.Command(filepath.Join(x.dir, "estserver"), "-dir", x.dir, "-listen", x.address, "-user", "holdfast", "-password", "sesame", "-mutual")
	out, err := x.cmd.StdoutPipe()
	if err == nil {
		err = x.cmd.Start()
	}
	if err != nil {
		x.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.HasPrefix(line, "ready ") {
		x.t.Fatalf("EST server: %q, %v", line, err)
	}
}

func (x *estServer) stop() { x.cmd.Process.Kill(); x.cmd.Wait() }

func (x *estServer) file(name string) string { return filepath.Join(x.dir, name) }

// list fetches the CA's revocation list, which revokes all that it issued.
func (x *estServer) list() string {
	x.t.Helper()
	pair, err := tls.LoadX509KeyPair(x.file("client.crt"), x.file("client.key"))
	if err != nil {
		x.t.Fatal(err)
	}
	text, err := os.ReadFile(x.file("root.crt"))
	if err != nil {
		x.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("https://" + x.address + "/crl")
	if err != nil {
		x.t.Fatal(err)
	}
	defer resp.Body.Close()
	der, err := io.ReadAll(resp.Body)
	if err == nil {
		err = os.WriteFile(x.file("list.crl"), der, 0o600)
	}
	if err != nil {
		x.t.Fatal(err)
	}
	return x.file("list.crl")
}

// TestExternalCA has stations' certificates issued by a CA elsewhere, over EST with
// a password and a client certificate.
func TestExternalCA(t *testing.T) {
	t.Parallel()
	x := newESTServer(t)
	n := e2e.All(t, "--est", "https://"+x.address+"/.well-known/est/stations", "--est-ca", x.file("root.crt"), "--operator", "Op",
		"--est-user", "holdfast", "--est-password-file", x.file("password"), "--est-cert", x.file("client.crt"), "--est-key", x.file("client.key"))
	holdfast := func(out any, args ...string) { t.Helper(); command(t, n, out, args...) }
	type problem struct{ Detail string }
	add := func(id, algorithm string) (int, problem, issued) {
		t.Helper()
		var answer struct {
			problem
			Certificate issued
		}
		status := n.Do("POST", "/api/v1/stations", map[string]any{"id": id, "profile": 3, "algorithm": algorithm}, &answer)
		return status, answer.problem, answer.Certificate
	}

	if status, p, _ := add("CS-1", "ecdsa"); status != 502 || !strings.Contains(p.Detail, "holdfast cert trust") {
		t.Errorf("before its CA is trusted: %d %s", status, p.Detail)
	}
	if status := n.Do("GET", "/api/v1/stations/CS-1", nil, nil); status != 404 {
		t.Errorf("a station without its certificate was registered: %d", status)
	}
	var ca struct {
		CAs []struct {
			Subject string
			Trusted bool
		}
	}
	holdfast(&ca, "cert", "external-ca", "-o", x.file("ca.pem"))
	if len(ca.CAs) != 2 || ca.CAs[0].Trusted {
		t.Errorf("external CA: %+v", ca)
	}
	holdfast(nil, "cert", "trust", x.file("ca.pem"))
	holdfast(&ca, "cert", "external-ca")
	if len(ca.CAs) != 2 || !ca.CAs[0].Trusted || !ca.CAs[1].Trusted {
		t.Errorf("external CA, trusted: %+v", ca)
	}

	stations := make(map[string]*station)
	for id, algorithm := range map[string]string{"CS-1": "ecdsa", "CS-2": "rsa", "CS-3": "ecdsa"} {
		status, p, with := add(id, algorithm)
		if status != 201 {
			t.Fatalf("add %s: %d %s", id, status, p.Detail)
		}
		stations[id] = newStation(t, id, with)
		e2e.Await(t, "the gateway knows the CA", patience, func() bool {
			status, _, err := stations[id].connect(n.MTLS)
			return err == nil && status == http.StatusSwitchingProtocols
		})
		t.Cleanup(func() { stations[id].conn.Close() })
		if err := os.WriteFile(x.file(id+".crt"), []byte(with.Chain), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("openssl", "verify", "-CAfile", x.file("root.crt"), "-untrusted", x.file(id+".crt"), x.file(id+".crt")).CombinedOutput(); err != nil {
			t.Errorf("openssl verify: %v\n%s", err, out)
		}
		var c struct {
			Issued     bool
			ExternalCA string `json:"external_ca"`
		}
		holdfast(&c, "cert", "show", with.Certificate.Serial)
		if !c.Issued || c.ExternalCA != "https://"+x.address+"/.well-known/est/stations" {
			t.Errorf("inventory: %+v", c)
		}
	}
	// A key that never leaves the station; the same request again gets the same certificate.
	if out, err := exec.Command("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", x.file("own.key"),
		"-out", x.file("own.csr"), "-subj", "/O=Op/CN=CS-2").CombinedOutput(); err != nil {
		t.Fatalf("openssl req: %v\n%s", err, out)
	}
	var first, again issued
	holdfast(&first, "cert", "sign", x.file("own.csr"), "--station", "CS-2")
	holdfast(&again, "cert", "sign", x.file("own.csr"), "--station", "CS-2")
	if first.Certificate.Serial == "" || first.Certificate.Serial != again.Certificate.Serial {
		t.Errorf("serial numbers %q, %q", first.Certificate.Serial, again.Certificate.Serial)
	}
	if got := n.Metric("holdfast_authority_external_ca_total", `result="issued"`); got != 4 {
		t.Errorf("%v certificates issued, want 4", got)
	}

	list := x.list()

	// The CA away: nobody's connection depends on it, and who wants a certificate is told.
	x.stop()
	if status, p, _ := add("CS-5", "ecdsa"); status != 503 || !strings.Contains(p.Detail, x.address) || !strings.Contains(p.Detail, "refused") {
		t.Errorf("while the CA is away: %d %s", status, p.Detail)
	}
	stations["CS-2"].conn.Close()
	stations["CS-2"].must(t, n.MTLS)
	n.AwaitReady()

	// Revoked here, and by the CA's own list.
	from, wait := ends([]*station{stations["CS-1"], stations["CS-3"]})
	from(stations["CS-1"])
	holdfast(nil, "cert", "revoke", stations["CS-1"].serial)
	from(stations["CS-3"])
	holdfast(nil, "cert", "crl", "import", list)
	for st, e := range wait() {
		if e.code != 1008 {
			t.Errorf("station %s: close code %d, %v", st.id, e.code, e.err)
		}
		st.refused(t, n.MTLS)
	}
}
