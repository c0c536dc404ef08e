package csms

import (
	"context"

	"holdfast/ocpp"
	"holdfast/store"
)

type transactionEventRequest2x struct {
	EventType       string         `json:"eventType"`
	MeterValue      []meterValue2x `json:"meterValue"`
	Timestamp       ocpp.DateTime  `json:"timestamp"`
	TriggerReason   string         `json:"triggerReason"`
	SeqNo           int            `json:"seqNo"`
	Offline         bool           `json:"offline"`
	ReservationID   *int           `json:"reservationId"`
	TransactionInfo struct {
		TransactionID string `json:"transactionId"`
		ChargingState string `json:"chargingState"`
		StoppedReason string `json:"stoppedReason"`
		RemoteStartID *int   `json:"remoteStartId"`
	} `json:"transactionInfo"`
	EVSE    evse2x     `json:"evse"`
	IDToken *idToken2x `json:"idToken"`
}

// transactionEventResponse2x has no cost: Holdfast knows no tariffs.
type transactionEventResponse2x struct {
	IDTokenInfo *idTokenInfo2x `json:"idTokenInfo,omitempty"`
}

// transactionEvent2x always answers a CALLRESULT to what it can read: a station
// would repeat anything else. What is refused is in idTokenInfo, which is there
// only for a request that has an ID token (E01 to E08).
func transactionEvent2x(ctx context.Context, c *CSMS, m Message, request *transactionEventRequest2x) (*transactionEventResponse2x, error) {
	values, err := meterValuesOf2x(request.EVSE, request.MeterValue)
	if err != nil {
		return nil, err
	}
	t := &request.TransactionInfo
	event := store.TransactionEvent{
		TransactionID: t.TransactionID,
		SeqNo:         request.SeqNo,
		Type:          request.EventType,
		TriggerReason: request.TriggerReason,
		At:            request.Timestamp.Time,
		Offline:       request.Offline,
		ChargingState: t.ChargingState,
		EVSE:          request.EVSE.ID,
		Connector:     request.EVSE.ConnectorID,
		StoppedReason: t.StoppedReason,
		RemoteStartID: t.RemoteStartID,
		ReservationID: request.ReservationID,
		MeterValues:   values,
	}
	if request.IDToken != nil {
		event.Token, event.TokenType = request.IDToken.IDToken, request.IDToken.Type
	}
	v, err := c.TransactionEvent(ctx, m, event)
	if err != nil || request.IDToken == nil {
		return &transactionEventResponse2x{}, err
	}
	info := newIDTokenInfo(m.Version, v)
	return &transactionEventResponse2x{IDTokenInfo: &info}, nil
}
