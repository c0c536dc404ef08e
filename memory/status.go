package memory

import (
	"fmt"
	"strconv"
	"strings"
)

// status is what /proc/PID/status tells, in bytes but the last two.
type status struct {
	rss    int64 // anon + file + shmem
	anon   int64
	file   int64
	shmem  int64
	swap   int64
	peak   int64
	tables int64 // page tables: the kernel's, not resident
	fdSize int64 // slots of the file descriptor table
	thread int64
}

// parseStatus reads the text of /proc/PID/status. Kernels before 4.5 do not
// divide the resident set; that is an error.
func parseStatus(text string) (status, error) {
	var s status
	fields := map[string]*int64{
		"VmRSS": &s.rss, "RssAnon": &s.anon, "RssFile": &s.file, "RssShmem": &s.shmem,
		"VmSwap": &s.swap, "VmHWM": &s.peak, "VmPTE": &s.tables, "FDSize": &s.fdSize, "Threads": &s.thread,
	}
	seen, err := parseFields(text, fields)
	if err != nil {
		return status{}, fmt.Errorf("process status: %w", err)
	}
	for _, name := range []string{"VmRSS", "RssAnon", "RssFile", "RssShmem"} {
		if !seen[name] {
			return status{}, fmt.Errorf("process status: no field %s", name)
		}
	}
	// The kernel adds the three up for VmRSS, but reads them again for their
	// own lines: they are the truth that the classes add up to.
	s.rss = s.anon + s.file + s.shmem
	return s, nil
}

// rollup is what /proc/PID/smaps_rollup adds to it, in bytes.
type rollup struct {
	hugePages int64 // anonymous memory in transparent huge pages
	lazyFree  int64 // given up with MADV_FREE, still counted as resident
	pss       int64 // resident, shared pages divided by their sharers
}

// parseRollup reads the text of /proc/PID/smaps_rollup.
func parseRollup(text string) (rollup, error) {
	var r rollup
	seen, err := parseFields(text, map[string]*int64{"AnonHugePages": &r.hugePages, "LazyFree": &r.lazyFree, "Pss": &r.pss})
	if err != nil {
		return rollup{}, fmt.Errorf("smaps rollup: %w", err)
	}
	if !seen["Pss"] {
		return rollup{}, fmt.Errorf("smaps rollup: no field Pss")
	}
	return r, nil
}

// parseFields reads lines of the form "Name: 12 kB" or "Name: 12" into the
// given variables and skips all others.
func parseFields(text string, fields map[string]*int64) (seen map[string]bool, err error) {
	seen = make(map[string]bool, len(fields))
	for line := range strings.Lines(text) {
		name, value, ok := strings.Cut(line, ":")
		v := fields[name]
		if !ok || v == nil {
			continue
		}
		number, unit, _ := strings.Cut(strings.TrimSpace(value), " ")
		n, err := parseCount(number)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", name, err)
		}
		switch unit {
		case "":
		case "kB":
			n *= 1 << 10
		default:
			return nil, fmt.Errorf("field %s: unknown unit %.16q", name, unit)
		}
		*v = n
		seen[name] = true
	}
	return seen, nil
}

// maxCount is larger than any memory. Numbers beyond it, such as the cgroup's
// "no limit", are clamped so that sums of some and a unit cannot overflow.
const maxCount = 1 << 50

// parseCount reads a number of bytes or things: not negative, at most maxCount.
func parseCount(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, err
	}
	return int64(min(n, maxCount)), nil
}
