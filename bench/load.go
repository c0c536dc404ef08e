package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"
)

// steadyRequest sends CALLs at a fixed rate, spread over all stations, whatever
// the answers do: the load is open.
type steadyRequest struct {
	Action  string
	Payload json.RawMessage
	Rate    int // CALLs per second
	Time    time.Duration
	Raw     bool // answer with every latency
}

// steady is how long the answers took, from when their CALLs were meant to be
// sent.
type steady struct {
	Rate      float64       `json:"rate_per_second"` // answers
	Answered  int           `json:"answered"`
	Failed    int           `json:"failed"`
	FirstFail string        `json:"first_failure,omitempty"`
	P50       time.Duration `json:"p50_ns"`
	P90       time.Duration `json:"p90_ns"`
	P99       time.Duration `json:"p99_ns"`
	Max       time.Duration `json:"max_ns"`

	Raw []time.Duration `json:",omitempty"` // sorted
}

// steady gives every station its share of the schedule. A CALL that has to wait
// because the one before is not answered yet counts from when it was due.
func (c *client) steady(r *steadyRequest) (steady, error) {
	list := c.connected()
	if len(list) == 0 || r.Rate <= 0 {
		return steady{}, fmt.Errorf("%d stations connected, rate %d", len(list), r.Rate)
	}
	var (
		mu    sync.Mutex
		out   steady
		times []time.Duration
		wg    sync.WaitGroup
	)
	start := time.Now().Add(100 * time.Millisecond)
	total := int(r.Time.Seconds() * float64(r.Rate))
	for i, s := range list {
		wg.Go(func() {
			var took []time.Duration
			failed, first := 0, ""
			for k := i; k < total; k += len(list) {
				due := start.Add(time.Duration(k) * time.Second / time.Duration(r.Rate))
				time.Sleep(time.Until(due))
				frame, err := s.call(r.Action, r.Payload)
				if err == nil {
					_, err = result(frame)
				}
				if err == nil {
					took = append(took, time.Since(due))
				} else if failed++; first == "" {
					first = err.Error()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			times = append(times, took...)
			out.Failed += failed
			if out.FirstFail == "" {
				out.FirstFail = first
			}
		})
	}
	wg.Wait()
	out.Answered, out.Rate = len(times), float64(len(times))/time.Since(start).Seconds()
	slices.Sort(times)
	if r.Raw {
		out.Raw = times
	}
	out.P50, out.P90, out.P99, out.Max = quantile(times, 0.5), quantile(times, 0.9), quantile(times, 0.99), quantile(times, 1)
	return out, nil
}

// quantile of a sorted list; 0 of an empty one.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// startsRequest lets every station start transactions one after the other: the
// load is closed, as much as the server takes.
type startsRequest struct {
	IDTag string
	Time  time.Duration
}

// starts is what became of it.
type starts struct {
	Stations  int           `json:"stations"`
	Rate      float64       `json:"starts_per_second"` // answered, so committed
	Answered  int           `json:"answered"`
	Distinct  int           `json:"distinct_transactions"`
	Failed    int           `json:"failed"`
	FirstFail string        `json:"first_failure,omitempty"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
}

func (c *client) starts(r *startsRequest) (starts, error) {
	list := c.connected()
	out := starts{Stations: len(list)}
	var (
		mu    sync.Mutex
		times []time.Duration
		wg    sync.WaitGroup
	)
	ids := make(map[int]bool)
	start := time.Now()
	end := start.Add(r.Time)
	for _, s := range list {
		wg.Go(func() {
			for n := 0; time.Now().Before(end); n++ {
				// Each is a transaction of its own by its time stamp.
				at := start.Add(time.Duration(n) * time.Millisecond).UTC().Format("2006-01-02T15:04:05.000Z")
				sent := time.Now()
				id, err := startOne(s, fmt.Appendf(nil, `{"connectorId":1,"idTag":%q,"meterStart":%d,"timestamp":%q}`, r.IDTag, n, at))
				took := time.Since(sent)
				mu.Lock()
				if err == nil {
					ids[id] = true
					times = append(times, took)
				} else if out.Failed++; out.FirstFail == "" {
					out.FirstFail = err.Error()
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	out.Answered, out.Distinct, out.Rate = len(times), len(ids), float64(len(times))/time.Since(start).Seconds()
	slices.Sort(times)
	out.P50, out.P99 = quantile(times, 0.5), quantile(times, 0.99)
	return out, nil
}

func startOne(s *station, payload []byte) (id int, err error) {
	frame, err := s.call("StartTransaction", payload)
	if err != nil {
		return 0, err
	}
	answer, err := result(frame)
	if err != nil {
		return 0, err
	}
	var body struct {
		TransactionID int `json:"transactionId"`
		IDTagInfo     struct {
			Status string `json:"status"`
		} `json:"idTagInfo"`
	}
	if err := json.Unmarshal(answer, &body); err != nil {
		return 0, err
	}
	if body.IDTagInfo.Status != "Accepted" {
		return 0, fmt.Errorf("StartTransaction of station %s: ID tag is %s", s.id, body.IDTagInfo.Status)
	}
	return body.TransactionID, nil
}
