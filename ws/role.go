package ws

import (
	"context"
	"runtime/pprof"
)

// Roles of the goroutines of a Server, in goroutine profiles (label "role").
const (
	RoleOpening = "opening"            // takes an accepted connection to its upgrade
	RoleWorker  = "connection worker"  // gives turns to connections
	RoleReading = "connection reading" // reads for one connection, where there is no epoll
)

var (
	openingLabels = pprof.WithLabels(context.Background(), pprof.Labels("role", RoleOpening))
	workerLabels  = pprof.WithLabels(context.Background(), pprof.Labels("role", RoleWorker))
	readingLabels = pprof.WithLabels(context.Background(), pprof.Labels("role", RoleReading))
)
