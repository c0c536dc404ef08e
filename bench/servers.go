package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"

	"holdfast/ws"
)

// maxMessage is the message limit of all servers, in bytes.
const maxMessage = 1 << 20

// kinds are the servers that echo, by name.
var kinds = map[string]func(l net.Listener, cfg *tls.Config) error{
	"gorilla": serveGorilla,
	"coder":   serveCoder,
	"bare":    serveBare,
	"ws":      serveWS,
}

// runServer serves an echo server until standard input ends. It writes its
// address first.
func runServer(kind, dir string) error {
	serve, ok := kinds[kind]
	if !ok {
		return fmt.Errorf("no server %q", kind)
	}
	cfg, err := serverTLS(dir)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	failed := make(chan error, 1)
	go func() { failed <- serve(l, cfg) }()
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
	}()
	select {
	case err := <-failed:
		return err
	case err := <-ended:
		return err
	}
}

// serveHTTP is net/http as its documentation shows it. Failed handshakes are
// the client's to report.
func serveHTTP(l net.Listener, cfg *tls.Config, h http.HandlerFunc) error {
	s := &http.Server{Handler: h, TLSConfig: cfg, ErrorLog: log.New(io.Discard, "", 0)}
	return s.ServeTLS(l, "", "")
}

// serveGorilla is the library's echo example.
func serveGorilla(l net.Listener, cfg *tls.Config) error {
	upgrader := gorilla.Upgrader{Subprotocols: []string{"ocpp1.6"}}
	return serveHTTP(l, cfg, func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		c.SetReadLimit(maxMessage)
		for {
			kind, message, err := c.ReadMessage()
			if err != nil {
				return
			}
			if err := c.WriteMessage(kind, message); err != nil {
				return
			}
		}
	})
}

// serveCoder is the library's echo example.
func serveCoder(l net.Listener, cfg *tls.Config) error {
	return serveHTTP(l, cfg, func(w http.ResponseWriter, r *http.Request) {
		c, err := coder.Accept(w, r, &coder.AcceptOptions{Subprotocols: []string{"ocpp1.6"}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(maxMessage)
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if err := c.Write(r.Context(), kind, message); err != nil {
				return
			}
		}
	})
}

// serveBare is crypto/tls with a goroutine per connection and as little else as
// a WebSocket echo can have: what a connection costs before any library.
func serveBare(l net.Listener, cfg *tls.Config) error {
	for {
		raw, err := l.Accept()
		if err != nil {
			return err
		}
		go bareConn(tls.Server(raw, cfg))
	}
}

func bareConn(c *tls.Conn) {
	defer c.Close()
	if err := bareUpgrade(c); err != nil {
		return
	}
	var head [14]byte
	for {
		if _, err := io.ReadFull(c, head[:6]); err != nil { // the client masks
			return
		}
		n, at := int(head[1]&0x7F), 2
		switch n {
		case 126:
			if _, err := io.ReadFull(c, head[6:8]); err != nil {
				return
			}
			n, at = int(head[2])<<8|int(head[3]), 4
		case 127:
			return
		}
		key := [4]byte(head[at:])
		frame := make([]byte, at+n)
		copy(frame, head[:at])
		frame[1] &= 0x7F
		if _, err := io.ReadFull(c, frame[at:]); err != nil {
			return
		}
		for i := range n {
			frame[at+i] ^= key[i&3]
		}
		if head[0]&0xF == opClose {
			return
		}
		if _, err := c.Write(frame); err != nil {
			return
		}
	}
}

// bareUpgrade reads the head in one buffer that is dropped with it.
func bareUpgrade(c *tls.Conn) error {
	in := bufio.NewReaderSize(c, 2<<10)
	r, err := http.ReadRequest(in)
	if err != nil {
		return err
	}
	key := r.Header.Get("Sec-WebSocket-Key")
	if key == "" || in.Buffered() > 0 {
		return errors.New("no upgrade")
	}
	_, err = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Protocol: ocpp1.6\r\nSec-WebSocket-Accept: "+acceptKey(key)+"\r\n\r\n")
	return err
}

// serveWS is Holdfast's WebSocket package alone, without what a gateway keeps
// for a station.
func serveWS(l net.Listener, cfg *tls.Config) error {
	s, err := ws.New(ws.Config{MaxMessage: maxMessage})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	err = s.Serve(ctx, l, ws.Endpoint{Label: "3", TLS: cfg, Upgrade: func(_ context.Context, r *ws.Request) ws.Response {
		return ws.Response{Status: http.StatusSwitchingProtocols, Subprotocol: strings.Join(r.Subprotocols[:min(1, len(r.Subprotocols))], ""), Session: echo{}}
	}})
	cancel()
	return errors.Join(err, <-ended)
}

type echo struct{}

func (echo) Opened(*ws.Conn)                 {}
func (echo) Message(c *ws.Conn, data []byte) { c.Send(data) }
func (echo) Closed(*ws.Conn, ws.CloseReason) {}
