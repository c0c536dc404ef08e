// Package fleet simulates charging stations by the thousand, against Holdfast or
// any other OCPP server: each station has its own identity, credentials,
// connection, connectors and transactions, and keeps to OCPP 1.6, 2.0.1 or 2.1.
//
// It is a second implementation of the protocol that checks the first: it shares
// with the server side only the envelope (package ocpp), speaks WebSocket with
// code of its own, and keeps a [Ledger] of everything that the server
// acknowledged, so that [Verify] can say afterwards what was lost, doubled or
// altered.
//
// It does not make identities, passwords or certificates, does not read
// scenarios and does not ask a server's API: whoever uses it hands it
// identities and, for Verify, a function that fetches the server's record.
//
// A station is one goroutine at most, owned by [Fleet.Run], and all of its state
// belongs to that goroutine. While a station is idle the goroutine waits for the
// socket to become readable or for the station's next task on a fresh, small
// stack, and no buffer is held.
package fleet
