package fleet

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"holdfast/ocpp"
)

// dialect is what differs between the versions: how a station's facts become
// messages, and which commands it takes.
type dialect struct {
	boot               func(s *station) any
	authorize          func(tag string) any
	authorized         func(s *station, result json.RawMessage) (tokenInfo, error)
	status             func(s *station, connector int) string
	statusNotification func(s *station, connector int, at time.Time) any
	meterValues        func(s *station, connector int, at time.Time) (action string, payload any) // outside of a transaction's own messages
	start              func(s *station, connector int, now sample, remoteID *int)
	meter              func(s *station, connector int, now sample)
	stop               func(s *station, connector int, now sample, reason endReason)
	commands           map[string]command
}

func dialectOf(v ocpp.Version) *dialect {
	if v.Is2x() {
		return &dialect2x
	}
	return &dialect16
}

// Commands are the actions with which a server may call stations of a version,
// sorted; any other is answered with NotImplemented.
func Commands(v ocpp.Version) []string { return slices.Sorted(maps.Keys(dialectOf(v).commands)) }

// simple is the whole answer of many commands.
type simple struct {
	Status string `json:"status"`
}

// explained is simple with a reason, in 2.x.
type explained struct {
	Status string      `json:"status"`
	Info   *statusInfo `json:"statusInfo,omitempty"`
}

type statusInfo struct {
	Reason string `json:"reasonCode"`
}

// reply is a status with its reasonCode, which only 2.x has.
func (s *station) reply(status, why string) explained {
	if why == "" || !s.id.Version.Is2x() {
		return explained{Status: status}
	}
	return explained{status, &statusInfo{why}}
}

// wireTime is a time as OCPP writes it: RFC 3339, UTC, three digits at most.
func wireTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func wireMilli(ms int64) string { return wireTime(time.UnixMilli(ms)) }
