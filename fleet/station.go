package fleet

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"os"
	"slices"
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
	firmware     int  // updates so far
	installing   bool // no transactions until the restart
}

func newStation(f *Fleet, id Identity) *station {
	id.Serial = cmp.Or(id.Serial, string(id.ID[:min(25, len(id.ID))]))
	id.User = cmp.Or(id.User, string(id.ID))
	s := &station{f: f, id: id, profile: id.Profile, password: id.Password, speaks: dialectOf(id.Version), bootReason: "PowerUp"}
	s.quirks, s.id.Quirks = quirksOf(id.Quirks), nil
	if s.quirks.has(NoServerName) || s.quirks.has(StaticRSA) || s.quirks.has(LeafOnly) {
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
	if s.quirks.has(AlwaysBoots) && s.bootReason == "" {
		s.bootReason = "Unknown"
	}
	if s.quirks.has(NeverBoots) && s.bootReason != "" {
		s.accepted(0)
		return
	}
	if s.bootReason != "" {
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
	for _, kind := range []taskKind{taskPing, taskHeartbeat, taskCallTimeout, taskBoot} {
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

// taskKind says what a station is to do at a time.
type taskKind uint8

const (
	taskConnect taskKind = iota
	taskBoot
	taskHeartbeat
	taskPing
	taskCallTimeout
	taskResend
	taskReboot    // n says why
	taskJob       // n is its kind
	taskRenew     // ask for a new certificate
	taskSign      // ask again for one that did not come
	taskSwitch    // use a certificate that was not valid before
	taskConnector // n is the connector's index
	taskMeter     // n is the connector's index
)

// task is due at a time since Run began. There is one of a kind and n.
type task struct {
	at   time.Duration
	kind taskKind
	n    int32
}

// never is when a station without tasks has to do something.
const never = 100 * 365 * 24 * time.Hour

func (s *station) schedule(kind taskKind, n int, at time.Duration) {
	if kind == taskConnect && s.away {
		return
	}
	for i := range s.tasks {
		if t := &s.tasks[i]; t.kind == kind && int(t.n) == n {
			t.at = at
			return
		}
	}
	s.tasks = append(s.tasks, task{at, kind, int32(n)})
}

func (s *station) cancel(kind taskKind, n int) {
	s.tasks = slices.DeleteFunc(s.tasks, func(t task) bool { return t.kind == kind && int(t.n) == n })
}

func (s *station) nextTask() time.Duration {
	next := never
	for _, t := range s.tasks {
		next = min(next, t.at)
	}
	return next
}

// runTasks does what is due, the oldest first.
func (s *station) runTasks() {
	for now := s.f.elapsed(); !s.f.stopping(); {
		due := -1
		for i, t := range s.tasks {
			if t.at <= now && (due < 0 || t.at < s.tasks[due].at) {
				due = i
			}
		}
		if due < 0 {
			return
		}
		t := s.tasks[due]
		s.tasks = slices.Delete(s.tasks, due, due+1)
		s.due = t.at
		s.run(t)
		s.due = 0
	}
}

func (s *station) run(t task) {
	switch t.kind {
	case taskConnect:
		if s.conn == nil {
			s.connect()
		}
	case taskBoot:
		s.boot()
	case taskHeartbeat:
		s.heartbeat()
		s.scheduleHeartbeat()
	case taskPing:
		s.ping()
	case taskCallTimeout:
		s.callTimedOut()
	case taskResend: // pump follows
	case taskReboot:
		s.reboot(int(t.n))
	case taskJob:
		s.jobStep(int(t.n))
	case taskRenew:
		s.renew()
	case taskSign:
		s.signingOverdue()
	case taskSwitch:
		s.switchCertificate()
	case taskConnector:
		s.connectorStep(int(t.n), t.at)
	case taskMeter:
		s.meterStep(int(t.n), t.at)
	}
}

// ping sends a WebSocket ping. Nothing at all since the last one means that
// nobody is there any more.
func (s *station) ping() {
	c := s.conn
	if c == nil {
		return
	}
	mute := c.mute.Load()
	switch {
	case c.pinged && !c.heard && mute:
		s.abandon()
		return
	case c.pinged && !c.heard:
		s.lost(fmt.Errorf("no pong for %s", s.pingInterval()))
		return
	}
	c.pinged, c.heard = true, false
	if !mute {
		if err := c.write(opPing, nil); err != nil {
			s.lost(err)
			return
		}
	}
	s.schedulePing()
}

// abandoned is how long a connection stays open that its station has given up.
const abandoned = 2 * time.Minute

// abandon gives up a silent connection and comes back with another one. The
// server cannot learn of it: where a network has forgotten a connection, no FIN
// gets through. To the server it stays open until it does something about it.
func (s *station) abandon() {
	s.disconnect(func(c *conn) {
		s.f.wg.Go(func() {
			c.tcp.SetReadDeadline(time.Now().Add(abandoned))
			defer context.AfterFunc(s.f.ctx, func() { c.tcp.SetReadDeadline(past) })()
			br := readers.Get().(*bufio.Reader)
			br.Reset(c)
			defer func() { br.Reset(nil); readers.Put(br) }()
			drain(c, br)
		})
	})
	s.reconnect(s.backOff(0))
}

func (s *station) schedulePing() {
	if interval := s.pingInterval(); interval > 0 && s.conn != nil {
		s.schedule(taskPing, 0, s.f.elapsed()+interval)
	}
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
