package ws

import (
	"math/rand/v2"
	"testing"
	"time"
)

func TestWheel(t *testing.T) {
	w := &wheel{start: time.Now()}
	fired := make(map[*Conn]uint32)
	at := uint32(0)
	advance := func(to uint32) {
		for at < to {
			at++
			w.advance(at, func(c *Conn, passed uint32) { fired[c] |= passed })
		}
	}
	a, b := &Conn{}, &Conn{}
	w.set(a, duePing, 10*tick)
	w.set(a, dueClose, 30*tick)
	w.set(b, duePong, 5000*tick) // more than a round
	w.set(b, duePartial, 20*tick)
	w.clear(b, duePartial)
	advance(9)
	if len(fired) != 0 {
		t.Fatalf("fired early: %v", fired)
	}
	advance(13)
	if fired[a] != 1<<duePing || w.isSet(a, duePing) || !w.isSet(a, dueClose) {
		t.Errorf("ping: %b", fired[a])
	}
	advance(40)
	if fired[a] != 1<<duePing|1<<dueClose || fired[b] != 0 {
		t.Errorf("close: %b, cleared one: %b", fired[a], fired[b])
	}
	if w.count() != 1 {
		t.Errorf("%d filed", w.count())
	}
	advance(5010)
	if fired[b] != 1<<duePong || w.count() != 0 {
		t.Errorf("after more than a round: %b, %d filed", fired[b], w.count())
	}
	w.set(a, dueWrite, time.Hour)
	w.set(a, dueWrite, tick) // earlier now
	w.remove(b)
	advance(5020)
	if fired[a]&(1<<dueWrite) == 0 {
		t.Error("an earlier setting did not count")
	}
	w.set(b, duePing, tick)
	w.remove(b)
	if w.count() != 0 {
		t.Errorf("%d filed after remove", w.count())
	}
}

// Against a plain list, with many connections and changes.
func TestWheelRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	w := &wheel{start: time.Now()}
	conns := make([]*Conn, 200)
	want := make([][numDue]uint32, len(conns))
	index := make(map[*Conn]int)
	for i := range conns {
		conns[i] = &Conn{}
		index[conns[i]] = i
	}
	for now := uint32(1); now < 20_000; now++ {
		for range 3 {
			i, k := rng.IntN(len(conns)), due(rng.IntN(int(numDue)))
			switch rng.IntN(4) {
			case 0:
				w.clear(conns[i], k)
				want[i][k] = 0
			case 1:
				w.remove(conns[i])
				want[i] = [numDue]uint32{}
			default:
				w.start = time.Now().Add(-time.Duration(now) * tick)
				w.set(conns[i], k, time.Duration(rng.IntN(3000))*tick)
				want[i][k] = conns[i].timers.due[k]
			}
		}
		w.advance(now, func(c *Conn, passed uint32) {
			i := index[c]
			for k := range numDue {
				if passed&(1<<k) != 0 {
					if want[i][k] == 0 || want[i][k] > now {
						t.Fatalf("tick %d: deadline %d of %d fired, due at %d", now, k, i, want[i][k])
					}
					want[i][k] = 0
				}
			}
		})
		for i := range want {
			for k, at := range want[i] {
				if at != 0 && at <= now {
					t.Fatalf("tick %d: deadline %d of %d, due at %d, did not fire", now, k, i, at)
				}
			}
		}
	}
}
