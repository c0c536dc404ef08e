package api_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"holdfast/api"
	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
	"holdfast/store/storetest"
)

// The life of stations of each security profile, with identities that have to be
// escaped, on both databases.
func TestStations(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		f := open(t, where, nil)
		for i, id := range []ocpp.StationID{"CS-1", "EVSE.*>1", "Säule 7", "a b?c#d%2F+&=", "..%", "+"} {
			for _, profile := range []ocpp.SecurityProfile{1, 2, 3} {
				name := ocpp.StationID(fmt.Sprintf("%s-%d", id, profile))
				path := "/api/v1/stations/" + url.PathEscape(string(name))
				r := f.send("POST", "/api/v1/stations", map[string]any{"id": name, "profile": profile, "serial": fmt.Sprintf("S%d-%d", i, profile), "labels": map[string]string{"site": "north"}})
				if r.status != 201 || r.header.Get("Location") != path {
					t.Fatalf("add %s: %d, Location %q: %s", name, r.status, r.header.Get("Location"), r.body)
				}
				s := want[api.StationView](f, 200, "GET", path, nil)
				if s.ID != name || s.Profile != profile || s.State != nil || s.Labels["site"] != "north" {
					t.Errorf("%s is %+v", name, s)
				}
				if upper := want[api.StationView](f, 200, "GET", "/api/v1/stations/"+url.PathEscape(strings.ToUpper(string(name))), nil); upper.ID != name {
					t.Errorf("%s in capitals is %q", name, upper.ID)
				}
				f.refused(409, "POST", "/api/v1/stations", map[string]any{"id": name})
				f.refused(409, "POST", "/api/v1/stations", map[string]any{"id": name + "x", "serial": fmt.Sprintf("S%d-%d", i, profile)})
				f.connected(name)
				if s := want[api.StationView](f, 200, "GET", path, nil); s.State == nil || !s.State.Connected || s.State.Gateway != "g" {
					t.Errorf("connected %s is %+v", name, s.State)
				}
				if s := want[api.StationView](f, 200, "POST", path+"/block", map[string]string{"reason": "stolen"}); !s.Blocked || s.BlockedReason != "stolen" {
					t.Errorf("blocked %s is %+v", name, s.Station)
				}
				if s := want[api.StationView](f, 200, "POST", path+"/unblock", nil); s.Blocked {
					t.Errorf("unblocked %s is %+v", name, s.Station)
				}
				if s := want[api.StationView](f, 200, "PATCH", path, map[string]any{"version": "2.0.1", "quirks": map[string]any{"ping": "off"}}); s.Version != "2.0.1" || s.Quirks.Ping != "off" || s.Labels["site"] != "north" {
					t.Errorf("changed %s is %+v", name, s.Station)
				}
				if s := want[api.StationView](f, 200, "PUT", path+"/registration", map[string]any{"registration": "Pending"}); s.State.Registration != store.Pending {
					t.Errorf("pending %s is %+v", name, s.State)
				}
				if r := f.send("POST", path+"/disconnect", nil); r.status != 204 {
					t.Errorf("disconnect %s: %d %s", name, r.status, r.body)
				}
				if r := f.send("DELETE", path, nil); r.status != 204 {
					t.Fatalf("remove %s: %d %s", name, r.status, r.body)
				}
				f.refused(404, "GET", path, nil)
				f.refused(404, "DELETE", path, nil)
				f.refused(404, "POST", path+"/disconnect", nil)
			}
		}
		entries := want[api.Page[store.AuditEntry]](f, 200, "GET", "/api/v1/audit?station=CS-1-3", nil).Items
		var actions []string
		for _, e := range entries {
			if e.By != "admin" {
				t.Errorf("audit entry %+v: want by admin", e)
			}
			actions = append(actions, e.Action)
		}
		if want := []string{"station.remove", "station.disconnect", "station.registration", "station.update", "station.unblock", "station.block", "station.add"}; !slices.Equal(actions, want) {
			t.Errorf("audit record of CS-1-3: %v, want %v", actions, want)
		}
	})
}

func TestCredentials(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	mutual := want[api.AddedStation](f, 201, "POST", "/api/v1/stations", map[string]any{"id": "M", "serial": "SER-1", "profile": 3})
	if mutual.Password != "" || mutual.Certificate == nil {
		t.Fatalf("profile 3: %+v", mutual)
	}
	pair, err := tls.X509KeyPair([]byte(mutual.Certificate.Chain), []byte(mutual.Certificate.Key))
	check(t, err)
	if cn := pair.Leaf.Subject.CommonName; cn != "SER-1" {
		t.Errorf("CN %q, want the serial number", cn)
	}
	if !x509.NewCertPool().AppendCertsFromPEM([]byte(mutual.Certificate.CA)) {
		t.Error("no CA to verify the server with")
	}

	password := want[api.AddedStation](f, 201, "POST", "/api/v1/stations", map[string]any{"id": "P"})
	if len(password.Password) < 16 || password.Certificate != nil || password.Station.Profile != 2 {
		t.Fatalf("default profile: %+v", password)
	}
	if again := f.send("GET", "/api/v1/stations/P", nil); strings.Contains(string(again.body), password.Password) {
		t.Error("the password is shown twice")
	}
	rotated := want[api.NewPassword](f, 200, "POST", "/api/v1/stations/P/password", nil)
	if rotated.Password == "" || rotated.Password == password.Password || !rotated.Station.PasswordPending {
		t.Errorf("rotated: %+v", rotated)
	}
	if s := want[api.StationView](f, 200, "DELETE", "/api/v1/stations/P/password", nil); s.PasswordPending {
		t.Error("the cancelled password is still pending")
	}
	if chosen := want[api.NewPassword](f, 200, "POST", "/api/v1/stations/P/password", map[string]string{"password": "chosen-password-1"}); chosen.Password != "" {
		t.Error("a chosen password is repeated")
	}

	f.refused(422, "POST", "/api/v1/stations/M/sign-csr", map[string]string{"csr": "nonsense"})
	key, err := pki.GenerateKey(pki.ECDSA)
	check(t, err)
	der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{Subject: pair.Leaf.Subject}, key)
	check(t, err)
	csr := map[string]string{"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))}
	signed := want[api.SignedCertificate](f, 201, "POST", "/api/v1/stations/M/sign-csr", csr)
	if again := want[api.SignedCertificate](f, 201, "POST", "/api/v1/stations/M/sign-csr", csr); again.Certificate.Serial != signed.Certificate.Serial {
		t.Error("the same request was signed twice")
	}
	f.refused(404, "POST", "/api/v1/stations/nobody/sign-csr", csr)
	issued := want[api.IssuedCertificate](f, 201, "POST", "/api/v1/stations/M/certificate", map[string]string{"algorithm": "rsa"})

	list := want[api.Page[store.Certificate]](f, 200, "GET", "/api/v1/certificates?station=M", nil)
	if len(list.Items) != 3 {
		t.Errorf("%d certificates, want 3", len(list.Items))
	}
	if n := len(want[api.Page[store.Certificate]](f, 200, "GET", "/api/v1/certificates?station=M&expiring=30", nil).Items); n != 0 {
		t.Errorf("%d certificates expire within 30 days, want 0", n)
	}
	revoked := want[store.Certificate](f, 200, "POST", "/api/v1/certificates/"+issued.Certificate.Serial+"/revoke", map[string]string{"reason": "key_compromise"})
	if revoked.Status != store.StatusRevoked || revoked.Reason != "key_compromise" {
		t.Errorf("revoked: %+v", revoked)
	}
	if got := want[api.Page[store.Certificate]](f, 200, "GET", "/api/v1/certificates?status=revoked", nil).Items; len(got) != 1 || got[0].Serial != revoked.Serial {
		t.Errorf("revoked certificates: %+v", got)
	}
	want[store.Certificate](f, 200, "GET", "/api/v1/certificates/"+revoked.Fingerprint, nil)
	f.refused(422, "POST", "/api/v1/certificates/"+revoked.Serial+"/revoke", map[string]string{"reason": "boredom"})
	f.refused(404, "GET", "/api/v1/certificates/abcdef", nil)

	cas := want[api.Page[store.CA]](f, 200, "GET", "/api/v1/cas", nil)
	if len(cas.Items) == 0 {
		t.Error("no CAs")
	}
	f.refused(422, "POST", "/api/v1/cas", map[string]string{"pem": "nonsense"})
	f.refused(404, "DELETE", "/api/v1/cas/abc", nil)
	if lists := want[api.Page[store.CRL]](f, 200, "GET", "/api/v1/crls", nil); len(lists.Items) != 0 {
		t.Errorf("revocation lists %+v", lists.Items)
	}
	f.refused(422, "POST", "/api/v1/crls", map[string]string{"pem": "nonsense"})
	f.refused(404, "DELETE", "/api/v1/crls/abc", nil)

	prepared := want[api.PreparedRoot](f, 201, "POST", "/api/v1/cas/roots", map[string]string{"algorithm": "ecdsa"})
	f.refused(409, "POST", "/api/v1/cas/roots", map[string]string{"algorithm": "ecdsa"})
	active := want[api.Page[store.CA]](f, 200, "POST", "/api/v1/cas/activate", map[string]any{"fingerprints": []string{prepared.Root.Fingerprint}})
	if len(active.Items) != 3 || active.Items[0].State != store.CAIssuing {
		t.Errorf("activated: %+v", active.Items)
	}
	f.refused(422, "POST", "/api/v1/cas/"+prepared.Root.Fingerprint+"/retire", nil) // it issues
	f.refused(404, "POST", "/api/v1/cas/activate", map[string]any{"fingerprints": []string{"abc"}})
	requested := want[api.RequestedCA](f, 201, "POST", "/api/v1/cas/requests", map[string]string{"role": "station", "algorithm": "ecdsa"})
	if requested.Kind != "station-ecdsa" || !strings.Contains(requested.CSR, "BEGIN CERTIFICATE REQUEST") {
		t.Errorf("requested: %+v", requested)
	}
	f.refused(422, "POST", "/api/v1/cas/signed", map[string]string{"pem": prepared.Root.PEM})
}

// What is wrong with a request is said with the place where it is.
func TestInvalidStations(t *testing.T) {
	f := open(t, t.TempDir(), nil)
	for _, tt := range []struct {
		body     any
		location string
	}{
		{map[string]any{}, "body"},
		{map[string]any{"id": ""}, "body.id"},
		{map[string]any{"id": "a/b"}, "body.id"},
		{map[string]any{"id": " a"}, "body.id"},
		{map[string]any{"id": "a\u0000"}, "body.id"},
		{map[string]any{"id": strings.Repeat("a", 256)}, "body.id"},
		{map[string]any{"id": "a", "profile": 4}, "body.profile"},
		{map[string]any{"id": "a", "profile": "3"}, "body.profile"},
		{map[string]any{"id": "a", "version": "1.5"}, "body.version"},
		{map[string]any{"id": "a", "quirks": map[string]any{"ping": "no"}}, "body.quirks.ping"},
		{map[string]any{"id": "a", "quirks": map[string]any{"pong": 1}}, "body.quirks.pong"},
		{map[string]any{"id": "a", "surprise": 1}, "body.surprise"},
		{map[string]any{"id": "a", "password": "x"}, "body.password"},
		{map[string]any{"id": "a", "labels": map[string]any{"x": 1}}, "body.labels.x"},
	} {
		p := f.refused(422, "POST", "/api/v1/stations", tt.body)
		if len(p.Errors) == 0 || p.Errors[0].Location != tt.location {
			t.Errorf("%v: errors %+v, want one at %s", tt.body, p.Errors, tt.location)
		}
	}
	want[api.AddedStation](f, 201, "POST", "/api/v1/stations", map[string]any{"id": "a"})
	for _, body := range []any{map[string]any{}, map[string]any{"profile": 9}, map[string]any{"id": "b"}, map[string]any{"version": "3"}} {
		f.refused(422, "PATCH", "/api/v1/stations/a", body)
	}
	f.refused(404, "PATCH", "/api/v1/stations/b", map[string]any{"user": "x"})
	f.refused(422, "PUT", "/api/v1/stations/a/registration", map[string]any{"registration": "Maybe"})
	f.refused(422, "GET", "/api/v1/stations/"+strings.Repeat("a", 256), nil)
	f.refused(422, "GET", "/api/v1/stations/a%2Fb", nil)
}

// Lists are complete and without doubles whatever the size of the pages.
func TestPages(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		f := open(t, where, nil)
		const n = 430 // the authority gives 200 at a time
		for i := range n {
			id := ocpp.StationID(fmt.Sprintf("CS%04d", i))
			want[api.AddedStation](f, 201, "POST", "/api/v1/stations", map[string]any{"id": id, "no_certificate": true, "profile": 3})
			if i%3 == 0 {
				f.connected(id)
			}
		}
		for query, total := range map[string]int{"limit=1000": n, "limit=430": n, "limit=429": n, "limit=7": n, "limit=100&connected=true": 144, "limit=50&connected=false": 286, "search=cs01&limit=33": 100, "blocked=true": 0} {
			got, pages := all[api.StationView](f, "/api/v1/stations?"+query)
			if len(got) != total || !slices.IsSortedFunc(got, func(a, b api.StationView) int { return strings.Compare(string(a.ID), string(b.ID)) }) {
				t.Errorf("%s: %d stations in %d pages, want %d, sorted", query, len(got), pages, total)
			}
			for i := 1; i < len(got); i++ {
				if got[i].ID == got[i-1].ID {
					t.Errorf("%s: %s twice", query, got[i].ID)
				}
			}
		}
		first := want[api.Page[api.StationView]](f, 200, "GET", "/api/v1/stations?limit=1000", nil)
		if len(first.Items) != n || first.NextCursor != "" {
			t.Errorf("one page of 1000: %d items, next %q", len(first.Items), first.NextCursor)
		}
		entries, _ := all[store.AuditEntry](f, "/api/v1/audit?limit=99&action=station.add")
		if len(entries) != n {
			t.Errorf("%d audit entries, want %d", len(entries), n)
		}
		// Of two records, in turns.
		for i := range 300 {
			want[store.IDToken](f, 200, "PUT", fmt.Sprintf("/api/v1/id-tokens/T%d", i), map[string]any{})
			if i%2 == 0 {
				want[api.StationView](f, 200, "POST", fmt.Sprintf("/api/v1/stations/CS%04d/unblock", i), nil)
			}
		}
		for _, limit := range []int{1000, 450, 97, 13} {
			entries, _ := all[store.AuditEntry](f, fmt.Sprintf("/api/v1/audit?by=admin&limit=%d", limit))
			if len(entries) != n+450 {
				t.Errorf("%d audit entries in pages of %d, want %d", len(entries), limit, n+450)
			}
			for i := 1; i < len(entries); i++ {
				if entries[i].ID >= entries[i-1].ID {
					t.Fatalf("pages of %d: entry %d is not older than the one before", limit, i)
				}
			}
		}
	})
}

// all reads a list page by page.
func all[T any](f *fixture, path string) (items []T, pages int) {
	f.t.Helper()
	next := ""
	for {
		target := path
		if next != "" {
			target += "&cursor=" + url.QueryEscape(next)
		}
		p := want[api.Page[T]](f, http.StatusOK, "GET", target, nil)
		items = append(items, p.Items...)
		pages++
		if next = p.NextCursor; next == "" {
			return items, pages
		}
		if pages > 2000 {
			f.t.Fatalf("%s: no end after %d pages", path, pages)
		}
	}
}
