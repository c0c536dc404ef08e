package csms

import (
	"context"
	"fmt"
	"strings"
	"time"

	"holdfast/ocpp"
)

// serialTime is how long a boot waits to learn what serial number is registered.
const serialTime = 2 * time.Second

// checkSerial compares the serial number of a BootNotification with the one in
// the certificate that the station connected with, and ends the connection if
// they differ (OCPP 2.0.1 B01.FR.11, B01.FR.12). Admission has made sure that the
// certificate's CN is the registered serial number; here the station's own word
// may be a part of it, as makers put more into a CN and BootNotification has room
// for 25 characters. A station that says nothing of itself, or that nobody
// registered a serial number for, is not compared, nor is any while the authority
// does not answer.
func (c *CSMS) checkSerial(ctx context.Context, m Message, said string) error {
	if said = strings.TrimSpace(said); said == "" || c.certificateSerial == nil {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, serialTime)
	defer cancel()
	registered, err := c.certificateSerial(limited, m.Station)
	if err != nil {
		c.log.Warn("serial number of a boot not compared", "station", m.Station, "err", err)
		return nil
	}
	if registered == "" || strings.Contains(strings.ToLower(registered), strings.ToLower(said)) {
		return nil
	}
	detail := fmt.Sprintf("BootNotification says serial number %.64q, the certificate is of %q", said, registered)
	c.metrics.serials.Inc()
	c.log.Warn("station disconnected", "station", m.Station, "reason", string(ocpp.ReasonWrongSerial), "detail", detail)
	if c.expel != nil {
		if err := c.expel(limited, m.Station, ocpp.ReasonWrongSerial, detail); err != nil {
			c.log.Error("disconnect a station with a wrong serial number", "station", m.Station, "err", err)
		}
	}
	return refused(ocpp.SecurityError, "serialNumber is not that of the certificate")
}
