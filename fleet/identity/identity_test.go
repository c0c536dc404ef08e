package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/fleet"
	"holdfast/ocpp"
)

// authority makes a root and an intermediate, and returns the PEM of what
// ParseCA wants of the intermediate.
func authority(t testing.TB, change func(*x509.Certificate)) (chain, key []byte, roots *x509.CertPool) {
	t.Helper()
	make := func(name string, parent *x509.Certificate, signer *ecdsa.PrivateKey, change func(*x509.Certificate)) (*x509.Certificate, *ecdsa.PrivateKey) {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name, Organization: []string{"Operator"}},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		if change != nil {
			change(template)
		}
		if parent == nil {
			parent, signer = template, own
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &own.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c, own
	}
	root, rootKey := make("Root", nil, nil, nil)
	sub, subKey := make("Stations", root, rootKey, change)
	der, err := x509.MarshalPKCS8PrivateKey(subKey)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(root)
	return encodeCertificates([][]byte{sub.Raw, root.Raw}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), roots
}

func TestMint(t *testing.T) {
	chain, key, roots := authority(t, nil)
	ca, err := ParseCA(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		leaf   Leaf
		cn, o  string
		length int
	}{
		{"default", Leaf{}, "S-7", "Operator", 2},
		{"leaf alone", Leaf{Alone: true, CommonName: "{id}/{n}", Organization: "O {serial}"}, "CS-0007/7", "O S-7", 1},
		{"RSA", Leaf{Key: RSA}, "S-7", "Operator", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := ca.Mint(t.Context(), Plan{Stations: 9, ID: "CS-%04d", Serial: "S-{n}"}, tt.leaf)
			if err != nil {
				t.Fatal(err)
			}
			if len(list) != 9 || list[6].ID != "CS-0007" || list[6].Serial != "S-7" || list[6].Profile != ocpp.ProfileMTLS {
				t.Fatalf("%d identities, the seventh %+v", len(list), list[6])
			}
			pair := list[6].Certificate
			if len(pair.Certificate) != tt.length {
				t.Errorf("chain of %d, want %d", len(pair.Certificate), tt.length)
			}
			leaf, err := x509.ParseCertificate(pair.Certificate[0])
			if err != nil {
				t.Fatal(err)
			}
			if leaf.Subject.CommonName != tt.cn || leaf.Subject.Organization[0] != tt.o {
				t.Errorf("subject %s", leaf.Subject)
			}
			if _, isRSA := pair.PrivateKey.(*rsa.PrivateKey); isRSA != (tt.leaf.Key == RSA) {
				t.Errorf("key %T", pair.PrivateKey)
			}
			if leaf.NotAfter.After(ca.certificate.NotAfter) {
				t.Errorf("outlives its CA: %s", leaf.NotAfter)
			}
			between := x509.NewCertPool()
			between.AddCert(ca.certificate)
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCAErrors(t *testing.T) {
	chain, key, _ := authority(t, nil)
	other, _, _ := authority(t, nil)
	leaf, leafKey, _ := authority(t, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
	old, oldKey, _ := authority(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	sign, signKey, _ := authority(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
	for _, tt := range []struct {
		chain, key []byte
		want       string
	}{
		{chain, key, ""},
		{other, key, "does not match"},
		{leaf, leafKey, "not a CA"},
		{old, oldKey, "ended on"},
		{sign, signKey, "may not sign"},
		{nil, key, "failed to find"},
	} {
		_, err := ParseCA(tt.chain, tt.key)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
}

func TestPlan(t *testing.T) {
	p := Plan{Stations: 10, ID: "A%%-%03d", Profiles: []ocpp.SecurityProfile{2, 3}, Versions: []ocpp.Version{ocpp.V16, ocpp.V201}}
	whole, err := p.Identities()
	if err != nil {
		t.Fatal(err)
	}
	if got := whole[2]; got.ID != "A%-003" || got.Profile != 2 || got.Version != ocpp.V201 {
		t.Errorf("%+v", got)
	}
	var parts []fleet.Identity
	for p.Shard, p.Shards = 1, 3; p.Shard <= 3; p.Shard++ {
		part, err := p.Identities()
		if err != nil {
			t.Fatal(err)
		}
		if err := Fill(t.Context(), part, 2, Password(p, "pw-{n}-{id}")); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, part...)
	}
	if len(parts) != 10 {
		t.Fatalf("%d stations in three shards", len(parts))
	}
	for i := range parts {
		if parts[i].ID != whole[i].ID || parts[i].Profile != whole[i].Profile || parts[i].Version != whole[i].Version {
			t.Errorf("station %d: %+v, in one process %+v", i, parts[i], whole[i])
		}
	}
	if got := parts[9].Password; got != "pw-10-A%-010" {
		t.Errorf("password %q", got)
	}
	for _, bad := range []Plan{{}, {Stations: 1, ID: "CS"}, {Stations: 1, ID: "%s"}, {Stations: 1, ID: "%d-%d"}, {Stations: 1, ID: "a/%d"},
		{Stations: 1, Shard: 3, Shards: 2}, {Stations: MaxStations + 1}} {
		if _, err := bad.Identities(); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// TestFolder writes identities and reads them again.
func TestFolder(t *testing.T) {
	chain, key, _ := authority(t, nil)
	ca, err := ParseCA(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	p := Plan{Stations: 3, ID: "CS-%d"}
	list, err := ca.Mint(t.Context(), p, Leaf{CommonName: "serial-{n}"})
	if err != nil {
		t.Fatal(err)
	}
	list = append(list, fleet.Identity{ID: "PW", Profile: ocpp.ProfileTLS, Password: "geheim 12345 "})
	dir := filepath.Join(t.TempDir(), "new")
	if err := Save(dir, list); err != nil {
		t.Fatal(err)
	}
	if err := Save(dir, list[:1]); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second time: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "CS-1.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key: %v %v", info.Mode(), err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.crt"), chain, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Folder(t.Context(), dir, []ocpp.SecurityProfile{2, 3}, []ocpp.Version{ocpp.V201})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 || got[3].Password != "geheim 12345 " || got[3].Profile != ocpp.ProfileTLS {
		t.Fatalf("%+v", got)
	}
	if got[1].ID != "CS-2" || got[1].Serial != "serial-2" || got[1].Version != ocpp.V201 || len(got[1].Certificate.Certificate) != 2 {
		t.Errorf("%+v", got[1])
	}
	if got, err := Folder(t.Context(), dir, []ocpp.SecurityProfile{1}, nil); err != nil || len(got) != 1 || got[0].Profile != 1 {
		t.Errorf("profile 1 only: %+v, %v", got, err)
	}
	if _, err := Folder(t.Context(), t.TempDir(), []ocpp.SecurityProfile{3}, nil); err == nil {
		t.Error("an empty folder was taken")
	}
	os.WriteFile(filepath.Join(dir, "CS-3.key"), []byte("nonsense"), 0o600)
	if _, err := Folder(t.Context(), dir, []ocpp.SecurityProfile{3}, nil); err == nil || !strings.Contains(err.Error(), "CS-3") {
		t.Errorf("broken key: %v", err)
	}
}

// BenchmarkMint makes certificates on one processor.
func BenchmarkMint(b *testing.B) {
	chain, key, _ := authority(b, nil)
	ca, err := ParseCA(chain, key)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := ca.mint(Leaf{}, fleet.Identity{ID: "CS-1", Profile: 3}, 1); err != nil {
			b.Fatal(err)
		}
	}
}
