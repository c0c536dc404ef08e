package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.step.sm/crypto/kms/apiv1"

	"holdfast/est"
	"holdfast/pki"
	"holdfast/store"
)

// Config says how an authority decides. Zero fields mean their documented defaults.
type Config struct {
	// Store is the database. Required.
	Store *store.Authority
	// Dir holds the CAs' files, see caFile. Required; replicas share it.
	Dir string
	// Passphrase encrypts the CA keys in Dir that are made from now on, and opens
	// those that are encrypted. Empty: they are not encrypted.
	Passphrase []byte
	// KMS makes and holds the CA keys instead of files, and opens those that files
	// name. Nil: none.
	KMS apiv1.KeyManager
	// KMSKeyName is how a new key is called in KMS; label is unique, such as
	// station-ecdsa. Required with KMS.
	KMSKeyName func(label string) string
	// Operator is the organization (O) in certificates; at most 64 characters.
	// Default: Holdfast.
	Operator string

	// StationLifetime is how long stations' certificates live. Default: 2 years.
	StationLifetime time.Duration
	// ServerLifetime is how long servers' certificates live. Default: 20 hours.
	ServerLifetime time.Duration
	// Backdate is how long before now certificates become valid, for stations
	// whose clock is wrong. Default: 24 hours.
	Backdate time.Duration
	// PSS signs with RSA-PSS where a CA's key is RSA. Many stations cannot verify it.
	PSS bool

	// EST is a CA elsewhere that issues stations' certificates in the place of our
	// station CAs. CAs of its chain must be imported (ImportCA). Nil: ours issue.
	EST *est.Client

	// PublicURL is where Published is served for others, such as
	// http://pki.example.com; certificates then name revocation lists, OCSP
	// responder and issuer there. Empty: they name none.
	PublicURL string

	// DecisionTTL is how long a gateway may admit with the same credentials
	// itself. Default: 5 minutes.
	DecisionTTL time.Duration
	// RefusalTTL is how long a gateway may refuse the same credentials itself.
	// Default: 10 seconds.
	RefusalTTL time.Duration
	// Grace is how much longer a gateway may admit while no authority answers.
	// Default: 1 hour. Negative: not at all.
	Grace time.Duration

	// FreeFailures is how many wrong passwords in a row a station may present
	// from one source before it is locked out. Default: 5.
	FreeFailures int
	// Lockout is how long the first lockout takes; it doubles up to 15 minutes.
	// Default: 30 seconds.
	Lockout time.Duration

	// TicketRotation is how often the TLS session ticket keys change. A ticket
	// is good for one to two of these times. Default: 12 hours.
	TicketRotation time.Duration
	// AuditRetention is how long the audit record is kept, and certificates
	// after they expired. Default: 3 years.
	AuditRetention time.Duration

	// Publish is told of changes after their commit. It must not block. Default: nobody.
	Publish func(Change)
	// TellLockout tells the other replicas of wrong passwords; they take it over
	// with HearLockout. It must not block. Default: there are none.
	TellLockout func(LockoutChange)
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Logger gets one line per decision. Default: slog.Default.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Store == nil || c.Dir == "" {
		return c, errors.New("authority: Store and Dir are required")
	}
	if c.Operator == "" {
		c.Operator = "Holdfast"
	}
	if err := pki.CheckName(c.Operator); err != nil {
		return c, fmt.Errorf("operator's organization name %w: choose a shorter one", err)
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.StationLifetime, pki.Station.Lifetime}, {&c.ServerLifetime, pki.Server.Lifetime}, {&c.Backdate, pki.Station.Backdate},
		{&c.DecisionTTL, 5 * time.Minute}, {&c.RefusalTTL, 10 * time.Second}, {&c.Grace, time.Hour}, {&c.Lockout, 30 * time.Second},
		{&c.TicketRotation, 12 * time.Hour}, {&c.AuditRetention, 3 * 365 * 24 * time.Hour},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	c.Grace = max(c.Grace, 0)
	if c.FreeFailures == 0 {
		c.FreeFailures = 5
	}
	if c.KMS != nil && c.KMSKeyName == nil {
		return c, errors.New("authority: KMS without KMSKeyName")
	}
	if c.Publish == nil {
		c.Publish = func(Change) {}
	}
	if c.TellLockout == nil {
		c.TellLockout = func(LockoutChange) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// Authority decides who may connect. All methods may be called concurrently.
type Authority struct {
	cfg       Config
	store     *store.Authority
	log       *slog.Logger
	keys      *keyring
	passwords *passwords
	lockouts  *lockouts
	attempts  *recorder
	pools     pools
	metrics   *metrics
	stationCA stationCA

	casMu sync.Mutex
	cas   *hierarchy // guarded by casMu; what it points to is read-only

	published published
}

// Open loads the CA keys, or makes them at the first start (which takes a
// second or two). The store stays the caller's to close.
func Open(ctx context.Context, cfg Config) (*Authority, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	recorded, _, err := cfg.Store.CAs(ctx)
	if err != nil {
		return nil, fmt.Errorf("authority: trusted CAs: %w", err)
	}
	a := &Authority{
		cfg: cfg, store: cfg.Store, log: cfg.Logger, keys: newKeyring(),
		passwords: newPasswords(),
		lockouts:  newLockouts(cfg.FreeFailures, cfg.Lockout, cfg.TellLockout),
		attempts:  newRecorder(),
	}
	a.metrics = newMetrics(a)
	a.stationCA = ownCAs{a}
	if cfg.EST != nil {
		a.stationCA = newExternalCA(a)
	}
	fresh, err := prepareCAs(ctx, cfg, a.keys, recorded)
	if err != nil {
		return nil, err
	}
	if len(fresh) > 0 {
		added, generation, err := a.store.AddCAs(ctx, fresh, func(c store.CA) store.AuditEntry {
			return a.entry("authority", "ca.record", "", c.Fingerprint, c.Kind)
		})
		if err != nil {
			return nil, fmt.Errorf("authority: record CAs: %w", err)
		}
		if len(recorded) > 0 {
			for _, c := range added {
				a.log.Warn("a CA that the database did not know issues and is trusted from now on", "kind", c.Kind, "fingerprint", c.Fingerprint, "dir", cfg.Dir)
			}
			a.publish(Change{Kind: ChangeTrust, Generation: generation})
		}
	}
	if _, err := a.hierarchy(ctx); err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	return a, nil
}

// Ready reports why the authority cannot answer, nil if it can.
func (a *Authority) Ready(ctx context.Context) error {
	if err := a.store.Ping(ctx); err != nil {
		return err
	}
	h, err := a.hierarchy(ctx)
	if err != nil {
		return err
	}
	if name, at := h.expires(); a.cfg.Now().After(at) {
		return fmt.Errorf("CA %s expired on %s", name, at.Format(time.DateOnly))
	}
	return nil
}

const (
	flushInterval  = time.Second
	countInterval  = time.Minute
	pruneInterval  = time.Hour
	serverKept     = 7 * 24 * time.Hour  // servers' certificates, after they expired
	unregistered   = 30 * 24 * time.Hour // attempts of stations that are not registered
	lastFlushLimit = 10 * time.Second
)

// Run does the periodic work until ctx ends: it writes attempts, counts
// certificates, rotates ticket keys and deletes what is old. It returns nil
// after a last flush.
func (a *Authority) Run(ctx context.Context) error {
	flush := time.NewTicker(flushInterval)
	defer flush.Stop()
	count := time.NewTicker(countInterval)
	defer count.Stop()
	prune := time.NewTicker(pruneInterval)
	defer prune.Stop()
	failed := false
	report := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			a.log.Error("authority: "+what, "err", err)
		}
	}
	report("count certificates", a.metrics.count(ctx))
	period := a.ticketPeriod()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlushLimit)
			defer cancel()
			if err := a.attempts.flush(last, a.store, true); err != nil {
				a.log.Error("authority: write attempts", "err", err)
			}
			return nil
		case <-flush.C:
			err := a.attempts.flush(ctx, a.store, false)
			if (err != nil) != failed { // once per outage
				failed = err != nil
				report("write attempts", err)
			}
			if now := a.ticketPeriod(); now != period {
				period = now
				a.publish(Change{Kind: ChangeTickets})
			}
		case <-count.C:
			report("count certificates", a.metrics.count(ctx))
		case <-prune.C:
			now := a.cfg.Now()
			report("delete old records", a.store.Prune(ctx, store.Retention{
				Audit: now.Add(-a.cfg.AuditRetention), Certificates: now.Add(-a.cfg.AuditRetention),
				Servers: now.Add(-serverKept), Unregistered: now.Add(-unregistered), Claims: now,
			}))
		}
	}
}
