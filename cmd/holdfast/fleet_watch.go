package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	fleetreport "holdfast/fleet/report"
	"holdfast/fleet/scenario"
)

// fleetWatch follows a run to its end.
type fleetWatch struct {
	command  *fleetRun
	env      *env
	scenario *scenario.Scenario
	run      *scenario.Run
	recorder *fleetreport.Recorder
	operator *fleetOperator // nil: no API
	length   time.Duration  // of the plan

	started time.Time
	drawn   int // lines on the terminal that the next ones replace
	lines   int // seconds since the last line of what is no terminal
}

// Times of a run.
const (
	fleetGatherTime = 40 * time.Second // for the stations to come back after a signal: longer than a usual back-off, 34 s
	fleetSettleTime = 2 * time.Minute  // for the queues to drain at the end
	lineEvery       = 5                // seconds between two lines where there is no terminal
)

// whole runs the scenario, lets the stations settle, and compares the record.
func (w *fleetWatch) whole() (fleetreport.Result, error) {
	ctx := w.env.ctx
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	plan, endPlan := context.WithCancel(ctx)
	defer endPlan()
	planDone, ended := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	var failed error
	wg.Go(func() {
		defer close(ended)
		failed = w.run.Run(running, plan, planDone)
	})
	wg.Go(func() { keepPace(running, w.run.Presence) })
	defer wg.Wait()
	defer stop()
	w.started = time.Now()
	res := fleetreport.Result{Scenario: w.scenario.Name, About: w.scenario.About, Seed: w.command.Seed, Shard: w.command.Shard, Started: w.started}

	until, over := plan, planDone
	if w.command.Scenario == "" { // a plain run goes on when everybody is there
		over = nil
		if w.length = w.command.For; w.length > 0 {
			var cancel context.CancelFunc
			until, cancel = context.WithTimeout(plan, w.length)
			defer cancel()
		}
	}
	w.follow(until.Done(), over, ended, w.run.Phase)
	endPlan()
	select {
	case <-planDone: // so that nothing is done to stations that settle
	case <-ended:
		wg.Wait()
		return res, errors.Join(failed, ctx.Err())
	}
	settles := w.command.Scenario != "" || w.command.Settle
	if ctx.Err() != nil {
		note := fmt.Sprintf("ended by a signal after %s", time.Since(w.started).Round(time.Second))
		if w.length > 0 {
			note += fmt.Sprintf(" of %s", w.length.Round(time.Second))
		}
		res.Notes = append(res.Notes, note)
		if settles { // those in the middle of coming back may do so before they are counted
			w.beside(running, fleetGatherTime, ended, "gather", w.run.Gather)
		}
	}
	stats := w.run.Stats()
	res.Wanted = w.run.Wanted()
	atEnd := 0
	for _, n := range stats.Connected {
		atEnd += n
	}
	if settles {
		if err := w.beside(running, fleetSettleTime, ended, "settle", w.run.Settle); err != nil {
			res.Undelivered = w.run.Stats().Queued
			res.Notes = append(res.Notes, fmt.Sprintf("the stations' queues did not drain: %s", err))
		}
	}
	res = w.recorder.Result(res, w.run.Stats())
	res.Connected, res.Counts, res.Seconds = atEnd, w.run.Counts(), time.Since(w.started).Seconds()
	ledgers := w.run.Ledgers()
	for _, l := range ledgers {
		for range l.Transactions() {
			res.Transactions++
		}
	}
	stop()
	wg.Wait()
	w.clear()
	if failed != nil {
		return res, failed
	}
	if w.command.Ledger != "" {
		if err := writeLedgers(w.command.Ledger, ledgers); err != nil {
			return res, err
		}
	}
	if w.operator != nil && settles {
		// Ended by a signal: the verdict is still wanted.
		r, err := w.operator.verify(context.WithoutCancel(ctx), ledgers)
		if err != nil {
			return res, err
		}
		res.Compare(r)
	}
	return res, nil
}

// beside does one of the run's last things, for a limited time, and follows it.
func (w *fleetWatch) beside(ctx context.Context, limit time.Duration, ended <-chan struct{}, phase string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan struct{})
	var err error
	go func() {
		defer close(done)
		err = do(ctx)
	}()
	w.follow(done, nil, ended, func() string { return phase })
	cancel()
	<-done
	return err
}

// follow samples and shows the run once a second until one of the channels closes.
func (w *fleetWatch) follow(a <-chan struct{}, b, c <-chan struct{}, phase func() string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		end := false
		select {
		case <-a:
			end = true
		case <-b:
			end = true
		case <-c:
			end = true
		case <-tick.C:
		}
		w.sample(phase())
		if end {
			return
		}
	}
}

func (w *fleetWatch) sample(phase string) {
	at, stats, wanted := time.Since(w.started), w.run.Stats(), w.run.Wanted()
	w.recorder.Sample(at, phase, wanted, stats)
	if w.env.json {
		return
	}
	live := fleetreport.Live{Scenario: w.scenario.Name, Phase: phase, At: at, Length: w.length, Wanted: wanted, Stats: stats,
		Last: w.recorder.Last(), Calls: w.recorder.Calls(), Connects: w.recorder.Connects()}
	if !terminal(w.env.stdout) {
		if w.lines++; w.lines >= lineEvery {
			w.lines = 0
			fmt.Fprintln(w.env.stdout, live.Line())
		}
		return
	}
	w.clear()
	lines := live.Lines()
	if f, ok := w.env.stdout.(interface{ Fd() uintptr }); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			for i := range lines { // a line that wraps would not be replaced whole
				lines[i] = cut(lines[i], width)
			}
		}
	}
	w.drawn = len(lines)
	fmt.Fprintln(w.env.stdout, strings.Join(lines, "\n"))
}

// cut shortens a line to so many characters.
func cut(line string, width int) string {
	if r := []rune(line); width > 0 && len(r) > width {
		return string(r[:width-1]) + "…"
	}
	return line
}

// clear removes the live view from the terminal.
func (w *fleetWatch) clear() {
	if w.drawn > 0 {
		fmt.Fprintf(w.env.stdout, "\x1b[%dA\x1b[J", w.drawn)
		w.drawn = 0
	}
}

// writers are the forms of a report, by the ending of its file.
var writers = map[string]func(*fleetreport.Result, io.Writer) error{
	".html": (*fleetreport.Result).WriteHTML,
	".json": (*fleetreport.Result).WriteJSON,
	".xml":  (*fleetreport.Result).WriteJUnit,
}

// finish writes the reports, prints the result, and fails if a verdict is bad.
func (c *fleetRun) finish(e *env, res *fleetreport.Result) error {
	var unwritten []error // the result is told all the same
	for _, file := range c.Report {
		var b bytes.Buffer
		err := writers[filepath.Ext(file)](res, &b)
		if err == nil {
			err = os.WriteFile(file, b.Bytes(), 0o644)
		}
		if err != nil {
			unwritten = append(unwritten, fmt.Errorf("report: %w", err))
		}
	}
	err := e.print(res, func(w io.Writer) {
		for _, line := range res.Lines() {
			fmt.Fprintln(w, plain(line))
		}
	})
	if err = errors.Join(append(unwritten, err)...); err == nil && res.Failed() {
		return errSilent
	}
	return err
}
