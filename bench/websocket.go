package main

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// wsClient is the client side of RFC 6455, as little of it as a station needs.
type wsClient struct {
	raw     net.Conn // below conn
	conn    net.Conn
	in      *bufio.Reader
	deflate bool // permessage-deflate without context takeover was agreed on

	mu  sync.Mutex // guards writing
	out []byte
}

const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xA

	maxAnswer   = 4 << 20
	connectTime = 60 * time.Second
)

// dial says how a station connects.
type dial struct {
	address, path string
	tls           *tls.Config // nil: plain
	user          string      // with password: HTTP Basic
	password      string
	protocol      string
	deflate       bool // offer permessage-deflate
}

// open connects and upgrades.
func (d *dial) open() (*wsClient, error) {
	deadline := time.Now().Add(connectTime)
	raw, err := (&net.Dialer{Deadline: deadline}).Dial("tcp", d.address)
	if err != nil {
		return nil, err
	}
	c := &wsClient{raw: raw, conn: raw}
	if d.tls != nil {
		c.conn = tls.Client(raw, d.tls)
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if err := c.upgrade(d); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return c, c.conn.SetDeadline(time.Time{})
}

// refusedError is an HTTP answer that is not the upgrade.
type refusedError struct {
	status int
	text   string
}

func (e *refusedError) Error() string { return fmt.Sprintf("server answers %d: %s", e.status, e.text) }

func (c *wsClient) upgrade(d *dial) error {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	request := "GET " + d.path + " HTTP/1.1\r\nHost: " + d.address + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: " + key + "\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: " + d.protocol + "\r\n"
	if d.password != "" {
		request += "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(d.user+":"+d.password)) + "\r\n"
	}
	if d.deflate {
		request += "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"
	}
	request += "\r\n"
	if _, err := io.WriteString(c.conn, request); err != nil {
		return err
	}
	c.in = bufio.NewReaderSize(c.conn, 1024)
	answer, err := http.ReadResponse(c.in, nil)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusSwitchingProtocols {
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 200))
		return &refusedError{answer.StatusCode, strings.TrimSpace(string(text))}
	}
	if answer.Header.Get("Sec-WebSocket-Accept") != acceptKey(key) {
		return errors.New("server answers with a wrong Sec-WebSocket-Accept")
	}
	if c.deflate = strings.HasPrefix(answer.Header.Get("Sec-WebSocket-Extensions"), "permessage-deflate"); c.deflate != d.deflate {
		return fmt.Errorf("permessage-deflate offered: %v, agreed on: %v", d.deflate, c.deflate)
	}
	return nil
}

// acceptKey is the proof of RFC 6455 §4.2.2.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// write sends one frame, masked with a key of zeros: allowed, and free.
func (c *wsClient) write(op byte, payload []byte) error {
	first := 0x80 | op
	if c.deflate && op == opText {
		var err error
		if payload, err = compress(payload); err != nil {
			return err
		}
		first |= compressed
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := append(c.out[:0], first)
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	b = append(append(b, 0, 0, 0, 0), payload...)
	if cap(b) <= 1<<10 {
		c.out = b
	}
	_, err := c.conn.Write(b)
	return err
}

// read returns the next text message and answers pings on the way. The peer's
// close is io.EOF.
func (c *wsClient) read() ([]byte, error) {
	var message []byte
	packed := false
	for {
		var h [2]byte
		if _, err := io.ReadFull(c.in, h[:]); err != nil {
			return nil, err
		}
		n := uint64(h[1] & 0x7F)
		if n >= 126 {
			var long [8]byte
			size := 2
			if n == 127 {
				size = 8
			}
			if _, err := io.ReadFull(c.in, long[8-size:]); err != nil {
				return nil, err
			}
			n = binary.BigEndian.Uint64(long[:])
		}
		if n > maxAnswer {
			return nil, fmt.Errorf("frame of %d bytes", n)
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(c.in, payload); err != nil {
			return nil, err
		}
		switch h[0] & 0xF {
		case opPing:
			if err := c.write(opPong, payload); err != nil {
				return nil, err
			}
		case opPong:
		case opClose:
			return nil, io.EOF
		default:
			message = append(message, payload...)
			packed = packed || h[0]&compressed != 0
			if h[0]&0x80 == 0 {
				continue
			}
			if packed {
				return decompress(message)
			}
			return message, nil
		}
	}
}

func (c *wsClient) close() error {
	c.write(opClose, []byte{0x03, 0xE8})
	return c.raw.Close()
}

// cut ends the connection by a reset, as a lost network does.
func (c *wsClient) cut() error {
	if t, ok := c.raw.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	return c.raw.Close()
}

// compressed is the bit of a message under permessage-deflate (RFC 7692 §7.2.1).
const compressed = 0x40

// flushed ends what is compressed and is not sent.
const flushed = "\x00\x00\xff\xff"

func compress(p []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.DefaultCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(p); err != nil {
		return nil, err
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte(flushed)), nil
}

func decompress(p []byte) ([]byte, error) {
	r := flate.NewReader(io.MultiReader(bytes.NewReader(p), strings.NewReader(flushed+"\x01\x00\x00\xff\xff")))
	return io.ReadAll(io.LimitReader(r, maxAnswer))
}
