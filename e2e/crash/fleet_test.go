package crash

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/e2e"
	"holdfast/fleet"
	"holdfast/ocpp"
)

const (
	stationCount = 500
	callTimeout  = 3 * time.Second // of stations and gateways
	idTag        = "CRASH"
)

// stations are the fleet of a site with what the test knows of it.
type stations struct {
	*fleet.Fleet
	site  *site
	ids   []ocpp.StationID
	roads *roads
	told  told
	since time.Time
}

// register adds the stations to a site: half on security profile 2 and half on
// 3, a third of each version.
func (s *site) register(t *testing.T) []fleet.Identity {
	t.Helper()
	ctx := t.Context()
	if _, err := ask(ctx, s.csms[0], http.MethodPut, "/api/v1/id-tokens/"+idTag, map[string]any{"status": "Accepted"}, nil); err != nil {
		t.Fatal(err)
	}
	identities := make([]fleet.Identity, stationCount)
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(atOnce)
	for i := range identities {
		eg.Go(func() error {
			id := fleet.Identity{
				ID:      ocpp.StationID(fmt.Sprintf("CRASH-%03d", i)),
				Profile: []ocpp.SecurityProfile{ocpp.ProfileTLS, ocpp.ProfileMTLS}[i%2],
				Version: []ocpp.Version{ocpp.V16, ocpp.V201, ocpp.V21}[i%3],
			}
			var added struct {
				Password    string `json:"password"`
				Certificate *struct {
					Chain string `json:"chain"`
					Key   string `json:"key"`
				} `json:"certificate"`
			}
			body := map[string]any{"id": id.ID, "profile": id.Profile}
			status, err := ask(ctx, s.csms[i%len(s.csms)], http.MethodPost, "/api/v1/stations", body, &added)
			if err != nil || status != http.StatusCreated {
				return fmt.Errorf("register station %s: %d %w", id.ID, status, err)
			}
			id.Password = added.Password
			if added.Certificate != nil {
				pair, err := tls.X509KeyPair([]byte(added.Certificate.Chain), []byte(added.Certificate.Key))
				if err != nil {
					return err
				}
				id.Certificate = &pair
			}
			identities[i] = id
			return nil
		})
	}
	if err := eg.Wait(); err != nil {
		t.Fatal(err)
	}
	return identities
}

// charge registers the stations and lets them charge until the test ends. Their
// sessions take 12 s, with a meter value every 1.5 s; they repeat transaction
// messages for as long as they must.
func (s *site) charge(t *testing.T) *stations {
	t.Helper()
	pem, err := os.ReadFile(filepath.Join(s.authority.Data, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots, err := fleet.ParseRoots(pem)
	if err != nil {
		t.Fatal(err)
	}
	identities := s.register(t)
	f := &stations{site: s, since: time.Now().Add(-time.Minute), roads: newRoads(s.gateways, identities)}
	for _, id := range identities {
		f.ids = append(f.ids, id.ID)
	}
	f.Fleet, err = fleet.New(fleet.Config{
		Targets:  map[ocpp.SecurityProfile]string{ocpp.ProfileTLS: s.gateways[0].TLS, ocpp.ProfileMTLS: s.gateways[0].MTLS},
		Stations: identities,
		Roots:    roots,
		Behaviour: fleet.Behaviour{
			TimeFactor: 60, SessionLength: 12 * time.Minute, SessionGap: 4 * time.Minute, MeterInterval: 90 * time.Second,
			UnplugDelay: 30 * time.Second, BootRetry: time.Second, IDTags: []string{idTag},
		},
		Rate:        100,
		CallTimeout: callTimeout,
		Resend:      fleet.Resend{Attempts: 1000, Interval: 100 * time.Millisecond},
		BackOff:     fleet.BackOff{Minimum: 500 * time.Millisecond, Random: time.Second, Repeat: 1},
		Dial:        f.roads.dial,
		Logger:      slog.New(&f.told),
		Seed:        1,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { f.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	f.awaitOn(t, "", stationCount)
	f.awaitProgress(t)
	return f
}

// count is how many stations are connected by their own account.
func (f *stations) count() int {
	n := 0
	for _, c := range f.Stats().Connected {
		n += c
	}
	return n
}

// acknowledged is how many starts of transactions the server has acknowledged.
func (f *stations) acknowledged() int {
	n := 0
	for tx := range f.Ledger().Transactions() {
		if tx.Started {
			n++
		}
	}
	return n
}

// awaitProgress waits until the stations charge: a hundred more transactions
// were begun.
func (f *stations) awaitProgress(t *testing.T) {
	t.Helper()
	begun := f.acknowledged()
	e2e.Await(t, "stations begin transactions", 60*time.Second, func() bool { return f.acknowledged() >= begun+100 })
}

// manyQueued is how many transaction messages gather at the stations while
// something is away.
const manyQueued = 2 * stationCount

func (f *stations) awaitQueued(t *testing.T) {
	t.Helper()
	e2e.Await(t, "messages gather", 60*time.Second, func() bool { return f.Stats().Queued >= manyQueued })
}

// awaitCatchingUp waits until a part of the gathered messages is acknowledged.
func (f *stations) awaitCatchingUp(t *testing.T) {
	t.Helper()
	e2e.Await(t, "stations catch up", 60*time.Second, func() bool { return f.Stats().Queued <= manyQueued/2 })
}

// shown is what the operator API shows of a station.
type shown struct {
	ID    ocpp.StationID `json:"id"`
	State struct {
		Connected bool   `json:"connected"`
		Gateway   string `json:"gateway"`
	} `json:"state"`
}

// shown returns the stations that the operator API shows as connected, to any
// gateway or to one.
func (f *stations) shown(t *testing.T, gateway string) map[ocpp.StationID]bool {
	t.Helper()
	items, err := list(t.Context(), f.site.csms[0], "/api/v1/stations", url.Values{"connected": {"true"}})
	if err != nil {
		t.Fatal(err)
	}
	on := make(map[ocpp.StationID]bool)
	for _, item := range items {
		var s shown
		if err := json.Unmarshal(item, &s); err != nil {
			t.Fatal(err)
		}
		if s.State.Connected && (gateway == "" || s.State.Gateway == gateway) {
			on[s.ID] = true
		}
	}
	return on
}

// awaitOn waits until the operator API shows n stations on a gateway; empty: on any.
func (f *stations) awaitOn(t *testing.T, gateway string, n int) {
	t.Helper()
	last := 0
	t.Cleanup(func() {
		if t.Failed() && last != n {
			t.Logf("%d stations shown on %q, %d connected by their own account", last, gateway, f.count())
		}
	})
	e2e.Await(t, fmt.Sprintf("%d stations shown on %q", n, gateway), 60*time.Second, func() bool {
		last = len(f.shown(t, gateway))
		return last == n
	})
}

// awaitOffline waits until the operator API shows the stations as not connected:
// 20 s after a gateway was heard of last, and a look every 5 s.
func (f *stations) awaitOffline(t *testing.T, away []ocpp.StationID) {
	t.Helper()
	e2e.Await(t, "the killed gateway's stations shown offline", 35*time.Second, func() bool {
		on := f.shown(t, "")
		for _, id := range away {
			if on[id] {
				return false
			}
		}
		return true
	})
}

// roads lead stations to gateways. Half of the stations know one gateway only;
// the others have a load balancer before them, which tries the gateways in turn.
type roads struct {
	free   atomic.Bool // every station has the load balancer
	closed atomic.Bool // those without it get nowhere
	of     map[ocpp.StationID]*road
	other  map[string]string // the same port of the other gateway
}

type road struct {
	own   int // preferred gateway
	only  bool
	tries atomic.Int32
}

func newRoads(gateways [2]*e2e.Node, identities []fleet.Identity) *roads {
	r := &roads{of: make(map[ocpp.StationID]*road), other: make(map[string]string)}
	for i, id := range identities {
		r.of[id.ID] = &road{own: i / 2 % 2, only: i/4%2 == 0}
	}
	for _, urls := range [][2]string{{gateways[0].TLS, gateways[1].TLS}, {gateways[0].MTLS, gateways[1].MTLS}} {
		r.other[address(urls[0])] = address(urls[1])
	}
	return r
}

func address(target string) string {
	_, rest, _ := strings.Cut(target, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// bound returns the stations that only know the gateway.
func (r *roads) bound(gateway int) []ocpp.StationID {
	var ids []ocpp.StationID
	for id, road := range r.of {
		if road.only && road.own == gateway {
			ids = append(ids, id)
		}
	}
	return ids
}

// dial connects a station; address is that of the first gateway.
func (r *roads) dial(ctx context.Context, station ocpp.StationID, address string) (*net.TCPConn, error) {
	way := r.of[station]
	choice := [2]string{address, r.other[address]}
	var d net.Dialer
	if way.only && !r.free.Load() {
		if r.closed.Load() {
			return nil, errors.New("no way to the gateway")
		}
		c, err := d.DialContext(ctx, "tcp", choice[way.own])
		if err != nil {
			return nil, err
		}
		return c.(*net.TCPConn), nil
	}
	first := (way.own + int(way.tries.Add(1)) - 1) % 2
	c, err := d.DialContext(ctx, "tcp", choice[first])
	if err != nil {
		if c, err = d.DialContext(ctx, "tcp", choice[1-first]); err != nil {
			return nil, err
		}
	}
	return c.(*net.TCPConn), nil
}

// told is what the stations logged: the close frames that they got, by their
// text, and what they found wrong with the server.
type told struct {
	mu     sync.Mutex
	closes map[string]int
	wrong  []string
}

const maxWrong = 20

func (l *told) Enabled(context.Context, slog.Level) bool { return true }
func (l *told) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *told) WithGroup(string) slog.Handler            { return l }

func (l *told) Handle(_ context.Context, r slog.Record) error {
	wrong, closed := r.Level >= slog.LevelWarn, r.Message == "closed by the server"
	if !wrong && !closed {
		return nil
	}
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if closed && a.Key == "err" {
			text = a.Value.String()
		} else if wrong {
			text += " " + a.String()
		}
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if wrong && len(l.wrong) < maxWrong {
		l.wrong = append(l.wrong, text)
	}
	if closed {
		if l.closes == nil {
			l.closes = make(map[string]int)
		}
		l.closes[text]++
	}
	return nil
}

// takeCloses returns the close frames since the last time.
func (l *told) takeCloses() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	closes := l.closes
	l.closes = nil
	return closes
}
