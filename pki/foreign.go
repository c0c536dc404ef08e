package pki

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// minLeft is how long a new certificate of another CA must be good for at
	// least: a station needs time to get and try it.
	minLeft = time.Hour
	// maxAhead is how far the clock of another CA may be ahead.
	maxAhead = 5 * time.Minute
)

// CheckForeign reports why a certificate that another CA made is not what was
// asked for: a station's client certificate for this key and subject, that is good
// now. Who signed it is the caller's to check.
func CheckForeign(c *x509.Certificate, public crypto.PublicKey, want Subject, now time.Time) error {
	if k, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !k.Equal(public) {
		return fmt.Errorf("it is for another key than the request")
	}
	if err := CheckStrength(c); err != nil {
		return err
	}
	switch {
	case c.IsCA:
		return fmt.Errorf("it is of a CA: its owner could issue certificates of stations")
	case !strings.EqualFold(c.Subject.CommonName, want.CommonName):
		return fmt.Errorf("it is for serial number (CN) %.64q, this station's is %q", c.Subject.CommonName, want.CommonName)
	case !slices.ContainsFunc(c.Subject.Organization, func(o string) bool { return strings.EqualFold(strings.TrimSpace(o), want.Organization) }):
		return fmt.Errorf("it names organization (O) %.64q, the operator is %q", c.Subject.Organization, want.Organization)
	case c.NotBefore.After(now.Add(maxAhead)):
		return fmt.Errorf("it is valid from %s only, in %s", c.NotBefore.Format(time.RFC3339), c.NotBefore.Sub(now).Round(time.Second))
	case c.NotAfter.Before(now.Add(minLeft)):
		return fmt.Errorf("it is valid until %s, less than an hour from now", c.NotAfter.Format(time.RFC3339))
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return fmt.Errorf("its key usage does not allow signatures, which TLS needs")
	case len(c.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("it has a critical extension (%v) that nobody here knows", c.UnhandledCriticalExtensions[0])
	}
	if uses := len(c.ExtKeyUsage) + len(c.UnknownExtKeyUsage); uses > 0 && !slices.ContainsFunc(c.ExtKeyUsage, func(u x509.ExtKeyUsage) bool {
		return u == x509.ExtKeyUsageClientAuth || u == x509.ExtKeyUsageAny
	}) {
		return fmt.Errorf("its extended key usage does not allow TLS clients")
	}
	return nil
}
