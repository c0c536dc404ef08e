package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/authority"
	"holdfast/bus"
	"holdfast/csms"
	"holdfast/csms/action16"
	"holdfast/csms/action201"
	"holdfast/csms/action21"
	"holdfast/gateway"
	"holdfast/ocpp"
	"holdfast/store"
)

// csmsFlags are of the management core, alone or in all.
type csmsFlags struct {
	ListenAPI           string         `name:"listen-api" help:"Address of the operator API." default:"127.0.0.1:8800"`
	APICert             string         `name:"api-cert" help:"PEM file with its certificate chain: it then speaks HTTPS. Read again when it changes." type:"path" placeholder:"FILE"`
	APIKey              string         `name:"api-key" help:"PEM file with the key." type:"path" placeholder:"FILE"`
	HeartbeatInterval   time.Duration  `help:"Heartbeat interval that stations are told." default:"5m"`
	AcceptUnknownTokens bool           `help:"Let ID tokens charge that nobody registered."`
	Registration        string         `help:"Registration of a station at first contact: Accepted, Pending or Rejected." enum:"Accepted,Pending,Rejected" default:"Accepted"`
	ConcurrentTx        bool           `help:"Refuse an ID token while another transaction of it is open."`
	StationURL          map[int]string `name:"station-url" help:"Address of the gateways for a security profile, as stations reach it, without the identity: 3=wss://ocpp.example.com:8883/ocpp. Stations of OCPP 2.x are told it when their profile changes." placeholder:"PROFILE=URL"`
	DataTransferVendors []string       `help:"vendorIds whose DataTransfer is accepted (all are recorded)." placeholder:"ID"`
	LogAge              time.Duration  `help:"How long the message log keeps frames." default:"168h"`
	LogBytes            int64          `help:"How many bytes the message log keeps." default:"1073741824"`
	LogPerStation       int64          `help:"How many frames the message log keeps of a station." default:"1000"`
	oidcFlags
	iso15118Flags
}

type csmsCommand struct {
	busFlags
	adminFlags
	databaseFlags
	csmsFlags
}

func (c *csmsCommand) Run(e *env) error {
	if c.NATS == "" {
		return &usageError{"holdfast csms: --nats is required (or run every role with holdfast all)"}
	}
	p := newProcess(e)
	err := p.openBus(c.busFlags.config(bus.RoleCSMS))
	if err == nil {
		err = p.startAdmin(&c.adminFlags)
	}
	if err == nil {
		err = p.startCSMS(&c.databaseFlags, &c.csmsFlags)
	}
	if err == nil {
		err = p.startHistory(&c.adminFlags, "csms", c.Data)
	}
	if err == nil {
		err = p.startLeakDetector(&c.adminFlags, "csms", "")
	}
	if err == nil {
		err = p.startProfilePush(&c.pyroscopeFlags, "csms", "")
	}
	return p.run(err)
}

// maxEvents is how many events of gateways are recorded at a time; groups of
// them share a commit.
const maxEvents = 256

// startCSMS opens the record, answers stations and serves the operator API.
func (p *process) startCSMS(db *databaseFlags, f *csmsFlags) error {
	if err := db.prepare(); err != nil {
		return err
	}
	st, err := store.OpenCSMS(p.ctx, db.where())
	if err != nil {
		return fmt.Errorf("csms: %w", db.explain(err))
	}
	p.services.closing("csms's database", st.Close)
	stationURLs := make(map[ocpp.SecurityProfile]string, len(f.StationURL))
	for profile, u := range f.StationURL {
		stationURLs[ocpp.SecurityProfile(profile)] = u
	}
	b, log, client := p.bus, p.log, p.authorityClient()
	cfg := csms.Config{
		Store: st, Call: b.CallStation, Logger: log,
		Protocols: map[ocpp.Version]csms.Protocol{
			ocpp.V16: action16.Protocol(), ocpp.V201: action201.Protocol(), ocpp.V21: action21.Protocol(),
		},
		Publish: func(e csms.Event) {
			if data, err := json.Marshal(e); err == nil {
				b.Publish(subjectLive+string(e.Kind), data) // live events may be lost
			}
		},
		Authority: authorityOfCSMS{client},
		Invalid: func(err error) bool {
			if _, _, ok := invalidRequest(err); ok {
				return true
			}
			_, after, ok := upstreamFailed(err)
			return ok && after == 0 // an external CA would only make one wrong certificate after the other
		},
		Disconnect: func(ctx context.Context, station ocpp.StationID) error {
			if err := b.Publish(subjectDisconnect, []byte(station)); err != nil {
				return err
			}
			return b.Flush(ctx)
		},
		CertificateSerial: func(ctx context.Context, station ocpp.StationID) (string, error) {
			s, err := client.Station(ctx, station)
			if errors.Is(err, authority.ErrNotFound) {
				return "", nil // removed a moment ago: its connection ends anyway
			}
			return serialToCompare(s), err
		},
		Expel: func(ctx context.Context, station ocpp.StationID, reason ocpp.Reason, detail string) error {
			return errors.Join(
				client.Note(ctx, authority.Refusal{Credentials: ocpp.Credentials{Station: station, Profile: ocpp.ProfileMTLS}, Reason: reason, Detail: detail}),
				b.Publish(subjectDisconnect, disconnect(station, gateway.CloseSerial)),
			)
		},
		Settings: csms.Settings{
			HeartbeatInterval: f.HeartbeatInterval, AcceptUnknownTokens: f.AcceptUnknownTokens, ConcurrentTx: f.ConcurrentTx,
			StationURLs:         stationURLs,
			RegistrationDefault: store.Registration(f.Registration), DataTransferVendors: f.DataTransferVendors,
		},
	}
	if err := f.connect(p, &cfg); err != nil {
		return err
	}
	core, err := csms.New(cfg)
	if err != nil {
		return err
	}
	if err := b.OpenLog(p.ctx, bus.LogLimits{Age: f.LogAge, Bytes: f.LogBytes, PerStation: f.LogPerStation}); err != nil {
		return err
	}

	p.csms = core
	p.services.start("csms", core.Run, nil)
	p.services.start("stations' calls", func(ctx context.Context) error { return b.ServeCalls(ctx, core.Handle) }, nil)
	r := &roll{core: core, bus: b, log: log, gateways: make(map[string]*held)}
	p.services.start("connections", func(ctx context.Context) error {
		return b.ListenMany(ctx, subjectConnected, "csms", maxEvents, func(_ string, data []byte) {
			var e ocpp.Connected
			if err := json.Unmarshal(data, &e); err == nil {
				if err := core.Connected(context.Background(), e); err != nil {
					r.missed.Store(true)
					log.Error("record connection", "station", e.Station, "err", err)
				}
			}
		})
	}, nil)
	p.services.start("disconnections", func(ctx context.Context) error {
		return b.ListenMany(ctx, subjectDisconnected, "csms", maxEvents, func(_ string, data []byte) {
			var e ocpp.Disconnected
			if err := json.Unmarshal(data, &e); err == nil {
				if err := core.Disconnected(context.Background(), e); err != nil {
					r.missed.Store(true)
					log.Error("record disconnection", "station", e.Station, "err", err)
				}
			}
		})
	}, nil)
	p.services.start("gateways", r.run, nil)
	if err := p.startVerdicts(p.ctx, st); err != nil {
		return err
	}
	p.admin.register(core.Collectors())
	p.admin.askReady(func(ctx context.Context) []string {
		if err := core.Ready(ctx); err != nil {
			return []string{"csms: " + err.Error()}
		}
		return nil
	})
	return p.startAPI(f, db, core, client)
}

// serialToCompare is the serial number that a station must have by its
// certificate, if there is one to compare with. One that nobody registered is the
// identity, and stations with a serial number of their maker's are many.
func serialToCompare(s store.Station) string {
	if s.Profile != ocpp.ProfileMTLS || s.PreviousProfile != 0 || strings.EqualFold(s.Serial, string(s.ID)) {
		return ""
	}
	return s.Serial
}

const subjectLive = "live."

// roll calls the roll of the gateways: what they hold corrects the record after
// events were lost, and a gateway that is not heard of any more holds nobody.
type roll struct {
	core   *csms.CSMS
	bus    *bus.Bus
	log    *slog.Logger
	missed atomic.Bool // something that gateways said could not be recorded

	mu       sync.Mutex
	gateways map[string]*held // bounded by maxGateways
}

// held is what one gateway said last.
type held struct {
	heard   time.Time
	partial []ocpp.Connected // parts of a report so far
}

const (
	maxGateways = 1000
	askInterval = 2 * time.Minute
	deadAfter   = 4 * presentInterval
)

func (r *roll) run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- r.bus.Listen(ctx, subjectPresent, "", r.hear) }()
	known, err := r.core.Record().Gateways(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	for _, id := range known { // those that died while nobody listened
		if r.gateways[id] == nil {
			r.gateways[id] = &held{heard: time.Now()}
		}
	}
	r.mu.Unlock()
	ask, look := time.NewTicker(askInterval), time.NewTicker(presentInterval)
	defer ask.Stop()
	defer look.Stop()
	r.bus.Publish(subjectAsk, nil)
	again := settled // ticks until the gateways are asked once more
	for reconnects := r.bus.Reconnects(); ; {
		select {
		case err := <-ended:
			return err
		case <-ask.C:
			r.bus.Publish(subjectAsk, nil)
			continue
		case <-look.C:
		}
		if r.bus.Ready() != nil {
			continue
		}
		lost := r.bus.Reconnects() != reconnects
		if lost { // nobody could be heard meanwhile
			reconnects = r.bus.Reconnects()
			r.excuse()
		}
		if lost || r.missed.Load() && r.core.Ready(ctx) == nil {
			r.missed.Store(false)
			r.bus.Publish(subjectAsk, nil)
			again = settled
		} else if again--; again == 0 {
			r.bus.Publish(subjectAsk, nil)
		}
		r.bury(ctx)
	}
}

// excuse counts the gateways' silence from now.
func (r *roll) excuse() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.gateways {
		h.heard = time.Now()
	}
}

// hear takes one part of what a gateway says.
func (r *roll) hear(_ string, data []byte) {
	var part presence
	if json.Unmarshal(data, &part) != nil || part.Gateway == "" {
		return
	}
	r.mu.Lock()
	h := r.gateways[part.Gateway]
	if h == nil {
		if len(r.gateways) >= maxGateways {
			r.mu.Unlock()
			return
		}
		h = &held{}
		r.gateways[part.Gateway] = h
	}
	h.heard = time.Now()
	if part.First {
		h.partial = nil
	}
	h.partial = append(h.partial, part.Stations...)
	if !part.Last {
		r.mu.Unlock()
		return
	}
	all := h.partial
	h.partial = nil
	r.mu.Unlock()
	r.correct(context.Background(), part.Gateway, all)
}

// correct makes the record show exactly the stations as held by a gateway, and
// reports whether it could.
func (r *roll) correct(ctx context.Context, gateway string, all []ocpp.Connected) bool {
	err := r.core.Present(ctx, gateway, all, true)
	if err != nil {
		r.missed.Store(true)
		r.log.Error("correct the record of a gateway", "gateway", gateway, "err", err)
	}
	return err == nil
}

// bury declares the stations of silent gateways offline.
func (r *roll) bury(ctx context.Context) {
	r.mu.Lock()
	var dead []string
	for id, h := range r.gateways {
		if time.Since(h.heard) > deadAfter {
			dead = append(dead, id)
		}
	}
	r.mu.Unlock()
	for _, id := range dead {
		if !r.correct(ctx, id, nil) {
			continue // tried again at the next look
		}
		r.mu.Lock()
		if h := r.gateways[id]; time.Since(h.heard) > deadAfter {
			delete(r.gateways, id)
		}
		r.mu.Unlock()
	}
}
