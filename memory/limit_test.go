package memory

import (
	"math"
	"testing"
)

func TestLimitFromCgroup(t *testing.T) {
	const mb, gb = 1 << 20, 1 << 30
	for _, tt := range []struct {
		limit       int64
		connections int
		want        int64
	}{
		{0, 1000, math.MaxInt64},
		{gb, 0, gb - 32*mb - gb/100*5},
		{1536 * mb, 100_000, 1536*mb - 100_000*4096 - 32*mb - 1536*mb/100*5},
		{256 * mb, 100_000, 64 * mb}, // too small: a quarter
		{64 * mb, 0, 64*mb - 32*mb - 64*mb/100*5},
		{16 * mb, 0, 4 * mb},
	} {
		if got := LimitFromCgroup(tt.limit, tt.connections); got != tt.want {
			t.Errorf("LimitFromCgroup(%d, %d) = %d, want %d", tt.limit, tt.connections, got, tt.want)
		}
	}
}
