package main

import (
	"path/filepath"
	"time"

	"holdfast/bus"
)

type allCommand struct {
	busFlags
	adminFlags
	databaseFlags
	authorityFlags
	csmsFlags
	gatewayFlags
	ListenNATS string `name:"listen-nats" help:"Address on which the embedded NATS accepts other processes. It has no authentication: loopback or a network of its own." placeholder:"ADDR"`
	Demo       int    `help:"Simulate this many stations that charge, half TLS, half mutual TLS." placeholder:"N"`
}

// Run starts bus, admin port, authority, csms with its API and gateway, in this
// order, and stops them in the opposite one: while a gateway drains, its
// readiness and metrics are still there.
func (c *allCommand) Run(e *env) error {
	if err := c.gatewayFlags.check(); err != nil {
		return err
	}
	show := c.Demo > 0 && !e.json
	if show && terminal(e.stdout) { // the summary is redrawn: log lines go elsewhere
		w, err := logFile(c.Data)
		if err != nil {
			return err
		}
		defer w.Close()
		e.log = newLogger(w, "info", "text")
	}
	p := newProcess(e)
	err := c.databaseFlags.prepare()
	if err == nil {
		err = p.openBus(bus.Config{
			URL: c.NATS, Credentials: c.NATSCredentials, Name: "holdfast all",
			Dir: filepath.Join(c.Data, "nats"), Listen: c.ListenNATS,
		})
	}
	if err == nil {
		err = p.startAdmin(c.ListenAdmin)
	}
	if err == nil {
		err = p.startAuthority(&c.databaseFlags, &c.authorityFlags)
	}
	if err == nil {
		err = p.startCSMS(&c.databaseFlags, &c.csmsFlags)
	}
	if err == nil {
		err = p.startGateway(&c.gatewayFlags)
	}
	if err == nil && c.Demo > 0 {
		err = p.startDemo(c.Demo, c.Data, &c.gatewayFlags)
	}
	if err == nil && show {
		s := &summary{registry: p.admin.registry, w: e.stdout, redraw: terminal(e.stdout), start: time.Now(),
			head: "API http://" + c.ListenAPI + "   metrics http://" + c.ListenAdmin + "/metrics"}
		p.services.start("summary", s.run, nil)
	}
	return p.run(err)
}
