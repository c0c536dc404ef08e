package authority

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
	"holdfast/store/storetest"
)

// revocationLists are those of both station CAs, as PEM.
func revocationLists(t *testing.T, a *Authority) (string, error) {
	t.Helper()
	var text string
	for _, algorithm := range pki.Algorithms {
		der, _, err := a.CRL(t.Context(), "station-"+string(algorithm))
		if err != nil {
			return "", err
		}
		text += pki.EncodeCRL(der)
	}
	return text, nil
}

// publisher is an authority whose certificates name where it publishes.
func publisher(t *testing.T) (*fixture, *httptest.Server) {
	t.Helper()
	f := sqlite(t)
	server := httptest.NewServer(f.Published())
	t.Cleanup(server.Close)
	f.cfg.PublicURL = server.URL + "/"
	f.cas = nil // read them again
	return f, server
}

func fetch(t *testing.T, url string) (int, http.Header, []byte) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, r.Header, body
}

// OpenSSL verifies with what the certificate itself names: the issuer, the
// revocation list and the OCSP responder.
func TestOpenSSLAsksWhatIsPublished(t *testing.T) {
	f, _ := publisher(t)
	for _, algorithm := range pki.Algorithms {
		t.Run(string(algorithm), func(t *testing.T) {
			dir := t.TempDir()
			issued := f.add(t, NewStation{ID: ocpp.StationID("CS-" + algorithm), Profile: 3, Algorithm: algorithm}).Issued
			leaf := certificates(t, issued.Chain)[0]
			if len(leaf.CRLDistributionPoints) != 1 || len(leaf.OCSPServer) != 1 || len(leaf.IssuingCertificateURL) != 1 {
				t.Fatalf("names %q, %q, %q", leaf.CRLDistributionPoints, leaf.OCSPServer, leaf.IssuingCertificateURL)
			}
			write := func(name, text string) {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, _, ca := fetch(t, leaf.IssuingCertificateURL[0])
			issuer, err := x509.ParseCertificate(ca)
			if err != nil || leaf.CheckSignatureFrom(issuer) != nil {
				t.Fatalf("the issuer that it names: %v", err)
			}
			write("leaf.crt", pki.EncodeCertificates(leaf))
			write("issuer.crt", pki.EncodeCertificates(issuer))
			write("ca.crt", issued.CA)
			ask := func(want ...string) {
				t.Helper()
				_, header, crl := fetch(t, leaf.CRLDistributionPoints[0])
				write("list.crl", pki.EncodeCRL(crl))
				if header.Get("Content-Type") != "application/pkix-crl" || !strings.Contains(header.Get("Cache-Control"), "max-age=") {
					t.Errorf("headers of the list: %v", header)
				}
				if out, err := openssl(t, dir, "crl", "-in", "list.crl", "-CAfile", "issuer.crt", "-noout"); err != nil || !strings.Contains(out, "verify OK") {
					t.Errorf("openssl crl: %v\n%s", err, out)
				}
				out, err := openssl(t, dir, "verify", "-crl_check", "-CRLfile", "list.crl", "-CAfile", "ca.crt", "-untrusted", "issuer.crt", "leaf.crt")
				if (err == nil) != (want[0] == "good") {
					t.Errorf("openssl verify: %v\n%s", err, out)
				}
				for _, hash := range []string{"-sha1", "-sha256"} {
					out, err := openssl(t, dir, "ocsp", "-issuer", "issuer.crt", hash, "-cert", "leaf.crt", "-url", leaf.OCSPServer[0], "-CAfile", "ca.crt", "-verify_other", "issuer.crt", "-no_nonce")
					if err != nil || !strings.Contains(out, "Response verify OK") {
						t.Errorf("openssl ocsp: %v\n%s", err, out)
					}
					for _, word := range want {
						if !strings.Contains(out, word) {
							t.Errorf("openssl ocsp %s: lacks %q\n%s", hash, word, out)
						}
					}
				}
			}
			ask("good", "Next Update")
			if _, err := f.RevokeCertificate(t.Context(), "test", issued.Certificate.Serial, "key_compromise"); err != nil {
				t.Fatal(err)
			}
			ask("revoked", "keyCompromise")
		})
	}
}

func TestOCSP(t *testing.T) {
	f, server := publisher(t)
	issued := f.add(t, NewStation{ID: "A", Profile: 3}).Issued
	chain := certificates(t, issued.Chain)
	issuer := chain[1]
	question := func(issuer *x509.Certificate, serial *big.Int) []byte {
		der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: serial}, issuer, &ocsp.RequestOptions{Hash: crypto.SHA256})
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	root := f.cas.issuing[caName{roleRoot, pki.ECDSA}].Cert
	foreign := elsewhere(t, pki.ECDSA)
	good := question(issuer, chain[0].SerialNumber)
	for _, tt := range []struct {
		name    string
		request []byte
		issuer  *x509.Certificate
		want    int // ocsp's status
		fails   ocsp.ResponseStatus
	}{
		{name: "good", request: good, issuer: issuer, want: ocsp.Good},
		{name: "unknown", request: question(issuer, big.NewInt(77)), issuer: issuer, want: ocsp.Unknown},
		{name: "a CA of the root", request: question(root, issuer.SerialNumber), issuer: root, want: ocsp.Good},
		{name: "another CA", request: question(foreign.Cert, big.NewInt(1)), fails: ocsp.Unauthorized},
		{name: "nothing", request: []byte{}, fails: ocsp.Malformed},
		{name: "garbage", request: []byte("garbage"), fails: ocsp.Malformed},
		{name: "serial too long", request: question(issuer, new(big.Int).Lsh(big.NewInt(1), 200)), fails: ocsp.Malformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			post, err := http.Post(server.URL+"/pki/ocsp", "application/ocsp-request", bytes.NewReader(tt.request))
			if err != nil {
				t.Fatal(err)
			}
			defer post.Body.Close()
			body, err := io.ReadAll(post.Body)
			if err != nil || post.StatusCode != http.StatusOK || post.Header.Get("Content-Type") != "application/ocsp-response" {
				t.Fatalf("%s, %v", post.Status, err)
			}
			bodies := [][]byte{body}
			for _, escape := range []func(string) string{url.PathEscape, func(s string) string { return s }} {
				if text := base64.StdEncoding.EncodeToString(tt.request); !strings.Contains(text, "//") || escape("/") != "/" { // ServeMux cleans a double slash
					status, _, body := fetch(t, server.URL+"/pki/ocsp/"+escape(text))
					if status == http.StatusOK {
						bodies = append(bodies, body)
					}
				}
			}
			if len(bodies) < 2 && len(tt.request) > 0 {
				t.Error("no answer to GET")
			}
			for _, body := range bodies {
				r, err := ocsp.ParseResponse(body, tt.issuer)
				if failed, ok := errors.AsType[ocsp.ResponseError](err); tt.fails != 0 {
					if !ok || failed.Status != tt.fails {
						t.Errorf("%v, want status %v", err, tt.fails)
					}
					continue
				}
				if err != nil || r.Status != tt.want {
					t.Fatalf("%+v, %v", r, err)
				}
				if life := r.NextUpdate.Sub(r.ThisUpdate); life < ocspLifetime || life > ocspLifetime+statedEarlier+time.Minute {
					t.Errorf("good for %s", life)
				}
			}
		})
	}
	if r, err := http.Post(server.URL+"/pki/ocsp", "", strings.NewReader(strings.Repeat("x", pki.MaxOCSPRequest+1))); err != nil || r.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a long request: %v", err)
	}
	// The responder is one of the certificates ever issued; asking often makes no more.
	l, err := f.Certificates(t.Context(), store.CertificateFilter{Kind: store.KindOCSP}, store.Page{})
	if err != nil || len(l.Items) != 2 {
		t.Errorf("%d responders, %v; want those of station CA and root", len(l.Items), err)
	}
	for _, path := range []string{"/pki/crl/nothing.crl", "/pki/crl/station-ecdsa", "/pki/ca/nothing.crt", "/pki/crl/cross-ecdsa.crl"} {
		if status, _, _ := fetch(t, server.URL+path); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
	if _, _, text := fetch(t, server.URL+"/pki/ca.crt"); len(certificates(t, string(text))) != 2 {
		t.Error("ca.crt does not hold both roots")
	}
}

// A list is signed once and kept, until something was revoked or half of its
// life is over; its number grows, and each CA lists its own.
func TestRevocationList(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		f := start(t, where, caDir(t))
		list := func() *x509.RevocationList {
			t.Helper()
			der, _, err := f.CRL(t.Context(), "station-ecdsa")
			if err != nil {
				t.Fatal(err)
			}
			l, err := x509.ParseRevocationList(der)
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		first := list()
		if again := list(); !bytes.Equal(again.Raw, first.Raw) {
			t.Error("signed again for nothing")
		}
		a, b := f.add(t, NewStation{ID: "A", Profile: 3}).Issued, f.add(t, NewStation{ID: "B", Profile: 3, Algorithm: pki.RSA}).Issued
		for _, issued := range []*Issued{a, b} {
			if _, err := f.RevokeCertificate(t.Context(), "test", issued.Certificate.Serial, "superseded"); err != nil {
				t.Fatal(err)
			}
		}
		second := list()
		if second.Number.Cmp(first.Number) <= 0 || len(second.RevokedCertificateEntries) != 1 {
			t.Fatalf("number %s after %s, %d entries, want 1", second.Number, first.Number, len(second.RevokedCertificateEntries))
		}
		if e := second.RevokedCertificateEntries[0]; e.SerialNumber.Cmp(certificates(t, a.Chain)[0].SerialNumber) != 0 || e.ReasonCode != 4 {
			t.Errorf("entry %+v", e)
		}
		f.advance(crlRenewal)
		if third := list(); third.Number.Cmp(second.Number) <= 0 || !third.NextUpdate.After(second.NextUpdate) {
			t.Error("not signed anew when half of its life was over")
		}
		f.advance(f.cfg.StationLifetime)
		if last := list(); len(last.RevokedCertificateEntries) != 0 {
			t.Error("an expired certificate is listed")
		}
	})
}
