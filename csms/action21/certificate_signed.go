package action21

import (
	"holdfast/csms"
	"holdfast/ocpp/v21"
)

// certificateSigned repeats the request's requestId: a station refuses any other (A02).
func certificateSigned(signed csms.SignedCertificate) any {
	return &v21.CertificateSignedRequest{
		CertificateChain: signed.Chain,
		CertificateType:  v21.CertificateSigningUse(signed.Type),
		RequestID:        signed.RequestID,
	}
}
