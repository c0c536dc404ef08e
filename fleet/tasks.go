package fleet

import (
	"slices"
	"time"
)

// taskKind says what a station is to do at a time.
type taskKind uint8

const (
	taskConnect taskKind = iota
	taskBoot
	taskHeartbeat
	taskPing
	taskUnpinged // by the server
	taskLate     // answers
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
	case taskUnpinged:
		s.unpinged()
	case taskLate:
		s.sendLate()
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
