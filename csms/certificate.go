package csms

import (
	"context"
	"fmt"
	"sync"
	"time"

	"holdfast/ocpp"
)

const (
	// signTime bounds one signature, the authority's own checks included.
	signTime = time.Minute
	// signPause lets the answer to SignCertificate reach the station before
	// CertificateSigned does.
	signPause = time.Second
	// maxCSR is the longest certificate signing request, in bytes; OCPP allows 5500 characters.
	maxCSR = 5500
)

// SignedCertificate is what goes to the station that asked for it.
type SignedCertificate struct {
	Chain     string // PEM, leaf first
	Type      string // certificateType of the request (OCPP 2.x)
	RequestID *int   // of the request (OCPP 2.1)
}

// signing holds the stations whose request is open: one each. It cannot grow
// beyond the jobs that wait and run.
type signing struct {
	mu   sync.Mutex
	open map[string]bool // by folded identity
}

func (s *signing) begin(station string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[station] {
		return false
	}
	if s.open == nil {
		s.open = make(map[string]bool)
	}
	s.open[station] = true
	return true
}

func (s *signing) end(station string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, station)
}

// SignCertificate has a station's certificate signing request signed and sends
// the chain by CertificateSigned (OCPP 2.0.1 A02); the command is in the audit
// record. It reports at once whether that was begun: not without an authority,
// nor while too many wait. A request of a station that has one open already is
// accepted and changes nothing: it is the same one, sent again.
func (c *CSMS) SignCertificate(ctx context.Context, m Message, csr string, like SignedCertificate) (begun bool, err error) {
	protocol := c.protocols[m.Version]
	if c.sign == nil || protocol.CertificateSigned == nil || csr == "" || len(csr) > maxCSR {
		c.log.Warn("certificate request refused", "station", m.Station, "message_id", m.ID, "bytes", len(csr), "authority", c.sign != nil)
		return false, nil
	}
	if err := c.Keep(ctx, m); err != nil {
		return false, err
	}
	key := m.Station.Fold()
	if !c.signing.begin(key) {
		return true, nil
	}
	begun = c.later(func(ctx context.Context) {
		defer c.signing.end(key)
		if err := c.deliverCertificate(ctx, m, csr, like, protocol); err != nil {
			c.log.Error("certificate not delivered", "station", m.Station, "err", err)
		}
	})
	if !begun {
		c.signing.end(key)
	}
	return begun, nil
}

func (c *CSMS) deliverCertificate(ctx context.Context, m Message, csr string, like SignedCertificate, p Protocol) error {
	pause := time.NewTimer(signPause)
	defer pause.Stop()
	signCtx, cancel := context.WithTimeout(ctx, signTime)
	defer cancel()
	chain, err := c.sign(signCtx, m.Station, csr)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	select {
	case <-pause.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	like.Chain = chain
	payload, err := ocpp.Encode(p.CertificateSigned(like))
	if err != nil {
		return fmt.Errorf("chain: %s", err)
	}
	result, err := c.Command(ctx, Command{Station: m.Station, Action: "CertificateSigned", Payload: payload, By: "authority"})
	if err == nil && result.Result != ResultAccepted {
		err = fmt.Errorf("command %s: %s", result.ID, result.Result)
	}
	return err
}
