package faults

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"holdfast/e2e"
	"holdfast/store/storetest"
)

// TestFault04BrokerAway: while NATS is away the gateway is not ready and refuses
// new stations with 503, keeps those it has, lets those go that leave, and
// resumes by itself.
func TestFault04BrokerAway(t *testing.T) {
	natsArgs := []string{"-a", "127.0.0.1", "-p", e2e.FreePort(t), "-js", "-sd", t.TempDir()}
	nats := e2e.Start(t, e2e.Build(t, "github.com/nats-io/nats-server/v2"), natsArgs...)
	awaitPort(t, natsArgs[3])
	n := all(t, "--nats", "nats://127.0.0.1:"+natsArgs[3])
	var kept, leaving []*peer
	var fresh []station
	for profile := 1; profile <= 3; profile++ {
		for i, s := range addMany(t, n, fmt.Sprintf("S%d-", profile), 9, profile, nil) {
			if i >= 6 {
				fresh = append(fresh, s)
				continue
			}
			p := attempt{station: s}.must(t)
			p.boot(t)
			if i < 3 {
				kept = append(kept, p)
			} else {
				leaving = append(leaving, p)
			}
		}
	}
	if code, text := get(t, n, "/readyz"); code != http.StatusOK {
		t.Fatalf("not ready before: %s", text)
	}

	nats.Kill()
	e2e.Await(t, "not ready, with the reason", patience, func() bool {
		code, text := get(t, n, "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(text, "NATS")
	})
	if code, _ := get(t, n, "/healthz"); code != http.StatusOK {
		t.Errorf("healthz %d: a restart of this process would mend nothing", code)
	}
	e2e.Await(t, "503 for new stations", patience, func() bool {
		status, _ := (attempt{station: fresh[0]}).status(t)
		return status == http.StatusServiceUnavailable
	})
	for _, s := range fresh {
		status, r := attempt{station: s}.status(t)
		if status != http.StatusServiceUnavailable || r.header.Get("Retry-After") == "" {
			t.Errorf("new station %s: %d %v, want 503 with Retry-After", s.id, status, r)
		}
	}
	for _, p := range kept {
		if err := p.write(fin|opPing, []byte("still there?")); err != nil {
			t.Fatal(err)
		}
		// A CALL gets no answer now: the station repeats it later.
		if r, err := p.tryCall("Heartbeat", "{}", 100*time.Millisecond); err == nil {
			t.Errorf("answered without a csms: %s", r.text)
		} else if err != errTimeout {
			t.Fatalf("a kept station: %v", err)
		}
		if p.pongs != 1 {
			t.Error("a kept station gets no pong")
		}
	}
	for i, p := range leaving {
		switch i % 3 {
		case 0:
			if err := p.leave(); err != nil {
				t.Errorf("closing handshake: %v", err)
			}
		case 1:
			p.nc.Close() // FIN
		default:
			p.reset()
		}
	}
	e2e.Await(t, "stations that left are gone, without CLOSE_WAIT", patience, func() bool {
		open, waiting := 0, 0
		for _, port := range []string{n.Plain, n.TLS, n.MTLS} {
			open, waiting = open+inState(t, port, "01"), waiting+inState(t, port, "08")
		}
		return waiting == 0 && open == len(kept) && connections(n) == len(kept)
	})

	e2e.Start(t, e2e.Build(t, "github.com/nats-io/nats-server/v2"), natsArgs...)
	n.AwaitReady()
	for _, p := range kept {
		if r := p.call(t, "Heartbeat", "{}"); r.kind != 3 {
			t.Errorf("after NATS came back: %s", r.text)
		}
	}
	for _, s := range fresh {
		attempt{station: s}.must(t).boot(t)
	}
	done := make(chan string, 1)
	go func() { done <- command(n, "S1-0", "ClearCache", nil) }()
	r := parse(kept[0].next(t))
	kept[0].send(t, fmt.Sprintf(`[3,%q,{"status":"Accepted"}]`, r.id))
	if got := <-done; got != "accepted" {
		t.Errorf("command to a kept station: %s", got)
	}
	checked(t, n)
}

// TestFault12SlowHandler: a station whose handler takes long holds up no other
// station.
func TestFault12SlowHandler(t *testing.T) {
	const others = 24

	// One station sends far more than is answered at a time.
	t.Run("flood", func(t *testing.T) {
		n := all(t)
		flooding := attempt{station: add(t, n, "FLOOD", 1, nil)}.must(t)
		flooding.boot(t)
		stations := addMany(t, n, "S", others, 1, nil)
		const flood = 1000
		sent := make(chan error, 1)
		go func() {
			for i := range flood {
				call := fmt.Sprintf(`[2,"f%d","StartTransaction",{"connectorId":1,"idTag":"T","meterStart":%d,"timestamp":"2026-01-01T00:00:00Z"}]`, i, i)
				if err := flooding.write(fin|opText, []byte(call)); err != nil {
					sent <- err
					return
				}
			}
			sent <- nil
		}()
		answered := make(chan error, 1)
		go func() {
			for range flood {
				if _, err := flooding.read(2 * patience); err != nil {
					answered <- err
					return
				}
			}
			answered <- nil
		}()
		var peers []*peer
		for _, s := range stations {
			p := attempt{station: s}.must(t)
			p.boot(t)
			p.call(t, "StartTransaction", `{"connectorId":1,"idTag":"T","meterStart":0,"timestamp":"2026-01-01T00:00:00Z"}`)
			peers = append(peers, p)
		}
		select {
		case err := <-answered:
			t.Errorf("the flood was over first (%v): this shows nothing", err)
			answered <- err
		default: // still being answered, one by one
		}
		for _, p := range peers {
			p.leave()
		}
		if err := <-sent; err != nil {
			t.Errorf("the flooding station was cut: %v", err)
		}
		if err := <-answered; err != nil {
			t.Errorf("the flooding station lost answers: %v", err)
		}
	})

	// The record of one station cannot be written: somebody else has locked it.
	t.Run("locked", func(t *testing.T) {
		database := storetest.NewServer(t).Database(t)
		n := all(t, "--database", database)
		slow := attempt{station: add(t, n, "SLOW", 1, nil)}.must(t)
		slow.boot(t)
		var peers []*peer
		for _, s := range addMany(t, n, "S", others, 1, nil) {
			p := attempt{station: s}.must(t)
			p.boot(t)
			peers = append(peers, p)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, database)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if tag, err := tx.Exec(ctx, `SELECT 1 FROM csms.station_state WHERE station = $1 FOR UPDATE`, "slow"); err != nil || tag.RowsAffected() != 1 {
			t.Fatalf("lock the row of SLOW: %v, %v", tag, err)
		}
		slow.send(t, `[2,"locked","BootNotification",`+boot16+`]`)
		e2e.Await(t, "its handler waits for the lock", patience, func() bool {
			var waiting int
			err := tx.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`).Scan(&waiting)
			return err == nil && waiting > 0
		})
		var wg sync.WaitGroup
		for _, p := range peers {
			wg.Go(func() {
				if r := p.call(t, "Heartbeat", "{}"); r.kind != 3 {
					t.Errorf("Heartbeat: %s", r.text)
				}
				if r := p.call(t, "BootNotification", boot16); r.payload["status"] != "Accepted" {
					t.Errorf("BootNotification: %s", r.text)
				}
			})
		}
		wg.Wait()
		if s, err := slow.read(50 * time.Millisecond); err == nil && parse(s).what != "InternalError" {
			t.Errorf("SLOW is answered although its record is locked: %s", s)
		} // with InternalError it repeats its boot
		if err := tx.Rollback(ctx); err != nil {
			t.Fatal(err)
		}
		if r := slow.call(t, "BootNotification", boot16); r.payload["status"] != "Accepted" {
			t.Errorf("SLOW after the lock: %s", r.text)
		}
	})
}

func awaitPort(t testing.TB, port string) {
	t.Helper()
	e2e.Await(t, "port "+port, patience, func() bool { return open(port) })
}
