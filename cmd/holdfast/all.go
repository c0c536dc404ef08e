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
	ListenNATS string `name:"listen-nats" help:"Address on which the embedded NATS accepts other processes, over TLS and with the credentials in DATA/nats-credentials." placeholder:"ADDR"`
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
		cfg := c.busFlags.config(bus.RoleAll)
		cfg.Dir, cfg.Listen, cfg.CredentialsDir = filepath.Join(c.Data, "nats"), c.ListenNATS, filepath.Join(c.Data, "nats-credentials")
		err = p.openBus(cfg)
	}
	if err == nil {
		err = p.startAdmin(&c.adminFlags)
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
	if err == nil {
		err = p.startHistory(&c.adminFlags, "all", c.Data)
	}
	if err == nil {
		err = p.startLeakDetector(&c.adminFlags, "all", c.GatewayID)
	}
	if err == nil {
		err = p.startProfilePush(&c.pyroscopeFlags, "all", c.GatewayID)
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
