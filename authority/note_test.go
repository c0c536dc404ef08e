package authority

import (
	"net/netip"
	"testing"
	"time"

	"holdfast/ocpp"
	"holdfast/store/storetest"
)

// What gateways refuse before they know the identity is found all the same: by
// the serial number in the certificate, or by the address.
func TestNoteWithoutIdentity(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		f := start(t, where, caDir(t))
		ctx := t.Context()
		f.add(t, NewStation{ID: "CS-7", Serial: "SN-7", Profile: 3})
		from := netip.MustParseAddrPort("192.0.2.9:1000")
		for _, n := range []Refusal{
			{Credentials: ocpp.Credentials{Serial: "sn-7", Profile: 3, Remote: from}, Reason: ocpp.ReasonExpired, Detail: "expired 3h0m0s ago"},
			{Credentials: ocpp.Credentials{Serial: "SN-8", Profile: 3, Remote: from}, Reason: ocpp.ReasonUnknownCA},
			{Credentials: ocpp.Credentials{Serial: "a/b", Profile: 3, Remote: from}, Reason: ocpp.ReasonBadCertificate},
			{Credentials: ocpp.Credentials{Profile: 2, Remote: from}, Reason: ocpp.ReasonTLS, Detail: "it offers only TLS 1.1"},
			{Credentials: ocpp.Credentials{Profile: 2, Remote: netip.MustParseAddrPort("192.0.2.10:1")}, Reason: ocpp.ReasonTLS, Detail: "it offers only TLS 1.1"},
			{Credentials: ocpp.Credentials{Profile: 2, Remote: from}, Reason: ocpp.ReasonTLS, Detail: "it offers only TLS 1.1"}, // counted with the first
			{Credentials: ocpp.Credentials{Station: "cs-7", Profile: 3, Remote: from}, Reason: ocpp.ReasonUnavailable, At: f.now().Add(-time.Hour)},
		} {
			if err := f.Note(ctx, n); err != nil {
				t.Fatalf("%+v: %v", n, err)
			}
		}
		mine, err := f.Attempts(ctx, "CS-7")
		if err != nil || len(mine) != 2 || mine[1].Reason != ocpp.ReasonExpired || mine[1].Detail != "expired 3h0m0s ago" || !mine[1].Registered {
			t.Errorf("CS-7: %+v, %v", mine, err)
		} else if late := time.Since(mine[0].At); mine[0].Reason != ocpp.ReasonUnavailable || late < 50*time.Minute {
			t.Errorf("a late note: %+v", mine[0])
		}
		if s, err := f.Station(ctx, "CS-7"); err != nil || s.Last == nil || s.Last.Reason != ocpp.ReasonExpired {
			t.Errorf("the station's record: %+v, %v", s.Last, err)
		}
		all, err := f.Attempts(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int64{}
		for _, a := range all {
			seen[string(a.Station)+" "+a.Remote+" "+string(a.Reason)] = a.Times
		}
		for want, times := range map[string]int64{
			"SN-8 192.0.2.9 unknown_ca": 1, " 192.0.2.9 bad_certificate": 1, " 192.0.2.9 tls_version_or_suite": 2, " 192.0.2.10 tls_version_or_suite": 1,
		} {
			if seen[want] != times {
				t.Errorf("%q: %d times, want %d; all: %v", want, seen[want], times, seen)
			}
		}
	})
}
