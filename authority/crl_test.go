package authority

import (
	"crypto/x509"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
	"holdfast/store/storetest"
)

// listOf is a revocation list that a CA elsewhere signed.
func listOf(t testing.TB, ca *pki.CA, number int64, made, next time.Time, serials ...*big.Int) string {
	t.Helper()
	var entries []pki.Revoked
	for _, s := range serials {
		entries = append(entries, pki.Revoked{Serial: s.Text(16), At: made, Reason: pki.KeyCompromise})
	}
	der, err := ca.RevocationList(entries, number, made, next)
	if err != nil {
		t.Fatal(err)
	}
	return pki.EncodeCRL(der)
}

// The revocation list of an imported CA closes what rests on what it lists, and
// refuses it, seen before or not; a list without the certificate lets it in again.
func TestImportCRL(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		ctx := t.Context()
		f := start(t, where, caDir(t))
		root, ca := maker(t)
		_, stranger := maker(t)
		now := time.Now().Truncate(time.Second)
		next := now.Add(24 * time.Hour)
		if _, err := f.ImportCRL(ctx, "test", listOf(t, ca, 1, now, next)); err == nil || !strings.Contains(err.Error(), "not an imported CA") {
			t.Errorf("before the CA: %v", err)
		}
		if _, err := f.ImportCA(ctx, "test", pki.EncodeCertificates(root.Cert, ca.Cert)); err != nil {
			t.Fatal(err)
		}
		f.add(t, NewStation{ID: "SN-A", Profile: 3, NoCertificate: true})
		f.add(t, NewStation{ID: "SN-B", Profile: 3, NoCertificate: true})
		named := func(cn string) func(*x509.Certificate) {
			return func(c *x509.Certificate) { c.Subject.CommonName, c.NotAfter = cn, now.Add(100*time.Hour) }
		}
		seen, fresh := signed(t, ca, newKey(t, pki.ECDSA).Public(), named("SN-A")), signed(t, ca, newKey(t, pki.ECDSA).Public(), named("SN-B"))
		other := signed(t, ca, newKey(t, pki.ECDSA).Public(), named("SN-B"))
		serial := func(der []byte) *big.Int { return mustParse(t, der).SerialNumber }
		admit := func(id ocpp.StationID, der []byte, want ocpp.Reason) {
			t.Helper()
			if d := f.admit(t, withChain(id, [][]byte{der, ca.Cert.Raw})); d.Reason != want {
				t.Errorf("%s: %s (%s), want %s", id, d.Reason, d.Detail, want)
			}
		}
		admit("SN-A", seen, ocpp.ReasonAdmitted)
		before, err := f.Trust(ctx)
		if err != nil {
			t.Fatal(err)
		}
		f.seen()

		l, err := f.ImportCRL(ctx, "test", listOf(t, ca, 1, now, next, serial(seen), serial(fresh)))
		if err != nil || l.Entries != 2 || l.Revoked != 1 || l.CA != pki.Fingerprint(ca.Cert.Raw) || l.Number != "1" {
			t.Fatalf("%+v, %v", l, err)
		}
		if c := f.seen(); len(c) != 1 || c[0].Kind != ChangeTrust || c[0].Generation <= before.Generation {
			t.Errorf("told gateways %+v", c)
		}
		trust, err := f.Trust(ctx)
		if err != nil || !slices.Equal(trust.Revoked, []string{pki.Fingerprint(seen)}) { // what may be connected
			t.Errorf("revoked for gateways: %v, %v", trust.Revoked, err)
		}
		if c, err := f.Certificate(ctx, pki.Fingerprint(seen)); err != nil || c.Status != store.StatusRevoked || c.Reason != "key_compromise" || !c.RevokedAt.Equal(now) {
			t.Errorf("in the inventory: %+v, %v", c, err)
		}
		admit("SN-A", seen, ocpp.ReasonRevoked)
		admit("SN-B", fresh, ocpp.ReasonRevoked)
		admit("SN-B", other, ocpp.ReasonAdmitted)

		// A certificate that was let in while the list came is revoked as it is recorded.
		late := inventoryEntry(mustParse(t, fresh), store.KindStation, "SN-B")
		if err := f.store.CertificateUsed(ctx, late, now); err != nil {
			t.Fatal(err)
		}
		if c, err := f.Certificate(ctx, late.Fingerprint); err != nil || c.Status != store.StatusRevoked {
			t.Errorf("let in meanwhile: %+v, %v", c, err)
		}

		var refused *InvalidError
		for name, text := range map[string]string{
			"another CA's":    listOf(t, stranger, 2, now.Add(time.Second), next),
			"overdue":         listOf(t, ca, 2, now.Add(-2*time.Hour), now.Add(-time.Hour)),
			"to come":         listOf(t, ca, 2, now.Add(time.Hour), next),
			"no list":         "nonsense",
			"of a CA of ours": ourList(t, f),
			"a certificate":   pki.EncodeCertificates(ca.Cert),
			"more than one":   strings.Repeat(listOf(t, ca, 2, now.Add(time.Second), next), 2),
			"by another key":  listOf(t, &pki.CA{Cert: ca.Cert, Key: newKey(t, pki.ECDSA)}, 2, now.Add(time.Second), next),
		} {
			if _, err := f.ImportCRL(ctx, "test", text); !errors.As(err, &refused) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, made := range []time.Time{now, now.Add(-time.Minute)} { // nothing is forgotten for an old list
			if _, err := f.ImportCRL(ctx, "test", listOf(t, ca, 1, made, next)); !errors.Is(err, store.ErrExists) {
				t.Errorf("a list of %s again: %v", made, err)
			}
		}

		// What was on hold, or listed by mistake, is good again; the other one stays revoked.
		if _, err := f.ImportCRL(ctx, "test", listOf(t, ca, 2, now.Add(time.Second), next, serial(fresh))); err != nil {
			t.Fatal(err)
		}
		admit("SN-A", seen, ocpp.ReasonAdmitted)
		admit("SN-B", fresh, ocpp.ReasonRevoked)
		if _, err := f.RevokeCertificate(ctx, "test", pki.Fingerprint(seen), ""); err != nil { // here, for good
			t.Fatal(err)
		}

		f.advance(25 * time.Hour)
		lists, err := f.CRLs(ctx)
		if err != nil || len(lists) != 1 || !lists[0].Overdue || lists[0].Number != "2" || !lists[0].NextUpdate.Equal(next) || lists[0].Revoked != 1 {
			t.Errorf("%+v, %v", lists, err)
		}
		admit("SN-B", fresh, ocpp.ReasonRevoked) // an overdue list counts on

		// The root's list revokes the CA, and with it what the CA issued.
		now = now.Add(25 * time.Hour)
		if _, err := f.ImportCRL(ctx, "test", listOf(t, root, 1, now, now.Add(time.Hour), ca.Cert.SerialNumber)); err != nil {
			t.Fatal(err)
		}
		admit("SN-B", other, ocpp.ReasonRevoked)
		if err := f.RemoveCRL(ctx, "test", strings.ToUpper(pki.Fingerprint(root.Cert.Raw))); err != nil {
			t.Fatal(err)
		}
		admit("SN-B", other, ocpp.ReasonAdmitted)
		if err := f.RemoveCRL(ctx, "test", pki.Fingerprint(root.Cert.Raw)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("removed again: %v", err)
		}
		if err := f.RemoveCA(ctx, "test", pki.Fingerprint(ca.Cert.Raw)); err != nil {
			t.Fatal(err)
		}
		if lists, err := f.CRLs(ctx); err != nil || len(lists) != 0 {
			t.Errorf("after the CA: %+v, %v", lists, err)
		}
		admit("SN-A", seen, ocpp.ReasonRevoked) // was revoked here
	})
}

// A long list goes in whole.
func TestImportLongCRL(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		f := start(t, where, caDir(t))
		root, _ := maker(t)
		if _, err := f.ImportCA(t.Context(), "test", pki.EncodeCertificates(root.Cert)); err != nil {
			t.Fatal(err)
		}
		serials := make([]*big.Int, 2555)
		for i := range serials {
			serials[i] = big.NewInt(int64(i%2500) + 1) // some twice
		}
		l, err := f.ImportCRL(t.Context(), "test", listOf(t, root, 1, time.Now().Add(-time.Minute), time.Now().Add(time.Hour), serials...))
		if err != nil || l.Entries != len(serials) {
			t.Fatalf("%+v, %v", l, err)
		}
		for serial, want := range map[int64]error{1: nil, 200: nil, 201: nil, 2500: nil, 2501: store.ErrNotFound} {
			if _, err := f.store.Listed(t.Context(), l.CA, big.NewInt(serial).Text(16)); !errors.Is(err, want) {
				t.Errorf("serial %d: %v, want %v", serial, err, want)
			}
		}
	})
}

func mustParse(t testing.TB, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ourList(t testing.TB, f *fixture) string {
	t.Helper()
	der, _, err := f.CRL(t.Context(), "station-ecdsa")
	if err != nil {
		t.Fatal(err)
	}
	return pki.EncodeCRL(der)
}
