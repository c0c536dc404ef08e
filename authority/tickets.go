package authority

import (
	"context"
	"crypto/rand"
	"time"
)

// TicketKeys are the keys that seal TLS session tickets: the same for every
// gateway, so that a station resumes on whichever it comes back to. Secret.
type TicketKeys struct {
	// Keys are 32 bytes each: the first seals, all open. The last is the next to
	// seal, so that gateways need not switch in the same instant.
	Keys [][]byte `json:"keys"`
	// Rotate is when to ask again.
	Rotate time.Time `json:"rotate"`
}

func (a *Authority) ticketPeriod() int64 {
	return a.cfg.Now().UnixMicro() / a.cfg.TicketRotation.Microseconds()
}

// TicketKeys returns the current, the previous and the next key.
func (a *Authority) TicketKeys(ctx context.Context) (TicketKeys, error) {
	period := a.ticketPeriod()
	keys, err := a.store.TicketKeys(ctx, period-1, period+1, func() (key [32]byte) {
		rand.Read(key[:])
		return key
	})
	if err != nil {
		return TicketKeys{}, err
	}
	t := TicketKeys{Rotate: time.UnixMicro((period + 1) * a.cfg.TicketRotation.Microseconds()).UTC()}
	for _, i := range []int{1, 0, 2} {
		t.Keys = append(t.Keys, keys[i][:])
	}
	return t, nil
}
