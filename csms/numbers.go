package csms

import (
	"context"
	"fmt"
	"sync"

	"holdfast/store"
)

const (
	numberBlock = 1000 // numbers taken from the record at a time; what is left of them at the end of the process is lost
	maxSpare    = 100
)

// numbers hands out numbers that no other process hands out: positive, 31 bits.
type numbers struct {
	store *store.CSMS
	name  string

	mu        sync.Mutex
	next, end int64   // what is left of the block
	spare     []int64 // given back
}

func (n *numbers) take(ctx context.Context) (int64, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := len(n.spare); k > 0 {
		number := n.spare[k-1]
		n.spare = n.spare[:k-1]
		return number, nil
	}
	if n.next == n.end {
		first, err := n.store.Allocate(ctx, n.name, numberBlock)
		if err != nil {
			return 0, fmt.Errorf("allocate %s numbers: %w", n.name, err)
		}
		n.next, n.end = first, first+numberBlock
	}
	n.next++
	return n.next - 1, nil
}

// giveBack returns a number that was certainly not used.
func (n *numbers) giveBack(number int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.spare) < maxSpare {
		n.spare = append(n.spare, number)
	}
}
