package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/ws"
)

type debugCommands struct {
	WSEcho wsEchoCommand `cmd:"" name:"ws-echo" help:"Echo server on the WebSocket code of the gateway, for conformance suites."`
}

type wsEchoCommand struct {
	Listen     string `help:"Address." default:"127.0.0.1:9001"`
	Cert       string `help:"PEM file with a certificate chain: TLS instead of plain." type:"existingfile" placeholder:"FILE"`
	Key        string `help:"PEM file with its key." type:"existingfile" placeholder:"FILE"`
	MaxMessage int    `help:"Largest message, in bytes." default:"67108864"`
	Path       string `help:"Answer only this path; empty: any." placeholder:"PATH"`
}

func (c *wsEchoCommand) Run(e *env) error {
	endpoint := ws.Endpoint{Label: "echo", Upgrade: func(_ context.Context, r *ws.Request) ws.Response {
		if c.Path != "" && r.Path != c.Path {
			return ws.Response{Status: http.StatusNotFound, Body: "not here"}
		}
		resp := ws.Response{Status: http.StatusSwitchingProtocols, Deflate: true, Ping: ws.Ping{Off: true}, Session: echo{}}
		if len(r.Subprotocols) > 0 {
			resp.Subprotocol = r.Subprotocols[0]
		}
		return resp
	}}
	if (c.Cert == "") != (c.Key == "") {
		return &usageError{"--cert and --key go together"}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return fmt.Errorf("server certificate: %w", err)
		}
		endpoint.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	s, err := ws.New(ws.Config{MaxMessage: c.MaxMessage, MaxUnsent: 2 * c.MaxMessage, MaxPartial: 1 << 30, MessageTime: 5 * time.Minute, Logger: e.log})
	if err != nil {
		return err
	}
	l, err := listen("listen", c.Listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stderr, "holdfast: echo on %s\n", l.Addr())
	eg, ctx := errgroup.WithContext(e.ctx)
	eg.Go(func() error { return s.Run(ctx) })
	eg.Go(func() error { return s.Serve(ctx, l, endpoint) })
	return eg.Wait()
}

// echo sends every message back as it came.
type echo struct{}

func (echo) Opened(*ws.Conn)                 {}
func (echo) Message(c *ws.Conn, data []byte) { c.Send(data) }
func (echo) Binary(c *ws.Conn, data []byte)  { c.SendBinary(data) }
func (echo) Closed(*ws.Conn, ws.CloseReason) {}
