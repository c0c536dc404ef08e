package life_test

import (
	"encoding/csv"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/e2e"
)

// TestImport registers the stations of a CSV file, some of them twice, and has
// them connect with what was made for them.
func TestImport(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	type result struct {
		Stations, Added, Skipped int
		Errors                   []struct {
			Line    int
			Problem string
		}
	}
	var r result
	if err := s.run(&r, "station", "import", write("bad.csv", "id,profile\nIMP-1,2\nIMP-2,7\n"), "--out", dir); err == nil || r.Added != 0 || len(r.Errors) != 1 || r.Errors[0].Line != 3 {
		t.Errorf("a file with an error: %+v (%v)", r, err)
	}
	good := write("good.csv", "id,profile,serial,label:site\nIMP-1,2,,north\nIMP-2,3,SN-2,south\nIMP-3,2,,\n")
	made := filepath.Join(dir, "made")
	r = result{}
	s.must(&r, "station", "import", good, "--out", made)
	if r.Stations != 3 || r.Added != 3 {
		t.Errorf("imported %+v", r)
	}
	r = result{}
	if err := s.run(&r, "station", "import", good, "--out", filepath.Join(dir, "again")); err == nil || len(r.Errors) != 3 || r.Errors[2].Line != 4 {
		t.Errorf("again: %+v (%v)", r, err)
	}
	r = result{}
	s.must(&r, "station", "import", good, "--out", filepath.Join(dir, "third"), "--skip-existing")
	if r.Skipped != 3 || r.Added != 0 {
		t.Errorf("again, without those that exist: %+v", r)
	}
	// The fleet reads ID.crt and ID.key, or ID.password.
	f, err := os.Open(filepath.Join(made, "passwords.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("passwords.csv: %v (%v)", info.Mode(), err)
	}
	records, err := csv.NewReader(f).ReadAll()
	if err != nil || len(records) != 2 {
		t.Fatalf("passwords: %d (%v)", len(records), err)
	}
	for _, p := range records {
		if err := os.WriteFile(filepath.Join(made, p[0]+".password"), []byte(p[1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e2e.Start(t, e2e.Build(t, "holdfast/cmd/holdfast"), "fleet", "run", "--idle", "--for", "10m", "--identities", made, "--stations", "3",
		"--ca", filepath.Join(s.Data, "ca.crt"), "--profiles", "2,3", "--targets", "1="+s.Plain+";2="+s.TLS+";3="+s.MTLS)
	s.await("the imported stations are connected", func() bool {
		connected := 0
		for _, st := range s.stations() {
			if strings.HasPrefix(st.ID, "IMP-") && st.Connected {
				connected++
			}
		}
		return connected == 3
	})
}
