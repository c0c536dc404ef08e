package memory

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// process is what the kernel says of this process.
type process struct {
	status  status
	kernel  Kernel
	files   int
	cohorts []Connected
	cgroup  *Cgroup // nil where there is no memory controller
}

// readProcess divides the sockets by cohort, see Stations.Sockets.
func readProcess(of []uint16, names []Cohort) (*process, error) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	s, err := parseStatus(string(text))
	if err != nil {
		return nil, err
	}
	p := &process{status: s}
	p.kernel, p.files, p.cohorts = readSockets(int(s.fdSize), of, names)
	p.kernel.PageTables = s.tables
	if p.cgroup, err = readCgroup(); err != nil {
		return nil, fmt.Errorf("cgroup of this process: %w", err)
	}
	return p, nil
}

// readCgroup returns nil without an error where no memory controller is
// visible. It looks the cgroup up each time: a process may be moved.
func readCgroup() (*Cgroup, error) {
	cgroups, err := os.ReadFile("/proc/self/cgroup")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	dir, err := findCgroup(string(cgroups), string(mounts))
	if errors.Is(err, errNoCgroup) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := dir.read()
	if errors.Is(err, os.ErrNotExist) { // the root cgroup
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// readMappings reads the page tables, with the mappings around an address.
func readMappings(address uintptr) (mappings, error) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return mappings{}, err
	}
	defer f.Close()
	return parseMappings(f, uint64(address))
}

// Indices into what SO_MEMINFO fills in, SK_MEMINFO_* of linux/sock_diag.h.
const (
	meminfoRead    = 0 // rmem_alloc: received, not read yet
	meminfoForward = 4 // fwd_alloc: reserved for more
	meminfoQueued  = 5 // wmem_queued: written, not acknowledged yet
	meminfoOption  = 6 // optmem
	meminfoBacklog = 7
	meminfoFields  = 9
)

// buffered is what a socket's buffers hold, in bytes.
func buffered(info *[meminfoFields]uint32) int64 {
	return int64(info[meminfoRead]) + int64(info[meminfoForward]) + int64(info[meminfoQueued]) + int64(info[meminfoOption]) + int64(info[meminfoBacklog])
}

// readSockets adds up what the sockets of this process hold in their buffers, by
// cohort too, and counts its open files. It asks every slot of the descriptor
// table, at 0.2 to 0.3 µs each, which is cheaper than listing the open ones; a
// descriptor that is closed or reused meanwhile is simply counted or not.
func readSockets(slots int, of []uint16, names []Cohort) (k Kernel, files int, cohorts []Connected) {
	var info [meminfoFields]uint32
	place := make([]int, len(names)) // of a name's cohort in cohorts: two names may be one cohort
	index := make(map[Cohort]int)
	for i, c := range names {
		n, ok := index[c]
		if !ok {
			n = len(cohorts)
			index[c] = n
			cohorts = append(cohorts, Connected{Cohort: c})
		}
		place[i] = n
	}
	for fd := range slots {
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno == unix.EBADF {
			continue
		}
		files++
		if errno != 0 { // no socket
			continue
		}
		k.Sockets++
		n := buffered(&info)
		k.SocketBuffers += n
		if fd < len(of) && of[fd] != 0 && int(of[fd]) <= len(place) {
			c := &cohorts[place[of[fd]-1]]
			c.Connections++
			c.SocketBuffers += n
		}
	}
	k.SocketEstimate = int64(k.Sockets) * slabPerSocket
	cohorts = slices.DeleteFunc(cohorts, func(c Connected) bool { return c.Connections == 0 && c.unknown() })
	return k, files, cohorts
}
