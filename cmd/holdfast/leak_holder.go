package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"holdfast/fleet"
	"holdfast/memory"
)

const (
	// holderStations of a cohort connect to see which process holds them; in
	// holderTime it has to show.
	holderStations = 8
	holderTime     = 3 * time.Second
)

// holderCounts are what a process has more of for each connection that it holds.
var holderCounts = []memory.Count{memory.Connections, memory.SocketFiles, memory.Files, memory.Goroutines, memory.Handles}

// holds finds out whether the process that is read is the one that the stations
// connect to. Of another one (a worker of a cluster, a proxy, a wrong pid) a hunt
// would say that it does not leak, and be right.
func (h *hunter) holds(ctx context.Context, source memory.Source) error {
	var lines []*fleet.Line
	defer func() {
		for _, l := range lines {
			l.Close()
		}
	}()
	for _, c := range h.cohorts {
		// The lines of one cohort stay while the next is tried: their end would make
		// up for the others.
		opened, err := h.holdsCohort(ctx, source, c)
		lines = append(lines, opened...)
		if err != nil {
			return err
		}
	}
	return nil
}

// holdsCohort returns the lines that it opened.
func (h *hunter) holdsCohort(ctx context.Context, source memory.Source, c *cohort) (lines []*fleet.Line, err error) {
	before, err := source.Read(ctx)
	if err != nil {
		return nil, err
	}
	stations := c.stations[:min(len(c.stations), holderStations)]
	for _, id := range stations {
		l, err := h.fleet.Open(ctx, id)
		if err != nil {
			return lines, fmt.Errorf("%s: %w", c.name(), err)
		}
		lines = append(lines, l)
	}
	for until := time.Now().Add(holderTime); ; {
		now, err := source.Read(ctx)
		if err != nil {
			return lines, err
		}
		var known []string
		for _, count := range holderCounts {
			n, ok := now.Counts[count]
			if ok && n-before.Counts[count] >= int64(len(stations)+1)/2 {
				return lines, nil
			}
			if ok {
				known = append(known, string(count))
			}
		}
		if len(known) == 0 {
			return lines, nil // nobody can tell
		}
		if time.Now().After(until) {
			pid := ""
			if now.PID != 0 {
				pid = fmt.Sprintf(" (pid %d)", now.PID)
			}
			return lines, fmt.Errorf("the process that is read%s is not the one that holds %s connections: %d stations connected, and it has no more %s. Read the process that serves --target, or give --indirect if it stands behind a proxy",
				pid, c.name(), len(stations), strings.Join(known, ", "))
		}
		select {
		case <-ctx.Done():
			return lines, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
