package csms

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
)

// Config is what a CSMS is made of.
type Config struct {
	Store     *store.CSMS
	Protocols map[ocpp.Version]Protocol // the versions that are spoken

	// Call carries a CALL to a station.
	Call ocpp.CallFunc
	// Publish tells others what happened, after its commit. It must not block.
	// Nil: nobody is told.
	Publish func(Event)
	// CertificateSerial returns the serial number that a station's certificate has to
	// have, if its security profile is 3 and an operator registered one; else it is
	// empty. Nil: no boot is compared with a certificate.
	CertificateSerial func(ctx context.Context, station ocpp.StationID) (string, error)
	// Expel ends a station's connection and records why among its attempts. Nil:
	// the station gets its CALLERROR and stays.
	Expel func(ctx context.Context, station ocpp.StationID, reason ocpp.Reason, detail string) error
	// EVCertificate asks the provider of contract certificates. Nil: there is none,
	// and EVs that ask are answered Failed.
	EVCertificate EVCertificateFunc
	// OCSP asks for the status of certificates. Nil: it is not asked for, and
	// stations that ask are answered Failed.
	OCSP OCSPFunc
	// Authority decides who may connect. Nil: stations' certificate signing
	// requests are rejected, and there are no operations.
	Authority Authority
	// Invalid recognizes errors of the authority that say that it was asked for
	// something that cannot be. Nil: there are none.
	Invalid func(error) bool
	// Disconnect closes a station's connection, on whichever gateway it is. Nil:
	// operations wait for stations to come back by themselves.
	Disconnect func(ctx context.Context, station ocpp.StationID) error

	Settings Settings
	Now      func() time.Time // nil: time.Now
	Logger   *slog.Logger     // nil: silent
}

// Settings are an operator's choices. The zero value is the default.
type Settings struct {
	// HeartbeatInterval is sent to accepted stations; zero means 5 minutes. A
	// station is never told 0, which some read as "all the time".
	HeartbeatInterval time.Duration
	// PendingInterval is the wait before a station that is Pending boots again;
	// zero means 30 seconds.
	PendingInterval time.Duration
	// RejectedInterval is the same for Rejected; zero means 5 minutes.
	RejectedInterval time.Duration
	// RegistrationDefault is the registration of a station at first contact;
	// empty means Accepted: the authority has admitted it.
	RegistrationDefault store.Registration
	// TolerateBeforeAccept lists the versions whose stations may send any CALL
	// while they are Pending. Nil means 1.6 only, where stations often do;
	// empty, not nil, means none.
	TolerateBeforeAccept []ocpp.Version
	// AcceptUnknownTokens lets ID tokens charge that the record does not know.
	AcceptUnknownTokens bool
	// ConcurrentTx refuses an ID token while another transaction of it is open.
	ConcurrentTx bool
	// DataTransferVendors lists the vendorIds whose DataTransfer is Accepted (and
	// recorded); all others are answered UnknownVendorId (and recorded).
	DataTransferVendors []string
	// CallTimeout bounds a CALL to a station that names no other; zero means 30 seconds.
	CallTimeout time.Duration
	// HandleTimeout bounds the work for a station's CALL; zero means 20 seconds.
	HandleTimeout time.Duration
	// KeepCommands is how long the audit record keeps commands; zero means 400 days.
	KeepCommands time.Duration
	// OperationTime is how long an operation may take, the time that the station is
	// away included; zero means 7 days.
	OperationTime time.Duration
	// OperationRetry is the wait before a step is tried again; it doubles up to 10
	// minutes. Zero means 30 seconds.
	OperationRetry time.Duration
	// OperationAnswer is how long a station may take from accepting to send a
	// certificate signing request to sending it; zero means 5 minutes: some take
	// minutes to make an RSA key.
	OperationAnswer time.Duration
	// OperationUse is how long a station that took a new password, certificate or
	// profile may take to connect with it, before its connection is closed, and
	// before a return with the old one counts. Zero means 5 minutes.
	OperationUse time.Duration
	// StationURLs are the addresses of the gateways by security profile, as stations
	// reach them, without the identity: wss://ocpp.example.com:8883/ocpp.
	StationURLs map[ocpp.SecurityProfile]string
	// CacheStations is how many stations' registrations are kept in memory; zero
	// means 200,000, about 30 MB.
	CacheStations int
}

func (s Settings) withDefaults() (Settings, error) {
	for _, d := range []struct {
		field    *time.Duration
		fallback time.Duration
	}{
		{&s.HeartbeatInterval, 5 * time.Minute}, {&s.PendingInterval, 30 * time.Second}, {&s.RejectedInterval, 5 * time.Minute},
		{&s.CallTimeout, 30 * time.Second}, {&s.HandleTimeout, 20 * time.Second},
		{&s.KeepCommands, 400 * 24 * time.Hour}, {&s.OperationTime, 7 * 24 * time.Hour},
	} {
		if *d.field == 0 {
			*d.field = d.fallback
		}
		if *d.field < time.Second {
			return s, fmt.Errorf("csms settings: %v is less than a second", *d.field)
		}
	}
	for _, d := range []struct {
		field    *time.Duration
		fallback time.Duration
	}{{&s.OperationRetry, 30 * time.Second}, {&s.OperationAnswer, 5 * time.Minute}, {&s.OperationUse, 5 * time.Minute}} {
		if *d.field <= 0 {
			*d.field = d.fallback
		}
	}
	if s.RegistrationDefault == "" {
		s.RegistrationDefault = store.Accepted
	}
	if !s.RegistrationDefault.Valid() {
		return s, fmt.Errorf("csms settings: registration %q is none of Accepted, Pending, Rejected", s.RegistrationDefault)
	}
	if s.TolerateBeforeAccept == nil {
		s.TolerateBeforeAccept = []ocpp.Version{ocpp.V16}
	}
	if s.CacheStations == 0 {
		s.CacheStations = 200_000
	}
	return s, nil
}

func (s Settings) tolerates(v ocpp.Version) bool { return slices.Contains(s.TolerateBeforeAccept, v) }

// CSMS is the rules over one record. All methods may be called concurrently.
type CSMS struct {
	// Set by New, then read-only.
	store             *store.CSMS
	protocols         map[ocpp.Version]Protocol
	call              ocpp.CallFunc
	publish           func(Event)
	ocsp              OCSPFunc
	evCertificate     EVCertificateFunc
	certificateSerial func(ctx context.Context, station ocpp.StationID) (string, error)
	expel             func(ctx context.Context, station ocpp.StationID, reason ocpp.Reason, detail string) error
	authority         Authority
	invalid           func(error) bool
	disconnect        func(ctx context.Context, station ocpp.StationID) error
	settings          Settings
	now               func() time.Time
	log               *slog.Logger
	metrics           *metrics

	// Each with a lock of its own.
	registrations registrations
	seen          seen
	numbers       numbers
	operations    operations
	faults        faults

	jobs chan job // work that outlives the CALL that asked for it; Run takes it
}

// New checks cfg and starts nothing.
func New(cfg Config) (*CSMS, error) {
	if cfg.Store == nil || cfg.Call == nil || len(cfg.Protocols) == 0 {
		return nil, errors.New("csms: Store, Call and Protocols are required")
	}
	settings, err := cfg.Settings.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &CSMS{
		store: cfg.Store, protocols: cfg.Protocols, call: cfg.Call, publish: cfg.Publish,
		authority: cfg.Authority, invalid: cfg.Invalid, disconnect: cfg.Disconnect,
		settings: settings, now: cfg.Now, log: cfg.Logger,
		ocsp: cfg.OCSP, evCertificate: cfg.EVCertificate, certificateSerial: cfg.CertificateSerial, expel: cfg.Expel,
		registrations: newRegistrations(settings.CacheStations),
		seen:          seen{max: settings.CacheStations},
		numbers:       numbers{store: cfg.Store, name: "transaction"},
		operations:    newOperations(),
		jobs:          make(chan job, maxJobs),
	}
	if c.invalid == nil {
		c.invalid = func(error) bool { return false }
	}
	if c.disconnect == nil {
		c.disconnect = func(context.Context, ocpp.StationID) error { return nil }
	}
	if c.publish == nil {
		c.publish = func(Event) {}
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.metrics = newMetrics(c)
	return c, nil
}

// Ready reports why stations' CALLs cannot be answered, nil if they can.
func (c *CSMS) Ready(ctx context.Context) error { return c.store.Ping(ctx) }

// Record returns the record that the rules write: operators' queries read it.
func (c *CSMS) Record() *store.CSMS { return c.store }

// Now returns the time that is sent to stations.
func (c *CSMS) Now() time.Time { return c.now() }
