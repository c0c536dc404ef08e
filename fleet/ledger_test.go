package fleet

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/ocpp"
)

// ended counts the transactions whose end was acknowledged.
func ended(f *Fleet) (n int) {
	for tx := range f.Ledger().Transactions() {
		if tx.Stopped {
			n++
		}
	}
	return n
}

// TestOneInTenThousand: of ten thousand transactions the record lacks the end of
// one, or has one twice: whichever it is, it is found, and nothing else is.
func TestOneInTenThousand(t *testing.T) {
	const stations, each = 100, 100
	l := newLedger(2 * stations * each)
	record := make(map[ocpp.StationID][]RecordedTransaction)
	for i := range stations * each {
		station, at := ocpp.StationID(fmt.Sprintf("CS-%d", i%stations)), int64(i)*60_000
		e := l.open(entry{station: station, version: ocpp.V16, tag: "TAG", start: at, connector: 1, meterStart: int32(i)})
		l.name(e, strconv.Itoa(i))
		l.acknowledge(&txPart{entry: e, kind: partStart})
		l.acknowledge(&txPart{entry: e, kind: partEnd, reason: "Local", sample: sample{at: at + 30_000, energy: int32(i) + 5}})
		record[station] = append(record[station], RecordedTransaction{ID: strconv.Itoa(i), Connector: 1, IDTag: "TAG", Reason: "Local",
			Start: time.UnixMilli(at), Stop: time.UnixMilli(at + 30_000), MeterStart: int64(i), MeterStop: int64(i) + 5})
	}
	random := rand.New(rand.NewPCG(1, 1))
	for _, kind := range []ProblemKind{"", Missing, Doubled} {
		for range 5 {
			station, i := ocpp.StationID(fmt.Sprintf("CS-%d", random.IntN(stations))), random.IntN(each)
			r, err := Verify(l, func(id ocpp.StationID) ([]RecordedTransaction, error) {
				list := record[id]
				if id != station {
					return list, nil
				}
				list = slices.Clone(list)
				switch kind {
				case Missing:
					list[i].Stop = time.Time{}
				case Doubled:
					again := list[i]
					again.ID = "1000000" // a new number for the same start
					list = append(list, again)
				}
				return list, nil
			})
			switch {
			case err != nil:
				t.Fatal(err)
			case kind == "" && r.OK() && r.Transactions == stations*each:
			case kind != "" && len(r.Counts) == 1 && r.Counts[kind] == 1 && r.Problems[0].Station == station:
			default:
				t.Fatalf("%s transaction %d of station %s: %v %v", kind, i, station, r.Counts, r.Problems)
			}
		}
	}
}

// TestOneOfMany: a server that many stations charge at acknowledges the end of one
// transaction and forgets it, and records another one twice.
func TestOneOfMany(t *testing.T) {
	const many = 500
	s := newTestServer(t, ocpp.ProfilePlain, nil)
	s.dropStop.Store(many / 2)
	s.doubleOnce.Store(true)
	var ends atomic.Int64
	f, stop := testFleet(t, s, nil, ocpp.ProfilePlain, ocpp.V16, 20, func(cfg *Config) {
		b := &cfg.Behaviour
		b.SessionGap, b.SessionLength, b.UnplugDelay, b.MeterInterval = 5*time.Millisecond, 5*time.Millisecond, time.Millisecond, time.Minute
		cfg.OnCall = func(r CallRecord) {
			if r.Action == "StopTransaction" && r.Outcome == Answered {
				ends.Add(1)
			}
		}
	})
	eventually(t, "enough transactions", func() bool { return ends.Load() >= many })
	settle(t, f)
	stop()
	r := mustVerify(t, f, s)
	if len(r.Counts) != 2 || r.Counts[Missing] != 1 || r.Counts[Doubled] != 1 {
		t.Errorf("%d transactions: %v %v", r.Transactions, r.Counts, r.Problems)
	}
}

// TestCrashAfterAnswer: the server answers before its commit, and crashes.
func TestCrashAfterAnswer(t *testing.T) {
	for _, version := range []ocpp.Version{ocpp.V16, ocpp.V201} {
		t.Run(string(version), func(t *testing.T) {
			s := newTestServer(t, ocpp.ProfilePlain, nil)
			f, stop := testFleet(t, s, nil, ocpp.ProfilePlain, version, 5, nil)
			eventually(t, "transactions", func() bool { return ended(f) >= 5 })
			crash := s.commit()
			before := ended(f)
			eventually(t, "transactions after the commit", func() bool { return ended(f) >= before+5 })
			crash()
			eventually(t, "the stations are back", func() bool { return f.Stats().Connects >= 10 })
			settle(t, f)
			stop()
			if r := mustVerify(t, f, s); r.Counts[Missing] < 5 || r.OK() {
				t.Errorf("%v", r.Counts)
			}
		})
	}
}
