package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"time"
)

// request is what the client process is asked to do; exactly one is set.
type request struct {
	Connect  *connectRequest  `json:",omitempty"`
	Leave    bool             `json:",omitempty"` // close every connection
	Cut      bool             `json:",omitempty"` // reset every connection
	Dial     *dialRequest     `json:",omitempty"` // how to connect from now on
	Storm    *stormRequest    `json:",omitempty"`
	Messages *messagesRequest `json:",omitempty"`
	Boot     bool             `json:",omitempty"` // a BootNotification of every station
	Steady   *steadyRequest   `json:",omitempty"`
	Starts   *startsRequest   `json:",omitempty"`
}

// connectRequest connects the first Stations stations.
type connectRequest struct {
	Stations int
	AtOnce   int // handshakes in flight
}

// dialRequest says how stations connect. Zero is what a client starts with.
type dialRequest struct {
	Plain    bool
	TLS12    bool
	LeafOnly bool // send no intermediate certificate
	Resume   bool // keep session tickets and use them
	V201     bool // speak OCPP 2.0.1
	Deflate  bool // offer permessage-deflate
}

// messagesRequest sends, on each connection, one DataTransfer of Size bytes, or
// so many Heartbeats one after the other, and waits for the answers.
type messagesRequest struct{ Size, Heartbeats, AtOnce int }

// done is the answer to most requests.
type done struct {
	Count     int // connections open, answers got
	Failed    int
	FirstFail string
	Seconds   float64
}

// client is the process that plays the stations, the same for every server.
type client struct {
	stations []*station
	roots    *x509.CertPool
}

// runClient serves requests from standard input until it ends.
func runClient(address, prefix, credentials, ca string) error {
	c, err := newClient(address, prefix, credentials, ca)
	if err != nil {
		return err
	}
	enc := json.NewEncoder(os.Stdout)
	if err := enc.Encode(done{Count: len(c.stations)}); err != nil {
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var r request
		var answer any
		err := json.Unmarshal(lines.Bytes(), &r)
		if err == nil {
			answer, err = c.do(&r)
		}
		if err != nil {
			answer = struct{ Error string }{err.Error()}
		}
		if err := enc.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func newClient(address, prefix, credentials, ca string) (*client, error) {
	list, err := readCredentials(credentials)
	if err != nil {
		return nil, err
	}
	roots, err := readPool(ca)
	if err != nil {
		return nil, err
	}
	c := &client{roots: roots}
	for i := range list {
		cert, err := list[i].certificate()
		if err != nil {
			return nil, err
		}
		c.stations = append(c.stations, &station{id: list[i].Station, cert: cert, dial: dial{
			address: address, path: path.Join(prefix, list[i].Station), user: list[i].Station, password: list[i].Password,
		}})
	}
	c.dial(&dialRequest{})
	return c, nil
}

// dial sets how stations connect from now on.
func (c *client) dial(r *dialRequest) {
	for _, s := range c.stations {
		s.dial.protocol, s.dial.deflate, s.dial.tls = "ocpp1.6", r.Deflate, nil
		if r.V201 {
			s.dial.protocol = "ocpp2.0.1"
		}
		if r.Plain {
			continue
		}
		cert := s.cert
		if r.LeafOnly && len(cert.Certificate) > 1 {
			cert.Certificate = cert.Certificate[:1]
		}
		s.dial.tls = &tls.Config{
			RootCAs: c.roots, ServerName: "localhost", Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12,
			// What stations offer: no post-quantum groups and, unless asked for, no resumption.
			CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}, SessionTicketsDisabled: !r.Resume,
		}
		if r.TLS12 {
			s.dial.tls.MaxVersion = tls.VersionTLS12
		}
		if r.Resume {
			s.dial.tls.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		}
	}
}

func (c *client) do(r *request) (any, error) {
	switch {
	case r.Connect != nil:
		return c.connect(r.Connect)
	case r.Leave:
		return c.forEach(c.stations, 64, func(s *station) error { s.disconnect(); return nil }), nil
	case r.Cut:
		return c.forEach(c.stations, 64, func(s *station) error { s.cut(); return nil }), nil
	case r.Dial != nil:
		c.dial(r.Dial)
		return done{Count: len(c.stations)}, nil
	case r.Storm != nil:
		return c.storm(r.Storm)
	case r.Messages != nil:
		return c.messages(r.Messages), nil
	case r.Boot:
		return c.forEach(c.connected(), 64, boot), nil
	case r.Steady != nil:
		return c.steady(r.Steady)
	case r.Starts != nil:
		return c.starts(r.Starts)
	}
	return nil, errors.New("empty request")
}

func (c *client) messages(r *messagesRequest) done {
	data := append(bytes.Repeat([]byte("x"), max(0, r.Size-80)), '"')
	payload := append([]byte(`{"vendorId":"bench","messageId":"size","data":"`), append(data, '}')...)
	return c.forEach(c.connected(), r.AtOnce, func(s *station) error {
		for range r.Heartbeats {
			if _, err := s.call("Heartbeat", []byte(`{}`)); err != nil {
				return err
			}
		}
		if r.Size == 0 {
			return nil
		}
		_, err := s.call("DataTransfer", payload)
		return err
	})
}

func boot(s *station) error {
	frame, err := s.call("BootNotification", []byte(`{"chargePointVendor":"Holdfast","chargePointModel":"bench","chargePointSerialNumber":"`+s.id+`"}`))
	if err != nil {
		return err
	}
	payload, err := result(frame)
	if err != nil {
		return err
	}
	var answer struct{ Status string }
	if err := json.Unmarshal(payload, &answer); err != nil {
		return err
	}
	if answer.Status != "Accepted" {
		return fmt.Errorf("boot of station %s is %s", s.id, answer.Status)
	}
	return nil
}

func (c *client) connected() (list []*station) {
	for _, s := range c.stations {
		if s.connected() {
			list = append(list, s)
		}
	}
	return list
}

func (c *client) connect(r *connectRequest) (done, error) {
	if r.Stations > len(c.stations) {
		return done{}, fmt.Errorf("%d stations asked for, there are %d", r.Stations, len(c.stations))
	}
	d := c.forEach(c.stations[:r.Stations], r.AtOnce, func(s *station) error {
		if s.connected() {
			return nil
		}
		return s.connect()
	})
	d.Count = len(c.connected())
	return d, nil
}

// forEach does something for each station, so many at once.
func (c *client) forEach(list []*station, atOnce int, do func(*station) error) (d done) {
	var count atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan *station)
	start := time.Now()
	for range max(1, atOnce) {
		wg.Go(func() {
			for s := range next {
				err := do(s)
				if err == nil {
					count.Add(1)
					continue
				}
				mu.Lock()
				d.Failed++
				if d.FirstFail == "" {
					d.FirstFail = err.Error()
				}
				mu.Unlock()
			}
		})
	}
	for _, s := range list {
		next <- s
	}
	close(next)
	wg.Wait()
	d.Count, d.Seconds = int(count.Load()), time.Since(start).Seconds()
	return d
}
