// Package api is the operators' REST interface: /api/v1, described by an
// OpenAPI 3.1 document that is made from this code.
//
// It translates between HTTP and the management core (package csms), its
// record (package store) and what cmd wires in behind the small interfaces of
// backends.go: the authority, the message log, the gateways. It decides nothing
// itself but who may ask: bearer tokens with the roles read, operate and admin.
//
// Every list has cursors, every error is a problem document (RFC 9457), every
// body, queue and stream has a limit.
//
// New starts nothing. Run, which its caller starts, hands events out to the
// clients of the event stream and keeps the list of tokens fresh. All other
// goroutines are net/http's.
package api
