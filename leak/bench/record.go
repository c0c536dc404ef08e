package bench

import (
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"holdfast/leak"
)

// Record is a run with the series that its detectors saw, as --keep saves
// it and --replay reads it.
type Record struct {
	Run    Run             `json:"run"`
	Start  time.Time       `json:"start"`  // of the simulated time
	Series [][]leak.Report `json:"series"` // of each gateway, a block every ten minutes
}

// maxRecord is the largest record that is read, in bytes without compression:
// 16 gateways for two weeks are a quarter of it.
const maxRecord = 256 << 20

// Save writes the outcome and the series of a run.
func (r *Run) Save(dir string) error {
	rec := Record{Run: *r, Start: r.Start}
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

// ReadRecord reads what Save wrote.
func ReadRecord(file string) (Record, error) {
	var rec Record
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

// Replay lets this program's detectors judge what real gateways did. Verdicts of
// retained connections are an exact count and stay as they were.
func (rec *Record) Replay() (Run, error) {
	run := rec.Run
	run.Fleet, run.Named, run.Ever = nil, "", nil
	run.Start = rec.Start
	seen := NewVerdicts(rec.Start)
	standing := make(map[string]leak.Verdict)
	for i := range run.Gateways {
		g := &run.Gateways[i]
		g.Verdicts = slices.DeleteFunc(g.Verdicts, func(v *Verdict) bool { return v.Class != leak.Retained })
		g.RawMK, g.OLS, g.BlockMK, g.FirstRSS = nil, nil, nil, 0
		g.series = rec.Series[i]
		for _, b := range rec.Series[i] {
			end := b.Time().Sub(rec.Start)
			run.hours = max(run.hours, int(end.Round(time.Hour).Hours()))
			g.block(b, (end - leak.BlockTime).Hours(), run.Onset)
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
	replay(rec.Start, rec.Series, func(v leak.Verdict) {
		if err != nil || v.Class == leak.Retained {
			return
		}
		standing[v.ID] = v
		rows := slices.SortedFunc(maps.Values(standing), func(a, b leak.Verdict) int {
			return cmp.Or(b.Changed.Compare(a.Changed), cmp.Compare(b.ID, a.ID))
		})
		named := run.Named
		err = seen.Take(rows, &run)
		run.Named = cmp.Or(run.Named, named)
	})
	return run, err
}
