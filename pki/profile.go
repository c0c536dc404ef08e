package pki

import (
	"crypto/x509"
	"time"
)

// Profile says what a kind of certificate looks like. Profiles are data: new
// kinds need no new code.
type Profile struct {
	Name string
	CA   bool
	// PathLen is how many CAs may follow a CA; negative: any number.
	PathLen int
	// OCSP marks a delegated responder (RFC 6960 §4.2.2.2), which needs no
	// revocation check itself.
	OCSP bool
	// KeyUsage is for all keys; RSA and EC usages are added by the key's kind.
	KeyUsage, RSA, EC x509.KeyUsage
	// Backdate is how long before the time of issue a certificate becomes
	// valid: stations' clocks are wrong.
	Backdate time.Duration
	// Lifetime runs from the time of issue; it is cut where the issuer's ends.
	Lifetime time.Duration
}

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// The profiles. None but OCSPResponder has an extended key usage: OCPP 2.0.1 A00.FR.514 advises
// against it, and a certificate without one is good for both ends of TLS.
//
// Ten years keep a root made before 2028 clear of January 2038, where stations
// with 32-bit clocks stop. A root bounds no path, so that it can sign its
// successor (CrossSign) with CAs below that.
var (
	Root = Profile{Name: "root", CA: true, PathLen: -1,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, Backdate: day, Lifetime: 10 * year}
	StationCA = Profile{Name: "station-ca", CA: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, Backdate: day, Lifetime: 10 * year}
	ServerCA = Profile{Name: "server-ca", CA: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, Backdate: day, Lifetime: 10 * year}
	// Station is a charging station's client certificate. Key agreement and
	// encipherment let it serve as the station's ISO 15118 certificate, too.
	Station = Profile{Name: "station",
		KeyUsage: x509.KeyUsageDigitalSignature, RSA: x509.KeyUsageKeyEncipherment, EC: x509.KeyUsageKeyAgreement,
		Backdate: day, Lifetime: 2 * year}
	// Server is a gateway's certificate. It lives shorter than a day instead of
	// being revoked. Key encipherment is for the static RSA suites that OCPP asks for.
	Server = Profile{Name: "server",
		KeyUsage: x509.KeyUsageDigitalSignature, RSA: x509.KeyUsageKeyEncipherment,
		Backdate: day, Lifetime: 20 * time.Hour}
	// OCSPResponder answers OCSP requests for the CA that issued it, so that the
	// CA's own key, which may be in an HSM, need not sign for strangers. It is the
	// only one with an extended key usage: RFC 6960 demands it.
	OCSPResponder = Profile{Name: "ocsp-responder", OCSP: true,
		KeyUsage: x509.KeyUsageDigitalSignature, Backdate: day, Lifetime: 7 * day}
)
