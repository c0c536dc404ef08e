package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/authority"
	"holdfast/gateway"
)

// serverTLS keeps what a gateway's handshakes are made with up to date: server
// certificates (from files, or issued and renewed by the authority; their keys
// never leave this process), the trust bundle and the ticket keys.
type serverTLS struct {
	gw      *gateway.Gateway
	client  *authority.Client
	log     *slog.Logger
	files   [][2]string // certificate and key; empty: the authority issues
	names   []string
	gateway string // for the authority's audit record

	// reconnects counts how often the bus was away: what was told meanwhile is lost.
	reconnects func() uint64

	// Owned by run.
	keys         []crypto.Signer
	certificates []tls.Certificate
	renew        time.Time // when to ask for new ones
	issuers      string    // Trust.ServerIssuers when they were issued
	read         string    // modification times and sizes of the files
	generation   int64
	made         gateway.TLS // what the gateway has

	expiry *prometheus.GaugeVec // of the certificates, by kind of key
	first  atomic.Int64         // when the first of them expires, Unix seconds

	refresh chan struct{} // capacity 1: trust or tickets changed
	ready   chan struct{} // closed when the first handshake can be made
}

const (
	tlsPoll  = 30 * time.Second // between looks at files, trust and validity
	tlsRetry = 2 * time.Second  // while the authority is away at the start
	tlsBack  = time.Second      // between looks whether the bus was away
)

func newServerTLS(gw *gateway.Gateway, client *authority.Client, f *gatewayFlags, id string, reconnects func() uint64, log *slog.Logger) (*serverTLS, error) {
	s := &serverTLS{gw: gw, client: client, log: log, reconnects: reconnects, names: f.ServerNames, gateway: "gateway " + id, refresh: make(chan struct{}, 1), ready: make(chan struct{}),
		expiry: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "holdfast_server_certificate_expiry_timestamp_seconds",
			Help: "When the server certificate that stations see expires, by kind of key and where it comes from: the authority, which replaces it at half of its life, or files."},
			[]string{"key", "source"})}
	for i := range f.ServerCert {
		s.files = append(s.files, [2]string{f.ServerCert[i], f.ServerKey[i]})
	}
	if len(s.files) > 0 {
		_, err := s.loadFiles()
		return s, err
	}
	if len(s.names) == 0 {
		s.names = machineNames()
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("server key: %w", err)
	}
	// For stations that speak static RSA suites only (A00.FR.318). ECDSA goes first.
	old, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("server key: %w", err)
	}
	s.keys = []crypto.Signer{ec, old}
	return s, nil
}

// maxNames is how many names of this machine go into its certificate.
const maxNames = 16

// machineNames are the names by which stations may reach this machine: enough to
// try a station on the same network. Behind a load balancer, --server-names
// gives the name in the stations' URLs.
func machineNames() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if host, err := os.Hostname(); err == nil && hostName.MatchString(host) {
		names = append(names, strings.ToLower(host))
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return names
	}
	for _, a := range addresses {
		n, ok := a.(*net.IPNet)
		if ok && n.IP.IsGlobalUnicast() && len(names) < maxNames {
			names = append(names, n.IP.String())
		}
	}
	return names
}

// hostName matches what can be a DNS name in a certificate.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

// changed asks for a refresh soon.
func (s *serverTLS) changed() {
	select {
	case s.refresh <- struct{}{}:
	default:
	}
}

func (s *serverTLS) run(ctx context.Context) error {
	failed, started := "", false
	back := time.NewTicker(tlsBack)
	defer back.Stop()
	for seen := s.reconnects(); ; {
		err := s.update(ctx)
		wait := tlsPoll
		if len(s.files) == 0 {
			wait = min(wait, max(time.Until(s.renew), tlsRetry)) // certificates may live for less
		}
		if err != nil && ctx.Err() == nil {
			if err.Error() != failed { // once per outage
				s.log.Error("server certificate, trust or ticket keys could not be brought up to date", "err", err)
			}
			wait = tlsRetry
		}
		if failed = ""; err != nil {
			failed = err.Error()
		}
		if !started && (err == nil || s.generation != 0) {
			started = true
			close(s.ready)
		}
		again := time.After(wait)
	waiting:
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-back.C:
				if n := s.reconnects(); n != seen {
					seen = n
					s.gw.Doubt()
					break waiting
				}
			case <-s.refresh:
				break waiting
			case <-again:
				break waiting
			}
		}
	}
}

// update fetches what is due and hands everything to the gateway.
func (s *serverTLS) update(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if len(s.files) == 0 {
		return s.follow(ctx)
	}
	changed, err := s.loadFiles() // first: they need no authority
	if changed && s.generation != 0 {
		s.made.Certificates = s.certificates
		s.gw.SetTLS(s.made)
	}
	return errors.Join(err, s.follow(ctx)) // with damaged files the certificates from before go on
}

// follow fetches what the authority says.
func (s *serverTLS) follow(ctx context.Context) error {
	trust, err := s.client.Trust(ctx)
	if err != nil {
		return fmt.Errorf("trust: %w", err)
	}
	tickets, err := s.client.TicketKeys(ctx)
	if err != nil {
		return fmt.Errorf("ticket keys: %w", err)
	}
	if len(s.files) == 0 && (time.Now().After(s.renew) || s.issuers != trust.ServerIssuers) {
		if err = s.issue(ctx); err != nil {
			return err
		}
		s.issuers = trust.ServerIssuers
	}
	t := gateway.TLS{Certificates: s.certificates}
	for _, key := range tickets.Keys {
		if len(key) != 32 {
			return fmt.Errorf("ticket keys: one of %d bytes instead of 32", len(key))
		}
		t.Tickets = append(t.Tickets, [32]byte(key))
	}
	if t.Trust, err = parseTrust(trust); err != nil {
		return err
	}
	s.made = t
	s.gw.SetTLS(t)
	s.gw.Enforce()
	if s.generation != 0 && s.generation != trust.Generation {
		s.gw.Doubt() // a change may have been missed while the bus was away
	}
	s.generation = trust.Generation
	return nil
}

// issue gets a certificate for each key from the authority.
func (s *serverTLS) issue(ctx context.Context) error {
	certificates := make([]tls.Certificate, len(s.keys))
	for i, key := range s.keys {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: s.names[0]}}, key)
		if err != nil {
			return fmt.Errorf("request server certificate: %w", err)
		}
		csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
		signed, err := s.client.ServerCertificate(ctx, s.gateway, string(csr), s.names)
		if err != nil {
			return fmt.Errorf("server certificate for %v: %w", s.names, err)
		}
		c := tls.Certificate{PrivateKey: key}
		certs, err := parseCertificates(signed.Chain)
		if err != nil {
			return fmt.Errorf("server certificate: %w", err)
		}
		for _, cert := range certs {
			c.Certificate = append(c.Certificate, cert.Raw)
		}
		c.Leaf = certs[0]
		certificates[i] = c
	}
	s.use(certificates)
	left := time.Until(certificates[0].Leaf.NotAfter)
	s.renew = time.Now().Add(left / 2)
	s.log.Info("server certificate issued", "names", s.names, "valid_until", certificates[0].Leaf.NotAfter)
	return nil
}

// use takes certificates for the handshakes to come.
func (s *serverTLS) use(certificates []tls.Certificate) {
	s.certificates = certificates
	source := "authority"
	if len(s.files) > 0 {
		source = "files"
	}
	var first time.Time
	s.expiry.Reset()
	for _, c := range certificates {
		key := "rsa"
		if _, ok := c.Leaf.PublicKey.(*ecdsa.PublicKey); ok {
			key = "ecdsa"
		}
		s.expiry.WithLabelValues(key, source).Set(float64(c.Leaf.NotAfter.Unix()))
		if first.IsZero() || c.Leaf.NotAfter.Before(first) {
			first = c.Leaf.NotAfter
		}
	}
	s.first.Store(first.Unix())
}

// unready says why no station can verify this gateway, if so.
func (s *serverTLS) unready() []string {
	select {
	case <-s.ready:
	default:
		return []string{"no server certificate and trust from the authority yet"}
	}
	if at := time.Unix(s.first.Load(), 0); time.Now().After(at) {
		return []string{fmt.Sprintf("the server certificate expired on %s: %s", at.UTC().Format(time.RFC3339), s.mend())}
	}
	return nil
}

func (s *serverTLS) mend() string {
	if len(s.files) > 0 {
		return "replace the files of --server-cert and --server-key"
	}
	return "the log says why the authority gives no new one"
}

// loadFiles reads the certificate files if they changed.
func (s *serverTLS) loadFiles() (changed bool, err error) {
	found := ""
	for _, pair := range s.files {
		for _, name := range pair {
			info, err := os.Stat(name)
			if err != nil {
				return false, fmt.Errorf("server certificate: %w (see --server-cert and --server-key)", err)
			}
			found += fmt.Sprintln(info.ModTime().UnixNano(), info.Size())
		}
	}
	if found == s.read {
		return false, nil
	}
	certificates := make([]tls.Certificate, len(s.files))
	for i, pair := range s.files {
		c, err := tls.LoadX509KeyPair(pair[0], pair[1])
		if err != nil {
			return false, fmt.Errorf("server certificate %s with key %s: %w (both must be PEM and belong together)", pair[0], pair[1], err)
		}
		if time.Now().After(c.Leaf.NotAfter) {
			return false, fmt.Errorf("server certificate %s expired on %s: replace it", pair[0], c.Leaf.NotAfter.Format(time.DateOnly))
		}
		certificates[i] = c
	}
	if s.certificates != nil {
		s.log.Info("server certificate files reloaded")
	}
	s.use(certificates)
	s.read = found
	return true, nil
}

func parseTrust(t authority.Trust) (gateway.Trust, error) {
	roots, err := parseCertificates(t.ClientRoots)
	if err != nil {
		return gateway.Trust{}, fmt.Errorf("trust: %w", err)
	}
	inter, err := parseCertificates(t.ClientIntermediates)
	if err != nil {
		return gateway.Trust{}, fmt.Errorf("trust: %w", err)
	}
	revoked := make(map[[32]byte]bool, len(t.Revoked))
	for _, s := range t.Revoked {
		sum, err := hex.DecodeString(s)
		if err != nil || len(sum) != 32 {
			return gateway.Trust{}, errors.New("trust: a revoked fingerprint is not a SHA-256")
		}
		revoked[[32]byte(sum)] = true
	}
	return gateway.Trust{Roots: roots, Intermediates: inter, Revoked: revoked, Barred: t.Barred}, nil
}

func parseCertificates(text string) ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return list, nil
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
}

// applyChange lets a gateway follow a change that the authority published.
func applyChange(gw *gateway.Gateway, t *serverTLS, data []byte) error {
	var c authority.Change
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("change: %w", err)
	}
	switch c.Kind {
	case authority.ChangeTrust, authority.ChangeTickets, authority.ChangeCertificate:
		t.changed()
	}
	switch {
	case c.Drop:
		gw.Drop(c.Station, c.Fingerprint, gateway.CloseRevoked)
	case c.Station != "":
		gw.Forget(c.Station)
	}
	return nil
}
