package iso15118

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/crypto/ocsp"

	"holdfast/csms"
	"holdfast/pki"
)

type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// below makes a certificate that a signed; a nil one signs itself.
func (a *authority) below(t testing.TB, name string, change func(*x509.Certificate)) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 64))
	c := &x509.Certificate{
		SerialNumber: serial.Add(serial, big.NewInt(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if change != nil {
		change(c)
	}
	parent, signer := c, crypto.Signer(key)
	if a != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

func isCA(c *x509.Certificate)      { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign }
func signsOCSP(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning} }

// question is how a station asks about a certificate that a issued.
func (a *authority) question(serial *big.Int, urls ...string) csms.OCSPQuestion {
	var spki struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	asn1.Unmarshal(a.cert.RawSubjectPublicKeyInfo, &spki)
	name, key := sha256.Sum256(a.cert.RawSubject), sha256.Sum256(spki.Key.RightAlign())
	return csms.OCSPQuestion{
		HashAlgorithm: "SHA256", IssuerNameHash: hex.EncodeToString(name[:]), IssuerKeyHash: strings.ToUpper(hex.EncodeToString(key[:])),
		SerialNumber: serial.Text(16), URLs: urls,
	}
}

// sign makes a response as a with its responder's key could.
func sign(t testing.TB, a, responder *authority, r ocsp.Response) []byte {
	t.Helper()
	if r.IssuerHash == 0 {
		r.IssuerHash = crypto.SHA256
	}
	if r.ThisUpdate.IsZero() {
		r.ThisUpdate = time.Now().Add(-time.Minute)
	}
	der, err := ocsp.CreateResponse(a.cert, responder.cert, r, responder.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func start(t *testing.T, hosts []string, issuers ...*authority) *Responders {
	t.Helper()
	var certs []*x509.Certificate
	for _, i := range issuers {
		certs = append(certs, i.cert)
	}
	r, err := NewResponders(hosts, certs, NewMetrics(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func (r *Responders) counted(result string) float64 {
	return testutil.ToFloat64(r.metrics.requests.WithLabelValues(kindOCSP, result))
}

// TestAnswers: what is believed of what a responder says, and what is not.
func TestAnswers(t *testing.T) {
	root := (*authority)(nil).below(t, "V2G Root", isCA)
	sub, stranger := root.below(t, "Sub-CA", isCA), root.below(t, "Other Sub-CA", isCA)
	responder := sub.below(t, "Responder", signsOCSP)
	serial, hour := big.NewInt(0xabcdef), time.Now().Add(time.Hour)
	good := ocsp.Response{Status: ocsp.Good, SerialNumber: serial, NextUpdate: hour, Certificate: responder.cert}
	with := func(change func(*ocsp.Response)) ocsp.Response { r := good; change(&r); return r }
	bare := with(func(r *ocsp.Response) { r.Certificate = nil })
	by := func(who *authority) ocsp.Response { return with(func(r *ocsp.Response) { r.Certificate = who.cert }) }
	plain, late := sub.below(t, "Station", nil), sub.below(t, "Late", func(c *x509.Certificate) { signsOCSP(c); c.NotAfter = time.Now().Add(-time.Minute) })
	strange := stranger.below(t, "Strange responder", signsOCSP)
	double := (*authority)(nil).below(t, "Sub-CA", isCA) // the same name, another key
	broken := sign(t, sub, responder, good)
	broken[len(broken)/3] ^= 1

	for name, tt := range map[string]struct {
		der     []byte
		issuers []*authority
		status  string // empty: not believed
		err     string
	}{
		"good":                        {sign(t, sub, responder, good), []*authority{root, sub}, csms.StatusGood, ""},
		"revoked":                     {sign(t, sub, responder, with(func(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, time.Now() })), []*authority{sub}, csms.StatusRevoked, ""},
		"unknown":                     {sign(t, sub, responder, with(func(r *ocsp.Response) { r.Status = ocsp.Unknown })), []*authority{sub}, csms.StatusUnknown, ""},
		"signed by the issuer itself": {sign(t, sub, sub, bare), []*authority{sub}, csms.StatusGood, ""},
		"signed by the issuer, which it brings along": {sign(t, sub, sub, by(sub)), nil, csms.StatusGood, ""},
		"the issuer is not known":                     {sign(t, sub, responder, good), []*authority{root}, "", "issuer"},
		"another issuer of that name":                 {sign(t, sub, double, by(double)), nil, "", "issuer"},
		"another issuer of that name signs":           {sign(t, sub, double, bare), []*authority{sub}, "", "not signed by the issuer"},
		"responder of another CA":                     {sign(t, sub, strange, by(strange)), []*authority{sub, stranger}, "", "not one of the issuer"},
		"a station's certificate signs":               {sign(t, sub, plain, by(plain)), []*authority{sub}, "", "does not allow"},
		"responder's certificate expired":             {sign(t, sub, late, by(late)), []*authority{sub}, "", "not valid now"},
		"about another certificate":                   {sign(t, sub, responder, with(func(r *ocsp.Response) { r.SerialNumber = big.NewInt(5) })), []*authority{sub}, "", "not about the certificate"},
		"about a certificate of another CA":           {sign(t, stranger, responder, good), []*authority{sub}, "", "not about the certificate"},
		"held until an hour ago":                      {sign(t, sub, responder, with(func(r *ocsp.Response) { r.NextUpdate = time.Now().Add(-time.Hour) })), []*authority{sub}, "", "held until"},
		"holds from tomorrow":                         {sign(t, sub, responder, with(func(r *ocsp.Response) { r.ThisUpdate = time.Now().AddDate(0, 0, 1) })), []*authority{sub}, "", "to come"},
		"without a next update":                       {sign(t, sub, responder, with(func(r *ocsp.Response) { r.NextUpdate = time.Time{} })), []*authority{sub}, csms.StatusGood, ""},
		"of last week, without a next update":         {sign(t, sub, responder, with(func(r *ocsp.Response) { r.NextUpdate, r.ThisUpdate = time.Time{}, time.Now().AddDate(0, 0, -7) })), []*authority{sub}, "", "without a next update"},
		"a bit is wrong":                              {broken, []*authority{sub}, "", ""},
		"try later":                                   {pki.OCSPTryLater, []*authority{sub}, "", "try later"},
		"not a response":                              {[]byte("<html>"), []*authority{sub}, "", "not an OCSP response"},
		"nothing":                                     {nil, []*authority{sub}, "", "not an OCSP response"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if q, err := pki.ParseOCSPRequest(body); err != nil || q.Serial.Cmp(serial) != 0 || !q.IssuedBy(sub.cert) || r.Header.Get("Content-Type") != "application/ocsp-request" {
					t.Errorf("request %+v, %v, %v", q, err, r.Header)
				}
				w.Write(tt.der)
			}))
			defer server.Close()
			r := start(t, []string{strings.TrimPrefix(server.URL, "http://")}, tt.issuers...)
			a, err := r.Ask(t.Context(), sub.question(serial, server.URL))
			if tt.status != "" {
				if err != nil || a.Status != tt.status || string(a.DER) != string(tt.der) {
					t.Errorf("%s, %v", a.Status, err)
				}
				return
			}
			f, _ := errors.AsType[*csms.ForwardError](err)
			if f == nil || f.Code != csms.CodeInternalError || !strings.Contains(err.Error(), tt.err) || a.DER != nil {
				t.Errorf("%+v, %v, want an error with %q", a, err, tt.err)
			}
			if r.counted("invalid") != 1 {
				t.Error("it is not counted as invalid")
			}
		})
	}
}

// TestOnlyListedHosts: a station cannot have Holdfast ask anybody else.
func TestOnlyListedHosts(t *testing.T) {
	ca := (*authority)(nil).below(t, "CA", isCA)
	var elsewhere atomic.Int64
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer inner.Close()
	innerHost := strings.TrimPrefix(inner.URL, "http://")
	listed := httptest.NewServer(http.RedirectHandler(inner.URL, http.StatusTemporaryRedirect))
	defer listed.Close()
	host := strings.TrimPrefix(listed.URL, "http://")
	r := start(t, []string{host, "OCSP.example.com"}, ca)
	refusals := 0.0
	for _, u := range []string{
		inner.URL, "", "x:y", "/ocsp", "//" + host, "ftp://" + host, "file:///etc/passwd", "gopher://" + host,
		"http://" + host + "@" + innerHost, "http://user:password@" + host, "http://" + innerHost + "#" + host, "http://" + innerHost + "/?" + host,
		"http://" + innerHost + `\@` + host, "http://127.0.0.1/", "http://[::1]:80/", "http://169.254.169.254/latest/meta-data/",
		"http://ocsp.example.com:8080", "http://ocsp.example.com.", "http://ocsp.example.com.evil.example", "http://evil-ocsp.example.com",
	} {
		_, err := r.Ask(t.Context(), ca.question(big.NewInt(1), u))
		if f, _ := errors.AsType[*csms.ForwardError](err); f == nil || f.Code != csms.CodeInvalidURL {
			t.Errorf("%q: %v", u, err)
		}
		refusals++
	}
	if got := r.counted("refused"); got != refusals {
		t.Errorf("%v refusals counted, want %v", got, refusals)
	}
	for _, u := range []string{"http://ocsp.example.com/a", "https://OCSP.EXAMPLE.COM/", "http://ocsp.example.com:80/", "https://ocsp.example.com:443/x?y#z"} {
		if _, urls, err := r.read(ca.question(big.NewInt(1), u)); err != nil || len(urls) != 1 || strings.Contains(urls[0], "#") {
			t.Errorf("%q: %q, %v", u, urls, err)
		}
	}
	// A listed host that sends elsewhere is not followed.
	if _, err := r.Ask(t.Context(), ca.question(big.NewInt(1), listed.URL)); err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("redirect: %v", err)
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
	for _, h := range []string{"", "http://a", "a/b", "a b", "user@a", "a:", ":80"} {
		if _, err := NewResponders([]string{h}, nil, NewMetrics(), time.Now); err == nil {
			t.Errorf("host %q was taken", h)
		}
	}
}

// TestBounds: size, time and number of what is asked.
func TestBounds(t *testing.T) {
	ca := (*authority)(nil).below(t, "CA", isCA)
	release, slow := make(chan struct{}), make(chan struct{}, 2*maxAsking)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/long":
			w.Write(make([]byte, maxOCSPResponse+1))
		case "/error":
			w.WriteHeader(http.StatusBadGateway)
		case "/slow":
			slow <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	}))
	defer server.Close()
	r := start(t, []string{strings.TrimPrefix(server.URL, "http://")}, ca)
	for path, want := range map[string]string{"/long": "longer than", "/error": "502"} {
		if _, err := r.Ask(t.Context(), ca.question(big.NewInt(1), server.URL+path)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if n := r.counted("invalid"); n != 2 {
		t.Errorf("%v invalid answers counted", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.Ask(ctx, ca.question(big.NewInt(1), server.URL+"/slow")); err == nil || r.counted("timeout") != 1 {
		t.Errorf("slow: %v, %v timeouts counted", err, r.counted("timeout"))
	}
	if _, err := r.Ask(t.Context(), ca.question(big.NewInt(1), "http://127.0.0.1:1/")); err == nil || r.counted("refused") != 1 {
		t.Errorf("not listed: %v", err)
	}
	// As many as may, and one more.
	var asking sync.WaitGroup
	for i := range maxAsking {
		asking.Go(func() { r.Ask(t.Context(), ca.question(big.NewInt(int64(100+i)), server.URL+"/slow")) })
	}
	for range 1 + maxAsking { // the one above, and these
		<-slow
	}
	if _, err := r.Ask(t.Context(), ca.question(big.NewInt(1), server.URL+"/slow")); !errors.Is(err, errBusy) || r.counted("busy") != 1 {
		t.Errorf("one too many: %v", err)
	}
	close(release)
	asking.Wait()

	for _, change := range []func(*csms.OCSPQuestion){
		func(q *csms.OCSPQuestion) { q.HashAlgorithm = "SHA1" },
		func(q *csms.OCSPQuestion) { q.HashAlgorithm = "SHA512" },
		func(q *csms.OCSPQuestion) { q.IssuerNameHash = "x:y" },
		func(q *csms.OCSPQuestion) { q.IssuerKeyHash = "" },
		func(q *csms.OCSPQuestion) { q.SerialNumber = "0" },
		func(q *csms.OCSPQuestion) { q.SerialNumber = "-1" },
		func(q *csms.OCSPQuestion) { q.SerialNumber = strings.Repeat("f", 41) },
	} {
		q := ca.question(big.NewInt(1), server.URL)
		change(&q)
		_, err := r.Ask(t.Context(), q)
		if f, _ := errors.AsType[*csms.ForwardError](err); f == nil || f.Code != csms.CodeInvalidValue {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// TestCache: one question for many stations, and another one when the answer is
// out of date.
func TestCache(t *testing.T) {
	ca := (*authority)(nil).below(t, "CA", isCA)
	var asked atomic.Int64
	var mu sync.Mutex
	answer := ocsp.Response{Status: ocsp.Good, NextUpdate: time.Now().Add(30 * time.Minute)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		q, err := pki.ParseOCSPRequest(body)
		if err != nil {
			t.Error(err)
			return
		}
		mu.Lock()
		a := answer
		mu.Unlock()
		a.SerialNumber = q.Serial
		w.Write(sign(t, ca, ca, a))
	}))
	defer server.Close()
	r := start(t, []string{strings.TrimPrefix(server.URL, "http://")}, ca)
	var ahead atomic.Int64
	r.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	ask := func(serial int64, want int64) {
		t.Helper()
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if a, err := r.Ask(t.Context(), ca.question(big.NewInt(serial), server.URL)); err != nil || len(a.DER) == 0 {
					t.Errorf("%+v, %v", a, err)
				}
			})
		}
		all.Wait()
		if got := asked.Swap(0); got != want {
			t.Errorf("asked %d times, want %d", got, want)
		}
	}
	ask(1, 1)
	ask(1, 0)
	ahead.Store(int64(29 * time.Minute))
	ask(1, 0)
	ahead.Store(int64(31 * time.Minute))
	mu.Lock()
	answer.NextUpdate = time.Now().AddDate(0, 0, 7)
	mu.Unlock()
	ask(1, 1)
	ahead.Store(int64(31*time.Minute + cachedTime)) // an answer for a week is asked for again all the same
	ask(1, 1)
	for i := range int64(maxCached + 10) {
		r.remember(fmt.Sprint(i), csms.OCSPAnswer{Status: csms.StatusGood, NextUpdate: r.now().Add(time.Hour)})
	}
	if n := len(r.cached); n != maxCached {
		t.Errorf("%d answers are kept, want %d", n, maxCached)
	}
	r.remember("new", csms.OCSPAnswer{Status: csms.StatusUnknown, NextUpdate: r.now().Add(time.Hour)})
	r.remember("undated", csms.OCSPAnswer{Status: csms.StatusGood})
	for _, key := range []string{"new", "undated"} {
		if _, ok := r.remembered(key); ok {
			t.Errorf("%s: an answer that may be out of date is kept", key)
		}
	}
}

// TestOpenSSLResponder asks the responder of OpenSSL.
func TestOpenSSLResponder(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is missing")
		}
		t.Skip("openssl is missing")
	}
	ca := (*authority)(nil).below(t, "CA", isCA)
	delegate := ca.below(t, "Responder", signsOCSP)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key, err := pki.EncodeKey(delegate.key)
	if err != nil {
		t.Fatal(err)
	}
	index := write("index.txt", "V\t301231235959Z\t\t0A01\tunknown\t/CN=a\nR\t301231235959Z\t260101000000Z\t0A02\tunknown\t/CN=b\n")
	cmd := exec.Command("openssl", "ocsp", "-port", "0", "-index", index, "-CA", write("ca.crt", pki.EncodeCertificates(ca.cert)),
		"-rsigner", write("r.crt", pki.EncodeCertificates(delegate.cert)), "-rkey", write("r.key", key), "-nmin", "10")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	port := ""
	for lines := bufio.NewScanner(out); port == "" && lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "ACCEPT") {
			port = line[strings.LastIndex(line, ":")+1:]
			if pid := strings.Index(port, " PID"); pid >= 0 {
				port = port[:pid]
			}
		}
	}
	go io.Copy(io.Discard, out)
	host := "127.0.0.1:" + port
	r := start(t, []string{host}, ca)
	for serial, want := range map[int64]string{0x0a01: csms.StatusGood, 0x0a02: csms.StatusRevoked, 0x0a03: csms.StatusUnknown} {
		a, err := r.Ask(t.Context(), ca.question(big.NewInt(serial), "http://"+host+"/"))
		if err != nil || a.Status != want {
			t.Errorf("%x: %s, %v, want %s", serial, a.Status, err, want)
		}
	}
}
