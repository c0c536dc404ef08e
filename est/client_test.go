package est

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/smallstep/pkcs7"
)

// testCA is a CA that speaks EST.
type testCA struct {
	t     testing.TB
	key   *ecdsa.PrivateKey
	cert  *x509.Certificate
	fail  decided                                      // zero: it certifies
	check func(user, password string, given bool) bool // nil: nobody is asked
}

func newTestCA(t testing.TB) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &testCA{t: t, key: key}
	c.cert = c.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Elsewhere CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign}, key.Public())
	return c
}

func (c *testCA) sign(t testing.TB, template *x509.Certificate, public any) *x509.Certificate {
	t.Helper()
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	parent := c.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, c.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// decided is what a CA answers instead of a certificate.
type decided struct {
	status, after int
	text          string
}

// ServeHTTP is the CA as an EST server. That a server by others agrees is seen in
// e2e/certificates.
func (c *testCA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	operation, known := strings.CutPrefix(r.URL.Path, "/.well-known/est/stations/")
	body, err := io.ReadAll(r.Body)
	var answer []byte
	switch {
	case !known || err != nil:
		http.NotFound(w, r)
		return
	case c.check != nil && !c.check(r.BasicAuth()):
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	case c.fail.status != 0:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Retry-After", strconv.Itoa(c.fail.after))
		w.WriteHeader(c.fail.status)
		io.WriteString(w, c.fail.text)
		return
	case operation == "cacerts":
		answer, err = pkcs7.DegenerateCertificate(c.cert.Raw)
	case operation == "simpleenroll" && r.Header.Get("Content-Type") == "application/pkcs10":
		var der []byte
		var csr *x509.CertificateRequest
		if der, err = base64.StdEncoding.DecodeString(string(body)); err == nil {
			csr, err = x509.ParseCertificateRequest(der)
		}
		if err == nil {
			answer, err = pkcs7.DegenerateCertificate(c.sign(c.t, &x509.Certificate{Subject: csr.Subject}, csr.PublicKey).Raw)
		}
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
	text := base64.StdEncoding.EncodeToString(answer)
	for len(text) > 0 { // in lines, as many servers do
		n := min(len(text), 64)
		io.WriteString(w, text[:n]+"\r\n")
		text = text[n:]
	}
}

// serve starts a server over TLS and returns a configuration for it.
func serve(t testing.TB, h http.Handler, clients *x509.CertPool) Config {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.TLS = &tls.Config{ClientCAs: clients}
	if clients != nil {
		s.TLS.ClientAuth = tls.RequireAndVerifyClientCert
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return Config{URL: s.URL + "/.well-known/est/stations", Roots: roots, Timeout: 10 * time.Second}
}

func request(t testing.TB) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "CS-1"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func client(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A CA certifies a request of who has the password, and of who has the certificate.
func TestEnroll(t *testing.T) {
	ca := newTestCA(t)
	t.Run("password", func(t *testing.T) {
		ca := newTestCA(t)
		ca.check = func(user, password string, _ bool) bool { return user == "holdfast" && password == "sesame" }
		cfg := serve(t, ca, nil)
		password := "guess"
		cfg.Credentials = func() (string, string, error) { return "holdfast", password, nil }
		c := client(t, cfg)
		key, csr := request(t)
		_, err := c.Enroll(t.Context(), csr)
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Unauthorized {
			t.Fatalf("wrong password: %v", err)
		}
		password = "sesame" // changed, without a restart
		certs, err := c.Enroll(t.Context(), csr)
		if err != nil {
			t.Fatal(err)
		}
		if !key.PublicKey.Equal(certs[0].PublicKey) || certs[0].Subject.CommonName != "CS-1" {
			t.Errorf("%s", certs[0].Subject)
		}
		if certs, err = c.CACerts(t.Context()); err != nil || len(certs) != 1 || !certs[0].Equal(ca.cert) {
			t.Errorf("CA certificates: %v, %v", certs, err)
		}
	})
	t.Run("certificate", func(t *testing.T) {
		clients := x509.NewCertPool()
		clients.AddCert(ca.cert)
		cfg := serve(t, ca, clients)
		_, csr := request(t)
		_, err := client(t, cfg).Enroll(t.Context(), csr)
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Unauthorized {
			t.Errorf("without a certificate: %v", err)
		}
		key, _ := request(t)
		cert := ca.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "holdfast"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, key.Public())
		cfg.Certificate = func() (*tls.Certificate, error) {
			return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
		}
		if _, err := client(t, cfg).Enroll(t.Context(), csr); err != nil {
			t.Error(err)
		}
	})
}

// What a CA says instead of a certificate.
func TestDecisions(t *testing.T) {
	for _, tt := range []struct {
		d    decided
		kind Kind
		says string
	}{
		{decided{202, 3600, "wait"}, Pending, "not decided"},
		{decided{400, 0, "CN not allowed"}, Refused, "CN not allowed"},
		{decided{403, 0, "no"}, Unauthorized, "no"},
		{decided{422, 0, "RSA only"}, Refused, "RSA only"},
		{decided{500, 0, "broken"}, Unavailable, "broken"},
		{decided{503, 3600, "maintenance"}, Unavailable, "maintenance"},
	} {
		ca := newTestCA(t)
		ca.fail = tt.d
		_, csr := request(t)
		_, err := client(t, serve(t, ca, nil)).Enroll(t.Context(), csr)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Kind != tt.kind || !strings.Contains(e.Problem, tt.says) || e.RetryAfter != time.Duration(tt.d.after)*time.Second {
			t.Errorf("%d: %+v, %v", tt.d.status, e, err)
		}
	}
}

// What is no answer of EST is said to be none, and nothing of it is believed.
func TestBadAnswers(t *testing.T) {
	elsewhere := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }), nil)
	p7 := func(w http.ResponseWriter, body string) {
		w.Header().Set("Content-Type", "application/pkcs7-mime; smime-type=certs-only")
		w.Write([]byte(body))
	}
	for name, tt := range map[string]struct {
		h    http.HandlerFunc
		kind Kind
		says string
	}{
		"a login page":     {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>log in")) }, BadAnswer, "text/html"},
		"no base64":        {func(w http.ResponseWriter, _ *http.Request) { p7(w, "!!!") }, BadAnswer, "base64"},
		"nothing":          {func(w http.ResponseWriter, _ *http.Request) { p7(w, "") }, BadAnswer, "empty"},
		"no PKCS#7":        {func(w http.ResponseWriter, _ *http.Request) { p7(w, "MAMCAQE=") }, BadAnswer, "cannot be read"},
		"endless":          {func(w http.ResponseWriter, _ *http.Request) { p7(w, strings.Repeat("A", 4*maxAnswer)) }, BadAnswer, "more than"},
		"a redirect":       {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, BadAnswer, "not followed"},
		"another path":     {http.NotFound, BadAnswer, "404"},
		"control letters":  {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "a\x1b[31m\nb\xff", 400) }, Refused, "a.[31m b."},
		"an early end":     {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, Unavailable, "EOF"},
		"a long complaint": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, strings.Repeat("x", 10_000), 400) }, Refused, "xxx"},
	} {
		t.Run(name, func(t *testing.T) {
			_, csr := request(t)
			_, err := client(t, serve(t, tt.h, nil)).Enroll(t.Context(), csr)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Kind != tt.kind || !strings.Contains(e.Problem, tt.says) || len(e.Problem) > maxText+200 {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}

// A request that the CA did not take is made again, and no other.
func TestRepeats(t *testing.T) {
	ca := newTestCA(t)
	for name, tt := range map[string]struct {
		fail     func(w http.ResponseWriter)
		requests int32
		ok       bool
	}{
		"busy once": {func(w http.ResponseWriter) { w.WriteHeader(503) }, 2, true},
		"too many":  {func(w http.ResponseWriter) { w.Header().Set("Retry-After", "1"); w.WriteHeader(429) }, 2, true},
		"broken":    {func(w http.ResponseWriter) { w.WriteHeader(500) }, 1, false},
		"lost":      {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			cfg := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) == 1 {
					tt.fail(w)
					return
				}
				ca.ServeHTTP(w, r)
			}), nil)
			_, csr := request(t)
			_, err := client(t, cfg).Enroll(t.Context(), csr)
			if (err == nil) != tt.ok || requests.Load() != tt.requests {
				t.Errorf("%d requests, %v", requests.Load(), err)
			}
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		_, csr := request(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = client(t, Config{URL: "https://" + l.Addr().String()}).Enroll(ctx, csr)
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Unavailable || !strings.Contains(e.Problem, "refused") {
			t.Errorf("%v", err)
		}
	})
	t.Run("silent", func(t *testing.T) {
		t.Parallel()
		done := make(chan struct{})
		cfg := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-done }), nil)
		t.Cleanup(func() { close(done) })
		cfg.Timeout = 100 * time.Millisecond
		_, csr := request(t)
		_, err := client(t, cfg).Enroll(t.Context(), csr)
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != Unavailable {
			t.Errorf("%v", err)
		}
	})
	t.Run("unknown server", func(t *testing.T) {
		t.Parallel()
		cfg := serve(t, ca, nil)
		cfg.Roots = x509.NewCertPool()
		_, csr := request(t)
		_, err := client(t, cfg).Enroll(t.Context(), csr)
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind != BadAnswer || !strings.Contains(e.Problem, "not trusted") {
			t.Errorf("%v", err)
		}
	})
}

func TestURLs(t *testing.T) {
	for url, name := range map[string]string{
		"https://ca.example.com":                            "https://ca.example.com/.well-known/est",
		"https://ca.example.com/":                           "https://ca.example.com/.well-known/est",
		"https://ca.example.com/.well-known/est/x":          "https://ca.example.com/.well-known/est/x",
		"http://ca.example.com":                             "",
		"https://u:secret@ca.example.com/.well-known/est":   "",
		"https://ca.example.com/.well-known/est?key=secret": "",
		"https://ca.example.com:port":                       "",
		"":                                                  "",
	} {
		c, err := New(Config{URL: url})
		if (err == nil) != (name != "") || err == nil && c.Name() != name {
			t.Errorf("%s: %v, %v", url, c, err)
		}
		if err != nil && strings.Contains(err.Error(), "u:secret") {
			t.Errorf("%s: the error holds the password: %v", url, err)
		}
	}
}

// Servers written in Java encode with indefinite lengths.
func TestIndefiniteLength(t *testing.T) {
	ca := newTestCA(t)
	der, err := pkcs7.DegenerateCertificate(ca.cert.Raw)
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue `asn1:"explicit,tag:0"`
	}
	if _, err := asn1.Unmarshal(der, &info); err != nil {
		t.Fatal(err)
	}
	oid, err := asn1.Marshal(info.Type)
	if err != nil {
		t.Fatal(err)
	}
	var data asn1.RawValue
	if _, err := asn1.Unmarshal(info.Content.Bytes, &data); err != nil {
		t.Fatal(err)
	}
	ber := slices.Concat([]byte{0x30, 0x80}, oid, []byte{0xa0, 0x80, 0x30, 0x80}, data.Bytes, make([]byte, 6))
	certs, err := parse([]byte(base64.StdEncoding.EncodeToString(ber)))
	if err != nil || len(certs) != 1 || !certs[0].Equal(ca.cert) {
		t.Errorf("%v, %v", certs, err)
	}
}

func FuzzParse(f *testing.F) {
	ca := newTestCA(f)
	cfg := serve(f, ca, nil)
	resp, err := client(f, cfg).http.Get(cfg.URL + "/cacerts")
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	seed := make([]byte, maxAnswer)
	n, _ := resp.Body.Read(seed)
	f.Add(seed[:n])
	f.Add([]byte(base64.StdEncoding.EncodeToString([]byte{0x30, 0x80, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02, 0xa0, 0x80, 0x30, 0x80, 0, 0, 0, 0, 0, 0})))
	f.Fuzz(func(t *testing.T, text []byte) {
		certs, err := parse(text[:min(len(text), maxAnswer)])
		if err == nil && (len(certs) == 0 || len(certs) > maxCertificates) {
			t.Errorf("%d certificates", len(certs))
		}
	})
}
