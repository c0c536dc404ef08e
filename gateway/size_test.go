package gateway

import (
	"testing"
	"time"
	"unsafe"

	"holdfast/ocpp"
)

// TestSizes holds what every station costs at the size classes of the allocator
// and of the maps (docs/memory.md).
func TestSizes(t *testing.T) {
	if got := unsafe.Sizeof(conn{}); got > 128 {
		t.Errorf("conn has %d bytes, which the allocator rounds up to the next class above 128", got)
	}
	if got := unsafe.Sizeof(verdict{}); got > 56 {
		t.Errorf("verdict has %d bytes, want at most 56", got)
	}
}

func TestCompactFields(t *testing.T) {
	for _, v := range append([]ocpp.Version{""}, ocpp.Versions...) {
		if got := codeOf(v).version(); got != v {
			t.Errorf("version %q comes back as %q", v, got)
		}
	}
	if got := codeOf("9.9"); got != 0 {
		t.Errorf("code of an unknown version is %d", got)
	}
	for d, want := range map[time.Duration]time.Duration{
		0: 0, -time.Second: 0, 3 * time.Second: 3 * time.Second, 100 * 24 * time.Hour: (1<<32 - 1) * time.Millisecond,
	} {
		if got := inMilliseconds(d).duration(); got != want {
			t.Errorf("%v is kept as %v, want %v", d, got, want)
		}
	}
	if got := seconds(1 << 40); got != 1<<32-1 {
		t.Errorf("a time far away is kept as %d", got)
	}
}
