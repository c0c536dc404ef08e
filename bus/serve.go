package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
)

// serve runs do for each message of ch, at most limit at a time, until ctx
// ends; then it takes sub back (if not nil) and waits for those that run.
func serve(ctx context.Context, sub *nats.Subscription, ch chan *nats.Msg, limit int, do func(*nats.Msg)) error {
	places := make(chan struct{}, limit)
	var running sync.WaitGroup
	start := func(m *nats.Msg) {
		places <- struct{}{}
		running.Go(func() {
			defer func() { <-places }()
			do(m)
		})
	}
	for {
		select {
		case m := <-ch:
			start(m)
			continue
		case <-ctx.Done():
		}
		break
	}
	if sub != nil {
		sub.Unsubscribe()
		for { // what was delivered already is ours alone
			select {
			case m := <-ch:
				start(m)
				continue
			default:
			}
			break
		}
	}
	running.Wait()
	return nil
}

// ErrNobody: no process serves that subject now.
var ErrNobody = errors.New("nobody serves this")

// maxRequests is how many requests of one Serve run at a time. Few of them
// compute: most wait, for the database or for their turn to hash a password, and
// must not keep those from running that wait for neither.
const maxRequests = 4096

// Serve answers requests on subject (which may hold wildcards) until ctx ends.
// Processes of the same group share them. What handle returns is the reply; its
// error travels as text, so handle encodes what callers must tell apart.
func (b *Bus) Serve(ctx context.Context, subject, group string, handle func(ctx context.Context, subject string, data []byte) ([]byte, error)) error {
	ch := make(chan *nats.Msg, maxQueued)
	sub, err := b.nc.ChanQueueSubscribe(subject, group, ch)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return serve(ctx, sub, ch, maxRequests, func(m *nats.Msg) {
		ctx, cancel := context.WithTimeout(context.Background(), defaultTime)
		defer cancel()
		reply := nats.NewMsg(m.Reply)
		data, err := handle(ctx, m.Subject, m.Data)
		if err != nil {
			reply.Header[headText] = []string{oneLine(err.Error())}
		}
		reply.Data = data
		if m.Reply != "" {
			b.nc.PublishMsg(reply)
		}
	})
}

// Request asks whoever serves subject. ErrNobody says that nobody does.
func (b *Bus) Request(ctx context.Context, subject string, data []byte) ([]byte, error) {
	reply, err := b.nc.RequestWithContext(ctx, subject, data)
	if err != nil {
		if unavailable(err) {
			return nil, fmt.Errorf("%s: %w", subject, ErrNobody)
		}
		return nil, fmt.Errorf("%s: %w", subject, err)
	}
	if text := reply.Header.Get(headText); text != "" {
		return nil, fmt.Errorf("%s: %s", subject, text)
	}
	return reply.Data, nil
}

// Listen calls do for each message on subject until ctx ends, one at a time and
// in order. With a group, the processes of the group share the messages.
func (b *Bus) Listen(ctx context.Context, subject, group string, do func(subject string, data []byte)) error {
	return b.listen(ctx, subject, group, 1, do)
}

// ListenMany is Listen with up to limit calls of do at a time, in no order.
func (b *Bus) ListenMany(ctx context.Context, subject, group string, limit int, do func(subject string, data []byte)) error {
	return b.listen(ctx, subject, group, limit, do)
}

func (b *Bus) listen(ctx context.Context, subject, group string, limit int, do func(string, []byte)) error {
	ch := make(chan *nats.Msg, maxQueued)
	var sub *nats.Subscription
	var err error
	if group == "" {
		sub, err = b.nc.ChanSubscribe(subject, ch)
	} else {
		sub, err = b.nc.ChanQueueSubscribe(subject, group, ch)
	}
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return serve(ctx, sub, ch, limit, func(m *nats.Msg) { do(m.Subject, m.Data) })
}
