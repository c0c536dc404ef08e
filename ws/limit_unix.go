//go:build unix

package ws

import "golang.org/x/sys/unix"

// defaultMaxConnections leaves some of the process's files to others.
func defaultMaxConnections() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil || r.Cur > 1<<24 {
		return 65536
	}
	return max(int(r.Cur)-512, 16)
}
