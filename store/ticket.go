package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
)

// TicketKeys returns the secrets of the periods from first to last, in their
// order. What is missing is filled in with fresh secrets, which count for every
// process unless another one was faster; older periods are deleted. All
// processes get the same answer.
func (a *Authority) TicketKeys(ctx context.Context, first, last int64, fresh func() [32]byte) ([][32]byte, error) {
	have, err := a.ticketKeys(ctx, first, last)
	if err != nil || int64(len(have)) == last-first+1 {
		return have, err
	}
	err = a.update(ctx, "ticket_key", func(tx *Tx) error {
		for period := first; period <= last; period++ {
			secret := fresh()
			if _, err := tx.exec(`INSERT INTO ticket_key (period, secret) VALUES ($1, $2) ON CONFLICT DO NOTHING`, period, hex.EncodeToString(secret[:])); err != nil {
				return err
			}
		}
		_, err := tx.exec(`DELETE FROM ticket_key WHERE period < $1`, first)
		return err
	})
	if err != nil {
		return nil, err
	}
	return a.ticketKeys(ctx, first, last)
}

func (a *Authority) ticketKeys(ctx context.Context, first, last int64) ([][32]byte, error) {
	rows, err := a.read.QueryContext(ctx, `SELECT secret FROM ticket_key WHERE period BETWEEN $1 AND $2 ORDER BY period`, first, last)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys [][32]byte
	for rows.Next() {
		key, err := scanTicketKey(rows)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, rows.Err()
}

func scanTicketKey(rows *sql.Rows) (key [32]byte, err error) {
	var text string
	if err := rows.Scan(&text); err != nil {
		return key, err
	}
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(key) {
		return key, fmt.Errorf("ticket key: column secret is not %d bytes in hex", len(key))
	}
	return [32]byte(b), nil
}
