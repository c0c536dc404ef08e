package store_test

import (
	"fmt"
	"testing"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
	"holdfast/store/storetest"
)

// A campaign begins its operations at its pace, however many processes look after
// it, halts after too many failures, goes on, and is done with its last operation.
func TestCampaign(t *testing.T) {
	for name, where := range map[string]string{"sqlite": t.TempDir(), "postgres": storetest.NewServer(t).Database(t)} {
		t.Run(name, func(t *testing.T) { testCampaign(t, where) })
	}
}

func testCampaign(t *testing.T, where string) {
	ctx := t.Context()
	first, err := store.OpenCSMS(ctx, where)
	check(t, err)
	defer first.Close()
	second, err := store.OpenCSMS(ctx, where)
	check(t, err)
	defer second.Close()

	at := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	operation := func(i int) store.Operation {
		return store.Operation{Station: ocpp.StationID(fmt.Sprint("CS-", i)), Kind: "k", Step: "first", CreatedAt: at, NextAt: at}
	}
	busy := operation(0)
	busy.Status, busy.StartedAt = store.OperationRunning, at
	_, _, err = first.StartOperation(ctx, busy)
	check(t, err)
	k, err := first.AddCampaign(ctx, store.Campaign{Kind: "k", PerMinute: 60, MaxFailures: 1, CreatedAt: at, TimeLimit: time.Hour})
	check(t, err)
	var operations []store.Operation
	for i := range 10 { // the first has one already
		o := operation(i)
		o.Campaign = k.ID
		operations = append(operations, o)
	}
	if n, err := first.QueueOperations(ctx, operations); err != nil || n != 9 {
		t.Fatalf("%d of 9 queued (%v)", n, err)
	}
	release := func(after time.Duration, want int) {
		t.Helper()
		for _, process := range []*store.CSMS{first, second} {
			_, err := process.ReleaseOperations(ctx, at.Add(after))
			check(t, err)
		}
		progress, err := first.CampaignProgress(ctx, k.ID)
		check(t, err)
		if got := 9 - progress[store.OperationQueued]; got != want {
			t.Errorf("after %s: %d released, want %d", after, got, want)
		}
	}
	release(0, 0) // its stations are still being entered
	_, err = first.RunCampaign(ctx, k.ID, at)
	check(t, err)
	release(0, 1)
	release(500*time.Millisecond, 1)
	release(time.Second, 2)
	release(3*time.Second, 4)

	end := func(status store.OperationStatus, count int, after time.Duration) {
		t.Helper()
		claimed, err := first.ClaimOperations(ctx, "me", at.Add(after), at.Add(24*time.Hour), count)
		check(t, err)
		for _, o := range claimed {
			o.Status, o.FinishedAt = status, at.Add(4*time.Second)
			_, err := first.AdvanceOperation(ctx, "me", o, store.OperationStep{Step: o.Step, Outcome: string(status)}, true)
			check(t, err)
		}
	}
	status := func(want store.CampaignStatus) {
		t.Helper()
		if k, err = second.Campaign(ctx, k.ID); err != nil || k.Status != want {
			t.Fatalf("campaign is %s, %s (%v), want %s", k.Status, k.Cause, err, want)
		}
	}
	end(store.OperationFailed, 5, 3*time.Second)
	release(4*time.Second, 4) // halted
	status(store.CampaignHalted)
	release(time.Minute, 4)
	_, err = first.RunCampaign(ctx, k.ID, at.Add(time.Minute))
	check(t, err)
	release(time.Minute, 5)
	// A pause of all processes is made up for by ten seconds' worth at most.
	release(time.Hour, 9)
	status(store.CampaignRunning)
	end(store.OperationDone, 10, time.Hour)
	release(time.Hour+time.Second, 9)
	status(store.CampaignDone)
	if k.FinishedAt.IsZero() {
		t.Error("a campaign that is done has no end")
	}

	again, err := first.AddCampaign(ctx, store.Campaign{Kind: "k", PerMinute: 60, CreatedAt: at, TimeLimit: time.Hour})
	check(t, err)
	for i := range operations {
		operations[i].Campaign = again.ID
	}
	if n, err := first.QueueOperations(ctx, operations); err != nil || n != 10 {
		t.Fatalf("%d of 10 queued (%v)", n, err)
	}
	if again, err = first.CancelCampaign(ctx, again.ID, "me", at); err != nil || again.Status != store.CampaignCancelled {
		t.Errorf("cancelled: %+v (%v)", again, err)
	}
	if progress, err := first.CampaignProgress(ctx, again.ID); err != nil || progress[store.OperationCancelled] != 10 {
		t.Errorf("%v (%v)", progress, err)
	}
	if resumed, err := first.RunCampaign(ctx, again.ID, at); err != nil || resumed.Status != store.CampaignCancelled {
		t.Errorf("a campaign that was cancelled is %s (%v)", resumed.Status, err)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
