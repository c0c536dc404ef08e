// Package store is the record: SQL in SQLite or PostgreSQL, the same statements
// and migrations for both. CSMS and Authority are separate types over separate
// databases, so that neither process is ever handed the other's credentials.
//
// One file per table. An exported method is one transaction; unexported
// functions take a *Tx and compose. The statements use $1 placeholders, BIGINT
// for times (microseconds since 1970, UTC; zero is "none") and TEXT for JSON.
// The package starts no goroutines.
package store
