package faults

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/e2e"
)

// TestFault05SameIdentityTwice: of two connections of a station the newest wins,
// on one gateway and across gateways, and commands reach it.
func TestFault05SameIdentityTwice(t *testing.T) {
	bus := "127.0.0.1:" + e2e.FreePort(t)
	n := all(t, "--listen-nats", bus)
	other := e2e.Ports(t, n.Data)
	other.Args = append([]string{"gateway", "--nats", "nats://" + bus, "--nats-credentials", filepath.Join(n.Data, "nats-credentials", "gateway.creds"), "--gateway-id", "other", "--plain", "--drain-time", "1s"}, other.ListenArgs("admin", "plain", "tls", "mtls")...)
	other.Restart()
	other.AwaitReady()

	for _, tt := range []struct {
		name    string
		profile int
		next    *e2e.Node // where the station connects again
	}{
		{"one gateway, plain", 1, n},
		{"one gateway, mutual TLS", 3, n},
		{"two gateways, TLS", 2, other},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := add(t, n, "TWICE "+tt.name, tt.profile, nil)
			moved := s
			moved.url = map[int]string{1: tt.next.Plain, 2: tt.next.TLS, 3: tt.next.MTLS}[tt.profile]
			ways := []station{s, moved}
			old := attempt{station: s}.must(t)
			old.boot(t)
			const rounds = 8
			for i := range rounds {
				p := attempt{station: ways[(i+1)%2]}.must(t)
				p.boot(t)
				if c := old.end(t); c.code != 4001 {
					t.Fatalf("round %d: the old connection ends with %v, want close 4001", i, c)
				}
				done := make(chan string, 1)
				go func() { done <- command(n, s.id, "ClearCache", nil) }()
				r := parse(p.next(t))
				if r.kind != 2 || r.what != "ClearCache" {
					t.Fatalf("round %d: %s instead of the command", i, r.text)
				}
				p.send(t, fmt.Sprintf(`[3,%q,{"status":"Accepted"}]`, r.id))
				if got := <-done; got != "accepted" {
					t.Errorf("round %d: the command's result is %s", i, got)
				}
				old = p
			}
			if got := connections(n) + connections(other); got != 1 {
				t.Errorf("%d connections are counted, want 1", got)
			}
			old.leave()
			e2e.Await(t, "nobody counted", patience, func() bool { return connections(n)+connections(other) == 0 })
		})
	}
	checked(t, n)
	checked(t, other)
}

// TestFault08NoPong: stations that have to pong and never do are closed.
func TestFault08NoPong(t *testing.T) {
	n := all(t, "--ping-interval", "300ms", "--pong-time", "600ms")
	silent := map[string]any{"quirks": map[string]any{"ping": "require"}}
	var dead []station
	for profile := 1; profile <= 3; profile++ {
		dead = append(dead, addMany(t, n, fmt.Sprintf("DEAD%d-", profile), 20, profile, silent)...)
	}
	alive := attempt{station: add(t, n, "ALIVE", 2, silent)}.must(t)
	alive.boot(t)
	before := use(t, n)
	const rounds = 5 // of 60 stations: 300 in all
	for range rounds {
		var wg sync.WaitGroup
		for _, s := range dead {
			p := attempt{station: s}.must(t)
			p.mute = true
			wg.Go(func() {
				for {
					if _, err := p.read(patience); err != nil {
						if err == errTimeout {
							t.Errorf("station %s never ponged and is still connected", s.id)
						}
						p.nc.Close()
						return
					}
				}
			})
		}
		// Meanwhile one that pongs is not closed: it is pinged by reading.
		for range 4 {
			if _, err := alive.read(300 * time.Millisecond); err != errTimeout {
				t.Fatalf("the station that pongs: %v", err)
			}
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		for ended := false; !ended; {
			select {
			case <-done:
				ended = true
			default:
				if _, err := alive.read(100 * time.Millisecond); err != errTimeout {
					t.Fatalf("the station that pongs: %v", err)
				}
			}
		}
	}
	if got, want := int(n.Metric("holdfast_closes_total", `reason="no_pong"`)), rounds*len(dead); got != want {
		t.Errorf("%d connections ended for want of a pong, want %d", got, want)
	}
	if got := connections(n); got != 1 {
		t.Errorf("%d connections, want the one that pongs", got)
	}
	alive.nc.Close() // its pongs would stop while we measure
	before.files--
	returned(t, n, before, 2<<20)
}

// TestFault09CloseOnTerm: SIGTERM closes every station with 1001, not by the end
// of its socket, and ends with exit status 0.
func TestFault09CloseOnTerm(t *testing.T) {
	n := all(t)
	var peers []*peer
	for profile := 1; profile <= 3; profile++ {
		for _, s := range addMany(t, n, fmt.Sprintf("S%d-", profile), 10, profile, nil) {
			p := attempt{station: s}.must(t)
			p.boot(t)
			peers = append(peers, p)
		}
	}
	charging := peers[0] // closed last: it is in a transaction
	charging.call(t, "StartTransaction", `{"connectorId":1,"idTag":"T","meterStart":0,"timestamp":"2026-01-01T00:00:00Z"}`)
	n.Terminate()
	var mu sync.Mutex
	var order []*peer
	var wg sync.WaitGroup
	for _, p := range peers {
		wg.Go(func() {
			if c := p.end(t); c.code != 1001 {
				t.Errorf("%v, want close 1001", c)
			}
			mu.Lock()
			order = append(order, p)
			mu.Unlock()
		})
	}
	wg.Wait()
	if code := n.Wait(patience); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if order[len(order)-1] != charging {
		t.Error("the station in a transaction was not closed last")
	}
	if log := n.Tail(64 << 10); strings.Contains(log, "level=ERROR") {
		t.Errorf("errors while stopping:\n%s", log)
	}
}
