package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// CSMS is the management record: stations as they run, connectors, ID tokens,
// transactions with their meter values, variables, commands. All methods may be
// called concurrently; every one that writes returns after its commit.
type CSMS struct {
	*db
}

// OpenCSMS opens and migrates the management database. where is a postgres://
// URL, in which schema csms is used, or a directory, in which csms.db is kept.
func OpenCSMS(ctx context.Context, where string) (*CSMS, error) {
	d, err := open(ctx, where, "csms")
	if err != nil {
		return nil, err
	}
	return &CSMS{d}, nil
}

// Close ends the database; nobody may be using it any more.
func (c *CSMS) Close() error { return c.close() }

// Ping reports why the database does not answer, nil if it does.
func (c *CSMS) Ping(ctx context.Context) error {
	if err := c.ping(ctx); err != nil {
		return fmt.Errorf("database does not answer: %w", err)
	}
	return nil
}

// newID returns an id of which later ones are greater.
func newID() string {
	return uuid.Must(uuid.NewV7()).String() // fails only if the system has no random numbers
}

// rowFunc runs a query of at most one row and scans it; ErrNotFound if there is
// none. It reads within a transaction or outside one.
type rowFunc func(query string, args []any, dst ...any) error

func (c *CSMS) rowFunc(ctx context.Context) rowFunc {
	return func(query string, args []any, dst ...any) error {
		return notFound(c.read.QueryRowContext(ctx, query, args...).Scan(dst...))
	}
}

func (t *Tx) rowFunc() rowFunc {
	return func(query string, args []any, dst ...any) error { return t.row(false, query, args, dst...) }
}

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}
