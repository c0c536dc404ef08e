package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/api"
	"holdfast/fleet"
	"holdfast/leak"
	"holdfast/leak/bench"
	"holdfast/ocpp"
	"holdfast/store"
)

// benchStep is the simulated time between two samples: one in each block of the
// detector, where a gateway in production has twenty. The collector has run
// before, as it does in production every two minutes at least.
const benchStep = 10 * time.Minute

// benchMost is how many times its resident set a gateway leaks before the fault
// stops: the detector has long said so.
const benchMost = 1

// mostBroken is how many runs may fail for reasons of their own, such as a machine
// that is too busy for a station's deadline, before the benchmark does.
const mostBroken = 5

// runAll runs the cases, some at a time, and returns those that there was time
// for, and how many of them failed. Their order is by chance, so that a part of
// them is a fair one.
func (c *leakBench) runAll(e *env, site *benchSite, cases []bench.Case) ([]bench.Run, int, error) {
	r := rand.New(rand.NewPCG(c.First, uint64(c.Seeds)))
	r.Shuffle(len(cases), func(a, b int) { cases[a], cases[b] = cases[b], cases[a] })
	runs := make([]bench.Run, 0, len(cases))
	began := time.Now()
	eg, ctx := errgroup.WithContext(e.ctx)
	eg.SetLimit(cmp.Or(c.Parallel, runtime.GOMAXPROCS(0)))
	var mu sync.Mutex
	broken := 0
	for i, k := range cases {
		eg.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if c.For > 0 && time.Since(began) > c.For {
				return nil
			}
			run, err := c.run(ctx, site, i, k)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				err = fmt.Errorf("run %d, %s: %w", i, k, err)
				if broken++; ctx.Err() != nil || broken > mostBroken || len(cases) == 1 {
					return err
				}
				e.log.Error("leak bench: a run failed and does not count", "err", oneLine(err))
				return nil
			}
			if len(runs) > 0 {
				run.Forget()
			}
			runs = append(runs, run)
			e.log.Info("leak bench", "ended", fmt.Sprintf("%d of %d", len(runs), len(cases)), "run", i, "case", k.String(), "outcome", run.Outcome())
			return nil
		})
	}
	err := eg.Wait()
	if err == nil && len(runs) == 0 && broken > 0 {
		err = fmt.Errorf("all %d runs failed: the log says why", broken)
	}
	return runs, broken, err
}

// run starts a control process and gateways, lets days pass, and asks what the
// operator would see.
func (c *leakBench) run(ctx context.Context, site *benchSite, number int, k bench.Case) (bench.Run, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := bench.Run{Case: k, Gateways: make([]bench.Gateway, c.Gateways)}
	began := time.Now()
	dir := filepath.Join(site.dir, fmt.Sprintf("run-%03d", number))
	if err := site.copyTemplate(dir); err != nil {
		return out, err
	}
	all, err := site.startAll(ctx, dir, benchHost(number, maxBenchGateways))
	if err != nil {
		return out, err
	}
	defer all.kill()
	cl, err := all.client()
	if err != nil {
		return out, err
	}
	roots, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return out, err
	}
	r := k.Random()
	gateways := make([]*benchProcess, c.Gateways)
	stations := make([]*benchStations, c.Gateways)
	tls, mtls := site.tls, site.mtls
	for i := range gateways {
		id := fmt.Sprintf("gw-%d", i)
		if gateways[i], err = site.startGateway(ctx, all, id, benchHost(number, i)); err != nil {
			return out, err
		}
		defer gateways[i].kill()
		g := &out.Gateways[i]
		g.Share = k.Placement.Share(i, c.Gateways)
		s := &benchStations{kind: k.Load, r: rand.New(rand.NewPCG(k.Seed, r.Uint64())), churn: c.Churn / 100, share: g.Share}
		s.mean = float64(c.Stations) * (0.85 + 0.3*s.r.Float64())
		s.swing, s.phase = 0.05+0.2*s.r.Float64(), 24*s.r.Float64()
		own := c.ownStations()
		nm := int(float64(own) * g.Share)
		ids := append(tls[:own-nm:own-nm], mtls[:nm]...)
		tls, mtls = tls[own-nm:], mtls[nm:]
		if s.fleet, err = gateways[i].fleet(ids, roots, k.Seed); err != nil {
			return out, err
		}
		for _, id := range ids {
			side := &s.sides[btoi(id.Profile == ocpp.ProfileMTLS)]
			side.away = append(side.away, id.ID)
		}
		stations[i] = s
		defer s.leave()
		switch {
		case !k.Leaks:
		case k.Cohort == leak.CohortMTLS:
			g.Rate = k.Rate * g.Share
		case k.Cohort == leak.CohortTLS:
			g.Rate = k.Rate * (1 - g.Share)
		default:
			g.Rate = k.Rate
		}
	}
	var start struct {
		Time time.Time `json:"time"`
	}
	if err := getJSON(ctx, gateways[0].admin+"/debug/clock", "", &start); err != nil {
		return out, err
	}
	for i, n := range gateways {
		if err := n.post(ctx, "/debug/faults", map[string]any{"fault": k.Fault, "onset": start.Time.Add(time.Duration(k.Onset * float64(time.Hour))), "rate": k.Rate,
			"cohort": k.Cohort, "events": stations[i].reconnectsPerHour(), "most": benchMost, "seed": k.Seed + uint64(i)<<32}, new(struct{})); err != nil {
			return out, err
		}
	}
	out.Start = start.Time
	seen := bench.NewVerdicts(start.Time)
	for step := range int(time.Duration(c.Hours) * time.Hour / benchStep) {
		hour := float64(step) * benchStep.Hours()
		to := start.Time.Add(time.Duration(step+1) * benchStep)
		eg, within := errgroup.WithContext(ctx)
		for i, n := range gateways {
			eg.Go(func() error {
				if err := stations[i].pass(within, hour, benchStep.Hours()); err != nil {
					return fmt.Errorf("stations of gateway %d at hour %.1f: %w", i, hour, err)
				}
				var s benchStepped
				if err := n.post(within, "/debug/step", map[string]any{"to": to, "collect": true}, &s); err != nil {
					return fmt.Errorf("gateway %d at hour %.1f: %w", i, hour, err)
				}
				out.Gateways[i].Step(s.Block, s.Leaked, s.CPU, hour, k.Onset)
				return nil
			})
		}
		if err := eg.Wait(); err != nil {
			return out, err
		}
		if to.Sub(start.Time)%time.Hour == benchStep*2 { // a while after the full hour, when all have told
			if err := lookAtVerdicts(ctx, cl, seen, &out); err != nil {
				return out, err
			}
		}
	}
	if err := lookAtVerdicts(ctx, cl, seen, &out); err != nil {
		return out, err
	}
	for i, s := range stations {
		if err := s.check(); err != nil {
			return out, fmt.Errorf("gateway %d: %w", i, err)
		}
		out.Gateways[i].Opened, out.Gateways[i].Failed = s.opened, s.failed
	}
	out.Seconds = time.Since(began).Seconds()
	if site.keep {
		if err := out.Save(dir); err != nil {
			return out, err
		}
	} else if err := os.RemoveAll(dir); err != nil {
		return out, err
	}
	return out, nil
}

// fleet is stations of this gateway.
func (n *benchProcess) fleet(stations []fleet.Identity, roots []byte, seed uint64) (*fleet.Fleet, error) {
	trusted, err := fleet.ParseRoots(roots)
	if err != nil {
		return nil, err
	}
	return fleet.New(fleet.Config{Stations: stations, Roots: trusted, Seed: seed, CallTimeout: huntCallTimeout, HandshakeTimeout: huntCallTimeout,
		Targets: map[ocpp.SecurityProfile]string{ocpp.ProfileTLS: "wss://" + n.tls + "/ocpp", ocpp.ProfileMTLS: "wss://" + n.mtls + "/ocpp"}})
}

// benchStepped is what a gateway answers to a step.
type benchStepped struct {
	Leaked float64      `json:"leaked_bytes"`
	Block  *leak.Report `json:"block"`
	CPU    int64        `json:"cpu_ns"`
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// lookAtVerdicts reads the operator API.
func lookAtVerdicts(ctx context.Context, cl *client, seen *bench.Verdicts, out *bench.Run) error {
	var page api.Page[store.LeakVerdict]
	if err := cl.do(ctx, http.MethodGet, "/api/v1/verdicts", url.Values{"limit": {"1000"}}, nil, &page); err != nil {
		return err
	}
	list := make([]leak.Verdict, len(page.Items))
	for i, v := range page.Items {
		list[i] = remembered(v)
	}
	return seen.Take(list, out)
}
