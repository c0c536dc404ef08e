//go:build !unix

package ws

func defaultMaxConnections() int { return 65536 }
