//go:build leakfaults

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"runtime/debug"
	"unsafe"

	"golang.org/x/sys/unix"
)

// settings are changed at the onset and put back after a day.
func changeCollector(f *runningFault, _, _ float64) {
	switch {
	case f.state == nil:
		f.state = debug.SetGCPercent(400)
	case f.hours > 24:
		debug.SetGCPercent(f.state.(int))
	}
}

func limitMemory(f *runningFault, _, _ float64) {
	switch {
	case f.state == nil:
		f.state = debug.SetMemoryLimit(int64(1.05 * f.rss))
	case f.hours > 24:
		debug.SetMemoryLimit(f.state.(int64))
	}
}

// largeMessages are those of a firmware campaign: for eight hours 5 % of the
// resident set is in messages on their way.
func largeMessages(f *runningFault, _, _ float64) {
	if f.hours > 8 {
		f.cache(0)
		return
	}
	f.cache(0.05 * f.rss * (0.8 + 0.4*f.random.Float64()))
	for range 20 {
		full(256 << 10)
	}
}

// keepRaw keeps a small part of large messages, in a list with an end.
func keepRaw(f *runningFault, _, events float64) {
	const most = 1000
	message := fmt.Appendf(nil, `{"id": "0123456789ab", "rest": %q}`, bytes.Repeat([]byte("x"), 16<<10))
	for range int(events) {
		var m struct {
			ID json.RawMessage `json:"id"`
		}
		if err := json.Unmarshal(message, &m); err != nil {
			panic(err) // it is our own
		}
		if f.kept = append(f.kept, m.ID); len(f.kept) > most {
			f.kept = append(f.kept[:0], f.kept[1:]...)
		}
	}
}

const (
	hugePage    = 2 << 20
	hugePages   = 4
	collapseAge = 3.0 // hours
)

// sparse is anonymous memory of which every eighth page is resident, until the
// kernel makes huge pages of it.
type sparse struct {
	memory    []byte
	collapsed bool
}

func mapSparse(f *runningFault) error {
	all, err := unix.Mmap(-1, 0, (hugePages+1)*hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	skip := hugePage - int(uintptr(unsafe.Pointer(&all[0]))%hugePage)
	s := &sparse{memory: all[skip : skip+hugePages*hugePage]}
	if err := unix.Madvise(s.memory, unix.MADV_HUGEPAGE); err != nil {
		return fmt.Errorf("huge pages: %w", err)
	}
	if err := unix.Madvise(s.memory, unix.MADV_NOHUGEPAGE); err != nil {
		return fmt.Errorf("huge pages: %w", err)
	}
	for i := 0; i < len(s.memory); i += 8 * os.Getpagesize() {
		s.memory[i] = 1
	}
	f.state = s
	return nil
}

func collapse(f *runningFault, _, _ float64) {
	s := f.state.(*sparse)
	if s.collapsed || f.hours < collapseAge {
		return
	}
	s.collapsed = true
	unix.Madvise(s.memory, unix.MADV_HUGEPAGE) // as tried before
	if err := unix.Madvise(s.memory, unix.MADV_COLLAPSE); err != nil {
		// The kernel has none to spare: what it does is to make all of it resident.
		for i := 0; i < len(s.memory); i += os.Getpagesize() {
			s.memory[i] = 1
		}
	}
}

// openLog is a file that has no name any more.
func openLog(f *runningFault) error {
	file, err := os.CreateTemp("", "holdfast-leakfaults-")
	if err != nil {
		return err
	}
	f.state = file
	return os.Remove(file.Name())
}

// growLog writes 1 % of the resident set an hour.
func growLog(f *runningFault, hours, _ float64) {
	file := f.state.(*os.File)
	if _, err := file.Write(make([]byte, int(math.Ceil(0.01*f.rss*hours)))); err != nil {
		f.p.log.Error("leakfaults: log file", "err", err)
	}
}
