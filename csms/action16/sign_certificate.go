package action16

import (
	"context"

	"holdfast/csms"
	"holdfast/ocpp/v16"
)

func signCertificate(ctx context.Context, c *csms.CSMS, m csms.Message, request *v16.SignCertificateRequest) (*v16.SignCertificateResponse, error) {
	begun, err := c.SignCertificate(ctx, m, request.CSR, csms.SignedCertificate{})
	if err != nil {
		return nil, err
	}
	if !begun {
		return &v16.SignCertificateResponse{Status: v16.GenericStatusRejected}, nil
	}
	return &v16.SignCertificateResponse{Status: v16.GenericStatusAccepted}, nil
}

func certificateSigned(signed csms.SignedCertificate) any {
	return &v16.CertificateSignedRequest{CertificateChain: signed.Chain}
}
