package ocpp

import (
	"encoding/json"
	"strings"
	"time"
)

// TimeQuality says how far a timestamp can be trusted.
type TimeQuality uint8

const (
	TimeExact       TimeQuality = iota // date, time and offset were given
	TimeAssumedZone                    // no offset was given: UTC is assumed
	TimeUnset                          // before 2010: the sender's clock was not set
	TimeUnreadable                     // not a timestamp; the time is zero
)

func (q TimeQuality) String() string {
	return [...]string{"exact", "assumed zone", "unset clock", "unreadable"}[min(q, TimeUnreadable)]
}

// DateTime is a timestamp of OCPP, always in UTC. It is read with patience for
// what stations send, and written as YYYY-MM-DDThh:mm:ssZ: no fraction, no
// offset, because some stations read nothing else. The zero value is absent.
type DateTime struct {
	time.Time
	Quality TimeQuality
}

// NewDateTime returns t in UTC.
func NewDateTime(t time.Time) DateTime { return DateTime{Time: t.UTC()} }

// clockSet is the start of the first year that a set clock can show: OCPP 1.5,
// the oldest version in use, is of 2012.
var clockSet = time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC)

// ClockWasSet reports whether t can be the time of a station whose clock was set.
// Without one, a timestamp does not tell two messages apart. The zero time, which
// stands for an unreadable one, is none.
func ClockWasSet(t time.Time) bool { return !t.Before(clockSet) }

// dateTimeLayout is the one form that is written.
const dateTimeLayout = "2006-01-02T15:04:05Z"

// MarshalJSON writes the time to the second, as UTC.
func (d DateTime) MarshalJSON() ([]byte, error) { return d.appendJSON(nil), nil }

func (d DateTime) appendJSON(b []byte) []byte {
	b = d.UTC().AppendFormat(append(b, '"'), dateTimeLayout)
	return append(b, '"')
}

// UnmarshalJSON reads any form that ParseDateTime reads; null leaves d as it is.
func (d *DateTime) UnmarshalJSON(data []byte) error {
	if string(data) == "null" {
		return nil
	}
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	*d = ParseDateTime(s)
	return nil
}

// ParseDateTime reads RFC 3339 and what stations make of it: no offset (read as
// UTC), "+02" or "+0200", a space instead of T, lower-case t and z, no seconds,
// a decimal comma, any number of fraction digits (nine are kept).
func ParseDateTime(s string) DateTime {
	d, _ := parseDateTime(s)
	return d
}

// parseDateTime also reports whether s is RFC 3339, which the schemas want.
func parseDateTime(s string) (d DateTime, conforms bool) {
	unreadable := DateTime{Quality: TimeUnreadable}
	r := timeReader{s: strings.TrimSpace(s), ok: true}
	conforms = len(r.s) == len(s)
	year := r.digits(4)
	r.expect("-")
	month := r.digits(2)
	r.expect("-")
	day := r.digits(2)
	if !r.ok || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return unreadable, false
	}
	if !r.accept("T") && !r.accept("t") {
		conforms = false
		r.expect(" ")
	}
	hour := r.digits(2)
	r.expect(":")
	minute := r.digits(2)
	second, nanos := 0, 0
	if r.accept(":") {
		second = r.digits(2)
		if r.accept(".") {
			nanos = r.fraction()
		} else if r.accept(",") {
			conforms = false
			nanos = r.fraction()
		}
	} else {
		conforms = false
	}
	if !r.ok || hour > 23 || minute > 59 || second > 60 { // 60: a leap second
		return unreadable, false
	}
	offset, given := 0, true
	switch {
	case r.accept("Z"), r.accept("z"):
	case r.accept("+"):
		offset = r.offset(&conforms)
	case r.accept("-"):
		offset = -r.offset(&conforms)
	default:
		given, conforms = false, false
	}
	if !r.ok || r.s != "" {
		return unreadable, false
	}
	d.Time = time.Date(year, time.Month(month), day, hour, minute-offset, second, nanos, time.UTC)
	switch {
	case !ClockWasSet(d.Time):
		d.Quality = TimeUnset
	case !given:
		d.Quality = TimeAssumedZone
	}
	if d.Year() < 0 || d.Year() > 9999 { // the offset moved it out of what can be written
		return unreadable, false
	}
	return d, conforms
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}

// timeReader eats a timestamp from the left.
type timeReader struct {
	s  string
	ok bool
}

func (r *timeReader) accept(c string) bool {
	rest, ok := strings.CutPrefix(r.s, c)
	r.s = rest
	return ok
}

func (r *timeReader) expect(c string) { r.ok = r.accept(c) && r.ok }

func (r *timeReader) digits(n int) int {
	if len(r.s) < n {
		r.ok = false
		return 0
	}
	value := 0
	for _, c := range []byte(r.s[:n]) {
		if c < '0' || c > '9' {
			r.ok = false
			return 0
		}
		value = value*10 + int(c-'0')
	}
	r.s = r.s[n:]
	return value
}

// fraction reads one digit or more as nanoseconds.
func (r *timeReader) fraction() int {
	nanos, unit, n := 0, int(100*time.Millisecond), 0
	for n < len(r.s) && r.s[n] >= '0' && r.s[n] <= '9' {
		nanos += int(r.s[n]-'0') * unit
		unit /= 10
		n++
	}
	r.ok = r.ok && n > 0
	r.s = r.s[n:]
	return nanos
}

// offset reads hh:mm, hhmm or hh and returns minutes.
func (r *timeReader) offset(conforms *bool) int {
	hours, minutes := r.digits(2), 0
	if r.accept(":") {
		minutes = r.digits(2)
	} else {
		*conforms = false
		if r.s != "" {
			minutes = r.digits(2)
		}
	}
	r.ok = r.ok && hours <= 23 && minutes <= 59
	return hours*60 + minutes
}
