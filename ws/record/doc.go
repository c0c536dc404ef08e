// Package record carries a TLS connection on after crypto/tls did its handshake:
// the record protocol alone, with AEAD cipher suites of TLS 1.2 and 1.3, as its
// server. A tls.Conn keeps two expanded ciphers and its handshake's state, 2.8 KB
// for an idle connection; a Conn keeps the keys, a quarter of a kilobyte, and
// expands them for the time of a read or a write.
//
// It touches no private field: the secrets come from tls.Config.KeyLogWriter,
// the server's random from the wire, and the sequence numbers from opening the
// last record of each direction once more, which proves all of it. Whatever
// does not prove stays with the tls.Conn.
//
// References are to RFC 8446 (TLS 1.3) unless they name RFC 5246 (TLS 1.2).
package record
