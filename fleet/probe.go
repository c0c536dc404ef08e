package fleet

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"time"

	"holdfast/ocpp"
)

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
	var err error
	switch fault {
	case WrongPassword:
		h.user, h.password = s.id.User, h.password+"?"
	case WrongSubprotocol:
		h.protocols, h.want = "ocpp0.1", "ocpp0.1"
	case NoSubprotocol:
		h.protocols, h.want = "", ""
	case EmptyPassword:
		h.password = ""
	case WrongUser:
		h.user += "-2"
	case NoCredentials:
		h.user = ""
	case OtherVersion:
		other := ocpp.V16
		if s.id.Version == ocpp.V16 {
			other = ocpp.V201
		}
		h.protocols, h.want = other.Subprotocol(), other.Subprotocol()
	case NoIdentity:
		h.path = "/"
	case BorrowedIdentity:
		if len(f.stations) < 2 {
			return fmt.Errorf("fleet: station %s has no other whose identity it could use", id)
		}
		h.station = f.stations[(slices.Index(f.stations, s)+1)%len(f.stations)].id.ID
	case NoTLS:
		h.tls = nil
	case StalledHandshake:
		return f.knock(ctx, h, nil)
	case Garbage:
		return f.knock(ctx, h, []byte("\x00\xff\r\n\r\nholdfast\r\n\r\n"))
	case UnknownIdentity:
		h.station += "-UNKNOWN"
		if h.user != "" {
			h.user = string(h.station)
		}
	case NoCertificate:
		h.certificate = nil
	case ForeignCertificate:
		if h.certificate, err = foreign(string(h.station)); err != nil {
			return err
		}
	case OldTLS:
		if h.tls != nil {
			h.tls = h.tls.Clone()
			h.tls.MinVersion, h.tls.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}
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
		c.fallSilent()
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

// knock opens a TCP connection, sends what is no handshake, and waits until the
// server ends it.
func (f *Fleet) knock(ctx context.Context, h handshake, hello []byte) error {
	tcp, err := f.cfg.Dial(ctx, h.station, h.target.address)
	if err != nil {
		return &connectError{errorDial, err}
	}
	defer tcp.Close()
	defer context.AfterFunc(ctx, func() { tcp.SetDeadline(past) })()
	if _, err := tcp.Write(hello); err != nil {
		return &connectError{errorDial, err}
	}
	io.Copy(io.Discard, io.LimitReader(tcp, maxUpgradeAnswer)) // to the end, in whatever way
	if err := ctx.Err(); err != nil {
		return &connectError{errorTimeout, err}
	}
	return nil
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

// foreign makes a self-signed certificate for a name.
func foreign(name string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
