package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

const (
	maxWaiting = 8192 // units that wait in one lane
	maxGroup   = 256  // units in one commit
	commitTime = 30 * time.Second
)

// lane commits units of work in groups: while one group commits, the next one
// gathers. There is no committer goroutine: of those who wait, the first leads.
type lane struct {
	mu    sync.Mutex
	queue []*unit // waiting; the leader takes from the front
	led   bool    // somebody leads

	// Owned by the leader.
	conn  *sql.Conn            // nil until needed, and after a fault
	stmts map[string]*sql.Stmt // prepared on conn, by text; as many as this package has statements
}

// unit is one caller's work. Owned by its caller until queued, then by the
// leader until done is closed.
type unit struct {
	fn   func(*Tx) error
	err  error
	lead chan struct{} // closed: you lead the next group
	done chan struct{} // closed: err is set
}

var laneSeed = maphash.MakeSeed()

// update runs fn in a transaction that it may share with others, and returns
// after the commit: nil means that fn's writes are durable. If fn fails, its
// writes are undone and those of others are not. fn can run more than once, so
// it must assign, not accumulate, what it hands out. key (a station) chooses
// the lane.
func (d *db) update(ctx context.Context, key string, fn func(*Tx) error) error {
	l := &d.lanes[maphash.String(laneSeed, key)%uint64(len(d.lanes))]
	u := &unit{fn: fn, lead: make(chan struct{}), done: make(chan struct{})}
	l.mu.Lock()
	if len(l.queue) >= maxWaiting {
		l.mu.Unlock()
		return ErrBusy
	}
	l.queue = append(l.queue, u)
	if !l.led {
		l.led = true
		close(u.lead)
	}
	l.mu.Unlock()

	select {
	case <-u.done:
		return u.err
	case <-u.lead:
		d.leadGroup(l)
		return u.err
	case <-ctx.Done():
	}
	l.mu.Lock()
	i := slices.Index(l.queue, u)
	select {
	case <-u.lead: // leadership came with the cancellation: pass it on
		l.mu.Unlock()
		d.leadGroup(l)
		return u.err
	default:
	}
	if i >= 0 {
		l.queue = slices.Delete(l.queue, i, i+1)
		l.mu.Unlock()
		return ctx.Err()
	}
	l.mu.Unlock()
	<-u.done // it is being committed: the outcome counts
	return u.err
}

// leadGroup commits one group, the caller's unit first, and names the next leader.
func (d *db) leadGroup(l *lane) {
	l.mu.Lock()
	n := min(len(l.queue), maxGroup)
	group := slices.Clone(l.queue[:n])
	l.queue = slices.Delete(l.queue, 0, n)
	l.mu.Unlock()

	// Not the caller's context: others share this commit.
	ctx, cancel := context.WithTimeout(context.Background(), commitTime)
	d.commit(ctx, l, group)
	cancel()

	l.mu.Lock()
	if len(l.queue) > 0 {
		close(l.queue[0].lead)
	} else {
		l.led = false
	}
	l.mu.Unlock()
	for _, u := range group {
		close(u.done)
	}
}

// errAlone says that a group must be undone and its units run one by one.
var errAlone = errors.New("run alone")

func (d *db) commit(ctx context.Context, l *lane, group []*unit) {
	err := d.run(ctx, l, group)
	if errors.Is(err, errAlone) {
		for i := range group {
			d.commit(ctx, l, group[i:i+1])
		}
		return
	}
	if err != nil {
		for _, u := range group {
			u.err = err
		}
	}
}

// run runs the units in one transaction. A nil result means that each unit's
// err is its own outcome, and that those without err are committed.
func (d *db) run(ctx context.Context, l *lane, group []*unit) error {
	if err := l.beginOn(ctx, d); err != nil {
		return err
	}
	tx := &Tx{lane: l, ctx: ctx}
	for _, u := range group {
		tx.wrote, tx.failed = false, false
		u.err = u.fn(tx)
		if !tx.failed && (u.err == nil || !tx.wrote) {
			continue
		}
		if _, err := l.conn.ExecContext(ctx, "ROLLBACK"); err != nil {
			l.discard() // which undoes it, too
		}
		if len(group) > 1 {
			return errAlone
		}
		if u.err == nil {
			return errors.New("transaction: a failed statement was ignored")
		}
		return nil
	}
	if _, err := l.conn.ExecContext(ctx, "COMMIT"); err != nil {
		l.discard()
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}

// beginOn begins a transaction on the lane's connection. After a restart of the
// database the pool holds connections that are dead: nothing was done on them
// yet, so the next one is tried.
func (l *lane) beginOn(ctx context.Context, d *db) error {
	for {
		if err := l.connect(ctx, d); err != nil {
			return err
		}
		_, err := l.conn.ExecContext(ctx, d.begin)
		if err == nil {
			return nil
		}
		l.discard()
		if !errors.Is(err, driver.ErrBadConn) || ctx.Err() != nil {
			return fmt.Errorf("begin transaction: %w", err)
		}
	}
}

func (l *lane) connect(ctx context.Context, d *db) error {
	if l.conn != nil {
		return nil
	}
	conn, err := d.write.Conn(ctx)
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	l.conn, l.stmts = conn, make(map[string]*sql.Stmt)
	return nil
}

// discard closes the connection for good: its state is unknown.
func (l *lane) discard() {
	if l.conn == nil {
		return
	}
	l.conn.Raw(func(any) error { return driver.ErrBadConn })
	l.conn.Close()
	l.conn, l.stmts = nil, nil
}

// Tx is a transaction in progress. Not safe for concurrent use.
type Tx struct {
	lane   *lane
	ctx    context.Context
	wrote  bool // the current unit may have written
	failed bool // a statement of the current unit failed: PostgreSQL refuses all further ones
}

// exec runs a statement that writes and returns the number of rows it changed.
func (t *Tx) exec(query string, args ...any) (int64, error) {
	t.wrote = true
	stmt, err := t.stmt(query)
	if err != nil {
		return 0, err
	}
	res, err := stmt.ExecContext(t.ctx, args...)
	if err != nil {
		t.failed = true
		return 0, err
	}
	return res.RowsAffected()
}

// row runs a query of at most one row and scans it; ErrNotFound if there is
// none. With writes set, the query writes (INSERT … RETURNING).
func (t *Tx) row(writes bool, query string, args []any, dst ...any) error {
	t.wrote = t.wrote || writes
	stmt, err := t.stmt(query)
	if err != nil {
		return err
	}
	err = stmt.QueryRowContext(t.ctx, args...).Scan(dst...)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	t.failed = t.failed || err != nil
	return err
}

// rows runs a query and calls scan once per row.
func (t *Tx) rows(query string, args []any, scan func(*sql.Rows) error) error {
	stmt, err := t.stmt(query)
	if err != nil {
		return err
	}
	rows, err := stmt.QueryContext(t.ctx, args...)
	if err != nil {
		t.failed = true
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		t.failed = true
		return err
	}
	return nil
}

// stmt returns query prepared on the lane's connection.
func (t *Tx) stmt(query string) (*sql.Stmt, error) {
	if s, ok := t.lane.stmts[query]; ok {
		return s, nil
	}
	s, err := t.lane.conn.PrepareContext(t.ctx, query)
	if err != nil {
		t.failed = true
		return nil, err
	}
	t.lane.stmts[query] = s
	return s, nil
}
