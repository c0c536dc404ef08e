package main

import (
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/leak"
	"holdfast/store"
)

// benchRecord is a run with the series that its detectors saw, as --keep saves
// it and --replay reads it.
type benchRecord struct {
	Run    benchRun        `json:"run"`
	Start  time.Time       `json:"start"`  // of the simulated time
	Series [][]leak.Report `json:"series"` // of each gateway, a block every ten minutes
}

// maxRecord is the largest record that is read, in bytes without compression:
// 16 gateways for two weeks are a quarter of it.
const maxRecord = 256 << 20

// save writes the outcome and the series of a run.
func (r *benchRun) save(dir string) error {
	rec := benchRecord{Run: *r, Start: r.start}
	for _, g := range r.Gateways {
		rec.Series = append(rec.Series, g.series)
	}
	f, err := os.OpenFile(dir+".json.gz", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	z := gzip.NewWriter(f)
	if err := json.NewEncoder(z).Encode(rec); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Close()
}

func readRecord(file string) (benchRecord, error) {
	var rec benchRecord
	f, err := os.Open(file)
	if err != nil {
		return rec, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return rec, fmt.Errorf("%s: %w", file, err)
	}
	if err := json.NewDecoder(io.LimitReader(z, maxRecord)).Decode(&rec); err != nil {
		return rec, fmt.Errorf("%s: %w", file, err)
	}
	if len(rec.Series) != len(rec.Run.Gateways) {
		return rec, fmt.Errorf("%s: %d series of %d gateways", file, len(rec.Series), len(rec.Run.Gateways))
	}
	return rec, nil
}

// replay lets this program's detectors judge what real gateways did in runs that
// were kept. Verdicts of retained connections are an exact count and stay as they
// were.
func (c *leakBench) replay(e *env) error {
	files, err := filepath.Glob(filepath.Join(c.Replay, "run-*.json.gz"))
	if err != nil || len(files) == 0 {
		return &usageError{fmt.Sprintf("--replay %s: no run-….json.gz there; --keep writes them", c.Replay)}
	}
	runs := make([]benchRun, len(files))
	eg, ctx := errgroup.WithContext(e.ctx)
	eg.SetLimit(cmp.Or(c.Parallel, runtime.GOMAXPROCS(0)))
	for i, file := range files {
		eg.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			rec, err := readRecord(file)
			if err == nil {
				runs[i], err = rec.replay()
			}
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	c.First, c.Seeds, c.Hours = runs[0].Seed, 0, 0
	last := runs[0].Seed
	for _, r := range runs {
		c.First, last = min(c.First, r.Seed), max(last, r.Seed)
		c.Hours = max(c.Hours, r.hours)
	}
	c.Seeds = int(last - c.First + 1)
	rep := scoreBench(c, len(runs), runs)
	return e.print(rep, rep.print)
}

func (rec *benchRecord) replay() (benchRun, error) {
	run := rec.Run
	run.Fleet, run.Named, run.Ever = nil, "", nil
	run.start = rec.Start
	seen := newBenchVerdicts(rec.Start)
	standing := make(map[string]store.LeakVerdict)
	for i := range run.Gateways {
		g := &run.Gateways[i]
		g.Verdicts = slices.DeleteFunc(g.Verdicts, func(v *benchVerdict) bool { return v.Class != leak.Retained })
		g.RawMK, g.OLS, g.BlockMK, g.FirstRSS = nil, nil, nil, 0
		var naive leak.Naive
		for _, b := range rec.Series[i] {
			end := b.Time().Sub(rec.Start)
			run.hours = max(run.hours, int(end.Round(time.Hour).Hours()))
			g.block(b, (end - benchStep).Hours(), run.Onset, &naive)
		}
	}
	for _, g := range run.Gateways {
		for _, v := range g.Verdicts {
			if v.Cohort != leak.CohortUnknown && !slices.Contains(run.Ever, v.Cohort) {
				run.Ever = append(run.Ever, v.Cohort)
			}
			run.Named = cmp.Or(v.Cohort, run.Named)
		}
	}
	var err error
	leak.Replay(rec.Start, rec.Series, func(v leak.Verdict) {
		if err != nil || v.Class == leak.Retained {
			return
		}
		standing[v.ID] = recorded(v)
		rows := slices.SortedFunc(maps.Values(standing), func(a, b store.LeakVerdict) int {
			return cmp.Or(b.Changed.Compare(a.Changed), cmp.Compare(b.ID, a.ID))
		})
		named := run.Named
		err = seen.take(rows, &run)
		run.Named = cmp.Or(run.Named, named)
	})
	return run, err
}
