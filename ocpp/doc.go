// Package ocpp holds the words that every other package shares: a charging
// station's identity, the protocol versions, the JSON envelope of OCPP-J, error
// codes, the one function type that every hop of a CALL has, and what a gateway
// asks and learns about a station that wants to connect.
//
// It parses and encodes; it does no I/O, starts no goroutines and knows no
// business rule. The message types of each version are in ocpp/v16, ocpp/v201
// and ocpp/v21.
package ocpp
