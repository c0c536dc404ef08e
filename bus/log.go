package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"holdfast/ocpp"
)

// Frame is one message of the message log, secrets already redacted.
type Frame struct {
	Seq       uint64         `json:"seq" doc:"Position in the log; pass the last one as after to go on"`
	At        time.Time      `json:"at"`
	Station   ocpp.StationID `json:"station"`
	Direction ocpp.Direction `json:"direction" enum:"up,down" doc:"up: from the station"`
	Gateway   string         `json:"gateway"`
	Frame     string         `json:"frame" doc:"The OCPP-J message, secrets redacted, cut at 64 KiB"`
}

// LogLimits bound the message log. The oldest frames make room.
type LogLimits struct {
	Age        time.Duration // zero means 7 days
	Bytes      int64         // zero means 1 GiB
	PerStation int64         // zero means 1,000 frames
}

// logStream keeps the subjects log.>.
const logStream = "MESSAGES"

// OpenLog creates the message log or gives it new limits.
func (b *Bus) OpenLog(ctx context.Context, limits LogLimits) error {
	if limits.Age == 0 {
		limits.Age = 7 * 24 * time.Hour
	}
	if limits.Bytes == 0 {
		limits.Bytes = 1 << 30
	}
	if limits.PerStation == 0 {
		limits.PerStation = 1000
	}
	_, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: logStream, Description: "every OCPP message of every station", Subjects: []string{"log.>"},
		Storage: jetstream.FileStorage, Discard: jetstream.DiscardOld, NoAck: true,
		MaxAge: limits.Age, MaxBytes: limits.Bytes, MaxMsgsPerSubject: limits.PerStation,
		Compression: jetstream.S2Compression,
	})
	if err != nil {
		return fmt.Errorf("message log (JetStream stream %s): %w", logStream, err)
	}
	return nil
}

// LogFrame appends a frame to the station's log. It does not wait for the
// stream: the log is evidence, not the record.
func (b *Bus) LogFrame(gateway string, station ocpp.StationID, direction ocpp.Direction, frame []byte) error {
	m := &nats.Msg{Subject: "log." + token(station), Data: frame, Header: nats.Header{
		headStation: []string{string(station)}, "Dir": []string{string(direction)}, "G": []string{gateway},
	}}
	return b.nc.PublishMsg(m)
}

// Frames returns up to limit frames of a station after position after, oldest
// first; with last, the newest limit frames instead.
func (b *Bus) Frames(ctx context.Context, station ocpp.StationID, after uint64, limit int, last bool) ([]Frame, error) {
	c, err := b.frames(ctx, station, after)
	if err != nil {
		return nil, err
	}
	defer b.done(c)
	var out []Frame
	for len(out) < limit || last {
		n := maxFetch
		if !last {
			n = min(limit-len(out), maxFetch)
		}
		batch, err := c.FetchNoWait(n)
		if err != nil {
			return nil, fmt.Errorf("read the log of station %s: %w", station, err)
		}
		n = 0
		for m := range batch.Messages() {
			n++
			if f, ok := frameOf(m); ok {
				out = append(out, f)
			}
		}
		if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) && n == 0 {
			return nil, fmt.Errorf("read the log of station %s: %w", station, err)
		}
		if n == 0 {
			break
		}
		if last && len(out) > 2*limit {
			out = append(out[:0], out[len(out)-limit:]...)
		}
	}
	if last && len(out) > limit {
		out = out[len(out)-limit:]
	}
	return out, nil
}

// FollowFrames calls do for each frame of a station after position after, and
// for new ones as they come, until ctx ends or do fails.
func (b *Bus) FollowFrames(ctx context.Context, station ocpp.StationID, after uint64, do func(Frame) error) error {
	c, err := b.frames(ctx, station, after)
	if err != nil {
		return err
	}
	defer b.done(c)
	it, err := c.Messages()
	if err != nil {
		return fmt.Errorf("follow the log of station %s: %w", station, err)
	}
	stop := context.AfterFunc(ctx, it.Stop)
	defer stop()
	defer it.Stop()
	for {
		m, err := it.Next()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, jetstream.ErrMsgIteratorClosed) {
				return ctx.Err()
			}
			return fmt.Errorf("follow the log of station %s: %w", station, err)
		}
		if f, ok := frameOf(m); ok {
			if err := do(f); err != nil {
				return err
			}
		}
	}
}

// maxFetch is how many frames one request to the stream asks for.
const maxFetch = 500

func (b *Bus) frames(ctx context.Context, station ocpp.StationID, after uint64) (jetstream.Consumer, error) {
	c, err := b.js.OrderedConsumer(ctx, logStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{"log." + token(station)},
		DeliverPolicy:  jetstream.DeliverByStartSequencePolicy, OptStartSeq: after + 1,
		InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("read the log of station %s: %w", station, err)
	}
	return c, nil
}

// done gives a reader back to the server, which would keep it for a while.
func (b *Bus) done(c jetstream.Consumer) {
	info := c.CachedInfo()
	if info == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := b.js.DeleteConsumer(ctx, logStream, info.Name); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		b.log.Debug("a reader of the message log stays for a while", "err", err)
	}
}

func frameOf(m jetstream.Msg) (Frame, bool) {
	meta, err := m.Metadata()
	if err != nil {
		return Frame{}, false
	}
	h := m.Headers()
	return Frame{
		Seq: meta.Sequence.Stream, At: meta.Timestamp.UTC(),
		Station: ocpp.StationID(h.Get(headStation)), Direction: ocpp.Direction(h.Get("Dir")),
		Gateway: h.Get("G"), Frame: string(m.Data()),
	}, true
}

// LogSize returns how many frames and bytes the message log holds.
func (b *Bus) LogSize(ctx context.Context) (frames, bytes uint64, err error) {
	s, err := b.js.Stream(ctx, logStream)
	if err != nil {
		return 0, 0, fmt.Errorf("message log: %w", err)
	}
	return s.CachedInfo().State.Msgs, s.CachedInfo().State.Bytes, nil
}
