package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/netutil"

	"holdfast/authority"
	"holdfast/bus"
	"holdfast/store"
)

// authorityFlags are of the authority, alone or in all.
type authorityFlags struct {
	Operator            string `help:"Organization name (O) in the certificates of stations; at most 64 characters." default:"Holdfast"`
	ListenPKI           string `name:"listen-pki" help:"Address that serves revocation lists and OCSP to everybody, over plain HTTP as is usual: they are signed. Default: only the admin port does." placeholder:"ADDR"`
	PKIURL              string `name:"pki-url" help:"How others reach it, http://pki.example.com: certificates that are issued from then on name revocation list, OCSP responder and issuer there." placeholder:"URL"`
	StationCertLifetime span   `name:"station-cert-lifetime" help:"How long stations' certificates live that are issued here: 1h to 3650d." default:"730d" placeholder:"TIME"`
	ServerCertLifetime  span   `name:"server-cert-lifetime" help:"How long gateways' certificates live; they are replaced at half of it: 10s to 397d." default:"20h" placeholder:"TIME"`
	caKeyFlags
	estFlags
}

func (f *authorityFlags) check() error {
	if err := f.estFlags.check(); err != nil {
		return err
	}
	const day = 24 * time.Hour
	for _, l := range []struct {
		flag           string
		value          span
		least, longest time.Duration
	}{
		{"--station-cert-lifetime", f.StationCertLifetime, time.Hour, 3650 * day},
		{"--server-cert-lifetime", f.ServerCertLifetime, 10 * time.Second, 397 * day},
	} {
		if d := time.Duration(l.value); d < l.least || d > l.longest {
			return &usageError{fmt.Sprintf("%s %s: want %s to %d days", l.flag, d, l.least, l.longest/day)}
		}
	}
	if f.PKIURL == "" {
		return nil
	}
	u, err := url.Parse(f.PKIURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || len(f.PKIURL) > maxPKIURL {
		return &usageError{fmt.Sprintf("--pki-url %q: want http://host, and a path at most", f.PKIURL)}
	}
	return nil
}

// maxPKIConnections bounds the connections to --listen-pki; more wait.
const maxPKIConnections = 256

// maxPKIURL keeps certificates small: each that is issued holds it three times.
const maxPKIURL = 128 // bytes

type authorityCommand struct {
	busFlags
	adminFlags
	databaseFlags
	authorityFlags
}

func (c *authorityCommand) Run(e *env) error {
	if c.NATS == "" {
		return &usageError{"holdfast authority: --nats is required (or run every role with holdfast all)"}
	}
	p := newProcess(e)
	err := p.openBus(c.busFlags.config(bus.RoleAuthority))
	if err == nil {
		err = p.startAdmin(&c.adminFlags)
	}
	if err == nil {
		err = p.startAuthority(&c.databaseFlags, &c.authorityFlags)
	}
	if err == nil {
		err = p.startHistory(&c.adminFlags, "authority", c.Data)
	}
	if err == nil {
		err = p.startLeakDetector(&c.adminFlags, "authority", "")
	}
	if err == nil {
		err = p.startProfilePush(&c.pyroscopeFlags, "authority", "")
	}
	return p.run(err)
}

// startAuthority opens the authority's record and keys and serves the bus.
func (p *process) startAuthority(db *databaseFlags, f *authorityFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	if err := db.prepare(); err != nil {
		return err
	}
	st, err := store.OpenAuthority(p.ctx, db.where())
	if err != nil {
		return fmt.Errorf("authority: %w", db.explain(err))
	}
	p.services.closing("authority's database", st.Close)
	b, log := p.bus, p.log
	cfg := authority.Config{
		Store: st, Dir: filepath.Join(db.Data, "ca"), Operator: f.Operator, PublicURL: f.PKIURL, Logger: log,
		StationLifetime: time.Duration(f.StationCertLifetime), ServerLifetime: time.Duration(f.ServerCertLifetime),
		Publish: func(c authority.Change) {
			data, err := json.Marshal(c)
			if err == nil {
				err = b.Publish("change."+string(c.Kind), data)
			}
			if err != nil {
				log.Error("tell gateways of a change", "err", err)
			}
		},
		TellLockout: func(c authority.LockoutChange) {
			if data, err := json.Marshal(c); err == nil {
				b.Publish(subjectLockout, data) // a lost one costs a guess
			}
		},
	}
	if cfg.EST, err = f.estFlags.open(); err != nil {
		return err
	}
	if cfg.EST != nil {
		log.Info("stations' certificates are issued by an external CA", "ca", cfg.EST.Name())
	}
	closeKeys, err := f.caKeyFlags.open(p.ctx, db.Data, &cfg)
	if err != nil {
		return err
	}
	p.services.closing("CA keys", closeKeys)
	a, err := authority.Open(p.ctx, cfg)
	if err != nil {
		return err
	}
	anchor := filepath.Join(db.Data, "ca.crt")
	if err := writeAnchor(p.ctx, a, anchor); err != nil {
		return err
	}
	p.services.start("trust anchor", func(ctx context.Context) error { // other replicas may change it, too
		return b.Listen(ctx, "change."+string(authority.ChangeTrust), "", func(string, []byte) {
			if err := writeAnchor(ctx, a, anchor); err != nil && ctx.Err() == nil {
				log.Error("bring the trust anchor up to date", "err", err)
			}
		})
	}, nil)
	p.services.start("authority", a.Run, nil)
	p.services.start("lockouts", func(ctx context.Context) error {
		return b.Listen(ctx, subjectLockout, "", func(_ string, data []byte) {
			var c authority.LockoutChange
			if json.Unmarshal(data, &c) == nil {
				a.HearLockout(c)
			}
		})
	}, nil)
	handlers := a.Handlers()
	p.services.start("authority on the bus", func(ctx context.Context) error {
		return b.Serve(ctx, authoritySubject+">", "authority", func(ctx context.Context, subject string, data []byte) ([]byte, error) {
			h, ok := handlers[strings.TrimPrefix(subject, authoritySubject)]
			if !ok {
				return nil, fmt.Errorf("the authority has no method %q", subject)
			}
			return h(ctx, data)
		})
	}, nil)
	published := a.Published()
	p.admin.serve("/pki/", published)
	if f.ListenPKI != "" {
		l, err := listen("listen-pki", f.ListenPKI)
		if err != nil {
			return err
		}
		log.Info("revocation lists and OCSP", "address", l.Addr().String())
		p.services.start("revocation lists and OCSP", func(ctx context.Context) error {
			return serveHTTP(ctx, netutil.LimitListener(l, maxPKIConnections), published)
		}, nil)
	}
	p.admin.register(a.Collectors())
	p.admin.askReady(func(ctx context.Context) []string {
		if err := a.Ready(ctx); err != nil {
			return []string{"authority: " + err.Error()}
		}
		return nil
	})
	return nil
}

// writeAnchor writes what stations trust to a file, whole or not at all.
func writeAnchor(ctx context.Context, a *authority.Authority, path string) error {
	trust, err := a.Trust(ctx)
	if err != nil {
		return fmt.Errorf("trust anchor for stations: %w", err)
	}
	if old, err := os.ReadFile(path); err == nil && string(old) == trust.ServerRoots {
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".ca.crt-*")
	if err != nil {
		return fmt.Errorf("trust anchor for stations: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(trust.ServerRoots)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("trust anchor for stations: %w", err)
	}
	return nil
}

const (
	authoritySubject = "authority."
	subjectLockout   = "lockout.change" // replicas of the authority tell each other of wrong passwords
)

// askAgain is after how long without an answer a request that changes nothing is
// made once more: the authority that took it may have died with it.
const askAgain = 5 * time.Second

// authorityClient asks the authority over the bus.
func (p *process) authorityClient() *authority.Client {
	return &authority.Client{Do: func(ctx context.Context, subject string, data []byte) ([]byte, error) {
		if authority.Repeatable(subject) {
			first, cancel := context.WithTimeout(ctx, askAgain)
			answer, err := p.bus.Request(first, authoritySubject+subject, data)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
				return answer, err
			}
		}
		return p.bus.Request(ctx, authoritySubject+subject, data)
	}}
}
