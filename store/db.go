package store

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // driver "pgx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
	_ "modernc.org/sqlite" // driver "sqlite"
)

var (
	// ErrNotFound: no row has that key.
	ErrNotFound = errors.New("not found")
	// ErrExists: a row has that key already.
	ErrExists = errors.New("exists already")
	// ErrBusy: too many transactions wait for the database (maxWaiting).
	ErrBusy = errors.New("database is overloaded: too many transactions are waiting")
)

//go:embed migrations
var migrations embed.FS

// db is one open database. Writes go through lanes, which commit in groups;
// reads go straight to read.
type db struct {
	write *sql.DB
	read  *sql.DB
	begin string // statement that begins a transaction which writes

	postgres bool // else SQLite

	lanes []lane // each holds one connection of write
}

// open opens and migrates the database called name ("csms" or "authority").
// where is a postgres:// URL, in which name is a schema, or the directory in
// which name.db is kept.
func open(ctx context.Context, where, name string) (*db, error) {
	files, err := fs.Sub(migrations, "migrations/"+name)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(where, "postgres://") || strings.HasPrefix(where, "postgresql://") {
		return openPostgres(ctx, where, name, files)
	}
	if strings.Contains(where, "://") {
		return nil, fmt.Errorf("database %q: not a postgres:// URL", redactURL(where))
	}
	return openSQLite(ctx, where, name, files)
}

func openSQLite(ctx context.Context, dir, name string, files fs.FS) (*db, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("database directory: %w", err)
	}
	path := filepath.Join(dir, name+".db")
	// FULL: an acknowledged transaction survives a power cut, at one fsync per group.
	dsn := "file:" + (&url.URL{Path: path}).EscapedPath() + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(ON)"
	write, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	write.SetMaxOpenConns(1) // SQLite has one writer
	read, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", path, err), write.Close())
	}
	read.SetMaxOpenConns(2 * runtime.GOMAXPROCS(0))
	read.SetMaxIdleConns(runtime.GOMAXPROCS(0))
	d := &db{write: write, read: read, begin: "BEGIN IMMEDIATE", lanes: make([]lane, 1)}
	if err := migrate(ctx, write, goose.DialectSQLite3, files); err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", path, err), d.close())
	}
	return d, nil
}

// postgresLanes is how many groups of transactions commit at a time. A key
// always takes the same lane, so two lanes rarely want the same rows.
const postgresLanes = 4

// postgresBegin begins a transaction that waits two seconds at most for a row
// that somebody else has locked: the stations of a lane wait behind each other,
// and must not wait for one of them.
const postgresBegin = "BEGIN; SET LOCAL lock_timeout = '2s'"

func openPostgres(ctx context.Context, where, name string, files fs.FS) (*db, error) {
	u, err := url.Parse(where)
	if err != nil {
		return nil, errors.New("database: not a valid postgres:// URL") // err would show the password
	}
	q := u.Query()
	q.Set("search_path", name)
	if q.Get("connect_timeout") == "" {
		q.Set("connect_timeout", "10")
	}
	u.RawQuery = q.Encode()
	pool, err := sql.Open("pgx", u.String())
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", u.Redacted(), err)
	}
	pool.SetMaxOpenConns(postgresLanes + 4*runtime.GOMAXPROCS(0))
	pool.SetMaxIdleConns(postgresLanes + runtime.GOMAXPROCS(0))
	d := &db{write: pool, read: pool, begin: postgresBegin, postgres: true, lanes: make([]lane, postgresLanes)}
	err = createSchema(ctx, pool, name)
	if err == nil {
		err = migrate(ctx, pool, goose.DialectPostgres, files)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database %s: %w", u.Redacted(), err), d.close())
	}
	return d, nil
}

// createSchema creates the schema unless it is there: an operator may have
// created it for a user who may not.
func createSchema(ctx context.Context, pool *sql.DB, name string) error {
	there := func() (bool, error) {
		var n int
		err := pool.QueryRowContext(ctx, `SELECT count(*) FROM information_schema.schemata WHERE schema_name = $1`, name).Scan(&n)
		return n > 0, err
	}
	if ok, err := there(); ok || err != nil {
		return err
	}
	_, err := pool.ExecContext(ctx, `CREATE SCHEMA IF NOT EXISTS `+name)
	if err != nil { // of two that create it at the same time, one fails all the same
		if ok, _ := there(); ok {
			return nil
		}
	}
	return err
}

func migrate(ctx context.Context, pool *sql.DB, dialect goose.Dialect, files fs.FS) error {
	options := []goose.ProviderOption{goose.WithLogger(goose.NopLogger())}
	if dialect == goose.DialectPostgres { // several replicas may start at once
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300)) // a try per second, for five minutes
		if err != nil {
			return err
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(dialect, pool, files, options...)
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return nil
}

func redactURL(s string) string {
	if u, err := url.Parse(s); err == nil {
		return u.Redacted()
	}
	return "(not a URL)"
}

// ping reports whether the database answers.
func (d *db) ping(ctx context.Context) error {
	var one int
	return d.read.QueryRowContext(ctx, `SELECT 1`).Scan(&one)
}

// close ends the database; the caller has stopped using it.
func (d *db) close() error {
	for i := range d.lanes {
		d.lanes[i].discard()
	}
	if d.read == d.write {
		return d.write.Close()
	}
	return errors.Join(d.write.Close(), d.read.Close())
}

// micros and fromMicros convert between a time and its column.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
