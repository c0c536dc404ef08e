package authority

import (
	"bytes"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/store/storetest"
)

var noName = pkix.Name{}

// Keys that were not encrypted are, once asked for; nothing else of the files
// changes, and only the passphrase opens them.
func TestEncryptKeys(t *testing.T) {
	where, dir := storetest.SQLite(t), caDir(t)
	f := start(t, where, dir)
	before, err := f.Trust(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Store: f.store, Dir: dir, Operator: operator, Passphrase: []byte("correct horse")}
	changed, err := EncryptKeys(t.Context(), cfg)
	if err != nil || len(changed) != 6 {
		t.Fatalf("changed %q, %v", changed, err)
	}
	if again, err := EncryptKeys(t.Context(), cfg); err != nil || len(again) != 0 {
		t.Errorf("a second time: %q, %v", again, err)
	}
	for _, path := range changed {
		text, err := os.ReadFile(path)
		info, _ := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 || bytes.Contains(text, []byte("-----BEGIN PRIVATE KEY")) || bytes.Count(text, []byte("ENCRYPTED PRIVATE KEY")) != 2 {
			t.Errorf("%s: mode %s, %v", path, info.Mode(), err)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(files) > 0 {
		t.Errorf("left behind: %q", files)
	}
	a, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	after, err := a.Trust(t.Context())
	if err != nil || after.ServerRoots != before.ServerRoots || after.Generation != before.Generation {
		t.Errorf("trust changed: %v", err)
	}
	for name, passphrase := range map[string]string{"wrong": "incorrect horse", "none": ""} {
		cfg := cfg
		cfg.Passphrase = []byte(passphrase)
		if _, err := Open(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "--ca-passphrase-file") || !strings.Contains(err.Error(), ".pem") {
			t.Errorf("%s passphrase: %v", name, err)
		}
		if _, err := EncryptKeys(t.Context(), cfg); err == nil {
			t.Errorf("%s passphrase: encrypted once more", name)
		}
	}
	// OpenSSL opens them, too: they are not bound to Holdfast.
	if out, err := openssl(t, dir, "pkey", "-in", "root-ecdsa.pem", "-passin", "pass:correct horse", "-noout"); err != nil {
		t.Errorf("openssl pkey: %v\n%s", err, out)
	}
}
