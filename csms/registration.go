package csms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"holdfast/ocpp"
	"holdfast/store"
)

// registered is what is remembered of a station between two CALLs.
type registered struct {
	registration store.Registration
	version      ocpp.Version
}

// registrations remembers stations' registrations, so that a Heartbeat needs no
// SQL. It never holds more than max: beyond, any one goes.
type registrations struct {
	mu      sync.Mutex
	max     int
	entries map[string]registered // by folded identity
	changes uint64                // grows with every change, so that a read that was overtaken by one is not remembered
}

func newRegistrations(max int) registrations {
	return registrations{max: max, entries: make(map[string]registered)}
}

func (r *registrations) get(key string) (e registered, known bool, changes uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, known = r.entries[key]
	return e, known, r.changes
}

// put remembers e unless something changed since get said changes.
func (r *registrations) put(key string, e registered, changes uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if changes != r.changes {
		return
	}
	if _, known := r.entries[key]; !known && len(r.entries) >= r.max {
		for victim := range r.entries {
			delete(r.entries, victim)
			break
		}
	}
	r.entries[key] = e
}

// change corrects what is remembered of a station.
func (r *registrations) change(key string, now store.Registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	if e, known := r.entries[key]; known {
		e.registration = now
		r.entries[key] = e
	}
}

// update takes over what was read from the record, unless something changed
// since get said changes: then the next reading tells.
func (r *registrations) update(read map[string]store.Registration, changes uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if changes != r.changes {
		return
	}
	for key, registration := range read {
		if e, known := r.entries[key]; known && e.registration != registration {
			e.registration = registration
			r.entries[key] = e
			r.changes++
		}
	}
}

func (r *registrations) forget(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes++
	delete(r.entries, key)
}

func (r *registrations) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.entries)
}

// registration returns the registration of the station that sent m, from
// storage if it is not remembered: a station that reconnects does not boot. At
// first contact the station's row is made. The version spoken is recorded when
// it changes.
func (c *CSMS) registration(ctx context.Context, m Message) (store.Registration, error) {
	key := m.Station.Fold()
	e, known, changes := c.registrations.get(key)
	if !known {
		var err error
		e.registration, e.version, err = c.store.Meet(ctx, m.Station, c.settings.RegistrationDefault, m.ReceivedAt)
		if err != nil {
			return "", fmt.Errorf("registration of station %s: %w", m.Station, err)
		}
	}
	if e.version != m.Version {
		if err := c.store.SetVersion(ctx, m.Station, m.Version); err != nil {
			return "", fmt.Errorf("version of station %s: %w", m.Station, err)
		}
		e.version, known = m.Version, false
	}
	if !known {
		c.registrations.put(key, e, changes)
	}
	return e.registration, nil
}

// Registration returns what a station is told when it boots.
func (c *CSMS) Registration(ctx context.Context, station ocpp.StationID) (store.Registration, error) {
	s, err := c.store.Station(ctx, station)
	return s.Registration, err
}

// Introduce makes the row of a station that is registered and has never
// connected, so that what operators want of it can be recorded.
func (c *CSMS) Introduce(ctx context.Context, station ocpp.StationID) error {
	_, _, err := c.store.Meet(ctx, station, c.settings.RegistrationDefault, c.now())
	return err
}

// SetRegistration changes what a station is told when it boots next, and what it
// may send from now on. A station that waits for its acceptance is asked to boot.
// Other processes on the same record follow within seconds.
func (c *CSMS) SetRegistration(ctx context.Context, station ocpp.StationID, r store.Registration, by string) error {
	if !r.Valid() {
		return fmt.Errorf("registration %q is none of Accepted, Pending, Rejected", r)
	}
	before, err := c.store.Station(ctx, station)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("set registration of station %s: %w", station, err)
	}
	if err := c.store.SetRegistration(ctx, station, r, c.now()); err != nil {
		return fmt.Errorf("set registration of station %s: %w", station, err)
	}
	c.registrations.change(station.Fold(), r)
	c.log.Info("registration set", "station", station, "registration", string(r), "by", by)
	if r != store.Accepted || before.Registration != store.Pending || !before.Connected {
		return nil
	}
	// Some stations wait for ever while they are Pending.
	_, err = c.CommandAsync(ctx, Command{Station: station, Action: "TriggerMessage", By: by,
		Payload: json.RawMessage(`{"requestedMessage":"BootNotification"}`)})
	return err
}

// Forget removes a station's operational row, so that its next contact is its
// first. Transactions and other records of it stay, out of sight until it returns.
func (c *CSMS) Forget(ctx context.Context, station ocpp.StationID) error {
	if err := c.store.Forget(ctx, station); err != nil {
		return fmt.Errorf("forget station %s: %w", station, err)
	}
	c.registrations.forget(station.Fold())
	if err := c.store.EndOperations(ctx, station, "the station was removed", c.now()); err != nil {
		return fmt.Errorf("end operations of station %s: %w", station, err)
	}
	return nil
}

const (
	followEvery = 5 * time.Second
	// followBack allows for clocks of other processes and commits that take a while.
	followBack = 2 * time.Minute
)

// follow takes over the registrations that other processes changed.
func (c *CSMS) follow(ctx context.Context) error {
	_, _, changes := c.registrations.get("")
	changed, err := c.store.RegistrationsSince(ctx, c.now().Add(-followBack))
	if err != nil {
		return err
	}
	c.registrations.update(changed, changes)
	return nil
}
