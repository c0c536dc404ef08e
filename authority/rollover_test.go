package authority

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
	"holdfast/store/storetest"
)

// verifies reports why a server's chain does not verify for who trusts anchors.
func verifies(t *testing.T, anchors string, chain string) error {
	t.Helper()
	list := certificates(t, chain)
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(anchors)) {
		t.Fatal("no anchors")
	}
	for _, c := range list[1:] {
		between.AddCert(c)
	}
	_, err := list[0].Verify(x509.VerifyOptions{DNSName: "ocpp.example.com", Roots: roots, Intermediates: between})
	return err
}

func certificates(t *testing.T, text string) []*x509.Certificate {
	t.Helper()
	list, err := pki.ParseCertificates([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// rootOnly is the PEM of a root of ours with a state.
func rootOnly(t *testing.T, f *fixture, state store.CAState) string {
	t.Helper()
	cas, err := f.CAs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cas {
		if c.Kind == "root-ecdsa" && c.State == state {
			return c.PEM
		}
	}
	t.Fatalf("no root with state %s", state)
	return ""
}

// A root is replaced, with a replica beside, and stations of each generation.
func TestRootRollover(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		dir := caDir(t)
		f, ctx := start(t, where, dir), t.Context()
		replica := start(t, where, dir)
		server := func(f *fixture) string {
			t.Helper()
			s, err := f.ServerCertificate(ctx, "gw", csrOf(t, newKey(t, pki.ECDSA), noName), []string{"ocpp.example.com"})
			if err != nil {
				t.Fatal(err)
			}
			return s.Chain
		}
		old := rootOnly(t, f, store.CAIssuing)
		first := f.add(t, NewStation{ID: "A", Profile: 3})
		before, err := f.Trust(ctx)
		if err != nil {
			t.Fatal(err)
		}

		next, err := f.PrepareRoot(ctx, "test", pki.ECDSA)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.PrepareRoot(ctx, "test", pki.ECDSA); !errors.Is(err, ErrExists) {
			t.Errorf("a second successor: %v", err)
		}
		cross := certificates(t, next.Cross.PEM)[0]
		if err := cross.CheckSignatureFrom(certificates(t, old)[0]); err != nil {
			t.Error("cross certificate:", err)
		}
		during, err := replica.Trust(ctx)
		if err != nil || len(certificates(t, during.ServerRoots)) != 3 || len(certificates(t, during.ClientRoots)) != 3 {
			t.Errorf("trust while both are there: %v", err)
		}
		if during.ServerIssuers != before.ServerIssuers || during.Generation <= before.Generation {
			t.Error("servers' issuers changed, or the generation did not")
		}
		if err := verifies(t, old, server(f)); err != nil {
			t.Error("before the switch:", err)
		}

		list, err := f.ActivateCAs(ctx, "test", next.Root.Fingerprint)
		if err != nil || len(list) != 3 {
			t.Fatalf("activated %v, %v", list, err)
		}
		for _, f := range []*fixture{f, replica} {
			chain := server(f)
			for who, anchors := range map[string]string{"old": old, "new": next.Root.PEM} {
				if err := verifies(t, anchors, chain); err != nil {
					t.Errorf("who trusts the %s root: %v", who, err)
				}
			}
		}
		after, err := f.Trust(ctx)
		if err != nil || after.ServerIssuers == before.ServerIssuers {
			t.Errorf("servers' issuers did not change: %v", err)
		}
		second, err := replica.IssueStation(ctx, "test", "A", pki.ECDSA)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(certificates(t, second.CA)); n != 3 {
			t.Errorf("ca.crt has %d roots, want 3", n)
		}
		for _, chain := range []string{first.Issued.Chain, second.Chain} {
			if d := f.admit(t, withChain("A", der(t, chain))); !d.Allowed {
				t.Error(d)
			}
		}

		// And back, and forth again.
		oldRoot := pki.Fingerprint(certificates(t, old)[0].Raw)
		for _, root := range []string{oldRoot, next.Root.Fingerprint} {
			if _, err := f.ActivateCAs(ctx, "test", root); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.RetireCA(ctx, "test", next.Root.Fingerprint, true); !isInvalid(err, "fingerprint") {
			t.Errorf("retired the root that issues: %v", err)
		}
		b := f.add(t, NewStation{ID: "B", Profile: 3}) // of the new CA
		if _, err := f.ActivateCAs(ctx, "test", oldRoot); err != nil {
			t.Fatal(err)
		}
		f.add(t, NewStation{ID: "C", Profile: 3}) // of the old one
		if _, err := f.ActivateCAs(ctx, "test", next.Root.Fingerprint); err != nil {
			t.Fatal(err)
		}
		if _, err := f.RetireCA(ctx, "test", oldRoot, false); !isInvalid(err, "fingerprint") || !strings.Contains(err.Error(), "1 active") {
			t.Errorf("retired a root whose certificates are in use: %v", err)
		}
		gone, err := f.RetireCA(ctx, "test", oldRoot, true)
		if err != nil || len(gone) != 4 {
			t.Errorf("retired %d, %v; want root, two CAs and the cross certificate", len(gone), err)
		}
		chain := server(replica)
		if len(certificates(t, chain)) != 2 || verifies(t, next.Root.PEM, chain) != nil || verifies(t, old, chain) == nil {
			t.Error("chain after the old root retired")
		}
		for id, tt := range map[ocpp.StationID]struct {
			chain string
			want  ocpp.Reason
		}{"A": {first.Issued.Chain, ocpp.ReasonUnknownCA}, "B": {b.Issued.Chain, ocpp.ReasonAdmitted}} {
			if d := replica.admit(t, withChain(id, der(t, tt.chain))); d.Reason != tt.want {
				t.Errorf("station %s: %+v, want %s", id, d, tt.want)
			}
		}
		if _, err := f.ActivateCAs(ctx, "test", oldRoot); !errors.Is(err, ErrNotFound) {
			t.Errorf("activated a retired root: %v", err)
		}
		// All of it survives a restart.
		again := start(t, where, dir)
		if err := verifies(t, next.Root.PEM, server(again)); err != nil {
			t.Error("after a restart:", err)
		}
		audit, err := f.Audit(ctx, store.AuditFilter{}, store.Page{})
		if err != nil || !slices.ContainsFunc(audit.Items, func(e store.AuditEntry) bool { return e.Action == "ca.retire" && e.By == "test" }) {
			t.Errorf("audit record: %v", err)
		}
	})
}

// elsewhere is a root that is not here.
func elsewhere(t *testing.T, algorithm pki.Algorithm) *pki.CA {
	t.Helper()
	root, err := pki.NewRoot(pki.Root, pki.Subject{CommonName: "Offline Root", Organization: operator}, newKey(t, algorithm), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func certify(t *testing.T, root *pki.CA, csr string) string {
	t.Helper()
	r, err := pki.ParseCSR([]byte(csr))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := root.Issue(pki.StationCA, pki.Subject{CommonName: r.Subject.CommonName, Organization: operator}, r.PublicKey, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return pki.EncodeCertificates(cert)
}

// One root elsewhere, with a CA between, certifies all CAs before the first start.
func TestOfflineRootBeforeFirstStart(t *testing.T) {
	where, dir, ctx := storetest.SQLite(t), t.TempDir(), context.Background()
	root := elsewhere(t, pki.ECDSA)
	key := newKey(t, pki.ECDSA)
	profile := pki.StationCA
	profile.PathLen = 1
	policy, err := root.Issue(profile, pki.Subject{CommonName: "Policy CA", Organization: operator}, key.Public(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	between := &pki.CA{Cert: policy, Key: key}
	cfg := Config{Dir: dir, Operator: operator, Passphrase: []byte("secret")}
	for _, role := range []string{roleStation, roleServer} {
		for _, algorithm := range pki.Algorithms {
			r, err := RequestCAOffline(cfg, role, algorithm)
			if err != nil {
				t.Fatal(err)
			}
			if again, err := RequestCAOffline(cfg, role, algorithm); err != nil || again.CSR != r.CSR {
				t.Errorf("asked again: another request (%v)", err)
			}
			if strings.Contains(r.CSR, "PRIVATE") {
				t.Error("the request holds the key")
			}
			text := certify(t, between, r.CSR) + pki.EncodeCertificates(policy, root.Cert)
			if _, err := ImportSignedOffline(cfg, certify(t, between, r.CSR)); !isInvalid(err, "pem") && role == roleStation && algorithm == pki.ECDSA {
				t.Errorf("without its root: %v", err)
			}
			if _, err := ImportSignedOffline(cfg, text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := open(t, where, dir); err == nil || !strings.Contains(err.Error(), "passphrase") {
		t.Errorf("opened without the passphrase: %v", err)
	}
	s := openStore(t, where)
	a, err := Open(ctx, Config{Store: s, Dir: dir, Operator: operator, Passphrase: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	trust, err := a.Trust(ctx)
	if err != nil || len(certificates(t, trust.ServerRoots)) != 1 || !certificates(t, trust.ServerRoots)[0].Equal(root.Cert) {
		t.Fatalf("servers' roots are %q, %v", trust.ServerRoots, err)
	}
	for _, algorithm := range pki.Algorithms {
		signed, err := a.ServerCertificate(ctx, "gw", csrOf(t, newKey(t, algorithm), noName), []string{"ocpp.example.com"})
		if err != nil {
			t.Fatal(err)
		}
		if err := verifies(t, trust.ServerRoots, signed.Chain); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
	if _, err := a.PrepareRoot(ctx, "test", pki.ECDSA); err != nil { // without the old root's key: no cross certificate
		t.Error(err)
	}
}

// A CA of a root elsewhere takes over from the one that was made here.
func TestOfflineRootLater(t *testing.T) {
	where, dir, ctx := storetest.SQLite(t), caDir(t), t.Context()
	f := start(t, where, dir)
	root := elsewhere(t, pki.RSA)
	r, err := f.RequestCA(ctx, "test", roleServer, pki.ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	old, err := f.Trust(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"nothing":        "x",
		"no root":        certify(t, root, r.CSR),
		"root alone":     pki.EncodeCertificates(certificates(t, old.ServerRoots)[0]),
		"another's":      certify(t, root, csrOf(t, newKey(t, pki.ECDSA), pkix.Name{CommonName: "X"})) + pki.EncodeCertificates(root.Cert),
		"not of a CA":    f.add(t, NewStation{ID: "A", Profile: 3}).Issued.Chain,
		"another's root": certify(t, root, r.CSR) + pki.EncodeCertificates(elsewhere(t, pki.ECDSA).Cert),
	} {
		if _, err := f.ImportSigned(ctx, "test", text); !isInvalid(err, "pem") {
			t.Errorf("%s: %v", name, err)
		}
	}
	added, err := f.ImportSigned(ctx, "test", certify(t, root, r.CSR)+pki.EncodeCertificates(root.Cert))
	if err != nil || len(added) != 2 {
		t.Fatalf("imported %+v, %v", added, err)
	}
	during, err := f.Trust(ctx)
	if err != nil || len(certificates(t, during.ServerRoots)) != 3 || during.ServerIssuers != old.ServerIssuers {
		t.Errorf("before it issues: %v", err)
	}
	server := added[slices.IndexFunc(added, func(c store.CA) bool { return c.Kind == "server-ecdsa" })]
	if _, err := f.ActivateCAs(ctx, "test", server.Fingerprint); err != nil {
		t.Fatal(err)
	}
	signed, err := f.ServerCertificate(ctx, "gw", csrOf(t, newKey(t, pki.ECDSA), noName), []string{"ocpp.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if err := verifies(t, pki.EncodeCertificates(root.Cert), signed.Chain); err != nil {
		t.Error(err)
	}
	again := start(t, where, dir)
	after, err := again.Trust(ctx)
	if now, _ := f.Trust(ctx); err != nil || after.ServerIssuers != now.ServerIssuers {
		t.Errorf("a restart changed who issues: %v", err)
	}
}

func openStore(t *testing.T, where string) *store.Authority {
	t.Helper()
	s, err := store.OpenAuthority(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
