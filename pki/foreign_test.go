package pki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
	"time"
)

// A certificate of another CA is taken only as what was asked for.
func TestCheckForeign(t *testing.T) {
	key, err := GenerateKey(ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	other, err := GenerateKey(ECDSA)
	if err != nil {
		t.Fatal(err)
	}
	want := StationSubject("CS-1", "Op")
	for name, tt := range map[string]struct {
		change func(*x509.Certificate)
		says   string
	}{
		"as asked for":        {func(*x509.Certificate) {}, ""},
		"other letters":       {func(c *x509.Certificate) { c.Subject.CommonName, c.Subject.Organization = "cs-1", []string{"X", "op"} }, ""},
		"any use":             {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }, ""},
		"a clock ahead":       {func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) }, ""},
		"another key":         {func(c *x509.Certificate) { c.PublicKey = other.Public() }, "another key"},
		"no key":              {func(c *x509.Certificate) { c.PublicKey = nil }, "another key"},
		"a CA":                {func(c *x509.Certificate) { c.IsCA = true }, "of a CA"},
		"another serial":      {func(c *x509.Certificate) { c.Subject.CommonName = "CS-11" }, `"CS-11"`},
		"no operator":         {func(c *x509.Certificate) { c.Subject.Organization = nil }, "organization"},
		"SHA-1":               {func(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 }, "SHA1"},
		"to come":             {func(c *x509.Certificate) { c.NotBefore = now.Add(10 * time.Minute) }, "in 10m0s"},
		"over":                {func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Hour) }, "less than an hour"},
		"soon over":           {func(c *x509.Certificate) { c.NotAfter = now.Add(59 * time.Minute) }, "less than an hour"},
		"for encryption only": {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, "key usage"},
		"for servers only":    {func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, "extended key usage"},
		"for something else":  {func(c *x509.Certificate) { c.UnknownExtKeyUsage = append(c.UnknownExtKeyUsage, oidNoCheck) }, "extended key usage"},
		"a critical extension": {func(c *x509.Certificate) {
			c.UnhandledCriticalExtensions = append(c.UnhandledCriticalExtensions, oidNoCheck)
		}, "critical extension"},
	} {
		c := &x509.Certificate{PublicKey: key.Public(), SignatureAlgorithm: x509.ECDSAWithSHA256, KeyUsage: x509.KeyUsageDigitalSignature,
			Subject: pkix.Name{CommonName: "CS-1", Organization: []string{"Op"}}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
		tt.change(c)
		err := CheckForeign(c, key.Public(), want, now)
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
