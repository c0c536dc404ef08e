package est

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"mime"
	"net/http"

	"github.com/smallstep/pkcs7"
)

// maxCertificates is how many certificates an answer may hold.
const maxCertificates = 20

// answer reads the certificates of an answer: PKCS#7 without signatures
// ("certs-only"), in base64 (RFC 8951 §3).
func answer(resp *http.Response, body []byte) ([]*x509.Certificate, error) {
	bad := func(format string, args ...any) error {
		return &Error{Kind: BadAnswer, Problem: fmt.Sprintf(format, args...)}
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp, body)
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "application/pkcs7-mime" {
		return nil, bad("it answered %.60q instead of application/pkcs7-mime", resp.Header.Get("Content-Type"))
	}
	if len(body) > maxAnswer {
		return nil, bad("it answered more than %d bytes", maxAnswer)
	}
	certs, err := parse(body)
	if err != nil {
		return nil, bad("its answer cannot be read: %v", err)
	}
	return certs, nil
}

// parse reads base64 of a certs-only PKCS#7.
func parse(text []byte) ([]*x509.Certificate, error) {
	text = bytes.Join(bytes.Fields(text), nil)
	der := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(der, text)
	if err != nil {
		return nil, fmt.Errorf("base64: %w", err)
	}
	p, err := pkcs7.Parse(der[:n])
	switch {
	case err != nil:
		return nil, err
	case len(p.Certificates) == 0:
		return nil, fmt.Errorf("no certificate in it")
	case len(p.Certificates) > maxCertificates:
		return nil, fmt.Errorf("%d certificates in it, at most %d are read", len(p.Certificates), maxCertificates)
	}
	return p.Certificates, nil
}
