package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"time"

	"holdfast/ocpp"
)

// Command is one CALL to a station, as the audit record keeps it: secrets in
// Payload and Answer are redacted before they come here.
type Command struct {
	ID               string          `json:"id"`
	Station          ocpp.StationID  `json:"station"`
	Version          ocpp.Version    `json:"version,omitempty"`
	Action           string          `json:"action"`
	Payload          json.RawMessage `json:"payload,omitempty"`
	By               string          `json:"by" doc:"Who asked for it"`
	CreatedAt        time.Time       `json:"created_at"`
	Deadline         time.Time       `json:"deadline" doc:"When its result is known at the latest"`
	FinishedAt       time.Time       `json:"finished_at,omitzero"`
	Result           string          `json:"result" enum:"pending,accepted,callerror,timeout,offline,invalid_request,invalid_answer,connection_lost,busy,unavailable"`
	Answer           json.RawMessage `json:"answer,omitempty" doc:"Payload of the CALLRESULT"`
	ErrorCode        string          `json:"error_code,omitempty"`
	ErrorDescription string          `json:"error_description,omitempty"`
}

// AddCommand records a command and returns its id.
func (c *CSMS) AddCommand(ctx context.Context, k Command) (id string, err error) {
	id = newID()
	err = c.update(ctx, k.Station.Fold(), func(tx *Tx) error {
		_, err := tx.exec(`INSERT INTO command (id, station, version, action, payload, requested_by, created_at, deadline, finished_at, result, answer, error_code, error_description)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
			id, k.Station.Fold(), string(k.Version), k.Action, string(k.Payload), k.By, micros(k.CreatedAt), micros(k.Deadline),
			micros(k.FinishedAt), k.Result, string(k.Answer), k.ErrorCode, k.ErrorDescription)
		return err
	})
	return id, err
}

// FinishCommand records a command's result: FinishedAt and what follows it.
func (c *CSMS) FinishCommand(ctx context.Context, k Command) error {
	return c.update(ctx, k.Station.Fold(), func(tx *Tx) error {
		n, err := tx.exec(`UPDATE command SET finished_at = $2, result = $3, answer = $4, error_code = $5, error_description = $6 WHERE id = $1`,
			k.ID, micros(k.FinishedAt), k.Result, string(k.Answer), k.ErrorCode, k.ErrorDescription)
		if err == nil && n == 0 {
			return fmt.Errorf("command %s: %w", k.ID, ErrNotFound)
		}
		return err
	})
}

const commandQuery = `SELECT c.id, COALESCE(s.identity, c.station), c.version, action, payload, requested_by, created_at, deadline, finished_at, result, answer, error_code, error_description
	FROM command c LEFT JOIN station_state s ON s.station = c.station`

func scanCommand(scan func(...any) error) (k Command, err error) {
	var created, deadline, finished int64
	var payload, answer string
	err = scan(&k.ID, &k.Station, &k.Version, &k.Action, &payload, &k.By, &created, &deadline, &finished, &k.Result, &answer, &k.ErrorCode, &k.ErrorDescription)
	k.CreatedAt, k.Deadline, k.FinishedAt = fromMicros(created), fromMicros(deadline), fromMicros(finished)
	if payload != "" {
		k.Payload = json.RawMessage(payload)
	}
	if answer != "" {
		k.Answer = json.RawMessage(answer)
	}
	return k, err
}

// Command returns a command; ErrNotFound if there is none.
func (c *CSMS) Command(ctx context.Context, id string) (Command, error) {
	k, err := scanCommand(c.read.QueryRowContext(ctx, commandQuery+` WHERE c.id = $1`, id).Scan)
	return k, notFound(err)
}

// Commands lists commands, newest first; of one station, or of all if it is empty.
func (c *CSMS) Commands(ctx context.Context, station ocpp.StationID, p Page) (List[Command], error) {
	before := maxID
	if err := p.key(&before); err != nil {
		return List[Command]{}, err
	}
	var w where
	w.add(`c.id < ?`, before)
	if station != "" {
		w.add(`c.station = ?`, station.Fold())
	}
	return list(ctx, c.db, p, commandQuery+w.sql(` ORDER BY c.id DESC LIMIT ?`, p.limit()+1), w.args,
		func(rows *sql.Rows) (Command, error) { return scanCommand(rows.Scan) },
		func(k Command) []any { return []any{k.ID} })
}

// PruneCommands deletes commands that were created before a time, and what
// stations were allowed until then.
func (c *CSMS) PruneCommands(ctx context.Context, before time.Time) error {
	return c.update(ctx, "", func(tx *Tx) error {
		if _, err := tx.exec(`DELETE FROM command WHERE created_at < $1`, micros(before)); err != nil {
			return err
		}
		_, err := tx.exec(`DELETE FROM allowance WHERE until < $1`, micros(before))
		return err
	})
}
