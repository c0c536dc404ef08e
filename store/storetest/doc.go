// Package storetest starts the real databases for tests: SQLite in a temporary
// directory and a private PostgreSQL server on 127.0.0.1. It hands out what
// store's Open functions take and imports nothing of store itself.
//
// The server that a test binary shares belongs to Main, one made by NewServer to
// its test; both wait for the server's process to end.
package storetest

import (
	"fmt"
	"os"
	"sync"
	"testing"
)

// shared is the test binary's PostgreSQL server: started at its first use,
// stopped by Main.
var shared struct {
	mu     sync.Mutex
	inMain bool
	server *Server
	err    error
}

// Main runs a package's tests and then stops the shared PostgreSQL server. A
// package that uses Postgres or Each calls it from TestMain.
func Main(m *testing.M) {
	shared.mu.Lock()
	shared.inMain = true
	shared.mu.Unlock()
	code := m.Run()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if shared.server != nil {
		if err := shared.server.close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// SQLite returns an empty directory for SQLite databases.
func SQLite(t testing.TB) string { return t.TempDir() }

// Postgres returns the URL of a new database on the test binary's shared server.
// It skips the test when no PostgreSQL server is installed, and fails it if
// environment variable CI is set.
func Postgres(t testing.TB) string {
	t.Helper()
	shared.mu.Lock()
	if !shared.inMain {
		shared.mu.Unlock()
		t.Fatal("storetest: this package's TestMain has to call storetest.Main")
	}
	if shared.server == nil && shared.err == nil {
		shared.server, shared.err = start()
	}
	server, err := shared.server, shared.err
	shared.mu.Unlock()
	check(t, err)
	return server.Database(t)
}

// Each runs test as a subtest for SQLite and for PostgreSQL. where is what
// store's Open functions take.
func Each(t *testing.T, test func(t *testing.T, where string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) { test(t, Postgres(t)) })
}
