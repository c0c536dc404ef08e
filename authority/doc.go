// Package authority decides which charging station may connect, and keeps the
// whole life of its credentials: passwords, certificates, revocation, and the
// audit record of who changed what.
//
// It holds the CA keys, in files of one directory (cafile.go) or in a key
// management system, and nothing else does. Several authority processes may
// share one PostgreSQL and one such directory; what they must agree on is in the
// database.
//
// An Authority is called directly, or over any bus that carries bytes: Handlers
// serves its methods and Client calls them. Publish is told of every change
// that gateways must act on. The package does not know gateways, sockets or
// OCPP messages.
//
// It starts no goroutines; Run, which its caller starts, writes attempts to the
// database, rotates ticket keys and deletes what is old.
package authority
