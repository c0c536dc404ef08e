package pki

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"
)

// crlCA is a CA of somebody else.
func crlCA(t testing.TB) *CA {
	t.Helper()
	key, err := GenerateKey(ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := NewRoot(Root, Subject{CommonName: "Maker", Organization: "Maker"}, key, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// crl signs a list with extensions.
func (ca *CA) crl(t testing.TB, entries []x509.RevocationListEntry, extensions ...pkix.Extension) string {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(7), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: entries, ExtraExtensions: extensions,
	}, ca.Cert, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return EncodeCRL(der)
}

func TestParseCRL(t *testing.T) {
	ca := crlCA(t)
	entry := func(serial int64, reason int, extensions ...pkix.Extension) x509.RevocationListEntry {
		return x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: time.Now(), ReasonCode: reason, ExtraExtensions: extensions}
	}
	scope := func(content ...byte) pkix.Extension {
		return pkix.Extension{Id: oidDistributionPoint, Critical: true, Value: append([]byte{0x30, byte(len(content))}, content...)}
	}
	good := ca.crl(t, []x509.RevocationListEntry{entry(1, 1)})
	for _, tt := range []struct {
		name, text string
		entries    int
		fails      string // a part of the error
	}{
		{"complete", good, 1, ""},
		{"empty", ca.crl(t, nil), 0, ""},
		{"an entry that is taken back", ca.crl(t, []x509.RevocationListEntry{entry(1, 1), entry(2, removeFromCRL)}), 1, ""},
		{"only of users, at a place", ca.crl(t, nil, scope(0xa0, 0x07, 0xa0, 0x05, 0x86, 0x03, 'a', ':', 'b', 0x81, 0x01, 0xff)), 0, ""},
		{"only of CAs", ca.crl(t, nil, scope(0x82, 0x01, 0xff)), 0, "only a part"},
		{"only of some reasons", ca.crl(t, nil, scope(0x83, 0x02, 0x06, 0x40)), 0, "only a part"},
		{"for other CAs", ca.crl(t, nil, scope(0x84, 0x01, 0xff)), 0, "only a part"},
		{"a broken scope", ca.crl(t, nil, scope(0x84, 0x05)), 0, "not valid"},
		{"delta", ca.crl(t, nil, pkix.Extension{Id: oidDeltaCRL, Critical: true, Value: []byte{2, 1, 1}}), 0, "delta"},
		{"unknown and critical", ca.crl(t, nil, pkix.Extension{Id: []int{1, 2, 3}, Critical: true, Value: []byte{5, 0}}), 0, "critical extension 1.2.3"},
		{"an entry of another CA", ca.crl(t, []x509.RevocationListEntry{entry(1, 1, pkix.Extension{Id: []int{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}})}), 0, "2.5.29.29"},
		{"a certificate", EncodeCertificates(ca.Cert), 0, "no revocation list"},
		{"nothing", "", 0, "no revocation list"},
		{"two", good + good, 0, "more than one"},
		{"garbage", EncodeCRL([]byte("garbage")), 0, "x509"},
		{"too long", EncodeCRL(make([]byte, MaxCRL+1)), 0, "at most"},
	} {
		l, err := ParseCRL([]byte(tt.text))
		switch {
		case tt.fails != "":
			if err == nil || !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("%s: %v, want %q", tt.name, err, tt.fails)
			}
		case err != nil || len(l.RevokedCertificateEntries) != tt.entries:
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for code, want := range map[int]Reason{0: Unspecified, 1: KeyCompromise, 2: "ca_compromise", 6: "certificate_hold", 9: PrivilegeWithdrawn, 99: Unspecified} {
		if got := ReasonOf(code); got != want {
			t.Errorf("reason %d: %s, want %s", code, got, want)
		}
	}
}

func FuzzParseCRL(f *testing.F) {
	ca := crlCA(f)
	f.Add([]byte(ca.crl(f, []x509.RevocationListEntry{{SerialNumber: big.NewInt(1), RevocationTime: time.Now(), ReasonCode: 1}})))
	f.Add([]byte(ca.crl(f, nil, pkix.Extension{Id: oidDistributionPoint, Critical: true, Value: []byte{0x30, 3, 0x84, 1, 0xff}})))
	f.Add([]byte(EncodeCRL([]byte{0x30, 0x80})))
	f.Fuzz(func(t *testing.T, text []byte) {
		if l, err := ParseCRL(text); err == nil && len(l.Raw) > MaxCRL {
			t.Error("longer than allowed")
		}
	})
}
