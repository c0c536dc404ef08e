package csms_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"holdfast/authority"
	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
	"holdfast/store/storetest"
)

// realAuthority is the authority itself, without a bus.
type realAuthority struct{ *authority.Authority }

func (a realAuthority) SignRequest(ctx context.Context, by string, id ocpp.StationID, csr string) (store.Certificate, error) {
	signed, err := a.SignCSR(ctx, by, id, csr)
	return signed.Certificate, err
}

func (a realAuthority) NewPassword(ctx context.Context, by string, id ocpp.StationID) (string, error) {
	rotated, err := a.RotatePassword(ctx, by, id, "")
	return rotated.Password, err
}

func (a realAuthority) ChangeProfile(ctx context.Context, by string, id ocpp.StationID, profile ocpp.SecurityProfile) (store.Station, error) {
	return a.UpdateStation(ctx, by, id, authority.StationPatch{Profile: &profile})
}

func (a realAuthority) ServerRoots(ctx context.Context) (string, error) {
	trust, err := a.Trust(ctx)
	return trust.ServerRoots, err
}

// pem is a certificate with its chain.
func (a realAuthority) pem(t testing.TB, fingerprint string) string {
	t.Helper()
	c, err := a.Certificate(t.Context(), fingerprint)
	if err != nil {
		t.Fatal(err)
	}
	return c.PEM
}

const operator = "Op"

// caFiles are the files of one CA directory, made once: RSA keys take time.
var caFiles = sync.OnceValues(func() (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "holdfast-ca-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	st, err := store.OpenAuthority(context.Background(), filepath.Join(dir, "first.db"))
	if err != nil {
		return nil, err
	}
	defer st.Close()
	if _, err := authority.Open(context.Background(), authority.Config{Store: st, Dir: filepath.Join(dir, "ca"), Operator: operator}); err != nil {
		return nil, err
	}
	files := make(map[string][]byte)
	paths, err := filepath.Glob(filepath.Join(dir, "ca", "*.pem"))
	for _, path := range paths {
		if files[filepath.Base(path)], err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	return files, err
})

// openAuthority starts an authority with stations.
func openAuthority(t testing.TB, stations ...authority.NewStation) realAuthority {
	t.Helper()
	files, err := caFiles()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	st, err := store.OpenAuthority(t.Context(), storetest.SQLite(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	a, err := authority.Open(t.Context(), authority.Config{Store: st, Dir: dir, Operator: operator})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stations {
		if _, err := a.AddStation(t.Context(), "test", s); err != nil {
			t.Fatal(err)
		}
	}
	return realAuthority{a}
}

// newRequest is a certificate signing request with a key of its own.
func newRequest(t testing.TB, serial string) string {
	t.Helper()
	key, err := pki.GenerateKey(pki.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: serial, Organization: []string{operator}}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// connect has the csms know that a station is connected.
func connect(t testing.TB, c *csms.CSMS, station ocpp.StationID, version ocpp.Version, epoch uint64) {
	t.Helper()
	e := ocpp.Connected{Station: station, Gateway: "gw", Epoch: epoch, Version: version, Profile: ocpp.ProfileTLS, At: time.Now()}
	if err := c.Connected(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

// delivery is the next CALL that a station got; the test ends with what the
// station's operations came to if there is none.
func delivery(t testing.TB, c *csms.CSMS, station ocpp.StationID, delivered <-chan string) string {
	t.Helper()
	select {
	case call := <-delivered:
		return call
	case <-time.After(10 * time.Second):
	}
	l, err := c.Record().Operations(t.Context(), store.OperationFilter{Station: station}, store.Page{})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range l.Items {
		steps, err := c.Record().OperationSteps(t.Context(), o.ID)
		t.Logf("%+v: %+v (%v)", o, steps, err)
	}
	t.Fatal("the station got no CALL")
	return ""
}
