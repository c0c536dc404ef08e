package store

import (
	"context"
	"maps"
	"slices"
	"time"
)

// Seen records when stations were last heard of, by folded identity. It has a
// table of its own so that it never waits for a row that a message changes.
func (c *CSMS) Seen(ctx context.Context, seen map[string]time.Time) error {
	return c.update(ctx, "", func(tx *Tx) error {
		// In one order everywhere: two replicas do not block each other in a ring.
		for _, station := range slices.Sorted(maps.Keys(seen)) {
			_, err := tx.exec(`INSERT INTO station_seen (station, last_seen) VALUES ($1, $2)
				ON CONFLICT (station) DO UPDATE SET last_seen = excluded.last_seen
				WHERE station_seen.last_seen < excluded.last_seen`, station, micros(seen[station]))
			if err != nil {
				return err
			}
		}
		return nil
	})
}
