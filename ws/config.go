package ws

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"
)

// Config holds the limits of a Server. The zero value of a field means the
// default that its comment states.
type Config struct {
	// MaxMessage is the largest message accepted, in bytes after reassembly
	// and decompression; a larger one closes the connection with code 1009.
	// Defaults to 1 MiB.
	MaxMessage int
	// MessageTime bounds the time from the first byte of a message to its
	// last. A slower sender is closed with reason slow_sender. Defaults to
	// 60 seconds.
	MessageTime time.Duration
	// MaxPartial bounds the bytes of unfinished and held-back messages of all
	// connections together. The connection that would exceed it is closed
	// with code 1013 and reason overload. Defaults to 256 MiB.
	MaxPartial int64

	// HandshakeTime bounds PROXY header, TLS handshake and HTTP head together.
	// Defaults to 20 seconds.
	HandshakeTime time.Duration
	// UpgradeTime bounds one call of Endpoint.Upgrade through its context.
	// Defaults to 20 seconds.
	UpgradeTime time.Duration
	// MaxHandshakes is how many openings compute at once. An opening that
	// waits for its peer or for Upgrade does not count, so this is a bound on
	// CPU and on how long an established connection waits behind handshakes,
	// not on round trips. Defaults to 2×GOMAXPROCS.
	MaxHandshakes int
	// MaxOpening is how many openings have a goroutine, waiting ones included:
	// about 30 KB each in the middle of a handshake, and with peers half a
	// second away twice as many handshakes per second. Defaults to 512.
	MaxOpening int
	// MaxWaiting is how many accepted connections wait for an opening. When
	// they are that many, the accept loops pause and the kernel's backlog
	// holds the rest. Defaults to 16384.
	MaxWaiting int
	// WaitTime is how long an accepted connection may wait before it is reset
	// unopened: its station gave up, a handshake would be for nobody. Defaults
	// to 20 seconds.
	WaitTime time.Duration
	// MaxConnections bounds accepted connections, waiting and opening ones
	// included; one more is reset before TLS. Defaults to the process's limit
	// of open files less 512 (65536 where there is none).
	MaxConnections int
	// PerSourceRate is how many connections per second one source address (an
	// IPv6 /64) may open; more are reset before TLS. 0 means no limit. Loopback
	// is not exempt.
	PerSourceRate float64
	// PerSourceBurst is how many connections a source may open at once before
	// PerSourceRate applies. Defaults to 10.
	PerSourceBurst int

	// WriteTime bounds how long a byte waits for the peer to read. A slower
	// reader is cut with reason slow_reader. Defaults to 30 seconds.
	WriteTime time.Duration
	// MaxUnsent bounds the bytes that wait for the peer to read, one message
	// beyond it excepted. A reader further behind is cut with reason
	// slow_reader. Defaults to 256 KiB.
	MaxUnsent int

	// PingInterval is the time between pings of a connection whose Ping does
	// not set its own; each is moved by up to a tenth at random, and the first
	// comes after half to a whole interval. Defaults to 50 seconds.
	PingInterval time.Duration
	// PongTime is how long a ping may go unanswered; pinging goes on meanwhile.
	// Defaults to 75 seconds, which is two pings at the default interval.
	PongTime time.Duration
	// CloseTime bounds the closing handshake. Defaults to 5 seconds.
	CloseTime time.Duration

	// Workers is how many connections are served at once, on Linux. A Session
	// that blocks holds a worker. Defaults to 8×GOMAXPROCS, at least 16.
	Workers int

	// Logger receives decisions of the server itself, never per-connection
	// chatter. Defaults to discarding.
	Logger *slog.Logger
}

// maxHead is the largest HTTP request head, in bytes; maxFields the most
// header fields.
const (
	maxHead   = 8 << 10
	maxFields = 64
)

func (c *Config) setDefaults() error {
	durations := []struct {
		name string
		v    *time.Duration
		def  time.Duration
	}{
		{"MessageTime", &c.MessageTime, 60 * time.Second},
		{"HandshakeTime", &c.HandshakeTime, 20 * time.Second},
		{"UpgradeTime", &c.UpgradeTime, 20 * time.Second},
		{"WaitTime", &c.WaitTime, 20 * time.Second},
		{"WriteTime", &c.WriteTime, 30 * time.Second},
		{"PingInterval", &c.PingInterval, 50 * time.Second},
		{"PongTime", &c.PongTime, 75 * time.Second},
		{"CloseTime", &c.CloseTime, 5 * time.Second},
	}
	for _, d := range durations {
		if *d.v < 0 {
			return fmt.Errorf("ws: %s is negative: %v", d.name, *d.v)
		}
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	cpus := runtime.GOMAXPROCS(0)
	counts := []struct {
		name string
		v    *int
		def  int
	}{
		{"MaxMessage", &c.MaxMessage, 1 << 20},
		{"MaxHandshakes", &c.MaxHandshakes, 2 * cpus},
		{"MaxOpening", &c.MaxOpening, 512},
		{"MaxWaiting", &c.MaxWaiting, 16384},
		{"MaxConnections", &c.MaxConnections, defaultMaxConnections()},
		{"PerSourceBurst", &c.PerSourceBurst, 10},
		{"MaxUnsent", &c.MaxUnsent, 256 << 10},
		{"Workers", &c.Workers, max(16, 8*cpus)},
	}
	for _, n := range counts {
		if *n.v < 0 {
			return fmt.Errorf("ws: %s is negative: %d", n.name, *n.v)
		}
		if *n.v == 0 {
			*n.v = n.def
		}
	}
	if c.MaxMessage > 1<<30 {
		return fmt.Errorf("ws: MaxMessage is %d, at most 1 GiB is possible", c.MaxMessage)
	}
	if c.MaxPartial < 0 || c.PerSourceRate < 0 {
		return errors.New("ws: MaxPartial and PerSourceRate must not be negative")
	}
	if c.MaxPartial == 0 {
		c.MaxPartial = max(256<<20, 2*int64(c.MaxMessage))
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}
