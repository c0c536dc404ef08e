package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// stormConfig is the experiment.
type stormConfig struct {
	Stations  int           `json:"stations"`
	Bystander int           `json:"bystanders"`      // stations of the other gateway
	Rate      int           `json:"rate_per_second"` // their CALLs
	Rest      time.Duration `json:"rest_ns"`
	Retry     time.Duration `json:"retry_ns"`
	Time      time.Duration `json:"time_ns"` // for one storm at most
	Profiles  string        `json:"-"`       // directory for CPU profiles of the gateway; empty: none
}

// stormPart is the outcome of bench storm.
type stormPart struct {
	Config stormConfig `json:"config"`
	// BareCPU is what a bare crypto/tls server needs for a full handshake and
	// upgrade, measured in the same run.
	BareCPU time.Duration `json:"bare_cpu_ns"`
	Steady  int64         `json:"steady_bytes"` // resident set of the gateway before
	Before  steady        `json:"bystander_calls_before"`
	Rows    []stormRow    `json:"storms"`
}

// stormRow is one storm.
type stormRow struct {
	Name string `json:"name"`
	storm
	FromLoss  time.Duration `json:"from_loss_ns"`  // until the last station was back
	FromReady time.Duration `json:"from_ready_ns"` // since the new gateway was ready for stations; like FromLoss without one

	CPU       time.Duration `json:"cpu_ns"`        // of the gateway, per station that came back
	LeaveCPU  time.Duration `json:"leave_cpu_ns"`  // of the gateway, per station that it lost before; 0 if it was killed
	ClientCPU time.Duration `json:"client_cpu_ns"` // of the stations' process, per station
	CoreCPU   time.Duration `json:"core_cpu_ns"`   // of authority, csms, bus and database, per station
	Busy      float64       `json:"busy"`          // share of the CPUs that these and the bystanders used until the last was back
	Steady    int64         `json:"steady_bytes"`  // resident set before
	Peak      int64         `json:"peak_bytes"`
	After     int64         `json:"after_bytes"`          // after a rest
	Calls     steady        `json:"bystander_calls"`      // during the storm
	Full      int           `json:"handshakes_full"`      // of the gateway
	Resumed   int           `json:"handshakes_resumed"`   //
	Sheds     int           `json:"resets_before_tls"`    //
	Rejected  int           `json:"refused_by_gateway"`   //
	Opening   time.Duration `json:"gateway_start_ns"`     // kill to ready
	StartCPU  time.Duration `json:"gateway_start_cpu_ns"` // taken off CPU
}

// stormRun is what the storms share.
type stormRun struct {
	cfg       stormConfig
	h         *holdfast
	note      func(string)
	gateway   *process // the one that is lost
	stations  *process // its clients
	bystander *process // clients of the other gateway
	other     *process // the other gateway
	port      string
	admin     string
	args      []string
	startCPU  time.Duration
}

func runStorm(o *options, dir string, note func(string)) (part *stormPart, err error) {
	cfg := o.storm
	part = &stormPart{Config: cfg}
	note("bare crypto/tls handshakes")
	if part.BareCPU, err = bareCPU(dir, min(cfg.Stations, 2000)); err != nil {
		return nil, err
	}
	h, err := startHoldfast(holdfastConfig{bin: o.holdfast, data: filepath.Join(dir, "storm"), apart: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	ports, err := freePorts(4)
	if err != nil {
		return nil, err
	}
	r := &stormRun{cfg: cfg, h: h, note: note, port: ports[0], admin: ports[1]}
	// Certificates from files: making an RSA key takes a different time at each start.
	r.args = []string{"--profiles", "3", "--listen-mtls", r.port, "--server-cert", filepath.Join(dir, serverFile), "--server-key", filepath.Join(dir, serverKey)}
	if err := r.start(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.gateway.stop()) }()
	other, err := h.startGateway("other", ports[3], nil, "--profiles", "3", "--listen-mtls", ports[2], "--server-cert", filepath.Join(dir, serverFile), "--server-key", filepath.Join(dir, serverKey))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, other.stop()) }()
	r.other = other
	note(fmt.Sprintf("register %d stations and %d bystanders", cfg.Stations, cfg.Bystander))
	if r.stations, err = r.clients(dir, r.port, "STORM", cfg.Stations); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.stations.stop()) }()
	if r.bystander, err = r.clients(dir, ports[2], "BY", cfg.Bystander); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.bystander.stop()) }()
	note("connect all")
	for client, n := range map[*process]int{r.stations: cfg.Stations, r.bystander: cfg.Bystander} {
		var d done
		if err := client.ask(request{Connect: &connectRequest{Stations: n, AtOnce: 32}}, &d); err != nil {
			return nil, err
		}
		if d.Count != n {
			return nil, fmt.Errorf("%d of %d stations connected; %s", d.Count, n, d.FirstFail)
		}
	}
	note(fmt.Sprintf("rest for %v", cfg.Rest))
	time.Sleep(cfg.Rest)
	if part.Steady, err = rss(r.gateway.pid); err != nil {
		return nil, err
	}
	note("CALLs of the bystanders without a storm")
	if part.Before, err = r.calls(5 * time.Second); err != nil {
		return nil, err
	}
	for _, kind := range []struct {
		name    string
		kill    bool         // otherwise the stations cut their connections
		prepare *dialRequest // then everybody comes back once, unmeasured
	}{
		{name: "gateway killed, full handshakes", kill: true},
		{name: "connections reset, verdicts remembered"},
		{name: "gateway killed, TLS 1.3 resumed", kill: true, prepare: &dialRequest{Resume: true}},
		{name: "gateway killed, TLS 1.2 resumed", kill: true, prepare: &dialRequest{Resume: true, TLS12: true}},
	} {
		if kind.prepare != nil {
			note("let the stations get session tickets")
			var d done
			if err := r.stations.ask(request{Dial: kind.prepare}, &d); err != nil {
				return nil, err
			}
			var s storm
			if err := r.cut(); err != nil {
				return nil, err
			}
			if err := r.stations.ask(request{Storm: &stormRequest{Lost: true, Retry: cfg.Retry, Time: cfg.Time}}, &s); err != nil {
				return nil, err
			}
			time.Sleep(cfg.Rest)
		}
		note("storm: " + kind.name)
		row, err := r.storm(kind.name, kind.kill)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind.name, err)
		}
		part.Rows = append(part.Rows, row)
	}
	return part, nil
}

// bareCPU is the CPU of a bare crypto/tls server per mutual-TLS connection,
// accept to upgraded. It leaves its PKI in dir.
func bareCPU(dir string, n int) (time.Duration, error) {
	p, err := newPKI(dir)
	if err != nil {
		return 0, err
	}
	list, err := p.stations(n)
	if err != nil {
		return 0, err
	}
	file := filepath.Join(dir, "bare-stations")
	if err := writeCredentials(file, list); err != nil {
		return 0, err
	}
	t, err := startEcho("bare", serverNames["bare"], dir, file)
	if err != nil {
		return 0, err
	}
	var used time.Duration
	const waves = 2
	if _, err = t.connect(min(n, warmUp), 32); err == nil {
		err = t.leave()
	}
	for range waves {
		if err != nil {
			break
		}
		var once time.Duration
		once, err = t.connect(n, 32)
		used += once / waves
		err = errors.Join(err, t.leave())
	}
	return used, errors.Join(err, t.stop())
}

// start starts the gateway that will be lost; also what that costs in CPU.
func (r *stormRun) start() (err error) {
	if r.gateway, err = r.h.startGateway("storm", r.admin, nil, r.args...); err != nil {
		return err
	}
	if r.startCPU == 0 { // of the first start, to which nobody connects
		r.startCPU, err = cpu(r.gateway.pid)
	}
	return err
}

func (r *stormRun) clients(dir, port, prefix string, n int) (*process, error) {
	list, err := r.h.register(n, 3, prefix)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, prefix)
	if err := writeCredentials(file, list); err != nil {
		return nil, err
	}
	return startClient(prefix, port, "/ocpp", file, filepath.Join(dir, caFile))
}

// calls lets the bystanders send CALLs for a time.
func (r *stormRun) calls(d time.Duration) (s steady, err error) {
	q := &steadyRequest{Action: "Heartbeat", Payload: json.RawMessage(`{}`), Rate: r.cfg.Rate, Time: d, Raw: true}
	err = r.bystander.ask(request{Steady: q}, &s)
	return s, err
}

// callsUntil lets the bystanders send CALLs, a second at a time, until end is closed.
func (r *stormRun) callsUntil(end <-chan struct{}) (all steady, err error) {
	for {
		s, err := r.calls(time.Second)
		if err != nil {
			return all, err
		}
		all.Failed += s.Failed
		if all.FirstFail == "" {
			all.FirstFail = s.FirstFail
		}
		all.Raw = append(all.Raw, s.Raw...)
		select {
		case <-end:
			slices.Sort(all.Raw)
			all.Answered = len(all.Raw)
			all.P50, all.P90, all.P99, all.Max = quantile(all.Raw, 0.5), quantile(all.Raw, 0.9), quantile(all.Raw, 0.99), quantile(all.Raw, 1)
			all.Raw = nil
			return all, nil
		default:
		}
	}
}

// cut lets every station reset its connection, and waits until the gateway has
// seen that.
func (r *stormRun) cut() error {
	var d done
	if err := r.stations.ask(request{Cut: true}, &d); err != nil {
		return err
	}
	for end := time.Now().Add(r.cfg.Time); ; time.Sleep(50 * time.Millisecond) {
		n, err := counts(r.admin)
		if err != nil {
			return err
		}
		if n["connections"] == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("the gateway still holds %d stations whose connections were reset", n["connections"])
		}
	}
}

// storm is one storm, measured.
func (r *stormRun) storm(name string, kill bool) (row stormRow, err error) {
	row.Name = name
	if row.Steady, err = rss(r.gateway.pid); err != nil {
		return row, err
	}
	before, err := counts(r.admin)
	if err != nil {
		return row, err
	}
	used, err := cpu(r.gateway.pid)
	if err != nil {
		return row, err
	}
	clientUsed, coreUsed, aside, err := r.around()
	if err != nil {
		return row, err
	}
	if !kill {
		// What losing them costs is not what their return costs.
		if err := r.cut(); err != nil {
			return row, err
		}
		now, err := cpu(r.gateway.pid)
		if err != nil {
			return row, err
		}
		row.LeaveCPU = (now - used) / time.Duration(r.cfg.Stations)
		used = now
		if err := resetPeak(r.gateway.pid); err != nil {
			return row, err
		}
	}
	end := make(chan struct{})
	stormed := make(chan error, 1)
	go func() {
		defer close(end)
		stormed <- r.stations.ask(request{Storm: &stormRequest{Lost: !kill, Retry: r.cfg.Retry, Time: r.cfg.Time}}, &row.storm)
	}()
	called := make(chan error, 1)
	go func() {
		var err error
		row.Calls, err = r.callsUntil(end)
		called <- err
	}()
	lost := time.Now()
	ready := lost
	if kill {
		time.Sleep(200 * time.Millisecond) // every station waits for its connection's end by now
		lost = time.Now()
		r.gateway.crash()
		if err := r.start(); err != nil {
			return row, err
		}
		ready = time.Now()
		row.Opening = ready.Sub(lost)
		used, before = r.startCPU, nil
		row.StartCPU = r.startCPU
	}
	profiled := make(chan error, 1)
	go func() { profiled <- r.profile(name) }()
	if err := errors.Join(<-stormed, <-called, <-profiled); err != nil {
		return row, err
	}
	row.FromLoss, row.FromReady = row.Last.Sub(lost), row.Last.Sub(ready)
	n := time.Duration(max(1, row.Stations))
	after, err := cpu(r.gateway.pid)
	if err != nil {
		return row, err
	}
	clientAfter, coreAfter, asideAfter, err := r.around()
	if err != nil {
		return row, err
	}
	row.CPU, row.ClientCPU, row.CoreCPU = (after-used)/n, (clientAfter-clientUsed)/n, (coreAfter-coreUsed)/n
	all := after - used + clientAfter - clientUsed + coreAfter - coreUsed + asideAfter - aside
	row.Busy = all.Seconds() / (time.Since(lost).Seconds() * float64(runtime.NumCPU()))
	now, err := counts(r.admin)
	if err != nil {
		return row, err
	}
	row.Full, row.Resumed = now["full"]-before["full"], now["resumed"]-before["resumed"]
	row.Sheds, row.Rejected = now["sheds"]-before["sheds"], now["rejections"]-before["rejections"]
	if row.Peak, err = peak(r.gateway.pid); err != nil {
		return row, err
	}
	time.Sleep(r.cfg.Rest)
	row.After, err = rss(r.gateway.pid)
	return row, err
}

// around returns the CPU that the processes around the lost gateway have used: the
// stations', that of authority, csms, bus and database, and the bystanders' and
// their gateway's.
func (r *stormRun) around() (stations, core, aside time.Duration, err error) {
	var each [4]time.Duration
	for i, p := range []*process{r.stations, r.h.all, r.bystander, r.other} {
		used, failed := cpu(p.pid)
		each[i], err = used, errors.Join(err, failed)
	}
	return each[0], each[1], each[2] + each[3], err
}

// profileTime is how much of a storm a CPU profile shows.
const profileTime = 2 * time.Second

// profile writes a CPU profile of the gateway, if profiles are asked for.
func (r *stormRun) profile(name string) error {
	if r.cfg.Profiles == "" {
		return nil
	}
	answer, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", r.admin, int(profileTime.Seconds())))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	f, err := os.Create(filepath.Join(r.cfg.Profiles, strings.NewReplacer(" ", "-", ",", "").Replace(name)+".pprof"))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, answer.Body)
	return errors.Join(err, f.Close())
}

func (s *stormPart) print(w io.Writer) {
	c := s.Config
	fmt.Fprintf(w, "\nReconnect storm: %d mutual-TLS stations (leaf and one intermediate) come back at once; %d others on another gateway send %d CALLs per second.\n"+
		"A bare crypto/tls handshake and upgrade costs its server %s here.\n\n", c.Stations, c.Bystander, c.Rate, ms(s.BareCPU))
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\tCPU ×\tCPU each\tto leave\tpeak ×\tlast back\tsince ready\t× floor\tback\tfull/resumed\tno listener\treset\trefused\tother\tsteady\tpeak\tafter\tothers' p50\tp99\tmax\tclient CPU\tcore CPU\tbusy\t")
	for _, r := range s.Rows {
		// What the machine cannot beat: both sides of every handshake on all cores.
		floor := time.Duration(r.Stations) * (s.BareCPU + r.ClientCPU) / time.Duration(runtime.NumCPU())
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%.1f s\t%.1f s\t%s\t%d\t%d/%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%.0f %%\t\n", r.Name,
			ratio(float64(r.CPU), float64(s.BareCPU)), ms(r.CPU), ms(r.LeaveCPU), ratio(float64(r.Peak), float64(r.Steady)),
			r.FromLoss.Seconds(), r.FromReady.Seconds(), ratio(r.FromReady.Seconds(), floor.Seconds()),
			r.Back, r.Full, r.Resumed, r.NoListener, r.Reset, r.Refused, r.Other,
			mbytes(r.Steady), mbytes(r.Peak), mbytes(r.After), ms(r.Calls.P50), ms(r.Calls.P99), ms(r.Calls.Max), ms(r.ClientCPU), ms(r.CoreCPU), 100*r.Busy)
	}
	tw.Flush()
	fmt.Fprintf(w, "\nCALLs of the others without a storm: p50 %s, p99 %s, max %s. CPU × is against the bare full handshake, peak × against\n"+
		"the steady resident set before. Floor: stations × (bare handshake + client) / CPUs, as the clients share the machine.\n"+
		"Core is authority, csms, bus and database; busy is what all of these and the bystanders used of the CPUs.\n", ms(s.Before.P50), ms(s.Before.P99), ms(s.Before.Max))
	for _, r := range s.Rows {
		for _, fail := range []string{r.FirstFail, r.Calls.FirstFail} {
			if fail != "" {
				fmt.Fprintf(w, "%s: first failure: %s\n", r.Name, fail)
			}
		}
	}
}
