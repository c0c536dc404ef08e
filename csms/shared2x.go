package csms

import (
	"context"
	"encoding/json"
	"fmt"

	"holdfast/ocpp"
)

// OCPP 2.0.1 and 2.1 have most of a station's messages in common: their fields
// have the same names, and rules make the same of them. The files named 2x read
// them once for both, into types that hold only what a rule needs. Lengths,
// enumerations and further fields differ: each message is checked against the
// schema of its own version before, each answer after.

// Handlers2x returns handlers for the actions that OCPP 2.0.1 and 2.1 answer
// alike. The caller adds its version's own to the map.
func Handlers2x() map[string]Handler {
	return map[string]Handler{
		"Authorize":                         shared(authorize2x),
		"BootNotification":                  shared(bootNotification2x),
		"DataTransfer":                      shared(dataTransfer2x),
		"FirmwareStatusNotification":        shared(firmwareStatusNotification2x),
		"Get15118EVCertificate":             getEVCertificate2x,
		"GetCertificateStatus":              shared(getCertificateStatus2x),
		"Heartbeat":                         shared(heartbeat2x),
		"LogStatusNotification":             shared(logStatusNotification2x),
		"MeterValues":                       shared(meterValues2x),
		"NotifyEvent":                       shared(notifyEvent2x),
		"NotifyReport":                      shared(notifyReport2x),
		"PublishFirmwareStatusNotification": shared(publishFirmwareStatusNotification2x),
		"SecurityEventNotification":         shared(securityEventNotification2x),
		"SignCertificate":                   shared(signCertificate2x),
		"StatusNotification":                shared(statusNotification2x),
		"TransactionEvent":                  shared(transactionEvent2x),

		"ClearedChargingLimit":      Recording(&empty{}),
		"NotifyChargingLimit":       Recording(&empty{}),
		"NotifyCustomerInformation": Recording(&empty{}),
		"NotifyDisplayMessages":     Recording(&empty{}),
		"NotifyEVChargingSchedule":  Recording(&statusOnly{"Accepted"}),
		"NotifyMonitoringReport":    Recording(&empty{}),
		"ReportChargingProfiles":    Recording(&empty{}),
		"ReservationStatusUpdate":   Recording(&empty{}),
	}
}

// Learn2x returns what is learned from the answers of stations of OCPP 2.x.
func Learn2x() map[string]Learn {
	return map[string]Learn{
		"GetVariables": Learned(getVariables2x),
		"SetVariables": Learned(setVariables2x),
	}
}

type (
	empty      struct{}
	statusOnly struct {
		Status string `json:"status" ocpp:"required"`
	}
)

type evse2x struct {
	ID          int `json:"id"`
	ConnectorID int `json:"connectorId"` // 0: not given
}

// shared makes a Handler of a rule over a Request that has only the fields it
// needs, and likewise a Response.
func shared[Request, Response any](rule func(ctx context.Context, c *CSMS, m Message, request *Request) (*Response, error)) Handler {
	return func(ctx context.Context, c *CSMS, m Message) (json.RawMessage, error) {
		tolerated, err := ocpp.Decode(m.Payload, m.Action.NewRequest(), ocpp.Tolerant)
		if err != nil {
			return nil, err
		}
		m.Quality = quality(tolerated)
		var request Request
		if _, err := ocpp.Decode(m.Payload, &request, ocpp.Tolerant); err != nil {
			return nil, err
		}
		response, err := rule(ctx, c, m, &request)
		if err != nil {
			return nil, err
		}
		payload, err := encode(m, response)
		if err != nil {
			return nil, err
		}
		own := m.Action.NewResponse()
		if _, err := ocpp.Decode(payload, own, ocpp.Strict); err != nil {
			return nil, fmt.Errorf("answer to %s: %s", m.Action.Name, err) // not %w: it is not the station's fault
		}
		return encode(m, own)
	}
}
