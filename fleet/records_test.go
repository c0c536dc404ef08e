package fleet

import (
	"strings"
	"testing"
	"time"

	"holdfast/ocpp"
)

// TestRecords: messages may share a TLS record, span several, or come byte by
// byte; none waits for the next packet.
func TestRecords(t *testing.T) {
	ca := newTestCA(t)
	for _, profile := range []ocpp.SecurityProfile{ocpp.ProfilePlain, ocpp.ProfileMTLS} {
		t.Run(profile.Label(), func(t *testing.T) {
			s := newTestServer(t, profile, ca)
			f, _ := testFleet(t, s, ca, profile, ocpp.V16, 1, func(c *Config) { c.Behaviour = passive() })
			eventually(t, "boot", func() bool { return s.saw("CS-0", "StatusNotification") == 3 && f.Stats().Outstanding == 0 })
			answers := make(chan ocpp.Frame, 16)
			var c *serverConn
			small := frame(0x81, `[2,"x","ClearCache",{}]`)
			large := frame(0x81, `[2,"x","DataTransfer",{"vendorId":"Holdfast","data":"`+strings.Repeat("x", 40_000)+`"}]`)
			for _, tt := range []struct {
				stream string
				step   int // bytes per write
				want   int // answers
			}{
				{small + small + small, 1 << 20, 3},
				{large + small + large, 1 << 20, 3},
				{small + frame(0x89, "ping") + small, 1, 2},
				{small + large, 1000, 2},
			} {
				s.look("CS-0", func(st *testStation) {
					c = st.c
					st.always = answers
				})
				for rest := tt.stream; rest != ""; {
					n := min(tt.step, len(rest))
					if _, err := c.Write([]byte(rest[:n])); err != nil {
						t.Fatal(err)
					}
					rest = rest[n:]
				}
				for i := range tt.want {
					select {
					case a := <-answers:
						if a.Type != ocpp.TypeResult || string(a.Payload) != `{"status":"Accepted"}` {
							t.Errorf("%+v", a)
						}
					case <-time.After(10 * time.Second):
						t.Fatalf("%d of %d answers to %d bytes in steps of %d", i, tt.want, len(tt.stream), tt.step)
					}
				}
			}
			if st := f.Stats(); st.Connects != 1 || len(st.Errors) > 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}
