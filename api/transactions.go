package api

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
)

// TransactionView is a transaction with what lacks of it.
type TransactionView struct {
	store.Transaction
	Gaps []store.Gap `json:"gaps" nullable:"false" doc:"Sequence numbers that were not received (OCPP 2.x)"`
}

// TimeSpan chooses by time.
type TimeSpan struct {
	From time.Time `query:"from" doc:"Not before this time"`
	To   time.Time `query:"to" doc:"Before this time"`
}

const transactionPath = "/api/v1/transactions/{id}"

func (a *API) registerTransactions() {
	register(a, operation{id: "list-transactions", method: "GET", path: "/api/v1/transactions", role: RoleRead, tag: tagTransactions,
		summary: "List transactions", detail: "Newest first, by when they became known."}, a.listTransactions)
	register(a, operation{id: "list-station-transactions", method: "GET", path: stationPath + "/transactions", role: RoleRead, tag: tagTransactions,
		summary: "List a station's transactions", detail: "Newest first, by when they became known."}, a.listStationTransactions)
	register(a, operation{id: "get-transaction", method: "GET", path: transactionPath, role: RoleRead, tag: tagTransactions,
		summary: "Show a transaction", errors: []int{http.StatusNotFound}}, a.getTransaction)
	register(a, operation{id: "get-station-transaction", method: "GET", path: stationPath + "/transactions/{transaction}", role: RoleRead, tag: tagTransactions,
		summary: "Show a transaction by the station's id of it", errors: []int{http.StatusNotFound}}, a.getStationTransaction)
	register(a, operation{id: "list-transaction-meter-values", method: "GET", path: transactionPath + "/meter-values", role: RoleRead, tag: tagTransactions,
		summary: "List a transaction's meter values", detail: "Oldest first.", errors: []int{http.StatusNotFound}}, a.transactionMeterValues)
	register(a, operation{id: "list-transaction-events", method: "GET", path: transactionPath + "/events", role: RoleRead, tag: tagTransactions,
		summary: "List a transaction's events", detail: "By sequence number (OCPP 2.x).", errors: []int{http.StatusNotFound}}, a.transactionEvents)
}

type TransactionFilter struct {
	Open  string    `query:"open" enum:"true,false" doc:"Only open transactions, or only others"`
	Since time.Time `query:"since" doc:"Only those that became known at this time or later"`
}

func (a *API) transactions(ctx context.Context, station ocpp.StationID, f TransactionFilter, p store.Page) (*output[Page[store.Transaction]], error) {
	l, err := a.cfg.CSMS.Record().Transactions(ctx, store.TransactionFilter{Station: station, Open: choice(f.Open)}, p)
	if !f.Since.IsZero() {
		first := firstID(f.Since)
		for i, t := range l.Items {
			if t.ID < first { // and all that follow
				l.Items, l.Next = l.Items[:i], ""
				break
			}
		}
	}
	return paged(l, err)
}

// firstID returns what no id that was made at t or later is less than: ids are
// UUIDs of version 7, which begin with the time in milliseconds.
func firstID(t time.Time) string {
	ms := uint64(max(t.UnixMilli(), 0))
	return fmt.Sprintf("%08x-%04x-7", ms>>16, ms&0xffff)
}

func (a *API) listTransactions(ctx context.Context, in *struct {
	Paging
	TransactionFilter
	Station string `query:"station" maxLength:"255" doc:"Only of this station"`
}) (*output[Page[store.Transaction]], error) {
	return a.transactions(ctx, ocpp.StationID(in.Station), in.TransactionFilter, in.page())
}

func (a *API) listStationTransactions(ctx context.Context, in *struct {
	StationPage
	TransactionFilter
}) (*output[Page[store.Transaction]], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	return a.transactions(ctx, id, in.TransactionFilter, in.page())
}

type TransactionRef struct {
	ID string `path:"id" maxLength:"36" doc:"Holdfast's id of the transaction"`
}

func (a *API) transaction(ctx context.Context, p TransactionRef) (store.Transaction, error) {
	t, err := a.cfg.CSMS.Record().TransactionByID(ctx, p.ID)
	if err != nil {
		return t, fmt.Errorf("transaction %s: %w", p.ID, err)
	}
	return t, nil
}

func (a *API) getTransaction(ctx context.Context, in *TransactionRef) (*output[TransactionView], error) {
	t, err := a.transaction(ctx, *in)
	return a.withGaps(ctx, t, err)
}

func (a *API) getStationTransaction(ctx context.Context, in *struct {
	StationRef
	Transaction string `path:"transaction" maxLength:"64" doc:"The station's id of the transaction"`
}) (*output[TransactionView], error) {
	id, err := in.station()
	if err != nil {
		return nil, err
	}
	t, err := a.cfg.CSMS.Record().Transaction(ctx, id, in.Transaction)
	if err != nil {
		err = fmt.Errorf("transaction %s of station %s: %w", in.Transaction, id, err)
	}
	return a.withGaps(ctx, t, err)
}

func (a *API) withGaps(ctx context.Context, t store.Transaction, err error) (*output[TransactionView], error) {
	if err != nil {
		return nil, err
	}
	gaps, err := a.cfg.CSMS.Record().Gaps(ctx, t.Station, t.TransactionID)
	return answer(TransactionView{t, gaps}, err)
}

type TransactionPage struct {
	TransactionRef
	Paging
}

func (a *API) transactionMeterValues(ctx context.Context, in *TransactionPage) (*output[Page[store.MeterValue]], error) {
	t, err := a.transaction(ctx, in.TransactionRef)
	if err != nil {
		return nil, err
	}
	return paged(a.cfg.CSMS.Record().MeterValues(ctx, store.MeterValueFilter{Station: t.Station, TransactionID: t.TransactionID}, in.page()))
}

func (a *API) transactionEvents(ctx context.Context, in *TransactionPage) (*output[Page[store.TransactionEvent]], error) {
	t, err := a.transaction(ctx, in.TransactionRef)
	if err != nil {
		return nil, err
	}
	return paged(a.cfg.CSMS.Record().TransactionEvents(ctx, t.Station, t.TransactionID, in.page()))
}
