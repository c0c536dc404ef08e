package csms

import (
	"context"
	"sync"
	"time"
)

const (
	seenEvery = 10 * time.Second
	seenBatch = 500 // stations in one commit
)

// seen gathers when stations were heard of, so that it is written once for many
// messages. Beyond max stations it forgets: the next message tells again.
type seen struct {
	mu  sync.Mutex
	max int
	at  map[string]time.Time // by folded identity
}

func (s *seen) add(station string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = make(map[string]time.Time)
	}
	if _, known := s.at[station]; known || len(s.at) < s.max {
		s.at[station] = at
	}
}

func (s *seen) take() map[string]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.at
	s.at = nil
	return at
}

// flushSeen writes when stations were heard of.
func (c *CSMS) flushSeen(ctx context.Context) error {
	batch := make(map[string]time.Time, seenBatch)
	for station, at := range c.seen.take() {
		batch[station] = at
		if len(batch) < seenBatch {
			continue
		}
		if err := c.store.Seen(ctx, batch); err != nil {
			return err
		}
		clear(batch)
	}
	return c.store.Seen(ctx, batch)
}
