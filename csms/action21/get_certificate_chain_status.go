package action21

import (
	"context"
	"time"

	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/ocpp/v21"
)

// askAgain is when a station may ask again for a certificate's status.
const askAgain = 24 * time.Hour

// getCertificateChainStatus answers Failed for each certificate: nobody here
// asks the responders that a station names.
func getCertificateChainStatus(ctx context.Context, c *csms.CSMS, m csms.Message, request *v21.GetCertificateChainStatusRequest) (*v21.GetCertificateChainStatusResponse, error) {
	// The answer repeats parts of the request, so they have to be right.
	if _, err := m.Action.ValidateRequest(m.Payload); err != nil {
		return nil, err
	}
	response := &v21.GetCertificateChainStatusResponse{}
	for _, r := range request.CertificateStatusRequests {
		response.CertificateStatus = append(response.CertificateStatus, v21.CertificateStatus{
			CertificateHashData: r.CertificateHashData,
			Source:              r.Source,
			Status:              v21.CertificateStatusCodeFailed,
			NextUpdate:          ocpp.NewDateTime(c.Now().Add(askAgain)),
		})
	}
	return response, c.Keep(ctx, m)
}
