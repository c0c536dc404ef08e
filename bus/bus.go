package bus

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// Config says which NATS to use.
type Config struct {
	// URL of an external NATS, nats://user:password@host:4222; several with
	// commas. Empty: a server is embedded in this process.
	URL string
	// Role says what this process is: its answers arrive where only its role may
	// listen. Empty means RoleAll.
	Role Role
	// Credentials is the path of a credentials file for an external server: one
	// of MakeCredentials, or a NATS .creds file with a JWT. Optional.
	Credentials string
	// CA is the path of PEM certificates that an external server's certificate
	// must be of. Empty: those of the system.
	CA string
	// Open accepts an external server that lets anybody in although it is not on
	// this machine.
	Open bool
	// Dir is where the embedded server keeps its streams. Required without URL.
	Dir string
	// Listen is an address on which the embedded server accepts other processes,
	// such as 127.0.0.1:4222, over TLS and with credentials. Empty: it listens
	// nowhere.
	Listen string
	// CredentialsDir is where the credentials for that are kept, and made if they
	// are missing. Required with Listen.
	CredentialsDir string
	// Name of this process in NATS's own monitoring.
	Name string
	// Logger for connection changes. Required.
	Logger *slog.Logger
}

// Bus is one process's connection to NATS.
type Bus struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	embedded *server.Server // nil with an external NATS
	log      *slog.Logger
	down     chan *nats.Msg // CALLs to the stations that are attached here
	carried  carried
}

// maxDown is how many CALLs to stations wait for ServeDown; NATS drops more, and counts them.
const maxDown = 8192

// Open connects, within ten seconds or until ctx ends.
func Open(ctx context.Context, cfg Config) (*Bus, error) {
	b := &Bus{log: cfg.Logger, down: make(chan *nats.Msg, maxDown)}
	if cfg.Role == "" {
		cfg.Role = RoleAll
	}
	options := []nats.Option{
		nats.Name(cfg.Name),
		nats.CustomInboxPrefix(cfg.Role.inbox()),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		// A CALL that waits in a buffer would reach the csms after its station gave up.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.log.Warn("nats connection lost, reconnecting", "err", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { b.log.Info("nats connection is back", "server", nc.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = strings.SplitN(sub.Subject, ".", 2)[0] // not the station's token
			}
			b.log.Warn("nats", "subject", subject, "err", err)
		}),
	}
	target := cfg.URL
	if target == "" {
		own, err := b.embed(cfg)
		if err != nil {
			return nil, err
		}
		options = append(options, nats.InProcessServer(b.embedded))
		options = append(options, own...)
	}
	if cfg.Credentials != "" {
		more, err := clientOptions(cfg.Credentials)
		if err != nil {
			b.Close()
			return nil, err
		}
		options = append(options, more...)
	}
	if cfg.CA != "" {
		options = append(options, nats.RootCAs(cfg.CA))
	}
	nc, err := nats.Connect(target, options...)
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("connect to NATS at %s: %w (%s)", redact(target), err, mend(err))
	}
	b.nc = nc
	if cfg.URL != "" && !cfg.Open {
		if err := b.checkClosed(redact(target)); err != nil {
			b.Close()
			return nil, err
		}
	}
	if b.js, err = jetstream.New(nc); err != nil {
		b.Close()
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	return b, nil
}

// mend says what can be done about a server that does not let us in.
func mend(err error) string {
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired):
		return "it knows no such credentials: give this role's file with --nats-credentials, and have the server include the authorization.conf made with it"
	case strings.Contains(err.Error(), "x509"), errors.Is(err, nats.ErrSecureConnRequired):
		return "its certificate is not trusted: --nats-ca names the CA"
	}
	return "is it running, is --nats right?"
}

// checkClosed refuses a server on another machine that lets anybody in: who
// reaches it could decide who may connect, and issue certificates.
func (b *Bus) checkClosed(target string) error {
	if b.nc.AuthRequired() {
		if host, _, err := net.SplitHostPort(b.nc.ConnectedAddr()); err == nil && !loopback(host) && !b.nc.TLSRequired() {
			b.log.Warn("NATS is spoken to without TLS: passwords of stations cross the network in clear text", "server", target)
		}
		return nil
	}
	if host, _, err := net.SplitHostPort(b.nc.ConnectedAddr()); err == nil && loopback(host) {
		return nil
	}
	return fmt.Errorf("NATS at %s lets anybody in: give it credentials (holdfast nats credentials makes them), or accept that with --nats-open", target)
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// embed starts a server in this process and returns how this process connects to it.
func (b *Bus) embed(cfg Config) ([]nats.Option, error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of the embedded NATS: %w", err)
	}
	o := &server.Options{
		ServerName: "holdfast", DontListen: true, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: cfg.Dir,
		MaxPayload: 4 << 20, MaxPending: 256 << 20,
	}
	var own []nats.Option
	if cfg.Listen != "" {
		var err error
		if own, err = listenTo(o, cfg); err != nil {
			return nil, err
		}
	}
	ns, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	b.embedded = ns
	ns.Start()
	if !ns.ReadyForConnections(20 * time.Second) {
		ns.Shutdown()
		return nil, fmt.Errorf("embedded NATS in %s does not start: is another process using that directory%s?", cfg.Dir, orPort(cfg.Listen))
	}
	return own, nil
}

// listenTo has an embedded server accept other processes: over TLS, and only
// those who have credentials of the directory. The roles get theirs at the first
// start.
func listenTo(o *server.Options, cfg Config) ([]nats.Option, error) {
	host, port, err := splitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("--listen-nats %q: %w", cfg.Listen, err)
	}
	o.DontListen, o.Host, o.Port = false, host, port
	pair, err := ensureServer(cfg.CredentialsDir)
	if err != nil {
		return nil, err
	}
	o.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}}
	for _, role := range []Role{RoleGateway, RoleAuthority, RoleCSMS} {
		if err := MakeCredentials(cfg.CredentialsDir, string(role), role); err != nil {
			return nil, err
		}
	}
	users, err := Users(cfg.CredentialsDir)
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		o.Nkeys = append(o.Nkeys, &server.NkeyUser{Nkey: u.Key, Permissions: u.Role.permissions().natsPermissions()})
	}
	// This process itself, for as long as it lives.
	key, err := nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	public, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	o.Nkeys = append(o.Nkeys, &server.NkeyUser{Nkey: public})
	return []nats.Option{nats.Nkey(public, key.Sign)}, nil
}

func orPort(listen string) string {
	if listen == "" {
		return ""
	}
	return " or the address " + listen
}

// Ready reports why the bus cannot carry messages now; nil if it can.
func (b *Bus) Ready() error {
	if !b.nc.IsConnected() {
		return fmt.Errorf("NATS is %s", strings.ToLower(b.nc.Status().String()))
	}
	return nil
}

// Reconnects counts how often the connection was lost and came back: what was
// published meanwhile never arrived here.
func (b *Bus) Reconnects() uint64 { return b.nc.Stats().Reconnects }

// Close sends what is buffered and ends connection and embedded server.
func (b *Bus) Close() {
	if b.nc != nil {
		b.nc.FlushTimeout(2 * time.Second)
		b.nc.Close()
	}
	if b.embedded != nil {
		b.embedded.Shutdown()
		b.embedded.WaitForShutdown()
	}
}

// Publish sends data to everybody who listens now.
func (b *Bus) Publish(subject string, data []byte) error {
	return b.nc.Publish(subject, data)
}

// flushTime bounds Flush.
const flushTime = 5 * time.Second

// Flush waits until the server has what was published and subscribed so far.
func (b *Bus) Flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTime) // NATS wants a deadline
	defer cancel()
	return b.nc.FlushWithContext(ctx)
}

// unavailable reports whether err says that nobody could be reached.
func unavailable(err error) bool {
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrConnectionClosed) ||
		errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrConnectionReconnecting) ||
		errors.Is(err, nats.ErrDisconnected)
}

func redact(urls string) string {
	list := strings.Split(urls, ",")
	for i, s := range list {
		if u, err := url.Parse(strings.TrimSpace(s)); err == nil {
			list[i] = u.Redacted()
		}
	}
	return strings.Join(list, ",")
}
