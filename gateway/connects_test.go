package gateway

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/ocpp"
)

func TestConnects(t *testing.T) {
	const perMinute, burst = 12, 12 * connectBurst
	start := time.Unix(1_800_000_000, 0)
	// run lets a station connect once per period and returns how often it was let in.
	run := func(c *connects, fold string, period, over time.Duration) (in int) {
		for at := time.Duration(0); at < over; at += period {
			if wait, _ := c.add(fold, start.Add(at)); wait == 0 {
				in++
			}
		}
		return in
	}
	for _, tt := range []struct {
		name        string
		period      time.Duration
		over        time.Duration
		least, most int
	}{
		{"once a minute, for a day", time.Minute, 24 * time.Hour, 1440, 1440},
		{"at the rate, for a day", 5 * time.Second, 24 * time.Hour, 17280, 17280},
		{"a burst", 10 * time.Millisecond, 5 * time.Second, 500, 500},
		{"every second, for a day", time.Second, 24 * time.Hour, burst, burst + 12*1440 + 1},
		{"a tight loop, for an hour", 20 * time.Millisecond, time.Hour, burst, burst + 12*60 + 1},
	} {
		c := newConnects(perMinute)
		if in := run(c, "s", tt.period, tt.over); in < tt.least || in > tt.most {
			t.Errorf("%s: let in %d times, want %d to %d", tt.name, in, tt.least, tt.most)
		}
		if in := run(c, "other", time.Minute, time.Hour); in != 60 {
			t.Errorf("%s: another station was let in %d times of 60", tt.name, in)
		}
	}
	if in := run(newConnects(-1), "s", time.Millisecond, time.Minute); in != 60_000 {
		t.Errorf("without a limit: let in %d times", in)
	}

	// The penalty begins once, lasts its time, differs, and an operator can end it.
	var waits []time.Duration
	for range 20 {
		c := newConnects(perMinute)
		for range burst {
			c.add("s", start)
		}
		wait, first := c.add("s", start)
		if wait < penaltyLeast || wait > 2*penaltyLeast || !first || c.penalized(start) != 1 {
			t.Fatalf("penalty %s, first %v", wait, first)
		}
		if again, first := c.add("s", start.Add(time.Second)); again <= 0 || first {
			t.Errorf("a second later: %s, first %v", again, first)
		}
		if after, _ := c.add("s", start.Add(wait+time.Second)); after != 0 {
			t.Errorf("after the penalty of %s: %s", wait, after)
		}
		waits = append(waits, wait)
		c.forget("s")
		if after, _ := c.add("s", start); after != 0 || c.penalized(start) != 0 {
			t.Error("forgotten, but still penalized")
		}
	}
	if slices.Min(waits) == slices.Max(waits) {
		t.Error("all penalties are equally long")
	}
}

// Stations that stay cost nothing here, and there is a bound for those that do not.
func TestConnectsForget(t *testing.T) {
	c := newConnects(12)
	start := time.Unix(1_800_000_000, 0)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range maxLevels + 1000 {
		c.add(fmt.Sprint(i), start)
	}
	if n := len(c.levels.m); n != maxLevels {
		t.Errorf("%d stations are counted", n)
	}
	if n := c.penalized(start.Add(2 * sweepEvery)); n != 0 || len(c.levels.m) != 0 {
		t.Errorf("%d penalized, %d counted", n, len(c.levels.m))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 1<<20 {
		t.Errorf("%d bytes are kept", grown)
	}
	runtime.KeepAlive(c)
}

// A station that is let in too often is told to stay away; it has cost no event
// and no registration, and another one is not concerned.
func TestConnectsTooOften(t *testing.T) {
	var noted []ocpp.Reason
	const rate = 0.1
	s := newSite(t, echoCalls, func(c *Config) {
		c.ConnectRate = rate
		c.Refused = func(_ ocpp.Credentials, reason ocpp.Reason, _ string) { noted = append(noted, reason) }
	})
	refused := 0
	for range int(math.Round(rate*connectBurst)) + 3 {
		st := dial(t, s.address, "/ocpp/CS1", "Sec-WebSocket-Protocol", v16)
		if st.http.StatusCode == 429 {
			refused++
			if st.http.Header.Get("Retry-After") == "" || strings.Contains(st.http.Header.Get("Retry-After"), "-") {
				t.Errorf("Retry-After %q", st.http.Header.Get("Retry-After"))
			}
		}
		st.conn.Close()
	}
	if refused != 3 || !slices.Equal(noted, []ocpp.Reason{ocpp.ReasonTooOften}) {
		t.Errorf("refused %d times, noted %v", refused, noted)
	}
	if st := dial(t, s.address, "/ocpp/PINNED", "Sec-WebSocket-Protocol", "ocpp2.0.1"); st.http.StatusCode != 101 {
		t.Errorf("another station: %d", st.http.StatusCode)
	}
	s.gw.Forget("cs1")
	if st := dial(t, s.address, "/ocpp/CS1", "Sec-WebSocket-Protocol", v16); st.http.StatusCode != 101 {
		t.Errorf("after the operator changed it: %d", st.http.StatusCode)
	}
}

func TestHandshakeDetail(t *testing.T) {
	for in, want := range map[string]string{
		"tls: client offered only unsupported versions: [302 301]": "tls: it offers only TLS 1.1, TLS 1.0; TLS 1.2 is the least",
		"tls: client offered only unsupported versions: [x]":       "tls: client offered only unsupported versions: [x]",
		"tls: no cipher suite supported by both client and server": "tls: no cipher suite supported by both client and server",
	} {
		if got := handshakeDetail(fmt.Errorf("%s", in)); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
