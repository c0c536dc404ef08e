package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"
)

// CampaignStatus is where a campaign is in its life.
type CampaignStatus string

const (
	CampaignChoosing  CampaignStatus = "choosing" // its stations are being entered
	CampaignRunning   CampaignStatus = "running"
	CampaignHalted    CampaignStatus = "halted" // too much failed: it begins no more operations until it is resumed
	CampaignDone      CampaignStatus = "done"
	CampaignCancelled CampaignStatus = "cancelled" // it begins no more
)

// Campaign is operations of one kind on many stations, begun at a pace.
type Campaign struct {
	ID          string          `json:"id"`
	Kind        string          `json:"kind" doc:"Of its operations"`
	Status      CampaignStatus  `json:"status" enum:"choosing,running,halted,done,cancelled"`
	Cause       string          `json:"cause,omitempty" doc:"Why it halted"`
	By          string          `json:"by" doc:"Who asked for it"`
	Params      json.RawMessage `json:"params,omitempty" doc:"What was asked for, by kind"`
	PerMinute   int             `json:"per_minute" doc:"How many operations it begins per minute"`
	MaxFailures int             `json:"max_failures" doc:"How many operations may fail before it halts"`
	CreatedAt   time.Time       `json:"created_at"`
	FinishedAt  time.Time       `json:"finished_at,omitzero"`

	HaltAt    int           `json:"-"` // failures at which it halts
	TimeLimit time.Duration `json:"-"` // of each operation, from its release
}

const campaignColumns = `id, kind, status, cause, requested_by, params, per_minute, max_failures, created_at, finished_at, halt_at, time_limit`

func scanCampaign(scan func(...any) error) (c Campaign, err error) {
	var created, finished, limit int64
	var params string
	err = scan(&c.ID, &c.Kind, &c.Status, &c.Cause, &c.By, &params, &c.PerMinute, &c.MaxFailures, &created, &finished, &c.HaltAt, &limit)
	c.CreatedAt, c.FinishedAt, c.TimeLimit = fromMicros(created), fromMicros(finished), time.Duration(limit)*time.Microsecond
	if params != "" {
		c.Params = json.RawMessage(params)
	}
	return c, err
}

// AddCampaign records a campaign without stations, under a new id.
func (c *CSMS) AddCampaign(ctx context.Context, k Campaign) (Campaign, error) {
	k.ID = newID()
	return k, c.update(ctx, k.ID, func(tx *Tx) error {
		_, err := tx.exec(`INSERT INTO campaign (id, kind, status, cause, requested_by, params, per_minute, max_failures, halt_at, created_at, finished_at, next_at, time_limit)
			VALUES ($1, $2, $3, '', $4, $5, $6, $7, $8, $9, 0, $10, $11)`,
			k.ID, k.Kind, string(CampaignChoosing), k.By, string(k.Params), k.PerMinute, k.MaxFailures, k.MaxFailures, micros(k.CreatedAt), micros(k.CreatedAt), k.TimeLimit.Microseconds())
		return err
	})
}

// QueueOperations enters operations into their campaign and returns how many it
// did: a station that has one of the kind that is not over stays out.
func (c *CSMS) QueueOperations(ctx context.Context, operations []Operation) (queued int, err error) {
	for i := range operations {
		operations[i].ID, operations[i].Status = newID(), OperationQueued
	}
	err = c.update(ctx, "operations", func(tx *Tx) error {
		queued = 0
		for _, o := range operations {
			_, added, err := tx.startOperation(o)
			if err != nil {
				return err
			}
			if added {
				queued++
			}
		}
		return nil
	})
	return queued, err
}

// RunCampaign begins a campaign whose stations are entered, or goes on with one
// that halted: it may fail as often again. Others stay as they are.
func (c *CSMS) RunCampaign(ctx context.Context, id string, now time.Time) (k Campaign, err error) {
	err = c.update(ctx, id, func(tx *Tx) error {
		if _, err := tx.exec(`UPDATE campaign SET status = $1, cause = '', next_at = $2,
				halt_at = max_failures + (SELECT count(*) FROM operation WHERE campaign = $3 AND status = $4)
			WHERE id = $5 AND status IN ($6, $7)`,
			string(CampaignRunning), micros(now), id, string(OperationFailed), id, string(CampaignChoosing), string(CampaignHalted)); err != nil {
			return err
		}
		k, err = tx.campaign(id)
		return err
	})
	return k, err
}

// CancelCampaign ends a campaign: what is queued is cancelled, what is under way
// goes on. One that is over stays as it is.
func (c *CSMS) CancelCampaign(ctx context.Context, id, by string, now time.Time) (k Campaign, err error) {
	err = c.update(ctx, id, func(tx *Tx) error {
		n, err := tx.exec(`UPDATE campaign SET status = $1, cause = $2, finished_at = $3 WHERE id = $4 AND finished_at = 0`,
			string(CampaignCancelled), "cancelled by "+by, micros(now), id)
		if err != nil {
			return err
		}
		if n > 0 {
			if _, err := tx.exec(`UPDATE operation SET status = $1, cancelled_by = $2, cause = $3, finished_at = $4, updated_at = $5 WHERE campaign = $6 AND status = $7`,
				string(OperationCancelled), by, "the campaign was cancelled", micros(now), micros(now), id, string(OperationQueued)); err != nil {
				return err
			}
		}
		k, err = tx.campaign(id)
		return err
	})
	return k, err
}

func (t *Tx) campaign(id string) (k Campaign, err error) {
	err = t.rows(`SELECT `+campaignColumns+` FROM campaign WHERE id = $1`, []any{id}, func(rows *sql.Rows) error {
		k, err = scanCampaign(rows.Scan)
		return err
	})
	if err == nil && k.ID == "" {
		err = fmt.Errorf("campaign %s: %w", id, ErrNotFound)
	}
	return k, err
}

// Campaign returns a campaign; ErrNotFound without it.
func (c *CSMS) Campaign(ctx context.Context, id string) (Campaign, error) {
	k, err := scanCampaign(c.read.QueryRowContext(ctx, `SELECT `+campaignColumns+` FROM campaign WHERE id = $1`, id).Scan)
	if err = notFound(err); err != nil {
		err = fmt.Errorf("campaign %s: %w", id, err)
	}
	return k, err
}

// Campaigns lists campaigns, newest first.
func (c *CSMS) Campaigns(ctx context.Context, p Page) (List[Campaign], error) {
	before := maxID
	if err := p.key(&before); err != nil {
		return List[Campaign]{}, err
	}
	return list(ctx, c.db, p, `SELECT `+campaignColumns+` FROM campaign WHERE id < $1 ORDER BY id DESC LIMIT $2`, []any{before, p.limit() + 1},
		func(rows *sql.Rows) (Campaign, error) { return scanCampaign(rows.Scan) },
		func(k Campaign) []any { return []any{k.ID} })
}

// CampaignProgress counts a campaign's operations by status.
func (c *CSMS) CampaignProgress(ctx context.Context, id string) (map[OperationStatus]int, error) {
	rows, err := c.read.QueryContext(ctx, `SELECT status, count(*) FROM operation WHERE campaign = $1 GROUP BY status`, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	counts := make(map[OperationStatus]int)
	for rows.Next() {
		var status OperationStatus
		var n int
		if err := rows.Scan(&status, &n); err != nil {
			return nil, err
		}
		counts[status] = n
	}
	return counts, rows.Err()
}

// ReleaseOperations begins what the pace of the running campaigns allows, halts
// those of which too much failed and ends those that are over. However many
// processes call it, the pace is the same. It reports whether it began any.
func (c *CSMS) ReleaseOperations(ctx context.Context, now time.Time) (released bool, err error) {
	var due []string
	rows, err := c.read.QueryContext(ctx, `SELECT id FROM campaign WHERE finished_at = 0 AND status = $1 AND next_at <= $2`, string(CampaignRunning), micros(now))
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return false, err
		}
		due = append(due, id)
	}
	if err := rows.Err(); err != nil {
		return false, err
	}
	for _, id := range due {
		var some bool
		err := c.update(ctx, id, func(tx *Tx) error {
			some, err = tx.releaseCampaign(id, now)
			return err
		})
		if err != nil {
			return released, err
		}
		released = released || some
	}
	return released, nil
}

// maxRelease is how many operations of a campaign begin at once, when its pace or
// a pause of all processes would allow more.
const maxRelease = 1000

func (t *Tx) releaseCampaign(id string, now time.Time) (released bool, err error) {
	// The row is held from here on: no other process releases at the same time.
	n, err := t.exec(`UPDATE campaign SET next_at = next_at WHERE id = $1 AND status = $2 AND next_at <= $3`, id, string(CampaignRunning), micros(now))
	if err != nil || n == 0 {
		return false, err
	}
	k, err := t.campaign(id)
	if err != nil {
		return false, err
	}
	var next int64
	var unfinished, failures int
	if err := t.row(false, `SELECT next_at FROM campaign WHERE id = $1`, []any{id}, &next); err != nil {
		return false, err
	}
	if err := t.row(false, `SELECT count(CASE WHEN finished_at = 0 THEN 1 END), count(CASE WHEN status = $1 THEN 1 END) FROM operation WHERE campaign = $2`,
		[]any{string(OperationFailed), id}, &unfinished, &failures); err != nil {
		return false, err
	}
	switch {
	case unfinished == 0:
		_, err := t.exec(`UPDATE campaign SET status = $1, finished_at = $2 WHERE id = $3`, string(CampaignDone), micros(now), id)
		return false, err
	case failures > k.HaltAt:
		_, err := t.exec(`UPDATE campaign SET status = $1, cause = $2 WHERE id = $3`, string(CampaignHalted), fmt.Sprintf("%d operations failed", failures), id)
		return false, err
	}
	every := time.Minute / time.Duration(max(k.PerMinute, 1))
	at := fromMicros(next)
	if oldest := now.Add(-10 * time.Second); at.Before(oldest) {
		at = oldest // a pause of all processes is not made up for
	}
	begin := min(1+int(now.Sub(at)/every), maxRelease)
	var ids []string
	if err := t.rows(`SELECT id FROM operation WHERE campaign = $1 AND status = $2 ORDER BY id LIMIT $3`, []any{id, string(OperationQueued), begin}, func(rows *sql.Rows) error {
		var o string
		err := rows.Scan(&o)
		ids = append(ids, o)
		return err
	}); err != nil {
		return false, err
	}
	for _, o := range ids {
		if _, err := t.exec(`UPDATE operation SET status = $1, open = TRUE, step_at = $2, started_at = $3, updated_at = $4, deadline = $5, next_at = $6 WHERE id = $7`,
			string(OperationRunning), micros(now), micros(now), micros(now), micros(now.Add(k.TimeLimit)), micros(now), o); err != nil {
			return false, err
		}
	}
	_, err = t.exec(`UPDATE campaign SET next_at = $1 WHERE id = $2`, micros(at.Add(every*time.Duration(begin))), id)
	return len(ids) > 0, err
}
