package fleet

import (
	"encoding/json"
	"time"
)

// dialect2x is OCPP 2.0.1 and 2.1, which agree on everything used here.
var dialect2x = dialect{
	boot: func(s *station) any {
		return boot2x{s.bootReason, chargingStation{"Fleet", "Holdfast", s.id.Serial, s.firmware()}}
	},
	authorize:  func(tag string) any { return authorize2x{idToken{tag, "ISO14443"}} },
	authorized: authorized2x,
	status:     status2x,
	statusNotification: func(s *station, connector int, at time.Time) any {
		return statusNotification2x{wireTime(at), s.speaks.status(s, connector), connector + 1, 1}
	},
	meterValues: meterValues2x,
	start:       start2x,
	meter:       meter2x,
	stop:        stop2x,
	commands:    commands2x,
}

type boot2x struct {
	Reason  string          `json:"reason"`
	Station chargingStation `json:"chargingStation"`
}

type chargingStation struct {
	Model    string `json:"model"`
	Vendor   string `json:"vendorName"`
	Serial   string `json:"serialNumber,omitempty"`
	Firmware string `json:"firmwareVersion,omitempty"`
}

type idToken struct {
	IDToken string `json:"idToken"`
	Type    string `json:"type"`
}

type authorize2x struct {
	IDToken idToken `json:"idToken"`
}

type idTokenInfo struct {
	Status string `json:"status"`
	Expiry string `json:"cacheExpiryDateTime,omitempty"`
}

type statusNotification2x struct {
	Timestamp string `json:"timestamp"`
	Status    string `json:"connectorStatus"`
	EVSE      int    `json:"evseId"`
	Connector int    `json:"connectorId"`
}

type transactionEvent struct {
	EventType   string          `json:"eventType"`
	Timestamp   string          `json:"timestamp"`
	Trigger     string          `json:"triggerReason"`
	SeqNo       int             `json:"seqNo"`
	Offline     bool            `json:"offline,omitempty"`
	Transaction transactionInfo `json:"transactionInfo"`
	EVSE        *evse           `json:"evse,omitempty"`
	IDToken     *idToken        `json:"idToken,omitempty"`
	Values      []meterValue2x  `json:"meterValue,omitempty"`
}

type transactionInfo struct {
	ID            string `json:"transactionId"`
	ChargingState string `json:"chargingState,omitempty"`
	StoppedReason string `json:"stoppedReason,omitempty"`
	RemoteStartID *int   `json:"remoteStartId,omitempty"`
}

type evse struct {
	ID        int  `json:"id"`
	Connector *int `json:"connectorId,omitempty"`
}

type meterValue2x struct {
	Timestamp string           `json:"timestamp"`
	Sampled   []sampledValue2x `json:"sampledValue"`
}

type sampledValue2x struct {
	Value     float64 `json:"value"`
	Context   string  `json:"context,omitempty"`
	Measurand string  `json:"measurand,omitempty"`
	Unit      *unit   `json:"unitOfMeasure,omitempty"`
}

type unit struct {
	Unit string `json:"unit"`
}

type meterValues2xRequest struct {
	EVSE   int            `json:"evseId"`
	Values []meterValue2x `json:"meterValue"`
}

func authorized2x(s *station, result json.RawMessage) (tokenInfo, error) {
	answer, err := decode[struct {
		Info idTokenInfo `json:"idTokenInfo"`
	}](s, "Authorize", result)
	return tokenInfo{status: answer.Info.Status, until: answer.Info.Expiry}, err
}

func status2x(s *station, connector int) string {
	switch c := &s.connectors[connector]; {
	case c.phase == plugged || c.phase == charging:
		return "Occupied"
	case s.inoperative(connector):
		return "Unavailable"
	case c.phase == finishing:
		return "Occupied"
	case s.reserved(connector):
		return "Reserved"
	}
	return "Available"
}

func meterValue2xOf(v sample, context string) []meterValue2x {
	return []meterValue2x{{wireMilli(v.at), []sampledValue2x{
		{float64(v.energy), context, measurandEnergy, &unit{"Wh"}},
		{float64(v.power), context, measurandPower, &unit{"W"}},
	}}}
}

// event queues a TransactionEvent. Its seqNo begins at 0 and grows by one.
func (s *station) event(connector int, kind partKind, event transactionEvent, now sample, reason string) {
	tx := s.connectors[connector].tx
	one := 1
	event.Timestamp = wireMilli(now.at)
	event.SeqNo = tx.seq
	event.Transaction.ID = tx.id
	event.EVSE = &evse{connector + 1, &one}
	event.Offline = s.conn == nil // E04
	tx.seq++
	s.callTransaction(&message{
		action:  "TransactionEvent",
		payload: encode(event),
		tx:      &txPart{entry: tx.entry, kind: kind, seq: event.SeqNo, sample: now, reason: reason},
		done: func(result json.RawMessage, err error) {
			if err != nil {
				return
			}
			answer, err := decode[struct {
				Info *idTokenInfo `json:"idTokenInfo"`
			}](s, "TransactionEvent", result)
			if err == nil && answer.Info != nil {
				s.remember(tokenInfo{tx.tag, answer.Info.Status, answer.Info.Expiry})
			}
			running := &s.connectors[connector]
			if err == nil && answer.Info != nil && answer.Info.Status != "Accepted" && running.tx == tx {
				s.end(connector, s.f.elapsed(), endDeauthorized) // TxCtrlr.StopTxOnInvalidId
			}
		},
	})
}

func start2x(s *station, connector int, now sample, remoteID *int) {
	started := transactionEvent{
		EventType:   "Started",
		Trigger:     "Authorized",
		Transaction: transactionInfo{ChargingState: "EVConnected", RemoteStartID: remoteID},
		IDToken:     &idToken{s.connectors[connector].tx.tag, "ISO14443"},
		Values:      meterValue2xOf(now, "Transaction.Begin"),
	}
	if remoteID != nil {
		started.Trigger = "RemoteStart"
	}
	s.event(connector, partStart, started, now, "")
	s.event(connector, partUpdate, transactionEvent{
		EventType:   "Updated",
		Trigger:     "ChargingStateChanged",
		Transaction: transactionInfo{ChargingState: "Charging"},
	}, sample{at: now.at, energy: noValue}, "")
}

func meter2x(s *station, connector int, now sample) {
	s.event(connector, partUpdate, transactionEvent{
		EventType:   "Updated",
		Trigger:     "MeterValuePeriodic",
		Transaction: transactionInfo{ChargingState: "Charging"},
		Values:      meterValue2xOf(now, "Sample.Periodic"),
	}, now, "")
}

func stop2x(s *station, connector int, now sample, reason endReason) {
	s.event(connector, partEnd, transactionEvent{
		EventType:   "Ended",
		Trigger:     reason.v2xTrigger,
		Transaction: transactionInfo{ChargingState: "EVConnected", StoppedReason: reason.v2x},
		IDToken:     &idToken{s.connectors[connector].tx.tag, "ISO14443"},
		Values:      meterValue2xOf(now, "Transaction.End"),
	}, now, reason.v2x)
}

// meterValues2x answers a trigger; it belongs to no transaction event.
func meterValues2x(s *station, connector int, at time.Time) (string, any) {
	c := &s.connectors[connector]
	v := sample{at: at.UnixMilli(), energy: int32(c.register), power: int32(c.power)}
	return "MeterValues", meterValues2xRequest{connector + 1, meterValue2xOf(v, "Trigger")}
}
