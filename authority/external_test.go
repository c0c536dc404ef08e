package authority

import (
	"bufio"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"holdfast/est"
	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
	"holdfast/store/storetest"
)

// estServer is a CA with an EST server by others, in a process of its own.
type estServer struct{ address, dir string }

func startEST(t *testing.T) estServer {
	t.Helper()
	x := estServer{dir: t.TempDir()}
	binary := filepath.Join(x.dir, "estserver")
	if out, err := exec.Command("go", "build", "-C", "../e2e/estserver", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build the EST server: %v\n%s", err, out)
	}
	cmd := exec.Command(binary, "-dir", x.dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	x.address = strings.TrimSpace(strings.TrimPrefix(line, "ready "))
	return x
}

func (x estServer) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(x.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// ca is an authority's way to the CA with a label.
func (x estServer) ca(t *testing.T, a *Authority, label string) *externalCA {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(x.read(t, "root.crt")))
	c, err := est.New(est.Config{URL: "https://" + x.address + "/.well-known/est/" + label, Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	a.cfg.EST = c
	return newExternalCA(a)
}

// A CA elsewhere, through an EST server by others: what it issues is used only if
// it is what was asked for.
func TestExternalCA(t *testing.T) {
	x := startEST(t)
	a := sqlite(t)
	ctx := t.Context()
	key := newKey(t, pki.ECDSA)
	csr := csrOf(t, key, pkix.Name{CommonName: "CS-1", Organization: []string{operator}})
	a.add(t, NewStation{ID: "CS-1", Profile: ocpp.ProfileMTLS, NoCertificate: true})

	a.stationCA = x.ca(t, a.Authority, "stations")
	_, err := a.SignCSR(ctx, "test", "CS-1", csr)
	if e, ok := errors.AsType[*ExternalCAError](err); !ok || e.Kind != externalWrong || !strings.Contains(err.Error(), "holdfast cert trust") {
		t.Fatalf("before the CA is trusted: %v", err)
	}
	if found, err := a.ExternalCA(ctx); err != nil || len(found.CAs) != 2 || found.CAs[0].Trusted {
		t.Errorf("%+v, %v", found, err)
	}
	// Only the root: its name would be found, but not that of the CA that signs.
	if _, err := a.ImportCA(ctx, "test", x.read(t, "root.crt")); err != nil {
		t.Fatal(err)
	}
	if _, err = a.SignCSR(ctx, "test", "CS-1", csr); err == nil {
		t.Fatal("issued below a CA that is not trusted")
	}
	if _, err := a.ImportCA(ctx, "test", x.read(t, "issuing.crt")); err != nil {
		t.Fatal(err)
	}
	for label, says := range map[string]string{
		"other-key":    "another key",
		"other-serial": `"SOMEBODY-ELSE"`,
		"other-owner":  `"Somebody Else"`,
		"sub-ca":       "of a CA",
		"server-only":  "extended key usage",
		"expired":      "valid until",
		"future":       "valid from",
		"other-ca":     "does not chain",
		"refusing":     "no certificates on Thursdays",
		"broken":       "database away",
		"no-such":      "404",
	} {
		a.stationCA = x.ca(t, a.Authority, label)
		_, err := a.SignCSR(ctx, "test", "CS-1", csr)
		if e, ok := errors.AsType[*ExternalCAError](err); !ok || !strings.Contains(e.Problem, says) || e.Fix == "" || (e.RetryAfter > 0) != (label == "broken") {
			t.Errorf("%s: %v", label, err)
		}
	}
	if l, err := a.Certificates(ctx, store.CertificateFilter{Kind: store.KindStation}, store.Page{Limit: 10}); err != nil || len(l.Items) != 0 {
		t.Errorf("in the inventory: %+v, %v", l.Items, err)
	}

	// One that wants to be asked later gets the same request again; a key that was
	// made here would be lost by then.
	a.stationCA = x.ca(t, a.Authority, "patient")
	_, err = a.SignCSR(ctx, "test", "CS-1", csr)
	if e, ok := errors.AsType[*ExternalCAError](err); !ok || e.Kind != est.Pending || e.RetryAfter != time.Minute {
		t.Errorf("to be approved: %v", err)
	}
	signed, err := a.SignCSR(ctx, "test", "CS-1", csr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.AddStation(ctx, "test", NewStation{ID: "CS-2", Profile: ocpp.ProfileMTLS}); err == nil || !strings.Contains(err.Error(), "cert sign") {
		t.Errorf("key made here, to be approved: %v", err)
	}
	if c := signed.Certificate; !c.Issued || c.ExternalCA != a.stationCA.address() || !strings.Contains(c.Issuer, "Elsewhere Issuing CA") {
		t.Errorf("recorded: %+v", c)
	}
	chain, err := pki.ParseCertificates([]byte(signed.Chain))
	if err != nil || len(chain) != 2 || chain[1].Subject.CommonName != "Elsewhere Issuing CA" {
		t.Fatalf("chain: %v, %v", chain, err)
	}
	if again, err := a.SignCSR(ctx, "test", "CS-1", csr); err != nil || again.Certificate.Fingerprint != signed.Certificate.Fingerprint {
		t.Errorf("the same request again: %+v, %v", again, err)
	}
	certificate := withChain("CS-1", der(t, signed.Chain))
	if d := a.admit(t, certificate); d.Reason != ocpp.ReasonAdmitted {
		t.Fatalf("%+v", d)
	}
	for result, want := range map[string]float64{"issued": 1, "pending": 2, "wrong_certificate": 10, "refused": 1, "unavailable": 1, "bad_answer": 1} {
		if n := testutil.ToFloat64(a.metrics.external.WithLabelValues(result)); n != want {
			t.Errorf("metric %s: %v, want %v", result, n, want)
		}
	}
	// Over the bus, too, what went wrong can be told apart.
	a.stationCA = x.ca(t, a.Authority, "broken")
	_, err = client(a).IssueStation(ctx, "test", "CS-1", pki.ECDSA)
	if e, ok := errors.AsType[*ExternalCAError](err); !ok || e.Kind != est.Unavailable || e.RetryAfter == 0 {
		t.Errorf("over the bus: %v", err)
	}
	if _, err := a.RevokeCertificate(ctx, "test", signed.Certificate.Serial, "key_compromise"); err != nil {
		t.Fatal(err)
	}
	if d := a.admit(t, certificate); d.Reason != ocpp.ReasonRevoked {
		t.Errorf("revoked: %+v", d)
	}
}

// Replicas that are asked for a certificate of one key at once have the external CA
// make one. A replica that died while it asked keeps nobody from it for long.
func TestExternalCARace(t *testing.T) {
	x := startEST(t)
	where, dir := storetest.Postgres(t), t.TempDir()
	f := [2]*fixture{start(t, where, dir), start(t, where, dir)}
	for _, name := range []string{"root.crt", "issuing.crt"} {
		if _, err := f[0].ImportCA(t.Context(), "test", x.read(t, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range f {
		a.stationCA = x.ca(t, a.Authority, "stations")
	}
	const stations, each = 4, 10
	var wg sync.WaitGroup
	var mu sync.Mutex
	prints := make(map[string]bool)
	for i := range stations {
		id := ocpp.StationID(fmt.Sprintf("CS-%d", i))
		f[0].add(t, NewStation{ID: id, Profile: ocpp.ProfileMTLS, NoCertificate: true})
		key := newKey(t, pki.ECDSA)
		csr := csrOf(t, key, pkix.Name{CommonName: string(id), Organization: []string{operator}})
		if i == 0 { // a claim of one that died
			parsed, err := pki.ParseCSR([]byte(csr))
			if err != nil {
				t.Fatal(err)
			}
			now := f[0].now()
			if claimed, err := f[0].store.ClaimKey(t.Context(), pki.KeyFingerprint(parsed.RawSubjectPublicKeyInfo), "dead", now.Add(-claimTime), now.Add(2*time.Second)); err != nil || !claimed {
				t.Fatalf("%t, %v", claimed, err)
			}
			f[0].advance(2 * time.Second)
			f[1].advance(2 * time.Second)
		}
		for n := range each {
			wg.Go(func() {
				s, err := f[n%2].SignCSR(t.Context(), "test", id, csr)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				prints[s.Certificate.Fingerprint] = true
				mu.Unlock()
			})
		}
	}
	wg.Wait()
	issued := 0.0
	for _, a := range f {
		issued += testutil.ToFloat64(a.metrics.external.WithLabelValues(externalIssued))
	}
	l, err := f[0].Audit(t.Context(), store.AuditFilter{Action: "certificate.sign"}, store.Page{})
	if issued != stations || len(prints) != stations || err != nil || len(l.Items) != stations {
		t.Errorf("%v certificates made, %d handed out, %d audit lines, want %d each (%v)", issued, len(prints), len(l.Items), stations, err)
	}
}

// What an external CA issued on our request is revoked by that CA's list, whether
// the list or the certificate was first.
func TestExternalCAList(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		st := openStore(t, where)
		now := time.Now()
		ca := store.CA{Fingerprint: "f1", Kind: store.KindImported, Subject: "CN=Elsewhere", NotAfter: now.Add(time.Hour), Created: now, PEM: "-"}
		if _, _, err := st.AddCAs(t.Context(), []store.CA{ca}, func(store.CA) store.AuditEntry { return store.AuditEntry{} }); err != nil {
			t.Fatal(err)
		}
		if err := st.AddStation(t.Context(), store.StationRecord{Station: store.Station{ID: "CS-1", Serial: "CS-1", Profile: 3, Created: now}}, nil, store.AuditEntry{}); err != nil {
			t.Fatal(err)
		}
		add := func(serial, external string) {
			t.Helper()
			c := store.Certificate{Fingerprint: "c" + serial, Serial: serial, Issuer: "CN=Elsewhere", IssuerKey: "aa", Kind: store.KindStation, Station: "CS-1", Issued: true,
				ExternalCA: external, NotBefore: now, NotAfter: now.Add(time.Hour), Created: now, Status: store.StatusActive, PublicKey: "k" + serial, PEM: "-"}
			if _, err := st.AddCertificate(t.Context(), c, store.AuditEntry{}); err != nil {
				t.Fatal(err)
			}
		}
		add("01", "https://elsewhere")
		add("02", "")
		entries := []store.CRLEntry{{Serial: "01", Reason: "superseded", At: now}, {Serial: "02", Reason: "superseded", At: now}, {Serial: "03", Reason: "superseded", At: now}}
		if _, _, err := st.SetCRL(t.Context(), store.CRL{ThisUpdate: now}, store.ImportedIssuer{Fingerprint: "f1", Name: "CN=Elsewhere", Key: "aa"}, entries, store.AuditEntry{}); err != nil {
			t.Fatal(err)
		}
		add("03", "https://elsewhere")
		for serial, want := range map[string]store.CertificateStatus{"01": store.StatusRevoked, "02": store.StatusActive, "03": store.StatusRevoked} {
			list, err := st.FindCertificates(t.Context(), serial)
			if err != nil || len(list) != 1 || list[0].Status != want {
				t.Errorf("serial %s: %+v, %v, want %s", serial, list, err, want)
			}
		}
	})
}
