// Package hunt lets `holdfast leak hunt` loose on real servers: a Node.js gateway
// that leaks outside of V8's heap on its mutual-TLS path only, and the same one
// mended; a Go server with one of five faults.
//
// HOLDFAST_HUNT=10m makes each experiment last so long; the default keeps the
// tests short, and their intervals wide.
package hunt

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"holdfast/e2e"
	"holdfast/leak"
	"holdfast/leak/hunt"
)

func TestMain(m *testing.M) {
	code := m.Run()
	e2e.Clean()
	os.Exit(code)
}

// result is what leak hunt --json prints.
type result struct {
	hunt.Report
	Evidence []struct {
		Activity string
		leak.Difference
	}
}

// activity finds an activity of the report.
func (r *result) activity(t *testing.T, name string) *hunt.ActivityReport {
	t.Helper()
	for i := range r.Activities {
		if r.Activities[i].Name() == name {
			return &r.Activities[i]
		}
	}
	t.Fatalf("no activity %q in the report", name)
	return nil
}

// run runs leak hunt and returns its report and exit status; a nil report is an
// error of the test. It takes about so long as lasts, unless HOLDFAST_HUNT says
// otherwise.
func run(t *testing.T, lasts time.Duration, args ...string) (*result, int) {
	t.Helper()
	if s := os.Getenv("HOLDFAST_HUNT"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Errorf("HOLDFAST_HUNT=%q: want a duration such as 10m", s)
			return nil, -1
		}
		lasts = d
	}
	cmd := exec.Command(e2e.Build(t, "holdfast/cmd/holdfast"), append([]string{"leak", "hunt", "--json", "--for", lasts.String()}, args...)...)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	var r result
	if err != nil && !ok || ok && exit.ExitCode() != 1 || json.Unmarshal(out.Bytes(), &r) != nil {
		t.Errorf("leak hunt: %v\n%.2000s\n%s", err, out.String(), log.String())
		return nil, -1
	}
	return &r, cmd.ProcessState.ExitCode()
}

// pki is a directory with root.crt, ca.crt (issuing CA and root), issuing.key,
// server.crt and server.key.
func pki(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	name := func(cn string) pkix.Name {
		return pkix.Name{Country: []string{"DE"}, Organization: []string{"Example Charging Networks GmbH"}, OrganizationalUnit: []string{"Charging Station PKI"}, CommonName: cn}
	}
	now := time.Now()
	ca := func(n int64, cn string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(n), Subject: name(cn), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	}
	rootCA, issuingCA := ca(1, "Example Charging Networks Root CA 2026"), ca(2, "Example Charging Networks Stations Issuing CA 07")
	server := &x509.Certificate{SerialNumber: big.NewInt(3), Subject: name("localhost"), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	rootKey, issuingKey, serverKey := newKey(t), newKey(t), newKey(t)
	rootPEM := sign(t, rootCA, rootCA, rootKey, rootKey)
	issuingPEM := sign(t, issuingCA, rootCA, issuingKey, rootKey)
	for file, data := range map[string][]byte{
		"root.crt": rootPEM, "ca.crt": append(issuingPEM, rootPEM...), "issuing.key": keyPEM(t, issuingKey),
		"server.crt": sign(t, server, rootCA, serverKey, rootKey), "server.key": keyPEM(t, serverKey),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, c, parent *x509.Certificate, key, by *ecdsa.PrivateKey) []byte {
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// ports is what the servers print first.
type ports struct{ PID, TLS, MTLS, Admin int }

// awaitPorts reads the line of JSON that a server prints.
func awaitPorts(t *testing.T, p *e2e.Process) ports {
	t.Helper()
	var found ports
	p.Await("the server's ports", 20*time.Second, func() bool {
		if p.Ended() {
			t.Fatalf("the server ended: %s", p.Tail(2000))
		}
		for line := range bytes.Lines([]byte(p.Tail(4 << 10))) {
			if json.Unmarshal(line, &found) == nil && found.MTLS != 0 {
				return true
			}
		}
		return false
	})
	return found
}
