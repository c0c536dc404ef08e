package authority

import (
	"slices"
	"testing"
	"time"

	"holdfast/ocpp"
	"holdfast/store/storetest"
)

// Trust names who is blocked or was removed, the latest of each first, and
// nobody who is back.
func TestBarred(t *testing.T) {
	storetest.Each(t, func(t *testing.T, where string) {
		f := start(t, where, caDir(t))
		barred := func(limit int, want ...ocpp.StationID) {
			t.Helper()
			got, err := f.store.Barred(t.Context(), limit)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("the latest %d: %v, %v; want %v", limit, got, err, want)
			}
		}
		for _, id := range []ocpp.StationID{"A", "B", "Gone", "Back", "Free"} {
			f.add(t, NewStation{ID: id})
		}
		barred(10)
		for _, id := range []ocpp.StationID{"A", "B", "Free"} {
			if _, err := f.BlockStation(t.Context(), "test", id, "stolen"); err != nil {
				t.Fatal(err)
			}
			f.advance(time.Second)
		}
		if _, err := f.UnblockStation(t.Context(), "test", "free"); err != nil {
			t.Fatal(err)
		}
		for _, id := range []ocpp.StationID{"back", "gone"} {
			if err := f.RemoveStation(t.Context(), "test", id); err != nil {
				t.Fatal(err)
			}
		}
		f.add(t, NewStation{ID: "BACK"})
		barred(10, "B", "A", "gone")
		barred(1, "B", "gone")
		if trust, err := f.Trust(t.Context()); err != nil || len(trust.Barred) != 3 {
			t.Errorf("trust names %v, %v", trust.Barred, err)
		}
	})
}
