package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"holdfast/authority"
	"holdfast/bus"
	"holdfast/gateway"
	"holdfast/memory"
	"holdfast/ocpp"
	"holdfast/ws"
)

type gatewayCommand struct {
	busFlags
	adminFlags
	gatewayFlags
}

func (c *gatewayCommand) Run(e *env) error {
	if c.NATS == "" {
		return &usageError{"holdfast gateway: --nats is required (or run every role with holdfast all)"}
	}
	if err := c.gatewayFlags.check(); err != nil {
		return err
	}
	p := newProcess(e)
	err := p.openBus(c.busFlags.config(bus.RoleGateway))
	if err == nil {
		err = p.startAdmin(&c.adminFlags)
	}
	if err == nil {
		err = p.startGateway(&c.gatewayFlags)
	}
	if err == nil {
		err = p.startHistory(&c.adminFlags, "gateway", "")
	}
	if err == nil {
		err = p.startLeakDetector(&c.adminFlags, "gateway", c.GatewayID)
	}
	if err == nil {
		err = p.startProfilePush(&c.pyroscopeFlags, "gateway", c.GatewayID)
	}
	return p.run(err)
}

// busOfGateway is the bus as a gateway wants it.
type busOfGateway struct{ *bus.Bus }

func (b busOfGateway) Attach(station ocpp.StationID) (gateway.Attachment, error) {
	return b.Bus.Attach(station)
}

// maxNotes is how many refusals wait to be told to the authority.
const maxNotes = 256

// startGateway opens the stations' ports.
func (p *process) startGateway(f *gatewayFlags) error {
	cfg, err := f.config()
	if err != nil {
		return err
	}
	ports, err := f.ports()
	if err != nil {
		return err
	}
	b, log, client := p.bus, p.log, p.authorityClient()
	cfg.Logger, cfg.Bus, cfg.Admit = log, busOfGateway{b}, client.Admit
	cfg.Publish = func(event any) {
		data, err := json.Marshal(event)
		if err != nil {
			log.Error("publish", "err", err)
			return
		}
		switch event.(type) {
		case *ocpp.Connected:
			b.Publish(subjectConnected, data) // nobody waits: a lost event is mended by the next report
		case *ocpp.Disconnected:
			b.Publish(subjectDisconnected, data)
		}
	}
	cfg.LogFrame = func(station ocpp.StationID, direction ocpp.Direction, frame []byte) {
		b.LogFrame(cfg.ID, station, direction, frame)
	}
	notes := make(chan authority.Refusal, maxNotes)
	cfg.Refused = func(c ocpp.Credentials, reason ocpp.Reason, detail string) {
		select {
		case notes <- authority.Refusal{Credentials: c, Reason: reason, Detail: detail, At: time.Now()}:
		default: // the metric and the log have it
		}
	}
	gw, err := gateway.New(cfg)
	if err != nil {
		return err
	}
	keeper, err := newServerTLS(gw, client, f, cfg.ID, b.Reconnects, log)
	if err != nil {
		return err
	}

	p.gateway = gw

	// What the gateway hears comes before the stations.
	p.services.start("gateway", gw.Run, nil)
	p.services.start("calls to stations", func(ctx context.Context) error { return b.ServeDown(ctx, gw.Deliver) }, nil)
	p.services.start("takeovers", func(ctx context.Context) error {
		return b.Listen(ctx, subjectConnected, "", func(_ string, data []byte) {
			var event ocpp.Connected
			if json.Unmarshal(data, &event) == nil {
				gw.Taken(event)
			}
		})
	}, nil)
	p.services.start("changes", func(ctx context.Context) error {
		return b.Listen(ctx, "change.>", "", func(_ string, data []byte) {
			if err := applyChange(gw, keeper, data); err != nil {
				log.Error("follow the authority", "err", err)
			}
		})
	}, nil)
	p.services.start("reports", func(ctx context.Context) error { return report(ctx, b, gw, cfg.ID) }, nil)
	p.services.start("refusals", func(ctx context.Context) error {
		for {
			select {
			case n := <-notes:
				note(ctx, client, n, log)
			case <-ctx.Done():
				return nil
			}
		}
	}, nil)
	p.services.start("disconnects", func(ctx context.Context) error {
		return b.Listen(ctx, subjectDisconnect, "", func(_ string, data []byte) {
			gw.Disconnect(disconnectOf(data))
		})
	}, nil)
	p.services.start("server certificates", keeper.run, nil)

	p.admin.register(gw.Collectors())
	p.admin.register([]prometheus.Collector{keeper.expiry})
	p.admin.account.SetStations(stationsOf(gw))
	p.services.start("memory limit", func(ctx context.Context) error { return keepLimit(ctx, p.admin.account, gw.Profiles) }, nil)
	p.services.start("garbage collection", func(ctx context.Context) error {
		return keepPace(ctx, func() (int, int64) { return gw.Len(), gw.Changes() })
	}, nil)
	p.admin.askReady(memoryFull(p.admin.account))
	p.admin.askCheck(gw.Check)
	p.admin.askCheck(func() error { return checkGoroutines(gw.Goroutines, memory.Roles) })
	p.admin.askReady(func(context.Context) []string { return append(gw.Ready(), keeper.unready()...) })

	drained := false
	for profile, port := range ports {
		l, err := listen(port[0], port[1])
		if err != nil {
			return err
		}
		log.Info("listening for stations", "profile", profile.Label(), "address", l.Addr().String())
		p.services.start("port of security profile "+profile.Label(), func(ctx context.Context) error {
			if profile != ocpp.ProfilePlain {
				select { // a handshake without certificates would only fail
				case <-keeper.ready:
				case <-ctx.Done():
					return l.Close()
				}
			}
			return gw.Serve(ctx, l, profile)
		}, func(ctx context.Context) {
			if !drained { // the first port to stop drains all
				drained = true
				gw.Drain(ctx, f.DrainTime)
			}
		})
	}
	return nil
}

// noteAgain is the time between two tries to tell of a refusal: while the
// authority is away, the first ones of an outage wait for it.
const noteAgain = 5 * time.Second

// note tells the authority of a refusal, once it can be told.
func note(ctx context.Context, client *authority.Client, n authority.Refusal, log *slog.Logger) {
	for {
		limited, cancel := context.WithTimeout(ctx, noteAgain)
		err := client.Note(limited, n)
		cancel()
		if err == nil || ctx.Err() != nil {
			return
		}
		if _, ok := errors.AsType[*authority.InvalidError](err); ok {
			return
		}
		log.Debug("note refusal", "station", n.Credentials.Station, "err", err)
		select {
		case <-time.After(noteAgain):
		case <-ctx.Done():
			return
		}
	}
}

const (
	subjectConnected    = "event.connected"
	subjectDisconnected = "event.disconnected"
	subjectDisconnect   = "gateway.disconnect" // data: disconnect
	subjectAsk          = "gateway.report"     // gateways, say whom you hold
	subjectPresent      = "gateway.present"    // answers to that, and every presentInterval
)

// disconnect is the message that has gateways let go of a station: its identity
// and, behind a NUL, which no identity has, why; an operator needs no reason.
func disconnect(station ocpp.StationID, reason ws.CloseReason) []byte {
	if reason == gateway.CloseOperator {
		return []byte(station)
	}
	return []byte(string(station) + "\x00" + string(reason))
}

func disconnectOf(data []byte) (ocpp.StationID, ws.CloseReason) {
	station, reason, _ := strings.Cut(string(data), "\x00")
	if ws.CloseReason(reason) == gateway.CloseSerial {
		return ocpp.StationID(station), gateway.CloseSerial
	}
	return ocpp.StationID(station), gateway.CloseOperator
}

// presence is a part of what a gateway holds.
type presence struct {
	Gateway  string           `json:"gateway"`
	Stations []ocpp.Connected `json:"stations"`
	First    bool             `json:"first"` // of the parts of one report
	Last     bool             `json:"last"`
}

const (
	presentInterval = 5 * time.Second // a gateway says that it lives
	presentPart     = 1000            // stations in one part
)

// settled is after how many presentIntervals everything that was recorded
// before an outage is older than what a report may not correct.
const settled = 3

// report tells the csms whom this gateway holds when it asks and when the gateway
// starts (nobody: its predecessor may have been killed), and every few seconds
// that the gateway lives.
func report(ctx context.Context, b *bus.Bus, gw *gateway.Gateway, id string) error {
	asked := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- b.Listen(ctx, subjectAsk, "", func(string, []byte) {
			select {
			case asked <- struct{}{}:
			default:
			}
		})
	}()
	send := func(part presence) {
		if data, err := json.Marshal(part); err == nil {
			b.Publish(subjectPresent, data)
		}
	}
	all := func() {
		list := gw.Present()
		for first := true; first || len(list) > 0; first = false {
			n := min(presentPart, len(list))
			send(presence{Gateway: id, Stations: list[:n], First: first, Last: n == len(list)})
			list = list[n:]
		}
	}
	alive := time.NewTicker(presentInterval)
	defer alive.Stop()
	all()
	for ticks := 1; ; {
		select {
		case err := <-ended:
			return err
		case <-alive.C:
			if send(presence{Gateway: id}); ticks == settled {
				all()
			}
			ticks++
		case <-asked:
			all()
		}
	}
}
