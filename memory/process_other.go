//go:build !linux

package memory

type process struct {
	status status
	kernel Kernel
	files  int
	cgroup *Cgroup
}

// readProcess returns nil: only the classes of the Go runtime are known.
func readProcess() (*process, error) { return nil, nil }

func readCgroup() (*Cgroup, error) { return nil, nil }

func readRollup() (rollup, error) { return rollup{}, nil }
