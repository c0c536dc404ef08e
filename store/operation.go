package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"holdfast/ocpp"
)

// OperationStatus is where an operation is in its life.
type OperationStatus string

const (
	OperationQueued    OperationStatus = "queued"  // its campaign has not released it
	OperationRunning   OperationStatus = "running" // a step is being done, or is about to be
	OperationWaiting   OperationStatus = "waiting" // for what Cause says
	OperationDone      OperationStatus = "done"
	OperationFailed    OperationStatus = "failed"
	OperationCancelled OperationStatus = "cancelled"
)

// Operation is a change of a station's credentials that takes several steps.
type Operation struct {
	ID         string          `json:"id"`
	Station    ocpp.StationID  `json:"station"`
	Kind       string          `json:"kind" doc:"What is being done"`
	Status     OperationStatus `json:"status" enum:"queued,running,waiting,done,failed,cancelled"`
	Step       string          `json:"step,omitempty" doc:"The current step, or the last one"`
	Cause      string          `json:"cause,omitempty" doc:"What it waits for, or why it failed"`
	Tries      int             `json:"tries,omitempty" doc:"How often the current step was tried in vain"`
	By         string          `json:"by" doc:"Who asked for it"`
	Campaign   string          `json:"campaign,omitempty" doc:"Id of the campaign that it is part of"`
	Params     json.RawMessage `json:"params,omitempty" doc:"What was asked for, by kind"`
	CreatedAt  time.Time       `json:"created_at"`
	StartedAt  time.Time       `json:"started_at,omitzero" doc:"When it was released; absent: it is queued"`
	UpdatedAt  time.Time       `json:"updated_at,omitzero"`
	Deadline   time.Time       `json:"deadline,omitzero" doc:"When it fails if it is not done by then"`
	FinishedAt time.Time       `json:"finished_at,omitzero"`

	StepAt      time.Time       `json:"-"` // when Step began
	Memory      json.RawMessage `json:"-"` // what the steps keep for each other
	Request     json.RawMessage `json:"-"` // the certificate signing request that the station sent last
	CancelledBy string          `json:"-"` // who wants it ended
	NextAt      time.Time       `json:"-"` // when it is looked at again
	Signals     int64           `json:"-"` // grows when the station did something
}

// Ended reports whether nothing more happens.
func (s OperationStatus) Ended() bool {
	return s == OperationDone || s == OperationFailed || s == OperationCancelled
}

func (s OperationStatus) open() bool { return s == OperationRunning || s == OperationWaiting }

// OperationStep is what became of one step.
type OperationStep struct {
	Seq     int       `json:"seq"`
	At      time.Time `json:"at"`
	Step    string    `json:"step"`
	Outcome string    `json:"outcome" enum:"done,waiting,retry,failed,cancelled"`
	Detail  string    `json:"detail,omitempty"`
	Command string    `json:"command,omitempty" doc:"Id of the CALL to the station"`
}

// maxOperationSteps is how many outcomes are kept of one operation.
const maxOperationSteps = 200

// ErrLost: another process works on the operation now, or it is over.
var ErrLost = errors.New("operation is not held any more")

const operationColumns = `id, identity, kind, status, step, step_at, tries, cause, requested_by, campaign, params, memory, request, cancelled_by,
	created_at, started_at, updated_at, deadline, finished_at, next_at, signals`

func scanOperation(scan func(...any) error) (o Operation, err error) {
	var stepAt, created, started, updated, deadline, finished, next int64
	var params, memory, request string
	err = scan(&o.ID, &o.Station, &o.Kind, &o.Status, &o.Step, &stepAt, &o.Tries, &o.Cause, &o.By, &o.Campaign, &params, &memory, &request, &o.CancelledBy,
		&created, &started, &updated, &deadline, &finished, &next, &o.Signals)
	o.StepAt, o.CreatedAt, o.StartedAt, o.UpdatedAt = fromMicros(stepAt), fromMicros(created), fromMicros(started), fromMicros(updated)
	o.Deadline, o.FinishedAt, o.NextAt = fromMicros(deadline), fromMicros(finished), fromMicros(next)
	for _, f := range []struct {
		dst  *json.RawMessage
		text string
	}{{&o.Params, params}, {&o.Memory, memory}, {&o.Request, request}} {
		if f.text != "" {
			*f.dst = json.RawMessage(f.text)
		}
	}
	return o, err
}

// StartOperation records an operation, under a new id, and reports whether it
// did: if the station has one of this kind that is not over, that one is
// returned, and released if it was queued.
func (c *CSMS) StartOperation(ctx context.Context, o Operation) (current Operation, started bool, err error) {
	o.ID = newID()
	err = c.update(ctx, o.Station.Fold(), func(tx *Tx) error {
		current, started, err = tx.startOperation(o)
		return err
	})
	return current, started, err
}

func (t *Tx) startOperation(o Operation) (Operation, bool, error) {
	n, err := t.exec(`INSERT INTO operation (id, station, identity, kind, status, open, step, step_at, tries, cause, requested_by, campaign, params, memory,
			request, cancelled_by, created_at, started_at, updated_at, deadline, finished_at, next_at, signals, holder, held_until)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, '', $9, $10, $11, $12, $13, '', $14, $15, $16, $17, 0, $18, 0, '', 0) ON CONFLICT DO NOTHING`,
		o.ID, o.Station.Fold(), string(o.Station), o.Kind, string(o.Status), o.Status.open(), o.Step, micros(o.StepAt), o.By, o.Campaign, string(o.Params),
		string(o.Memory), string(o.Request), micros(o.CreatedAt), micros(o.StartedAt), micros(o.UpdatedAt), micros(o.Deadline), micros(o.NextAt))
	if err != nil || n > 0 {
		return o, n > 0, err
	}
	current, err := t.operation(`station = $1 AND kind = $2 AND finished_at = 0`, o.Station.Fold(), o.Kind)
	if err != nil || current.Status != OperationQueued || !o.Status.open() {
		return current, false, err
	}
	current.Status, current.StepAt, current.StartedAt, current.Deadline, current.NextAt = o.Status, o.StepAt, o.StartedAt, o.Deadline, o.NextAt
	_, err = t.exec(`UPDATE operation SET status = $1, open = TRUE, step_at = $2, started_at = $3, deadline = $4, next_at = $5 WHERE id = $6`,
		string(o.Status), micros(o.StepAt), micros(o.StartedAt), micros(o.Deadline), micros(o.NextAt), current.ID)
	return current, false, err
}

func (t *Tx) operation(where string, args ...any) (o Operation, err error) {
	err = t.rows(`SELECT `+operationColumns+` FROM operation WHERE `+where, args, func(rows *sql.Rows) error {
		o, err = scanOperation(rows.Scan)
		return err
	})
	if err == nil && o.ID == "" {
		err = ErrNotFound
	}
	return o, err
}

// Operation returns an operation; ErrNotFound without it.
func (c *CSMS) Operation(ctx context.Context, id string) (Operation, error) {
	o, err := scanOperation(c.read.QueryRowContext(ctx, `SELECT `+operationColumns+` FROM operation WHERE id = $1`, id).Scan)
	if err = notFound(err); err != nil {
		err = fmt.Errorf("operation %s: %w", id, err)
	}
	return o, err
}

// OperationSteps returns what became of an operation's steps, oldest first.
func (c *CSMS) OperationSteps(ctx context.Context, id string) ([]OperationStep, error) {
	rows, err := c.read.QueryContext(ctx, `SELECT seq, at, step, outcome, detail, command FROM operation_step WHERE operation = $1 ORDER BY seq`, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	steps := []OperationStep{}
	for rows.Next() {
		var s OperationStep
		var at int64
		if err := rows.Scan(&s.Seq, &at, &s.Step, &s.Outcome, &s.Detail, &s.Command); err != nil {
			return nil, err
		}
		s.At = fromMicros(at)
		steps = append(steps, s)
	}
	return steps, rows.Err()
}

// OperationFilter chooses operations; zero fields choose all.
type OperationFilter struct {
	Station  ocpp.StationID
	Kind     string
	Status   OperationStatus
	Campaign string
}

// Operations lists operations, newest first.
func (c *CSMS) Operations(ctx context.Context, f OperationFilter, p Page) (List[Operation], error) {
	before := maxID
	if err := p.key(&before); err != nil {
		return List[Operation]{}, err
	}
	var w where
	w.add(`id < ?`, before)
	if f.Station != "" {
		w.add(`station = ?`, f.Station.Fold())
	}
	if f.Kind != "" {
		w.add(`kind = ?`, f.Kind)
	}
	if f.Status != "" {
		w.add(`status = ?`, string(f.Status))
	}
	if f.Campaign != "" {
		w.add(`campaign = ?`, f.Campaign)
	}
	return list(ctx, c.db, p, `SELECT `+operationColumns+` FROM operation`+w.sql(` ORDER BY id DESC LIMIT ?`, p.limit()+1), w.args,
		func(rows *sql.Rows) (Operation, error) { return scanOperation(rows.Scan) },
		func(o Operation) []any { return []any{o.ID} })
}

// ClaimOperations gives up to limit operations that are due to a holder, until a
// time. Of a station's operations only the oldest is ever due.
func (c *CSMS) ClaimOperations(ctx context.Context, holder string, now, until time.Time, limit int) ([]Operation, error) {
	const due = `SELECT id FROM operation o WHERE open AND next_at <= $1 AND held_until <= $2 AND NOT EXISTS
		(SELECT 1 FROM operation p WHERE p.station = o.station AND p.open AND p.id < o.id) ORDER BY next_at LIMIT $3`
	rows, err := c.read.QueryContext(ctx, due, micros(now), micros(now), limit)
	if err != nil {
		return nil, err
	}
	var ids []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			rows.Close()
			return nil, err
		}
		ids = append(ids, id)
	}
	rows.Close()
	if err := rows.Err(); err != nil || len(ids) == 0 {
		return nil, err
	}
	var claimed []Operation
	err = c.update(ctx, "operations", func(tx *Tx) error {
		claimed = nil
		for _, id := range ids {
			n, err := tx.exec(`UPDATE operation SET holder = $1, held_until = $2 WHERE id = $3 AND open AND held_until <= $4`, holder, micros(until), id, micros(now))
			if err != nil {
				return err
			}
			if n == 0 { // another process was faster
				continue
			}
			o, err := tx.operation(`id = $1`, id)
			if err != nil {
				return err
			}
			claimed = append(claimed, o)
		}
		return nil
	})
	return claimed, err
}

// HoldOperations keeps operations that a holder has claimed for itself until a
// later time.
func (c *CSMS) HoldOperations(ctx context.Context, holder string, ids []string, until time.Time) error {
	return c.update(ctx, "operations", func(tx *Tx) error {
		for _, id := range ids {
			if _, err := tx.exec(`UPDATE operation SET held_until = $1 WHERE id = $2 AND open AND holder = $3 AND held_until > 0`, micros(until), id, holder); err != nil {
				return err
			}
		}
		return nil
	})
}

// ReleaseOperation lets any process work on an operation again, as it is.
func (c *CSMS) ReleaseOperation(ctx context.Context, holder, id string) error {
	return c.update(ctx, id, func(tx *Tx) error {
		_, err := tx.exec(`UPDATE operation SET held_until = 0 WHERE id = $1 AND holder = $2`, id, holder)
		return err
	})
}

// AdvanceOperation writes what a step of an operation came to, and s, unless its
// Outcome is empty. With release set, others may work on it from now on; if the
// station did something since o was read, at once. It returns o as it is now;
// ErrLost if the holder has it no more.
func (c *CSMS) AdvanceOperation(ctx context.Context, holder string, o Operation, s OperationStep, release bool) (Operation, error) {
	now := o
	err := c.update(ctx, o.Station.Fold(), func(tx *Tx) error {
		n, err := tx.exec(`UPDATE operation SET status = $1, open = $2, step = $3, step_at = $4, tries = $5, cause = $6, memory = $7, updated_at = $8,
				finished_at = $9, next_at = CASE WHEN signals = $10 THEN CAST($11 AS BIGINT) ELSE CAST($12 AS BIGINT) END,
				held_until = CASE WHEN $13 THEN 0 ELSE held_until END
			WHERE id = $14 AND holder = $15 AND held_until > 0 AND open`,
			string(o.Status), o.Status.open(), o.Step, micros(o.StepAt), o.Tries, o.Cause, string(o.Memory), micros(o.UpdatedAt),
			micros(o.FinishedAt), o.Signals, micros(o.NextAt), micros(o.UpdatedAt), release, o.ID, holder)
		if err != nil {
			return err
		}
		if n == 0 {
			return ErrLost
		}
		if s.Outcome != "" {
			if err := tx.addStep(o.ID, s); err != nil {
				return err
			}
		}
		now, err = tx.operation(`id = $1`, o.ID)
		return err
	})
	return now, err
}

// addStep records an outcome. One that only repeats the last is not news.
func (t *Tx) addStep(id string, s OperationStep) error {
	var last OperationStep
	err := t.row(false, `SELECT seq, step, outcome, detail FROM operation_step WHERE operation = $1 ORDER BY seq DESC LIMIT 1`, []any{id},
		&last.Seq, &last.Step, &last.Outcome, &last.Detail)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if last.Step == s.Step && last.Outcome == s.Outcome && last.Detail == s.Detail {
		return nil
	}
	if _, err := t.exec(`INSERT INTO operation_step (operation, seq, at, step, outcome, detail, command) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		id, last.Seq+1, micros(s.At), s.Step, s.Outcome, s.Detail, s.Command); err != nil {
		return err
	}
	_, err = t.exec(`DELETE FROM operation_step WHERE operation = $1 AND seq <= $2`, id, last.Seq+1-maxOperationSteps)
	return err
}

// signal has the open operations of a station looked at again: it did something.
func (t *Tx) signal(station ocpp.StationID, now time.Time) error {
	_, err := t.exec(`UPDATE operation SET next_at = $1, signals = signals + 1 WHERE station = $2 AND open`, micros(now), station.Fold())
	return err
}

// OfferRequest hands a station's certificate signing request, that of o, to its
// open operation of one of kinds, or starts o for it. accept returns what such an
// operation keeps of the request, and whether it takes it. It returns the
// operation, and whether it took the request.
func (c *CSMS) OfferRequest(ctx context.Context, o Operation, kinds []string, accept func(current Operation) (json.RawMessage, bool)) (current Operation, taken bool, err error) {
	o.ID = newID()
	err = c.update(ctx, o.Station.Fold(), func(tx *Tx) error {
		taken = false
		for _, kind := range kinds {
			current, err = tx.operation(`station = $1 AND kind = $2 AND finished_at = 0`, o.Station.Fold(), kind)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if kind != o.Kind && current.Status == OperationQueued {
				continue
			}
			request, ok := accept(current)
			if taken = ok; !taken {
				return nil
			}
			if current.Status == OperationQueued { // its turn has come by itself
				if current, _, err = tx.startOperation(o); err != nil {
					return err
				}
			}
			if _, err = tx.exec(`UPDATE operation SET request = $1 WHERE id = $2`, string(request), current.ID); err != nil {
				return err
			}
			return tx.signal(o.Station, o.CreatedAt)
		}
		current, taken, err = tx.startOperation(o)
		return err
	})
	return current, taken, err
}

// CancelOperation has an operation ended: one that is queued at once, one that
// is open after its current step. It returns the operation; one that is over
// stays as it is.
func (c *CSMS) CancelOperation(ctx context.Context, id, by string, now time.Time) (o Operation, err error) {
	err = c.update(ctx, id, func(tx *Tx) error {
		if _, err := tx.exec(`UPDATE operation SET cancelled_by = $1, next_at = $2, signals = signals + 1 WHERE id = $3 AND open AND cancelled_by = ''`, by, micros(now), id); err != nil {
			return err
		}
		n, err := tx.exec(`UPDATE operation SET cancelled_by = $1, status = $2, finished_at = $3, updated_at = $4, cause = $5 WHERE id = $6 AND status = $7`,
			by, string(OperationCancelled), micros(now), micros(now), "cancelled by "+by, id, string(OperationQueued))
		if err != nil {
			return err
		}
		if n > 0 {
			if err := tx.addStep(id, OperationStep{At: now, Outcome: "cancelled", Detail: "by " + by}); err != nil {
				return err
			}
		}
		o, err = tx.operation(`id = $1`, id)
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("operation %s: %w", id, ErrNotFound)
		}
		return err
	})
	return o, err
}

// EndOperations cancels all operations of a station that is no more.
func (c *CSMS) EndOperations(ctx context.Context, station ocpp.StationID, why string, now time.Time) error {
	return c.update(ctx, station.Fold(), func(tx *Tx) error {
		_, err := tx.exec(`UPDATE operation SET status = $1, open = FALSE, cause = $2, finished_at = $3, updated_at = $4 WHERE station = $5 AND finished_at = 0`,
			string(OperationCancelled), why, micros(now), micros(now), station.Fold())
		return err
	})
}

// ErrNotFailed: only what failed or was cancelled can be tried again.
var ErrNotFailed = errors.New("only an operation that failed or was cancelled can be tried again")

// RetryOperation begins an operation that failed again, from its first step; its
// history stays. ErrExists if the station has another one of its kind by now.
func (c *CSMS) RetryOperation(ctx context.Context, id, first string, now, deadline time.Time) (o Operation, err error) {
	err = c.update(ctx, id, func(tx *Tx) error {
		o, err = tx.operation(`id = $1`, id)
		switch {
		case errors.Is(err, ErrNotFound):
			return fmt.Errorf("operation %s: %w", id, ErrNotFound)
		case err != nil:
			return err
		case o.Status != OperationFailed && o.Status != OperationCancelled:
			return fmt.Errorf("operation %s is %s: %w", id, o.Status, ErrNotFailed)
		}
		n, err := tx.exec(`UPDATE operation SET status = $1, open = TRUE, step = $2, step_at = $3, tries = 0, cause = '', memory = '', request = '', cancelled_by = '',
				started_at = $4, updated_at = $5, deadline = $6, finished_at = 0, next_at = $7, held_until = 0
			WHERE id = $8 AND NOT EXISTS (SELECT 1 FROM operation p WHERE p.station = $9 AND p.kind = $10 AND p.finished_at = 0)`,
			string(OperationRunning), first, micros(now), micros(now), micros(now), micros(deadline), micros(now), id, o.Station.Fold(), o.Kind)
		if err == nil && n == 0 {
			return fmt.Errorf("operation %s of station %s: %w", o.Kind, o.Station, ErrExists)
		}
		if err != nil {
			return err
		}
		o, err = tx.operation(`id = $1`, id)
		return err
	})
	return o, err
}

// CountOperations counts those that are not over, by kind and status, and those
// that ended since a time.
func (c *CSMS) CountOperations(ctx context.Context) (map[string]map[OperationStatus]int64, error) {
	rows, err := c.read.QueryContext(ctx, `SELECT kind, status, count(*) FROM operation WHERE finished_at = 0 GROUP BY kind, status`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	counts := make(map[string]map[OperationStatus]int64)
	for rows.Next() {
		var kind string
		var status OperationStatus
		var n int64
		if err := rows.Scan(&kind, &status, &n); err != nil {
			return nil, err
		}
		if counts[kind] == nil {
			counts[kind] = make(map[OperationStatus]int64)
		}
		counts[kind][status] = n
	}
	return counts, rows.Err()
}

// PruneOperations deletes operations and campaigns that ended before a time.
func (c *CSMS) PruneOperations(ctx context.Context, before time.Time) error {
	return c.update(ctx, "operations", func(tx *Tx) error {
		if _, err := tx.exec(`DELETE FROM operation_step WHERE operation IN (SELECT id FROM operation WHERE finished_at <> 0 AND finished_at < $1)`, micros(before)); err != nil {
			return err
		}
		if _, err := tx.exec(`DELETE FROM operation WHERE finished_at <> 0 AND finished_at < $1`, micros(before)); err != nil {
			return err
		}
		_, err := tx.exec(`DELETE FROM campaign WHERE finished_at <> 0 AND finished_at < $1`, micros(before))
		return err
	})
}
