package fleet

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"regexp"
	"strings"

	"holdfast/ocpp"
)

// quirks is a set of the faults that are habits.
type quirks uint64

func (q quirks) has(f Fault) bool { return q&(1<<f) != 0 }

func quirksOf(list []Fault) (q quirks) {
	for _, f := range list {
		q |= 1 << f
	}
	return q
}

// clientTLS is how a station with TLS quirks speaks TLS.
func (q quirks) clientTLS(base *ClientTLS) *ClientTLS {
	var options ClientTLS
	if base != nil {
		options = *base
	}
	options.NoSNI = options.NoSNI || q.has(NoServerName)
	options.LeafOnly = options.LeafOnly || q.has(LeafOnly)
	if q.has(StaticRSA) {
		options.MaxVersion, options.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
	}
	return &options
}

// wireTimes are the times in our own messages, as wireTime writes them.
var wireTimes = regexp.MustCompile(`(\d\d:\d\d:\d\d\.\d{3})Z"`)

// twist spoils a payload as the station's quirks have it.
func (s *station) twist(action string, payload json.RawMessage) json.RawMessage {
	q := s.quirks
	if q.has(NoTimeZone) {
		payload = wireTimes.ReplaceAll(payload, []byte(`$1"`))
	}
	if q.has(SevenDigits) {
		payload = wireTimes.ReplaceAll(payload, []byte(`${1}0000Z"`))
	}
	switch action {
	case "BootNotification":
		if q.has(LongModel) {
			payload = bytes.Replace(payload, []byte(`"Fleet"`), []byte(`"`+strings.Repeat("Fleet-", 10)+`"`), 1)
		}
		if q.has(NullOptionals) {
			if s.id.Version.Is2x() {
				payload = bytes.Replace(payload, []byte(`"chargingStation":{`), []byte(`"chargingStation":{"modem":null,`), 1)
			} else {
				payload = bytes.Replace(payload, []byte(`{`), []byte(`{"iccid":null,`), 1)
			}
		}
	case "StatusNotification":
		if q.has(UnknownErrorCode) {
			payload = bytes.Replace(payload, []byte(`"NoError"`), []byte(`"Error"`), 1)
		}
	}
	return payload
}

// sendTwice repeats a message under another id, if that is what the station
// does; the answer to the repetition is a stray one.
func (s *station) sendTwice(m *message) {
	if m.tx == nil || m.tries > 1 {
		return
	}
	if m.tx.kind == partStart && s.quirks.has(DoubledStart) || m.tx.kind == partEnd && s.quirks.has(DoubledStop) {
		s.f.stats.sent.Add(1)
		s.write(ocpp.AppendCall(nil, s.newID(), m.action, m.payload, false))
	}
}

// misbehave sends what a provoked fault sends.
func (s *station) misbehave(fault Fault) {
	call := func(action string) []byte {
		return ocpp.AppendCall(nil, s.newID(), action, json.RawMessage(`{}`), false)
	}
	c := s.conn
	var err error
	switch fault {
	case TruncatedJSON:
		err = c.write(opText, bytes.TrimSuffix(call("Heartbeat"), []byte("}]")))
	case TrailingNUL:
		err = c.write(opText, append(call("Heartbeat"), 0, 0))
	case UnknownMessageType:
		err = c.write(opText, append([]byte("[9"), call("Heartbeat")[2:]...))
	case UnknownAction:
		err = c.write(opText, call("NoSuchAction"))
	case StrayAnswer:
		err = c.write(opText, ocpp.AppendResult(nil, s.newID(), json.RawMessage(`{}`)))
	case Burst:
		for i := 0; i < 20 && err == nil; i++ {
			err = c.write(opText, call("Heartbeat"))
		}
	case TextPong:
		err = c.write(opText, []byte("pong"))
	case InvalidUTF8:
		err = c.write(opText, []byte{'[', 0xff, ']'})
	case ReservedBits:
		err = c.write(0x20|opText, call("Heartbeat"))
	case Unmasked:
		_, err = c.nc.Write(append([]byte{0x80 | opText, 2}, "{}"...))
	case Oversized:
		_, err = c.nc.Write([]byte{0x80 | opText, 0x80 | 127, 0, 0, 0, 0, 0x40, 0, 0, 0, 1, 2, 3, 4, '['})
	}
	if err != nil {
		s.lost(err)
	}
}
