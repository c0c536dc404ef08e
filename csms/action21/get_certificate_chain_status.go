package action21

import (
	"context"
	"time"

	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/ocpp/v21"
)

// When a station may ask again for a certificate's status that is not known.
const (
	askAgain  = 24 * time.Hour // nobody will be asked
	trySooner = time.Hour      // nobody answered
)

// oneTime is how long one certificate may take: there may be four in a question,
// and their time is that of one CALL.
const oneTime = 4 * time.Second

// getCertificateChainStatus answers with the status of each certificate (M06) as
// OCSP responders say. Revocation lists are not fetched: they have no bound that
// a station's question would be worth.
func getCertificateChainStatus(ctx context.Context, c *csms.CSMS, m csms.Message, request *v21.GetCertificateChainStatusRequest) (*v21.GetCertificateChainStatusResponse, error) {
	// The answer repeats parts of the request, so they have to be right.
	if _, err := m.Action.ValidateRequest(m.Payload); err != nil {
		return nil, err
	}
	if err := c.Keep(ctx, m); err != nil {
		return nil, err
	}
	response := &v21.GetCertificateChainStatusResponse{}
	for _, r := range request.CertificateStatusRequests {
		response.CertificateStatus = append(response.CertificateStatus, chainStatus(ctx, c, m, r))
	}
	return response, nil
}

func chainStatus(ctx context.Context, c *csms.CSMS, m csms.Message, r v21.CertificateStatusRequestInfo) v21.CertificateStatus {
	s := v21.CertificateStatus{
		CertificateHashData: r.CertificateHashData, Source: r.Source,
		Status: v21.CertificateStatusCodeFailed, NextUpdate: ocpp.NewDateTime(c.Now().Add(askAgain)),
	}
	if r.Source != v21.CertificateStatusSourceOCSP {
		return s
	}
	ctx, cancel := context.WithTimeout(ctx, oneTime)
	defer cancel()
	h := r.CertificateHashData
	answer, err := c.CertificateStatus(ctx, m, csms.OCSPQuestion{
		HashAlgorithm: string(h.HashAlgorithm), IssuerNameHash: h.IssuerNameHash, IssuerKeyHash: h.IssuerKeyHash, SerialNumber: h.SerialNumber, URLs: r.URLs,
	})
	next := answer.NextUpdate
	if next.IsZero() {
		next = c.Now().Add(trySooner)
	}
	switch {
	case err == nil:
		s.Status = v21.CertificateStatusCode(answer.Status)
		s.NextUpdate = ocpp.NewDateTime(next)
	case err.Code == csms.CodeInternalError:
		s.NextUpdate = ocpp.NewDateTime(next)
	}
	return s
}
