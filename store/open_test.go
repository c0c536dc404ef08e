package store_test

import (
	"sync"
	"testing"

	"holdfast/store"
	"holdfast/store/storetest"
)

// Replicas that start at the same time on an empty database all get it.
func TestOpenAtOnce(t *testing.T) {
	url := storetest.NewServer(t).Database(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			c, err := store.OpenCSMS(t.Context(), url)
			if err != nil {
				t.Error(err)
				return
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
