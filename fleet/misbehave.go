package fleet

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"time"

	"holdfast/ocpp"
)

const (
	burstCalls   = 20
	floodCalls   = 300
	floodPace    = time.Minute // between the times of two of them
	endlessBytes = 0x40000000
)

// misbehave sends what a provoked fault sends.
func (s *station) misbehave(fault Fault) {
	raw := func(action, payload string) []byte {
		return ocpp.AppendCall(nil, s.newID(), action, json.RawMessage(payload), false)
	}
	heartbeat := func() []byte { return raw("Heartbeat", `{}`) }
	c := s.conn
	var err error
	text := func(message []byte) {
		if err == nil {
			err = c.write(opText, message)
		}
	}
	switch fault {
	case DeafUntilReconnect:
		s.more().habits.deaf = c
	case TruncatedJSON:
		text(bytes.TrimSuffix(heartbeat(), []byte("}]")))
	case LeadingComma:
		text(raw("Heartbeat", `{,"a":1}`))
	case NULInString:
		text(raw("DataTransfer", "{\"vendorId\":\"Holdfast\",\"data\":\"a\x00b\"}"))
	case BadEscape:
		text(raw("DataTransfer", `{"vendorId":"Holdfast","data":"a\qb"}`))
	case TrailingNUL:
		text(append(heartbeat(), 0, 0))
	case UnknownMessageType:
		text(append([]byte("[9"), heartbeat()[2:]...))
	case UnknownAction:
		text(raw("NoSuchAction", `{}`))
	case StrayAnswer:
		text(ocpp.AppendResult(nil, s.newID(), json.RawMessage(`{}`)))
	case Burst:
		for range burstCalls {
			text(heartbeat())
		}
	case HistoryFlood:
		now := s.f.elapsed()
		for i := range floodCalls {
			action, payload := s.speaks.meterValues(s, 0, s.clock(now).Add(time.Duration(i-floodCalls)*floodPace))
			text(ocpp.AppendCall(nil, s.newID(), action, encode(payload), false))
		}
	case TextPong:
		text([]byte("pong"))
	case InvalidUTF8:
		text([]byte{'[', 0xff, ']'})
	case ReservedBits:
		err = c.write(0x20|opText, heartbeat())
	case Compressed:
		err = c.write(0x40|opText, deflated(heartbeat()))
	case Unmasked:
		_, err = c.nc.Write(append([]byte{0x80 | opText, 2}, "{}"...))
	case Oversized:
		_, err = c.nc.Write([]byte{0x80 | opText, 0x80 | 127, 0, 0, 0, 0, endlessBytes >> 24, 0, 0, 0, 1, 2, 3, 4, '['})
	}
	if err != nil {
		s.lost(err)
	}
}

// deflated is a message as permessage-deflate has it (RFC 7692 §7.2.1).
func deflated(message []byte) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestSpeed) // the level is good
	w.Write(message)                             // into a buffer
	w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff})
}
