package fleet

import "time"

// Limits of what a station keeps.
const (
	maxLocalList    = 1000
	maxReservations = 32
	maxProfiles     = 64
)

// localList is the local authorization list: the statuses by tag.
type localList struct {
	version int
	tags    map[string]string
}

// update applies SendLocalList. An entry with an empty status removes its tag.
func (l *localList) update(version int, full bool, entries map[string]string) string {
	if !full && version <= l.version {
		return "VersionMismatch"
	}
	next := make(map[string]string, len(entries))
	if !full {
		for tag, status := range l.tags {
			next[tag] = status
		}
	}
	for tag, status := range entries {
		if status == "" {
			delete(next, tag)
		} else {
			next[tag] = status
		}
	}
	if len(next) > maxLocalList {
		return "Failed"
	}
	l.version, l.tags = version, next
	return "Accepted"
}

// reservation keeps a connector for a tag.
type reservation struct {
	connector int // index; -1: any
	tag       string
	expires   time.Time // the stations' time
}

// reserve applies ReserveNow.
func (s *station) reserve(id, connector int, tag, expiry string) string {
	expires, err := time.Parse(time.RFC3339, expiry)
	if err != nil || connector < -1 || connector >= len(s.connectors) {
		return "Rejected"
	}
	if connector >= 0 {
		switch {
		case s.connectors[connector].phase != free:
			return "Occupied"
		case s.inoperative(connector):
			return "Unavailable"
		case s.reserved(connector) && s.reservedForOther(connector, tag):
			return "Occupied"
		}
	}
	x := s.more()
	if x.reservations == nil {
		x.reservations = make(map[int]reservation)
	}
	if _, replaced := x.reservations[id]; !replaced && len(x.reservations) >= maxReservations {
		return "Rejected"
	}
	x.reservations[id] = reservation{connector, tag, expires}
	s.then(func() { s.reportConnectors(false) })
	return "Accepted"
}

// cancelReservation applies CancelReservation.
func (s *station) cancelReservation(id int) string {
	if s.extra == nil {
		return "Rejected"
	}
	if _, ok := s.extra.reservations[id]; !ok {
		return "Rejected"
	}
	delete(s.extra.reservations, id)
	s.then(func() { s.reportConnectors(false) })
	return "Accepted"
}

// reserved reports whether connector i is kept for somebody.
func (s *station) reserved(i int) bool {
	if s.extra == nil {
		return false
	}
	now := s.clock(s.f.elapsed())
	for id, r := range s.extra.reservations {
		if now.After(r.expires) {
			delete(s.extra.reservations, id)
		} else if r.connector == i {
			return true
		}
	}
	return false
}

// reservedForOther reports whether connector i is kept for somebody else.
func (s *station) reservedForOther(i int, tag string) bool {
	if !s.reserved(i) {
		return false
	}
	for _, r := range s.extra.reservations {
		if r.connector == i && r.tag == tag {
			return false
		}
	}
	return true
}

// useReservation ends the reservation that a transaction fulfils, and returns its id.
func (s *station) useReservation(i int, tag string) (id int, ok bool) {
	if s.extra == nil {
		return 0, false
	}
	for id, r := range s.extra.reservations {
		if (r.connector == i || r.connector < 0) && r.tag == tag {
			delete(s.extra.reservations, id)
			return id, true
		}
	}
	return 0, false
}
