package authority

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
	"holdfast/store/storetest"
)

func TestMain(m *testing.M) { storetest.Main(m) }

const operator = "Op"

// caFiles are the files of one CA directory, made once: RSA keys take time.
var caFiles = sync.OnceValues(func() (map[string][]byte, error) {
	dir, err := os.MkdirTemp("", "ca")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cfg := Config{Store: new(store.Authority), Dir: dir, Operator: operator}
	if cfg, err = cfg.withDefaults(); err != nil {
		return nil, err
	}
	if _, err := prepareCAs(context.Background(), cfg, newKeyring(), nil); err != nil {
		return nil, err
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	files := make(map[string][]byte)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		files[filepath.Base(path)] = text
	}
	return files, err
})

func caDir(t testing.TB) string {
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
	return dir
}

// fixture is an authority with what its tests look at.
type fixture struct {
	*Authority
	log *lockedBuffer

	mu      sync.Mutex
	changes []Change
	offset  time.Duration // of the clock
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (f *fixture) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.offset)
}

func (f *fixture) advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.offset += d
}

// seen returns the changes since the last call.
func (f *fixture) seen() []Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.changes
	f.changes = nil
	return c
}

func start(t testing.TB, where, dir string) *fixture {
	t.Helper()
	s, err := store.OpenAuthority(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	f := &fixture{log: &lockedBuffer{}}
	f.Authority, err = Open(t.Context(), Config{
		Store: s, Dir: dir, Operator: operator, Now: f.now,
		Logger: slog.New(slog.NewTextHandler(io.MultiWriter(f.log), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Publish: func(c Change) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.changes = append(f.changes, c)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func sqlite(t testing.TB) *fixture { return start(t, storetest.SQLite(t), caDir(t)) }

var remote = netip.MustParseAddrPort("192.0.2.7:40000")

func (f *fixture) add(t testing.TB, n NewStation) Added {
	t.Helper()
	added, err := f.AddStation(t.Context(), "test", n)
	if err != nil {
		t.Fatal(err)
	}
	return added
}

func (f *fixture) admit(t testing.TB, c ocpp.Credentials) ocpp.Decision {
	t.Helper()
	if !c.Remote.IsValid() {
		c.Remote = remote
	}
	d, err := f.Admit(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func basic(user, password string) []byte { return []byte(user + ":" + password) }

func withBasic(id ocpp.StationID, password string) ocpp.Credentials {
	return ocpp.Credentials{Station: id, Profile: ocpp.ProfileTLS, Basic: basic(string(id), password)}
}

func withChain(id ocpp.StationID, chain [][]byte) ocpp.Credentials {
	return ocpp.Credentials{Station: id, Profile: ocpp.ProfileMTLS, Chain: chain}
}

// der returns the certificates of PEM text.
func der(t testing.TB, text string) [][]byte {
	t.Helper()
	certs, err := pki.ParseCertificates([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var list [][]byte
	for _, c := range certs {
		list = append(list, c.Raw)
	}
	return list
}

func csrOf(t testing.TB, key crypto.Signer, subject pkix.Name) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func newKey(t testing.TB, a pki.Algorithm) crypto.Signer {
	t.Helper()
	key, err := pki.GenerateKey(a)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestStations(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		f := start(t, where, caDir(t))
		ctx := t.Context()
		added := f.add(t, NewStation{ID: "CS-1", Labels: map[string]string{"site": "north"}, Quirks: ocpp.Quirks{AssumeV16: true}, Version: ocpp.V16})
		if len(added.Password) != passwordLength || added.Station.Profile != ocpp.ProfileTLS || added.Station.Serial != "CS-1" || added.Issued != nil {
			t.Errorf("added %+v", added)
		}
		for _, id := range []ocpp.StationID{"CS-1", "cs-1"} {
			s, err := f.Station(ctx, id)
			if err != nil || s.ID != "CS-1" || !s.Quirks.AssumeV16 || s.Labels["site"] != "north" || s.Version != ocpp.V16 || !s.HasPassword || s.Last != nil {
				t.Errorf("station %s: %+v, %v", id, s, err)
			}
		}
		// Taken identities and serial numbers.
		for _, n := range []NewStation{{ID: "cs-1"}, {ID: "CS-2", Serial: "cs-1"}} {
			if _, err := f.AddStation(ctx, "test", n); !errors.Is(err, ErrExists) {
				t.Errorf("add %+v: %v, want ErrExists", n, err)
			}
		}
		// Invalid ones name their field.
		for field, n := range map[string]NewStation{
			"id": {ID: "a/b"}, "profile": {ID: "X", Profile: 4}, "version": {ID: "X", Version: "1.5"}, "serial": {ID: "X", Serial: strings.Repeat("x", 65)},
			"labels": {ID: "X", Labels: map[string]string{"": "v"}}, "quirks.ping": {ID: "X", Quirks: ocpp.Quirks{Ping: "loud"}},
			"quirks.call_gap": {ID: "X", Quirks: ocpp.Quirks{CallGap: -1}}, "user": {ID: "X", User: "a\nb"}, "password": {ID: "X", Password: "short"},
			"algorithm": {ID: "X", Profile: 3, Algorithm: "dsa"},
		} {
			_, err := f.AddStation(ctx, "test", n)
			if e, ok := errors.AsType[*InvalidError](err); !ok || e.Field != field {
				t.Errorf("%+v: %v, want an InvalidError of field %s", n, err, field)
			}
		}
		// Patch.
		serial, user := "SN-1", "somebody"
		s, err := f.UpdateStation(ctx, "alice", "cs-1", StationPatch{Serial: &serial, User: &user})
		if err != nil || s.Serial != serial || s.User != user || s.ID != "CS-1" || !s.HasPassword {
			t.Errorf("updated %+v, %v", s, err)
		}
		if _, err := f.UpdateStation(ctx, "alice", "none", StationPatch{}); !errors.Is(err, ErrNotFound) {
			t.Errorf("update of no station: %v", err)
		}
		f.add(t, NewStation{ID: "CS-2"})
		if _, err := f.UpdateStation(ctx, "alice", "CS-2", StationPatch{Serial: &serial}); !errors.Is(err, ErrExists) {
			t.Errorf("update to a taken serial number: %v", err)
		}
		bad := ocpp.SecurityProfile(9)
		if _, err := f.UpdateStation(ctx, "alice", "CS-2", StationPatch{Profile: &bad}); err == nil {
			t.Error("profile 9 was accepted")
		}
		// Lists.
		for _, id := range []ocpp.StationID{"A%1", "A_1", "b"} {
			f.add(t, NewStation{ID: id})
		}
		var ids []string
		for p := (store.Page{Limit: 2}); ; {
			l, err := f.Stations(ctx, store.StationFilter{}, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range l.Items {
				ids = append(ids, string(s.ID))
			}
			if p.After = l.Next; l.Next == "" {
				break
			}
		}
		if len(ids) != 5 || !strings.Contains(strings.Join(ids, " "), "A%1") {
			t.Errorf("stations %q", ids)
		}
		blocked := true
		if _, err := f.BlockStation(ctx, "alice", "B", "stolen"); err != nil {
			t.Fatal(err)
		}
		for want, filter := range map[string]store.StationFilter{"A%1": {Search: "a%"}, "A_1": {Search: "A_"}, "b": {Blocked: &blocked}, "CS-1": {Search: "sn-1"}} {
			l, err := f.Stations(ctx, filter, store.Page{})
			if err != nil || len(l.Items) != 1 || string(l.Items[0].ID) != want {
				t.Errorf("filter %+v: %+v, %v; want %s", filter, l, err, want)
			}
		}
		if _, err := f.Stations(ctx, store.StationFilter{}, store.Page{After: "!"}); !errors.Is(err, store.ErrBadCursor) {
			t.Errorf("bad cursor: %v", err)
		}
		// Removal.
		if err := f.RemoveStation(ctx, "alice", "cs-2"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Station(ctx, "CS-2"); !errors.Is(err, ErrNotFound) {
			t.Errorf("removed station: %v", err)
		}
		if err := f.RemoveStation(ctx, "alice", "CS-2"); !errors.Is(err, ErrNotFound) {
			t.Errorf("removed twice: %v", err)
		}
		// Who did it.
		l, err := f.Audit(ctx, store.AuditFilter{By: "alice"}, store.Page{})
		if err != nil {
			t.Fatal(err)
		}
		var actions []string
		for _, e := range l.Items {
			actions = append(actions, e.Action)
		}
		if got := strings.Join(actions, " "); got != "station.remove station.block station.update" {
			t.Errorf("audit of alice, newest first: %s", got)
		}
		if l, _ := f.Audit(ctx, store.AuditFilter{Station: "cs-1"}, store.Page{Limit: 1}); len(l.Items) != 1 || l.Next == "" {
			t.Errorf("audit of CS-1: %+v", l)
		}
	})
}

func TestPasswordRotation(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		f := start(t, where, caDir(t))
		old := f.add(t, NewStation{ID: "CS1"}).Password
		r, err := f.RotatePassword(t.Context(), "test", "CS1", "")
		if err != nil || !r.Station.PasswordPending || len(r.Password) != passwordLength {
			t.Fatalf("%+v, %v", r, err)
		}
		f.seen()
		for _, password := range []string{old, old, r.Password} {
			if d := f.admit(t, withBasic("CS1", password)); !d.Allowed {
				t.Errorf("refused: %+v", d)
			}
		}
		if c := f.seen(); len(c) != 1 || c[0].Kind != ChangePassword {
			t.Errorf("changes %+v, want one of the password", c)
		}
		if d := f.admit(t, withBasic("CS1", old)); d.Reason != ocpp.ReasonWrongPassword {
			t.Errorf("old password after the new one's first use: %+v", d)
		}
		if d := f.admit(t, withBasic("CS1", r.Password)); !d.Allowed {
			t.Errorf("new password: %+v", d)
		}
		if s, _ := f.Station(t.Context(), "CS1"); s.PasswordPending {
			t.Error("password is still pending")
		}
		// A station that did not take it.
		next, err := f.RotatePassword(t.Context(), "test", "CS1", "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.CancelRotation(t.Context(), "test", "CS1"); err != nil {
			t.Fatal(err)
		}
		if d := f.admit(t, withBasic("CS1", next.Password)); d.Reason != ocpp.ReasonWrongPassword {
			t.Errorf("cancelled password: %+v", d)
		}
		if d := f.admit(t, withBasic("CS1", r.Password)); !d.Allowed {
			t.Errorf("password before the cancelled one: %+v", d)
		}
		// No secret is anywhere but in the answers that show it.
		l, err := f.Audit(t.Context(), store.AuditFilter{}, store.Page{})
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{old, r.Password, next.Password} {
			if strings.Contains(f.log.String(), secret) {
				t.Error("a password is in the log")
			}
			for _, e := range l.Items {
				if strings.Contains(e.Detail+e.Subject, secret) {
					t.Errorf("a password is in the audit record: %+v", e)
				}
			}
		}
	})
}

func TestProfileChange(t *testing.T) {
	f := sqlite(t)
	password := f.add(t, NewStation{ID: "CS1"}).Password
	profile := ocpp.ProfileMTLS
	if _, err := f.UpdateStation(t.Context(), "test", "CS1", StationPatch{Profile: &profile}); err != nil {
		t.Fatal(err)
	}
	issued, err := f.IssueStation(t.Context(), "test", "CS1", "")
	if err != nil {
		t.Fatal(err)
	}
	chain := der(t, issued.Chain)
	if d := f.admit(t, withBasic("CS1", password)); !d.Allowed {
		t.Errorf("old profile during the change: %+v", d)
	}
	if d := f.admit(t, withChain("CS1", chain)); !d.Allowed {
		t.Errorf("new profile: %+v", d)
	}
	if d := f.admit(t, withBasic("CS1", password)); d.Reason != ocpp.ReasonWrongProfile {
		t.Errorf("old profile after the change: %+v", d)
	}
	none := ocpp.SecurityProfile(0)
	if _, err := f.UpdateStation(t.Context(), "test", "CS1", StationPatch{PreviousProfile: &none}); err != nil {
		t.Error(err)
	}
	// A station without a password cannot be changed to a profile that needs one.
	f.add(t, NewStation{ID: "CS2", Profile: 3})
	profile = ocpp.ProfileTLS
	if _, err := f.UpdateStation(t.Context(), "test", "CS2", StationPatch{Profile: &profile}); err == nil {
		t.Error("profile 2 without a password")
	}
}

func TestTicketKeys(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		dir := caDir(t)
		one := start(t, where, dir)
		two := one // SQLite is one process's
		if strings.HasPrefix(where, "postgres") {
			two = start(t, where, dir)
		}
		a, err := one.TicketKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b, err := two.TicketKeys(t.Context())
		if err != nil || len(a.Keys) != 3 || len(a.Keys[0]) != 32 {
			t.Fatalf("%d keys, %v", len(a.Keys), err)
		}
		for i := range a.Keys {
			if !bytes.Equal(a.Keys[i], b.Keys[i]) {
				t.Errorf("replicas differ in key %d", i)
			}
		}
		one.advance(one.cfg.TicketRotation)
		c, err := one.TicketKeys(t.Context())
		if err != nil || !bytes.Equal(c.Keys[0], a.Keys[2]) || !bytes.Equal(c.Keys[1], a.Keys[0]) || bytes.Equal(c.Keys[2], a.Keys[1]) {
			t.Errorf("after a rotation: %v", err)
		}
	})
}

func TestRun(t *testing.T) {
	f := sqlite(t)
	password := f.add(t, NewStation{ID: "CS1"}).Password
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.Run(ctx) }()
	if d := f.admit(t, withBasic("CS1", password)); !d.Allowed {
		t.Error(d)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		r, err := f.store.Station(t.Context(), "CS1") // not through Attempts, which flush
		if err != nil {
			t.Fatal(err)
		}
		if r.Last != nil && r.Last.Reason == ocpp.ReasonAdmitted && !r.AdmittedAt.IsZero() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the attempt was not written")
		}
	}
	f.admit(t, withBasic("CS1", "wrong"))
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if r, _ := f.store.Station(t.Context(), "CS1"); r.Last.Reason != ocpp.ReasonWrongPassword {
		t.Errorf("the last attempt was not written at the end: %+v", r.Last)
	}
	if f.attempts.unwritten() != 0 {
		t.Error("attempts are left")
	}
	if err := f.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}
