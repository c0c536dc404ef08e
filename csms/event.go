package csms

import (
	"encoding/json"
	"time"

	"holdfast/ocpp"
)

// EventKind is what happened.
type EventKind string

const (
	EventConnected    EventKind = "connected"
	EventDisconnected EventKind = "disconnected"
	EventBooted       EventKind = "booted"
	EventStatus       EventKind = "status"
	EventTransaction  EventKind = "transaction"
)

// Event tells operators live that something happened. It is published after the
// commit, may be lost, and is never the record.
type Event struct {
	Kind    EventKind       `json:"kind" enum:"connected,disconnected,booted,status,transaction"`
	Station ocpp.StationID  `json:"station"`
	At      time.Time       `json:"at"`
	Data    json.RawMessage `json:"data,omitempty" doc:"What happened, by kind"`
}

// The Data of the events.
type (
	ConnectedData struct {
		Gateway string               `json:"gateway"`
		Version ocpp.Version         `json:"version"`
		Profile ocpp.SecurityProfile `json:"profile"`
		Remote  string               `json:"remote,omitempty"`
	}
	DisconnectedData struct {
		Reason string `json:"reason"`
	}
	BootedData struct {
		Registration string `json:"registration"`
		Vendor       string `json:"vendor"`
		Model        string `json:"model"`
		Firmware     string `json:"firmware,omitempty"`
		Reason       string `json:"reason,omitempty"`
	}
	StatusData struct {
		EVSE      int    `json:"evse,omitempty"`
		Connector int    `json:"connector"`
		Status    string `json:"status"`
		ErrorCode string `json:"error_code,omitempty"`
	}
	TransactionData struct {
		TransactionID string `json:"transaction_id"`
		Event         string `json:"event"` // Started, Updated, Ended
		EVSE          int    `json:"evse,omitempty"`
		Connector     int    `json:"connector,omitempty"`
		ChargingState string `json:"charging_state,omitempty"`
		Reason        string `json:"reason,omitempty"`
	}
)

func (c *CSMS) tell(kind EventKind, station ocpp.StationID, data any) {
	raw, err := json.Marshal(data)
	if err != nil { // strings and numbers always encode
		c.log.Error("event lost", "station", station, "err", err)
		return
	}
	c.publish(Event{Kind: kind, Station: station, At: c.now().UTC(), Data: raw})
}
