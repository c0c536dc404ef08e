package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Config says which NATS to use.
type Config struct {
	// URL of an external NATS, nats://user:password@host:4222; several with
	// commas. Empty: a server is embedded in this process.
	URL string
	// Credentials is the path of a NATS credentials file for an external server. Optional.
	Credentials string
	// Dir is where the embedded server keeps its streams. Required without URL.
	Dir string
	// Listen is an address on which the embedded server accepts other processes,
	// such as 127.0.0.1:4222. Empty: it listens nowhere.
	Listen string
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
	options := []nats.Option{
		nats.Name(cfg.Name),
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
		if err := b.embed(cfg); err != nil {
			return nil, err
		}
		options = append(options, nats.InProcessServer(b.embedded))
	}
	if cfg.Credentials != "" {
		options = append(options, nats.UserCredentials(cfg.Credentials))
	}
	nc, err := nats.Connect(target, options...)
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("connect to NATS at %s: %w (is it running, is --nats right?)", redact(target), err)
	}
	b.nc = nc
	if b.js, err = jetstream.New(nc); err != nil {
		b.Close()
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	return b, nil
}

func (b *Bus) embed(cfg Config) error {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("directory of the embedded NATS: %w", err)
	}
	o := &server.Options{
		ServerName: "holdfast", DontListen: true, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: cfg.Dir,
		MaxPayload: 4 << 20, MaxPending: 256 << 20,
	}
	if cfg.Listen != "" {
		host, port, err := splitHostPort(cfg.Listen)
		if err != nil {
			return fmt.Errorf("--listen-nats %q: %w", cfg.Listen, err)
		}
		o.DontListen, o.Host, o.Port = false, host, port
	}
	ns, err := server.NewServer(o)
	if err != nil {
		return fmt.Errorf("embedded NATS: %w", err)
	}
	b.embedded = ns
	ns.Start()
	if !ns.ReadyForConnections(20 * time.Second) {
		ns.Shutdown()
		return fmt.Errorf("embedded NATS in %s does not start: is another process using that directory%s?", cfg.Dir, orPort(cfg.Listen))
	}
	return nil
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
