package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"holdfast/leak"
	"holdfast/ocpp"
	"holdfast/store"
)

const (
	subjectBlock   = "leak.block"   // ten minutes of a process, for the comparison
	subjectVerdict = "leak.verdict" // a verdict that is new or has changed
	sampleInterval = 30 * time.Second
)

// told is a verdict as it crosses the bus; the csms records it as store.LeakVerdict.
type told struct {
	leak.Verdict
	Summary string `json:"summary"`
}

// instance names this process for people: its role, and the gateway or the host.
func instance(role, id string) (string, error) {
	if id == "" {
		host, err := os.Hostname()
		if err != nil {
			return "", fmt.Errorf("host name: %w (set --gateway-id)", err)
		}
		id = host
	}
	return role + "/" + id, nil
}

// startLeakDetector watches this process's memory.
func (p *process) startLeakDetector(f *adminFlags, role, id string) error {
	name, err := instance(role, id)
	if err != nil {
		return err
	}
	now, speed := leakClock()
	interval := time.Duration(float64(sampleInterval) / speed)
	account, b, log := p.admin.account, p.bus, p.log
	publish := func(subject string, v any) {
		data, err := json.Marshal(v)
		if err == nil {
			err = b.Publish(subject, data)
		}
		if err != nil {
			log.Debug("leak detector: publish", "subject", subject, "err", err)
		}
	}
	m := leak.NewMonitor(leak.MonitorConfig{
		Detector: leak.DetectorConfig{Process: name, Start: now(), Target: f.MemoryTarget},
		Interval: interval, Logger: log,
		Read: func() (leak.Sample, error) {
			r, err := account.Read()
			if err != nil {
				return leak.Sample{}, err
			}
			s := leak.SampleOf(r)
			s.Time = now()
			if gw := p.gateway; gw != nil {
				s.Opened = leak.Opened{TLS: gw.Established(ocpp.ProfileTLS), MTLS: gw.Established(ocpp.ProfileMTLS)}
			}
			return s, nil
		},
		Verdict: func(v leak.Verdict) { publish(subjectVerdict, told{v, v.String()}) },
		Blocks:  func(r leak.Report) { publish(subjectBlock, r) },
	})
	p.admin.watch(m)
	p.admin.register(m.Collectors())
	p.services.start("leak detector", m.Run, nil)
	return nil
}

// startVerdicts records what the leak detectors of all processes find.
func (p *process) startVerdicts(record *store.CSMS) {
	b, log := p.bus, p.log
	p.services.start("verdicts", func(ctx context.Context) error {
		return b.Listen(ctx, subjectVerdict, "csms", func(_ string, data []byte) {
			var v store.LeakVerdict
			if err := json.Unmarshal(data, &v); err != nil || v.ID == "" {
				log.Warn("a verdict that cannot be read", "err", err)
				return
			}
			if err := record.SaveLeakVerdict(ctx, v); err != nil && ctx.Err() == nil {
				log.Error("record a verdict", "process", v.Process, "class", v.Class, "err", err)
			}
		})
	}, nil)
}
