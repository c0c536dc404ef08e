package main

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"

	"holdfast/bus"
	"holdfast/csms"
	"holdfast/gateway"
)

// process is what the roles of one process share.
type process struct {
	ctx      context.Context // ends with the first signal
	env      *env
	log      *slog.Logger
	services *services
	admin    *admin
	bus      *bus.Bus
	csms     *csms.CSMS       // nil in processes without one
	gateway  *gateway.Gateway // nil in processes without one
}

func newProcess(e *env) *process {
	return &process{ctx: e.ctx, env: e, log: e.log, services: newServices(e.log), admin: newAdmin()}
}

// openBus connects to NATS first: every role stands on it.
func (p *process) openBus(cfg bus.Config) error {
	cfg.Logger = p.log
	b, err := bus.Open(p.ctx, cfg)
	if err != nil {
		return err
	}
	p.bus = b
	p.services.closing("bus", func() error { b.Close(); return nil })
	p.admin.askReady(func(context.Context) []string {
		if err := b.Ready(); err != nil {
			return []string{"bus: " + err.Error()}
		}
		return nil
	})
	return nil
}

// startAdmin opens the admin port.
func (p *process) startAdmin(f *adminFlags) error {
	token := ""
	if f.AdminTokenFile != "" {
		var err error
		if token, err = readToken(f.AdminTokenFile); err != nil {
			return fmt.Errorf("%w (see --admin-token-file)", err)
		}
	}
	l, err := listen("listen-admin", f.ListenAdmin)
	if err != nil {
		return err
	}
	h := p.admin.handler()
	if token != "" || !f.AdminOpen && !loopbackListener(l) {
		h = guarded(h, token)
	}
	p.services.start("admin port", func(ctx context.Context) error { return serveHTTP(ctx, l, h) }, nil)
	return nil
}

// run waits for the end and stops everything that was started, also if starting
// failed halfway.
func (p *process) run(err error) error {
	if err == nil {
		// What starting needed goes back now. Migrations alone leave 16 MB in pools,
		// most of it never touched: the account would show it as heap, and as off_heap
		// below zero, until it goes. What pools keep survives one collection.
		runtime.GC()
		debug.FreeOSMemory()
		if _, err := p.admin.account.Read(); err != nil { // the base of what a connection costs
			p.log.Warn("memory account", "err", err)
		}
		p.admin.start()
		p.log.Info("ready to serve")
		err = p.services.wait(p.ctx)
	}
	if err == nil {
		p.log.Info("stopping")
	}
	if stopErr := p.services.stop(); err == nil {
		err = stopErr
	}
	return err
}
