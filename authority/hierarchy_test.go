package authority

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/pki"
	"holdfast/store"
	"holdfast/store/storetest"
)

func open(t *testing.T, where, dir string) (*Authority, error) {
	t.Helper()
	s, err := store.OpenAuthority(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return Open(t.Context(), Config{Store: s, Dir: dir, Operator: operator})
}

func TestFirstStart(t *testing.T) {
	where, dir := storetest.SQLite(t), filepath.Join(t.TempDir(), "ca")
	if _, err := open(t, where, dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 6 {
		t.Errorf("%d files, %v", len(entries), err)
	}
	before := map[string][]byte{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s has mode %s, %v", e.Name(), info.Mode(), err)
		}
		before[e.Name()], _ = os.ReadFile(filepath.Join(dir, e.Name()))
	}
	if _, err := open(t, where, dir); err != nil {
		t.Fatal(err)
	}
	for name, text := range before {
		if now, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(now, text) {
			t.Errorf("%s changed at the second start: %v", name, err)
		}
	}
}

// Processes that start at the same time in one new directory end with the same CAs.
func TestFirstStartAtOnce(t *testing.T) {
	dir := t.TempDir()
	cfg, err := Config{Store: new(store.Authority), Dir: dir, Operator: operator}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	var all [4][]store.CA
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			var err error
			if all[i], err = prepareCAs(t.Context(), cfg, newKeyring(), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, list := range all[1:] {
		for i, ca := range list {
			if ca.Fingerprint != all[0][i].Fingerprint {
				t.Errorf("%s differs", ca.Kind)
			}
		}
	}
	if files, _ := filepath.Glob(filepath.Join(dir, ".new-*")); len(files) > 0 {
		t.Errorf("left behind: %q", files)
	}
}

func TestBrokenCAFiles(t *testing.T) {
	other := caDirOther(t)
	for _, tt := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  []string // in the error
	}{
		{"empty", func(t *testing.T, dir string) { write(t, dir, "station-ecdsa.pem", nil) }, []string{"station-ecdsa.pem", "no PEM block", "restore"}},
		{"garbage key", func(t *testing.T, dir string) {
			text := read(t, dir, "station-rsa.pem")
			i := bytes.Index(text, []byte("PRIVATE KEY-----\n"))
			text[i+30] ^= 0x11
			write(t, dir, "station-rsa.pem", text)
		}, []string{"station-rsa.pem", "restore"}},
		{"no key", func(t *testing.T, dir string) {
			text := read(t, dir, "server-ecdsa.pem")
			write(t, dir, "server-ecdsa.pem", text[:bytes.Index(text, []byte("-----BEGIN PRIVATE KEY"))])
		}, []string{"server-ecdsa.pem", "no private key", "append"}},
		{"key of another", func(t *testing.T, dir string) {
			a, b := read(t, dir, "station-ecdsa.pem"), read(t, dir, "server-ecdsa.pem")
			mark := []byte("-----BEGIN PRIVATE KEY")
			write(t, dir, "station-ecdsa.pem", append(a[:bytes.Index(a, mark):bytes.Index(a, mark)], b[bytes.Index(b, mark):]...))
		}, []string{"station-ecdsa.pem", "do not belong together"}},
		{"root of another", func(t *testing.T, dir string) { write(t, dir, "root-ecdsa.pem", read(t, other, "root-ecdsa.pem")) },
			[]string{"station-ecdsa.pem", "not signed by the root", "root-ecdsa.pem"}},
		{"missing", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "station-ecdsa.pem")); err != nil {
				t.Fatal(err)
			}
		}, []string{"station-ecdsa.pem", "missing", "restore", "mount"}},
		{"directory is a file", func(t *testing.T, dir string) {
			os.RemoveAll(dir)
			write(t, filepath.Dir(dir), filepath.Base(dir), []byte("x"))
		}, []string{"CA directory"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			where, dir := storetest.SQLite(t), caDir(t)
			if _, err := open(t, where, dir); err != nil {
				t.Fatal(err)
			}
			tt.spoil(t, dir)
			_, err := open(t, where, dir)
			if err == nil {
				t.Fatal("opened")
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
			for _, word := range tt.want {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q lacks %q", err, word)
				}
			}
		})
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func write(t *testing.T, dir, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// caDirOther has another ECDSA chain.
func caDirOther(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cfg, err := Config{Store: new(store.Authority), Dir: dir, Operator: operator}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if err := (&caDirectory{cfg: cfg, keys: newKeyring()}).chain(t.Context(), pki.ECDSA); err != nil {
		t.Fatal(err)
	}
	return dir
}

// The root's key can be kept elsewhere once the CAs below it are there.
func TestRootKeyElsewhere(t *testing.T) {
	where, dir := storetest.SQLite(t), caDir(t)
	text := read(t, dir, "root-ecdsa.pem")
	write(t, dir, "root-ecdsa.pem", text[:bytes.Index(text, []byte("-----BEGIN PRIVATE KEY"))])
	if _, err := open(t, where, dir); err != nil {
		t.Fatal(err)
	}
	// Without the key and without the CA below it, there is no way on.
	if err := os.Remove(filepath.Join(dir, "station-ecdsa.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, storetest.SQLite(t), dir); err == nil || !strings.Contains(err.Error(), "root's key") {
		t.Errorf("%v", err)
	}
}

// Replacing the CAs begins an overlap: certificates of the old ones stay good.
func TestReplacedCAs(t *testing.T) {
	where, dir := storetest.SQLite(t), caDir(t)
	f := start(t, where, dir)
	chain := der(t, f.add(t, NewStation{ID: "A", Serial: "SN-A", Profile: 3}).Issued.Chain)
	unseen := [][]byte{signed(t, f.cas.issuing[caName{roleStation, pki.ECDSA}].CA, newKey(t, pki.ECDSA).Public(), nil)}
	before, err := f.Trust(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := caDirOther(t)
	for _, name := range []string{"root-ecdsa.pem", "station-ecdsa.pem", "server-ecdsa.pem"} {
		write(t, dir, name, read(t, other, name))
	}
	f = start(t, where, dir)
	if c := f.seen(); len(c) != 1 || c[0].Kind != ChangeTrust {
		t.Errorf("changes %+v", c)
	}
	if !strings.Contains(f.log.String(), "did not know") {
		t.Error("nothing in the log")
	}
	after, err := f.Trust(t.Context())
	if err != nil || after.Generation <= before.Generation || len(der(t, after.ClientRoots)) != 3 || len(der(t, after.ServerRoots)) != 3 {
		t.Errorf("trust after: %d, before %d, %v", after.Generation, before.Generation, err)
	}
	for _, c := range [][][]byte{chain, unseen} {
		if d := f.admit(t, withChain("A", c)); !d.Allowed {
			t.Errorf("certificate of the old CA: %+v", d)
		}
	}
	issued, err := f.IssueStation(t.Context(), "test", "A", "")
	if err != nil {
		t.Fatal(err)
	}
	if d := f.admit(t, withChain("A", der(t, issued.Chain))); !d.Allowed {
		t.Errorf("certificate of the new CA: %+v", d)
	}
}

func TestExpiredCAIsNotReady(t *testing.T) {
	f := sqlite(t)
	f.advance(11 * 365 * 24 * time.Hour)
	if err := f.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Error(err)
	}
	if _, err := f.AddStation(t.Context(), "test", NewStation{ID: "A", Profile: 3}); err == nil {
		t.Error("issued by an expired CA")
	}
	if _, err := f.Station(t.Context(), "A"); !errors.Is(err, ErrNotFound) {
		t.Error("a station was registered without its certificate")
	}
	if t2, err := f.Trust(t.Context()); err != nil || t2.ClientRoots != "" {
		t.Errorf("expired CAs are trusted: %v", err)
	}
}

func TestConfig(t *testing.T) {
	if _, err := Open(t.Context(), Config{}); err == nil {
		t.Error("no store")
	}
	if _, err := (Config{Store: new(store.Authority), Dir: "x", Operator: strings.Repeat("x", 65)}).withDefaults(); err == nil {
		t.Error("long operator")
	}
	c, err := Config{Store: new(store.Authority), Dir: "x", Grace: -1}.withDefaults()
	if err != nil || c.Grace != 0 || c.Operator == "" {
		t.Errorf("%+v, %v", c, err)
	}
}
