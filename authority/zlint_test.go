package authority

import (
	"testing"

	zx509 "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"holdfast/ocpp"
	"holdfast/pki"
	"holdfast/store"
)

// lintsLeftOut are the findings of zlint that are meant to be, with the reason.
// Most are rules for certificates that browsers trust (CA/Browser Forum, Apple,
// Mozilla), which a charge point operator's own PKI does not serve.
var lintsLeftOut = map[string]string{
	"e_ca_country_name_missing":                         "browsers' rule; OCPP names O and CN (A00.FR.510, 511)",
	"e_sub_cert_country_name_must_appear":               "browsers' rule; OCPP names O and CN (A00.FR.510, 511)",
	"e_sub_cert_locality_name_must_appear":              "browsers' rule; OCPP names O and CN (A00.FR.510, 511)",
	"e_sub_cert_province_must_appear":                   "browsers' rule; OCPP names O and CN (A00.FR.510, 511)",
	"w_subject_common_name_included":                    "browsers' rule; OCPP stations look at CN (A00.FR.511, 512)",
	"e_sub_cert_eku_missing":                            "browsers' rule; OCPP advises against extended key usage (A00.FR.514)",
	"n_sub_ca_eku_missing":                              "browsers' rule; OCPP advises against extended key usage (A00.FR.514)",
	"n_mp_allowed_eku":                                  "Mozilla's rule; OCPP advises against extended key usage (A00.FR.514)",
	"e_invalid_ca_certificate_policies":                 "browsers' rule; there is no policy to name",
	"e_sub_ca_certificate_policies_missing":             "browsers' rule; there is no policy to name",
	"e_sub_cert_certificate_policies_missing":           "browsers' rule; there is no policy to name",
	"e_sub_cert_cert_policy_empty":                      "browsers' rule; there is no policy to name",
	"e_sub_ca_crl_distribution_points_missing":          "browsers' rule; a CA lives for ten years, an address does not. A root's list is at its key identifier",
	"w_sub_ca_aia_missing":                              "browsers' rule; stations and gateways send the CAs along",
	"n_ct_sct_policy_count_unsatisfied":                 "Certificate Transparency is for public CAs",
	"n_ca_digital_signature_not_set":                    "a delegated responder signs OCSP, not the CA",
	"w_ext_subject_key_identifier_missing_sub_cert":     "RFC 5280 §4.2.1.2 says SHOULD; nothing in OCPP looks it up, and every handshake would carry it",
	"e_dnsname_not_valid_tld":                           "a serial number in the SAN is not a name of the public DNS",
	"n_san_iana_pub_suffix_empty":                       "a serial number in the SAN is not a name of the public DNS",
	"e_ext_san_contains_reserved_ip":                    "a gateway may be reached at a private address",
	"w_sub_cert_aia_contains_internal_names":            "the address is the operator's",
	"w_cabf_ecc_ku_keyagreement_present":                "browsers' advice; the certificate may serve ISO 15118 (key agreement), too",
	"e_server_cert_valid_time_longer_than_200_days":     "browsers' rule; a station cannot always be reached for renewal",
	"w_server_cert_valid_time_longer_than_199_days":     "browsers' rule; a station cannot always be reached for renewal",
	"e_tls_server_cert_valid_time_longer_than_398_days": "Apple's rule; a station cannot always be reached for renewal",
	"w_tls_server_cert_valid_time_longer_than_397_days": "Apple's rule; a station cannot always be reached for renewal",
}

// zlint finds nothing in what we issue but what is meant to be, and everything
// that is left out is found, so that no reason outlives its lint.
func TestZlint(t *testing.T) {
	f, _ := publisher(t)
	ctx := t.Context()
	seen := make(map[string]bool)
	check := func(what string, r *zlint.ResultSet) {
		t.Helper()
		for name, result := range r.Results {
			if result.Status < lint.Notice {
				continue
			}
			seen[name] = true
			if lintsLeftOut[name] == "" {
				t.Errorf("%s: %s: %s %s", what, name, result.Status, result.Details)
			}
		}
	}
	certificate := func(what string, der []byte) {
		t.Helper()
		c, err := zx509.ParseCertificate(der)
		if err != nil {
			t.Fatal(what, err)
		}
		check(what, zlint.LintCertificate(c))
	}
	if _, err := f.PrepareRoot(ctx, "test", pki.ECDSA); err != nil {
		t.Fatal(err)
	}
	h, err := f.hierarchy(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range h.cas {
		certificate(string(i.record.State)+" "+i.name.String(), i.Cert.Raw)
	}
	for _, algorithm := range pki.Algorithms {
		issued := f.add(t, NewStation{ID: ocpp.StationID("CS-" + algorithm), Serial: "SN-" + string(algorithm), Profile: 3, Algorithm: algorithm}).Issued
		certificate("station "+string(algorithm), der(t, issued.Chain)[0])
		csr := csrOf(t, newKey(t, algorithm), noName)
		server, err := f.ServerCertificate(ctx, "gw", csr, []string{"ocpp.example.com", "192.168.2.1"})
		if err != nil {
			t.Fatal(err)
		}
		certificate("server "+string(algorithm), der(t, server.Chain)[0])
		if _, err := f.RevokeCertificate(ctx, "test", issued.Certificate.Serial, "superseded"); err != nil {
			t.Fatal(err)
		}
		for _, role := range []string{"root-", "station-", "server-"} {
			list, _, err := f.CRL(ctx, role+string(algorithm))
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := zx509.ParseRevocationList(list)
			if err != nil {
				t.Fatal(err)
			}
			check("revocation list of "+role+string(algorithm), zlint.LintRevocationList(parsed))
		}
		ca := h.issuing[caName{roleStation, algorithm}]
		if _, err := f.responder(ctx, h, ca, f.now()); err != nil {
			t.Fatal(err)
		}
	}
	responders, err := f.store.Certificates(ctx, store.CertificateFilter{Kind: store.KindOCSP}, store.Page{})
	if err != nil || len(responders.Items) != len(pki.Algorithms) {
		t.Fatalf("%d responders, %v", len(responders.Items), err)
	}
	for _, r := range responders.Items {
		certificate("OCSP responder", der(t, r.PEM)[0])
	}
	for name := range lintsLeftOut {
		if !seen[name] {
			t.Errorf("%s is left out, and nothing has it", name)
		}
	}
}
