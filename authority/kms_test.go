//go:build cgo

package authority

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/pkcs11"

	"holdfast/pki"
	"holdfast/store/storetest"
)

// token makes a PKCS#11 token and returns its URI.
func token(t *testing.T) string {
	t.Helper()
	tool, err := exec.LookPath("softhsm2-util")
	module, _ := filepath.Glob("/usr/lib*/softhsm/libsofthsm2.so")
	if err != nil || len(module) == 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("softhsm2 is not installed")
		}
		t.Skip("softhsm2 is not installed")
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+dir+"\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	if out, err := exec.Command(tool, "--init-token", "--free", "--label", "holdfast", "--pin", "1234", "--so-pin", "5678").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return "pkcs11:module-path=" + module[0] + ";token=holdfast?pin-value=1234"
}

// CA keys are made and stay in a PKCS#11 token; what is signed with them is as
// good as any, and a restart finds them.
func TestPKCS11(t *testing.T) {
	uri := token(t)
	m, err := pkcs11.New(t.Context(), apiv1.Options{Type: apiv1.PKCS11, URI: uri})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	id := 0
	cfg := Config{Store: openStore(t, storetest.SQLite(t)), Dir: t.TempDir(), Operator: operator, Passphrase: []byte("secret"), KMS: m,
		KMSKeyName: func(label string) string { id++; return fmt.Sprintf("pkcs11:id=%04x;object=%s", id, label) }}
	for _, algorithm := range pki.Algorithms { // in turn: the names above are counted
		cfg, err := cfg.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		if err := (&caDirectory{cfg: cfg, keys: newKeyring()}).chain(t.Context(), algorithm); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		a, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		trust, err := a.Trust(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, algorithm := range pki.Algorithms {
			s, err := a.ServerCertificate(t.Context(), "gw", csrOf(t, newKey(t, algorithm), noName), []string{"ocpp.example.com"})
			if err != nil {
				t.Fatal(err)
			}
			if err := verifies(t, trust.ServerRoots, s.Chain); err != nil {
				t.Errorf("%s: %v", algorithm, err)
			}
		}
		if list, err := revocationLists(t, a); err != nil || list == "" {
			t.Errorf("revocation list: %v", err)
		}
	}
	files, _ := filepath.Glob(filepath.Join(cfg.Dir, "*.pem"))
	for _, path := range files {
		text, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(text), "PRIVATE KEY") || !strings.Contains(string(text), "\nKey: pkcs11:") {
			t.Errorf("%s: %v\n%s", path, err, text)
		}
	}
	if len(files) != 6 {
		t.Errorf("%d files, want 6", len(files))
	}
	without := cfg
	without.KMS, without.KMSKeyName = nil, nil
	if _, err := Open(t.Context(), without); err == nil || !strings.Contains(err.Error(), "--kms") {
		t.Errorf("opened without the token: %v", err)
	}
}
