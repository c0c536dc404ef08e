package faults

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"holdfast/e2e"
)

// TestFault03CallWithoutAction: [2,"1"] is answered and the socket stays. So are
// other messages that index past their end.
func TestFault03CallWithoutAction(t *testing.T) {
	n := all(t)
	for version, protocol := range map[string]string{"1.6": "ocpp1.6", "2.0.1": "ocpp2.0.1", "2.1": "ocpp2.1"} {
		t.Run(version, func(t *testing.T) {
			p := attempt{station: add(t, n, "S"+version, 2, nil), protocols: protocol}.must(t)
			for _, bad := range []string{`[2,"1"]`, `[2,"1","Heartbeat"]`} {
				p.send(t, bad)
				if r := parse(p.next(t)); r.kind != 4 || r.id != "1" || r.what != "ProtocolError" {
					t.Errorf("%s is answered %s, want a CALLERROR ProtocolError", bad, r.text)
				}
			}
			for _, bad := range []string{`[3]`, `[4]`, `[3,"1"]`, `[4,"1"]`, `[3,"1",{}]`, `[4,"1","GenericError","",{}]`} {
				p.send(t, bad) // answers of nothing: dropped, or answered by id -1 in 2.x
			}
			if r := p.call(t, "Heartbeat", "{}"); r.kind != 3 {
				t.Errorf("the socket stayed, but Heartbeat is answered %s", r.text)
			}
			p.leave()
		})
	}
	checked(t, n)
}

// TestFault07WrongSubprotocol: a station that offers nothing we speak is told so
// by 101 without a subprotocol and a close frame (OCPP-J 1.6 §3.2), and gone.
func TestFault07WrongSubprotocol(t *testing.T) {
	n := all(t)
	stations := []station{add(t, n, "P", 1, nil), add(t, n, "T", 2, nil), add(t, n, "M", 3, nil)}
	try := func(i int) {
		p := attempt{station: stations[i%3], protocols: []string{"ocpp0.1", "ocpp2.0", "-", "mqtt, ocpp1.5"}[i%4]}.must(t)
		if got := p.answer.Get("Sec-WebSocket-Protocol"); got != "" {
			t.Fatalf("attempt %d is answered with the subprotocol %q", i, got)
		}
		if c := p.end(t); c.code != 1002 {
			t.Fatalf("attempt %d: %v, want close 1002", i, c)
		}
	}
	for i := range 12 {
		try(i)
	}
	before := use(t, n)
	for i := range 300 {
		try(i)
	}
	after := returned(t, n, before, 2<<20)
	t.Logf("300 wrong subprotocols: before %v, after %v", before, after)
	if got := connections(n); got != 0 {
		t.Errorf("%d connections are still counted", got)
	}
	if got := n.Metric("holdfast_rejections_total", `reason="no_common_subprotocol"`); got != 312 {
		t.Errorf("%v rejections with reason no_common_subprotocol, want 312", got)
	}
	for _, port := range []string{n.Plain, n.TLS, n.MTLS} {
		e2e.Await(t, "no socket left open on "+port, patience, func() bool { return inState(t, port, "01")+inState(t, port, "08") == 0 })
	}
}

// TestFault10BootBehindTheUpgrade: a BootNotification that comes as close behind
// the 101 as it can is never lost.
func TestFault10BootBehindTheUpgrade(t *testing.T) {
	n := all(t)
	stations := append(addMany(t, n, "P", 10, 1, nil), append(addMany(t, n, "T", 10, 2, nil), addMany(t, n, "M", 5, 3, nil)...)...)
	const each = 20
	var wg sync.WaitGroup
	lost := make(chan error, len(stations)*each)
	for _, s := range stations {
		wg.Go(func() {
			for i := range each {
				p, err := attempt{station: s}.dial()
				if err == nil {
					var r reply
					if r, err = p.tryCall("BootNotification", boot16, patience); err == nil && r.payload["status"] != "Accepted" {
						err = errors.New(r.text)
					}
					p.nc.Close() // at once: the next connection meets the remains of this one
				}
				if err != nil {
					lost <- fmt.Errorf("station %s, boot %d: %w", s.id, i, err)
				}
			}
		})
	}
	wg.Wait()
	close(lost)
	for err := range lost {
		t.Error(err)
	}
	if got, want := n.Metric("holdfast_calls_total", `direction="up"`, `action="BootNotification"`), float64(len(stations)*each); got < want {
		t.Errorf("%v boots counted of %v", got, want)
	}
	t.Logf("%d of %d answered", len(stations)*each-len(lost), len(stations)*each)
}
