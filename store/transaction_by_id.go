package store

import "context"

// TransactionByID returns a transaction by Holdfast's own id of it; ErrNotFound
// if there is none.
func (c *CSMS) TransactionByID(ctx context.Context, id string) (Transaction, error) {
	t, err := scanTransaction(c.read.QueryRowContext(ctx, `SELECT `+transactionColumns+transactionTables+` WHERE t.id = $1`, id).Scan)
	return t, notFound(err)
}
