package fleet

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// ClientTLS is how a station speaks TLS. The zero value is what most stations
// do: TLS 1.2 or 1.3, every suite that crypto/tls has on by default, SNI, full
// handshakes, and the whole chain in profile 3. Stations may share one.
type ClientTLS struct {
	// MinVersion and MaxVersion are as in tls.Config. Zero means TLS 1.2 and TLS 1.3.
	MinVersion, MaxVersion uint16
	// CipherSuites are those of TLS 1.2, as in tls.Config. Nil means its default.
	CipherSuites []uint16
	// NoSNI leaves the server's name out of the ClientHello.
	NoSNI bool
	// Resume keeps the last session ticket, about 3 KB per station, and offers it.
	Resume bool
	// LeafOnly presents the station's certificate without its intermediates.
	LeafOnly bool

	behind time.Duration // of its clock
}

// maxTLSConfigs bounds how many configurations are shared; stations beyond it,
// which trust what few others trust, make one per connection.
const maxTLSConfigs = 256

// tlsKey is what stations that share a tls.Config have in common.
type tlsKey struct {
	host    string
	options *ClientTLS
	roots   [sha256.Size]byte // of the trust store; zero: the fleet's
}

// presented is what one TLS handshake presents; the context carries it, so that
// stations share one tls.Config.
type presented struct{ certificate *tls.Certificate }

type presentedKey struct{}

// tlsConfig returns the configuration for a connection of s to host.
func (s *station) tlsConfig(host string) *tls.Config {
	key := tlsKey{host: host, options: s.id.TLS}
	roots, own := s.roots()
	if own {
		h := sha256.New()
		for _, c := range roots {
			h.Write(c.Raw)
		}
		h.Sum(key.roots[:0])
	}
	f := s.f
	f.mu.Lock()
	defer f.mu.Unlock()
	shared := f.tls[key]
	if shared == nil {
		pool := f.cfg.Roots != nil
		shared = clientTLS(host, poolOf(roots, pool), s.id.TLS)
		if len(f.tls) < maxTLSConfigs {
			f.tls[key] = shared
		}
	}
	if s.id.TLS == nil || !s.id.TLS.Resume {
		return shared
	}
	x := s.more()
	if x.sessions == nil {
		x.sessions = tls.NewLRUClientSessionCache(1)
	}
	config := shared.Clone()
	config.ClientSessionCache = x.sessions
	return config
}

// poolOf makes a pool of the given roots, or adds them to the system's.
func poolOf(roots []*x509.Certificate, alone bool) *x509.CertPool {
	if !alone && len(roots) == 0 {
		return nil // the system's
	}
	pool := x509.NewCertPool()
	if !alone {
		if system, err := x509.SystemCertPool(); err == nil {
			pool = system
		}
	}
	for _, c := range roots {
		pool.AddCert(c)
	}
	return pool
}

// clientTLS makes the configuration of stations that connect to host. Session
// tickets are kept for nobody: a shared cache would mix up identities.
func clientTLS(host string, roots *x509.CertPool, options *ClientTLS) *tls.Config {
	var last atomic.Pointer[believed]
	now := time.Now
	if options != nil && options.behind > 0 {
		now = func() time.Time { return time.Now().Add(-options.behind) }
	}
	config := &tls.Config{
		Time:       now,
		ServerName: host,
		MinVersion: tls.VersionTLS12,
		GetClientCertificate: func(request *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if p, _ := request.Context().Value(presentedKey{}).(*presented); p != nil && p.certificate != nil {
				return p.certificate, nil
			}
			return new(tls.Certificate), nil // none: the server decides
		},
		// The server is verified below: crypto/tls knows no CN rule.
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			if last.Load().same(state.PeerCertificates) {
				return nil
			}
			if err := verifyServer(state.PeerCertificates, host, roots, now()); err != nil {
				return &serverCertificateError{err}
			}
			last.Store(&believed{state.PeerCertificates, time.Now()})
			return nil
		},
	}
	if options != nil {
		if options.MinVersion != 0 {
			config.MinVersion = options.MinVersion
		}
		config.MaxVersion, config.CipherSuites = options.MaxVersion, options.CipherSuites
		if options.NoSNI {
			config.ServerName = ""
		}
	}
	return config
}

// believedFor is how long a server's chain that was verified is not verified
// again: with thousands of stations that trust the same roots it would be a sixth
// of what connecting costs.
const believedFor = 10 * time.Second

// believed is a chain that was verified.
type believed struct {
	chain []*x509.Certificate
	at    time.Time
}

func (b *believed) same(chain []*x509.Certificate) bool {
	return b != nil && time.Since(b.at) < believedFor && slices.EqualFunc(b.chain, chain, (*x509.Certificate).Equal)
}

// serverCertificateError says why a station does not believe the server.
type serverCertificateError struct{ err error }

func (e *serverCertificateError) Error() string { return "server certificate: " + e.err.Error() }
func (e *serverCertificateError) Unwrap() error { return e.err }

// verifyServer checks the chain and the name: a SAN, or, as OCPP has it, the
// common name (OCPP 2.x A00).
func verifyServer(chain []*x509.Certificate, host string, roots *x509.CertPool, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("there is none")
	}
	options := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}, CurrentTime: now}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	if _, err := chain[0].Verify(options); err != nil {
		return err
	}
	if err := chain[0].VerifyHostname(host); err != nil && !strings.EqualFold(chain[0].Subject.CommonName, host) {
		return fmt.Errorf("neither a SAN nor the CN is %s", host)
	}
	return nil
}
