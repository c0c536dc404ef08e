package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Many callers share queries, each gets its own row, and nobody is forgotten.
func TestReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var queries, running, most, keys atomic.Int64
		r := &reads[int, string]{read: func(ctx context.Context, want []int) (map[int]string, error) {
			queries.Add(1)
			keys.Add(int64(len(want)))
			if n := running.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(10 * time.Millisecond)
			running.Add(-1)
			rows := make(map[int]string)
			for _, k := range want {
				switch {
				case k == 13:
					return nil, errors.New("bad luck")
				case k%10 != 0:
					rows[k] = fmt.Sprint(k)
				}
			}
			return rows, nil
		}}
		var wg sync.WaitGroup
		for i := range 5000 {
			wg.Go(func() {
				k := i % 1000
				if k == 13 {
					k = 14
				}
				got, err := r.get(t.Context(), k)
				if k%10 == 0 && !errors.Is(err, ErrNotFound) || k%10 != 0 && (err != nil || got != fmt.Sprint(k)) {
					t.Errorf("key %d: %q, %v", k, got, err)
				}
			})
		}
		wg.Wait()
		if n := queries.Load(); n > 5000/maxBatch+10 {
			t.Errorf("%d queries for 5,000 keys", n)
		}
		if n := most.Load(); n > int64(maxReaders) {
			t.Errorf("%d queries at a time, at most %d", n, maxReaders)
		}
		if keys.Load() != 5000 || r.running != 0 || len(r.waiting) != 0 {
			t.Errorf("%d keys read, %d running, %d waiting", keys.Load(), r.running, len(r.waiting))
		}
		if _, err := r.get(t.Context(), 13); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("a fault: %v", err)
		}
	})
}

// Callers that give up leave, whether they wait or lead, and take nobody along.
func TestReadsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reads[int, int]{read: func(_ context.Context, want []int) (map[int]int, error) {
			time.Sleep(time.Second)
			rows := make(map[int]int)
			for _, k := range want {
				rows[k] = k
			}
			return rows, nil
		}}
		var wg sync.WaitGroup
		outcomes := make(map[string]int)
		var mu sync.Mutex
		for i := range 1000 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%40)*100*time.Millisecond)
				defer cancel()
				_, err := r.get(ctx, i)
				mu.Lock()
				outcomes[fmt.Sprint(err)]++
				mu.Unlock()
			})
		}
		wg.Wait()
		if len(outcomes) != 2 || outcomes["<nil>"] < maxReaders*maxBatch || r.running != 0 || len(r.waiting) != 0 {
			t.Errorf("outcomes %v, %d running, %d waiting", slices.Collect(maps.Keys(outcomes)), r.running, len(r.waiting))
		}
		if got, err := r.get(t.Context(), 7); got != 7 || err != nil {
			t.Errorf("afterwards: %d, %v", got, err)
		}
	})
}

func TestReadsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reads[int, int]{read: func(context.Context, []int) (map[int]int, error) {
			time.Sleep(time.Second)
			return nil, nil
		}}
		var busy atomic.Int64
		var wg sync.WaitGroup
		for i := range maxWaiting + 1000 {
			wg.Go(func() {
				if _, err := r.get(t.Context(), i); errors.Is(err, ErrBusy) {
					busy.Add(1)
				}
			})
		}
		wg.Wait()
		if n := busy.Load(); n == 0 || n > 1000 {
			t.Errorf("%d callers were refused", n)
		}
	})
}
