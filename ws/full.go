package ws

import "fmt"

// Full reports that this server should get no new connections: it holds 19 of
// 20 of those that Config.MaxConnections allows. It says so before it has to
// turn anybody away.
func (s *Server) Full() error {
	n, limit := s.accepted.Load(), int64(s.cfg.MaxConnections)
	if n < limit-limit/20 {
		return nil
	}
	return fmt.Errorf("full: %d of %d connections", n, limit)
}
