package csms

import (
	"context"
	"fmt"

	"holdfast/ocpp"
	"holdfast/store"
)

// futureTolerance is how far a station's clock may be ahead.
const futureTolerance = 5 * 60 // seconds

// Status records the state of a connector. k needs only what the message says;
// at is the time in it.
func (c *CSMS) Status(ctx context.Context, m Message, k store.Connector, at ocpp.DateTime) error {
	k.Station, k.ReceivedAt, k.Quality = m.Station, m.ReceivedAt, m.Quality
	k.Since = m.ReceivedAt
	if at.Quality <= ocpp.TimeAssumedZone && !at.IsZero() && at.Unix() <= m.ReceivedAt.Unix()+futureTolerance {
		k.Since = at.Time
	}
	for _, s := range []*string{&k.Status, &k.ErrorCode, &k.VendorErrorCode, &k.VendorID, &k.Info} {
		*s = clip(*s, maxText)
	}
	changed, err := c.store.SetConnector(ctx, k)
	if err != nil {
		return tooMany(fmt.Errorf("record status: %w", err))
	}
	if changed {
		c.tell(EventStatus, m.Station, StatusData{k.EVSE, k.Connector, k.Status, k.ErrorCode})
	}
	return nil
}
