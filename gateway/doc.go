// Package gateway holds one charging station's connection from upgrade to
// close: it asks whether the station may connect, takes over from an older
// connection, carries CALLs in both directions, one at a time each, and drains.
//
// It decides nothing (the authority does), decodes no payload (the csms does)
// and knows nothing of bytes on the wire (ws does). It verifies client
// certificates with the trust bundle it was given.
//
// Goroutines: one per CALL of a station while it is being answered, and those
// of Run and of ws; Run waits for all of them.
package gateway
