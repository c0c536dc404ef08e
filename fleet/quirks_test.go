package fleet

import (
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestStationsThatDrop: stations drop their connection at what they cannot bear,
// and not before.
func TestStationsThatDrop(t *testing.T) {
	call := func(id string) []byte { return []byte(`[2,"` + id + `","ClearCache",{}]`) }
	for quirk, tt := range map[Fault]struct {
		bears, minds func(c *serverConn)
	}{
		DropsAtPing: {
			func(c *serverConn) { c.write(opText, call("1")) },
			func(c *serverConn) { c.write(opPing, nil) },
		},
		NoFractions: {
			func(c *serverConn) {
				c.write(opText, []byte(`[2,"1","ReserveNow",{"expiryDate":"2030-01-01T00:00:00Z"}]`))
			},
			func(c *serverConn) {
				c.write(opText, []byte(`[2,"2","ReserveNow",{"expiryDate":"2030-01-01T00:00:00.5Z"}]`))
			},
		},
		DropsFastCalls: {
			func(c *serverConn) { c.write(opText, call("1")) },
			func(c *serverConn) { c.write(opText, call("2")); c.write(opText, call("3")) },
		},
		NeedsPings: {
			func(c *serverConn) {
				for range 10 { // for longer than it waits
					c.write(opPing, nil)
					<-time.After(20 * time.Millisecond)
				}
			},
			func(*serverConn) {},
		},
	} {
		t.Run(quirk.String(), func(t *testing.T) {
			s := newTestServer(t, ocpp.ProfilePlain, nil)
			f, _ := testFleet(t, s, nil, ocpp.ProfilePlain, ocpp.V16, 1, func(c *Config) {
				c.Behaviour, c.needsPings = passive(), 150*time.Millisecond
				c.Stations[0].Quirks = []Fault{quirk}
			})
			eventually(t, "statuses", func() bool {
				return f.Stats().Connects > 0 && f.Stats().Outstanding == 0 && s.saw("CS-0", "StatusNotification") > 2
			})
			var c *serverConn
			s.look("CS-0", func(st *testStation) { c = st.c })
			tt.bears(c)
			if got := f.Stats(); got.Connects != 1 {
				t.Fatalf("%d connections, errors %v", got.Connects, got.Errors)
			}
			tt.minds(c)
			eventually(t, "the next connection", func() bool { return f.Stats().Connects > 1 })
		})
	}
}
