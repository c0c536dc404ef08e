package record

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"io"
	"net"
	"slices"
	"strings"
)

// Handshake is the stream below a tls.Conn until Take: it watches what Take needs
// to know. A tls.Conn gets one record at a time of it, so that it keeps nothing
// back.
type Handshake struct {
	net.Conn

	in     []byte // read from Conn, not yet given
	left   int    // bytes of the current record that were not given
	header []byte // of the record that begins
	last   record // the last record that was given
	sent   record
	took   int    // content that the tls.Conn's reader got out of last
	random []byte // the server's
	lost   bool   // what was sent is not what this package understands

	secrets map[string][]byte // by label of the key log
	client  []byte            // random

	through bool // Take refused: everything passes
}

// record is the last one of a direction and how many of its kind there were.
type record struct {
	b     []byte
	count uint64
}

const (
	typeClientHello = 1
	typeServerHello = 2
	helloRandom     = headerSize + 4 + 2 // place of the random in its record
	randomSize      = 32
	inSize          = 4 << 10
)

// Config returns cfg for connections whose stream is a Handshake: the secrets of
// each are logged to its own.
func Config(cfg *tls.Config) *tls.Config {
	outer := cfg.Clone()
	outer.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		its := cfg
		if cfg.GetConfigForClient != nil {
			chosen, err := cfg.GetConfigForClient(hello)
			if err != nil {
				return nil, err
			}
			if chosen != nil {
				its = chosen
			}
		}
		if h, ok := hello.Conn.(*Handshake); ok {
			return h.watch(its), nil
		}
		return its, nil
	}
	return outer
}

// masterEntry marks the master secret in the tickets of TLS 1.2: the key log has
// none when a session is resumed. A ticket holds that secret anyway, encrypted.
const masterEntry = "holdfast master secret:"

// watch is cfg for this connection. Tickets are made and read with cfg's keys.
func (h *Handshake) watch(cfg *tls.Config) *tls.Config {
	its := cfg.Clone()
	its.KeyLogWriter = (*keyLog)(h)
	if cfg.WrapSession != nil || cfg.UnwrapSession != nil {
		return its
	}
	its.WrapSession = func(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		if state.Version == tls.VersionTLS12 {
			session.Extra = append(session.Extra, append([]byte(masterEntry), h.secrets[keyLogTLS12]...))
		}
		return cfg.EncryptTicket(state, session)
	}
	its.UnwrapSession = func(ticket []byte, state tls.ConnectionState) (*tls.SessionState, error) {
		session, err := cfg.DecryptTicket(ticket, state)
		if session != nil {
			for _, extra := range session.Extra {
				if master, ok := bytes.CutPrefix(extra, []byte(masterEntry)); ok {
					h.keep(keyLogTLS12, master)
				}
			}
		}
		return session, err
	}
	return its
}

// Labels of the key log: the master secret of TLS 1.2, the first traffic secrets
// of TLS 1.3.
const (
	keyLogTLS12  = "CLIENT_RANDOM"
	keyLogClient = "CLIENT_TRAFFIC_SECRET_0"
	keyLogServer = "SERVER_TRAFFIC_SECRET_0"
)

// keyLog takes the lines of a key log: label, client's random, secret.
type keyLog Handshake

func (k *keyLog) Write(line []byte) (int, error) {
	if words := strings.Fields(string(line)); len(words) == 3 {
		random, err1 := hex.DecodeString(words[1])
		secret, err2 := hex.DecodeString(words[2])
		if err1 == nil && err2 == nil {
			k.client = random
			(*Handshake)(k).keep(words[0], secret)
		}
	}
	return len(line), nil
}

func (h *Handshake) keep(label string, secret []byte) {
	if h.secrets == nil {
		h.secrets = make(map[string][]byte)
	}
	h.secrets[label] = secret
}

// Read gives at most the rest of one record.
func (h *Handshake) Read(b []byte) (int, error) {
	if h.through {
		if len(h.in) == 0 {
			return h.Conn.Read(b)
		}
		n := copy(b, h.in)
		if h.in = h.in[n:]; len(h.in) == 0 {
			h.in = nil
		}
		return n, nil
	}
	for len(h.in) == 0 || h.left == 0 && len(h.in) < headerSize {
		if cap(h.in)-len(h.in) < headerSize {
			h.in = append(make([]byte, 0, inSize), h.in...)
		}
		n, err := h.Conn.Read(h.in[len(h.in):cap(h.in)])
		h.in = h.in[:len(h.in)+n]
		if err != nil && n == 0 {
			if len(h.in) == 0 {
				return 0, err
			}
			h.left = len(h.in) // the stream ends in a header
		}
	}
	if h.left == 0 {
		h.left = lengthOf(h.in)
		h.took = 0
		h.last.begin(h.in[0])
	}
	n := copy(b[:min(len(b), h.left)], h.in)
	h.last.b = append(h.last.b, b[:n]...)
	h.left -= n
	h.in = h.in[n:]
	if h.left == 0 && h.client == nil {
		h.client = randomOf(h.last.b, typeClientHello)
	}
	return n, nil
}

func (r *record) begin(typ byte) {
	r.b = r.b[:0]
	if typ == typeApplicationData {
		r.count++
	}
}

// Write watches the records that are sent. crypto/tls writes whole ones.
func (h *Handshake) Write(b []byte) (int, error) {
	if h.through {
		return h.Conn.Write(b)
	}
	for rest := b; len(rest) > 0; {
		n := lengthOf(rest)
		if n == 0 || n > len(rest) {
			h.lost = true
			break
		}
		h.sent.begin(rest[0])
		h.sent.b = append(h.sent.b, rest[:n]...)
		if h.random == nil {
			h.random = randomOf(rest[:n], typeServerHello)
		}
		rest = rest[n:]
	}
	return h.Conn.Write(b)
}

// randomOf returns the random of a hello that begins a record, nil if it is none.
func randomOf(record []byte, hello byte) []byte {
	if len(record) < helloRandom+randomSize || record[0] != typeHandshake || record[headerSize] != hello {
		return nil
	}
	return slices.Clone(record[helloRandom:][:randomSize])
}

// Took notes that reading from the tls.Conn returned n bytes of content.
func (h *Handshake) Took(n int) { h.took += n }

// Take carries the connection on, with the stream that will be below it; the
// tls.Conn is not to be used again. Content has been read and written before,
// and what of it was not read is in rest. If it returns nil, the connection is
// one for crypto/tls: a suite with CBC, or one that does not prove.
func (h *Handshake) Take(state tls.ConnectionState, under io.ReadWriter) (c *Conn, rest []byte) {
	defer h.forget()
	s := suiteOf(state.CipherSuite)
	if s == nil || s.tls13 != (state.Version == tls.VersionTLS13) || h.lost || h.left > 0 {
		return nil, nil
	}
	c = &Conn{under: under, suite: s}
	if s.tls13 {
		if c.in.set(s, h.secrets[keyLogClient]) != nil || c.out.set(s, h.secrets[keyLogServer]) != nil {
			return nil, nil
		}
	} else {
		keyBlock(s, h.secrets[keyLogTLS12], h.client, h.random, &c.in, &c.out)
	}
	content, ok := c.in.prove(s, &h.last)
	if _, sent := c.out.prove(s, &h.sent); !ok || !sent || h.took > len(content) {
		return nil, nil
	}
	if len(h.in) > 0 {
		c.state().buf = slices.Clone(h.in)
		h.in = nil
	}
	return c, content[h.took:]
}

// prove finds the sequence number with which the last record opens as
// application data, and leaves h behind it. TLS 1.2 counts Finished, too.
func (h *half) prove(s *suite, last *record) (content []byte, ok bool) {
	a, err := s.aead(h.key[:s.keySize])
	if err != nil || len(last.b) < headerSize {
		return nil, false
	}
	for seq := range last.count + 1 {
		h.seq = seq
		if typ, plain, err := h.open(s, a, bytes.Clone(last.b)); err == nil {
			return plain, typ == typeApplicationData
		}
	}
	return nil, false
}

// forget drops what only the handshake needed.
func (h *Handshake) forget() {
	h.last, h.sent, h.secrets, h.client, h.random, h.through = record{}, record{}, nil, nil, nil, true
}
