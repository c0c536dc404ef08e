package fleet

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/ocpp"
)

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// events are the security events that a station reported, in order.
func (s *testServer) events(station string) (types []string) {
	s.look(station, func(st *testStation) {
		for _, payload := range st.payloads["SecurityEventNotification"] {
			var event securityNotification
			json.Unmarshal(payload, &event)
			types = append(types, event.Type)
		}
	})
	return types
}

// csrs makes the server hand on what SignCertificate brings.
func (s *testServer) csrs(station string) <-chan signRequest {
	requests := make(chan signRequest, 8)
	s.look(station, func(st *testStation) {
		st.onSign = func(payload json.RawMessage) {
			var r signRequest
			json.Unmarshal(payload, &r)
			block, _ := pem.Decode([]byte(r.CSR))
			request, err := x509.ParseCertificateRequest(block.Bytes)
			if err != nil || request.CheckSignature() != nil {
				s.t.Errorf("CSR of %s: %v", station, err)
			}
			r.parsed = request
			requests <- r
		}
	})
	return requests
}

type signRequest struct {
	CSR       string `json:"csr"`
	RequestID *int   `json:"requestId"`
	parsed    *x509.CertificateRequest
}

// TestCertificateRenewal renews by a triggered CSR, and comes back with the new one.
func TestCertificateRenewal(t *testing.T) {
	ca := newTestCA(t)
	for _, version := range []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21} {
		t.Run(string(version), func(t *testing.T) {
			s := newTestServer(t, ocpp.ProfileMTLS, ca)
			f, _ := testFleet(t, s, ca, ocpp.ProfileMTLS, version, 1, func(c *Config) { c.Behaviour = passive() })
			eventually(t, "boot", func() bool { return f.Stats().Connected[3] == 1 && s.saw("CS-0", "StatusNotification") > 1 })
			action, message, invalid := "TriggerMessage", "SignChargingStationCertificate", "InvalidChargingStationCertificate"
			if version == ocpp.V16 {
				action, message, invalid = "ExtendedTriggerMessage", "SignChargePointCertificate", "InvalidChargePointCertificate"
			}
			requests := s.csrs("CS-0")
			if got := s.status("CS-0", "CertificateSigned", object{"certificateChain": pemOf(ca.cert.Raw)}); got != "Rejected" {
				t.Errorf("certificate without a request: %s", got)
			}
			if got := s.status("CS-0", action, object{"requestedMessage": message}); got != "Accepted" {
				t.Fatalf("trigger: %s", got)
			}
			request := <-requests
			if subject := request.parsed.Subject; subject.CommonName != "CS-0" || subject.Organization[0] != "Test Operator" {
				t.Errorf("CSR of %s", subject)
			}
			if (request.RequestID != nil) != (version == ocpp.V21) {
				t.Errorf("requestId %v", request.RequestID)
			}
			signed := func(chain string) string {
				with := object{"certificateChain": chain}
				if request.RequestID != nil {
					with["requestId"] = *request.RequestID
				}
				return s.status("CS-0", "CertificateSigned", with)
			}
			der := ca.sign(t, "CS-0", request.parsed.PublicKey)
			for what, chain := range map[string]string{
				"another key":     pemOf(ca.issue(t, "CS-0").Certificate[0]),
				"another station": pemOf(ca.sign(t, "CS-1", request.parsed.PublicKey)),
				"another issuer":  pemOf(der) + pemOf(newTestCA(t).cert.Raw),
				"too long":        pemOf(der) + strings.Repeat("\n", maxChain),
				"not PEM":         "certificate",
			} {
				if got := signed(chain); got != "Rejected" {
					t.Errorf("%s: %s", what, got)
				}
			}
			if version == ocpp.V21 {
				for _, other := range []object{{"certificateChain": pemOf(der)}, {"certificateChain": pemOf(der), "requestId": *request.RequestID + 1}} {
					if got := s.status("CS-0", "CertificateSigned", other); got != "Rejected" {
						t.Errorf("answer to another request: %s", got)
					}
				}
			}
			if got := signed(pemOf(der) + pemOf(ca.cert.Raw)); got != "Accepted" {
				t.Errorf("CertificateSigned: %s", got)
			}
			eventually(t, "reconnect", func() bool { return f.Stats().Connects == 2 && f.Stats().Connected[3] == 1 })
			eventually(t, "new certificate", func() bool { return string(s.presented("CS-0")) == string(der) })
			if got := s.events("CS-0"); !slices.Contains(got, invalid) {
				t.Errorf("security events %v", got)
			}
		})
	}
}

// presented is the leaf of the station's client certificate.
func (s *testServer) presented(station string) (der []byte) {
	s.look(station, func(st *testStation) {
		if st.c != nil {
			der = st.c.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw
		}
	})
	return der
}

// TestRenewalRefused: a station whose new certificate is refused comes back with
// the old one, and says so.
func TestRenewalRefused(t *testing.T) {
	ca := newTestCA(t)
	s := newTestServer(t, ocpp.ProfileMTLS, ca)
	f, _ := testFleet(t, s, ca, ocpp.ProfileMTLS, ocpp.V201, 1, func(c *Config) { c.Behaviour = passive() })
	eventually(t, "boot", func() bool { return f.Stats().Connected[3] == 1 && s.saw("CS-0", "StatusNotification") > 1 })
	old := s.presented("CS-0")
	requests := s.csrs("CS-0")
	s.status("CS-0", "TriggerMessage", object{"requestedMessage": "SignChargingStationCertificate"})
	foreign := newTestCA(t).sign(t, "CS-0", (<-requests).parsed.PublicKey)
	if got := s.status("CS-0", "CertificateSigned", object{"certificateChain": pemOf(foreign)}); got != "Accepted" {
		t.Fatalf("CertificateSigned: %s", got)
	}
	eventually(t, "event", func() bool { return slices.Contains(s.events("CS-0"), "DiscardedRenewedClientCertificate") })
	if got := s.presented("CS-0"); string(got) != string(old) {
		t.Error("not the old certificate")
	}
	if n := f.Stats().Errors["tls"]; n != 1 {
		t.Errorf("%d refusals", n)
	}
}

// TestRenewalSelf: a station asks for its next certificate in time, asks again
// when nothing comes, and gives up.
func TestRenewalSelf(t *testing.T) {
	ca := newTestCA(t)
	s := newTestServer(t, ocpp.ProfileMTLS, ca)
	f, _ := testFleet(t, s, ca, ocpp.ProfileMTLS, ocpp.V201, 1, func(c *Config) {
		c.Behaviour = passive()
		c.Stations[0].Certificate = ca.ending(t, "CS-0", 10*time.Minute)
	})
	eventually(t, "CSR", func() bool { return s.saw("CS-0", "SignCertificate") == 1 })
	for _, variable := range []string{"CertSigningWaitMinimum", "CertSigningRepeatTimes"} {
		frame := s.call("CS-0", "SetVariables", object{"setVariableData": []object{{"attributeValue": map[string]string{"CertSigningWaitMinimum": "0", "CertSigningRepeatTimes": "2"}[variable],
			"component": object{"name": "SecurityCtrlr"}, "variable": object{"name": variable}}}})
		if !strings.Contains(string(frame.Payload), `"Accepted"`) {
			t.Fatalf("%s: %s", variable, frame.Payload)
		}
	}
	s.status("CS-0", "TriggerMessage", object{"requestedMessage": "SignChargingStationCertificate"})
	eventually(t, "repetitions", func() bool { return s.saw("CS-0", "SignCertificate") >= 4 })
	if got := s.status("CS-0", "ClearCache", object{}); got != "Accepted" || f.Stats().Connects != 1 {
		t.Errorf("afterwards: %s, %d connections", got, f.Stats().Connects)
	}
}

// ending issues a client certificate that is valid for an hour and has only left
// to live.
func (ca *testCA) ending(t testing.TB, cn string, left time.Duration) *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(left)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: cn}, NotBefore: end.Add(-time.Hour), NotAfter: end,
	}, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestTrustStore: root certificates come, are listed and go, and a station never
// drops the one that its server needs.
func TestTrustStore(t *testing.T) {
	ca := newTestCA(t)
	for _, version := range []ocpp.Version{ocpp.V16, ocpp.V201} {
		t.Run(string(version), func(t *testing.T) {
			s := newTestServer(t, ocpp.ProfileMTLS, ca)
			f, _ := testFleet(t, s, ca, ocpp.ProfileMTLS, version, 1, func(c *Config) { c.Behaviour = passive() })
			eventually(t, "boot", func() bool { return f.Stats().Connected[3] == 1 && s.saw("CS-0", "StatusNotification") > 1 })
			use := useCSMSRoot
			if version == ocpp.V16 {
				use = useCentralSystemRoot
			}
			of := func(use string) object {
				if version == ocpp.V16 {
					return object{"certificateType": use}
				}
				return object{"certificateType": []string{use}}
			}
			list := func(use string) (hashes []hashData) {
				var ids struct {
					Hashes []hashData `json:"certificateHashData"`
					Chains []struct {
						Hash hashData `json:"certificateHashData"`
					} `json:"certificateHashDataChain"`
				}
				if err := json.Unmarshal(s.call("CS-0", "GetInstalledCertificateIds", of(use)).Payload, &ids); err != nil {
					t.Fatal(err)
				}
				for _, c := range ids.Chains {
					ids.Hashes = append(ids.Hashes, c.Hash)
				}
				return ids.Hashes
			}
			want := func(what, got, want string) {
				t.Helper()
				if got != want {
					t.Errorf("%s: %s, want %s", what, got, want)
				}
			}
			install := func(use string, der []byte) string {
				return s.status("CS-0", "InstallCertificate", object{"certificateType": use, "certificate": pemOf(der)})
			}
			remove := func(h hashData) string {
				return s.status("CS-0", "DeleteCertificate", object{"certificateHashData": h})
			}
			before := list(use)
			if len(before) != 1 {
				t.Fatalf("before: %v", before)
			}
			want("manufacturer roots", s.status("CS-0", "GetInstalledCertificateIds", of(useManufacturerRoot)), "NotFound")
			want("in use", remove(before[0]), "Failed")
			other := newTestCA(t).cert.Raw
			want("install", install(use, other), "Accepted")
			want("again", install(use, other), "Accepted")
			want("manufacturer root", install(useManufacturerRoot, other), "Accepted")
			want("not a CA", install(use, ca.issue(t, "leaf").Certificate[0]), "Rejected")
			want("unknown type", install("NoSuchType", other), "Rejected")
			both := list(use)
			if len(both) != 2 || both[0] != before[0] {
				t.Fatalf("after: %v", both)
			}
			want("delete", remove(both[1]), "Accepted")
			want("delete again", remove(both[1]), "NotFound")
			own, err := x509.ParseCertificate(s.presented("CS-0"))
			if err != nil {
				t.Fatal(err)
			}
			h, _ := hashOf(own, ca.cert, "SHA384")
			want("own certificate", remove(h), "Failed")
			for range maxInstalled - 1 {
				want("fill", install(use, newTestCA(t).cert.Raw), "Accepted")
			}
			want("full", install(use, newTestCA(t).cert.Raw), "Rejected")
		})
	}
}

// TestServerRootReplaced: a station believes a server with a certificate of a root
// that was installed, and no other; what it refused it reports.
func TestServerRootReplaced(t *testing.T) {
	ca, next := newTestCA(t), newTestCA(t)
	s := newTestServer(t, ocpp.ProfileTLS, ca)
	f, _ := testFleet(t, s, ca, ocpp.ProfileTLS, ocpp.V16, 1, func(c *Config) { c.Behaviour = passive() })
	eventually(t, "boot", func() bool { return s.saw("CS-0", "StatusNotification") > 1 })
	var own tls.Certificate
	swap := func(c *tls.Certificate) {
		own = *c
		s.http.TLS.Certificates[0] = own
		s.look("CS-0", func(st *testStation) { st.c.Close() })
	}
	old := s.http.TLS.Certificates[0]
	swap(next.issue(t, "localhost", net.IPv4(127, 0, 0, 1)))
	eventually(t, "refusals", func() bool { return f.Stats().Errors["tls"] > 2 })
	s.http.TLS.Certificates[0] = old
	eventually(t, "event", func() bool { return slices.Contains(s.events("CS-0"), "InvalidCentralSystemCertificate") })
	if got := s.events("CS-0"); len(got) != 2 { // and the start
		t.Errorf("not once per series: %v", got)
	}
	if got := s.status("CS-0", "InstallCertificate", object{"certificateType": useCentralSystemRoot, "certificate": pemOf(next.cert.Raw)}); got != "Accepted" {
		t.Fatal(got)
	}
	before := f.Stats().Errors["tls"]
	swap(next.issue(t, "localhost", net.IPv4(127, 0, 0, 1)))
	eventually(t, "reconnect", func() bool { return f.Stats().Connects == 3 && f.Stats().Connected[2] == 1 })
	if n := f.Stats().Errors["tls"]; n != before {
		t.Errorf("%d refusals of a root that was installed", n-before)
	}
}

// TestPasswordChange: the station comes back with the password it was given.
func TestPasswordChange(t *testing.T) {
	for _, version := range []ocpp.Version{ocpp.V16, ocpp.V201} {
		t.Run(string(version), func(t *testing.T) {
			s := newTestServer(t, ocpp.ProfilePlain, nil)
			s.password.Store("correct horse battery")
			f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, version, 1, func(c *Config) { c.Behaviour = passive() })
			eventually(t, "boot", func() bool { return s.saw("CS-0", "StatusNotification") > 1 })
			next, action, with := "0123456789abcdef", "SetVariables", any(object{"setVariableData": []object{{"attributeValue": "0123456789abcdef",
				"component": object{"name": "SecurityCtrlr"}, "variable": object{"name": "BasicAuthPassword"}}}})
			if version == ocpp.V16 {
				action, with = "ChangeConfiguration", object{"key": "AuthorizationKey", "value": strings.Repeat("3a", 16)}
				next = strings.Repeat(":", 16)
			}
			s.password.Store(next)
			if frame := s.call("CS-0", action, with); !strings.Contains(string(frame.Payload), "Accepted") {
				t.Fatalf("%s", frame.Payload)
			}
			eventually(t, "reconnect", func() bool { return f.Stats().Connects == 2 && f.Stats().Connected[1] == 1 })
			if n := f.Stats().Errors["unauthorized"]; n > 0 {
				t.Errorf("%d refusals", n)
			}
		})
	}
}
