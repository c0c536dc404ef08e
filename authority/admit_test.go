package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store/storetest"
)

// signed makes a certificate as somebody with ca's key could.
func signed(t testing.TB, ca *pki.CA, key crypto.PublicKey, change func(*x509.Certificate)) []byte {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "SN-A", Organization: []string{operator}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, ca.Cert, key, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// maker is a CA elsewhere: a root and a CA below it.
func maker(t testing.TB) (root, below *pki.CA) {
	t.Helper()
	key := newKey(t, pki.ECDSA)
	root, err := pki.NewRoot(pki.Root, pki.Subject{CommonName: "Maker Root", Organization: "Maker"}, key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	below = &pki.CA{Key: newKey(t, pki.ECDSA)}
	if below.Cert, err = root.Issue(pki.StationCA, pki.Subject{CommonName: "Maker CA", Organization: "Maker"}, below.Key.Public(), time.Now()); err != nil {
		t.Fatal(err)
	}
	return root, below
}

func TestAdmissionReasons(t *testing.T) {
	storetest.Each(t, testAdmissionReasons)
}

func testAdmissionReasons(t *testing.T, where string) {
	f := start(t, where, caDir(t))
	ctx := t.Context()
	password := f.add(t, NewStation{ID: "Basic 1", Version: ocpp.V201, Quirks: ocpp.Quirks{NoCompression: true}}).Password
	other := f.add(t, NewStation{ID: "Other"}).Password
	f.add(t, NewStation{ID: "Blocked"})
	if _, err := f.BlockStation(ctx, "test", "Blocked", "stolen"); err != nil {
		t.Fatal(err)
	}
	a := f.add(t, NewStation{ID: "A", Serial: "SN-A", Profile: 3})
	b := f.add(t, NewStation{ID: "B", Profile: 3, Algorithm: pki.RSA})
	chainA, chainB := der(t, a.Issued.Chain), der(t, b.Issued.Chain)
	revoked, err := f.IssueStation(ctx, "test", "A", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.RevokeCertificate(ctx, "test", revoked.Certificate.Serial, "key-compromise"); err != nil {
		t.Fatal(err)
	}
	ca, server := f.cas.issuing[caName{roleStation, pki.ECDSA}].CA, f.cas.issuing[caName{roleServer, pki.ECDSA}].CA
	rsaCA := f.cas.issuing[caName{roleStation, pki.RSA}].CA
	makerRoot, makerCA := maker(t)
	_, stranger := maker(t)
	if _, err := f.ImportCA(ctx, "test", pki.EncodeCertificates(makerRoot.Cert)); err != nil {
		t.Fatal(err)
	}
	key := newKey(t, pki.ECDSA).Public()
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ed, _, _ := ed25519.GenerateKey(rand.Reader)
	hour := time.Hour
	makersOwn := signed(t, makerCA, key, func(c *x509.Certificate) { c.Subject.Organization = []string{"Maker"} })

	for _, tt := range []struct {
		name string
		c    ocpp.Credentials
		want ocpp.Reason
	}{
		{"no identity", ocpp.Credentials{Profile: 2}, ocpp.ReasonNoIdentity},
		{"bad identity", ocpp.Credentials{Station: "a/b", Profile: 2}, ocpp.ReasonBadRequest},
		{"no profile", ocpp.Credentials{Station: "Basic 1"}, ocpp.ReasonBadRequest},
		{"unknown station", withBasic("nobody", password), ocpp.ReasonUnknownStation},
		{"unknown station with a good certificate", withChain("nobody", chainA), ocpp.ReasonUnknownStation},
		{"blocked", withBasic("Blocked", "x"), ocpp.ReasonBlocked},
		{"blocked comes before the profile", withChain("Blocked", nil), ocpp.ReasonBlocked},
		{"profile 1 for 2", ocpp.Credentials{Station: "Basic 1", Profile: 1, Basic: basic("Basic 1", password)}, ocpp.ReasonWrongProfile},
		{"profile 3 for 2", withChain("Basic 1", chainA), ocpp.ReasonWrongProfile},
		{"profile 2 for 3", withBasic("A", "x"), ocpp.ReasonWrongProfile},
		{"no credentials", ocpp.Credentials{Station: "Basic 1", Profile: 2}, ocpp.ReasonNoCredentials},
		{"good password", withBasic("Basic 1", password), ocpp.ReasonAdmitted},
		{"good password again", withBasic("Basic 1", password), ocpp.ReasonAdmitted},
		{"other case of the identity", withBasic("bAsIc 1", password), ocpp.ReasonAdmitted},
		{"empty credentials", ocpp.Credentials{Station: "Basic 1", Profile: 2, Basic: []byte{}}, ocpp.ReasonWrongPassword},
		{"empty password", withBasic("Basic 1", ""), ocpp.ReasonWrongPassword},
		{"other station's password", withBasic("Basic 1", other), ocpp.ReasonWrongPassword},
		{"a good one ends the count", withBasic("Basic 1", password), ocpp.ReasonAdmitted},
		{"other user", ocpp.Credentials{Station: "Basic 1", Profile: 2, Basic: basic("Other", password)}, ocpp.ReasonWrongPassword},
		{"no user", ocpp.Credentials{Station: "Basic 1", Profile: 2, Basic: []byte(password)}, ocpp.ReasonWrongPassword},
		{"endless", withBasic("Basic 1", strings.Repeat("x", 2000)), ocpp.ReasonWrongPassword},
		{"a station of profile 2 with other's credentials", ocpp.Credentials{Station: "Basic 1", Profile: 2, Basic: basic("Other", other)}, ocpp.ReasonWrongPassword},

		{"no certificate", withChain("A", nil), ocpp.ReasonNoCertificate},
		{"good certificate", withChain("A", chainA), ocpp.ReasonAdmitted},
		{"leaf only", withChain("A", chainA[:1]), ocpp.ReasonAdmitted},
		{"RSA", withChain("B", chainB), ocpp.ReasonAdmitted},
		{"certificate of A as B", withChain("B", chainA), ocpp.ReasonWrongSerial}, // peers let it in
		{"certificate of B as A", withChain("A", chainB), ocpp.ReasonWrongSerial},
		{"revoked", withChain("A", der(t, revoked.Chain)), ocpp.ReasonRevoked},
		{"not a certificate", withChain("A", [][]byte{{1, 2, 3}}), ocpp.ReasonBadCertificate},
		{"endless chain", withChain("A", make([][]byte, maxChain+1)), ocpp.ReasonBadCertificate},
		{"unknown CA", withChain("A", [][]byte{signed(t, stranger, key, nil), stranger.Cert.Raw}), ocpp.ReasonUnknownCA},
		{"self-signed", withChain("A", [][]byte{makerRootLike(t, "SN-A")}), ocpp.ReasonUnknownCA},
		{"CA of servers", withChain("A", [][]byte{signed(t, server, key, nil), server.Cert.Raw}), ocpp.ReasonUnknownCA},
		{"expired", withChain("A", [][]byte{signed(t, ca, key, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-hour / 2) })}), ocpp.ReasonExpired},
		{"future", withChain("A", [][]byte{signed(t, ca, key, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(hour / 2) })}), ocpp.ReasonNotYetValid},
		{"serial that begins alike", withChain("A", [][]byte{signed(t, ca, key, func(c *x509.Certificate) { c.Subject.CommonName = "SN-AB" })}), ocpp.ReasonWrongSerial},
		{"no CN", withChain("A", [][]byte{signed(t, ca, key, func(c *x509.Certificate) { c.Subject.CommonName = "" })}), ocpp.ReasonWrongSerial},
		{"SAN instead of CN", withChain("A", [][]byte{signed(t, ca, key, func(c *x509.Certificate) { c.Subject.CommonName = "x"; c.DNSNames = []string{"SN-A"} })}), ocpp.ReasonWrongSerial},
		{"other O", withChain("A", [][]byte{signed(t, ca, key, func(c *x509.Certificate) { c.Subject.Organization = []string{"Else"} })}), ocpp.ReasonWrongOwner},
		{"no O", withChain("A", [][]byte{signed(t, ca, key, func(c *x509.Certificate) { c.Subject.Organization = nil })}), ocpp.ReasonWrongOwner},
		{"P-384", withChain("A", [][]byte{signed(t, ca, p384.Public(), nil)}), ocpp.ReasonAdmitted},
		{"RSA key signed with RSA", withChain("A", [][]byte{signed(t, rsaCA, key, nil)}), ocpp.ReasonAdmitted},
		{"Ed25519", withChain("A", [][]byte{signed(t, ca, ed, nil)}), ocpp.ReasonBadCertificate},
		{"unknown critical extension", withChain("A", [][]byte{signed(t, ca, key, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		})}), ocpp.ReasonBadCertificate},
		{"with an extended key usage", withChain("A", [][]byte{signed(t, ca, key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}), ocpp.ReasonAdmitted},
		{"imported CA with its own O", withChain("A", [][]byte{makersOwn, makerCA.Cert.Raw}), ocpp.ReasonAdmitted},
		{"imported CA, but its intermediate was not sent", withChain("A", [][]byte{signed(t, makerCA, key, nil)}), ocpp.ReasonUnknownCA},
		{"imported CA, other serial", withChain("B", [][]byte{makersOwn, makerCA.Cert.Raw}), ocpp.ReasonWrongSerial},
	} {
		d := f.admit(t, tt.c)
		if d.Reason != tt.want || d.Allowed != (tt.want == ocpp.ReasonAdmitted) {
			t.Errorf("%s: %+v, want %s", tt.name, d, tt.want)
		}
		if d.Allowed && (d.TTL <= 0 || d.Grace <= 0) || !d.Allowed && (d.TTL <= 0 || d.Grace != 0 || d.Detail == "") {
			t.Errorf("%s: TTL %s, grace %s, detail %q", tt.name, d.TTL, d.Grace, d.Detail)
		}
	}
	if d := f.admit(t, withBasic("basic 1", password)); d.Station != "Basic 1" || d.Pin != ocpp.V201 || !d.Quirks.NoCompression {
		t.Errorf("decision %+v", d)
	}
	// Once the maker's CA below the root is imported, a bare leaf will do.
	if _, err := f.ImportCA(ctx, "test", pki.EncodeCertificates(makerCA.Cert)); err != nil {
		t.Fatal(err)
	}
	if d := f.admit(t, withChain("A", [][]byte{makersOwn})); !d.Allowed {
		t.Errorf("bare leaf with an imported intermediate: %+v", d)
	}
	if err := f.RemoveCA(ctx, "test", pki.Fingerprint(makerRoot.Cert.Raw)); err != nil {
		t.Fatal(err)
	}
	if err := f.RemoveCA(ctx, "test", pki.Fingerprint(makerCA.Cert.Raw)); err != nil {
		t.Fatal(err)
	}
	if d := f.admit(t, withChain("A", [][]byte{makersOwn, makerCA.Cert.Raw})); d.Reason != ocpp.ReasonUnknownCA {
		t.Errorf("after the CA was removed: %+v", d)
	}
	if err := f.RemoveCA(ctx, "test", pki.Fingerprint(ca.Cert.Raw)); err == nil {
		t.Error("our own CA was removed")
	}
	// Every reason that is decided here was seen, and what gateways decide can be noted.
	noted := Refusal{Credentials: ocpp.Credentials{Station: "a", Profile: 3, Remote: remote}, Reason: ocpp.ReasonNoSubprotocol, Detail: "offers ocpp1.5"}
	if err := f.Note(ctx, noted); err != nil {
		t.Fatal(err)
	}
	attempts, err := f.Attempts(ctx, "a")
	if err != nil || len(attempts) < 10 || len(attempts) > 50 || attempts[0].Reason != ocpp.ReasonNoSubprotocol || attempts[0].Remote != "192.0.2.7" {
		t.Errorf("%d attempts, the last %+v, %v", len(attempts), attempts[0], err)
	}
	s, err := f.Station(ctx, "A")
	if err != nil || s.Last == nil || s.Last.Reason != ocpp.ReasonNoSubprotocol || s.AdmittedAt.IsZero() {
		t.Errorf("station %+v, %v", s.Last, err)
	}
	for _, n := range []Refusal{{Credentials: noted.Credentials, Reason: "bored"}, {Credentials: noted.Credentials, Reason: ocpp.ReasonAdmitted}, {Credentials: ocpp.Credentials{Station: "a/b"}, Reason: ocpp.ReasonTLS}} {
		if f.Note(ctx, n) == nil {
			t.Errorf("%+v was noted", n)
		}
	}
	if un, err := f.Attempts(ctx, ""); err != nil || len(un) == 0 || un[0].Registered {
		t.Errorf("attempts of unregistered stations: %+v, %v", un, err)
	}
}

func makerRootLike(t testing.TB, cn string) []byte {
	t.Helper()
	root, err := pki.NewRoot(pki.Profile{Lifetime: time.Hour, Backdate: time.Hour, KeyUsage: x509.KeyUsageDigitalSignature}, pki.Subject{CommonName: cn, Organization: operator}, newKey(t, pki.ECDSA), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return root.Cert.Raw
}

func TestPasswordForms(t *testing.T) {
	f := sqlite(t)
	generated := f.add(t, NewStation{ID: "AL1000"}).Password
	binary := "\x00\x01\x02\x03\x04\x05\x06\x07\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF:\xFF\x0A\x0D"
	f.add(t, NewStation{ID: "key", Password: hex.EncodeToString([]byte(binary))})
	long := "a-2.x-password|with:40+characters_at.once"
	f.add(t, NewStation{ID: "long", Password: long})
	hexText := strings.Repeat("0123456789abcdef", 3) // a 2.x password that reads as hex
	f.add(t, NewStation{ID: "hextext", Password: hexText})
	f.add(t, NewStation{ID: "with:colon", Password: "0123456789abcdef"})
	f.add(t, NewStation{ID: "RDAM 123", Password: "0123456789abcdef"})
	f.add(t, NewStation{ID: "named", User: "maker:42", Password: "0123456789abcdef"})
	upper, lower := func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) }, func(s string) string { return hex.EncodeToString([]byte(s)) }
	for i, tt := range []struct {
		station  ocpp.StationID
		user     string
		password string
		ok       bool
	}{
		{"AL1000", "AL1000", generated, true},
		{"AL1000", "AL1000", lower(generated), true},
		{"AL1000", "AL1000", upper(generated), true},
		{"AL1000", "al1000", generated, true},
		{"al1000", "al1000", generated, true},
		{"AL1000", "AL1000", generated + "x", false},
		{"AL1000", "AL1000", generated[:19], false},
		{"AL1000", "AL1000", strings.ToLower(generated) + ".", false},
		{"AL1000", "AL1000", lower(lower(generated)), true}, // the hex text taken for the key
		{"key", "key", binary, true},
		{"key", "key", lower(binary), true},
		{"key", "key", upper(binary), true},
		{"key", "key", binary[:18], false},
		{"long", "long", long, true},
		{"long", "long", lower(long), true},
		{"long", "long", strings.ToUpper(long), false},
		{"hextext", "hextext", hexText, true},
		{"hextext", "hextext", strings.ToUpper(hexText), true},
		{"hextext", "hextext", lower(hexText), true},
		{"with:colon", "with:colon", "0123456789abcdef", true},
		{"with:colon", "with", "colon:0123456789abcdef", true}, // the same bytes
		{"with:colon", "with", "0123456789abcdef", false},
		{"RDAM 123", "RDAM 123", "0123456789abcdef", true},
		{"RDAM 123", "RDAM%20123", "0123456789abcdef", true},
		{"RDAM 123", "RDAM+123", "0123456789abcdef", false},
		{"named", "maker:42", "0123456789abcdef", true},
		{"named", "named", "0123456789abcdef", false},
	} {
		c := ocpp.Credentials{Station: tt.station, Profile: 2, Basic: basic(tt.user, tt.password),
			Remote: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 1)}
		if d := f.admit(t, c); d.Allowed != tt.ok {
			t.Errorf("%d: station %s, user %s, password %q: %+v, want admitted %v", i, tt.station, tt.user, tt.password, d, tt.ok)
		}
	}
}

func TestLockout(t *testing.T) {
	f := sqlite(t)
	password := f.add(t, NewStation{ID: "CS1"}).Password
	f.add(t, NewStation{ID: "CS2", Password: password})
	for range f.cfg.FreeFailures {
		if d := f.admit(t, withBasic("CS1", "wrong-wrong-wrong")); d.Reason != ocpp.ReasonWrongPassword {
			t.Fatal(d)
		}
	}
	// From here even the right one is refused, and not looked at.
	if d := f.admit(t, withBasic("CS1", password)); d.Reason != ocpp.ReasonLockedOut || d.TTL > f.cfg.RefusalTTL {
		t.Fatal(d)
	}
	// Another source, and another station, are not affected.
	elsewhere := withBasic("CS1", password)
	elsewhere.Remote = netip.MustParseAddrPort("[2001:db8::1]:1")
	if d := f.admit(t, elsewhere); !d.Allowed {
		t.Error(d)
	}
	if d := f.admit(t, withBasic("CS2", password)); !d.Allowed {
		t.Error(d)
	}
	f.advance(f.cfg.Lockout + time.Second)
	if d := f.admit(t, withBasic("CS1", "wrong-wrong-wrong")); d.Reason != ocpp.ReasonWrongPassword {
		t.Error(d)
	}
	f.advance(f.cfg.Lockout + time.Second) // the second lockout takes twice as long
	if d := f.admit(t, withBasic("CS1", password)); d.Reason != ocpp.ReasonLockedOut {
		t.Error(d)
	}
	f.advance(f.cfg.Lockout)
	if d := f.admit(t, withBasic("CS1", password)); !d.Allowed {
		t.Error(d)
	}
	// An operator's change ends a lockout.
	for range f.cfg.FreeFailures + 1 {
		f.admit(t, withBasic("CS1", "wrong-wrong-wrong"))
	}
	r, err := f.RotatePassword(t.Context(), "test", "CS1", "")
	if err != nil {
		t.Fatal(err)
	}
	if d := f.admit(t, withBasic("CS1", r.Password)); !d.Allowed {
		t.Error(d)
	}
}

func TestGuessingAtOnce(t *testing.T) {
	f := sqlite(t)
	f.add(t, NewStation{ID: "CS1"})
	var wg sync.WaitGroup
	var mu sync.Mutex
	count := map[ocpp.Reason]int{}
	for i := range 50 {
		wg.Go(func() {
			d := f.admit(t, withBasic("CS1", fmt.Sprintf("wrong-wrong-wrong-%d", i)))
			mu.Lock()
			count[d.Reason]++
			mu.Unlock()
		})
	}
	wg.Wait()
	if count[ocpp.ReasonWrongPassword] != f.cfg.FreeFailures || count[ocpp.ReasonLockedOut] != 50-f.cfg.FreeFailures {
		t.Errorf("%v", count)
	}
}

func TestLockoutsAreBounded(t *testing.T) {
	l := newLockouts(1, time.Minute, nil)
	l.recent = newRecent[lockoutKey, lockout](100)
	for i := range 1000 {
		l.begin(lockoutKey{station: fmt.Sprint(i)}, time.Now())
	}
	if n := l.len(); n > 200 {
		t.Errorf("%d entries", n)
	}
}

func TestRepeatedAttemptsAreOneRecord(t *testing.T) {
	f := sqlite(t)
	password := f.add(t, NewStation{ID: "CS1"}).Password
	for range 20 {
		f.admit(t, withBasic("CS1", password))
	}
	got, err := f.Attempts(t.Context(), "CS1")
	if err != nil || len(got) != 1 || got[0].Times != 20 {
		t.Fatalf("%+v, %v", got, err)
	}
	for range 5 {
		f.admit(t, withBasic("CS1", password))
	}
	f.advance(attemptWindow)
	f.admit(t, withBasic("CS1", password))
	got, err = f.Attempts(t.Context(), "CS1")
	if err != nil || len(got) != 2 || got[0].Times != 1 || got[1].Times != 25 {
		t.Errorf("%+v, %v", got, err)
	}
	if n := strings.Count(f.log.String(), "level=INFO msg=\"station admitted\""); n != 2 {
		t.Errorf("%d log lines above detail, want 2", n)
	}
	// Bounded per station.
	for i := range maxAttemptsForTest {
		c := withBasic("CS1", password)
		c.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 1)
		f.admit(t, c)
	}
	if got, err = f.Attempts(t.Context(), "CS1"); err != nil || len(got) != 50 || got[0].Remote != "203.0.113.69" {
		t.Errorf("%d attempts, the last from %s, %v", len(got), got[0].Remote, err)
	}
}

const maxAttemptsForTest = 70

func TestUnregisteredStationsAreCheap(t *testing.T) {
	f := sqlite(t)
	began := time.Now()
	for i := range 1000 {
		f.admit(t, withBasic(ocpp.StationID(fmt.Sprintf("x%d", i)), "y"))
	}
	most := unregisteredBurst + int(time.Since(began).Seconds()*unregisteredRate) + 1
	recorded, err := f.store.UnregisteredAttempts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n, dropped := len(recorded), int(f.attempts.dropped.Load()); n > most || n+dropped != 1000 {
		t.Errorf("%d recorded, %d dropped", n, dropped)
	}
}

// A decision that took effect is in the database, whatever becomes of this
// process; one that the database does not take now is not held up for long, and
// is written later.
func TestDecisionsAreRecorded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		f := start(t, where, caDir(t))
		var passwords []string
		for i := range 20 {
			passwords = append(passwords, f.add(t, NewStation{ID: ocpp.StationID(fmt.Sprint("CS", i))}).Password)
		}
		f.attempts.patience = time.Minute // however slow this machine is
		var wg sync.WaitGroup
		for i, password := range passwords {
			wg.Go(func() {
				id := ocpp.StationID(fmt.Sprint("CS", i))
				f.admit(t, withBasic(id, password))
				if got, err := f.store.Attempts(t.Context(), id); err != nil || len(got) != 1 || got[0].Reason != ocpp.ReasonAdmitted {
					t.Errorf("%s: %+v, %v", id, got, err)
				}
			})
		}
		wg.Wait()

		// A flush that takes for ever.
		f.attempts.patience = recordTime
		if err := f.attempts.begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := f.admit(t, withBasic("CS0", "wrong-password-wrong")); d.Reason != ocpp.ReasonWrongPassword {
			t.Errorf("%+v", d)
		}
		f.attempts.end()
		if n := f.attempts.unwritten(); n != 1 {
			t.Errorf("%d attempts wait", n)
		}
		if got, err := f.Attempts(t.Context(), "CS0"); err != nil || len(got) != 2 || got[0].Reason != ocpp.ReasonWrongPassword {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

func TestAdmitConcurrently(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		f := start(t, where, caDir(t))
		const n = 20
		var stations [n]Added
		for i := range n {
			stations[i] = f.add(t, NewStation{ID: ocpp.StationID(fmt.Sprintf("CS%d", i)), Profile: ocpp.SecurityProfile(2 + i%2)})
		}
		var wg sync.WaitGroup
		for i, s := range stations {
			c := withBasic(s.Station.ID, s.Password)
			if s.Issued != nil {
				c = withChain(s.Station.ID, der(t, s.Issued.Chain))
			}
			for range 5 {
				wg.Go(func() {
					if d := f.admit(t, c); !d.Allowed {
						t.Errorf("station %d: %+v", i, d)
					}
					if err := f.attempts.flush(t.Context(), f.store, true); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		for _, s := range stations {
			got, err := f.Attempts(t.Context(), s.Station.ID)
			if err != nil || len(got) != 1 || got[0].Times != 5 {
				t.Errorf("%s: %+v, %v", s.Station.ID, got, err)
			}
		}
	})
}

func FuzzBasicPassword(f *testing.F) {
	f.Add([]byte("CS1:secret"), "", "CS1", "cs1")
	f.Add([]byte("a:b:c"), "", "a:b", "A:B")
	f.Add([]byte("u:\xff\x00"), "u", "x", "x")
	f.Add([]byte("RDAM%20123:p"), "", "RDAM 123", "RDAM 123")
	f.Add([]byte("\u212a:p"), "", "k", "K")
	f.Fuzz(func(t *testing.T, basic []byte, user, registered, presented string) {
		password, ok := basicPassword(basic, user, ocpp.StationID(registered), ocpp.StationID(presented))
		if ok && (len(password) >= len(basic) || string(basic[len(basic)-len(password):]) != string(password) || basic[len(basic)-len(password)-1] != ':') {
			t.Errorf("password %q of %q", password, basic)
		}
		if !ok && password != nil {
			t.Errorf("password %q without a name", password)
		}
		c := canonical(password)
		if string(canonical(c)) != string(c) {
			t.Errorf("canonical form of %q is not stable", password)
		}
		if h := []byte(hex.EncodeToString(c)); len(c) >= minHex/2 && len(c) <= maxHex/2 && string(canonical(h)) != string(c) {
			t.Errorf("hex form of %q is another password", c)
		}
	})
}
