package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"
)

// maxLeakVerdicts is how many verdicts are kept; beyond it the oldest go. A test
// has fewer.
var maxLeakVerdicts = 10_000

// maxLeakText bounds each text of a verdict, in bytes.
const maxLeakText = 1024

// LeakVerdict says that a class of a process's memory leaks. Its fields are those of
// the leak detector's verdicts.
type LeakVerdict struct {
	ID          string       `json:"id"`
	Process     string       `json:"process" doc:"Role and name of the process, such as gateway/gw-1; fleet for a verdict over all gateways"`
	Class       string       `json:"class" doc:"What grows: a class of memory, or goroutines, threads, files, retained connections"`
	Cohort      string       `json:"cohort,omitempty" doc:"Kind of connections that it belongs to: tls, mtls, both, or undetermined"`
	State       string       `json:"state" enum:"leak,urgent,ok" doc:"ok: it no longer grows"`
	Time        time.Time    `json:"time" doc:"Of the verdict"`
	Changed     time.Time    `json:"changed" doc:"When anything about it changed last"`
	Ended       time.Time    `json:"ended,omitzero"`
	Onset       time.Time    `json:"onset,omitzero" doc:"When the growth began, as fitted"`
	Kept        float64      `json:"kept" doc:"What has leaked since, bytes or things"`
	WindowHours int          `json:"window_hours" doc:"The shortest window that shows it"`
	Growth      float64      `json:"growth" doc:"In that window, bytes or things"`
	P           float64      `json:"p" doc:"Probability of such a trend if there is none"`
	Forecast    LeakForecast `json:"forecast"`
	Summary     string       `json:"summary" doc:"All of it in a line"`
}

// LeakForecast is how fast a leak is and when it will hurt; what is unknown is 0.
type LeakForecast struct {
	PerDay       LeakEstimate `json:"per_day" doc:"Growth in a day, bytes or things"`
	PerReconnect LeakEstimate `json:"per_reconnect" doc:"Growth for each new connection"`
	RSSPerDay    LeakEstimate `json:"rss_per_day_bytes" doc:"What the resident set grows by in a day"`
	HoursToLimit LeakEstimate `json:"hours_to_limit" doc:"Until the memory limit; low is the earliest"`
	PodsPerWeek  LeakEstimate `json:"pods_per_week" doc:"What an autoscaler on memory would add in a week"`
}

// LeakEstimate is a figure with its interval of 90 %.
type LeakEstimate struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// SaveLeakVerdict records a verdict, or what changed about it. An older version of
// one that is there changes nothing; a cohort that was found stays unless a
// newer one is told. Beyond 10,000 the oldest go.
func (c *CSMS) SaveLeakVerdict(ctx context.Context, v LeakVerdict) error {
	for _, text := range []*string{&v.ID, &v.Process, &v.Class, &v.Cohort, &v.State, &v.Summary} {
		*text = (*text)[:min(len(*text), maxLeakText)]
	}
	forecast, err := json.Marshal(v.Forecast)
	if err != nil {
		return err
	}
	return c.update(ctx, "verdict", func(tx *Tx) error {
		_, err := tx.exec(`INSERT INTO leak_verdict (id, process, class, cohort, state, at, changed, ended, onset, kept, window_hours, growth, p, forecast, summary)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
			ON CONFLICT (id) DO UPDATE SET cohort = CASE WHEN excluded.cohort = '' THEN leak_verdict.cohort ELSE excluded.cohort END,
				state = excluded.state, changed = excluded.changed, ended = excluded.ended, onset = excluded.onset,
				kept = excluded.kept, forecast = excluded.forecast, summary = excluded.summary
			WHERE excluded.changed >= leak_verdict.changed`,
			v.ID, v.Process, v.Class, v.Cohort, v.State, micros(v.Time), micros(v.Changed), micros(v.Ended), micros(v.Onset),
			v.Kept, v.WindowHours, v.Growth, v.P, string(forecast), v.Summary)
		if err != nil {
			return err
		}
		_, err = tx.exec(`DELETE FROM leak_verdict WHERE changed < (SELECT changed FROM leak_verdict ORDER BY changed DESC, id DESC LIMIT 1 OFFSET $1)`, maxLeakVerdicts-1)
		return err
	})
}

// LeakVerdictFilter chooses verdicts; zero fields choose all.
type LeakVerdictFilter struct {
	Process string
	Class   string
	Open    bool // only those that have not ended
}

// LeakVerdicts lists verdicts, those that changed last first.
func (c *CSMS) LeakVerdicts(ctx context.Context, f LeakVerdictFilter, p Page) (List[LeakVerdict], error) {
	before, id := int64(1)<<62, maxID
	if err := p.key(&before, &id); err != nil {
		return List[LeakVerdict]{}, err
	}
	var w where
	w.add(`(changed < ? OR changed = ? AND id < ?)`, before, before, id)
	if f.Process != "" {
		w.add(`process = ?`, f.Process)
	}
	if f.Class != "" {
		w.add(`class = ?`, f.Class)
	}
	if f.Open {
		w.add(`ended = ?`, micros(time.Time{}))
	}
	return list(ctx, c.db, p, `SELECT id, process, class, cohort, state, at, changed, ended, onset, kept, window_hours, growth, p, forecast, summary FROM leak_verdict`+
		w.sql(` ORDER BY changed DESC, id DESC LIMIT ?`, p.limit()+1), w.args,
		func(rows *sql.Rows) (v LeakVerdict, err error) {
			var at, changed, ended, onset int64
			var forecast string
			err = rows.Scan(&v.ID, &v.Process, &v.Class, &v.Cohort, &v.State, &at, &changed, &ended, &onset,
				&v.Kept, &v.WindowHours, &v.Growth, &v.P, &forecast, &v.Summary)
			if err == nil {
				err = json.Unmarshal([]byte(forecast), &v.Forecast)
			}
			v.Time, v.Changed, v.Ended, v.Onset = fromMicros(at), fromMicros(changed), fromMicros(ended), fromMicros(onset)
			return v, err
		}, func(v LeakVerdict) []any { return []any{micros(v.Changed), v.ID} })
}
