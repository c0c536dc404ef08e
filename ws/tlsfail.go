package ws

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Kinds of failed TLS handshakes.
const (
	failTimeout         = "timeout"          // HandshakeTime exceeded
	failEOF             = "eof"              // the peer left
	failNoCertificate   = "no_certificate"   // the peer sent none
	failBadCertificate  = "bad_certificate"  // unreadable, wrong use, bad signature
	failUnknownCA       = "unknown_ca"       //
	failExpired         = "expired"          // or not yet valid
	failProtocolVersion = "protocol_version" // none in common
	failNoCipher        = "no_cipher"        // no suite, curve or signature algorithm in common
	failNotTLS          = "not_tls"          // the first bytes are not TLS
	failRefusedByPeer   = "refused_by_peer"  // the peer sent an alert: it refused our certificate, or worse
	failOther           = "other"            //
)

// failure names why a TLS handshake failed. crypto/tls has types for few of
// its errors; the rest is told by their texts, which a test pins.
func (m *metrics) failure(err error) string {
	var named interface{ HandshakeFailure() string }
	if errors.As(err, &named) {
		return m.kind(named.HandshakeFailure())
	}
	var (
		record  tls.RecordHeaderError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		verify  *tls.CertificateVerificationError
		op      *net.OpError
	)
	switch {
	case errors.As(err, &record):
		return failNotTLS
	case errors.As(err, &unknown):
		return failUnknownCA
	case errors.As(err, &invalid):
		if invalid.Reason == x509.Expired {
			return failExpired
		}
		return failBadCertificate
	case errors.As(err, &verify):
		return failBadCertificate
	case errors.Is(err, os.ErrDeadlineExceeded):
		return failTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return failEOF
	case errors.As(err, &op) && op.Op == "remote error":
		return failRefusedByPeer
	}
	text := err.Error()
	for _, t := range failureTexts {
		if strings.Contains(text, t.text) {
			return t.kind
		}
	}
	return failOther
}

var failureTexts = []struct{ text, kind string }{
	{"didn't provide a certificate", failNoCertificate},
	{"unsupported versions", failProtocolVersion},
	{"protocol version", failProtocolVersion},
	{"downgrade", failProtocolVersion},
	{"no cipher suite", failNoCipher},
	{"no ECDHE curve", failNoCipher},
	{"no key exchanges", failNoCipher},
	{"no supported", failNoCipher},
	{"signature algorithm", failNoCipher},
	{"supports none of", failNoCipher},
	{"certificate", failBadCertificate},
	{"invalid signature", failBadCertificate},
	{"unsupported SSLv2", failNotTLS},
}
