package gateway

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/ocpp"
)

// TestAdmission: a question per TTL, and while the authority is away whoever was
// admitted before, for the grace time, however long ago that was.
func TestAdmission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, away := 0, false
		a := newAdmission(func(_ context.Context, c ocpp.Credentials) (ocpp.Decision, error) {
			asked++
			if away {
				return ocpp.Decision{}, errors.New("away")
			}
			allowed := string(c.Basic) == "good"
			return ocpp.Decision{Allowed: allowed, Reason: ocpp.ReasonAdmitted, Station: c.Station, TTL: time.Minute, Grace: time.Hour,
				Quirks: ocpp.Quirks{Ping: "off"}}, nil
		})
		good := ocpp.Credentials{Station: "CS1", Profile: 2, Basic: []byte("good")}
		decide := func(c ocpp.Credentials) (bool, bool) {
			d, err := a.decide(t.Context(), c)
			if d.Allowed && (d.Station != "CS1" || d.Quirks.Ping != "off") {
				t.Errorf("decision lost something: %+v", d)
			}
			return d.Allowed, err == nil
		}
		expect := func(what string, c ocpp.Credentials, allowed, answered bool, questions int) {
			t.Helper()
			if a, b := decide(c); a != allowed || b != answered || asked != questions {
				t.Errorf("%s: allowed %v, answered %v, %d questions; want %v, %v, %d", what, a, b, asked, allowed, answered, questions)
			}
		}
		expect("first", good, true, true, 1)
		expect("within the TTL", good, true, true, 1)
		bad := good
		bad.Basic = []byte("bad")
		expect("wrong password", bad, false, true, 2)
		expect("again", bad, false, true, 3)
		time.Sleep(2 * time.Minute)
		expect("after the TTL", good, true, true, 4)
		time.Sleep(48 * time.Hour) // connected all the while
		away = true
		expect("authority away", good, true, true, 5)
		expect("a new one", bad, false, false, 6)
		time.Sleep(59 * time.Minute)
		expect("within the grace time", good, true, true, 7)
		time.Sleep(2 * time.Minute)
		expect("after it", good, false, false, 8)
		away = false
		expect("back", good, true, true, 9)
		away = true
		time.Sleep(2 * time.Minute)
		expect("away again", good, true, true, 10)
		a.forget("cs1")
		expect("changed by the authority", good, false, false, 11)
		away = false
		expect("back", good, true, true, 12)
		a.doubt()
		expect("in doubt", good, true, true, 13)
		other := good
		other.Profile = 1
		expect("another profile is another question", other, true, true, 14)
		expect("and the one that is remembered now", other, true, true, 14)
		expect("a wrong password", bad, false, true, 15)
		expect("does not forget the right one", other, true, true, 15)
	})
}
