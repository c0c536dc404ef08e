package csms

import (
	"context"
	"fmt"
	"strconv"

	"holdfast/ocpp"
	"holdfast/store"
)

const (
	// maxMeterValues is how many meter values of one message are recorded.
	maxMeterValues = 4096
	// maxTransactionID is the longest transaction id, in bytes; OCPP allows 36 characters.
	maxTransactionID = 144
)

// StartTransaction records the start of a transaction of OCPP 1.6 once, however
// often it is sent, and returns its id: positive, 31 bits, unique. s needs only
// what the message says.
func (c *CSMS) StartTransaction(ctx context.Context, m Message, s store.Start) (id int, v store.Verdict, err error) {
	number, err := c.numbers.take(ctx)
	if err != nil {
		return 0, v, err
	}
	s.Station, s.ReceivedAt, s.Quality, s.Number = m.Station, m.ReceivedAt, m.Quality, number
	s.Token, s.CountOpen = clip(s.Token, maxText), c.settings.ConcurrentTx
	started, err := c.store.StartTransaction(ctx, s, c.decide(m.ReceivedAt))
	if err != nil {
		return 0, v, fmt.Errorf("record start of transaction: %w", err)
	}
	if id, err = strconv.Atoi(started.TransactionID); err != nil {
		return 0, v, fmt.Errorf("transaction id %q of station %s: %w", started.TransactionID, m.Station, err)
	}
	if started.Duplicate {
		c.numbers.giveBack(number)
		c.metrics.duplicates.WithLabelValues(m.Action.Name).Inc()
	} else {
		c.tell(EventTransaction, m.Station, TransactionData{TransactionID: started.TransactionID, Event: store.EventStarted, Connector: s.Connector})
	}
	return id, started.Verdict, nil
}

// StopTransaction records the end of a transaction of OCPP 1.6 once. Whatever id
// the station gives, it is answered as if valid (errata 3.18): a stop of nothing
// known is kept as an orphan. The Verdict is empty if s has no token.
func (c *CSMS) StopTransaction(ctx context.Context, m Message, s store.Stop) (store.Verdict, error) {
	s.Station, s.ReceivedAt, s.Quality = m.Station, m.ReceivedAt, m.Quality
	s.Token, s.Reason = clip(s.Token, maxText), clip(s.Reason, maxText)
	if len(s.MeterValues) > maxMeterValues {
		c.metrics.notRecorded.WithLabelValues("meter_values").Add(float64(len(s.MeterValues) - maxMeterValues))
		s.Quality = clip(fmt.Sprintf("%d meter values, %d recorded; %s", len(s.MeterValues), maxMeterValues, s.Quality), maxQuality)
		s.MeterValues = s.MeterValues[:maxMeterValues]
	}
	c.received(m, s.MeterValues)
	stopped, err := c.store.StopTransaction(ctx, s, c.decide(m.ReceivedAt))
	if err != nil {
		return store.Verdict{}, fmt.Errorf("record end of transaction: %w", err)
	}
	if stopped.Duplicate {
		c.metrics.duplicates.WithLabelValues(m.Action.Name).Inc()
	} else {
		c.tell(EventTransaction, m.Station, TransactionData{TransactionID: stopped.TransactionID, Event: store.EventEnded, Reason: s.Reason})
	}
	return stopped.Verdict, nil
}

// TransactionEvent records an event of OCPP 2.x once by its sequence number, in
// whatever order events come (E01 to E04). e needs only what the message says;
// its TokenType NoAuthorization is always Accepted. The Verdict is empty if e has
// neither token nor type.
func (c *CSMS) TransactionEvent(ctx context.Context, m Message, e store.TransactionEvent) (store.Verdict, error) {
	e.Station, e.Version, e.ReceivedAt, e.Quality = m.Station, m.Version, m.ReceivedAt, m.Quality
	e.CountOpen = c.settings.ConcurrentTx
	if e.TransactionID == "" || len(e.TransactionID) > maxTransactionID {
		return store.Verdict{}, refused(ocpp.PropertyConstraintViolation, "transactionId has 1 to 36 characters")
	}
	if len(e.MeterValues) > maxMeterValues {
		return store.Verdict{}, refused(ocpp.OccurrenceConstraintViolation, "meterValue: at most %d", maxMeterValues)
	}
	for _, s := range []*string{&e.Type, &e.TriggerReason, &e.ChargingState, &e.Token, &e.TokenType, &e.StoppedReason} {
		*s = clip(*s, maxText)
	}
	for i := range e.MeterValues {
		e.MeterValues[i].SeqNo = &e.SeqNo
		e.MeterValues[i].EVSE, e.MeterValues[i].Connector = e.EVSE, e.Connector
	}
	c.received(m, e.MeterValues)
	recorded, err := c.store.AddTransactionEvent(ctx, e, c.decide(m.ReceivedAt))
	if err != nil {
		return store.Verdict{}, fmt.Errorf("record transaction event: %w", err)
	}
	if recorded.Duplicate {
		c.metrics.duplicates.WithLabelValues(m.Action.Name).Inc()
	} else {
		c.tell(EventTransaction, m.Station, TransactionData{TransactionID: e.TransactionID, Event: e.Type,
			EVSE: e.EVSE, Connector: e.Connector, ChargingState: e.ChargingState, Reason: e.StoppedReason})
	}
	if e.TokenType == NoAuthorization {
		return store.Verdict{Status: TokenAccepted}, nil
	}
	return recorded.Verdict, nil
}

// MeterValues records meter values outside of transaction events, each once.
// transactionID may be empty.
func (c *CSMS) MeterValues(ctx context.Context, m Message, transactionID string, values []store.MeterValue) error {
	if len(values) > maxMeterValues {
		return refused(ocpp.OccurrenceConstraintViolation, "meterValue: at most %d", maxMeterValues)
	}
	c.received(m, values)
	if err := c.store.AddMeterValues(ctx, m.Station, transactionID, values); err != nil {
		return fmt.Errorf("record meter values: %w", err)
	}
	return nil
}

func (c *CSMS) received(m Message, values []store.MeterValue) {
	for i := range values {
		values[i].ReceivedAt, values[i].Quality = m.ReceivedAt, m.Quality
	}
}
