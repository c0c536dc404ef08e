package main

import (
	"bufio"
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
	conn *tls.Conn
	in   *bufio.Reader

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

// dialWS connects to wss://address/path and offers OCPP 1.6.
func dialWS(address, path string, cfg *tls.Config) (*wsClient, error) {
	deadline := time.Now().Add(connectTime)
	raw, err := (&net.Dialer{Deadline: deadline}).Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, cfg)
	c := &wsClient{conn: conn}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if err := c.upgrade(address, path); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, conn.SetDeadline(time.Time{})
}

func (c *wsClient) upgrade(host, path string) error {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	request := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: " + key + "\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ocpp1.6\r\n\r\n"
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
		return fmt.Errorf("server answers %s: %s", answer.Status, strings.TrimSpace(string(text)))
	}
	if answer.Header.Get("Sec-WebSocket-Accept") != acceptKey(key) {
		return errors.New("server answers with a wrong Sec-WebSocket-Accept")
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
	c.mu.Lock()
	defer c.mu.Unlock()
	b := append(c.out[:0], 0x80|op)
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
			if h[0]&0x80 != 0 {
				return message, nil
			}
		}
	}
}

func (c *wsClient) close() error {
	c.write(opClose, []byte{0x03, 0xE8})
	return c.conn.NetConn().Close()
}
