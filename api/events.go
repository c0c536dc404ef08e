package api

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"holdfast/csms"
	"holdfast/ocpp"
)

const (
	// maxBehind is how many events wait for one client; one that is further
	// behind is dropped.
	maxBehind = 256
	// resubscribe is the pause after the subscription of events broke.
	resubscribe = time.Second
)

// hub hands events to the clients of the event stream.
type hub struct {
	mu      sync.Mutex
	clients map[*client]struct{} // as many as there are streams at most
}

// client is one stream of events.
type client struct {
	want   func(csms.Event) bool
	events chan csms.Event // closed by the hub when it is full
}

func newHub() *hub { return &hub{clients: make(map[*client]struct{})} }

func (h *hub) add(want func(csms.Event) bool) *client {
	c := &client{want: want, events: make(chan csms.Event, maxBehind)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients[c] = struct{}{}
	return c
}

func (h *hub) remove(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.clients, c)
}

// publish hands an event to all who want it and waits for nobody.
func (h *hub) publish(e csms.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.clients {
		if !c.want(e) {
			continue
		}
		select {
		case c.events <- e:
		default:
			delete(h.clients, c)
			close(c.events)
		}
	}
}

// subscribe receives events until ctx ends.
func (a *API) subscribe(ctx context.Context) {
	for ctx.Err() == nil {
		a.metrics.subscribing.Set(1)
		err := a.cfg.Events(ctx, a.events.publish)
		a.metrics.subscribing.Set(0)
		if ctx.Err() != nil {
			return
		}
		a.log.Warn("subscription of events broke; trying again", "err", err)
		select {
		case <-time.After(resubscribe):
		case <-ctx.Done():
		}
	}
}

func (a *API) registerEvents() {
	register(a, operation{id: "follow-events", method: "GET", path: "/api/v1/events", role: RoleRead, tag: tagEvents, stream: true, item: csms.Event{},
		summary: "Follow what happens",
		detail: "Server-sent events named connected, disconnected, booted, status and transaction, from the moment of the request on. " +
			"They are news, not the record: events are lost while the client or a part of Holdfast is away. " +
			"A client that falls 256 events behind is dropped, with a last event named end that says reason slow."}, a.followEvents)
}

type eventsInput struct {
	Kinds   []string `query:"kinds" enum:"connected,disconnected,booted,status,transaction" maxItems:"5" doc:"Only these, separated by commas"`
	Station string   `query:"station" maxLength:"255" doc:"Only of this station"`
}

func (a *API) followEvents(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	station := ocpp.StationID(in.Station).Fold()
	want := func(e csms.Event) bool {
		return (len(in.Kinds) == 0 || slices.Contains(in.Kinds, string(e.Kind))) && (station == "" || e.Station.Fold() == station)
	}
	return a.streaming("follow-events", func(ctx context.Context, send func(name, id string, data any) error) error {
		c := a.events.add(want)
		defer a.events.remove(c)
		for {
			select {
			case e, ok := <-c.events:
				if !ok {
					return errStreamSlow
				}
				if err := send(string(e.Kind), "", e); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}
