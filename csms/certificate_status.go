package csms

import (
	"context"
	"encoding/base64"
	"fmt"
	"time"

	"holdfast/ocpp"
)

// OCSPQuestion is a station's question for a certificate's status: OCPP's
// certificate hash data and the responders that the station names.
type OCSPQuestion struct {
	HashAlgorithm, IssuerNameHash, IssuerKeyHash, SerialNumber string
	URLs                                                       []string
}

// OCSPAnswer is the answer, checked.
type OCSPAnswer struct {
	Status     string    // StatusGood, StatusRevoked, StatusUnknown
	NextUpdate time.Time // zero: not said
	DER        []byte    // the response
}

// What a certificate can be, in the words of OCPP 2.1.
const (
	StatusGood    = "Good"
	StatusRevoked = "Revoked"
	StatusUnknown = "Unknown"
)

// OCSPFunc answers an OCSPQuestion. An error says why it has no answer; a
// *ForwardError tells the station, too. It must check what it returns, ask only
// responders of the operator's choice, and take no longer than a CALL may.
type OCSPFunc func(ctx context.Context, q OCSPQuestion) (OCSPAnswer, error)

// ForwardError is why a station's question has no answer of somebody else.
type ForwardError struct {
	Code string // for the station: one of OCPP's reason codes
	Err  error  // for the operator
}

func (e *ForwardError) Error() string { return e.Err.Error() }
func (e *ForwardError) Unwrap() error { return e.Err }

// Reason codes of OCPP 2.0.1 (appendix 5).
const (
	CodeNotEnabled      = "NotEnabled"
	CodeInvalidURL      = "InvalidURL"
	CodeInvalidValue    = "InvalidValue"
	CodeInternalError   = "InternalError"
	CodeTooLargeElement = "TooLargeElement"
)

type statusInfo2x struct {
	ReasonCode string `json:"reasonCode" ocpp:"required"`
}

type certificateStatusRequest2x struct {
	OCSPRequestData struct {
		HashAlgorithm  string `json:"hashAlgorithm"`
		IssuerNameHash string `json:"issuerNameHash"`
		IssuerKeyHash  string `json:"issuerKeyHash"`
		SerialNumber   string `json:"serialNumber"`
		ResponderURL   string `json:"responderURL"`
	} `json:"ocspRequestData"`
}

type certificateStatusResponse2x struct {
	Status     string        `json:"status" ocpp:"required"`
	StatusInfo *statusInfo2x `json:"statusInfo,omitempty"`
	OCSPResult string        `json:"ocspResult,omitempty"`
}

// maxOCSPResult is how many characters an answer may have.
var maxOCSPResult = map[ocpp.Version]int{ocpp.V201: 5500, ocpp.V21: 18000}

// getCertificateStatus2x answers with the OCSP response for a certificate (OCPP
// 2.0.1 M06), base64 of its DER.
func getCertificateStatus2x(ctx context.Context, c *CSMS, m Message, request *certificateStatusRequest2x) (*certificateStatusResponse2x, error) {
	if err := c.Keep(ctx, m); err != nil {
		return nil, err
	}
	failed := func(code string) (*certificateStatusResponse2x, error) {
		return &certificateStatusResponse2x{Status: "Failed", StatusInfo: &statusInfo2x{code}}, nil
	}
	d := request.OCSPRequestData
	answer, err := c.CertificateStatus(ctx, m, OCSPQuestion{d.HashAlgorithm, d.IssuerNameHash, d.IssuerKeyHash, d.SerialNumber, []string{d.ResponderURL}})
	if err != nil {
		return failed(err.Code)
	}
	result := base64.StdEncoding.EncodeToString(answer.DER)
	if len(result) > maxOCSPResult[m.Version] {
		c.log.Warn("OCSP response does not fit into the answer", "station", m.Station, "characters", len(result), "limit", maxOCSPResult[m.Version])
		return failed(CodeTooLargeElement)
	}
	return &certificateStatusResponse2x{Status: "Accepted", OCSPResult: result}, nil
}

// CertificateStatus answers a station's question for a certificate's status; a
// failure is logged.
func (c *CSMS) CertificateStatus(ctx context.Context, m Message, q OCSPQuestion) (OCSPAnswer, *ForwardError) {
	if c.ocsp == nil {
		return OCSPAnswer{}, &ForwardError{Code: CodeNotEnabled, Err: fmt.Errorf("no OCSP responder is listed")}
	}
	a, err := c.ocsp(ctx, q)
	if err == nil {
		return a, nil
	}
	c.log.Warn("certificate status not known", "station", m.Station, "action", m.Action.Name, "message_id", m.ID, "serial", clip(q.SerialNumber, 64), "err", err)
	return OCSPAnswer{}, forwardError(err)
}
