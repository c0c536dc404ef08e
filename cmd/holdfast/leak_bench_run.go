package main

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/api"
	"holdfast/fleet"
	"holdfast/leak"
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

// benchRun is a case and what became of it.
type benchRun struct {
	benchCase
	Gateways []benchGateway `json:"gateways"`
	// Fleet are the verdicts of the comparison.
	Fleet []*benchVerdict `json:"comparison_verdicts,omitempty"`
	// Named is the cohort that was named last, Ever each that ever was.
	Named   leak.Cohort   `json:"cohort_named,omitempty"`
	Ever    []leak.Cohort `json:"cohorts_ever_named,omitempty"`
	Seconds float64       `json:"seconds"`

	start time.Time // of the simulated time
	hours int       // that were replayed
}

// benchGateway is one gateway of a run.
type benchGateway struct {
	Share    float64         `json:"mtls_share"`
	Rate     float64         `json:"percent_per_hour"` // of its own leak; 0: none
	Verdicts []*benchVerdict `json:"verdicts,omitempty"`
	RawMK    []float64       `json:"raw_mann_kendall_hours,omitempty"` // of the first alarm before the onset, and after
	OLS      []float64       `json:"ols_hours,omitempty"`
	BlockMK  []float64       `json:"block_mann_kendall_hours,omitempty"`
	FirstRSS float64         `json:"rss_at_first_bytes"`
	LastRSS  float64         `json:"rss_at_last_bytes"`
	Leaked   float64         `json:"leaked_bytes"`
	Opened   int             `json:"connections_opened"`
	Failed   int             `json:"connections_failed"`
	Samples  int             `json:"samples"`
	CPU      int64           `json:"samples_cpu_ns"`

	series []leak.Report // of all blocks
}

// benchVerdict is a verdict.
type benchVerdict struct {
	Hour   float64     `json:"hour"`
	Class  leak.Class  `json:"class"`
	Cohort leak.Cohort `json:"cohort,omitempty"` // the last one
	Text   string      `json:"summary"`
}

// caseRandom gives each case its own numbers.
func caseRandom(c benchCase) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprint(h, c.Fault, c.Rate, c.Load)
	return rand.New(rand.NewPCG(c.Seed, h.Sum64()))
}

// mostBroken is how many runs may fail for reasons of their own, such as a machine
// that is too busy for a station's deadline, before the benchmark does.
const mostBroken = 5

// runAll runs the cases, some at a time, and returns those that there was time
// for, and how many of them failed. Their order is by chance, so that a part of
// them is a fair one.
func (c *leakBench) runAll(e *env, site *benchSite, cases []benchCase) ([]benchRun, int, error) {
	r := rand.New(rand.NewPCG(c.First, uint64(c.Seeds)))
	r.Shuffle(len(cases), func(a, b int) { cases[a], cases[b] = cases[b], cases[a] })
	runs := make([]benchRun, 0, len(cases))
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
			runs = append(runs, run)
			e.log.Info("leak bench", "ended", fmt.Sprintf("%d of %d", len(runs), len(cases)), "run", i, "case", k.String(), "outcome", run.outcome())
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
func (c *leakBench) run(ctx context.Context, site *benchSite, number int, k benchCase) (benchRun, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := benchRun{benchCase: k, Gateways: make([]benchGateway, c.Gateways)}
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
	r := caseRandom(k)
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
		own := int(math.Ceil(spareStations * float64(c.Stations)))
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
	out.start = start.Time
	naive := make([]leak.Naive, c.Gateways)
	seen := newBenchVerdicts(start.Time)
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
				out.Gateways[i].stepped(s, hour, k.Onset, &naive[i])
				return nil
			})
		}
		if err := eg.Wait(); err != nil {
			return out, err
		}
		if to.Sub(start.Time)%time.Hour == benchStep*2 { // a while after the full hour, when all have told
			if err := seen.look(ctx, cl, &out); err != nil {
				return out, err
			}
		}
	}
	if err := seen.look(ctx, cl, &out); err != nil {
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
		if err := out.save(dir); err != nil {
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

// warmHours are not shown to the other detectors either.
const warmHours = 0.5

// stepped adds a step.
func (g *benchGateway) stepped(s benchStepped, hour, onset float64, naive *leak.Naive) {
	g.Samples++
	g.CPU += s.CPU
	g.Leaked = s.Leaked
	if s.Block != nil {
		g.series = append(g.series, *s.Block)
		g.block(*s.Block, hour, onset, naive)
	}
}

// block shows a block to the other detectors.
func (g *benchGateway) block(b leak.Report, hour, onset float64, naive *leak.Naive) {
	if hour < warmHours {
		return
	}
	g.LastRSS = b.RSS
	g.FirstRSS = cmp.Or(g.FirstRSS, b.RSS)
	raw, ols, block := naive.Add(b.Block)
	for _, a := range []struct {
		alarm bool
		list  *[]float64
	}{{raw, &g.RawMK}, {ols, &g.OLS}, {block, &g.BlockMK}} {
		// One alarm before the onset and one after are kept.
		if n := len(*a.list); a.alarm && (n == 0 || (*a.list)[n-1] < onset && hour >= onset) {
			*a.list = append(*a.list, hour)
		}
	}
}

// benchVerdicts follows the record of verdicts as it changes.
type benchVerdicts struct {
	start time.Time
	at    map[string]*benchVerdict // by ID
	ever  map[leak.Cohort]bool
}

func newBenchVerdicts(start time.Time) *benchVerdicts {
	return &benchVerdicts{start: start, at: make(map[string]*benchVerdict), ever: make(map[leak.Cohort]bool)}
}

// look reads the operator API.
func (b *benchVerdicts) look(ctx context.Context, cl *client, out *benchRun) error {
	var page api.Page[store.LeakVerdict]
	if err := cl.do(ctx, http.MethodGet, "/api/v1/verdicts", url.Values{"limit": {"1000"}}, nil, &page); err != nil {
		return err
	}
	return b.take(page.Items, out)
}

// take follows verdicts as they stand, those that changed last first.
func (b *benchVerdicts) take(list []store.LeakVerdict, out *benchRun) error {
	// What the comparison says of the cohort counts before what a gateway does.
	named := leak.CohortUnknown
	for _, v := range list {
		hour := v.Time.Sub(b.start).Hours()
		cohort := leak.Cohort(v.Cohort)
		if named == leak.CohortUnknown || v.Process == leak.Fleet && cohort != leak.CohortUnknown {
			named = cmp.Or(cohort, named)
		}
		if cohort != leak.CohortUnknown && !b.ever[cohort] {
			b.ever[cohort] = true
			out.Ever = append(out.Ever, cohort)
		}
		if known := b.at[v.ID]; known != nil {
			known.Cohort = cohort
			continue
		}
		list := &out.Fleet
		if v.Process != leak.Fleet {
			var i int
			if _, err := fmt.Sscanf(v.Process, "gateway/gw-%d", &i); err != nil || i >= len(out.Gateways) {
				return fmt.Errorf("a verdict of process %s, which is none of the run's", v.Process)
			}
			list = &out.Gateways[i].Verdicts
		}
		known := &benchVerdict{hour, leak.Class(v.Class), cohort, v.Summary}
		*list, b.at[v.ID] = append(*list, known), known
	}
	for i := range out.Gateways {
		slices.SortStableFunc(out.Gateways[i].Verdicts, earlier)
	}
	slices.SortStableFunc(out.Fleet, earlier)
	out.Named = named
	return nil
}

func earlier(a, b *benchVerdict) int { return cmp.Compare(a.Hour, b.Hour) }

// outcome is a run in a line.
func (r *benchRun) outcome() string {
	var parts []string
	for i, g := range r.Gateways {
		if len(g.Verdicts) > 0 {
			v := g.Verdicts[0]
			parts = append(parts, fmt.Sprintf("gw-%d %s at hour %.0f", i, v.Class, v.Hour))
		}
	}
	if len(r.Fleet) > 0 {
		parts = append(parts, fmt.Sprintf("comparison %s at hour %.0f", r.Fleet[0].Class, r.Fleet[0].Hour))
	}
	if len(parts) == 0 {
		parts = append(parts, "silence")
	}
	if r.Named != leak.CohortUnknown {
		parts = append(parts, "cohort "+string(r.Named))
	}
	if r.Leaks {
		parts = append(parts, fmt.Sprintf("onset hour %.0f", r.Onset))
	}
	return strings.Join(parts, ", ")
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
