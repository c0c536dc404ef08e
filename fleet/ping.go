package fleet

import (
	"bufio"
	"context"
	"fmt"
	"time"
)

// ping sends a WebSocket ping. Nothing at all since the last one means that
// nobody is there any more.
func (s *station) ping() {
	c := s.conn
	if c == nil {
		return
	}
	mute := c.mute.Load()
	switch {
	case c.pinged && !c.heard && mute:
		s.abandon()
		return
	case c.pinged && !c.heard:
		s.lost(fmt.Errorf("no pong for %s", s.pingInterval()))
		return
	}
	c.pinged, c.heard = true, false
	if !mute {
		if err := c.write(opPing, nil); err != nil {
			s.lost(err)
			return
		}
	}
	s.schedulePing()
}

// abandoned is how long a connection stays open that its station has given up.
const abandoned = 2 * time.Minute

// abandon gives up a silent connection and comes back with another one. The
// server cannot learn of it: where a network has forgotten a connection, no FIN
// gets through. To the server it stays open until it does something about it.
func (s *station) abandon() {
	s.disconnect(func(c *conn) {
		s.f.wg.Go(func() {
			c.tcp.SetReadDeadline(time.Now().Add(abandoned))
			defer context.AfterFunc(s.f.ctx, func() { c.tcp.SetReadDeadline(past) })()
			br := readers.Get().(*bufio.Reader)
			br.Reset(c)
			defer func() { br.Reset(nil); readers.Put(br) }()
			drain(c, br)
		})
	})
	s.reconnect(s.backOff(0))
}

func (s *station) schedulePing() {
	if interval := s.pingInterval(); interval > 0 && s.conn != nil {
		s.schedule(taskPing, 0, s.f.elapsed()+interval)
	}
}
