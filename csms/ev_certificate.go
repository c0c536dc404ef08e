package csms

import (
	"context"
	"encoding/json"
	"errors"

	"holdfast/ocpp"
)

// EVCertificateFunc has the provider of contract certificates answer a
// Get15118EVCertificate: request is the payload of the CALL, the answer that of
// the CALLRESULT. An error says why it has no answer; a *ForwardError tells the
// station, too. It must not take longer than a CALL may.
type EVCertificateFunc func(ctx context.Context, station ocpp.StationID, version ocpp.Version, request json.RawMessage) (json.RawMessage, error)

type noEVCertificate struct {
	Status      string        `json:"status" ocpp:"required"`
	StatusInfo  *statusInfo2x `json:"statusInfo,omitempty"`
	EXIResponse string        `json:"exiResponse" ocpp:"required"`
}

// getEVCertificate2x forwards an EV's request for a contract certificate (OCPP
// 2.0.1 M01, M02) and its answer, which is Failed if there is none in time or it
// is not as the schema wants it.
func getEVCertificate2x(ctx context.Context, c *CSMS, m Message) (json.RawMessage, error) {
	tolerated, err := ocpp.Decode(m.Payload, m.Action.NewRequest(), ocpp.Tolerant)
	if err != nil {
		return nil, err
	}
	m.Quality = quality(tolerated)
	if err := c.Keep(ctx, m); err != nil {
		return nil, err
	}
	failed := func(code string) (json.RawMessage, error) {
		return encode(m, &noEVCertificate{Status: "Failed", StatusInfo: &statusInfo2x{code}})
	}
	if c.evCertificate == nil {
		return failed(CodeNotEnabled)
	}
	answer, err := c.evCertificate(ctx, m.Station, m.Version, m.Payload)
	response := m.Action.NewResponse()
	if err == nil {
		_, err = ocpp.Decode(answer, response, ocpp.Strict)
	}
	if err != nil {
		c.log.Warn("no EV certificate", "station", m.Station, "message_id", m.ID, "err", err)
		return failed(forwardError(err).Code)
	}
	return encode(m, response)
}

func forwardError(err error) *ForwardError {
	if f, ok := errors.AsType[*ForwardError](err); ok {
		return f
	}
	return &ForwardError{Code: CodeInternalError, Err: err}
}
