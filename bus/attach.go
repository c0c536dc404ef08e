package bus

import (
	"fmt"

	"github.com/nats-io/nats.go"

	"holdfast/ocpp"
)

// Attachment is one station's listener on this gateway. Unsubscribe ends it.
type Attachment = *nats.Subscription

// Attach lets CALLs to the station reach ServeDown of this process. It costs
// under 1 KB and no goroutine; the caller keeps the Attachment and takes back
// that one, never "whatever is under this identity".
func (b *Bus) Attach(station ocpp.StationID) (Attachment, error) {
	sub, err := b.nc.ChanSubscribe("down."+token(station), b.down)
	if err != nil {
		return nil, fmt.Errorf("listen for calls to station %s: %w", station, err)
	}
	return sub, nil
}
