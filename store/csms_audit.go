package store

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// auditKept is how long the csms's audit record is kept.
const auditKept = 3 * 365 * 24 * time.Hour

// AddAudit writes a line of the audit record and deletes those that are three
// years older.
func (c *CSMS) AddAudit(ctx context.Context, e AuditEntry) error {
	return c.update(ctx, "audit", func(tx *Tx) error {
		if _, err := tx.exec(`DELETE FROM audit WHERE at < $1`, micros(e.At.Add(-auditKept))); err != nil {
			return err
		}
		return tx.audit(e)
	})
}

// Audit lists the csms's audit record, newest first. Its table is the same as
// the authority's.
func (c *CSMS) Audit(ctx context.Context, f AuditFilter, p Page) (List[AuditEntry], error) {
	return (&Authority{db: c.db}).Audit(ctx, f, p)
}

// MergeAudit makes one page of the pages of two records for the same p: their
// cursors mean the same place.
func MergeAudit(p Page, a, b List[AuditEntry]) List[AuditEntry] {
	items := slices.Concat(a.Items, b.Items)
	slices.SortFunc(items, func(x, y AuditEntry) int { return cmp.Compare(y.ID, x.ID) })
	n := min(len(items), p.limit())
	for _, l := range []List[AuditEntry]{a, b} {
		if l.Next == "" || len(l.Items) == 0 {
			continue
		}
		// What follows in the other record may come after what this one has not told yet.
		last := l.Items[len(l.Items)-1].ID
		n = min(n, 1+slices.IndexFunc(items, func(e AuditEntry) bool { return e.ID == last }))
	}
	merged := List[AuditEntry]{Items: items[:n]}
	if n > 0 && (n < len(items) || a.Next != "" || b.Next != "") {
		merged.Next = cursor(items[n-1].ID)
	}
	return merged
}
