package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"holdfast/fleet"
	"holdfast/fleet/scenario"
)

// Result is what a run showed; the JSON form is the report's.
type Result struct {
	Scenario  string            `json:"scenario"`
	About     string            `json:"about,omitempty"`
	Seed      uint64            `json:"seed"`
	Shard     string            `json:"shard,omitempty"`
	Targets   []string          `json:"targets"`
	Started   time.Time         `json:"started"`
	Seconds   float64           `json:"seconds"`
	Stations  int               `json:"stations"`
	Connected int               `json:"connected"` // at the end
	Wanted    int               `json:"wanted"`    // that were to be connected then
	Calls     Latency           `json:"calls"`     // latency from when they were to be sent
	Connect   Latency           `json:"connect"`
	Actions   []Action          `json:"actions"`
	Connects  uint64            `json:"connects"`
	Refused   uint64            `json:"refused"`
	CutOff    uint64            `json:"cut_off"` // CALLs whose connection ended before the answer
	Sent      uint64            `json:"sent"`
	Received  uint64            `json:"received"`
	Errors    map[string]uint64 `json:"errors"`
	Counts    scenario.Counts   `json:"scenario_counts"`
	// Transactions are those in the ledger. Compared says whether the ledger was
	// compared with the server's record, with the result in Problems.
	Transactions int                       `json:"transactions"`
	Undelivered  int                       `json:"undelivered"` // transaction messages that waited for an acknowledgement at the end
	MeterValues  int                       `json:"meter_values"`
	Compared     bool                      `json:"compared"`
	Incomplete   bool                      `json:"incomplete,omitempty"` // the ledger had not room for all
	Problems     map[fleet.ProblemKind]int `json:"problems,omitempty"`
	Examples     []string                  `json:"examples,omitempty"` // of problems
	Notes        []string                  `json:"notes,omitempty"`
	Verdicts     []Verdict                 `json:"verdicts"`
	Samples      []Sample                  `json:"samples"`
}

// Action is what became of the CALLs of one action.
type Action struct {
	Name     string `json:"action"`
	Errors   uint64 `json:"errors"`
	Timeouts uint64 `json:"timeouts"`
	Latency
}

// Verdict is an assertion and whether it held.
type Verdict struct {
	Text  string  `json:"text"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit,omitempty"`
	Pass  bool    `json:"pass"`
	// Unknown says why there is no figure. Such a verdict does not pass; it fails,
	// too, unless it is Skipped: about a record that nobody asked the server for.
	Unknown string `json:"unknown,omitempty"`
	Skipped bool   `json:"skipped,omitempty"`
}

// Failed reports whether the assertion did not hold.
func (v Verdict) Failed() bool { return !v.Pass && !v.Skipped }

// Result takes what was recorded into a result whose other fields are set.
func (r *Recorder) Result(res Result, s fleet.Stats) Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	res.Calls, res.Connect, res.Refused, res.CutOff = latency(r.all), latency(r.connects), r.refused, r.cutOff
	res.Samples = slices.Clone(r.samples)
	for name, a := range r.actions {
		res.Actions = append(res.Actions, Action{name, a.errors, a.timeouts, latency(a.times)})
	}
	slices.SortFunc(res.Actions, func(a, b Action) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Name, b.Name)) })
	res.Stations, res.Connected = s.Stations, connected(s)
	res.Connects, res.Sent, res.Received, res.Errors = s.Connects, s.Sent, s.Received, s.Errors
	return res
}

// Compare takes the comparison of the ledger with the server's record.
func (res *Result) Compare(r fleet.Report) {
	res.Compared = true
	res.Transactions, res.MeterValues, res.Problems = r.Transactions, r.Values, r.Counts
	for _, p := range r.Problems[:min(20, len(r.Problems))] {
		res.Examples = append(res.Examples, p.String())
	}
	if r.Overflow > 0 {
		res.Incomplete = true
		res.Notes = append(res.Notes, fmt.Sprintf("the ledger had no room for %d transactions and meter values: the comparison is incomplete", r.Overflow))
	}
}

// Judge compares the figures: each of must has to hold, none of mustNot.
func (res *Result) Judge(must, mustNot []scenario.Assertion) {
	judge := func(a scenario.Assertion, want bool) {
		v := Verdict{Text: a.Text}
		if !want {
			v.Text = "--fail-on " + a.Text
		}
		v.Value, v.Unit, v.Unknown = res.figure(a)
		v.Skipped = v.Unknown == notCompared
		v.Pass = v.Unknown == "" && a.Holds(v.Value) == want
		res.Verdicts = append(res.Verdicts, v)
	}
	for _, a := range must {
		judge(a, true)
	}
	for _, a := range mustNot {
		judge(a, false)
	}
}

// Failed reports whether a verdict is bad, or the ledger differs from the record
// or could not be compared whole.
func (res *Result) Failed() bool {
	return slices.ContainsFunc(res.Verdicts, Verdict.Failed) || len(res.Problems) > 0 || res.Incomplete
}

const notCompared = "the ledger was not compared with a record"

// figure is the value of what an assertion is about.
func (res *Result) figure(a scenario.Assertion) (value float64, unit, unknown string) {
	if l, name, ok := res.latency(a); ok {
		if l.Count == 0 {
			return 0, "", "there were none"
		}
		return map[string]float64{"p50": l.P50, "p90": l.P90, "p99": l.P99, "p999": l.P999, "max": l.Max}[name] / 1000, "s", ""
	}
	share := func(n, of int) (float64, string, string) {
		if a.Unit != "%" {
			return float64(n), "", ""
		}
		if of == 0 {
			return 100, "%", ""
		}
		return 100 * float64(n) / float64(of), "%", ""
	}
	problem := func(kind fleet.ProblemKind) (float64, string, string) {
		if !res.Compared {
			return 0, "", notCompared
		}
		return float64(res.Problems[kind]), "", ""
	}
	sum := func(of func(Action) uint64) (float64, string, string) {
		var n uint64
		for _, x := range res.Actions {
			n += of(x)
		}
		return float64(n), "", ""
	}
	switch a.Metric {
	case "connected":
		return share(res.Connected, res.Wanted)
	case "min_connected":
		return share(res.leastConnected(), res.Stations)
	case "connects":
		return float64(res.Connects), "", ""
	case "refused":
		return float64(res.Refused), "", ""
	case "admitted":
		return float64(res.Counts.Admitted), "", ""
	case "calls":
		timeouts, _, _ := sum(func(x Action) uint64 { return x.Timeouts })
		return float64(res.Calls.Count) - timeouts, "", ""
	case "callerrors":
		return sum(func(x Action) uint64 { return x.Errors })
	case "timeouts":
		return sum(func(x Action) uint64 { return x.Timeouts })
	case "transactions":
		return float64(res.Transactions), "", ""
	case "lost":
		return float64(res.Errors["discarded"]) + float64(res.Undelivered+res.Problems[fleet.Missing]), "", ""
	case "doubled":
		return problem(fleet.Doubled)
	case "altered":
		return problem(fleet.Altered)
	case "unknown":
		return problem(fleet.Unknown)
	case "commands":
		return float64(res.Counts.Commands), "", ""
	case "command_errors":
		return float64(res.Counts.CommandErrors), "", ""
	}
	if kind, ok := strings.CutPrefix(a.Metric, "errors."); ok {
		return float64(res.Errors[kind]), "", ""
	}
	var all uint64 // errors
	for _, n := range res.Errors {
		all += n
	}
	return float64(all), "", ""
}

// latency finds the distribution that an assertion is about, if it is about one.
func (res *Result) latency(a scenario.Assertion) (l Latency, name string, ok bool) {
	if name, ok := strings.CutPrefix(a.Metric, "connect_"); ok {
		return res.Connect, name, true
	}
	if !slices.Contains([]string{"p50", "p90", "p99", "p999", "max"}, a.Metric) {
		return Latency{}, "", false
	}
	if a.Action == "" {
		return res.Calls, a.Metric, true
	}
	for _, x := range res.Actions {
		if x.Name == a.Action {
			return x.Latency, a.Metric, true
		}
	}
	return Latency{}, a.Metric, true
}

// leastConnected is the least number of connections after the first phase.
func (res *Result) leastConnected() int {
	least := res.Connected
	for _, s := range res.Samples {
		if s.Phase != res.Samples[0].Phase {
			least = min(least, s.Connected)
		}
	}
	return least
}

// WriteJSON writes all of the result.
func (res *Result) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(res)
}
