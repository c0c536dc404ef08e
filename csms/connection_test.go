package csms_test

import (
	"testing"
	"time"

	"holdfast/csms"
	"holdfast/ocpp"
	"holdfast/store"
	"holdfast/store/storetest"
)

// Whatever order events come in, the newest connection is what counts.
func TestConnectionEpochs(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		var events []csms.Event
		clock := now
		c := open(t, where, csms.Config{Publish: func(e csms.Event) { events = append(events, e) }, Now: func() time.Time { return clock }})
		on := func(gateway string, epoch uint64, v ocpp.Version) ocpp.Connected {
			return ocpp.Connected{Station: "CS", Gateway: gateway, Epoch: epoch, Version: v, Profile: ocpp.ProfileMTLS, Remote: "192.0.2.1:999", At: clock}
		}
		connected := func(e ocpp.Connected) func() error { return func() error { return c.Connected(t.Context(), e) } }
		disconnected := func(gateway string, epoch uint64) func() error {
			return func() error {
				return c.Disconnected(t.Context(), ocpp.Disconnected{Station: "cs", Gateway: gateway, Epoch: epoch, Reason: "silent", At: clock})
			}
		}
		present := func(gateway string, complete bool, stations ...ocpp.Connected) func() error {
			return func() error { return c.Present(t.Context(), gateway, stations, complete) }
		}
		for _, step := range []struct {
			name    string
			do      func() error
			gateway string // that holds the station afterwards; "": none
			epoch   uint64
			event   csms.EventKind
		}{
			{"first connection", connected(on("a", 1, ocpp.V16)), "a", 1, "connected"},
			{"told again", connected(on("a", 1, ocpp.V16)), "a", 1, ""},
			{"taken over by another gateway", connected(on("b", 2, ocpp.V201)), "b", 2, "connected"},
			{"late end of the first", disconnected("a", 1), "b", 2, ""},
			{"late beginning of the first", connected(on("a", 1, ocpp.V16)), "b", 2, ""},
			{"end", disconnected("b", 2), "", 2, "disconnected"},
			{"end, told again", disconnected("b", 2), "", 2, ""},
			{"late beginning of what has ended", connected(on("b", 2, ocpp.V201)), "", 2, ""},
			{"an end before its beginning", disconnected("a", 3), "", 3, "disconnected"},
			{"the beginning after its end", connected(on("a", 3, ocpp.V201)), "", 3, ""},
			{"the gateway holds it", present("a", true, on("a", 4, ocpp.V201)), "a", 4, "connected"},
			{"the other gateway never heard of it", present("b", true), "a", 4, ""},
			{"a report from before it came", present("a", true), "a", 4, ""},
			{"the gateway is gone", func() error {
				clock = clock.Add(time.Minute)
				return present("a", true)()
			}, "", 4, "disconnected"},
			{"it was only slow", present("a", false, on("a", 4, ocpp.V201)), "a", 4, "connected"},
		} {
			events = nil
			if err := step.do(); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			s, err := c.Record().Station(t.Context(), "CS")
			if err != nil {
				t.Fatal(err)
			}
			if s.Connected != (step.gateway != "") || s.Connected && s.Gateway != step.gateway || s.Epoch != step.epoch {
				t.Errorf("%s: connected %v to %s in epoch %d, want %q in %d", step.name, s.Connected, s.Gateway, s.Epoch, step.gateway, step.epoch)
			}
			if len(events) != 0 != (step.event != "") || step.event != "" && events[0].Kind != step.event {
				t.Errorf("%s: events %+v, want %q", step.name, events, step.event)
			}
		}
		yes, no := true, false
		if l, err := c.Record().Stations(t.Context(), store.Page{}, &yes); err != nil || len(l.Items) != 1 {
			t.Errorf("connected stations: %+v (%v)", l, err)
		}
		if l, err := c.Record().Stations(t.Context(), store.Page{}, &no); err != nil || len(l.Items) != 0 {
			t.Errorf("stations not connected: %+v (%v)", l, err)
		}
	})
}
