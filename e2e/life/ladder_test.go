package life_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"holdfast/api"
	"holdfast/store"
)

// TestLadder takes a station of each OCPP version from security profile 1 to 2
// and 3, with a password rotation between, and then renews its certificate. Each
// is one operation, with a step for each thing that was done.
func TestLadder(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fleet(9, "--stations", "9", "--profiles", "1,2,3") // every third begins with profile 1
	for i, version := range []string{"1.6", "2.0.1", "2.1"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			(&site{s.Node, t}).climb(fmt.Sprintf("FLEET-%05d", 3*i+1))
		})
	}
}

func (s *site) climb(id string) {
	t := s.t
	has := func(o api.OperationView, wanted ...string) {
		var done []string
		for _, step := range o.Steps {
			if step.Outcome == "done" {
				done = append(done, step.Step)
			}
		}
		for _, w := range wanted {
			if !slices.Contains(done, w) {
				t.Errorf("%s of %s: no step %s in\n%s", o.Kind, id, w, steps(o))
			}
		}
	}
	profile := func(want int) {
		for _, st := range s.stations() {
			if st.ID == id && st.Profile != want {
				t.Errorf("station %s is connected with security profile %d, want %d", id, st.Profile, want)
			}
		}
	}
	has(s.operate("station", "upgrade", id, "--profile", "2"), "proof", "accept", "confirm")
	profile(2)
	has(s.operate("station", "rotate", id), "send", "confirm")
	has(s.operate("station", "upgrade", id, "--profile", "3"), "proof", "limits", "request", "sign", "deliver", "accept", "confirm")
	profile(3)
	first := s.certificates(id)
	o := s.operate("station", "renew", id)
	has(o, "limits", "request", "sign", "deliver", "use")
	certs := s.certificates(id)
	if len(first) != 1 || len(certs) != 2 || certs[1].Fingerprint != first[0].Fingerprint ||
		certs[0].Status != store.StatusActive || certs[0].FirstUsed.IsZero() || certs[1].Status != store.StatusSuperseded {
		t.Errorf("station %s: certificates before %+v, after %+v", id, first, certs)
	}
	var again api.OperationView
	s.must(&again, "operation", "show", o.ID)
	if again.Status != store.OperationDone || again.By != "admin" || len(again.Steps) != len(o.Steps) {
		t.Errorf("operation %s afterwards: %+v", o.ID, again)
	}
	// What was secret on the way is in no record of it.
	var messages []struct{ Frame string }
	s.must(&messages, "station", "log", id)
	told := 0
	for _, m := range messages {
		if strings.HasPrefix(m.Frame, "[2,") && (strings.Contains(m.Frame, "AuthorizationKey") || strings.Contains(m.Frame, "BasicAuthPassword")) {
			if told++; !strings.Contains(m.Frame, "[redacted]") {
				t.Errorf("a password in the message log: %.200s", m.Frame)
			}
		}
	}
	if told == 0 {
		t.Errorf("station %s: no password among %d messages", id, len(messages))
	}
}
