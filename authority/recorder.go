package authority

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
)

const (
	maxOpenAttempts = 64 << 10 // stations whose last attempt is remembered, at least
	maxUnwritten    = 64 << 10 // attempts that wait for the database
	attemptWindow   = 5 * time.Minute
	repeatInterval  = time.Minute // how often the count of a repeated attempt is written
	attemptBatch    = 256

	// A decision waits until its attempt is in the database, so that it is known
	// for good once it took effect: for so long, and while so few wait that a
	// storm does not queue behind SQL.
	recordTime = time.Second
	maxBehind  = 8 * attemptBatch

	// Attempts of stations that are not registered cost a write each, and come
	// from anybody: this many per second are recorded.
	unregisteredRate  = 10
	unregisteredBurst = 100
)

// recorder gathers attempts to connect and writes them in batches. Attempts of
// one station that are alike, within a window, are counted in one record:
// a station that comes back every ten seconds is not a write each time.
type recorder struct {
	patience time.Duration // recordTime, at most, that a decision waits
	dropped  atomic.Int64  // attempts that were not recorded

	mu       sync.Mutex
	open     recent[string, *store.Attempt] // the last one by folded identity
	fresh    map[string]*store.Attempt      // not in the database yet, by ID
	repeated map[string]*store.Attempt      // counted on since they were written, by ID
	written  time.Time                      // when repeated was last written
	tokens   float64                        // for stations that are not registered
	filled   time.Time                      // when tokens was last added to

	flushing chan struct{} // holds a token while a flush runs: an older count must not be written over a newer one
}

func newRecorder() *recorder {
	return &recorder{
		open: newRecent[string, *store.Attempt](maxOpenAttempts), fresh: make(map[string]*store.Attempt), repeated: make(map[string]*store.Attempt),
		tokens: unregisteredBurst, patience: recordTime, flushing: make(chan struct{}, 1),
	}
}

// add gathers an attempt and reports whether it is new, not a repetition. The ID
// is that of one to settle; empty if there is nothing to write for now.
func (r *recorder) add(t store.Attempt) (id string, isNew bool) {
	key := t.Station.Fold()
	if key == "" { // who said nothing is known by its address
		key = "\x00" + t.Remote
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !t.Registered && !r.take(t.At) {
		r.dropped.Add(1)
		return "", false
	}
	if last, ok := r.open.get(key); ok && alike(*last, t) {
		last.Times++
		last.At = t.At
		if _, waits := r.fresh[last.ID]; !waits && (len(r.repeated) < maxUnwritten || r.repeated[last.ID] != nil) {
			r.repeated[last.ID] = last
		}
		return "", false
	}
	if len(r.fresh) >= maxUnwritten {
		r.dropped.Add(1)
		return "", true
	}
	t.ID, t.Times, t.First = store.NewAttemptID(), 1, t.At
	r.open.put(key, &t)
	r.fresh[t.ID] = &t
	return t.ID, true
}

// settle writes the attempt with an ID and all others that gathered, or waits for
// whoever does. It gives up after patience, and at once when more than
// maxBehind wait: a later flush writes it.
func (r *recorder) settle(ctx context.Context, s *store.Authority, id string) error {
	waits := func() (waits bool, behind int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.fresh[id] != nil, len(r.fresh)
	}
	if _, behind := waits(); behind > maxBehind {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.patience)
	defer cancel()
	if err := r.begin(ctx); err != nil {
		return err
	}
	defer r.end()
	if waits, _ := waits(); !waits {
		return nil // the flush that ran wrote it
	}
	return r.write(ctx, s, false)
}

// begin waits until no flush runs; end ends the caller's own.
func (r *recorder) begin(ctx context.Context) error {
	select {
	case r.flushing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *recorder) end() { <-r.flushing }

// take spends a token of the rate for stations that are not registered. Under mu.
func (r *recorder) take(now time.Time) bool {
	if d := now.Sub(r.filled); d > 0 {
		r.tokens = min(r.tokens+d.Seconds()*unregisteredRate, unregisteredBurst)
		r.filled = now
	}
	if r.tokens < 1 {
		return false
	}
	r.tokens--
	return true
}

func alike(last, t store.Attempt) bool {
	return last.Reason == t.Reason && last.Detail == t.Detail && last.Profile == t.Profile && last.Remote == t.Remote &&
		last.Fingerprint == t.Fingerprint && last.Registered == t.Registered && t.At.Sub(last.First) < attemptWindow
}

// forget starts a new record with the station's next attempt: it was added or removed.
func (r *recorder) forget(id ocpp.StationID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.open.get(id.Fold()); ok {
		r.open.delete(id.Fold())
		delete(r.fresh, last.ID)
		delete(r.repeated, last.ID)
	}
}

// flush writes what is new and, once a minute or with all, the counts of what
// was repeated. What could not be written is tried again by the next flush.
func (r *recorder) flush(ctx context.Context, s *store.Authority, all bool) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	defer r.end()
	return r.write(ctx, s, all)
}

// write is flush, between begin and end.
func (r *recorder) write(ctx context.Context, s *store.Authority, all bool) error {
	now := time.Now()
	r.mu.Lock()
	var batch []store.Attempt
	for _, t := range r.fresh {
		batch = append(batch, *t)
	}
	fresh := r.fresh
	r.fresh = make(map[string]*store.Attempt)
	repeated := map[string]*store.Attempt{}
	if all || now.Sub(r.written) >= repeatInterval {
		repeated, r.repeated, r.written = r.repeated, make(map[string]*store.Attempt), now
		for _, t := range repeated {
			batch = append(batch, *t)
		}
	}
	r.mu.Unlock()

	for len(batch) > 0 {
		n := min(len(batch), attemptBatch)
		if err := s.RecordAttempts(ctx, batch[:n]); err != nil {
			r.putBack(batch, fresh, repeated)
			return err
		}
		batch = batch[n:]
	}
	return nil
}

// putBack returns what was not written to the maps it came from.
func (r *recorder) putBack(batch []store.Attempt, fresh, repeated map[string]*store.Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range batch {
		if live := fresh[t.ID]; live != nil && len(r.fresh) < maxUnwritten {
			r.fresh[t.ID] = live
			delete(r.repeated, t.ID) // counted on meanwhile
		} else if live := repeated[t.ID]; live != nil && len(r.repeated) < maxUnwritten {
			r.repeated[t.ID] = live
		} else {
			r.dropped.Add(1)
		}
	}
}

func (r *recorder) unwritten() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.fresh) + len(r.repeated)
}
