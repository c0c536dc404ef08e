package station_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"holdfast/e2e"
	"holdfast/pki"
)

// opensslResponder runs OpenSSL's OCSP responder for the certificates 0A01, good,
// and 0A02, revoked, of a CA that it returns.
func opensslResponder(t *testing.T) (ca *x509.Certificate, host string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is missing")
		}
		t.Skip("openssl is missing")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "V2G Sub-CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	secret, err := pki.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"ca.crt": pki.EncodeCertificates(ca), "ca.key": secret,
		"index.txt": "V\t301231235959Z\t\t0A01\tunknown\t/CN=a\nR\t301231235959Z\t260101000000Z\t0A02\tunknown\t/CN=b\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("openssl", "ocsp", "-port", "0", "-index", "index.txt", "-CA", "ca.crt", "-rsigner", "ca.crt", "-rkey", "ca.key", "-nmin", "10")
	cmd.Dir = dir
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if line, ok := strings.CutPrefix(lines.Text(), "ACCEPT"); ok {
			port, _, _ := strings.Cut(line[strings.LastIndex(line, ":")+1:], " ")
			go io.Copy(io.Discard, out)
			return ca, "127.0.0.1:" + port
		}
	}
	t.Fatal("openssl ocsp did not start")
	return nil, ""
}

// TestISO15118: a station asks for an EV's contract certificate and for the
// status of certificates; a provider and OpenSSL's responder answer.
func TestISO15118(t *testing.T) {
	needNPM(t)
	ca, responder := opensslResponder(t)
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var ask struct {
			Station, Version string
			Request          struct{ Action, EXIRequest string }
		}
		if err := json.NewDecoder(r.Body).Decode(&ask); err != nil || ask.Version == "" || r.Header.Get("Authorization") != "Bearer of-the-provider" {
			t.Errorf("%+v, %v, %v", ask, err, r.Header)
		}
		if ask.Request.EXIRequest == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		json.NewEncoder(w).Encode(m{"status": "Accepted", "exiResponse": base64.StdEncoding.EncodeToString([]byte("contract for " + ask.Station))})
	}))
	defer provider.Close()
	forbidden := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked %s", r.URL) }))
	defer forbidden.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("of-the-provider\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := e2e.All(t, "--iso15118-url", provider.URL+"/ev", "--iso15118-token-file", token, "--ocsp-responders", responder)

	name, key := sha256.Sum256(ca.RawSubject), sha256.New()
	spki, err := x509.ParsePKIXPublicKey(ca.RawSubjectPublicKeyInfo)
	if err != nil {
		t.Fatal(err)
	}
	point, err := spki.(*ecdsa.PublicKey).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	key.Write(point)
	question := func(serial, url string) m {
		return m{"hashAlgorithm": "SHA256", "issuerNameHash": fmt.Sprintf("%x", name), "issuerKeyHash": fmt.Sprintf("%x", key.Sum(nil)), "serialNumber": serial, "responderURL": url}
	}
	for i, version := range []string{"2.0.1", "2.1"} {
		t.Run(version, func(t *testing.T) {
			s := register(t, n, "EV-"+version, 3-i)
			s.Protocol, s.Strict = "ocpp"+version, version == "2.0.1" // what the package knows
			st := connect(t, s)
			v2x(version).boot(st)

			var ev struct{ Status, EXIResponse string }
			ask := m{"iso15118SchemaVersion": "urn:iso:15118:2:2013:MsgDef", "action": "Install", "exiRequest": "QUE="}
			st.call("Get15118EVCertificate", ask, &ev)
			if got, err := base64.StdEncoding.DecodeString(ev.EXIResponse); ev.Status != "Accepted" || err != nil || string(got) != "contract for EV-"+version {
				t.Errorf("EV certificate: %+v, %v", ev, err)
			}
			ask["exiRequest"] = "" // the provider refuses it
			st.call("Get15118EVCertificate", ask, &ev)
			if ev.Status != "Failed" || ev.EXIResponse != "" {
				t.Errorf("EV certificate that the provider refuses: %+v", ev)
			}

			for serial, want := range map[string]int{"0a01": ocsp.Good, "A02": ocsp.Revoked} {
				var status struct{ Status, OCSPResult string }
				st.call("GetCertificateStatus", m{"ocspRequestData": question(serial, "http://"+responder+"/")}, &status)
				der, err := base64.StdEncoding.DecodeString(status.OCSPResult)
				if status.Status != "Accepted" || err != nil {
					t.Errorf("status of %s: %+v, %v", serial, status, err)
					continue
				}
				if r, err := ocsp.ParseResponse(der, ca); err != nil || r.Status != want {
					t.Errorf("status of %s: %+v, %v", serial, r, err)
				}
			}
			for _, url := range []string{forbidden.URL, "http://169.254.169.254/latest/", "http://" + responder + "@" + strings.TrimPrefix(forbidden.URL, "http://")} {
				var status struct {
					Status     string
					StatusInfo struct{ ReasonCode string }
				}
				st.call("GetCertificateStatus", m{"ocspRequestData": question("0a01", url)}, &status)
				if status.Status != "Failed" || status.StatusInfo.ReasonCode != "InvalidURL" {
					t.Errorf("status from %s: %+v", url, status)
				}
			}
			if version != "2.1" {
				return
			}
			var chain struct {
				CertificateStatus []struct{ Status, Source string }
			}
			hash := func(serial string) m {
				q := question(serial, "")
				delete(q, "responderURL")
				return q
			}
			st.call("GetCertificateChainStatus", m{"certificateStatusRequests": []m{
				{"certificateHashData": hash("0a01"), "source": "OCSP", "urls": []string{forbidden.URL, "http://" + responder}},
				{"certificateHashData": hash("0a02"), "source": "OCSP", "urls": []string{"http://" + responder}},
				{"certificateHashData": hash("0a03"), "source": "OCSP", "urls": []string{"http://" + responder}},
				{"certificateHashData": hash("0a01"), "source": "CRL", "urls": []string{"http://" + responder}},
			}}, &chain)
			var got []string
			for _, c := range chain.CertificateStatus {
				got = append(got, c.Status)
			}
			if want := "Good Revoked Unknown Failed"; strings.Join(got, " ") != want {
				t.Errorf("chain: %v, want %s", got, want)
			}
		})
	}
	for result, least := range map[string]float64{"answered": 2, "cached": 2, "refused": 6} {
		if got := n.Metric("holdfast_iso15118_requests_total", `kind="ocsp"`, `result="`+result+`"`); got < least {
			t.Errorf("%v %s, want %v", got, result, least)
		}
	}
}
