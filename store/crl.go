package store

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// CRL is a revocation list of an imported CA.
type CRL struct {
	CA         string    `json:"ca" doc:"SHA-256 fingerprint of the CA's certificate, hex"`
	Issuer     string    `json:"issuer"`
	Number     string    `json:"number,omitempty" doc:"As the CA counts its lists, decimal"`
	ThisUpdate time.Time `json:"this_update" doc:"When it was made"`
	NextUpdate time.Time `json:"next_update,omitzero" doc:"When the CA makes the next one at the latest; absent: it does not say"`
	Imported   time.Time `json:"imported"`
	Entries    int       `json:"entries" doc:"Certificates that it lists"`
	// Revoked is how many certificates of stations in the inventory it revokes.
	Revoked int  `json:"revoked" doc:"Certificates of the inventory that it revokes"`
	Overdue bool `json:"overdue" doc:"Whether the CA must have made another one by now"`
}

// CRLEntry is a certificate that a CRL lists.
type CRLEntry struct {
	Serial string // hex
	Reason string
	At     time.Time
}

// ImportedIssuer is the name that an imported CA has in what it issued.
type ImportedIssuer struct {
	Fingerprint string // of its certificate
	Name        string // as Certificate.Issuer
	Key         string // as Certificate.IssuerKey; empty: it has none
}

// entryRows is how many entries are written with one statement.
const entryRows = 200

// SetCRL replaces the list of a CA and revokes what it lists in the inventory;
// what only the list before it had revoked is good again. It returns the list,
// with the trust generation after it. ErrNotFound if the CA is not among the
// imported ones, ErrExists if a list that is as new or newer is there.
func (a *Authority) SetCRL(ctx context.Context, l CRL, ca ImportedIssuer, entries []CRLEntry, audit AuditEntry) (CRL, int64, error) {
	var generation int64
	err := a.update(ctx, "ca", func(tx *Tx) (err error) {
		if generation, err = tx.bump(); err != nil { // first: it makes replicas wait for each other
			return err
		}
		var n int64
		if err := tx.row(false, `SELECT count(*) FROM ca WHERE fingerprint = $1 AND kind = $2`, []any{ca.Fingerprint, KindImported}, &n); err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("imported CA %s: %w", ca.Fingerprint, ErrNotFound)
		}
		if err := tx.row(false, `SELECT count(*) FROM crl WHERE ca = $1 AND this_update >= $2`, []any{ca.Fingerprint, micros(l.ThisUpdate)}, &n); err != nil {
			return err
		}
		if n > 0 {
			return fmt.Errorf("a list of CA %s that is as new: %w", ca.Fingerprint, ErrExists)
		}
		if err := tx.dropCRL(ca.Fingerprint); err != nil {
			return err
		}
		if _, err := tx.exec(`INSERT INTO crl (ca, issuer, issuer_key, number, this_update, next_update, imported, entries) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			ca.Fingerprint, ca.Name, ca.Key, l.Number, micros(l.ThisUpdate), micros(l.NextUpdate), micros(l.Imported), len(entries)); err != nil {
			return err
		}
		for rest := entries; len(rest) > 0; {
			n := 1
			if len(rest) >= entryRows {
				n = entryRows // two sizes, so two prepared statements
			}
			if err := tx.addEntries(ca.Fingerprint, rest[:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		revoked, err := tx.exec(revokeListed+` AND issuer = $6 AND (issuer_key = '' OR issuer_key = $7) AND serial IN (SELECT serial FROM crl_entry WHERE ca = $8)`,
			append(revokeListedArgs(ca.Fingerprint), ca.Name, ca.Key, ca.Fingerprint)...)
		if err != nil {
			return err
		}
		l.CA, l.Issuer, l.Entries, l.Revoked = ca.Fingerprint, ca.Name, len(entries), int(revoked)
		return tx.audit(audit)
	})
	return l, generation, err
}

// revokeListed revokes certificates of the inventory that a CA lists, with
// revokeListedArgs for its first arguments.
const revokeListed = `UPDATE certificate SET status = $1, listed = $2,
		reason = (SELECT reason FROM crl_entry e WHERE e.ca = $3 AND e.serial = certificate.serial),
		revoked = (SELECT revoked FROM crl_entry e WHERE e.ca = $4 AND e.serial = certificate.serial)
	WHERE (NOT issued OR external_ca <> '') AND status <> $5`

func revokeListedArgs(ca string) []any {
	return []any{string(StatusRevoked), ca, ca, ca, string(StatusRevoked)}
}

// markListed revokes a certificate that was just added, if a CA lists it.
func (t *Tx) markListed(c Certificate) error {
	var cas []string
	err := t.rows(`SELECT crl.ca, crl.issuer_key FROM crl JOIN crl_entry e ON e.ca = crl.ca WHERE crl.issuer = $1 AND e.serial = $2`, []any{c.Issuer, c.Serial}, func(rows *sql.Rows) error {
		var ca, key string
		err := rows.Scan(&ca, &key)
		if c.IssuerKey == "" || c.IssuerKey == key {
			cas = append(cas, ca)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, ca := range cas {
		if _, err := t.exec(revokeListed+` AND fingerprint = $6`, append(revokeListedArgs(ca), c.Fingerprint)...); err != nil {
			return err
		}
	}
	return nil
}

// dropCRL removes the list of a CA; what only it revoked is good again.
func (t *Tx) dropCRL(ca string) error {
	for _, statement := range []string{
		`UPDATE certificate SET status = 'active', reason = '', revoked = 0, listed = '' WHERE listed = $1`,
		`DELETE FROM crl_entry WHERE ca = $1`,
		`DELETE FROM crl WHERE ca = $1`,
	} {
		if _, err := t.exec(statement, ca); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tx) addEntries(ca string, entries []CRLEntry) error {
	var b strings.Builder
	b.WriteString(`INSERT INTO crl_entry (ca, serial, reason, revoked) VALUES `)
	args := make([]any, 0, 4*len(entries))
	for i, e := range entries {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('(')
		for j := range 4 {
			if j > 0 {
				b.WriteByte(',')
			}
			b.WriteString("$" + strconv.Itoa(len(args)+j+1))
		}
		b.WriteByte(')')
		args = append(args, ca, e.Serial, e.Reason, micros(e.At))
	}
	b.WriteString(` ON CONFLICT DO NOTHING`) // a list may name one twice
	_, err := t.exec(b.String(), args...)
	return err
}

// RemoveCRL forgets the list of a CA; what only it revoked is good again.
// ErrNotFound without it.
func (a *Authority) RemoveCRL(ctx context.Context, ca string, audit AuditEntry) (generation int64, err error) {
	err = a.update(ctx, "ca", func(tx *Tx) error {
		if generation, err = tx.bump(); err != nil {
			return err
		}
		var n int64
		if err := tx.row(false, `SELECT count(*) FROM crl WHERE ca = $1`, []any{ca}, &n); err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("revocation list of CA %.80s: %w", ca, ErrNotFound)
		}
		if err := tx.dropCRL(ca); err != nil {
			return err
		}
		return tx.audit(audit)
	})
	return generation, err
}

// CRLs returns the lists of imported CAs, by issuer.
func (a *Authority) CRLs(ctx context.Context, now time.Time) ([]CRL, error) {
	rows, err := a.read.QueryContext(ctx, `SELECT ca, issuer, number, this_update, next_update, imported, entries,
		(SELECT count(*) FROM certificate WHERE listed = crl.ca AND listed <> '') FROM crl ORDER BY issuer, ca`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []CRL{}
	for rows.Next() {
		var l CRL
		var this, next, imported int64
		if err := rows.Scan(&l.CA, &l.Issuer, &l.Number, &this, &next, &imported, &l.Entries, &l.Revoked); err != nil {
			return nil, err
		}
		l.ThisUpdate, l.NextUpdate, l.Imported = fromMicros(this), fromMicros(next), fromMicros(imported)
		l.Overdue = !l.NextUpdate.IsZero() && now.After(l.NextUpdate)
		list = append(list, l)
	}
	return list, rows.Err()
}

// Listed returns what the list of an imported CA says of a serial number in hex.
// ErrNotFound if it is not on it.
func (a *Authority) Listed(ctx context.Context, ca, serial string) (e CRLEntry, err error) {
	var at int64
	err = a.read.QueryRowContext(ctx, `SELECT serial, reason, revoked FROM crl_entry WHERE ca = $1 AND serial = $2`, ca, serial).Scan(&e.Serial, &e.Reason, &at)
	e.At = fromMicros(at)
	return e, notFound(err)
}
