package fleet

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"holdfast/ocpp"
)

// Fault is a way for a station to misbehave.
type Fault uint8

const (
	NoFault Fault = iota
	// CleanClose ends the connection with a close handshake (1000).
	CleanClose
	// Cut ends the connection with a TCP RST.
	Cut
	// Silent keeps the connection and answers nothing any more: no pong, no
	// CALLRESULT, no close frame.
	Silent
	// WrongPassword presents a password that differs (profiles 1 and 2).
	WrongPassword
	// WrongSubprotocol offers a version that no server has.
	WrongSubprotocol
	// NoSubprotocol offers none.
	NoSubprotocol
	// FailedHandshake ends the TCP connection after the first bytes of a TLS
	// handshake (plain: of an upgrade request).
	FailedHandshake
	// NoCertificate presents no client certificate (profile 3).
	NoCertificate
)

// Provoke makes a running, connected station misbehave: CleanClose, Cut or
// Silent. After the first two it comes back by its back-off; a silent station
// comes back once the server has closed its connection.
func (f *Fleet) Provoke(id ocpp.StationID, fault Fault) error {
	s, ok := f.byID[id.Fold()]
	if !ok {
		return fmt.Errorf("fleet: no station %s", id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.line == nil {
		return fmt.Errorf("fleet: station %s: %w", id, errOffline)
	}
	switch fault {
	case Silent:
		s.line.mute.Store(true)
	case CleanClose, Cut:
		s.fault = fault
		if s.idle {
			s.line.tcp.SetReadDeadline(past)
		}
	default:
		return fmt.Errorf("fleet: fault %d is one of connecting: use Probe", fault)
	}
	return nil
}

// takeFault does what Provoke asked for.
func (s *station) takeFault() {
	s.mu.Lock()
	fault := s.fault
	s.fault = NoFault
	s.mu.Unlock()
	if s.conn == nil {
		return
	}
	switch fault {
	case CleanClose:
		s.disconnect(func(c *conn) { c.close(closeNormal, "") })
	case Cut:
		s.disconnect((*conn).reset)
	default:
		return
	}
	s.reconnect(s.f.cfg.BackOff.wait(0, &s.random))
}

// Probe makes one connection attempt as a station, with a fault, apart from the
// running fleet, which it takes the connection from if the server keeps one per
// station. It ends the connection and returns what the server did: nil if it
// admitted the station, *Refused for an HTTP answer, or another error. After
// Silent it waits until the server closes the connection or ctx ends. Probe works
// whether or not the fleet runs.
func (f *Fleet) Probe(ctx context.Context, id ocpp.StationID, fault Fault) error {
	s, ok := f.byID[id.Fold()]
	if !ok {
		return fmt.Errorf("fleet: no station %s", id)
	}
	h := newStation(f, s.id).handshake() // as it began
	switch fault {
	case WrongPassword:
		h.user, h.password = s.id.User, h.password+"?"
	case WrongSubprotocol:
		h.protocols, h.want = "ocpp0.1", "ocpp0.1"
	case NoSubprotocol:
		h.protocols, h.want = "", ""
	case NoCertificate:
		h.certificate = nil
	case FailedHandshake:
		return f.breakHandshake(ctx, h)
	}
	c, br, err := f.open(ctx, h)
	if err != nil {
		return fmt.Errorf("station %s: %w", id, err)
	}
	stop := context.AfterFunc(ctx, func() { c.tcp.SetDeadline(past) })
	defer stop()
	defer func() { br.Reset(nil); readers.Put(br) }()
	switch fault {
	case Cut:
		c.reset()
		return nil
	case Silent:
		c.mute.Store(true)
		return drain(c, br)
	case NoSubprotocol:
		err := drain(c, br) // a server has to close it at once
		return fmt.Errorf("station %s: %w", id, err)
	}
	c.close(closeNormal, "")
	return nil
}

// drain reads until the connection ends, and says how.
func drain(c *conn, br *bufio.Reader) error {
	defer c.hangUp()
	for {
		if _, err := c.readMessage(br); err != nil {
			return err
		}
	}
}

// breakHandshake sends the beginning of a handshake and cuts the connection.
func (f *Fleet) breakHandshake(ctx context.Context, h handshake) error {
	ctx, cancel := context.WithTimeout(ctx, f.cfg.HandshakeTimeout)
	defer cancel()
	tcp, err := f.cfg.Dial(ctx, h.station, h.target.address)
	if err != nil {
		return &connectError{errorDial, err}
	}
	defer tcp.Close()
	tcp.SetLinger(0)
	tcp.SetDeadline(time.Now().Add(writeTimeout))
	if h.tls == nil {
		_, err := tcp.Write([]byte("GET /ocpp/"))
		return err
	}
	// A handshake over a connection that swallows all but the ClientHello.
	err = tls.Client(&halfway{TCPConn: tcp}, h.tls).HandshakeContext(ctx)
	if errors.Is(err, errHalfway) {
		return nil
	}
	return err
}

var errHalfway = errors.New("cut in the handshake")

// halfway fails once the server has answered the ClientHello.
type halfway struct {
	*net.TCPConn
	answered bool
}

func (h *halfway) Read(p []byte) (int, error) {
	if h.answered {
		return 0, errHalfway
	}
	h.answered = true
	return h.TCPConn.Read(p)
}

func (h *halfway) Write(p []byte) (int, error) {
	if h.answered {
		return 0, errHalfway
	}
	return h.TCPConn.Write(p)
}
