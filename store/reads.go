package store

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"time"
)

const (
	maxBatch = 64               // keys of one query
	readTime = 10 * time.Second // that a query may take
)

// reads gathers reads of rows by key: while some queries run, further keys
// gather, and are then read together. As with lanes there is no reader
// goroutine: of those who wait, the first leads. When few read, each reads at
// once; in a storm, a query is shared.
//
// A key is read after get was called, never before: callers see their own writes.
type reads[K comparable, V any] struct {
	// read returns the rows of some keys; those without one are missing.
	read func(ctx context.Context, keys []K) (map[K]V, error)

	mu      sync.Mutex
	waiting []*pendingRead[K, V]
	running int // queries, at most maxReaders
}

// maxReaders is how many queries of one reads run at a time: more would take
// batches apart, not time.
var maxReaders = max(2, runtime.GOMAXPROCS(0))

// pendingRead is one caller's key. Owned by its caller until queued, then by the
// leader until done is closed.
type pendingRead[K comparable, V any] struct {
	key   K
	value V
	err   error
	lead  chan struct{} // closed: you lead the next batch
	done  chan struct{} // closed: value and err are set
}

// get returns the row of a key; ErrNotFound without one, ErrBusy if too many wait.
func (r *reads[K, V]) get(ctx context.Context, key K) (V, error) {
	u := &pendingRead[K, V]{key: key, lead: make(chan struct{}), done: make(chan struct{})}
	r.mu.Lock()
	if len(r.waiting) >= maxWaiting {
		r.mu.Unlock()
		return u.value, ErrBusy
	}
	r.waiting = append(r.waiting, u)
	if r.running < maxReaders {
		r.running++
		close(u.lead)
	}
	r.mu.Unlock()

	select {
	case <-u.done:
		return u.value, u.err
	case <-u.lead:
		r.leadBatch(u)
		return u.value, u.err
	case <-ctx.Done():
	}
	r.mu.Lock()
	select {
	case <-u.lead: // leadership came with the cancellation: it has to be passed on
		r.mu.Unlock()
		r.leadBatch(u)
		return u.value, u.err
	default:
	}
	if i := slices.Index(r.waiting, u); i >= 0 {
		r.waiting = slices.Delete(r.waiting, i, i+1)
	}
	r.mu.Unlock()
	var none V
	return none, ctx.Err()
}

// leadBatch reads batches until u has its answer or another leader has it at
// work, and names the next leader.
func (r *reads[K, V]) leadBatch(u *pendingRead[K, V]) {
	r.mu.Lock()
	for slices.Contains(r.waiting, u) {
		n := min(len(r.waiting), maxBatch)
		batch := slices.Clone(r.waiting[:n])
		r.waiting = slices.Delete(r.waiting, 0, n)
		r.mu.Unlock()
		r.answer(batch)
		r.mu.Lock()
	}
	if i := slices.IndexFunc(r.waiting, func(w *pendingRead[K, V]) bool { return !closed(w.lead) }); i >= 0 {
		close(r.waiting[i].lead)
	} else {
		r.running--
	}
	r.mu.Unlock()
	<-u.done
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (r *reads[K, V]) answer(batch []*pendingRead[K, V]) {
	keys := make([]K, len(batch))
	for i, b := range batch {
		keys[i] = b.key
	}
	// Not a caller's context: others share this query.
	ctx, cancel := context.WithTimeout(context.Background(), readTime)
	defer cancel()
	rows, err := r.read(ctx, keys)
	for _, b := range batch {
		value, ok := rows[b.key]
		switch {
		case err != nil:
			b.err = err
		case !ok:
			b.err = ErrNotFound
		default:
			b.value = value
		}
		close(b.done)
	}
}
