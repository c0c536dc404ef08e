package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
)

func TestGroupCommit(t *testing.T) {
	d, err := open(t.Context(), t.TempDir(), "csms")
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	errRefused := errors.New("refused")
	var wg sync.WaitGroup
	const n = 300
	for i := range n {
		wg.Go(func() {
			err := d.update(context.Background(), "k", func(tx *Tx) error {
				if _, err := tx.exec(`INSERT INTO counter (name, next) VALUES ($1, $2)`, fmt.Sprint(i), i); err != nil {
					return err
				}
				if i%10 == 0 {
					return errRefused
				}
				return nil
			})
			if i%10 == 0 != errors.Is(err, errRefused) {
				t.Errorf("unit %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	var rows int
	if err := d.read.QueryRow(`SELECT count(*) FROM counter WHERE next % 10 <> $1`, 0).Scan(&rows); err != nil {
		t.Fatal(err)
	}
	var all int
	d.read.QueryRow(`SELECT count(*) FROM counter`).Scan(&all)
	if rows != n-n/10 || all != rows {
		t.Errorf("%d good rows of %d in all, want %d", rows, all, n-n/10)
	}
	// A failing statement undoes only its own unit.
	err = d.update(context.Background(), "k", func(tx *Tx) error {
		_, err := tx.exec(`INSERT INTO counter (name, next) VALUES ($1, $2)`, "1", 1)
		return err
	})
	if err == nil {
		t.Error("duplicate key was accepted")
	}
}
