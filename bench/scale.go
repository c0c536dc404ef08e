package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"text/tabwriter"
	"time"
)

// scaleConfig is the experiment: so many gateways on addresses of their own,
// each with a fleet process of its own, all on one bus.
type scaleConfig struct {
	Gateways int           `json:"gateways"`
	Stations int           `json:"stations_each"`
	Calls    int           `json:"calls"` // to stations taken at random from all
	Rest     time.Duration `json:"rest_ns"`
	Time     time.Duration `json:"time_ns"` // for one fleet to connect at most
}

// scalePart is the outcome of bench scale.
type scalePart struct {
	Config    scaleConfig      `json:"config"`
	Connected int              `json:"connected"` // when all was read
	Rows      []scaleRow       `json:"processes"`
	Classes   map[string]int64 `json:"gateways_bytes_by_class"`
	Calls     steady           `json:"calls"`
	Connect   []time.Duration  `json:"connect_ns"` // of each fleet, first to last station
	Handshake time.Duration    `json:"gateway_cpu_per_connect_ns"`
}

// scaleRow is what one process needs.
type scaleRow struct {
	Process  string  `json:"process"`
	Stations int     `json:"stations"`
	Base     int64   `json:"base_bytes,omitempty"` // before the first station
	RSS      int64   `json:"rss_bytes"`            // with all idle
	IdleCPU  float64 `json:"idle_cpu"`             // cores, with all idle
}

// scaleProcess is one of those that are read.
type scaleProcess struct {
	name     string
	pid      int
	stations int
	base     int64
}

func runScale(o *options, dir string, note func(string)) (part *scalePart, err error) {
	cfg := o.scale
	part = &scalePart{Config: cfg}
	data := filepath.Join(dir, "scale")
	h, err := startHoldfast(holdfastConfig{bin: o.holdfast, data: data, apart: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	var gateways []*scaleProcess
	var admins []string
	read := []*scaleProcess{{name: "authority, csms, NATS, API", pid: h.all.pid}}
	for i := range cfg.Gateways {
		p := h.gateway
		admin, port := h.admin, h.stations
		if i > 0 {
			ports, err := freePorts(2)
			if err != nil {
				return nil, err
			}
			port, admin = ports[0], ports[1]
			if p, err = h.startGateway(fmt.Sprintf("bench%d", i+1), admin, nil, mutualTLS(port)...); err != nil {
				return nil, err
			}
			defer func() { err = errors.Join(err, p.stop()) }()
		}
		g := &scaleProcess{name: fmt.Sprintf("gateway %d", i+1), pid: p.pid, stations: cfg.Stations}
		gateways, admins = append(gateways, g), append(admins, admin)
		if g.base, err = rss(p.pid); err != nil {
			return nil, err
		}
		before, err := cpu(p.pid)
		if err != nil {
			return nil, err
		}
		note(fmt.Sprintf("gateway %d: a fleet of %d registers and connects", i+1, cfg.Stations))
		f, err := startProcess(fmt.Sprintf("fleet %d", i+1), h.bin, "fleet", "run", "--log-level", "warn", "--url", h.api, "--token", h.token,
			"--stations", strconv.Itoa(cfg.Stations*cfg.Gateways), "--shard", fmt.Sprintf("%d/%d", i+1, cfg.Gateways), "--prefix", "SCALE",
			"--profiles", "3", "--versions", "1.6,2.0.1", "--idle", "--rate", "0", "--ca", h.ca, "--targets", "3=wss://"+port+"/ocpp")
		if err != nil {
			return nil, err
		}
		go io.Copy(io.Discard, f.out) // its view
		defer func() { err = errors.Join(err, f.stop()) }()
		read = append(read, g, &scaleProcess{name: f.name, pid: f.pid, stations: cfg.Stations})
		took, err := part.connected(f, admin)
		if err != nil {
			return nil, err
		}
		after, err := cpu(p.pid)
		if err != nil {
			return nil, err
		}
		part.Handshake += (after - before) / time.Duration(cfg.Stations*cfg.Gateways)
		part.Connect = append(part.Connect, took)
		note(fmt.Sprintf("gateway %d: %d connected within %.1f s", i+1, cfg.Stations, took.Seconds()))
	}
	note(fmt.Sprintf("%d CALLs to stations at random", cfg.Calls))
	if part.Calls, err = h.callSome(cfg); err != nil {
		return nil, err
	}
	note(fmt.Sprintf("all rest for %v", cfg.Rest))
	time.Sleep(cfg.Rest)
	return part, part.read(read, admins)
}

// connected waits until a gateway holds all stations of its fleet, and returns
// how long that took since the first.
func (s *scalePart) connected(f *process, admin string) (time.Duration, error) {
	var first time.Time
	for end := time.Now().Add(s.Config.Time); ; time.Sleep(100 * time.Millisecond) {
		select {
		case err := <-f.done:
			f.done <- err
			return 0, fmt.Errorf("%s ended: %w\n%s", f.name, err, f.log)
		default:
		}
		n, err := counts(admin)
		if err != nil {
			return 0, err
		}
		if n["connections"] > 0 && first.IsZero() {
			first = time.Now()
		}
		if n["connections"] == s.Config.Stations {
			return time.Since(first), nil
		}
		if time.Now().After(end) {
			return 0, fmt.Errorf("%d of %d stations connected within %v\n%s", n["connections"], s.Config.Stations, s.Config.Time, f.log)
		}
	}
}

// callSome sends TriggerMessage over the operator API to stations taken at
// random, some at a time.
func (h *holdfast) callSome(cfg scaleConfig) (s steady, err error) {
	const atOnce = 8
	next := make(chan int)
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	for range atOnce {
		wg.Go(func() {
			for i := range next {
				start := time.Now()
				err := h.call(fmt.Sprintf("SCALE-%05d", i))
				d := time.Since(start)
				mu.Lock()
				if err == nil {
					took = append(took, d)
				} else if s.Failed++; s.FirstFail == "" {
					s.FirstFail = err.Error()
				}
				mu.Unlock()
			}
		})
	}
	for range cfg.Calls {
		next <- 1 + rand.IntN(cfg.Stations*cfg.Gateways)
	}
	close(next)
	wg.Wait()
	slices.Sort(took)
	s.Answered = len(took)
	s.P50, s.P90, s.P99, s.Max = quantile(took, 0.5), quantile(took, 0.9), quantile(took, 0.99), quantile(took, 1)
	return s, nil
}

// call sends one CALL that every OCPP version has to one station.
func (h *holdfast) call(station string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	body := []byte(`{"action":"TriggerMessage","payload":{"requestedMessage":"Heartbeat"}}`)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.api+"/api/v1/stations/"+station+"/calls", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+h.token)
	r.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	var command struct{ Result string }
	if err := json.Unmarshal(text, &command); err != nil {
		return err
	}
	if command.Result != "accepted" {
		return fmt.Errorf("CALL to %s: %s: %.300s", station, answer.Status, text)
	}
	return nil
}

// read fills in what every process needs while all stations are idle.
func (s *scalePart) read(list []*scaleProcess, admins []string) error {
	const idle = 20 * time.Second
	used := make([]time.Duration, len(list))
	for i, p := range list {
		var err error
		if used[i], err = cpu(p.pid); err != nil {
			return err
		}
	}
	time.Sleep(idle)
	for i, p := range list {
		now, err := cpu(p.pid)
		if err != nil {
			return err
		}
		row := scaleRow{Process: p.name, Stations: p.stations, Base: p.base, IdleCPU: (now - used[i]).Seconds() / idle.Seconds()}
		if row.RSS, err = rss(p.pid); err != nil {
			return err
		}
		s.Rows = append(s.Rows, row)
	}
	s.Classes = make(map[string]int64)
	for _, admin := range admins {
		n, err := counts(admin)
		if err != nil {
			return err
		}
		s.Connected += n["connections"]
		classes, err := (&holdfast{admin: admin}).account()
		if err != nil {
			return err
		}
		for class, size := range classes {
			s.Classes[class] += size
		}
	}
	return nil
}

func (s *scalePart) print(w io.Writer) {
	c := s.Config
	fmt.Fprintf(w, "\n%d gateways with %d mutual-TLS stations each, each from a fleet process of its own: %d connected. Resident sets after %v of rest.\n\n",
		c.Gateways, c.Stations, s.Connected, c.Rest)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "\tstations\tbefore\tresident set\tper station\tidle CPU\t")
	var gateways, stations int64
	for _, r := range s.Rows {
		each, base := "", ""
		if r.Stations > 0 {
			each = kb((r.RSS - r.Base) / int64(r.Stations))
		}
		if r.Base > 0 {
			base = mbytes(r.Base)
			gateways += r.RSS
			stations += int64(r.Stations)
		}
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\t%.1f %%\t\n", r.Process, r.Stations, base, mbytes(r.RSS), each, 100*r.IdleCPU)
	}
	tw.Flush()
	fmt.Fprintf(w, "\nAll gateways together: %s, %s per station, base included. By class:", mbytes(gateways), kb(gateways/max(1, stations)))
	for _, class := range slices.Sorted(maps.Keys(s.Classes)) {
		fmt.Fprintf(w, " %s %s;", class, mbytes(s.Classes[class]))
	}
	fmt.Fprintf(w, "\n\n%d CALLs to stations taken at random: %d answered, p50 %s, p99 %s, max %s; %d failed. %s\n",
		c.Calls, s.Calls.Answered, ms(s.Calls.P50), ms(s.Calls.P99), ms(s.Calls.Max), s.Calls.Failed, s.Calls.FirstFail)
	fmt.Fprintf(w, "First to last station of each fleet:")
	for _, d := range s.Connect {
		fmt.Fprintf(w, " %.1f s;", d.Seconds())
	}
	fmt.Fprintf(w, " gateway CPU per connect %s.\n", ms(s.Handshake))
}
