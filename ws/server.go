package ws

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"runtime"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"
)

// Server holds the connections of any number of listeners.
type Server struct {
	cfg      Config
	metrics  *metrics
	gate     gate
	limiter  *limiter
	queue    queue
	wheel    wheel
	registry *registry
	cohorts  cohorts
	census   census

	ports struct { // where listeners are or were, for Check
		sync.Mutex
		known map[uint16]bool
	}

	stopping context.Context // ends when Run's does
	stop     context.CancelFunc

	accepted atomic.Int64 // connections that hold a file, from accept to the end
	changes  atomic.Int64 // times that accepted or open changed
	arriving atomic.Int64 // of these, before the gate
	open     atomic.Int64 // of these, WebSocket connections
	unsent   atomic.Int64 // bytes that wait for peers to read
	partial  atomic.Int64 // bytes of unfinished and held-back messages
}

// New checks cfg and returns a server that does nothing yet.
func New(cfg Config) (*Server, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	r, err := newRegistry()
	if err != nil {
		return nil, err
	}
	s := &Server{
		cfg:      cfg,
		limiter:  newLimiter(cfg.PerSourceRate, cfg.PerSourceBurst),
		registry: r,
	}
	s.gate = gate{max: cfg.MaxOpening, maxWait: cfg.MaxWaiting, slots: cfg.MaxHandshakes, open: s.opening}
	s.queue.ready.L = &s.queue.mu
	s.wheel.start = time.Now()
	s.stopping, s.stop = context.WithCancel(context.Background())
	s.metrics = newMetrics(s)
	return s, nil
}

// shutdownTime bounds the closing handshakes at the end of Run.
const shutdownTime = 2 * time.Second

// Run serves what Serve accepts until ctx ends. Then it resets connections
// that are not open yet, closes the others (1001, ReasonShutdown) all at once,
// and returns when the last one was closed and every goroutine has ended. A
// caller that wants to spread the closes does so before it ends ctx. Run works
// once.
func (s *Server) Run(ctx context.Context) error {
	defer s.stop()
	if !releasesBuffers() {
		s.cfg.Logger.Warn("idle TLS connections keep their read buffers: not on Linux, or crypto/tls of this toolchain has other fields", "toolchain", runtime.Version())
	}
	timers, stopTimers := context.WithCancel(context.Background())
	defer stopTimers()

	var workers, loops sync.WaitGroup
	for range s.cfg.Workers {
		workers.Go(func() {
			pprof.SetGoroutineLabels(workerLabels)
			s.work()
		})
	}
	failed := make(chan error, 1)
	loops.Go(func() {
		if err := s.registry.run(); err != nil {
			failed <- err
		}
	})
	loops.Go(func() { s.wheel.run(timers, (*Conn).deadlines) })

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.stop()
	s.gate.close(func(a *arrival) { s.shed(a.conn, shedShutdown) })
	s.closeAll()
	stopTimers()
	s.registry.stop()
	loops.Wait()
	err = errors.Join(err, s.registry.close())
	s.queue.close()
	workers.Wait()
	return err
}

// deadlines is called by the wheel.
func (c *Conn) deadlines(passed uint32) { c.post(passed << evDueShift) }

// closeAll ends all connections, first politely.
func (s *Server) closeAll() {
	for _, c := range s.registry.all() {
		c.Close(CloseGoingAway, "going away", ReasonShutdown)
	}
	deadline := time.Now().Add(min(shutdownTime, s.cfg.CloseTime))
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for aborted := false; s.open.Load() > 0; <-poll.C {
		if !aborted && time.Now().After(deadline) {
			aborted = true
			for _, c := range s.registry.all() {
				c.Abort(ReasonShutdown)
			}
		}
	}
}

// closed notes the end of an open connection; t is nil if it was plain.
func (s *Server) closed(c *Conn, t tlsStream) {
	s.retire(c, t)
	s.open.Add(-1)
	s.released()
}

// released notes that an accepted connection gave its file back.
func (s *Server) released() {
	s.accepted.Add(-1)
	s.changes.Add(1)
}

// retire gives up what a connection consisted of.
func (s *Server) retire(c *Conn, t tlsStream) {
	retire(s, ObjectConn, c.cohort, c)
	if t != nil {
		retireTLS(s, c.cohort, t)
	}
}

// shed resets an accepted connection before TLS.
func (s *Server) shed(conn net.Conn, reason string) {
	s.metrics.sheds.WithLabelValues(reason).Inc()
	reset(conn)
	s.released()
}

// reset closes conn with a TCP reset.
func reset(conn net.Conn) {
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = conn.Close()
}

// Sockets says whose each socket of this process is: of[fd] is 0 if the
// descriptor is no open connection's, otherwise the place of the connection's
// cohort in Cohorts plus one. It costs about 1 ns for every descriptor, during
// which no connection is parked or closed. Only on Linux, otherwise nil.
func (s *Server) Sockets() (of []uint16) { return s.registry.descriptors() }

// Goroutines says how many goroutines there should be now, by role.
func (s *Server) Goroutines() map[string]int {
	roles := map[string]int{RoleOpening: s.gate.opening(), RoleWorker: s.cfg.Workers}
	if readsByGoroutine {
		roles[RoleReading] = int(s.open.Load())
	}
	return roles
}

// Check counts twice and compares: it reports a counter that disagrees with
// what it counts, which is a leak or a bug in the counting. Connections that
// come and go meanwhile are allowed for.
func (s *Server) Check() error {
	var err error
	for range 20 { // a difference must last
		if err = s.check(); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// checkSockets compares the sockets that the kernel knows with the accepted
// connections. While connections come and go there is nothing to compare.
func (s *Server) checkSockets() error {
	s.ports.Lock()
	ports := maps.Clone(s.ports.known)
	s.ports.Unlock()
	changes, want := s.changes.Load(), s.accepted.Load()-s.open.Load()
	got, err := s.registry.strangers(ports)
	if err != nil {
		return fmt.Errorf("ws: list open files: %w", err)
	}
	if got < 0 || s.changes.Load() != changes || got == want {
		return nil
	}
	return fmt.Errorf("ws: %d sockets on the ports of stations belong to no connection, %d connections are being opened", got, want)
}

func (s *Server) check() error {
	open := s.open.Load()
	all := s.registry.all()
	var unsent int64
	for _, c := range all {
		unsent += int64(c.sock.unsent())
	}
	if n := int64(len(all)); n != open {
		return fmt.Errorf("ws: %d connections registered, %d counted", n, open)
	}
	if got := s.unsent.Load(); got != unsent {
		return fmt.Errorf("ws: %d unsent bytes queued, %d counted", unsent, got)
	}
	if got := s.partial.Load(); got < 0 || open == 0 && got != 0 {
		return fmt.Errorf("ws: %d bytes of unfinished messages counted for %d connections", got, open)
	}
	if filed := s.wheel.count(); filed > len(all) {
		return fmt.Errorf("ws: %d connections have timers, %d are registered", filed, len(all))
	}
	if got, want := s.accepted.Load(), open+s.arriving.Load()+int64(s.gate.opening()+s.gate.waiting()); got > want {
		return fmt.Errorf("ws: %d accepted connections counted, %d known", got, want)
	}
	return s.checkSockets()
}
