package store

import (
	"context"
	"errors"
	"fmt"
)

// Authority is the record of who may connect: stations with their password
// hashes, certificates, attempts to connect, the audit record, trusted CAs and
// ticket keys. All methods may be called concurrently, from several processes
// on one PostgreSQL; every one that writes returns after its commit, and writes
// its line of the audit record in the same transaction.
type Authority struct {
	*db
	admission *admissionReads
}

// OpenAuthority opens and migrates the authority's database. where is a
// postgres:// URL, in which schema authority is used, or a directory, in which
// authority.db is kept.
func OpenAuthority(ctx context.Context, where string) (*Authority, error) {
	d, err := open(ctx, where, "authority")
	if err != nil {
		return nil, err
	}
	r, err := openAdmissionReads(ctx, d)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("authority's database: %w", err), d.close())
	}
	return &Authority{d, r}, nil
}

// Close ends the database; nobody may be using it any more.
func (a *Authority) Close() error {
	a.admission.close()
	return a.close()
}

// Ping reports why the database does not answer, nil if it does.
func (a *Authority) Ping(ctx context.Context) error {
	if err := a.ping(ctx); err != nil {
		return fmt.Errorf("authority's database does not answer: %w", err)
	}
	return nil
}

// bump counts a change of what gateways verify with and returns the new number.
func (t *Tx) bump() (generation int64, err error) {
	err = t.row(true, `UPDATE generation SET value = value + 1 WHERE name = 'trust' RETURNING value`, nil, &generation)
	return generation, err
}
