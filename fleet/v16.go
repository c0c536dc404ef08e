package fleet

import (
	"encoding/json"
	"strconv"
	"time"
)

// dialect16 is OCPP 1.6.
var dialect16 = dialect{
	boot: func(s *station) any {
		return boot16{Vendor: "Holdfast", Model: "Fleet", Serial: s.id.Serial, Firmware: s.firmware()}
	},
	authorize:  func(tag string) any { return authorize16{tag} },
	authorized: authorized16,
	status:     status16,
	statusNotification: func(s *station, connector int, at time.Time) any {
		return statusNotification16{connector + 1, "NoError", s.speaks.status(s, connector), wireTime(at)}
	},
	meterValues: meterValues16,
	start:       start16,
	meter:       meter16,
	stop:        stop16,
	commands:    commands16,
}

type boot16 struct {
	Vendor   string `json:"chargePointVendor"`
	Model    string `json:"chargePointModel"`
	Serial   string `json:"chargePointSerialNumber,omitempty"`
	Firmware string `json:"firmwareVersion,omitempty"`
}

type authorize16 struct {
	IDTag string `json:"idTag"`
}

type idTagInfo struct {
	Status string `json:"status"`
	Expiry string `json:"expiryDate,omitempty"`
}

type statusNotification16 struct {
	Connector int    `json:"connectorId"`
	ErrorCode string `json:"errorCode"`
	Status    string `json:"status"`
	Timestamp string `json:"timestamp"`
}

type start16Request struct {
	Connector   int    `json:"connectorId"`
	IDTag       string `json:"idTag"`
	MeterStart  int32  `json:"meterStart"`
	Timestamp   string `json:"timestamp"`
	Reservation *int   `json:"reservationId,omitempty"`
}

type stop16Request struct {
	Transaction int    `json:"transactionId"`
	IDTag       string `json:"idTag,omitempty"`
	MeterStop   int32  `json:"meterStop"`
	Timestamp   string `json:"timestamp"`
	Reason      string `json:"reason,omitempty"`
}

type meterValues16Request struct {
	Connector   int            `json:"connectorId"`
	Transaction *int           `json:"transactionId,omitempty"`
	Values      []meterValue16 `json:"meterValue"`
}

type meterValue16 struct {
	Timestamp string           `json:"timestamp"`
	Sampled   []sampledValue16 `json:"sampledValue"`
}

type sampledValue16 struct {
	Value     string `json:"value"`
	Context   string `json:"context,omitempty"`
	Measurand string `json:"measurand,omitempty"`
	Unit      string `json:"unit,omitempty"`
}

func authorized16(s *station, result json.RawMessage) (tokenInfo, error) {
	answer, err := decode[struct {
		Info idTagInfo `json:"idTagInfo"`
	}](s, "Authorize", result)
	return tokenInfo{status: answer.Info.Status, until: answer.Info.Expiry}, err
}

func status16(s *station, connector int) string {
	if connector < 0 {
		for i := range s.connectors {
			if !s.inoperative(i) {
				return "Available"
			}
		}
		return "Unavailable"
	}
	switch c := &s.connectors[connector]; {
	case c.phase == plugged:
		return "Preparing"
	case c.phase == charging:
		return "Charging"
	case s.inoperative(connector):
		return "Unavailable"
	case c.phase == finishing:
		return "Finishing"
	case s.reserved(connector):
		return "Reserved"
	}
	return "Available"
}

func meterValue16Of(v sample, context string) []meterValue16 {
	return []meterValue16{{wireMilli(v.at), []sampledValue16{
		{strconv.Itoa(int(v.energy)), context, measurandEnergy, "Wh"},
		{strconv.Itoa(int(v.power)), context, measurandPower, "W"},
	}}}
}

func start16(s *station, connector int, now sample, _ *int) {
	tx := s.connectors[connector].tx
	request := start16Request{connector + 1, tx.tag, now.energy, wireMilli(now.at), nil}
	s.callTransaction(&message{
		action: "StartTransaction",
		make:   func() any { return request },
		tx:     &txPart{entry: tx.entry, kind: partStart},
		done: func(result json.RawMessage, err error) {
			if err != nil {
				return
			}
			answer, err := decode[struct {
				Transaction *int      `json:"transactionId"`
				Info        idTagInfo `json:"idTagInfo"`
			}](s, "StartTransaction", result)
			if err != nil {
				return
			}
			if answer.Transaction == nil {
				s.f.stats.fail(errorProtocol)
				s.f.log.Warn("server gave no transaction id", "station", s.id.ID, "action", "StartTransaction")
				return
			}
			tx.id = strconv.Itoa(*answer.Transaction)
			s.f.ledger.name(tx.entry, tx.id)
			s.remember(tokenInfo{tx.tag, answer.Info.Status, answer.Info.Expiry})
			if running := &s.connectors[connector]; running.tx == tx && answer.Info.Status != "Accepted" {
				s.end(connector, s.f.elapsed(), endDeauthorized) // StopTransactionOnInvalidId
			}
		},
	})
}

// serverID is the transaction's id as the server gave it, or -1 if it never
// answered the start (1.6 errata 3.18).
func (tx *transaction) serverID() int {
	if id, err := strconv.Atoi(tx.id); err == nil {
		return id
	}
	return -1
}

// endID is the id with which the station ends a transaction.
func (s *station) endID(tx *transaction) int {
	switch {
	case s.quirks.has(ZeroTransaction):
		return 0
	case s.quirks.has(MinusOneTransaction):
		return -1
	}
	return tx.serverID()
}

func meter16(s *station, connector int, now sample) {
	tx := s.connectors[connector].tx
	s.callTransaction(&message{
		action: "MeterValues",
		make: func() any {
			id := tx.serverID()
			return meterValues16Request{connector + 1, &id, meterValue16Of(now, "Sample.Periodic")}
		},
		tx: &txPart{entry: tx.entry, kind: partUpdate, sample: now},
	})
}

func stop16(s *station, connector int, now sample, reason endReason) {
	tx := s.connectors[connector].tx
	s.callTransaction(&message{
		action: "StopTransaction",
		make: func() any {
			return stop16Request{s.endID(tx), tx.tag, now.energy, wireMilli(now.at), reason.v16}
		},
		tx: &txPart{entry: tx.entry, kind: partEnd, sample: now, reason: reason.v16},
	})
}

// meterValues16 answers a trigger; it belongs to no transaction message.
func meterValues16(s *station, connector int, at time.Time) (string, any) {
	c := &s.connectors[connector]
	v := sample{at: at.UnixMilli(), energy: int32(c.register), power: int32(c.power)}
	return "MeterValues", meterValues16Request{connector + 1, nil, meterValue16Of(v, "Trigger")}
}
