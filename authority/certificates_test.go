package authority

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
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

func TestSignCSR(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		f := start(t, where, caDir(t))
		ctx := t.Context()
		first := f.add(t, NewStation{ID: "CS1", Serial: "SN1", Profile: 3})
		key := newKey(t, pki.ECDSA)
		csr := csrOf(t, key, pkix.Name{CommonName: "SN1", Organization: []string{operator}})
		signed, err := f.SignCSR(ctx, "CS1", "cs1", csr)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(der(t, signed.Chain)); n != 2 {
			t.Errorf("chain of %d certificates, want leaf and issuing CA", n)
		}
		again, err := f.SignCSR(ctx, "CS1", "CS1", csrOf(t, key, pkix.Name{CommonName: "SN1"}))
		if err != nil || again.Certificate.Fingerprint != signed.Certificate.Fingerprint {
			t.Errorf("second request for one key: another certificate (%v)", err)
		}
		// The first success with the new one supersedes the old one, which stays good.
		old, fresh := withChain("CS1", der(t, first.Issued.Chain)), withChain("CS1", der(t, signed.Chain))
		for _, c := range []ocpp.Credentials{old, fresh, old, fresh} {
			if d := f.admit(t, c); !d.Allowed {
				t.Error(d)
			}
		}
		status := func(serial string) store.CertificateStatus {
			c, err := f.Certificate(ctx, serial)
			if err != nil {
				t.Fatal(err)
			}
			return c.Status
		}
		if status(first.Issued.Certificate.Serial) != store.StatusSuperseded || status(signed.Certificate.Serial) != store.StatusActive {
			t.Error("the old certificate is not superseded, or the new one not active")
		}
		// Late in its life, the same key gets a new one.
		f.advance(f.cfg.StationLifetime * 3 / 4)
		renewed, err := f.SignCSR(ctx, "CS1", "CS1", csr)
		if err != nil || renewed.Certificate.Fingerprint == signed.Certificate.Fingerprint {
			t.Errorf("late request: the same certificate (%v)", err)
		}
		// A compromised key is never certified again.
		if _, err := f.RevokeCertificate(ctx, "test", renewed.Certificate.Fingerprint, "key_compromise"); err != nil {
			t.Fatal(err)
		}
		if _, err := f.SignCSR(ctx, "CS1", "CS1", csr); !isInvalid(err, "csr") {
			t.Errorf("compromised key: %v", err)
		}
		for name, csr := range map[string]string{
			"other CN": csrOf(t, key, pkix.Name{CommonName: "SN2"}), "other O": csrOf(t, key, pkix.Name{CommonName: "SN1", Organization: []string{"X"}}), "none": "x",
		} {
			if _, err := f.SignCSR(ctx, "CS1", "CS1", csr); !isInvalid(err, "csr") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := f.SignCSR(ctx, "x", "nobody", csr); !errors.Is(err, ErrNotFound) {
			t.Errorf("no such station: %v", err)
		}
		l, err := f.Certificates(ctx, store.CertificateFilter{Station: "CS1"}, store.Page{Limit: 2})
		if err != nil || len(l.Items) != 2 || l.Next == "" || l.Items[0].Fingerprint != renewed.Certificate.Fingerprint || l.Items[0].PEM != "" {
			t.Errorf("list %+v, %v", l, err)
		}
		l, err = f.Certificates(ctx, store.CertificateFilter{Status: store.StatusRevoked, Kind: store.KindStation}, store.Page{})
		if err != nil || len(l.Items) != 1 {
			t.Errorf("revoked: %+v, %v", l, err)
		}
		l, err = f.Certificates(ctx, store.CertificateFilter{ExpiresBefore: f.now().Add(f.cfg.StationLifetime / 2), ExpiresAfter: f.now()}, store.Page{})
		if err != nil || len(l.Items) != 2 {
			t.Errorf("expiring: %d, %v", len(l.Items), err)
		}
	})
}

func isInvalid(err error, field string) bool {
	e, ok := errors.AsType[*InvalidError](err)
	return ok && e.Field == field
}

// Two replicas that are asked at once sign one certificate.
func TestReplicasRace(t *testing.T) {
	where, dir := storetest.Postgres(t), t.TempDir()
	f := [2]*fixture{start(t, where, dir), start(t, where, dir)} // which also share what the first made
	f[0].add(t, NewStation{ID: "CS1", Profile: 3})
	key := newKey(t, pki.ECDSA)
	var wg sync.WaitGroup
	var mu sync.Mutex
	prints := map[string]int{}
	for i := range 20 {
		csr := csrOf(t, key, pkix.Name{CommonName: "CS1"})
		wg.Go(func() {
			s, err := f[i%2].SignCSR(t.Context(), "CS1", "CS1", csr)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			prints[s.Certificate.Fingerprint]++
			mu.Unlock()
		})
	}
	wg.Wait()
	l, err := f[0].Audit(t.Context(), store.AuditFilter{Action: "certificate.sign"}, store.Page{})
	if len(prints) != 1 || err != nil || len(l.Items) != 1 {
		t.Errorf("%d certificates, %d audit lines, %v", len(prints), len(l.Items), err)
	}
	// What one replica issues and revokes, the other knows.
	s, err := f[1].IssueStation(t.Context(), "test", "CS1", "")
	if err != nil {
		t.Fatal(err)
	}
	c := withChain("CS1", der(t, s.Chain))
	if d := f[0].admit(t, c); !d.Allowed {
		t.Error(d)
	}
	if _, err := f[1].RevokeCertificate(t.Context(), "test", s.Certificate.Serial, ""); err != nil {
		t.Fatal(err)
	}
	if d := f[0].admit(t, c); d.Reason != ocpp.ReasonRevoked {
		t.Error(d)
	}
	// Passwords rotate on one and confirm on the other.
	password := f[0].add(t, NewStation{ID: "CS2"}).Password
	r, err := f[1].RotatePassword(t.Context(), "test", "CS2", "")
	if err != nil {
		t.Fatal(err)
	}
	for i, tt := range []struct {
		password string
		ok       bool
	}{{password, true}, {r.Password, true}, {password, false}, {r.Password, true}} {
		if d := f[i%2].admit(t, withBasic("CS2", tt.password)); d.Allowed != tt.ok {
			t.Errorf("%d: %+v", i, d)
		}
	}
}

func TestRevocationReachesGateways(t *testing.T) {
	f := sqlite(t)
	ctx := t.Context()
	added := f.add(t, NewStation{ID: "CS1", Profile: 3})
	before, err := f.Trust(ctx)
	if err != nil || len(before.Revoked) != 0 {
		t.Fatalf("%+v, %v", before.Revoked, err)
	}
	f.seen()
	serial := strings.ToUpper(added.Issued.Certificate.Serial)
	c, err := f.RevokeCertificate(ctx, "test", "00:"+serial, "Superseded")
	if err != nil || c.Status != store.StatusRevoked || c.Reason != "superseded" || c.RevokedAt.IsZero() {
		t.Fatalf("%+v, %v", c, err)
	}
	after, err := f.Trust(ctx)
	if err != nil || after.Generation <= before.Generation || len(after.Revoked) != 1 || after.Revoked[0] != c.Fingerprint {
		t.Errorf("%+v, %v", after, err)
	}
	changes := f.seen()
	if len(changes) != 1 || changes[0].Kind != ChangeCertificate || !changes[0].Drop || changes[0].Station != "CS1" || changes[0].Fingerprint != c.Fingerprint || changes[0].Generation != after.Generation {
		t.Errorf("%+v", changes)
	}
	if again, err := f.RevokeCertificate(ctx, "test", serial, "key_compromise"); err != nil || again.Reason != "superseded" {
		t.Errorf("revoked twice: %+v, %v", again, err)
	}
	if _, err := f.RevokeCertificate(ctx, "test", serial, "bored"); !isInvalid(err, "reason") {
		t.Errorf("reason: %v", err)
	}
	if _, err := f.RevokeCertificate(ctx, "test", "123", ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("no certificate: %v", err)
	}
	// Removing a station revokes what it was issued.
	second := f.add(t, NewStation{ID: "CS2", Profile: 3})
	if err := f.RemoveStation(ctx, "test", "CS2"); err != nil {
		t.Fatal(err)
	}
	if c, err := f.Certificate(ctx, second.Issued.Certificate.Fingerprint); err != nil || c.Status != store.StatusRevoked {
		t.Errorf("%+v, %v", c, err)
	}
	if changes := f.seen(); !changes[len(changes)-1].Drop || changes[len(changes)-1].Kind != ChangeRemoved {
		t.Errorf("%+v", changes)
	}
	f.add(t, NewStation{ID: "CS2", Profile: 3})
	if d := f.admit(t, withChain("CS2", der(t, second.Issued.Chain))); d.Reason != ocpp.ReasonRevoked {
		t.Errorf("the removed station's certificate: %+v", d)
	}
	// Blocking ends connections, unblocking lets the station in again.
	f.seen()
	if _, err := f.BlockStation(ctx, "test", "CS2", ""); err != nil {
		t.Fatal(err)
	}
	if changes := f.seen(); len(changes) != 1 || changes[0].Kind != ChangeBlocked || !changes[0].Drop {
		t.Errorf("%+v", changes)
	}
	if s, err := f.UnblockStation(ctx, "test", "cs2"); err != nil || s.Blocked {
		t.Errorf("%+v, %v", s, err)
	}
	// An expired one need not be listed.
	f.advance(f.cfg.StationLifetime + time.Hour)
	if trust, err := f.Trust(ctx); err != nil || len(trust.Revoked) != 0 {
		t.Errorf("%d revoked, %v", len(trust.Revoked), err)
	}
}

// openssl runs it in dir and skips the test where it is not installed.
func openssl(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestOpenSSLVerifies(t *testing.T) {
	f := sqlite(t)
	for _, algorithm := range pki.Algorithms {
		t.Run(string(algorithm), func(t *testing.T) {
			dir := t.TempDir()
			write := func(name, text string) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			issued := f.add(t, NewStation{ID: ocpp.StationID("CS-" + algorithm), Profile: 3, Algorithm: algorithm}).Issued
			write("station.crt", issued.Chain)
			write("station.key", issued.Key)
			write("ca.crt", issued.CA)
			server, err := f.ServerCertificate(t.Context(), "test", csrOf(t, newKey(t, algorithm), pkix.Name{}), []string{"ocpp.example.com", "127.0.0.1"})
			if err != nil {
				t.Fatal(err)
			}
			write("server.crt", server.Chain)
			for _, args := range []string{
				"verify -x509_strict -purpose sslclient -CAfile ca.crt -untrusted station.crt station.crt",
				"verify -x509_strict -purpose sslserver -verify_hostname ocpp.example.com -CAfile ca.crt -untrusted server.crt server.crt",
				"pkey -in station.key -check -noout",
			} {
				if out, err := openssl(t, dir, strings.Fields(args)...); err != nil {
					t.Errorf("openssl %s: %v\n%s", args, err, out)
				}
			}
			lists := func(name string) {
				text, err := revocationLists(t, f.Authority)
				if err != nil {
					t.Fatal(err)
				}
				write(name, text)
			}
			lists("before.crl")
			check := func(crl string) (string, error) {
				return openssl(t, dir, "verify", "-crl_check", "-CRLfile", crl, "-CAfile", "ca.crt", "-untrusted", "station.crt", "station.crt")
			}
			if out, err := check("before.crl"); err != nil {
				t.Errorf("before it was revoked: %v\n%s", err, out)
			}
			if _, err := f.RevokeCertificate(t.Context(), "test", issued.Certificate.Serial, "key_compromise"); err != nil {
				t.Fatal(err)
			}
			lists("after.crl")
			if out, err := check("after.crl"); err == nil || !strings.Contains(out, "revoked") {
				t.Errorf("after it was revoked: %v\n%s", err, out)
			}
		})
	}
}

func TestServerCertificateNames(t *testing.T) {
	f := sqlite(t)
	csr := csrOf(t, newKey(t, pki.ECDSA), pkix.Name{CommonName: "evil.example"})
	s, err := f.ServerCertificate(t.Context(), "gw", csr, []string{"a.example", "::1"})
	if err != nil || strings.Contains(s.Certificate.Subject, "evil") {
		t.Errorf("%+v, %v", s.Certificate.Subject, err)
	}
	if life := time.Until(s.Certificate.NotAfter); life > 24*time.Hour {
		t.Errorf("lives %s", life)
	}
	for _, names := range [][]string{nil, {"*.example"}, make([]string, maxServerNames+1)} {
		if _, err := f.ServerCertificate(t.Context(), "gw", csr, names); !isInvalid(err, "names") {
			t.Errorf("%d names: %v", len(names), err)
		}
	}
}

// A station over real TLS: the suites that OCPP demands, TLS 1.3, without SNI.
func TestOverTLS(t *testing.T) {
	f := sqlite(t)
	trust, err := f.Trust(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	clients, servers := x509.NewCertPool(), x509.NewCertPool()
	clients.AppendCertsFromPEM([]byte(trust.ClientRoots))
	servers.AppendCertsFromPEM([]byte(trust.ServerRoots))
	config := &tls.Config{ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert, CipherSuites: []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
	}}
	// Without extended key usage, as OCPP has it, Go must be told that any will do.
	config.ClientAuth = tls.RequireAnyClientCert
	config.VerifyConnection = func(s tls.ConnectionState) error {
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: clients, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return err
	}
	for _, algorithm := range pki.Algorithms {
		key := newKey(t, algorithm)
		s, err := f.ServerCertificate(t.Context(), "gw", csrOf(t, key, pkix.Name{}), []string{"127.0.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = append(config.Certificates, tls.Certificate{Certificate: der(t, s.Chain), PrivateKey: key})
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, algorithm := range pki.Algorithms {
		id := ocpp.StationID("CS-" + algorithm)
		issued := f.add(t, NewStation{ID: id, Profile: 3, Algorithm: algorithm}).Issued
		pair, err := tls.X509KeyPair([]byte(issued.Chain), []byte(issued.Key))
		if err != nil {
			t.Fatal(err)
		}
		for _, suite := range append(config.CipherSuites, 0) { // 0: TLS 1.3
			client := &tls.Config{RootCAs: servers, Certificates: []tls.Certificate{pair}, ServerName: "127.0.0.1", MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite}}
			if suite == 0 {
				client.MaxVersion, client.CipherSuites = tls.VersionTLS13, nil
			}
			name := fmt.Sprintf("%s with %s", id, tls.CipherSuiteName(suite))
			var wg sync.WaitGroup
			wg.Go(func() {
				c, err := tls.Dial("tcp", listener.Addr().String(), client)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				c.Read(make([]byte, 1)) // until the server closes
				c.Close()
			})
			raw, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			conn := raw.(*tls.Conn)
			if err := conn.HandshakeContext(t.Context()); err != nil {
				t.Errorf("%s: %v", name, err)
			} else {
				var chain [][]byte
				for _, c := range conn.ConnectionState().PeerCertificates {
					chain = append(chain, c.Raw)
				}
				addr := raw.RemoteAddr().(*net.TCPAddr).AddrPort()
				if d := f.admit(t, ocpp.Credentials{Station: id, Profile: 3, Chain: chain, Remote: addr}); !d.Allowed {
					t.Errorf("%s: %+v", name, d)
				}
				if d := f.admit(t, ocpp.Credentials{Station: id + "x", Profile: 3, Chain: chain, Remote: addr}); d.Allowed {
					t.Errorf("%s: admitted as another", name)
				}
			}
			conn.Close()
			wg.Wait()
		}
	}
}
