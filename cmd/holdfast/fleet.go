package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/api"
	"holdfast/fleet"
	"holdfast/ocpp"
)

type fleetCommands struct {
	Run    fleetRun    `cmd:"" help:"Connect simulated stations that charge; register them with the operator API first."`
	Quirks fleetQuirks `cmd:"" help:"List the faults and quirks that stations can have, and what a good server does about each."`
}

// fleetRun simulates stations against a running Holdfast.
type fleetRun struct {
	clientFlags
	Stations int               `help:"How many." default:"100"`
	Prefix   string            `help:"Identities are PREFIX-00001 and so on." default:"FLEET"`
	Profiles []int             `help:"Security profiles, in turn." default:"2,3"`
	Versions []string          `help:"OCPP versions, in turn." default:"1.6,2.0.1,2.1"`
	Targets  map[string]string `help:"Endpoint of each security profile: 3=wss://host:8883/ocpp;2=…" default:"1=ws://127.0.0.1:8881/ocpp;2=wss://127.0.0.1:8882/ocpp;3=wss://127.0.0.1:8883/ocpp"`
	CA       string            `name:"ca" help:"PEM file with what the stations trust. Default: ca.crt in the data directory." type:"path" placeholder:"FILE"`
	Rate     float64           `help:"Stations that begin to connect per second; 0: all at once." default:"200"`
	For      time.Duration     `help:"How long; 0: until a signal." default:"0"`
	Seed     uint64            `help:"Same seed, same decisions of the stations." default:"1"`
	Speed    float64           `help:"How much faster than real time the stations' time runs." default:"1"`
	Idle     bool              `help:"Nobody charges; the stations only stay connected."`
	IDTags   []string          `name:"id-tags" help:"ID tokens that drivers show; they are added to the server." default:"FLEET"`
	Sources  []string          `help:"Local addresses to connect from, in turn, such as 127.0.0.2." placeholder:"ADDR"`
	Settle   bool              `help:"At the end, let open transactions finish and queues drain, and compare with the server's record."`
}

func (c *fleetRun) Run(e *env) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	if c.Stations < 1 || len(c.Profiles) == 0 || len(c.Versions) == 0 {
		return &usageError{"--stations, --profiles and --versions: at least one of each"}
	}
	cfg := fleet.Config{Rate: c.Rate, Seed: c.Seed, Logger: e.log, Targets: make(map[ocpp.SecurityProfile]string)}
	cfg.Behaviour.TimeFactor, cfg.Behaviour.IDTags = c.Speed, c.IDTags
	if c.Idle {
		cfg.Behaviour.SessionGap = -1
	}
	if err := c.targets(&cfg); err != nil {
		return err
	}
	for _, tag := range c.IDTags {
		err := cl.do(e.ctx, http.MethodPut, "/api/v1/id-tokens/"+url.PathEscape(tag), nil, map[string]any{"status": "Accepted"}, nil)
		if err != nil {
			return fmt.Errorf("add ID token %s: %w", tag, err)
		}
	}
	if cfg.Stations, err = c.register(e, cl); err != nil {
		return err
	}
	f, err := fleet.New(cfg)
	if err != nil {
		return err
	}
	ctx := e.ctx
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.For)
		defer cancel()
	}
	return c.follow(ctx, e, f)
}

func (c *fleetRun) targets(cfg *fleet.Config) error {
	for p, target := range c.Targets {
		n := ocpp.SecurityProfile(strings.TrimSpace(p)[0] - '0')
		if slices.Contains(c.Profiles, int(n)) {
			cfg.Targets[n] = target
		}
	}
	for _, p := range c.Profiles {
		if cfg.Targets[ocpp.SecurityProfile(p)] == "" {
			return &usageError{fmt.Sprintf("--profiles %d: no endpoint in --targets", p)}
		}
	}
	name := c.CA
	if name == "" {
		dir := c.Data
		if dir == "" {
			dir = "data"
		}
		name = filepath.Join(dir, "ca.crt")
	}
	pem, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("trust anchor: %w (see --ca)", err)
	}
	if cfg.Roots, err = fleet.ParseRoots(pem); err != nil {
		return fmt.Errorf("trust anchor: %s: %w", name, err)
	}
	if len(c.Sources) > 0 {
		var next atomic.Uint64
		cfg.Dial = func(ctx context.Context, _ ocpp.StationID, address string) (*net.TCPConn, error) {
			source := c.Sources[next.Add(1)%uint64(len(c.Sources))]
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
			conn, err := d.DialContext(ctx, "tcp", address)
			if err != nil {
				return nil, err
			}
			return conn.(*net.TCPConn), nil
		}
	}
	return nil
}

// registering is how many stations are registered at a time.
const registering = 16

// register adds the stations to the server; those of an earlier run get new
// credentials.
func (c *fleetRun) register(e *env, cl *client) ([]fleet.Identity, error) {
	list := make([]fleet.Identity, c.Stations)
	eg, ctx := errgroup.WithContext(e.ctx)
	eg.SetLimit(registering)
	for i := range list {
		eg.Go(func() error {
			id := fmt.Sprintf("%s-%05d", c.Prefix, i+1)
			profile := ocpp.SecurityProfile(c.Profiles[i%len(c.Profiles)])
			path := "/api/v1/stations/" + url.PathEscape(id)
			var added api.AddedStation
			add := func() error {
				return cl.do(ctx, http.MethodPost, "/api/v1/stations", nil, map[string]any{"id": id, "profile": profile}, &added)
			}
			err := add()
			if problem, ok := errors.AsType[*apiError](err); ok && problem.Status == http.StatusConflict {
				if err = cl.do(ctx, http.MethodDelete, path, nil, nil, nil); err == nil {
					err = add()
				}
			}
			if err != nil {
				return fmt.Errorf("register station %s: %w", id, err)
			}
			list[i] = fleet.Identity{ID: ocpp.StationID(id), Profile: profile, Password: added.Password,
				Version: ocpp.Version(c.Versions[i/len(c.Profiles)%len(c.Versions)])}
			if added.Certificate != nil {
				pair, err := tls.X509KeyPair([]byte(added.Certificate.Chain), []byte(added.Certificate.Key))
				if err != nil {
					return fmt.Errorf("certificate of station %s: %w", id, err)
				}
				list[i].Certificate = &pair
			}
			return nil
		})
	}
	return list, eg.Wait()
}

// follow runs the fleet, prints what it does every few seconds, and ends with a
// verdict.
func (c *fleetRun) follow(ctx context.Context, e *env, f *fleet.Fleet) error {
	var wg sync.WaitGroup
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	var failed error
	wg.Go(func() { failed = f.Run(running) })
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			if !e.json {
				printStats(e.stdout, f.Stats())
			}
		}
	}
	var report fleet.Report
	if c.Settle {
		settle, cancel := context.WithTimeout(running, 2*time.Minute)
		if err := f.Settle(settle); err != nil {
			e.log.Warn("the stations' queues did not drain", "err", err)
		}
		cancel()
	}
	stats := f.Stats()
	stop()
	wg.Wait()
	if failed != nil {
		return failed
	}
	out := struct {
		Stats  fleet.Stats   `json:"stats"`
		Report *fleet.Report `json:"report,omitempty"`
	}{Stats: stats}
	if c.Settle {
		var err error
		if report, err = c.verify(e, f); err != nil {
			return err
		}
		out.Report = &report
	}
	err := e.print(out, func(w io.Writer) {
		printStats(w, stats)
		if out.Report != nil {
			fmt.Fprintf(w, "ledger: %d transactions, %d meter values, %d not wholly acknowledged, problems: %v\n",
				report.Transactions, report.Values, report.Unacknowledged, report.Counts)
			for _, p := range report.Problems {
				fmt.Fprintf(w, "  %s\n", p)
			}
		}
	})
	if err == nil && out.Report != nil && !report.OK() {
		return errSilent
	}
	return err
}

func printStats(w io.Writer, s fleet.Stats) {
	total := 0
	for _, n := range s.Connected {
		total += n
	}
	fmt.Fprintf(w, "stations %d of %d  messages/s %.0f up %.0f down  transactions %d  queued %d  call p50 %s p99 %s  errors %v\n",
		total, s.Stations, s.SentRate, s.ReceivedRate, s.Transactions, s.Queued,
		s.CallTime.P50.Round(time.Millisecond/10), s.CallTime.P99.Round(time.Millisecond/10), s.Errors)
}
