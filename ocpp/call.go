package ocpp

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// MessageID is the unique id of a CALL or SEND, at most 36 characters.
type MessageID string

// Call is one CALL (or SEND) in either direction. Its payload is raw: only the
// handler of the action decodes it.
type Call struct {
	Version Version
	ID      MessageID // chosen by the sender; empty on the way down: the gateway chooses it
	Action  string
	Payload json.RawMessage // a JSON object
	Send    bool            // a SEND of OCPP 2.1, which has no answer
}

// CallFunc carries a CALL one hop further and returns the payload of its
// CALLRESULT. A CALLERROR comes back as *Error. Gateway, bus and csms all speak
// it, in both directions.
type CallFunc func(ctx context.Context, station StationID, call Call) (json.RawMessage, error)

// What can become of a CALL other than a CALLRESULT or a CALLERROR.
var (
	// ErrOffline: no gateway holds a connection of the station.
	ErrOffline = errors.New("station is offline")
	// ErrTimeout: the station (or, upwards, the csms) did not answer in time.
	ErrTimeout = errors.New("no answer in time")
	// ErrUnavailable: nobody is there to answer a station's CALL now. The station
	// is told nothing, so that it keeps its message and repeats it.
	ErrUnavailable = errors.New("no csms available")
	// ErrConnectionLost: the connection ended, or was taken over, while the CALL was in flight.
	ErrConnectionLost = errors.New("connection lost while the call was in flight")
	// ErrBusy: too many CALLs to the station are waiting already.
	ErrBusy = errors.New("too many calls waiting for the station")
	// ErrInvalidAnswer: the station answered, but not as the action's schema wants.
	ErrInvalidAnswer = errors.New("invalid answer")
)

// Connected says that a station was admitted and registered on a gateway.
type Connected struct {
	Station StationID       `json:"station"`
	Gateway string          `json:"gateway"`
	Epoch   uint64          `json:"epoch"` // grows with every connection of the station, over all gateways
	Version Version         `json:"version"`
	Profile SecurityProfile `json:"profile"`
	Remote  string          `json:"remote"`
	At      time.Time       `json:"at"`
}

// Disconnected says that the connection with this epoch ended. A newer
// connection of the same station is not affected.
type Disconnected struct {
	Station StationID `json:"station"`
	Gateway string    `json:"gateway"`
	Epoch   uint64    `json:"epoch"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}
