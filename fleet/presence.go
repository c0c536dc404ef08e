package fleet

import (
	"context"
	"fmt"
	"time"

	"holdfast/ocpp"
)

// order is what somebody outside told a station to do.
type order uint8

const (
	noOrder order = iota
	join
	leave
)

// Join makes a station that is away connect, now; one that is here stays.
func (f *Fleet) Join(id ocpp.StationID) error { return f.order(id, join) }

// Leave makes a station close its connection (1000) and stay away until Join. As
// in any outage, what goes on at its connectors goes on, and its transaction
// messages wait.
func (f *Fleet) Leave(id ocpp.StationID) error { return f.order(id, leave) }

func (f *Fleet) order(id ocpp.StationID, o order) error {
	s, ok := f.byID[id.Fold()]
	if !ok {
		return fmt.Errorf("fleet: no station %s", id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order = o
	if s.poke != nil {
		close(s.poke)
		s.poke = nil
	}
	if s.idle && s.line != nil {
		s.line.tcp.SetReadDeadline(past)
	}
	return nil
}

// takeOrder does what Join or Leave asked for.
func (s *station) takeOrder() {
	s.mu.Lock()
	o := s.order
	s.order = noOrder
	s.mu.Unlock()
	switch {
	case o == leave && !s.away:
		s.away = true
		s.cancel(taskConnect, 0)
		if s.conn != nil {
			s.disconnect(func(c *conn) { c.close(closeNormal, "") })
		}
	case o == join && s.away:
		s.away = false
		if s.conn == nil {
			s.schedule(taskConnect, 0, s.f.elapsed())
		}
	}
}

// waitOffline waits until a task is due, an order is given, or Run ends.
func (s *station) waitOffline() {
	s.mu.Lock()
	if s.order != noOrder || s.f.settling.Load() && !s.settled {
		s.mu.Unlock()
		return
	}
	poke := make(chan struct{})
	s.poke = poke
	s.mu.Unlock()
	wait(s.f.ctx, poke, s.nextTask()-s.f.elapsed())
	s.mu.Lock()
	s.poke = nil
	s.mu.Unlock()
}

func wait(ctx context.Context, poke <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-poke:
	case <-ctx.Done():
	}
}
