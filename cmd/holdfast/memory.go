package main

import (
	"context"
	"fmt"
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
		r, err := account.Read()
		if err != nil || r.Cgroup == nil || r.Cgroup.Limit <= 0 {
			return nil
		}
		if share := 100 * r.Cgroup.WorkingSet / r.Cgroup.Limit; share >= fullPercent {
			return []string{fmt.Sprintf("memory: working set is %d %% of the limit of %d MB", share, r.Cgroup.Limit>>20)}
		}
		return nil
	}
}
