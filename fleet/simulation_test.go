package fleet

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"time"

	"holdfast/ocpp"
)

// Simulation runs stations without sockets, goroutines or waiting: time jumps to
// what is next, and a server that accepts everything answers after a fixed time.
// So whatever is sent depends on the stations' decisions alone.
type Simulation struct {
	fleets   []*Fleet
	stations map[ocpp.StationID]*station
	order    []*station
	at       time.Duration
	events   []simEvent // the next one first
	made     int        // events so far: those of one time happen in the order in which they were made
	ids      map[*station]int
	ended    *net.TCPConn
	pending  bool // the next boot is answered Pending

	// Sent is what each station sent, in order: frames, and what became of its
	// connection.
	Sent map[ocpp.StationID][]string
}

type simEvent struct {
	at   time.Duration
	made int
	do   func()
}

const (
	simAnswer  = 5 * time.Millisecond  // until the server answers
	simConnect = 20 * time.Millisecond // to connect
	simSilence = time.Minute           // until the server gives a silent station up
)

var simStart = time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC)

// NewSimulation makes the fleets of a simulation.
func NewSimulation(configs []Config) (*Simulation, error) {
	m := &Simulation{stations: make(map[ocpp.StationID]*station), ids: make(map[*station]int), Sent: make(map[ocpp.StationID][]string)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		return nil, err
	}
	c.Close() // deadlines and resets go to a socket that has ended
	m.ended = c.(*net.TCPConn)
	for _, cfg := range configs {
		f, err := New(cfg)
		if err != nil {
			return nil, err
		}
		f.now = func() time.Time { return simStart.Add(m.at) }
		f.start, f.run, f.ctx = simStart, "run", context.Background()
		f.ledger.begin(simStart)
		m.fleets = append(m.fleets, f)
		for _, s := range f.stations {
			s.away = true
			m.stations[s.id.ID] = s
			m.order = append(m.order, s)
		}
	}
	return m, nil
}

// After lets something happen at a time.
func (m *Simulation) After(at time.Duration, do func()) {
	m.made++
	e := simEvent{at, m.made, do}
	i, _ := slices.BinarySearchFunc(m.events, e, func(a, b simEvent) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.made, b.made)) })
	m.events = slices.Insert(m.events, i, e)
}

// Run lets time pass until it is over. It panics where time stands still: a
// station that always has something to do at once would take a whole CPU.
func (m *Simulation) Run(until time.Duration) {
	const busyLoop = 100_000
	last, still := m.at, 0
	for {
		if still++; m.at > last {
			last, still = m.at, 0
		}
		if still > busyLoop {
			panic(fmt.Sprintf("time stands still at %s", m.at))
		}
		var busy *station
		at := until
		if len(m.events) > 0 {
			at = min(at, m.events[0].at)
		}
		for _, s := range m.order {
			if t := s.nextTask(); t < at {
				at, busy = t, s
			}
		}
		if at >= until {
			return
		}
		m.at = max(m.at, at)
		if busy != nil {
			m.task(busy)
			continue
		}
		e := m.events[0]
		m.events = m.events[1:]
		e.do()
	}
}

// task does the station's next one.
func (m *Simulation) task(s *station) {
	due := 0
	for i := range s.tasks {
		if s.tasks[i].at < s.tasks[due].at {
			due = i
		}
	}
	t := s.tasks[due]
	s.tasks = append(s.tasks[:due:due], s.tasks[due+1:]...)
	if t.kind == taskConnect {
		m.After(m.at+simConnect, func() { m.connect(s) })
		return
	}
	s.due = t.at
	s.run(t)
	s.due = 0
	s.pump()
}

func (m *Simulation) connect(s *station) {
	if s.conn != nil || s.away {
		return
	}
	m.note(s, "connected")
	c := &conn{tcp: m.ended, max: s.f.cfg.MaxMessage, profile: s.endpoint().profile, quirks: s.quirks &^ (1<<(SlowSender-firstHabit) | 1<<(SlowReader-firstHabit))}
	c.nc = &simSocket{m, s, c}
	s.failures, s.since = 0, m.at
	s.conn, s.line = c, c
	s.f.stats.connected[c.profile].Add(1)
	s.connected()
	s.due = 0
	s.pump()
}

// Join, Leave, Fault, Close and Call do to a station what a scenario does.
func (m *Simulation) Join(id ocpp.StationID)  { m.obey(id, join) }
func (m *Simulation) Leave(id ocpp.StationID) { m.obey(id, leave) }

func (m *Simulation) obey(id ocpp.StationID, o order) {
	s := m.stations[id]
	s.order = o
	s.takeOrder()
	s.pump()
}

func (m *Simulation) Fault(id ocpp.StationID, fault Fault) {
	s := m.stations[id]
	if fault.Connecting() || s.conn == nil {
		m.note(s, "not done: "+fault.String())
		return
	}
	c := s.conn
	s.fault = fault
	s.takeFault()
	s.pump()
	switch code := fault.Reaction().Code; {
	case fault == Silent:
		m.After(m.at+simSilence, func() { m.lose(s, c, closePolicy) })
	case code != 0 && fault != DeafUntilReconnect:
		m.After(m.at+simAnswer, func() { m.lose(s, c, code) })
	}
}

// Close ends the station's connection from the server's side.
func (m *Simulation) Close(id ocpp.StationID, code int) {
	s := m.stations[id]
	m.lose(s, s.conn, code)
}

const closePolicy = 1008

func (m *Simulation) lose(s *station, c *conn, code int) {
	if c != nil && s.conn == c {
		m.note(s, fmt.Sprintf("closed with %d", code))
		s.lost(&closeError{code: code})
	}
}

func (m *Simulation) Call(id ocpp.StationID, action string, payload any) {
	s := m.stations[id]
	if s.conn == nil || s.conn.mute.Load() {
		return
	}
	m.ids[s]++
	s.handle(ocpp.AppendCall(nil, ocpp.MessageID("op-"+strconv.Itoa(m.ids[s])), action, encode(payload), false))
	s.pump()
}

// requests are the requests for certificates, whose keys are random.
var requests = regexp.MustCompile(`"csr":"[^"]*"`)

func (m *Simulation) note(s *station, what string) {
	m.Sent[s.id.ID] = append(m.Sent[s.id.ID], fmt.Sprintf("%s %s", m.at, requests.ReplaceAllString(what, `"csr":""`)))
}

// simSocket notes what a station writes, and has the server answer.
type simSocket struct {
	m *Simulation
	s *station
	c *conn
}

func (x *simSocket) Write(b []byte) (int, error) {
	if b[0]&0x80 == 0 {
		x.m.note(x.s, "a message in fragments")
	}
	op, payload, ok := unmask(b)
	if !ok {
		x.m.note(x.s, fmt.Sprintf("%x", b))
		return len(b), nil
	}
	switch op {
	case 0x80 | opPing:
		x.m.note(x.s, "ping")
		x.m.After(x.m.at+simAnswer, func() { x.c.heard = x.c.heard || !x.c.mute.Load() })
	case 0x80 | opText:
		x.m.note(x.s, string(payload))
		if frame, bad := ocpp.Parse(payload); bad == nil && frame.Type == ocpp.TypeCall {
			answer := ocpp.AppendResult(nil, frame.ID, encode(x.m.answer(x.s, frame.Action)))
			x.m.After(x.m.at+simAnswer, func() {
				if x.s.conn == x.c && !x.c.mute.Load() {
					x.c.heard = true
					x.s.handle(answer)
					x.s.pump()
				}
			})
		}
	default:
		x.m.note(x.s, fmt.Sprintf("%#x %q", op, payload))
	}
	return len(b), nil
}

// unmask reads the first frame of what is written, and reports whether it is one
// with a mask and nothing more.
func unmask(b []byte) (op byte, payload []byte, ok bool) {
	if len(b) < 6 || b[1]&0x80 == 0 {
		return 0, nil, false
	}
	at, n := 2, int(b[1]&0x7f)
	switch n {
	case 126:
		at, n = 4, int(binary.BigEndian.Uint16(b[2:]))
	case 127:
		return 0, nil, false
	}
	mask := binary.BigEndian.Uint32(b[at:])
	payload = append([]byte(nil), b[at+4:]...)
	for first := b; len(payload) > n; { // further fragments
		whole := append([]byte(nil), payload[:n]...)
		applyMask(whole, mask)
		op, rest, ok := unmask(first[at+4+n:])
		return op&0x80 | first[0], append(whole, rest...), ok
	}
	applyMask(payload, mask)
	return b[0], payload, len(payload) == n
}

// answer is what the server says to a CALL.
func (m *Simulation) answer(s *station, action string) any {
	type object = map[string]any
	accepted := object{"status": "Accepted"}
	switch action {
	case "BootNotification":
		if m.pending {
			m.pending = false
			return object{"status": "Pending", "currentTime": simStart.Add(m.at).Format(time.RFC3339), "interval": 10}
		}
		return object{"status": "Accepted", "currentTime": simStart.Add(m.at).Format(time.RFC3339), "interval": 300}
	case "Heartbeat":
		return object{"currentTime": simStart.Add(m.at).Format(time.RFC3339)}
	case "Authorize":
		return object{"idTagInfo": accepted, "idTokenInfo": accepted}
	case "StartTransaction":
		m.ids[s]++
		return object{"transactionId": m.ids[s], "idTagInfo": accepted}
	case "SignCertificate", "DataTransfer":
		return accepted
	}
	return json.RawMessage("{}")
}

func (x *simSocket) Read([]byte) (int, error)         { return 0, io.EOF }
func (x *simSocket) Close() error                     { return nil }
func (x *simSocket) LocalAddr() net.Addr              { return nil }
func (x *simSocket) RemoteAddr() net.Addr             { return nil }
func (x *simSocket) SetDeadline(time.Time) error      { return nil }
func (x *simSocket) SetReadDeadline(time.Time) error  { return nil }
func (x *simSocket) SetWriteDeadline(time.Time) error { return nil }
