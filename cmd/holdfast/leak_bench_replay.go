package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"holdfast/leak/bench"
)

// replay lets this program's detectors judge what real gateways did in runs that
// were kept. Verdicts of retained connections are an exact count and stay as they
// were.
func (c *leakBench) replay(e *env) error {
	files, err := filepath.Glob(filepath.Join(c.Replay, "run-*.json.gz"))
	if err != nil || len(files) == 0 {
		return &usageError{fmt.Sprintf("--replay %s: no run-….json.gz there; --keep writes them", c.Replay)}
	}
	runs := make([]bench.Run, len(files))
	eg, ctx := errgroup.WithContext(e.ctx)
	eg.SetLimit(cmp.Or(c.Parallel, runtime.GOMAXPROCS(0)))
	for i, file := range files {
		eg.Go(func() error {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			rec, err := bench.ReadRecord(file)
			if err == nil {
				runs[i], err = rec.Replay()
			}
			if i > 0 {
				runs[i].Forget()
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
		c.Hours = max(c.Hours, r.Hours())
	}
	c.Seeds = int(last - c.First + 1)
	rep := bench.Score(c.plan(), version, len(runs), runs)
	return e.print(rep, rep.Print)
}
