package ocpp

import (
	"encoding/json"
	"testing"
	"time"
)

func TestParseDateTime(t *testing.T) {
	noon := time.Date(2024, 2, 29, 12, 30, 15, 0, time.UTC)
	for _, tt := range []struct {
		in       string
		want     time.Time
		quality  TimeQuality
		conforms bool
	}{
		{"2024-02-29T12:30:15Z", noon, TimeExact, true},
		{"2024-02-29t12:30:15z", noon, TimeExact, true},
		{"2024-02-29T14:30:15+02:00", noon, TimeExact, true},
		{"2024-02-29T07:00:15-05:30", noon, TimeExact, true},
		{"2024-02-29T12:30:15.1234567Z", noon.Add(123456700), TimeExact, true},
		{"2024-02-29T12:30:15.12345678901Z", noon.Add(123456789), TimeExact, true},
		{"2024-02-29T12:29:60Z", noon.Add(-15 * time.Second), TimeExact, true}, // leap second

		{"2024-02-29T14:30:15+02", noon, TimeExact, false},
		{"2024-02-29T14:30:15+0200", noon, TimeExact, false},
		{"2024-02-29 12:30:15Z", noon, TimeExact, false},
		{" 2024-02-29T12:30:15Z ", noon, TimeExact, false},
		{"2024-02-29T12:30:15,5Z", noon.Add(500 * time.Millisecond), TimeExact, false},
		{"2024-02-29T12:30Z", noon.Add(-15 * time.Second), TimeExact, false},
		{"2024-02-29T12:30:15", noon, TimeAssumedZone, false},
		{"2024-02-29 12:30:15.000", noon, TimeAssumedZone, false},

		{"1970-01-01T00:00:00Z", time.Unix(0, 0).UTC(), TimeUnset, true},
		{"1970-01-01T00:00:42", time.Unix(42, 0).UTC(), TimeUnset, false},
		{"0000-00-00T00:00:00Z", time.Time{}, TimeUnreadable, false},

		{"", time.Time{}, TimeUnreadable, false},
		{"2024-02-29", time.Time{}, TimeUnreadable, false},
		{"2023-02-29T12:30:15Z", time.Time{}, TimeUnreadable, false},
		{"2024-13-01T12:30:15Z", time.Time{}, TimeUnreadable, false},
		{"2024-02-29T24:00:00Z", time.Time{}, TimeUnreadable, false},
		{"2024-02-29T12:60:00Z", time.Time{}, TimeUnreadable, false},
		{"2024-02-29T12:30:15.Z", time.Time{}, TimeUnreadable, false},
		{"2024-02-29T12:30:15Zulu", time.Time{}, TimeUnreadable, false},
		{"2024-02-29T12:30:15+2", time.Time{}, TimeUnreadable, false},
		{"2024-02-29T12:30:15+24:00", time.Time{}, TimeUnreadable, false},
		{"20240229T123015Z", time.Time{}, TimeUnreadable, false},
		{"１２34-02-29T12:30:15Z", time.Time{}, TimeUnreadable, false},
		{"9999-12-31T23:59:59-12:00", time.Time{}, TimeUnreadable, false},
		{"yesterday", time.Time{}, TimeUnreadable, false},
	} {
		got, conforms := parseDateTime(tt.in)
		if !got.Time.Equal(tt.want) || got.Quality != tt.quality || conforms != tt.conforms {
			t.Errorf("%q: %v %v %v, want %v %v %v", tt.in, got.Time, got.Quality, conforms, tt.want, tt.quality, tt.conforms)
		}
		if got.Location() != time.UTC {
			t.Errorf("%q: in %v", tt.in, got.Location())
		}
	}
}

func TestDateTimeJSON(t *testing.T) {
	berlin := time.FixedZone("", 2*3600)
	written, err := json.Marshal(NewDateTime(time.Date(2024, 7, 1, 1, 2, 3, 999, berlin)))
	if err != nil || string(written) != `"2024-06-30T23:02:03Z"` {
		t.Errorf("%s, %v", written, err)
	}
	written, err = json.Marshal(DateTime{Time: time.Date(2024, 7, 1, 1, 2, 3, 999, berlin)})
	if err != nil || string(written) != `"2024-06-30T23:02:03Z"` {
		t.Errorf("not in UTC: %s, %v", written, err)
	}
	var d DateTime
	if err := json.Unmarshal([]byte(`"2024-06-30T23:02:03"`), &d); err != nil || d.Quality != TimeAssumedZone || d.Unix() != 1719788523 {
		t.Errorf("%v %v %v", d, d.Quality, err)
	}
	if err := json.Unmarshal([]byte(`12`), &d); err == nil {
		t.Error("a number was read as a time")
	}
}

func FuzzParseDateTime(f *testing.F) {
	f.Fuzz(func(t *testing.T, s string) {
		d, conforms := parseDateTime(s)
		if d.Quality == TimeUnreadable && !d.IsZero() {
			t.Errorf("%q: %v is %v", s, d.Time, d.Quality)
		}
		if conforms && d.Quality == TimeUnreadable {
			t.Errorf("%q conforms and is unreadable", s)
		}
		if d.Quality == TimeUnreadable {
			return
		}
		again, conforms := parseDateTime(d.UTC().Format(dateTimeLayout))
		if !conforms || !again.Equal(d.Truncate(time.Second)) {
			t.Errorf("%q: %v comes back as %v", s, d.Time, again.Time)
		}
	})
}
