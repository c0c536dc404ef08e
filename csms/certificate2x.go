package csms

import "context"

type signCertificateRequest2x struct {
	CSR             string `json:"csr"`
	CertificateType string `json:"certificateType"`
	RequestID       *int   `json:"requestId"` // OCPP 2.1
}

// signCertificate2x begins a signature (A02, A03). The authority signs what a
// station shows to its CSMS; what it shows to an EV comes from another CA.
func signCertificate2x(ctx context.Context, c *CSMS, m Message, request *signCertificateRequest2x) (*statusOnly, error) {
	if request.CertificateType != "" && request.CertificateType != "ChargingStationCertificate" {
		return &statusOnly{"Rejected"}, c.Keep(ctx, m)
	}
	begun, err := c.SignCertificate(ctx, m, request.CSR, SignedCertificate{Type: request.CertificateType, RequestID: request.RequestID})
	if err != nil {
		return nil, err
	}
	if !begun {
		return &statusOnly{"Rejected"}, nil
	}
	return &statusOnly{"Accepted"}, nil
}
