package csms

import (
	"context"
	"fmt"
	"time"

	"holdfast/store"
)

// BootAnswer is what a station is told when it boots.
type BootAnswer struct {
	Registration store.Registration
	// Interval is the time between heartbeats in seconds, or, unless the station
	// is Accepted, the wait before it boots again. Never 0.
	Interval int
	Now      time.Time
}

// Boot records what a station says of itself (OCPP 2.0.1 B01, B02, B03) and
// tells it its registration. b needs only what the message says.
func (c *CSMS) Boot(ctx context.Context, m Message, b store.Boot) (BootAnswer, error) {
	b.Station, b.Version, b.At, b.Quality = m.Station, m.Version, m.ReceivedAt, m.Quality
	for _, s := range []*string{&b.Vendor, &b.Model, &b.Serial, &b.Firmware, &b.Reason} {
		*s = clip(*s, maxText)
	}
	_, _, changes := c.registrations.get("")
	r, err := c.store.Booted(ctx, b, c.settings.RegistrationDefault)
	if err != nil {
		return BootAnswer{}, fmt.Errorf("record boot: %w", err)
	}
	c.registrations.put(m.Station.Fold(), registered{r, m.Version}, changes)
	c.log.Info("station booted", "station", m.Station, "registration", string(r), "vendor", b.Vendor, "model", b.Model, "firmware", b.Firmware)
	c.tell(EventBooted, m.Station, BootedData{string(r), b.Vendor, b.Model, b.Firmware, b.Reason})
	interval := c.settings.HeartbeatInterval
	switch r {
	case store.Pending:
		interval = c.settings.PendingInterval
	case store.Rejected:
		interval = c.settings.RejectedInterval
	}
	return BootAnswer{Registration: r, Interval: int(interval.Seconds()), Now: c.now()}, nil
}

// maxText is how much is kept of a text whose schema says less, in bytes:
// stations send more, and are not refused for it.
const maxText = 255
