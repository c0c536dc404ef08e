package certificates_test

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/e2e"
)

// pkcs11Token makes a token of SoftHSM and returns its URI, but for the PIN.
func pkcs11Token(t *testing.T, pin string) string {
	t.Helper()
	tool, err := exec.LookPath("softhsm2-util")
	module, _ := filepath.Glob("/usr/lib*/softhsm/libsofthsm2.so")
	if err != nil || len(module) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("softhsm2 is not installed: .ci/run does that")
		}
		t.Skip("softhsm2 is not installed")
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command(tool, "--init-token", "--free", "--label", "holdfast", "--pin", pin, "--so-pin", "56785678").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return "pkcs11:module-path=" + module[0] + ";token=holdfast"
}

// TestPKCS11 has the whole authority on a PKCS#11 token: the keys of all CAs are
// made there and never leave it.
func TestPKCS11(t *testing.T) {
	const pin = "31415926"
	uri := pkcs11Token(t, pin)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	n := e2e.Ports(t, t.TempDir())
	n.Binary = e2e.Build(t, "holdfast/cmd/holdfast", "-tags", "pkcs11")
	n.Args = append([]string{"all", "--data", n.Data, "--drain-time", "1s"}, n.ListenArgs("api", "admin", "tls", "mtls")...)

	wrong := e2e.Start(t, n.Binary, append(n.Args, "--kms", uri+"?pin-source="+write("wrong", []byte("27182818")))...)
	if code := wrong.Wait(patience); code != 1 {
		t.Errorf("with a wrong PIN: exit status %d", code)
	}
	if out := wrong.Tail(8 << 10); !strings.Contains(out, "key management system pkcs11") || strings.Contains(out, "27182818") {
		t.Errorf("with a wrong PIN: %s", out)
	}

	n.Args = append(n.Args, "--kms", uri+"?pin-source="+write("pin", []byte(pin)))
	n.Restart()
	n.AwaitReady()
	keysInToken := func(want int) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(n.Data, "ca", "*.pem"))
		if err != nil || len(files) != want {
			t.Errorf("CA files: %v, %v, want %d", files, err, want)
		}
		for _, path := range files {
			text, err := os.ReadFile(path)
			if err != nil || bytes.Contains(text, []byte("PRIVATE KEY")) || !bytes.Contains(text, []byte("\nKey: pkcs11:")) {
				t.Errorf("%s: %v\n%s", path, err, text)
			}
		}
	}
	keysInToken(6)

	fetch := func(path string) []byte {
		t.Helper()
		r, err := http.Get(n.Admin + path)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, r.Status, err)
		}
		return body
	}
	openssl := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("openssl", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("openssl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	// statements checks the CA's revocation list and its OCSP responder.
	statements := func(algorithm string, st *station, revoked bool) {
		t.Helper()
		write("ca.der", fetch("/pki/ca/station-"+algorithm+".crt"))
		write("list.der", fetch("/pki/crl/station-"+algorithm+".crl"))
		openssl("x509", "-inform", "DER", "-in", "ca.der", "-out", "ca.pem")
		list := openssl("crl", "-inform", "DER", "-in", "list.der", "-CAfile", "ca.pem", "-noout", "-text")
		if !strings.Contains(list, "verify OK") || strings.Contains(list, strings.ToUpper(st.serial)) != revoked {
			t.Errorf("%s: revocation list with %s revoked %v:\n%s", algorithm, st.serial, revoked, list)
		}
		answer := openssl("ocsp", "-issuer", "ca.pem", "-cert", st.id+".crt", "-url", n.Admin+"/pki/ocsp", "-CAfile", "anchor.pem", "-verify_other", "ca.pem", "-no_nonce")
		if want := map[bool]string{false: ": good", true: ": revoked"}[revoked]; !strings.Contains(answer, want) || !strings.Contains(answer, "Response verify OK") {
			t.Errorf("%s: OCSP: %s", algorithm, answer)
		}
	}
	stations := make(map[string]*station)
	for _, algorithm := range []string{"ecdsa", "rsa"} {
		var added struct{ Certificate issued }
		id := "CS-" + algorithm
		if status := n.Do("POST", "/api/v1/stations", map[string]any{"id": id, "profile": 3, "algorithm": algorithm}, &added); status != 201 {
			t.Fatalf("add %s: %d", id, status)
		}
		st := newStation(t, id, added.Certificate)
		st.must(t, n.MTLS) // the gateway's certificate is of a CA in the token, too
		write(id+".crt", []byte(added.Certificate.Chain))
		write("anchor.pem", []byte(added.Certificate.CA))
		openssl("verify", "-CAfile", "anchor.pem", "-untrusted", id+".crt", id+".crt")
		statements(algorithm, st, false)
		stations[algorithm] = st
	}
	from, wait := ends([]*station{stations["rsa"]})
	from(stations["rsa"])
	command(t, n, nil, "cert", "revoke", stations["rsa"].serial)
	wait()
	statements("rsa", stations["rsa"], true)

	stations["ecdsa"].conn.Close()
	n.Terminate()
	if code := n.Wait(patience); code != 0 {
		t.Errorf("exit status %d", code)
	}
	n.Restart()
	n.AwaitReady()
	stations["ecdsa"].must(t, n.MTLS)
	stations["rsa"].refused(t, n.MTLS)
	statements("rsa", stations["rsa"], true)
	addStation(t, n, "CS-later", "ecdsa").must(t, n.MTLS)

	// The successor of a root comes into the token as well.
	var made struct {
		Root    struct{ Fingerprint string }
		Station struct{ Fingerprint string }
	}
	command(t, n, &made, "cert", "ca", "new-root")
	command(t, n, nil, "cert", "ca", "activate", made.Root.Fingerprint)
	keysInToken(9)
	after := addStation(t, n, "CS-after", "ecdsa")
	e2e.Await(t, "a station of the new root is admitted", patience, func() bool {
		status, _, err := after.connect(n.MTLS)
		return err == nil && status == http.StatusSwitchingProtocols
	})
	after.conn.Close()
	stations["ecdsa"].alive(t)
	if log := n.Tail(8 << 20); strings.Contains(log, pin) {
		t.Error("the PIN is in the log")
	}
}
