package fleet

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/ocpp"
)

// Identity is one station: who it is and how it proves it.
type Identity struct {
	ID      ocpp.StationID
	Profile ocpp.SecurityProfile
	// Version is the version that the station speaks. Empty means 1.6.
	Version ocpp.Version
	// Serial goes into BootNotification. Empty means the ID, cut to 25 characters.
	Serial string
	// User is the Basic user name. Empty means the ID.
	User string
	// Password is sent as it is, bytes or text, in profiles 1 and 2.
	Password string
	// Certificate is presented in profile 3: leaf first, then what the server
	// needs to complete the chain. Stations may share the intermediates' bytes.
	Certificate *tls.Certificate
	// Connectors is how many connectors (2.x: EVSEs with one connector each) the
	// station has. Zero means 1, at most 32.
	Connectors int
	// TLS is how the station speaks TLS. Nil means as most do.
	TLS *ClientTLS
	// Quirks are the station's bad habits: faults that are a Quirk.
	Quirks []Fault
}

// Config describes a fleet. Only Targets and Stations are required.
type Config struct {
	// Targets are the servers' endpoints by security profile, ws:// for profile 1
	// and wss:// for 2 and 3; the station's escaped identity is appended as the
	// last path segment.
	Targets  map[ocpp.SecurityProfile]string
	Stations []Identity
	// Roots are the trust anchors for the server's certificate. Nil means the
	// system's.
	// Stations list them as installed root certificates, and the server may add to
	// them and delete them.
	Roots     []*x509.Certificate
	Behaviour Behaviour
	// Rate is how many stations begin to connect per second. Zero means all at once.
	Rate float64
	// Handshakes bounds how many connection attempts run at once. Zero means 64.
	Handshakes int
	// HandshakeTimeout bounds one attempt, TCP to the end of the upgrade. Zero
	// means 30 seconds.
	HandshakeTimeout time.Duration
	// CallTimeout is how long a station waits for an answer. Zero means 30 seconds.
	CallTimeout time.Duration
	// PingInterval is the time between a station's WebSocket pings. Zero means
	// that stations do not ping. A ping that nothing follows until the next one is
	// due ends the connection.
	PingInterval time.Duration
	BackOff      BackOff
	Resend       Resend
	// QueueLimit bounds the transaction messages that one station keeps. When it
	// is full, every second meter value makes room, never a start or a stop. Zero
	// means 1,000.
	QueueLimit int
	// MaxMessage is the largest message a station takes, in bytes; a larger one
	// ends the connection with close code 1009. Zero means 1 MiB.
	MaxMessage int
	// LedgerLimit bounds the ledger, in transactions plus meter values; what does
	// not fit is counted. Zero means 4,000,000, about 120 MB.
	LedgerLimit int
	// Seed makes the stations' decisions reproducible.
	Seed uint64
	// Logger gets one line per event of a connection at debug level, and what is
	// wrong with the server at warn level. Nil discards.
	Logger *slog.Logger
	// Away makes the stations stay away until Join.
	Away bool
	// OnCall and OnConnect, if not nil, get every CALL that ended and every attempt
	// to connect. They are called by the stations' goroutines and must not block.
	OnCall    func(CallRecord)
	OnConnect func(ConnectRecord)
	// Dial opens the TCP connection of a station, for instance from a local
	// address of its own. Nil means a plain net.Dialer.
	Dial func(ctx context.Context, station ocpp.StationID, address string) (*net.TCPConn, error)

	needsPings time.Duration // of stations with that quirk; zero means needsPingsFor
}

// BackOff is how a station comes back: after Minimum plus a random time up to
// Random; every failure doubles Minimum, at most Repeat times; it never gives up
// (OCPP 2.x RetryBackOffWaitMinimum, RandomRange and RepeatTimes).
type BackOff struct {
	Minimum time.Duration // zero means 3 seconds
	Random  time.Duration // zero means 10 seconds, negative none
	Repeat  int           // zero means 3, negative none
}

// Resend is how often and when a station repeats a transaction message that was
// not answered or answered with a CALLERROR: before sending k+1 it waits k times
// Interval, and discards the message after Attempts sendings (OCPP 1.6
// TransactionMessageAttempts, TransactionMessageRetryInterval; 2.x E13). A
// message whose connection was lost is kept and not counted.
type Resend struct {
	Attempts int           // zero means 3
	Interval time.Duration // zero means 60 seconds
}

// Fleet is a number of stations. Its methods may be called from any goroutine.
type Fleet struct {
	cfg      Config
	behave   Behaviour
	log      *slog.Logger
	stations []*station
	byID     map[string]*station // by folded identity
	targets  map[ocpp.SecurityProfile]target
	ledger   *Ledger
	stats    stats

	mu  sync.Mutex
	tls map[tlsKey]*tls.Config // shared by stations; at most maxTLSConfigs

	now      func() time.Time
	start    time.Time // set by Run; tasks count from here
	run      string    // makes message and transaction ids unique over runs
	ctx      context.Context
	gate     chan struct{} // one token per running connection attempt
	settling atomic.Bool
	started  atomic.Bool
	wg       sync.WaitGroup // one per station
}

// target is where the stations of one profile connect to.
type target struct {
	url     *url.URL
	address string // host:port
	host    string // the name that the server's certificate must be for
}

// New checks the configuration. It starts nothing.
func New(cfg Config) (*Fleet, error) {
	cfg.Handshakes = cmp.Or(cfg.Handshakes, 64)
	cfg.HandshakeTimeout = cmp.Or(cfg.HandshakeTimeout, 30*time.Second)
	cfg.CallTimeout = cmp.Or(cfg.CallTimeout, 30*time.Second)
	cfg.BackOff.Minimum = cmp.Or(cfg.BackOff.Minimum, 3*time.Second)
	cfg.BackOff.Random = max(0, cmp.Or(cfg.BackOff.Random, 10*time.Second))
	cfg.BackOff.Repeat = max(0, cmp.Or(cfg.BackOff.Repeat, 3))
	cfg.Resend.Attempts = cmp.Or(cfg.Resend.Attempts, 3)
	cfg.Resend.Interval = cmp.Or(cfg.Resend.Interval, 60*time.Second)
	cfg.QueueLimit = cmp.Or(cfg.QueueLimit, 1000)
	cfg.needsPings = cmp.Or(cfg.needsPings, needsPingsFor)
	cfg.MaxMessage = cmp.Or(cfg.MaxMessage, 1<<20)
	cfg.LedgerLimit = cmp.Or(cfg.LedgerLimit, 4_000_000)
	if cfg.Handshakes < 0 || cfg.Rate < 0 || cfg.QueueLimit < 4 || cfg.MaxMessage < 1024 {
		return nil, errors.New("fleet: handshakes and rate must not be negative, the queue limit at least 4, the message limit at least 1,024 bytes")
	}
	if day := cfg.Behaviour.Day; len(day) > 0 && (slices.Min(day) < 0 || slices.Max(day) == 0) {
		return nil, errors.New("fleet: the day needs weights that are not negative, and not all zero")
	}
	if cfg.Dial == nil {
		cfg.Dial = dialTCP
	}
	f := &Fleet{
		cfg:     cfg,
		behave:  cfg.Behaviour.withDefaults(),
		log:     cfg.Logger,
		byID:    make(map[string]*station, len(cfg.Stations)),
		targets: make(map[ocpp.SecurityProfile]target, len(cfg.Targets)),
		ledger:  newLedger(cfg.LedgerLimit),
		now:     time.Now,
		gate:    make(chan struct{}, cfg.Handshakes),
		tls:     make(map[tlsKey]*tls.Config),
	}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	for profile, text := range cfg.Targets {
		t, err := newTarget(profile, text)
		if err != nil {
			return nil, err
		}
		f.targets[profile] = t
	}
	f.stations = make([]*station, 0, len(cfg.Stations))
	for _, identity := range cfg.Stations {
		identity.Version = cmp.Or(identity.Version, ocpp.V16)
		if err := f.checkIdentity(identity); err != nil {
			return nil, fmt.Errorf("fleet: station %s: %w", identity.ID, err)
		}
		s := newStation(f, identity)
		f.stations = append(f.stations, s)
		f.byID[identity.ID.Fold()] = s
	}
	f.cfg.Stations = nil // the stations hold them now
	return f, nil
}

func (f *Fleet) checkIdentity(id Identity) error {
	if err := id.ID.Check(); err != nil {
		return err
	}
	if _, ok := f.byID[id.ID.Fold()]; ok {
		return errors.New("given twice")
	}
	if _, ok := f.targets[id.Profile]; !ok {
		return fmt.Errorf("no target for security profile %s", id.Profile.Label())
	}
	if !id.Version.Valid() {
		return fmt.Errorf("unknown OCPP version %q", id.Version)
	}
	if id.Profile == ocpp.ProfileMTLS && id.Certificate == nil {
		return errors.New("security profile 3 needs a certificate")
	}
	for _, q := range id.Quirks {
		if !q.Quirk() {
			return fmt.Errorf("%s is not a quirk", q)
		}
	}
	if id.Connectors < 0 || id.Connectors > 32 {
		return fmt.Errorf("%d connectors: at most 32", id.Connectors)
	}
	return nil
}

func newTarget(profile ocpp.SecurityProfile, text string) (target, error) {
	u, err := url.Parse(text)
	if err != nil {
		return target{}, fmt.Errorf("fleet: target of profile %s: %w", profile.Label(), err)
	}
	t := target{url: u, host: u.Hostname()}
	port := "80"
	switch {
	case !profile.Valid():
		return target{}, fmt.Errorf("fleet: target %s: unknown security profile %d", text, profile)
	case u.Hostname() == "":
		return target{}, fmt.Errorf("fleet: target %s of profile %s: no host", text, profile.Label())
	case profile == ocpp.ProfilePlain && u.Scheme == "ws":
	case profile != ocpp.ProfilePlain && u.Scheme == "wss":
		port = "443"
	default:
		return target{}, fmt.Errorf("fleet: target %s: profile 1 needs ws://, profiles 2 and 3 wss://", text)
	}
	t.address = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
	return t, nil
}

// Run connects the stations and lets them live until ctx ends; then they close
// their connections and Run returns nil once all are gone. Transactions that are
// open then stay open at the server, as after a power cut: see Settle. A Fleet
// runs once.
func (f *Fleet) Run(ctx context.Context) error {
	if !f.started.CompareAndSwap(false, true) {
		return errors.New("fleet: a fleet runs once")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.ctx = ctx
	f.start = f.now()
	f.run = strconv.FormatInt(f.start.UnixMicro(), 36)
	f.ledger.begin(f.start)
	for i, s := range f.stations {
		var delay time.Duration
		if f.cfg.Rate > 0 {
			delay = time.Duration(float64(i) / f.cfg.Rate * float64(time.Second))
		}
		s.away = f.cfg.Away
		s.schedule(taskConnect, 0, delay)
		f.wg.Add(1)
		go s.turn()
	}
	f.stats.measure(ctx)
	for _, s := range f.stations {
		s.wake()
	}
	f.wg.Wait()
	return nil
}

// Settle ends every charging session, starts no new ones, and returns when every
// transaction message was acknowledged or discarded, or with ctx's error. It is
// what comes before Verify.
func (f *Fleet) Settle(ctx context.Context) error {
	f.settling.Store(true)
	for _, s := range f.stations {
		s.wake()
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s := f.Stats()
		if s.Transactions == 0 && s.Queued == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("fleet: %d transactions open, %d transaction messages queued: %w", s.Transactions, s.Queued, ctx.Err())
		case <-tick.C:
		}
	}
}

// Ledger is what the server acknowledged so far.
func (f *Fleet) Ledger() *Ledger { return f.ledger }

// stopping reports whether Run's context has ended.
func (f *Fleet) stopping() bool { return f.ctx.Err() != nil }

// elapsed is the time since Run began; tasks are due at such times.
func (f *Fleet) elapsed() time.Duration { return f.now().Sub(f.start) }

// clock is the stations' time of day: it begins with the real one and runs
// Behaviour.TimeFactor times as fast.
func (f *Fleet) clock(at time.Duration) time.Time {
	return f.start.Add(time.Duration(float64(at) * f.behave.TimeFactor)).UTC().Truncate(time.Millisecond)
}

// real is how long d of the stations' time takes.
func (f *Fleet) real(d time.Duration) time.Duration {
	return time.Duration(float64(d) / f.behave.TimeFactor)
}

func dialTCP(ctx context.Context, _ ocpp.StationID, address string) (*net.TCPConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}
