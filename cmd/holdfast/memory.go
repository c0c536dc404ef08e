package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"holdfast/gateway"
	"holdfast/memory"
)

// stationsOf is what the memory account asks of a gateway.
func stationsOf(gw *gateway.Gateway) memory.Stations {
	return memory.Stations{
		Connections: gw.Profiles,
		Sockets: func() (of []uint16, names []memory.Cohort) {
			of, cohorts := gw.Sockets()
			for _, c := range cohorts {
				names = append(names, memory.Cohort(c))
			}
			return of, names
		},
		Census: func() []memory.Retired {
			var list []memory.Retired
			for _, r := range gw.Census() {
				list = append(list, memory.Retired{Object: r.Object, Cohort: memory.Cohort(r.Cohort), Closed: r.Closed, Collected: r.Collected, Zombies: r.Zombies})
			}
			return list
		},
	}
}

// startHistory keeps the memory of the last week. A file that cannot be had does
// not keep the process from starting: its history then ends with it.
func (p *process) startHistory(f *adminFlags, role, data string) error {
	path := f.MemoryHistory
	if path == "" && data != "" {
		path = filepath.Join(data, "memory-"+role+".history")
	}
	cfg := memory.HistoryConfig{Account: p.admin.account, Path: path, Logger: p.log}
	h, err := memory.OpenHistory(cfg)
	if err != nil {
		p.log.Warn("the memory history ends with this process (choose another file with --memory-history)", "err", err)
		cfg.Path = ""
		if h, err = memory.OpenHistory(cfg); err != nil {
			return err
		}
	}
	p.admin.serve("GET /debug/memory/history", historyHandler(h))
	p.services.closing("memory history's file", h.Close)
	p.services.start("memory history", h.Run, nil)
	return nil
}

// historyHandler answers with what there is, or of the last=1h.
func historyHandler(h *memory.History) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var since time.Time
		if last := r.URL.Query().Get("last"); last != "" {
			d, err := time.ParseDuration(last)
			if err != nil || d <= 0 {
				writeJSON(w, http.StatusBadRequest, map[string]any{"error": "last is a duration such as 15m or 24h"})
				return
			}
			since = time.Now().Add(-d)
		}
		writeJSON(w, http.StatusOK, h.Past(since))
	}
}

const (
	limitInterval = 10 * time.Second
	// fullPercent of its memory limit, in working set, makes a process not ready:
	// established connections are served as before.
	fullPercent = 90
)

// keepLimit lets the Go runtime's memory limit follow the cgroup's, less what
// the kernel needs for the connections that there are.
func keepLimit(ctx context.Context, account *memory.Account, connections func() map[string]int) error {
	tick := time.NewTicker(limitInterval)
	defer tick.Stop()
	for {
		n := 0
		for _, c := range connections() {
			n += c
		}
		if _, err := account.ApplyLimit(n); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// memoryFull says why no new stations should come, for want of memory.
func memoryFull(account *memory.Account) func(context.Context) []string {
	return func(context.Context) []string {
		c, err := account.Cgroup()
		if err != nil || c == nil || c.Limit <= 0 {
			return nil
		}
		if share := 100 * c.WorkingSet / c.Limit; share >= fullPercent {
			return []string{fmt.Sprintf("memory: working set is %d %% of the limit of %d MB", share, c.Limit>>20)}
		}
		return nil
	}
}
