package hunt

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"holdfast/memory"
)

// Activity is one kind of events that an experiment provokes.
type Activity struct {
	// Cohort is whose events they are, such as "mutual-TLS". Empty if there are no
	// cohorts.
	Cohort string
	// Event is one event in words, such as "reconnect"; "second" of idling.
	Event string
	// Do provokes events for about the given time and returns when all that they
	// opened is closed again. It ends early with ctx.
	Do func(ctx context.Context, d time.Duration) (Done, error)
}

// Name is cohort and event: "mutual-TLS reconnect".
func (a *Activity) Name() string {
	if a.Cohort == "" {
		return a.Event
	}
	return a.Cohort + " " + a.Event
}

// Done is what came of an activity.
type Done struct {
	Events float64 // that happened as intended
	Failed int     // that did not
	Reason string  // of a failure, empty if there was none
}

// Experiment runs activities against a process in alternating blocks, lets it
// settle after each, reads its memory, and attributes growth to events.
//
// It first warms the process up until its memory stays flat, because what
// saturates (pools, caches, an allocator that keeps freed pages) is retention
// and no leak. Then comes the trial: rounds that hold each activity once, in
// random order. What grows significantly, and still grows in the second half of
// the trial, is a suspect, and each suspect is put to a confirmation, blocks of
// its activity alone. A leak is what is found there as well.
type Experiment struct {
	Source memory.Source
	// Collect says that Source is a memory.Collector and can collect.
	Collect    bool
	Activities []Activity
	// Duration is the time of the whole. Zero means 15 minutes. An experiment with
	// nothing to confirm ends earlier; a short one with several suspects may take some
	// seconds longer.
	Duration time.Duration
	// Seed makes the order of blocks reproducible.
	Seed uint64
	// Floor is how many bytes per event count as a leak. Zero means 32.
	Floor float64
	// Stir is a storm of events, always the same, that follows each block before
	// the process is read. What a process keeps of small pieces goes into free
	// room at first: its resident set grows only when the next activity needs that
	// room, and that activity would be blamed. The storm needs the same room after
	// every block. It returns the events that it made itself, by activity. May be
	// nil.
	Stir func(ctx context.Context) ([]float64, error)
	// Capture keeps evidence of an activity that leaks. It is called three times
	// (at 0, 1, 2) with a block of the activity between the calls. May be nil.
	Capture func(ctx context.Context, activity *Activity, at int) error
	// Progress is told before each block. May be nil.
	Progress func(Progress)
}

// Phase is a part of an experiment.
type Phase string

const (
	PhaseWarmUp   Phase = "warm-up"
	PhaseTrial    Phase = "trial"
	PhaseConfirm  Phase = "confirmation"
	PhaseEvidence Phase = "evidence"
)

// Progress is where an experiment is.
type Progress struct {
	Phase    Phase
	Round    int           // from 1
	Rounds   int           // of the phase, at most
	Activity string        // of the block that begins
	RSS      int64         // bytes, of the last reading
	Gone     time.Duration // since the experiment began
	Left     time.Duration // at most
}

// where is the progress in words: "the trial, round 3 of 6".
func (p *Progress) where() string {
	if p.Phase == "" {
		return "the first reading"
	}
	return fmt.Sprintf("the %s, round %d of %d", p.Phase, p.Round, p.Rounds)
}

// Block is a time in which one activity ran, and the settled reading after it.
type Block struct {
	Phase    Phase `json:"phase"`
	Round    int   `json:"round"`
	Activity int   `json:"activity"` // index; -1 before the first
	// Events that happened, and attempts that failed. Stirred are those of the
	// storm after the block, by activity.
	Events  float64   `json:"events"`
	Failed  int       `json:"failed,omitempty"`
	Stirred []float64 `json:"stirred,omitempty"`
	// At is the time of the reading since the experiment began, in seconds.
	At       float64              `json:"at"`
	Readings map[Quantity]float64 `json:"readings"`

	growth map[Quantity]float64 // since the reading before
}

const (
	defaultDuration = 15 * time.Minute
	defaultFloor    = 32
	// mostWarmUps bounds the warm-up: an allocator is at its limit after about
	// six storms, and a leak never gets flat.
	mostWarmUps = 6
	warmUpShare = 0.25 // of Duration, at most
	// trialShare is the trial's part of what the warm-up left.
	trialShare          = 0.66
	mostRounds          = 12
	leastRounds         = 6
	confirmBlocks       = 5 // the first of them does not count
	shortestBlock       = 300 * time.Millisecond
	longestSettle       = 4 * time.Second
	comfortableBlock    = 4 * time.Second // with which there are more rounds rather than longer blocks
	mostEvidence        = 3               // activities of which evidence is kept
	failuresBeforeError = 20
)

// LeastDuration is the shortest experiment with so many activities.
func LeastDuration(activities int) time.Duration {
	block := shortestBlock + 300*time.Millisecond
	return time.Duration(float64(activities*leastRounds)*float64(block)/trialShare/(1-warmUpShare)).Round(time.Second) + time.Second
}

// experiment is a running Experiment.
type experiment struct {
	Experiment
	began  time.Time
	random *rand.Rand
	report *Report

	first, last memory.Sample
	connections int64         // that are always there: the least seen at rest
	settling    time.Duration // how long the last storm and reading took
	trying      time.Duration // how long a block of the trial took
	failures    []int         // by activity: in a row, without an event between
	at          Progress
}

// Run runs the experiment. If it ends early, with ctx or because the process went
// away, the report says what was seen until then, Report.Ended where and why it
// ended, and the error as well. Without a single reading there is no report.
func Run(ctx context.Context, e Experiment) (*Report, error) {
	if e.Duration == 0 {
		e.Duration = defaultDuration
	}
	if e.Floor == 0 {
		e.Floor = defaultFloor
	}
	if len(e.Activities) == 0 {
		return nil, errors.New("hunt: no activities")
	}
	if least := LeastDuration(len(e.Activities)); e.Duration < least {
		return nil, fmt.Errorf("hunt: %s is too short for %d activities, they need %s", e.Duration, len(e.Activities), least)
	}
	x := &experiment{Experiment: e, began: time.Now(), random: rand.New(rand.NewPCG(e.Seed, 0)), connections: -1, failures: make([]int, len(e.Activities))}
	x.report = newReport(&x.Experiment, x.began)
	err := x.run(ctx)
	x.report.Took = time.Since(x.began).Seconds()
	if err == nil {
		return x.report, nil
	}
	if ctx.Err() != nil {
		err = errInterrupted
	}
	err = fmt.Errorf("ended in %s: %w", x.at.where(), err)
	if len(x.report.Blocks) == 0 {
		return nil, err
	}
	x.report.end(err.Error(), x.Floor)
	return x.report, err
}

var errInterrupted = errors.New("interrupted")

func (x *experiment) run(ctx context.Context) error {
	if err := x.read(ctx); err != nil {
		return err
	}
	x.first = x.last
	x.report.begin(x.first)
	if err := x.warmUp(ctx); err != nil {
		return err
	}
	if err := x.trial(ctx); err != nil {
		return err
	}
	x.report.judge(x.Floor)
	if err := x.confirm(ctx); err != nil {
		return err
	}
	x.report.conclude(x.Floor)
	return x.evidence(ctx)
}

// left is the time to the end.
func (x *experiment) left() time.Duration { return x.Duration - time.Since(x.began) }

// warmUp runs rounds until one leaves the memory as it was.
func (x *experiment) warmUp(ctx context.Context) error {
	budget := time.Duration(warmUpShare * float64(x.Duration))
	kinds := len(x.Activities)
	// As long as a block of the trial will be, at a guess.
	block := max(shortestBlock, time.Duration(float64(x.Duration)*(1-warmUpShare)*trialShare)/time.Duration(kinds*mostRounds)-500*time.Millisecond)
	block = min(block, max(shortestBlock, budget/time.Duration(3*kinds)-300*time.Millisecond))
	still := 0
	for round := 1; round <= mostWarmUps && still < 2; round++ {
		start, began := x.last, time.Now()
		for a := range x.Activities {
			if err := x.block(ctx, PhaseWarmUp, round, mostWarmUps, a, block); err != nil {
				return err
			}
		}
		x.report.WarmUps = round
		if x.last.RSS-start.RSS < max(256<<10, start.RSS/100) {
			still++
		} else {
			still = 0
		}
		if time.Since(x.began)+time.Since(began) > budget {
			break
		}
	}
	return nil
}

// trial runs rounds of all activities in random order.
func (x *experiment) trial(ctx context.Context) error {
	kinds := len(x.Activities)
	budget := time.Duration(trialShare * float64(x.left()))
	end := time.Now().Add(budget)
	rounds := int(budget / time.Duration(kinds) / (comfortableBlock + x.settling))
	rounds = min(mostRounds, max(leastRounds, rounds))
	for round := 1; round <= rounds; round++ {
		for i, a := range x.random.Perm(kinds) {
			blocks := (rounds-round)*kinds + kinds - i
			block := max(shortestBlock, time.Until(end)/time.Duration(blocks)-x.settling)
			x.trying = block
			if err := x.block(ctx, PhaseTrial, round, rounds, a, block); err != nil {
				return err
			}
		}
		x.report.Rounds = round
	}
	return nil
}

// confirm runs each suspect's activity alone, and that of which least is known. A few events would acquit
// everybody: it takes longer than was planned rather than have fewer of them than
// half of the trial's.
func (x *experiment) confirm(ctx context.Context) error {
	suspects := x.report.toConfirm()
	if len(suspects) == 0 {
		return nil
	}
	evidence := 0
	if x.Capture != nil {
		evidence = 2 * min(len(suspects), mostEvidence)
	}
	for i, a := range suspects {
		for n := range confirmBlocks {
			blocks := (len(suspects)-i)*confirmBlocks - n + evidence
			block := max(x.trying/2, x.left()/time.Duration(blocks)-x.settling)
			if err := x.block(ctx, PhaseConfirm, n+1, confirmBlocks, a, block); err != nil {
				return err
			}
		}
	}
	return nil
}

// evidence captures what the leaking activities leave behind.
func (x *experiment) evidence(ctx context.Context) error {
	leaking := x.report.leaking()
	leaking = leaking[:min(len(leaking), mostEvidence)]
	if x.Capture == nil {
		return nil
	}
	for i, a := range leaking {
		for at := range 3 {
			if at > 0 {
				block := max(shortestBlock, x.left()/time.Duration(2*(len(leaking)-i)-at+1)-x.settling)
				if err := x.block(ctx, PhaseEvidence, at, 2, a, block); err != nil {
					return err
				}
			}
			if err := x.Capture(ctx, &x.Activities[a], at); err != nil {
				return fmt.Errorf("evidence of %s: %w", x.Activities[a].Name(), err)
			}
		}
	}
	return nil
}

func (x *experiment) tell(phase Phase, round, rounds int, activity string) {
	x.at = Progress{Phase: phase, Round: round, Rounds: rounds, Activity: activity, RSS: x.last.RSS, Gone: time.Since(x.began), Left: max(0, x.left())}
	if x.Progress != nil {
		x.Progress(x.at)
	}
}

// block runs an activity, waits until the process has settled, and reads it.
func (x *experiment) block(ctx context.Context, phase Phase, round, rounds, a int, d time.Duration) error {
	activity := &x.Activities[a]
	x.tell(phase, round, rounds, activity.Name())
	done, err := activity.Do(ctx, d)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return err
	}
	if done.Events > 0 {
		x.failures[a] = 0
	} else if x.failures[a] += max(1, done.Failed); x.failures[a] > failuresBeforeError {
		return fmt.Errorf("%s: none of %d attempts went as intended: %s", activity.Name(), x.failures[a], done.Reason)
	}
	b := Block{Phase: phase, Round: round, Activity: a, Events: done.Events, Failed: done.Failed}
	began := time.Now()
	if x.Stir != nil {
		if b.Stirred, err = x.Stir(ctx); err != nil {
			return err
		}
	}
	before := x.last
	if err := x.read(ctx); err != nil {
		return err
	}
	x.settling = time.Since(began)
	b.At, b.Readings, b.growth = x.last.Time.Sub(x.began).Seconds(), readings(x.last), growth(before, x.last)
	x.report.add(b, done.Reason)
	return nil
}

// settleInterval is the time between two looks at a process that settles.
const settleInterval = 60 * time.Millisecond

// read waits until the process has settled and reads it: the events' connections
// are gone, a collection was run if the source can run one, and the resident set
// stays where it is.
func (x *experiment) read(ctx context.Context) error {
	start := time.Now()
	var last memory.Sample
	for looks := 0; ; looks++ {
		// The first collection finds what finalizers hold, the second frees it.
		s, err := x.look(ctx)
		if err != nil && x.first.PID != 0 && ctx.Err() == nil {
			return fmt.Errorf("process %d cannot be read any more, it may have crashed or been restarted: %w", x.first.PID, err)
		}
		if err != nil {
			return err
		}
		if x.first.PID != 0 && (s.PID != x.first.PID || !s.Started.Equal(x.first.Started)) {
			return fmt.Errorf("the process was replaced, it has crashed or was restarted: it was pid %d, started %s, and is pid %d, started %s",
				x.first.PID, x.first.Started.Format(time.RFC3339), s.PID, s.Started.Format(time.RFC3339))
		}
		late := time.Since(start) > longestSettle
		steady := looks > 0 && abs(s.RSS-last.RSS) <= max(32<<10, s.RSS/4096)
		resting := x.connections < 0 || s.Counts[memory.Connections] <= x.connections
		last = s
		if late || steady && resting && looks >= 2 {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(settleInterval):
		}
	}
	x.last = last
	if n, known := last.Counts[memory.Connections]; known && (x.connections < 0 || n < x.connections) {
		x.connections = n
	}
	return nil
}

// look reads once, after a collection if the source can run one.
func (x *experiment) look(ctx context.Context) (memory.Sample, error) {
	if !x.Collect {
		return x.Source.Read(ctx)
	}
	if c, ok := x.Source.(memory.CollectedReader); ok {
		return c.ReadCollected(ctx)
	}
	if err := x.Source.(memory.Collector).CollectGarbage(ctx); err != nil {
		return memory.Sample{}, err
	}
	return x.Source.Read(ctx)
}

func abs(n int64) int64 {
	if n < 0 {
		return -n
	}
	return n
}
