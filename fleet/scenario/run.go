package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/fleet"
	"holdfast/ocpp"
)

// Bounds of what runs beside the stations.
const (
	maxProbes   = 256 // attempts with a fault at once; more are left out and counted
	maxCommands = 256 // commands of the operator at once; more are left out and counted
	probeTime   = 30 * time.Second
	commandTime = 40 * time.Second
)

// Config is what a run needs beside the scenario.
type Config struct {
	Scenario *Scenario
	Seed     uint64
	// Stations are all stations of the plan; Mine reports which of them this
	// process runs, and only those need credentials. Nil means all.
	Stations []Station
	Mine     func(i int) bool
	// Fleet has what is the same for all: targets, roots, logger, Dial, OnCall,
	// OnConnect. The scenario sets the rest.
	Fleet fleet.Config
	// Command sends a CALL to a station from the operator's side and returns
	// ErrOffline if the station is not connected. Nil: the scenario's commands are
	// left out.
	Command func(ctx context.Context, id ocpp.StationID, action string, payload map[string]any) error
	// OnAction, if not nil, gets every action of the plan as it is done.
	OnAction func(Action)
}

// ErrOffline says that a command found its station away.
var ErrOffline = errors.New("station is offline")

// Counts are what a run did beside the stations' own traffic.
type Counts struct {
	Actions       uint64 `json:"actions"`         // of the plan, for stations of this process
	Faults        uint64 `json:"faults"`          // provoked
	Missed        uint64 `json:"missed"`          // faults that found their station offline
	Probes        uint64 `json:"probes"`          // attempts to connect with a fault
	Admitted      uint64 `json:"admitted"`        // of those, let in by a server that should have refused them
	Commands      uint64 `json:"commands"`        // answered
	CommandErrors uint64 `json:"command_errors"`  // refused or not answered by a connected station
	Offline       uint64 `json:"command_offline"` // found their station offline
	LeftOut       uint64 `json:"left_out"`        // for want of an operator API, or of room
}

// Run is a scenario on its way.
type Run struct {
	cfg     Config
	fleets  []*fleet.Fleet // by cohort; nil: no station of this process
	doubles []*fleet.Fleet // by cohort; nil: none

	ends   []time.Duration // of the phases
	began  atomic.Int64    // Unix nanoseconds; zero: not yet
	wanted atomic.Int64    // stations that are to be here
	counts struct {
		actions, faults, missed, probes, admitted, commands, commandErrors, offline, leftOut atomic.Uint64
	}
	probes, commands chan struct{} // one token each
	started          time.Time
}

// New makes a run's fleets. It starts nothing.
func New(cfg Config) (*Run, error) {
	s := cfg.Scenario
	if cfg.Mine == nil {
		cfg.Mine = func(int) bool { return true }
	}
	r := &Run{cfg: cfg, ends: s.ends(cfg.Stations), fleets: make([]*fleet.Fleet, len(s.Cohorts)), doubles: make([]*fleet.Fleet, len(s.Cohorts)),
		probes: make(chan struct{}, maxProbes), commands: make(chan struct{}, maxCommands)}
	doubled := make(map[string]bool)
	for _, p := range s.Phases {
		for _, d := range p.Duplicates {
			doubled[d.Who] = true
		}
	}
	for k, c := range s.Cohorts {
		one := s.FleetConfig(cfg.Fleet, k, cfg.Stations, cfg.Mine)
		if len(one.Stations) == 0 {
			continue
		}
		one.Seed = cfg.Seed
		var err error
		if r.fleets[k], err = fleet.New(one); err != nil {
			return nil, fmt.Errorf("cohort %s: %w", c.Name, err)
		}
		if doubled[c.Name] || doubled[everybody] || doubled[""] {
			one.Behaviour.SessionGap = -1 // only the connection is fought for
			one.OnCall, one.OnConnect = nil, nil
			if r.doubles[k], err = fleet.New(one); err != nil {
				return nil, fmt.Errorf("doubles of cohort %s: %w", c.Name, err)
			}
		}
	}
	return r, nil
}

// FleetConfig completes the configuration of the fleet that is cohort k, with
// those of the stations that mine reports.
func (s *Scenario) FleetConfig(cfg fleet.Config, k int, stations []Station, mine func(i int) bool) fleet.Config {
	c := &s.Cohorts[k]
	quirks, options := c.quirks(), c.TLS.client()
	cfg.Stations = nil
	for i, x := range stations {
		if x.Cohort == k && mine(i) {
			x.Quirks, x.TLS = quirks, options
			cfg.Stations = append(cfg.Stations, x.Identity)
		}
	}
	b := s.Behaviour.over(c.Behaviour)
	gap := time.Duration(b.SessionGap)
	if b.SessionGap == Never {
		gap = -1
	}
	cfg.Behaviour = fleet.Behaviour{
		SessionGap: gap, SessionLength: time.Duration(b.SessionLength), MeterInterval: time.Duration(b.MeterInterval),
		UnplugDelay: time.Duration(b.UnplugDelay), Curve: b.Curve, IDTags: b.IDTags, HeartbeatInterval: time.Duration(b.Heartbeat),
		IgnoreInterval: b.Heartbeat > 0, RebootTime: time.Duration(b.RebootTime), TimeFactor: s.Speed,
	}
	if b.Arrival == Diurnal {
		for h := range day {
			cfg.Behaviour.Day = append(cfg.Behaviour.Day, dayWeight((float64(h)+0.5)/24))
		}
	}
	cfg.BackOff = fleet.BackOff{Minimum: time.Duration(b.BackOff.Minimum), Random: time.Duration(b.BackOff.Random), Repeat: b.BackOff.Doublings}
	cfg.Resend = fleet.Resend{Attempts: b.Resend.Attempts, Interval: time.Duration(b.Resend.Interval)}
	cfg.CallTimeout, cfg.PingInterval = time.Duration(b.CallTimeout), max(0, time.Duration(b.Ping))
	cfg.Away, cfg.Rate = true, 0
	return cfg
}

// quirks are the habits of the cohort's stations.
func (c *Cohort) quirks() []fleet.Fault {
	list := make([]fleet.Fault, len(c.Quirks))
	for i, name := range c.Quirks {
		list[i], _ = fleet.FaultByName(name) // checked
	}
	return list
}

// client is what package fleet wants; nil: as most stations do.
func (t TLS) client() *fleet.ClientTLS {
	o := fleet.ClientTLS{MinVersion: uint16(t.Min), MaxVersion: uint16(t.Max), NoSNI: t.NoSNI, Resume: t.Resume, LeafOnly: t.LeafOnly}
	for _, suite := range t.Suites {
		o.CipherSuites = append(o.CipherSuites, uint16(suite))
	}
	if o.MinVersion == 0 && o.MaxVersion == 0 && len(o.CipherSuites) == 0 && !o.NoSNI && !o.Resume && !o.LeafOnly {
		return nil
	}
	return &o
}

// Run runs the plan until it is over or plan ends, then keeps the stations as they
// are until ctx ends. done, if not nil, is closed when nothing of the plan is left
// to do. Run returns when everything that it started has ended.
func (r *Run) Run(ctx, plan context.Context, done chan<- struct{}) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	plan, endPlan := context.WithCancel(plan)
	defer endPlan()
	defer context.AfterFunc(ctx, endPlan)()
	var wg sync.WaitGroup
	errs := make([]error, 0, 4)
	var mu sync.Mutex
	for _, f := range r.all() {
		wg.Go(func() {
			if err := f.Run(ctx); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
				cancel()
			}
		})
	}
	r.started = time.Now()
	r.began.Store(r.started.UnixNano())
	var beside sync.WaitGroup
	r.follow(plan, &beside)
	beside.Wait()
	if done != nil {
		close(done)
	}
	<-ctx.Done()
	wg.Wait()
	return errors.Join(errs...)
}

// all are the fleets of the run.
func (r *Run) all() []*fleet.Fleet {
	var list []*fleet.Fleet
	for k := range r.fleets {
		for _, f := range []*fleet.Fleet{r.fleets[k], r.doubles[k]} {
			if f != nil {
				list = append(list, f)
			}
		}
	}
	return list
}

// follow does what the plan says, each action at its time.
func (r *Run) follow(ctx context.Context, beside *sync.WaitGroup) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	wait := func(at time.Duration) bool {
		timer.Reset(time.Until(r.started.Add(at)))
		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	for a := range r.cfg.Scenario.Plan(r.cfg.Stations, r.cfg.Seed) {
		if !r.cfg.Mine(a.Station) {
			continue
		}
		if !wait(a.At) {
			return
		}
		r.counts.actions.Add(1)
		if r.cfg.OnAction != nil {
			r.cfg.OnAction(a)
		}
		r.do(ctx, a, beside)
	}
	wait(r.ends[len(r.ends)-1])
}

func (r *Run) do(ctx context.Context, a Action, beside *sync.WaitGroup) {
	station := &r.cfg.Stations[a.Station]
	f := r.fleets[station.Cohort]
	switch a.What {
	case Join:
		r.wanted.Add(1)
		f.Join(station.ID) // the station is there: no error
	case Leave:
		r.wanted.Add(-1)
		f.Leave(station.ID)
	case Double:
		r.doubles[station.Cohort].Join(station.ID)
	case DoubleEnd:
		r.doubles[station.Cohort].Leave(station.ID)
	case Fault:
		if !a.Fault.Connecting() {
			if f.Provoke(station.ID, a.Fault) != nil {
				r.counts.missed.Add(1)
			} else {
				r.counts.faults.Add(1)
			}
			return
		}
		r.beside(ctx, beside, r.probes, probeTime, func(ctx context.Context) {
			err := f.Probe(ctx, station.ID, a.Fault)
			r.counts.probes.Add(1)
			if want := a.Fault.Reaction(); err == nil && (want.Refused != "" || want.Code != 0) {
				r.counts.admitted.Add(1)
			}
		})
	case Call:
		if r.cfg.Command == nil {
			r.counts.leftOut.Add(1)
			return
		}
		r.beside(ctx, beside, r.commands, commandTime, func(ctx context.Context) {
			switch err := r.cfg.Command(ctx, station.ID, a.Command.Action, a.Command.Payload); {
			case ctx.Err() != nil && err != nil: // cut short by the end
			case errors.Is(err, ErrOffline):
				r.counts.offline.Add(1)
			case err != nil:
				r.counts.commandErrors.Add(1)
			default:
				r.counts.commands.Add(1)
			}
		})
	}
}

// beside does something that takes time, if there is a token for it.
func (r *Run) beside(ctx context.Context, wg *sync.WaitGroup, tokens chan struct{}, limit time.Duration, do func(context.Context)) {
	select {
	case tokens <- struct{}{}:
	default:
		r.counts.leftOut.Add(1)
		return
	}
	wg.Go(func() {
		defer func() { <-tokens }()
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		do(ctx)
	})
}

// Phase is the phase that runs.
func (r *Run) Phase() string {
	phases := r.cfg.Scenario.Phases
	began := r.began.Load()
	if began == 0 {
		return phases[0].Name
	}
	at := time.Since(time.Unix(0, began))
	for i, end := range r.ends {
		if at < end {
			return phases[i].Name
		}
	}
	return phases[len(phases)-1].Name
}

// Wanted is how many stations of this process are to be connected now.
func (r *Run) Wanted() int { return int(r.wanted.Load()) }

// Counts are what was done so far.
func (r *Run) Counts() Counts {
	c := &r.counts
	return Counts{c.actions.Load(), c.faults.Load(), c.missed.Load(), c.probes.Load(), c.admitted.Load(), c.commands.Load(),
		c.commandErrors.Load(), c.offline.Load(), c.leftOut.Load()}
}

// Stats are those of all stations, without their doubles. Percentiles are of the
// cohort with the most CALLs: a report has those of all.
func (r *Run) Stats() fleet.Stats {
	total := fleet.Stats{Connected: make(map[ocpp.SecurityProfile]int), Errors: make(map[string]uint64)}
	for _, f := range r.fleets {
		if f == nil {
			continue
		}
		s := f.Stats()
		total.Stations += s.Stations
		for p, n := range s.Connected {
			total.Connected[p] += n
		}
		total.Connects += s.Connects
		total.Sent, total.Received = total.Sent+s.Sent, total.Received+s.Received
		total.SentRate, total.ReceivedRate = total.SentRate+s.SentRate, total.ReceivedRate+s.ReceivedRate
		total.Commands += s.Commands
		total.Transactions, total.Queued, total.Outstanding = total.Transactions+s.Transactions, total.Queued+s.Queued, total.Outstanding+s.Outstanding
		for kind, n := range s.Errors {
			total.Errors[kind] += n
		}
		if s.CallTime.Count > total.CallTime.Count {
			total.CallTime = s.CallTime
		}
		if s.ConnectTime.Count > total.ConnectTime.Count {
			total.ConnectTime = s.ConnectTime
		}
	}
	return total
}

// Presence is how many stations are connected, and how often one came or went.
func (r *Run) Presence() (connected int, changes int64) {
	for _, f := range r.all() {
		n, k := f.Presence()
		connected, changes = connected+n, changes+k
	}
	return connected, changes
}

// Gather waits until all stations that are to be here are connected.
func (r *Run) Gather(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		here, wanted := 0, r.Wanted()
		for _, n := range r.Stats().Connected {
			here += n
		}
		if here >= wanted {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d stations are connected: %w", here, wanted, ctx.Err())
		}
	}
}

// Settle ends every charging session and waits until every transaction message
// is acknowledged. Stations that are away come back for it.
func (r *Run) Settle(ctx context.Context) error {
	if s := r.Stats(); s.Transactions == 0 && s.Queued == 0 {
		return nil
	}
	var wg sync.WaitGroup
	errs := make([]error, len(r.fleets))
	for i, x := range r.cfg.Stations {
		if f := r.fleets[x.Cohort]; r.cfg.Mine(i) {
			f.Join(x.ID)
		}
	}
	for k, f := range r.fleets {
		if f != nil {
			wg.Go(func() { errs[k] = f.Settle(ctx) })
		}
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Ledgers are what the server acknowledged, by cohort.
func (r *Run) Ledgers() []*fleet.Ledger {
	var list []*fleet.Ledger
	for _, f := range r.fleets {
		if f != nil {
			list = append(list, f.Ledger())
		}
	}
	return list
}
