package action201

import (
	"holdfast/csms"
	"holdfast/ocpp/v201"
)

func certificateSigned(signed csms.SignedCertificate) any {
	return &v201.CertificateSignedRequest{
		CertificateChain: signed.Chain,
		CertificateType:  v201.CertificateSigningUse(signed.Type),
	}
}
