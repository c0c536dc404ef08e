package faults

import (
	"bufio"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// patience bounds every step of a test station.
const patience = 30 * time.Second

// attempt is one attempt to connect. The zero values are those of a well-behaved
// station of OCPP 1.6.
type attempt struct {
	station
	path      string            // default: /ocpp/ and the identity
	protocols string            // default: ocpp1.6; "-": no header
	header    map[string]string // more or other header fields; an empty value takes one away
	request   string            // request line instead of GET path HTTP/1.1
	tls       func(*tls.Config)
	from      string        // local address, default: chosen by the kernel
	first     []byte        // sent on the bare TCP connection before all else
	wait      time.Duration // default: patience
}

// refusal is an answer to an upgrade request other than 101.
type refusal struct {
	status int
	header http.Header
	body   string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("HTTP %d %s", r.status, strings.TrimSpace(r.body))
}

// closed is the close frame that ended a connection; code 0 stands for an end
// without one.
type closed struct {
	code int
	text string
	err  error
}

func (c *closed) Error() string {
	if c.code == 0 {
		return fmt.Sprintf("no close frame: %v", c.err)
	}
	return fmt.Sprintf("close %d %s", c.code, c.text)
}

// peer is a station's end of a connection. It is used by one goroutine.
type peer struct {
	nc     net.Conn
	tcp    *net.TCPConn
	br     *bufio.Reader
	answer http.Header // of the upgrade
	mute   bool        // answers no ping
	pongs  int
	sent   int // CALLs
}

// dial connects. The error is a *refusal if the server answered the upgrade
// request with anything but 101.
func (a attempt) dial() (*peer, error) {
	u, err := url.Parse(a.url)
	if err != nil {
		return nil, err
	}
	if a.wait == 0 {
		a.wait = patience
	}
	deadline := time.Now().Add(a.wait)
	d := net.Dialer{Deadline: deadline}
	if a.from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(a.from)}
	}
	c, err := d.Dial("tcp", u.Host)
	if err != nil {
		return nil, err
	}
	p := &peer{nc: c, tcp: c.(*net.TCPConn)}
	c.SetDeadline(deadline)
	if err := p.open(a, u); err != nil {
		c.Close()
		return nil, err
	}
	c.SetDeadline(time.Time{})
	return p, nil
}

func (p *peer) open(a attempt, u *url.URL) error {
	if len(a.first) > 0 {
		if _, err := p.nc.Write(a.first); err != nil {
			return err
		}
	}
	if u.Scheme == "wss" {
		config := &tls.Config{RootCAs: a.roots, ServerName: u.Hostname()}
		if a.certificate != nil {
			config.Certificates = []tls.Certificate{*a.certificate}
		}
		if a.tls != nil {
			a.tls(config)
		}
		p.nc = tls.Client(p.tcp, config)
	}
	if a.path == "" {
		a.path = u.Path + "/" + url.PathEscape(a.id)
	}
	if a.request == "" {
		a.request = "GET " + a.path + " HTTP/1.1"
	}
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	fields := map[string]string{
		"Host": u.Host, "Upgrade": "websocket", "Connection": "Upgrade",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key, "Sec-WebSocket-Protocol": "ocpp1.6",
	}
	if a.password != "" {
		fields["Authorization"] = "Basic " + base64.StdEncoding.EncodeToString([]byte(a.id+":"+a.password))
	}
	if a.protocols != "" {
		fields["Sec-WebSocket-Protocol"] = strings.TrimPrefix(a.protocols, "-")
	}
	for name, value := range a.header {
		fields[name] = value
	}
	var b strings.Builder
	b.WriteString(a.request + "\r\n")
	for name, value := range fields {
		if value != "" {
			b.WriteString(name + ": " + value + "\r\n")
		}
	}
	b.WriteString("\r\n")
	if _, err := io.WriteString(p.nc, b.String()); err != nil {
		return err
	}
	p.br = bufio.NewReader(p.nc)
	r, err := http.ReadResponse(p.br, nil)
	if err != nil {
		return fmt.Errorf("answer to the upgrade: %w", err)
	}
	if r.StatusCode != http.StatusSwitchingProtocols {
		body, _ := io.ReadAll(io.LimitReader(r.Body, 4<<10))
		return &refusal{r.StatusCode, r.Header, string(body)}
	}
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	if got := r.Header.Get("Sec-WebSocket-Accept"); got != base64.StdEncoding.EncodeToString(sum[:]) {
		return fmt.Errorf("Sec-WebSocket-Accept is %q", got)
	}
	p.answer = r.Header
	return nil
}

// must dials and fails the test if that fails.
func (a attempt) must(t testing.TB) *peer {
	t.Helper()
	p, err := a.dial()
	if err != nil {
		t.Fatalf("station %s: %v", a.id, err)
	}
	t.Cleanup(func() { p.nc.Close() })
	return p
}

// status returns the HTTP status of the upgrade, 101 included, and ends the
// connection; 0 if there was no answer.
func (a attempt) status(t testing.TB) (int, *refusal) {
	t.Helper()
	p, err := a.dial()
	if err == nil {
		p.nc.Close()
		return http.StatusSwitchingProtocols, nil
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.status, r
	}
	return 0, &refusal{body: err.Error()}
}

// Opcodes and bits of RFC 6455 §5.2.
const (
	opContinuation = 0
	opText         = 1
	opClose        = 8
	opPing         = 9
	opPong         = 10
	fin            = 0x80
	rsv1           = 0x40
)

// frame encodes one masked frame; first holds opcode and bits.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xFFFF:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{0x12, 0x34, 0x56, 0x78}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

func (p *peer) write(first byte, payload []byte) error {
	p.nc.SetWriteDeadline(time.Now().Add(patience))
	_, err := p.nc.Write(frame(first, payload))
	return err
}

// send sends one text message.
func (p *peer) send(t testing.TB, text string) {
	t.Helper()
	if err := p.write(fin|opText, []byte(text)); err != nil {
		t.Fatalf("send %.80s: %v", text, err)
	}
}

// readFrame reads one frame; first holds opcode and bits.
func (p *peer) readFrame() (first byte, payload []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(p.br, head[:2]); err != nil {
		return 0, nil, err
	}
	first, n := head[0], uint64(head[1]&0x7F)
	if head[1]&0x80 != 0 {
		return 0, nil, errors.New("masked frame of the server")
	}
	switch n {
	case 126:
		_, err = io.ReadFull(p.br, head[:2])
		n = uint64(binary.BigEndian.Uint16(head[:2]))
	case 127:
		_, err = io.ReadFull(p.br, head[:8])
		n = binary.BigEndian.Uint64(head[:8])
	}
	if err != nil {
		return 0, nil, err
	}
	if n > 4<<20 {
		return 0, nil, fmt.Errorf("frame of %d bytes", n)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(p.br, payload)
	return first, payload, err
}

// read returns the next text message. Pings are answered, pongs counted. The
// end of the connection is a *closed.
func (p *peer) read(limit time.Duration) (string, error) {
	p.nc.SetReadDeadline(time.Now().Add(limit))
	for {
		first, payload, err := p.readFrame()
		if err != nil {
			if isTimeout(err) {
				return "", errTimeout
			}
			return "", &closed{err: err}
		}
		switch first {
		case fin | opText:
			return string(payload), nil
		case fin | opPing:
			if !p.mute {
				if err := p.write(fin|opPong, payload); err != nil {
					return "", &closed{err: err}
				}
			}
		case fin | opPong:
			p.pongs++
		case fin | opClose:
			c := &closed{}
			if len(payload) >= 2 {
				c.code, c.text = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
			}
			p.write(fin|opClose, payload) // the peer may be gone
			return "", c
		default:
			return "", fmt.Errorf("frame 0x%02x", first)
		}
	}
}

var errTimeout = errors.New("nothing came in time")

// next returns the next message.
func (p *peer) next(t testing.TB) string {
	t.Helper()
	s, err := p.read(patience)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// end reads until the connection ends and returns the server's close frame. It
// fails the test unless the socket ends, too.
func (p *peer) end(t testing.TB) *closed {
	t.Helper()
	for {
		_, err := p.read(patience)
		if err == nil {
			continue
		}
		c, ok := errors.AsType[*closed](err)
		if !ok {
			t.Fatalf("the server does not close: %v", err)
		}
		p.nc.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, p.br); err != nil && isTimeout(err) {
			t.Fatal("the socket stays open after the close frame")
		}
		p.nc.Close()
		return c
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// call sends a CALL and returns its answer, CALLRESULT or CALLERROR.
func (p *peer) call(t testing.TB, action, payload string) reply {
	t.Helper()
	r, err := p.tryCall(action, payload, patience)
	if err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	return r
}

func (p *peer) tryCall(action, payload string, limit time.Duration) (reply, error) {
	p.sent++
	id := fmt.Sprintf("m%d", p.sent)
	if err := p.write(fin|opText, fmt.Appendf(nil, `[2,%q,%q,%s]`, id, action, payload)); err != nil {
		return reply{}, err
	}
	for {
		s, err := p.read(limit)
		if err != nil {
			return reply{}, err
		}
		if r := parse(s); r.id == id {
			return r, nil
		}
	}
}

// reply is a parsed message of the server.
type reply struct {
	kind    int // 2 CALL, 3 CALLRESULT, 4 CALLERROR
	id      string
	what    string // action or error code
	payload map[string]any
	text    string // the whole message
}

func parse(s string) reply {
	r := reply{text: s}
	var parts []json.RawMessage
	if json.Unmarshal([]byte(s), &parts) != nil || len(parts) < 3 {
		return r
	}
	json.Unmarshal(parts[0], &r.kind)
	json.Unmarshal(parts[1], &r.id)
	if r.kind == 3 {
		json.Unmarshal(parts[2], &r.payload)
	} else {
		json.Unmarshal(parts[2], &r.what)
	}
	if r.kind == 2 && len(parts) > 3 {
		json.Unmarshal(parts[3], &r.payload)
	}
	return r
}

const boot16 = `{"chargePointVendor":"V","chargePointModel":"M"}`

// boot boots a station of OCPP 1.6.
func (p *peer) boot(t testing.TB) {
	t.Helper()
	if r := p.call(t, "BootNotification", boot16); r.payload["status"] != "Accepted" {
		t.Fatalf("boot: %s", r.text)
	}
}

// leave ends the connection with a closing handshake.
func (p *peer) leave() error {
	if err := p.write(fin|opClose, []byte{0x03, 0xE8}); err != nil {
		return err
	}
	for {
		if _, err := p.read(patience); err != nil {
			p.nc.Close()
			if c, ok := errors.AsType[*closed](err); ok && c.code == 1000 {
				return nil
			}
			return err
		}
	}
}

// reset ends the connection with a RST.
func (p *peer) reset() {
	p.tcp.SetLinger(0)
	p.tcp.Close()
}
