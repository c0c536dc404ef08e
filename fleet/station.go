package fleet

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"errors"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"time"

	"holdfast/ocpp"
)

// registration is what the server said to the last BootNotification.
type registration uint8

const (
	unregistered registration = iota
	pending
	rejected
	accepted
)

// station is one charging station. All of it belongs to the goroutine that runs
// turn, except mu's fields.
type station struct {
	// Set by newStation, then read-only.
	f      *Fleet
	id     Identity // but for the certificate, which renewal changes
	speaks *dialect

	// Owned by turn.
	conn          *conn // nil while offline
	tasks         []task
	sentIDs       uint32 // message ids given out
	txIDs         uint32 // 2.x transaction ids given out
	failures      int    // attempts to connect that failed in a row
	random        rand.PCG
	state         registration
	bootReason    string         // 2.x reason of the next BootNotification; empty: none is due
	interval      time.Duration  // between heartbeats
	offline       time.Duration  // when the last connection ended
	queue         []*message     // waiting, lost with the connection
	backlog       []*message     // transaction messages, in order, kept while offline
	resendAt      time.Duration  // when backlog[0] may be sent again
	keptFirst     bool           // it is the backlog's turn
	open          *message       // our CALL that is not answered yet
	answering     ocpp.MessageID // of the CALL whose answer is being handled
	after         []func()       // what follows the answer to the CALL being handled
	connectors    []connector
	profile       ocpp.SecurityProfile // the current one
	quirks        quirks
	password      string // the current one
	settled       bool   // sessions were ended for Settle
	resetWhenIdle bool
	away          bool              // until Join
	due           time.Duration     // of the task being done
	since         time.Duration     // when the connection was made
	extra         *extra            // what few stations have
	settings      map[string]string // configuration keys and variables that were changed

	mu    sync.Mutex
	line  *conn         // == conn, for wake and Provoke
	idle  bool          // the goroutine waits for the next message
	fault Fault         // asked for by Provoke
	order order         // asked for by Join or Leave
	poke  chan struct{} // not nil while the station waits offline; closed to end the wait
}

// extra is the state of functions that few stations use at a time.
type extra struct {
	list         localList
	cache        []tokenInfo         // the authorization cache, oldest first
	reservations map[int]reservation // by id
	profiles     []chargingProfile
	renewal      renewal
	trust        []installed // nil: the fleet's roots
	network      *network    // nil: the fleet's target
	sessions     tls.ClientSessionCache
	securityLog  []securityEntry
	refusal      securityEvent // why connections fail, once per series
	jobs         [jobKinds]job
	habits       habits
	firmware     int  // updates so far
	installing   bool // no transactions until the restart
}

func newStation(f *Fleet, id Identity) *station {
	id.Serial = cmp.Or(id.Serial, string(id.ID[:min(25, len(id.ID))]))
	id.User = cmp.Or(id.User, string(id.ID))
	s := &station{f: f, id: id, profile: id.Profile, password: id.Password, speaks: dialectOf(id.Version), bootReason: "PowerUp"}
	s.quirks, s.id.Quirks = quirksOf(id.Quirks), nil
	if s.quirks&tlsQuirks != 0 {
		s.id.TLS = s.quirks.clientTLS(id.TLS)
	}
	h := fnv.New64a()
	io.WriteString(h, id.ID.Fold())
	own := h.Sum64()
	s.random = *rand.NewPCG(f.cfg.Seed, own)
	s.connectors = make([]connector, cmp.Or(id.Connectors, 1))
	for i := range s.connectors {
		s.connectors[i] = newConnector(f.cfg.Seed, own+uint64(i)+1)
	}
	return s
}

func (s *station) more() *extra {
	if s.extra == nil {
		s.extra = new(extra)
	}
	return s.extra
}

// turn waits for what comes next – something to read, a task, a fault, the end –
// deals with it, and hands over to a fresh goroutine: the wait then needs the
// smallest stack, whatever the work before it needed.
func (s *station) turn() {
	if s.f.stopping() {
		if s.conn != nil {
			s.disconnect(func(c *conn) { c.close(closeGoingAway, "station goes away") })
		}
		s.endLeftOpen()
		s.f.wg.Done()
		return
	}
	if s.conn == nil {
		s.waitOffline()
	} else if s.readable() {
		s.read(s.conn, nil)
	}
	s.takeFault()
	s.takeOrder()
	if s.f.settling.Load() && !s.settled {
		s.settle()
	}
	s.runTasks()
	s.pump()
	go s.turn()
}

// readable waits until the connection has something to read, an error included,
// and reports false if the station has other things to do first.
func (s *station) readable() bool {
	if !s.waitUntil(s.f.start.Add(s.nextTask()), true) {
		return false
	}
	if tc, ok := s.conn.nc.(*tls.Conn); ok {
		releaseBuffers(tc)
	}
	return !errors.Is(s.conn.readable(), os.ErrDeadlineExceeded)
}

// waitUntil bounds the reads that follow, and reports false if the station has to
// look up instead: at a fault or the end of Run always, at Settle if it would
// only wait.
func (s *station) waitUntil(t time.Time, idle bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = idle
	if s.fault != NoFault || s.order != noOrder || s.f.stopping() || idle && s.f.settling.Load() && !s.settled {
		return false
	}
	s.conn.tcp.SetReadDeadline(t)
	return true
}

// wake makes an idle station look at faults, at Settle and at the end of Run.
func (s *station) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle && s.line != nil {
		s.line.tcp.SetReadDeadline(past)
	}
	if s.poke != nil {
		close(s.poke)
		s.poke = nil
	}
}

// read handles messages of c until nothing is left, or c is lost. br is the reader of the upgrade,
// or nil if the socket became readable: then what is there may still be no more
// than a TLS session ticket, and the wait for a message goes on until the next
// task. After a message only what came with it is looked for, with a deadline
// that has passed: it would not make the socket readable again.
func (s *station) read(c *conn, br *bufio.Reader) {
	deadline, idle := past, false
	if br == nil {
		br = readers.Get().(*bufio.Reader)
		br.Reset(c)
		deadline, idle = s.f.start.Add(s.nextTask()), true
	}
	defer func() { br.Reset(nil); readers.Put(br) }()
	for ; s.conn == c; deadline, idle = past, false {
		if br.Buffered() == 0 {
			if !s.waitUntil(deadline, idle) {
				return
			}
			if _, err := br.Peek(1); errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
		}
		if !s.waitUntil(time.Now().Add(frameTimeout), false) {
			return // what is half read dies with the connection: faults and the end both close it
		}
		data, err := c.readMessage(br)
		if err != nil {
			s.lost(err)
			return
		}
		if data != nil && !c.mute.Load() {
			s.f.stats.received.Add(1)
			s.handle(data)
			s.pump()
		}
	}
}

// connect makes one attempt.
func (s *station) connect() {
	f := s.f
	select {
	case f.gate <- struct{}{}:
	case <-f.ctx.Done():
		return
	}
	began := f.elapsed()
	c, br, err := f.open(f.ctx, s.handshake())
	<-f.gate
	s.recordConnect(s.due, began, err)
	if err != nil {
		s.connectFailed(err)
		return
	}
	f.stats.connects.Add(1)
	f.stats.connectTime.add(f.elapsed() - began)
	f.stats.connected[c.profile].Add(1)
	s.failures = 0
	s.since = f.elapsed()
	s.mu.Lock()
	s.conn, s.line = c, c
	s.mu.Unlock()
	s.connected()
	s.due = 0 // what follows has causes of its own
	s.read(c, br)
}

func (s *station) connectFailed(err error) {
	if s.f.stopping() {
		return
	}
	kind := kindOf(err)
	s.f.stats.fail(kind)
	s.f.log.Debug("connection attempt", "station", s.id.ID, "err", err)
	s.connectionRefused(kind, err)
	s.certificateFailed(kind, err)
	s.networkFailed()
	s.failures++
	s.schedule(taskConnect, 0, s.f.elapsed()+s.backOff(s.failures-1))
}

// endpoint is where the next attempt goes, and what it presents there but for TLS.
func (s *station) endpoint() handshake {
	h := handshake{
		station:   s.id.ID,
		profile:   s.profile,
		protocols: s.id.Version.Subprotocol(),
		want:      s.id.Version.Subprotocol(),
		user:      s.id.User,
		password:  s.password,
		quirks:    s.quirks,
	}
	h.target = s.f.targets[s.profile]
	if x := s.current(); x != nil {
		if to, profile, why := s.resolve(x); why == "" {
			h.target, h.profile = to, profile
		}
		if x.identity != "" {
			h.station, h.user = ocpp.StationID(x.identity), x.identity
		}
		h.password = cmp.Or(x.password, h.password)
	}
	h.presents(s)
	return h
}

func (s *station) handshake() handshake {
	h := s.endpoint()
	if h.profile != ocpp.ProfilePlain {
		h.tls = s.tlsConfig(h.target.host)
	}
	if h.profile == ocpp.ProfileMTLS {
		h.user, h.password, h.certificate = "", "", s.id.Certificate
		if o := s.id.TLS; o != nil && o.LeafOnly && h.certificate != nil && len(h.certificate.Certificate) > 1 {
			leaf := *h.certificate
			leaf.Certificate = leaf.Certificate[:1]
			h.certificate = &leaf
		}
	}
	return h
}

// connected starts what a new connection begins with: BootNotification after a
// (re)start, else what changed meanwhile (OCPP 2.0.1 B04; no boot on a plain
// reconnect).
func (s *station) connected() {
	s.f.log.Debug("connected", "station", s.id.ID)
	s.certificateWorks()
	s.networkWorks()
	s.serverProved()
	if s.extra != nil {
		s.extra.refusal = ""
	}
	s.schedulePing()
	s.connectedQuirks()
	if s.quirks.has(NeverBoots) && s.bootReason != "" {
		s.accepted(0)
		return
	}
	if s.bootReason != "" {
		if s.quirks.has(DropsEarlyCalls) {
			s.state = unregistered
			s.schedule(taskBoot, 0, s.f.elapsed()+earlyBoot)
			return
		}
		s.boot()
		return
	}
	long := s.f.elapsed()-s.offline > s.f.behave.OfflineThreshold
	s.reportConnectors(long)
	s.scheduleHeartbeat()
	s.pump()
}

// lost ends the connection because of err.
func (s *station) lost(err error) {
	e, byFrame := errors.AsType[*closeError](err)
	switch {
	case byFrame && e.ours:
		s.f.stats.fail(errorProtocol)
		s.f.log.Warn("server broke the WebSocket protocol", "station", s.id.ID, "err", err)
	case byFrame:
		s.f.stats.fail(errorClosed)
		s.f.log.Debug("closed by the server", "station", s.id.ID, "err", err)
	default:
		s.f.stats.fail(errorLost)
		s.f.log.Debug("connection lost", "station", s.id.ID, "err", err)
	}
	s.disconnect((*conn).hangUp)
	if s.quirks.has(SlowReturn) && !byFrame {
		s.reconnect(slowReturnAfter)
		return
	}
	s.reconnect(s.backOff(0))
}

// disconnect ends the connection in the way that end does. The CALL in flight
// becomes unanswered: a transaction message stays at the head of the backlog and
// is sent again, with the same content, by the next connection.
func (s *station) disconnect(end func(*conn)) {
	c := s.conn
	s.mu.Lock()
	s.conn, s.line = nil, nil
	s.mu.Unlock()
	end(c)
	s.f.stats.connected[c.profile].Add(-1)
	s.offline = s.f.elapsed()
	for _, kind := range []taskKind{taskPing, taskUnpinged, taskHeartbeat, taskCallTimeout, taskBoot} {
		s.cancel(kind, 0)
	}
	s.resendAt = 0
	s.cancel(taskResend, 0)
	waiting := s.queue
	s.queue = nil
	if m := s.open; m != nil {
		s.open = nil
		s.f.stats.outstanding.Add(-1)
		s.recordCall(m, errOffline)
		m.tries--
		if m.kept {
			s.queue = append(s.queue, m)
		}
		m.unanswered(errOffline)
	}
	for _, m := range waiting {
		if m.kept {
			s.queue = append(s.queue, m)
		}
		m.unanswered(errOffline)
	}
	if s.state != accepted && s.bootReason == "" {
		s.bootReason = "PowerUp" // B02, B03: not registered yet
	}
}

// backOff is the wait before the attempt after n failures.
func (s *station) backOff(n int) time.Duration {
	if s.quirks.has(NoBackOff) {
		return time.Millisecond
	}
	return s.f.cfg.BackOff.wait(n, &s.random)
}

func (s *station) reconnect(wait time.Duration) {
	s.schedule(taskConnect, 0, s.f.elapsed()+wait)
}

// newID returns an id that no station of this identity used before.
func (s *station) newID() ocpp.MessageID {
	return ocpp.MessageID(s.f.run + "-" + strconv.FormatUint(uint64(s.newNumber()), 36))
}

// newNumber returns a number that this station did not use before in this run.
func (s *station) newNumber() uint32 {
	s.sentIDs++
	return s.sentIDs
}
