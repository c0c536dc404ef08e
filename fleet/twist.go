package fleet

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"time"
)

var (
	// wireTimes are the times in our own messages, as wireTime writes them.
	wireTimes = regexp.MustCompile(`"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})Z"`)
	// fractions are times with fractions of a second in messages of the server.
	fractions = regexp.MustCompile(`"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d`)
)

// twist spoils a payload as the station's quirks have it.
func (s *station) twist(action string, payload json.RawMessage) json.RawMessage {
	q := s.quirks
	replace := func(old, new string) { payload = bytes.Replace(payload, []byte(old), []byte(new), 1) }
	switch {
	case q.has(NoTimeZone):
		payload = wireTimes.ReplaceAll(payload, []byte(`"$1"`))
	case q.has(SevenDigits):
		payload = wireTimes.ReplaceAll(payload, []byte(`"${1}0000Z"`))
	case q.has(ShortOffset):
		payload = wireTimes.ReplaceAllFunc(payload, shortOffset)
	}
	switch action {
	case "BootNotification":
		if q.has(LongModel) {
			replace(`"Fleet"`, `"`+strings.Repeat("Fleet-", 10)+`"`)
		}
		if q.has(EmptyStrings) {
			replace(`"Holdfast"`, `""`)
		}
		if q.has(NullOptionals) && s.id.Version.Is2x() {
			replace(`"chargingStation":{`, `"chargingStation":{"modem":null,`)
		} else if q.has(NullOptionals) {
			replace(`{`, `{"iccid":null,`)
		}
	case "StatusNotification":
		if q.has(UnknownErrorCode) {
			replace(`"NoError"`, `"Error"`)
		}
	case "MeterValues", "TransactionEvent":
		if q.has(UnknownUnit) && s.id.Version.Is2x() {
			replace(`"sampledValue":[`, `"sampledValue":[{"value":50,"measurand":"Request.Energy","unitOfMeasure":{"unit":"Hz"}},`)
		} else if q.has(UnknownUnit) {
			replace(`"sampledValue":[`, `"sampledValue":[{"value":"50","measurand":"Request.Energy","unit":"Hz"},`)
		}
	}
	return payload
}

// shortOffset writes a time of wireTimes as that of a zone two hours ahead.
func shortOffset(text []byte) []byte {
	t, err := time.Parse(`"`+time.RFC3339+`"`, string(text))
	if err != nil {
		return text
	}
	return []byte(t.In(time.FixedZone("", int(aheadOfUTC/time.Second))).Format(`"2006-01-02T15:04:05.000-07"`))
}
