package csms

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"holdfast/store"
)

const (
	// maxCSR is the longest certificate signing request, in bytes; OCPP allows 5500 characters.
	maxCSR = 5500
	// maxRequests is how many different requests one operation takes: a station of
	// OCPP 2.x sends a new one when it has waited in vain (A02.FR.17 to A02.FR.19).
	maxRequests = 10
)

// SignedCertificate is what goes to the station that asked for it.
type SignedCertificate struct {
	Chain     string // PEM, leaf first
	Type      string // certificateType of the request (OCPP 2.x)
	RequestID *int   // of the request (OCPP 2.1)
}

// signingRequest is a station's certificate signing request, as an operation keeps it.
type signingRequest struct {
	CSR       string    `json:"csr"`
	Type      string    `json:"type,omitempty"`
	RequestID *int      `json:"request_id,omitempty"`
	At        time.Time `json:"at"`
	Number    int       `json:"number"` // of this operation, from 1
}

// takesRequests are the kinds of operations that a signing request is part of.
var takesRequests = []string{RenewCertificate, ChangeProfile, Onboard}

// SignCertificate takes a station's certificate signing request (OCPP 2.0.1 A02,
// A03). It becomes part of the operation that asked for it, or begins one: the
// renewal that the station wants itself. It reports whether the request was
// taken, after the commit: not without an authority, nor when an operation has
// had too many.
func (c *CSMS) SignCertificate(ctx context.Context, m Message, csr string, like SignedCertificate) (taken bool, err error) {
	if c.authority == nil || c.protocols[m.Version].CertificateSigned == nil || csr == "" || len(csr) > maxCSR {
		c.log.Warn("certificate request refused", "station", m.Station, "message_id", m.ID, "bytes", len(csr), "authority", c.authority != nil)
		return false, nil
	}
	if err := c.Keep(ctx, m); err != nil {
		return false, err
	}
	r := signingRequest{CSR: csr, Type: like.Type, RequestID: like.RequestID, At: m.ReceivedAt, Number: 1}
	o := c.newOperation(m.Station, RenewCertificate, renewCertificate, nil, "station")
	if o.Request, err = json.Marshal(r); err != nil {
		return false, err
	}
	o.Step = stepSign
	current, taken, err := c.store.OfferRequest(ctx, o, takesRequests, func(current store.Operation) (json.RawMessage, bool) {
		next := r
		var had signingRequest
		if len(current.Request) > 0 && json.Unmarshal(current.Request, &had) == nil {
			if next.Number = had.Number; had.CSR != r.CSR {
				next.Number++
			}
		}
		raw, err := json.Marshal(next)
		return raw, err == nil && next.Number <= maxRequests
	})
	if err != nil {
		return false, fmt.Errorf("take certificate request: %w", err)
	}
	if !taken {
		c.log.Warn("certificate request refused: the operation has had too many", "station", m.Station, "operation", current.ID)
	}
	c.wakeOperations()
	return taken, nil
}
