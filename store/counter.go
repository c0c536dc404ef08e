package store

import (
	"context"
	"fmt"
	"math"
)

// Allocate takes n consecutive numbers from the counter called name and returns
// the first. No two calls, in any process, get the same number. Numbers start
// at 1 and end before 2³¹.
func (c *CSMS) Allocate(ctx context.Context, name string, n int64) (first int64, err error) {
	err = c.update(ctx, name, func(tx *Tx) error {
		var next int64
		err := tx.row(true, `INSERT INTO counter (name, next) VALUES ($1, $2)
			ON CONFLICT (name) DO UPDATE SET next = counter.next + $3 RETURNING next`,
			[]any{name, 1 + n, n}, &next)
		if err != nil {
			return err
		}
		if next > math.MaxInt32 {
			return fmt.Errorf("counter %s: all 31-bit numbers are used up", name)
		}
		first = next - n
		return nil
	})
	return first, err
}
