package memory

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// A History holds a point every 10 seconds for an hour, and one for every ten
// minutes of a week.
const (
	recentStep = 10 * time.Second
	recentLen  = int(time.Hour / recentStep)
	longStep   = 10 * time.Minute
	longLen    = int(7 * 24 * time.Hour / longStep)
)

// HistoryConfig says what a History is of.
type HistoryConfig struct {
	Account *Account
	// Path is the file that keeps the history over restarts, 300 KB; empty:
	// nothing does. One process at a time can have it. A file that is none of
	// this version's histories is replaced.
	Path string
	// Logger is told when the file cannot be written.
	Logger *slog.Logger
}

// History is the memory of this process over the last week, in at most 450 KB
// of memory. Every point is in the file as soon as it is taken: a process that
// is killed loses none. Methods may be called concurrently.
type History struct {
	cfg     HistoryConfig
	started time.Time

	mu     sync.Mutex
	recent ring
	long   ring
	file   *os.File // nil: in memory only
	failed bool     // the last write failed
}

// Past is what a History holds, oldest first.
type Past struct {
	Recent []Point `json:"ten_seconds"`
	Long   []Point `json:"ten_minutes"`
	// Gone counts the points that made room for newer ones, over restarts.
	Gone Gone `json:"gone"`
}

// Gone counts points of a History that are no longer there.
type Gone struct {
	Recent uint64 `json:"ten_seconds"`
	Long   uint64 `json:"ten_minutes"`
}

// OpenHistory reads what earlier processes left in the file. Close it.
func OpenHistory(cfg HistoryConfig) (*History, error) {
	h := &History{cfg: cfg, started: time.Now(), recent: ring{size: recentLen}, long: ring{size: longLen}}
	h.recent.at = headerSize
	h.long.at = headerSize + int64(recentLen*recordSize())
	if cfg.Path == "" {
		return h, nil
	}
	f, err := os.OpenFile(cfg.Path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = lock(f)
	if err == nil {
		err = h.load(f)
	}
	if err != nil {
		f.Close()
		return nil, &fs.PathError{Op: "memory history", Path: cfg.Path, Err: err}
	}
	h.file = f
	return h, nil
}

// errLocked is what lock says of a file that another process has.
var errLocked = errors.New("another process keeps its history there")

// load reads the points of f, or makes a history of it.
func (h *History) load(f *os.File) error {
	ours, err := readHeader(f)
	if err != nil {
		return err
	}
	if !ours {
		return writeHeader(f)
	}
	if err := h.recent.load(f); err != nil {
		return err
	}
	return h.long.load(f)
}

// Run takes a point every 10 seconds until ctx ends.
func (h *History) Run(ctx context.Context) error {
	tick := time.NewTicker(recentStep)
	defer tick.Stop()
	for {
		r, err := h.cfg.Account.read(false)
		if err != nil {
			return err
		}
		h.add(r.point(h.started))
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// add takes a point. The first one after ten minutes makes one point of them,
// whichever processes took them.
func (h *History) add(p Point) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if last, ok := h.recent.last(); ok {
		if begin := last.Time.Truncate(longStep); !begin.Equal(p.Time.Truncate(longStep)) {
			m := mean(h.recent.since(begin)) // last is one of them
			m.Time = begin
			h.write(&h.long, m)
		}
	}
	h.write(&h.recent, p)
}

// write adds to a ring and to its place in the file. A file that cannot be
// written (its disk is full) is tried again with the next point.
func (h *History) write(r *ring, p Point) {
	at, record := r.add(p)
	if h.file == nil {
		return
	}
	_, err := h.file.WriteAt(record, at)
	if err != nil && !h.failed && h.cfg.Logger != nil {
		h.cfg.Logger.Warn("memory history: the file cannot be written", "err", err)
	}
	h.failed = err != nil
}

// Past returns what the history holds since a time; the zero time for all.
func (h *History) Past(since time.Time) Past {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Past{Recent: h.recent.since(since), Long: h.long.since(since), Gone: Gone{h.recent.gone(), h.long.gone()}}
}

// Close closes the file. Run must have ended.
func (h *History) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.file == nil {
		return nil
	}
	err := h.file.Close()
	h.file = nil
	return err
}
