package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"holdfast/ocpp"
)

// CertificateStatus is where a certificate is in its life. Expiry is not a
// status: see NotAfter.
type CertificateStatus string

const (
	StatusActive     CertificateStatus = "active"
	StatusSuperseded CertificateStatus = "superseded" // a newer one was used; still accepted, as the station's fallback
	StatusRevoked    CertificateStatus = "revoked"
)

// Kinds of certificates.
const (
	KindStation = "station"
	KindServer  = "server"
	KindOCSP    = "ocsp" // a responder of ours
)

// Certificate is one certificate in the inventory.
type Certificate struct {
	ID          string            `json:"id"`
	Fingerprint string            `json:"fingerprint" doc:"SHA-256 of the certificate, hex"`
	Serial      string            `json:"serial" doc:"Serial number of the certificate, hex"`
	Issuer      string            `json:"issuer"`
	IssuerKey   string            `json:"issuer_key,omitempty" doc:"Authority key id, hex"`
	Subject     string            `json:"subject"`
	Kind        string            `json:"kind" enum:"station,server,ocsp"`
	Station     ocpp.StationID    `json:"station,omitempty"`
	Issued      bool              `json:"issued" doc:"Whether it was issued here, or by an external CA on our request; else it was seen when its station was admitted"`
	ExternalCA  string            `json:"external_ca,omitempty" doc:"Address of the external CA that issued it on our request"`
	NotBefore   time.Time         `json:"not_before"`
	NotAfter    time.Time         `json:"not_after"`
	Created     time.Time         `json:"created"`
	FirstUsed   time.Time         `json:"first_used,omitzero" doc:"When the station was first admitted with it"`
	Status      CertificateStatus `json:"status" enum:"active,superseded,revoked"`
	Reason      string            `json:"reason,omitempty" doc:"Why it was revoked or superseded"`
	RevokedAt   time.Time         `json:"revoked_at,omitzero"`
	PEM         string            `json:"pem"`
	// PublicKey is the SHA-256 of the public key, hex. Only one certificate of a
	// station that can still be handed out again has it.
	PublicKey string `json:"-"`
}

const certificateColumns = `id, fingerprint, serial, issuer, issuer_key, subject, kind, identity, issued, public_key,
	not_before, not_after, created, first_used, status, reason, revoked, pem, external_ca`

// certificateRow scans certificateColumns.
type certificateRow struct {
	c                                                Certificate
	notBefore, notAfter, created, firstUsed, revoked int64
}

func (r *certificateRow) dst() []any {
	c := &r.c
	return []any{&c.ID, &c.Fingerprint, &c.Serial, &c.Issuer, &c.IssuerKey, &c.Subject, &c.Kind, &c.Station, &c.Issued, &c.PublicKey,
		&r.notBefore, &r.notAfter, &r.created, &r.firstUsed, &c.Status, &c.Reason, &r.revoked, &c.PEM, &c.ExternalCA}
}

func (r *certificateRow) certificate() Certificate {
	c := r.c
	c.NotBefore, c.NotAfter, c.Created = fromMicros(r.notBefore), fromMicros(r.notAfter), fromMicros(r.created)
	c.FirstUsed, c.RevokedAt = fromMicros(r.firstUsed), fromMicros(r.revoked)
	return c
}

// addCertificate inserts a certificate and reports whether it did: not if its
// fingerprint, or its station's key, is there already.
func (t *Tx) addCertificate(c Certificate) (bool, error) {
	if c.ID == "" {
		c.ID = newID()
	}
	n, err := t.exec(`INSERT INTO certificate (id, fingerprint, serial, issuer, issuer_key, subject, kind, station, identity, issued,
			public_key, not_before, not_after, created, first_used, status, reason, revoked, pem, external_ca)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20) ON CONFLICT DO NOTHING`,
		c.ID, c.Fingerprint, c.Serial, c.Issuer, c.IssuerKey, c.Subject, c.Kind, c.Station.Fold(), string(c.Station), c.Issued,
		c.PublicKey, micros(c.NotBefore), micros(c.NotAfter), micros(c.Created), micros(c.FirstUsed), string(c.Status), c.Reason, micros(c.RevokedAt), c.PEM, c.ExternalCA)
	if n > 0 && err == nil && (!c.Issued || c.ExternalCA != "") {
		err = t.markListed(c) // a list may have come in since it was looked at
	}
	return n > 0, err
}

// AddCertificate records an issued certificate. If the station has one for the
// same key already, that one is returned instead, and c must not be handed out:
// of two replicas that sign one request, one loses. ErrNotFound if c is for a
// station that is not registered.
func (a *Authority) AddCertificate(ctx context.Context, c Certificate, audit AuditEntry) (Certificate, error) {
	recorded := c
	err := a.update(ctx, c.Station.Fold(), func(tx *Tx) error {
		recorded = c
		if c.Station != "" { // and hold it, so that it is not removed meanwhile
			n, err := tx.exec(`UPDATE station SET updated = updated WHERE station = $1`, c.Station.Fold())
			if err != nil {
				return err
			}
			if n == 0 {
				return fmt.Errorf("station %s: %w", c.Station, ErrNotFound)
			}
		}
		added, err := tx.addCertificate(c)
		if err != nil {
			return err
		}
		if !added {
			recorded, err = tx.certificateOfKey(c.Station, c.PublicKey)
			return err
		}
		return tx.audit(audit)
	})
	return recorded, err
}

func (t *Tx) certificateOfKey(station ocpp.StationID, publicKey string) (Certificate, error) {
	var r certificateRow
	err := t.row(false, `SELECT `+certificateColumns+` FROM certificate WHERE station = $1 AND public_key = $2`, []any{station.Fold(), publicKey}, r.dst()...)
	return r.certificate(), err
}

// CertificateOfKey returns the certificate that a station has for a public key.
// ErrNotFound without it.
func (a *Authority) CertificateOfKey(ctx context.Context, station ocpp.StationID, publicKey string) (Certificate, error) {
	list, err := a.certificates(ctx, `WHERE station = $1 AND public_key = $2`, station.Fold(), publicKey)
	if err != nil {
		return Certificate{}, err
	}
	if len(list) == 0 {
		return Certificate{}, ErrNotFound
	}
	return list[0], nil
}

// ReleaseKey lets another certificate be issued for the key of one: the end of
// its life is near.
func (a *Authority) ReleaseKey(ctx context.Context, station ocpp.StationID, fingerprint string) error {
	return a.update(ctx, station.Fold(), func(tx *Tx) error {
		_, err := tx.exec(`UPDATE certificate SET public_key = '' WHERE fingerprint = $1`, fingerprint)
		return err
	})
}

// CertificateUsed records that a station was admitted with a certificate for the
// first time. One that was not issued here is added to the inventory; the other
// certificates of the station that were issued or seen before become superseded.
func (a *Authority) CertificateUsed(ctx context.Context, c Certificate, now time.Time) error {
	return a.update(ctx, c.Station.Fold(), func(tx *Tx) error {
		n, err := tx.exec(`UPDATE certificate SET first_used = $1, station = $2, identity = $3 WHERE fingerprint = $4`,
			micros(now), c.Station.Fold(), string(c.Station), c.Fingerprint)
		if err != nil {
			return err
		}
		if n == 0 {
			c.FirstUsed, c.Created, c.Status, c.PublicKey = now, now, StatusActive, ""
			if _, err := tx.addCertificate(c); err != nil {
				return err
			}
		}
		_, err = tx.exec(`UPDATE certificate SET status = $1, reason = 'superseded' WHERE station = $2 AND status = $3 AND fingerprint <> $4
			AND id < (SELECT id FROM certificate WHERE fingerprint = $5)`,
			string(StatusSuperseded), c.Station.Fold(), string(StatusActive), c.Fingerprint, c.Fingerprint)
		return err
	})
}

// FindCertificates returns the certificates with a serial number or a
// fingerprint, in hex. Serial numbers of different issuers can be equal.
func (a *Authority) FindCertificates(ctx context.Context, serialOrFingerprint string) ([]Certificate, error) {
	return a.certificates(ctx, `WHERE serial = $1 OR fingerprint = $2 ORDER BY id DESC LIMIT 100`, serialOrFingerprint, serialOrFingerprint)
}

func (a *Authority) certificates(ctx context.Context, tail string, args ...any) ([]Certificate, error) {
	rows, err := a.read.QueryContext(ctx, `SELECT `+certificateColumns+` FROM certificate `+tail, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var certificates []Certificate
	for rows.Next() {
		c, err := scanCertificate(rows)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, c)
	}
	return certificates, rows.Err()
}

func scanCertificate(rows *sql.Rows) (Certificate, error) {
	var r certificateRow
	err := rows.Scan(r.dst()...)
	return r.certificate(), err
}

// Revoke revokes a certificate for good and returns it with the trust
// generation after it. ErrNotFound without it; one that is revoked already
// stays as it is.
func (a *Authority) Revoke(ctx context.Context, fingerprint, reason string, now time.Time, audit AuditEntry) (Certificate, int64, error) {
	var row certificateRow
	var generation int64
	err := a.update(ctx, audit.Station.Fold(), func(tx *Tx) error {
		n, err := tx.exec(`UPDATE certificate SET status = $1, reason = $2, revoked = $3 WHERE fingerprint = $4 AND status <> $5`,
			string(StatusRevoked), reason, micros(now), fingerprint, string(StatusRevoked))
		if err != nil {
			return err
		}
		row = certificateRow{}
		err = tx.row(false, `SELECT `+certificateColumns+` FROM certificate WHERE fingerprint = $1`, []any{fingerprint}, row.dst()...)
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("certificate %s: %w", fingerprint, ErrNotFound)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return tx.row(false, `SELECT value FROM generation WHERE name = 'trust'`, nil, &generation)
		}
		if generation, err = tx.bump(); err != nil {
			return err
		}
		return tx.audit(audit)
	})
	return row.certificate(), generation, err
}

// CertificateFilter chooses certificates; zero fields choose all.
type CertificateFilter struct {
	Station       ocpp.StationID    `json:"station,omitempty"`
	Status        CertificateStatus `json:"status,omitempty"`
	Kind          string            `json:"kind,omitempty"`
	ExpiresBefore time.Time         `json:"expires_before,omitzero"` // and not expired at ExpiresAfter
	ExpiresAfter  time.Time         `json:"expires_after,omitzero"`
}

// Certificates lists the inventory, newest first.
func (a *Authority) Certificates(ctx context.Context, f CertificateFilter, p Page) (List[Certificate], error) {
	before := maxID
	if err := p.key(&before); err != nil {
		return List[Certificate]{}, err
	}
	var w where
	w.add(`id < ?`, before)
	if f.Station != "" {
		w.add(`station = ?`, f.Station.Fold())
	}
	if f.Status != "" {
		w.add(`status = ?`, string(f.Status))
	}
	if f.Kind != "" {
		w.add(`kind = ?`, f.Kind)
	}
	if !f.ExpiresBefore.IsZero() {
		w.add(`not_after < ?`, micros(f.ExpiresBefore))
	}
	if !f.ExpiresAfter.IsZero() {
		w.add(`not_after > ?`, micros(f.ExpiresAfter))
	}
	return list(ctx, a.db, p, `SELECT `+certificateColumns+` FROM certificate`+w.sql(` ORDER BY id DESC LIMIT ?`, p.limit()+1), w.args,
		scanCertificate, func(c Certificate) []any { return []any{c.ID} })
}

// CertificateOfIssuer returns the status of the certificate with a serial number
// that an issuer of ours, named by its key identifier in hex, issued here.
// ErrNotFound without it.
func (a *Authority) CertificateOfIssuer(ctx context.Context, issuerKey, serial string) (status CertificateStatus, r Revocation, err error) {
	var at int64
	err = a.read.QueryRowContext(ctx, `SELECT status, fingerprint, serial, reason, revoked FROM certificate WHERE serial = $1 AND issuer_key = $2 AND issued`, serial, issuerKey).
		Scan(&status, &r.Fingerprint, &r.Serial, &r.Reason, &at)
	r.At = fromMicros(at)
	return status, r, notFound(err)
}

// Revocation is what is kept of a revoked certificate where only that matters.
type Revocation struct {
	Fingerprint, Serial, Reason string
	At                          time.Time
}

// Revocations returns the revoked certificates that have not expired at now,
// the latest first, at most limit. issuerKey, if not empty, chooses an issuer.
func (a *Authority) Revocations(ctx context.Context, issuerKey string, now time.Time, limit int) ([]Revocation, error) {
	var w where
	w.add(`status = ?`, string(StatusRevoked))
	w.add(`not_after > ?`, micros(now))
	if issuerKey != "" {
		w.add(`issuer_key = ?`, issuerKey)
	}
	rows, err := a.read.QueryContext(ctx, `SELECT fingerprint, serial, reason, revoked FROM certificate`+w.sql(` ORDER BY revoked DESC, id DESC LIMIT ?`, limit), w.args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Revocation
	for rows.Next() {
		var r Revocation
		var at int64
		if err := rows.Scan(&r.Fingerprint, &r.Serial, &r.Reason, &at); err != nil {
			return nil, err
		}
		r.At = fromMicros(at)
		list = append(list, r)
	}
	return list, rows.Err()
}

// CertificateCounts sums up the inventory of one kind.
type CertificateCounts struct {
	Active, Superseded, Revoked, Expired int64
	NextExpiry                           time.Time // of the active ones; zero: there are none
}

// CountCertificates sums up the stations' certificates at now.
func (a *Authority) CountCertificates(ctx context.Context, now time.Time) (CertificateCounts, error) {
	var c CertificateCounts
	var next sql.NullInt64
	err := a.read.QueryRowContext(ctx, `SELECT
			count(CASE WHEN status = 'active' AND not_after > $1 THEN 1 END),
			count(CASE WHEN status = 'superseded' AND not_after > $2 THEN 1 END),
			count(CASE WHEN status = 'revoked' AND not_after > $3 THEN 1 END),
			count(CASE WHEN not_after <= $4 THEN 1 END),
			min(CASE WHEN status = 'active' AND not_after > $5 THEN not_after END)
		FROM certificate WHERE kind = 'station'`, micros(now), micros(now), micros(now), micros(now), micros(now)).
		Scan(&c.Active, &c.Superseded, &c.Revoked, &c.Expired, &next)
	c.NextExpiry = fromMicros(next.Int64)
	return c, err
}
