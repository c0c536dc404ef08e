// Command server is a small OCPP server as they are written in Go: net/http, a
// WebSocket library, TLS on one port and mutual TLS on another. With -fault it
// has one of the leaks that such servers have.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"
)

var fault = flag.String("fault", "none", "none, conn, goroutine, ticker, pending or certificates")

func main() {
	cert := flag.String("cert", "", "PEM file with the server's certificate")
	key := flag.String("key", "", "PEM file with its key")
	ca := flag.String("ca", "", "PEM file with what signs stations")
	flag.Parse()
	if err := run(*cert, *key, *ca); err != nil {
		log.Fatal(err)
	}
}

func run(cert, key, ca string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	configs := map[string]*tls.Config{
		"tls":  {Certificates: []tls.Certificate{pair}},
		"mtls": {Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots},
	}
	ports := make(map[string]int)
	failed := make(chan error, len(configs)+1)
	for name, config := range configs {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		ports[name] = l.Addr().(*net.TCPAddr).Port
		s := &http.Server{Handler: newServer(), TLSConfig: config, ErrorLog: log.New(discard{}, "", 0),
			ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) }}
		go func() { failed <- s.ServeTLS(l, "", "") }()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ports["admin"] = l.Addr().(*net.TCPAddr).Port
	go func() { failed <- http.Serve(l, nil) }() // net/http/pprof
	if err := json.NewEncoder(os.Stdout).Encode(ports); err != nil {
		return err
	}
	return <-failed
}

type connKey struct{}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// server answers stations. What the faults keep is kept here.
type server struct {
	mu           sync.Mutex
	conns        []net.Conn
	pending      map[string]json.RawMessage
	certificates map[string]*x509.Certificate
	messages     int
}

func newServer() *server {
	return &server{pending: make(map[string]json.RawMessage), certificates: make(map[string]*x509.Certificate)}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.TLS.PeerCertificates) == 0 {
		if _, _, ok := r.BasicAuth(); !ok {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"ocpp1.6"}})
	if err != nil {
		return
	}
	defer ws.CloseNow()
	conn := r.Context().Value(connKey{}).(net.Conn)
	if len(r.TLS.PeerCertificates) > 0 {
		s.authenticated(conn, r.TLS.PeerCertificates[0])
	}
	queue := make(chan []byte, 8)
	if *fault != "goroutine" {
		defer close(queue)
	}
	go s.write(ws, queue)
	for {
		_, data, err := ws.Read(context.Background())
		if err != nil {
			return
		}
		if answer := s.answer(data); answer != nil {
			queue <- answer
		}
	}
}

// authenticated remembers who came with a certificate.
func (s *server) authenticated(c net.Conn, leaf *x509.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch *fault {
	case "conn":
		s.retain(c)
	case "certificates":
		s.remember(c.RemoteAddr().String(), leaf.Raw)
	case "ticker":
		go s.watch(c)
	}
}

// retain keeps the connection when it has closed long since.
func (s *server) retain(c net.Conn) { s.conns = append(s.conns, c) }

// watch looks after the connection, and never stops.
func (s *server) watch(c net.Conn) {
	for range time.Tick(time.Hour) {
		c.SetReadDeadline(time.Now().Add(2 * time.Hour))
	}
}

// remember caches a parsed certificate by the peer's address and port, which are
// new every time.
func (s *server) remember(address string, der []byte) {
	if c, err := x509.ParseCertificate(bytes.Clone(der)); err == nil {
		s.certificates[address] = c
	}
}

// write sends what is queued, until the queue is closed.
func (s *server) write(ws *websocket.Conn, queue <-chan []byte) {
	for data := range queue {
		ws.Write(context.Background(), websocket.MessageText, data)
	}
}

func (s *server) answer(data []byte) []byte {
	var frame []json.RawMessage
	if json.Unmarshal(data, &frame) != nil || len(frame) < 4 || string(frame[0]) != "2" {
		return nil
	}
	if *fault == "pending" {
		s.expect(frame[3])
	}
	return fmt.Appendf(nil, `[3,%s,{"status":"Accepted","currentTime":"2026-01-01T00:00:00Z","interval":300}]`, frame[1])
}

// expect notes a CALL and forgets to take it out again.
func (s *server) expect(payload json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages++
	s.pending[fmt.Sprint(s.messages)] = append(make(json.RawMessage, 0, 256), payload...)
}
