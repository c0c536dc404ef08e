package csms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"holdfast/ocpp"
	"holdfast/store"
)

const (
	maxOperations = 64          // that one process works on at a time
	claimEvery    = time.Second // looks for operations that are due
	claimPause    = 20 * time.Millisecond
	holdTime      = 20 * time.Second // another process takes over after it
	holdEvery     = 5 * time.Second
	maxTries      = 5                // in vain, of one step
	maxSteps      = 50               // that one operation takes in a row
	maxWait       = time.Hour        // between two looks at an operation
	maxRetryWait  = 10 * time.Minute // between two tries
)

// operations works on what is due.
type operations struct {
	holder string        // this process, among those of the record
	wake   chan struct{} // something is due before the next look

	mu   sync.Mutex
	held map[string]bool // ids of operations that this process works on
}

func newOperations() operations {
	return operations{holder: uuid.NewString(), wake: make(chan struct{}, 1), held: make(map[string]bool)}
}

// wakeOperations has this process look for operations that are due. Others do
// within a second.
func (c *CSMS) wakeOperations() {
	select {
	case c.operations.wake <- struct{}{}:
	default:
	}
}

func (o *operations) begin(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held[id] = true
}

func (o *operations) end(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.held, id)
}

// working are the ids of operations that this process works on.
func (o *operations) working() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Keys(o.held))
}

// runOperations works on operations until ctx ends, and waits for the steps that
// are being done.
func (c *CSMS) runOperations(ctx context.Context) error {
	if c.authority == nil {
		return nil
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	claim, hold := time.NewTicker(claimEvery), time.NewTicker(holdEvery)
	defer claim.Stop()
	defer hold.Stop()
	report := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			c.log.Warn(what, "err", err)
		}
	}
	for {
		if _, err := c.store.ReleaseOperations(ctx, c.now()); err != nil {
			report("begin operations of campaigns", err)
		}
		if free := maxOperations - len(c.operations.working()); free > 0 {
			now := c.now()
			due, err := c.store.ClaimOperations(ctx, c.operations.holder, now, now.Add(holdTime), free)
			report("look for operations", err)
			for _, o := range due {
				c.operations.begin(o.ID)
				wg.Go(func() {
					c.work(ctx, o)
					c.operations.end(o.ID)
					c.wakeOperations() // the next one of the station, or one for the free place
				})
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(claimPause): // many wake it at once
		}
		for idle := true; idle; {
			select {
			case <-ctx.Done():
				return nil
			case <-c.operations.wake:
				idle = false
			case <-claim.C:
				idle = false
			case <-hold.C:
				if ids := c.operations.working(); len(ids) > 0 {
					report("keep operations", c.store.HoldOperations(ctx, c.operations.holder, ids, c.now().Add(holdTime)))
				}
			}
		}
	}
}

// work takes an operation as many steps as it goes now.
func (c *CSMS) work(ctx context.Context, o store.Operation) {
	for range maxSteps {
		w := &work{c: c, Operation: o}
		result, err := c.step(ctx, w)
		if ctx.Err() != nil { // the process ends: the step is done again after it
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
			defer cancel()
			if err := c.store.ReleaseOperation(last, c.operations.holder, o.ID); err != nil {
				c.log.Warn("release operation", "operation", o.ID, "err", err)
			}
			return
		}
		if err == nil {
			o, err = c.advance(ctx, w, result)
		}
		if errors.Is(err, store.ErrLost) {
			return
		}
		if err != nil { // the record is away: it is taken up again when it is back
			c.log.Warn("operation stays where it is", "station", o.Station, "operation", o.ID, "step", o.Step, "err", err)
			return
		}
		if o.Status != store.OperationRunning {
			return
		}
	}
	if err := c.store.ReleaseOperation(ctx, c.operations.holder, o.ID); err != nil && ctx.Err() == nil {
		c.log.Warn("release operation", "operation", o.ID, "err", err)
	}
}

// step does the current step.
func (c *CSMS) step(ctx context.Context, w *work) (outcome, error) {
	for _, f := range []struct {
		from json.RawMessage
		to   any
	}{{w.Params, &w.params}, {w.Memory, &w.memory}} {
		if len(f.from) > 0 {
			if err := json.Unmarshal(f.from, f.to); err != nil {
				return failed("the record of this operation is damaged: %v", err), nil
			}
		}
	}
	k := kindOf(w.Kind)
	if k == nil || k.steps[w.Step] == nil {
		return failed("this version of Holdfast knows no step %s of %s", w.Step, w.Kind), nil
	}
	var err error
	if w.station, err = c.store.Station(ctx, w.Operation.Station); err != nil && !errors.Is(err, store.ErrNotFound) {
		return outcome{}, err
	}
	switch {
	case w.CancelledBy != "":
		w.undo(ctx, k)
		return outcome{status: store.OperationCancelled, detail: "by " + w.CancelledBy}, nil
	case !c.now().Before(w.Deadline):
		why := w.Cause
		if why != "" {
			why = ": " + why
		}
		w.undo(ctx, k)
		return failed("not done within %s%s", w.Deadline.Sub(w.StartedAt).Round(time.Second), why), nil
	}
	result := w.do(ctx, k.steps[w.Step])
	if result.status == store.OperationDone && k.after != nil {
		if next := k.after(w); next != "" {
			result.status, result.next, w.memory = store.OperationRunning, next, memory{}
		}
	}
	if result.try && w.Tries+1 >= maxTries {
		result = failed("%s (tried %d times)", result.detail, maxTries).by(store.Command{ID: result.command})
	}
	if result.status == store.OperationFailed && ctx.Err() == nil && k.undo != nil {
		// What the step learned first: whoever goes on after a crash must not take
		// what is undone for what the station did.
		if err := w.keep(ctx); err != nil {
			return outcome{}, err
		}
		w.undo(ctx, k)
	}
	return result, nil
}

// do does a step; one that panics was tried in vain.
func (w *work) do(ctx context.Context, step stepFunc) (result outcome) {
	defer func() {
		if p := recover(); p != nil {
			w.c.metrics.panics.Inc()
			w.c.log.Error("operation panicked", "station", w.Station, "operation", w.ID, "kind", w.Kind, "step", w.Step, "err", p, "stack", string(debug.Stack()))
			result = again("internal error, see the log of csms process %s", w.c.operations.holder)
		}
	}()
	return step(ctx, w)
}

// undo puts back what can be put back.
func (w *work) undo(ctx context.Context, k *kind) {
	if k.undo == nil {
		return
	}
	if err := k.undo(ctx, w); err != nil {
		w.c.log.Error("operation not undone", "station", w.Station, "operation", w.ID, "kind", w.Kind, "err", err)
	}
}

// keep records what is in memory before something is done whose outcome may
// stay unknown.
func (w *work) keep(ctx context.Context) error {
	raw, err := json.Marshal(w.memory)
	if err != nil {
		return err
	}
	w.Memory, w.UpdatedAt = raw, w.c.now()
	o, err := w.c.store.AdvanceOperation(ctx, w.c.operations.holder, w.Operation, store.OperationStep{}, false)
	if err == nil {
		w.Operation = o
	}
	return err
}

// advance records what a step came to and returns the operation after it.
func (c *CSMS) advance(ctx context.Context, w *work, r outcome) (store.Operation, error) {
	now := c.now()
	raw, err := json.Marshal(w.memory)
	if err != nil {
		return w.Operation, err
	}
	o := w.Operation
	o.Memory, o.UpdatedAt, o.Status, o.NextAt, o.Cause = raw, now, r.status, now, ""
	s := store.OperationStep{At: now, Step: o.Step, Outcome: "done", Detail: clip(r.detail, maxQuality), Command: r.command}
	switch {
	case r.status == store.OperationRunning:
		o.Step, o.StepAt, o.Tries = r.next, now, 0
	case r.status == store.OperationWaiting:
		s.Outcome, o.Cause = "waiting", s.Detail
		if r.try {
			s.Outcome = "retry"
			o.Tries++
			r.wait = min(c.settings.OperationRetry<<(o.Tries-1), maxRetryWait)
		}
		o.NextAt = now.Add(max(r.wait, 10*time.Millisecond))
	case r.status == store.OperationDone:
		o.FinishedAt = now
	default:
		s.Outcome, o.Cause, o.FinishedAt = string(r.status), s.Detail, now
	}
	o, err = c.store.AdvanceOperation(ctx, c.operations.holder, o, s, r.status != store.OperationRunning)
	if err != nil {
		return o, err
	}
	if o.Status.Ended() {
		c.metrics.operations.WithLabelValues(o.Kind, string(o.Status)).Inc()
		c.log.Info("operation ended", "station", o.Station, "operation", o.ID, "kind", o.Kind, "status", string(o.Status), "step", s.Step, "detail", s.Detail)
	}
	return o, nil
}

// ask sends a CALL to the station for a step and decodes its answer into answer.
// ok is false if stop says what the step comes to; unknown, that the station may
// have acted all the same.
func (w *work) ask(ctx context.Context, action string, payload, answer any) (k store.Command, stop outcome, unknown, ok bool) {
	raw, err := ocpp.Encode(payload)
	if err != nil {
		return k, failed("%s: %v", action, err), false, false
	}
	if !w.station.Connected {
		return k, offline(), false, false
	}
	var full json.RawMessage
	k, full, err = w.c.command(ctx, Command{Station: w.Station, Action: action, Payload: raw, By: fmt.Sprintf("%s (operation %s)", w.By, w.ID)})
	switch {
	case ctx.Err() != nil: // this process ends; the CALL may be on its way
		return k, await(0, "%s: %v", action, ctx.Err()), true, false
	case err != nil:
		return k, await(w.c.settings.OperationRetry, "%s: %v", action, err), true, false
	case k.Result == ResultAccepted:
		if err := json.Unmarshal(full, answer); err != nil {
			return k, again("%s: the station's answer: %v", action, err).by(k), true, false
		}
		return k, outcome{}, false, true
	case k.Result == ResultOffline:
		return k, offline().by(k), false, false
	case k.Result == ResultCallError && (k.ErrorCode == string(ocpp.NotImplemented) || k.ErrorCode == string(ocpp.NotSupported)):
		return k, failed("the station does not support %s (%s)", action, k.ErrorCode).by(k), false, false
	case k.Result == ResultInvalidRequest:
		return k, failed("%s: %s", action, k.ErrorDescription).by(k), false, false
	case k.Result == ResultBusy, k.Result == ResultUnavailable:
		return k, await(w.c.settings.OperationRetry, "%s: %s", action, k.ErrorDescription).by(k), false, false
	case k.Result == ResultCallError:
		return k, again("%s: the station answers %s %s", action, k.ErrorCode, k.ErrorDescription).by(k), false, false
	}
	return k, again("%s: %s", action, k.Result).by(k), true, false
}
