package crash

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"holdfast/e2e"
	"holdfast/fleet"
	"holdfast/ocpp"
	"holdfast/store/storetest"
)

func TestSQLite(t *testing.T) {
	s := newSite(t, nil)
	f := s.charge(t)
	t.Run("csms", func(t *testing.T) { killCSMS(t, s, f) })
	t.Run("gateway", func(t *testing.T) { killGateway(t, s, f) })
	t.Run("gateway back at once", func(t *testing.T) { replaceGateway(t, s, f) })
	t.Run("nats", func(t *testing.T) { killNATS(t, s, f) })
	t.Run("drain", func(t *testing.T) { drainGateway(t, s, f) })
	t.Run("record", func(t *testing.T) { verify(t, s, f) })
}

func TestPostgres(t *testing.T) {
	s := newSite(t, storetest.NewServer(t))
	f := s.charge(t)
	t.Run("csms", func(t *testing.T) { killCSMS(t, s, f) })
	t.Run("gateway", func(t *testing.T) { killGateway(t, s, f) })
	t.Run("gateway back at once", func(t *testing.T) { replaceGateway(t, s, f) })
	t.Run("nats", func(t *testing.T) { killNATS(t, s, f) })
	t.Run("database", func(t *testing.T) { killDatabase(t, s, f) })
	t.Run("drain", func(t *testing.T) { drainGateway(t, s, f) })
	t.Run("record", func(t *testing.T) { verify(t, s, f) })
}

// rounds is how often something is killed. The second time and later it is while
// the stations catch up: then most messages are under way.
const rounds = 3

// crash kills something, lets messages gather at the stations, and brings it back.
func (f *stations) crash(t *testing.T, kill func(), away func(), back func()) {
	t.Helper()
	for range rounds {
		kill()
		away()
		f.awaitQueued(t)
		back()
		f.awaitCatchingUp(t)
	}
	f.site.awaitReady(f.site.nodes()...)
	f.awaitProgress(t)
}

// killCSMS: the stations stay connected. A second csms carries on alone.
func killCSMS(t *testing.T, s *site, f *stations) {
	connects := f.Stats().Connects
	if len(s.csms) > 1 {
		s.csms[0].Kill()
		f.awaitProgress(t)
		for _, n := range s.gateways {
			if why := reasons(n); len(why) > 0 {
				t.Errorf("with a csms left, a gateway is not ready: %q", why)
			}
		}
		s.csms[0].Restart()
		s.csms[0].AwaitReady()
	}
	f.crash(t, func() {
		for _, n := range s.csms {
			n.Kill()
		}
	}, func() {
		s.awaitNotReady(t, "csms", s.gateways[:]...)
	}, func() {
		for _, n := range s.csms {
			n.Restart()
		}
	})
	if n := f.Stats().Connects; n != connects {
		t.Errorf("%d stations connected anew although only csms were killed", n-connects)
	}
	f.awaitOn(t, "", stationCount)
}

// killGateway: a call that is under way fails at once, the stations of the
// killed gateway are elsewhere or shown offline, and come back.
func killGateway(t *testing.T, s *site, f *stations) {
	victim := f.mutedOn(t, 0)
	type outcome struct {
		status int
		result string
		err    error
	}
	open := make(chan outcome, 1)
	go func() {
		var o outcome
		o.status, o.result, o.err = f.callStation(t.Context(), victim, 2*time.Minute)
		open <- o
	}()
	e2e.Await(t, "the call has left for the station", 20*time.Second, func() bool {
		frames, err := list(t.Context(), s.csms[0], stationPath(victim)+"/messages", nil)
		for _, frame := range frames {
			if strings.Contains(string(frame), operatorAction) {
				return true
			}
		}
		return err != nil
	})

	s.gateways[0].Kill()
	select {
	case o := <-open:
		if o.err != nil || o.status != http.StatusBadGateway || o.result != "connection_lost" {
			t.Errorf("call to a station on a killed gateway: status %d, result %q, %v; want 502, connection_lost", o.status, o.result, o.err)
		}
	case <-time.After(15 * time.Second):
		t.Error("a call to a station on a killed gateway does not fail at once")
	}
	if status, result, err := f.callStation(t.Context(), victim, time.Minute); status != http.StatusConflict || result != "offline" || err != nil {
		t.Errorf("call after the gateway was killed: status %d, result %q, %v; want 409, offline", status, result, err)
	}

	away := f.roads.bound(0)
	f.awaitOffline(t, away)
	f.awaitOn(t, gatewayIDs[1], stationCount-len(away))
	if why := reasons(s.gateways[1]); len(why) > 0 {
		t.Errorf("the other gateway is not ready: %q", why)
	}
	f.awaitProgress(t)

	s.gateways[0].Restart()
	s.awaitReady(s.nodes()...)
	f.awaitOn(t, gatewayIDs[0], len(away))
	f.awaitOn(t, "", stationCount)
	if status, result, err := f.callStation(t.Context(), victim, 20*time.Second); status != http.StatusOK || result != "accepted" || err != nil {
		t.Errorf("call to a station that is back: status %d, result %q, %v; want 200, accepted", status, result, err)
	}
	s.check(t)
}

// replaceGateway: a killed gateway is back before anybody misses it. Its stations
// are not, and the record must not show them as connected.
func replaceGateway(t *testing.T, s *site, f *stations) {
	away := f.roads.bound(1)
	f.roads.closed.Store(true)
	s.gateways[1].Kill()
	s.gateways[1].Restart()
	s.awaitReady(s.nodes()...)
	f.awaitOffline(t, away)
	f.roads.closed.Store(false)
	f.awaitOn(t, "", stationCount)
	f.awaitProgress(t)
}

// killNATS: every process says so, the stations stay connected, and all of it
// goes on by itself.
func killNATS(t *testing.T, s *site, f *stations) {
	connects := f.Stats().Connects
	f.crash(t, func() { s.broker.Kill() }, func() {
		s.awaitNotReady(t, "bus", s.nodes()...)
		if status, result, err := f.callStation(t.Context(), f.ids[0], time.Minute); status != http.StatusServiceUnavailable || result != "unavailable" || err != nil {
			t.Errorf("call while NATS is away: status %d, result %q, %v; want 503, unavailable", status, result, err)
		}
	}, s.broker.Restart)
	if n := f.Stats().Connects; n != connects {
		t.Errorf("%d stations connected anew although only NATS was killed", n-connects)
	}
	f.awaitOn(t, "", stationCount)
}

// killDatabase: those who need it say so, the gateways do not, the stations stay
// connected and repeat.
func killDatabase(t *testing.T, s *site, f *stations) {
	connects := f.Stats().Connects
	f.crash(t, s.database.Kill, func() {
		s.awaitNotReady(t, "csms", s.csms...)
		s.awaitNotReady(t, "authority", s.authority)
	}, func() {
		if err := s.database.Start(); err != nil {
			t.Fatal(err)
		}
	})
	if n := f.Stats().Connects; n != connects {
		t.Errorf("%d stations connected anew although only the database was killed", n-connects)
	}
}

// drainGateway: SIGTERM closes each connection with 1001, the process exits with
// 0, and the stations are on the other gateway.
func drainGateway(t *testing.T, s *site, f *stations) {
	f.roads.free.Store(true)
	held := len(f.shown(t, gatewayIDs[0]))
	f.told.takeCloses()
	s.gateways[0].Terminate()
	if code := s.gateways[0].Wait(60 * time.Second); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}
	f.awaitOn(t, gatewayIDs[1], stationCount)
	away := 0
	for text, n := range f.told.takeCloses() {
		if !strings.Contains(text, "closed with 1001 ") {
			t.Errorf("%d connections: %s; want close code 1001", n, text)
		}
		away += n
	}
	if away != held {
		t.Errorf("%d stations were told to go, want all %d", away, held)
	}
	f.awaitProgress(t)
	s.check(t)
}

// operatorAction is a CALL of all three versions.
const operatorAction = "GetLocalListVersion"

func stationPath(id ocpp.StationID) string { return "/api/v1/stations/" + url.PathEscape(string(id)) }

// callStation sends a CALL to a station and returns HTTP status and result.
func (f *stations) callStation(ctx context.Context, id ocpp.StationID, limit time.Duration) (status int, result string, err error) {
	var answer struct {
		Result string `json:"result"`
	}
	body := map[string]any{"action": operatorAction, "payload": map[string]any{}, "timeout": limit.Seconds()}
	status, err = ask(ctx, f.site.csms[0], http.MethodPost, stationPath(id)+"/calls", body, &answer)
	return status, answer.Result, err
}

// mutedOn makes a connected station that only knows the gateway answer nothing
// until its connection ends.
func (f *stations) mutedOn(t *testing.T, gateway int) ocpp.StationID {
	t.Helper()
	on := f.shown(t, gatewayIDs[gateway])
	for _, id := range f.roads.bound(gateway) {
		if on[id] && f.Provoke(id, fleet.Silent) == nil {
			return id
		}
	}
	t.Fatalf("no station of those bound to %s is connected", gatewayIDs[gateway])
	return ""
}
