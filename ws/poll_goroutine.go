//go:build !linux || ws_goroutine

package ws

import "sync"

// readsByGoroutine: every connection has a goroutine that reads.
const readsByGoroutine = true

// registry knows all parked connections and waits for their goroutines.
type registry struct {
	goroutines sync.WaitGroup

	mu    sync.Mutex
	conns map[*Conn]struct{}
}

func newRegistry() (*registry, error) {
	return &registry{conns: make(map[*Conn]struct{})}, nil
}

func (r *registry) add(c *Conn) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns[c] = struct{}{}
	return nil
}

func (r *registry) remove(c *Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

func (r *registry) all() []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*Conn, 0, len(r.conns))
	for c := range r.conns {
		all = append(all, c)
	}
	return all
}

// descriptors returns nil: the descriptors are the runtime's.
func (r *registry) descriptors() []uint16 { return nil }

// strangers is not known: the sockets are the runtime's.
func (r *registry) strangers(map[uint16]bool) (int64, error) { return -1, nil }

func (r *registry) run() error { return nil }

func (r *registry) stop() {}

func (r *registry) close() error {
	r.goroutines.Wait()
	return nil
}
