package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"holdfast/gateway"
	"holdfast/leak"
	"holdfast/ocpp"
	"holdfast/store"
)

const (
	subjectBlock   = "leak.block"   // ten minutes of a process, for the comparison
	subjectVerdict = "leak.verdict" // a verdict of a process that is new or has changed
	subjectFleet   = "leak.fleet"   // the same of the comparison, and cohorts that were found
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
	clock := newLeakTime(p)
	evidence, err := leak.OpenEvidence(leak.EvidenceConfig{Dir: f.Evidence, TraceTime: clock.trace()})
	if err != nil {
		return err
	}
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
		Detector: leak.DetectorConfig{Process: name, Start: clock.now(), Target: f.MemoryTarget},
		Logger:   log, Evidence: evidence,
		Read: func() (leak.Sample, error) {
			r, err := account.Read()
			if err != nil {
				return leak.Sample{}, err
			}
			s := leak.SampleOf(r)
			s.Time = clock.now()
			if gw := p.gateway; gw != nil {
				s.Opened = leak.Opened{TLS: gw.Established(ocpp.ProfileTLS), MTLS: gw.Established(ocpp.ProfileMTLS)}
				retained(&s, gw.Census())
			}
			return s, nil
		},
		Verdict: func(v leak.Verdict) { publish(subjectVerdict, told{v, v.String()}) },
		Blocks:  func(r leak.Report) { publish(subjectBlock, r) },
	})
	p.admin.watch(m, evidence)
	p.admin.register(m.Collectors())
	p.services.start("leak detector", clock.detector(m), nil)
	return nil
}

// retained fills in the closed connections that something holds. A connection
// is several objects; it counts when any of them is held.
func retained(s *leak.Sample, census []gateway.Retired) {
	held := make(map[string]map[string]int64) // by object and security profile
	for _, r := range census {
		if held[r.Object] == nil {
			held[r.Object] = make(map[string]int64)
		}
		held[r.Object][r.Profile] += int64(r.Zombies)
	}
	most := func(profile ocpp.SecurityProfile) (n int64) {
		for _, by := range held {
			n = max(n, by[profile.Label()])
		}
		return n
	}
	s.Zombies = leak.Opened{TLS: most(ocpp.ProfileTLS), MTLS: most(ocpp.ProfileMTLS)}
	s.Values[leak.Retained.Index()] = float64(s.Zombies.TLS + s.Zombies.MTLS + most(ocpp.ProfilePlain))
}

// startVerdicts records what the leak detectors of all processes find, and
// compares the gateways. Every csms does: they come to the same result, and a
// verdict is recorded once.
func (p *process) startVerdicts(ctx context.Context, record *store.CSMS) error {
	b, log := p.bus, p.log
	open, err := openVerdicts(ctx, record)
	if err != nil {
		return err
	}
	contrast := leak.NewContrast(open)
	p.admin.register(contrast.Collectors())
	save := func(ctx context.Context, v leak.Verdict) {
		if err := record.SaveLeakVerdict(ctx, recorded(v)); err != nil && ctx.Err() == nil {
			log.Error("record a verdict", "process", v.Process, "class", v.Class, "err", err)
		}
	}
	p.services.start("verdicts", func(ctx context.Context) error {
		return b.Listen(ctx, subjectVerdict, "", func(_ string, data []byte) {
			var v leak.Verdict
			if err := json.Unmarshal(data, &v); err != nil || v.ID == "" {
				log.Warn("a verdict that cannot be read", "err", err)
				return
			}
			save(ctx, contrast.Hear(v))
		})
	}, nil)
	p.services.start("comparison of gateways", func(ctx context.Context) error {
		return b.Listen(ctx, subjectBlock, "", func(_ string, data []byte) {
			var r leak.Report
			if err := json.Unmarshal(data, &r); err != nil || r.Process == "" {
				log.Warn("a report of memory that cannot be read", "err", err)
				return
			}
			for _, v := range contrast.Add(r) {
				leak.Log(log, v)
				save(ctx, v)
				if data, err := json.Marshal(told{v, v.String()}); err == nil {
					b.Publish(subjectFleet, data) // the record has it
				}
			}
		})
	}, nil)
	return nil
}

// openVerdicts are those that stand in the record, the newest 1,000: this csms
// goes on where the one before it stopped.
func openVerdicts(ctx context.Context, record *store.CSMS) ([]leak.Verdict, error) {
	page, err := record.LeakVerdicts(ctx, store.LeakVerdictFilter{Open: true}, store.Page{Limit: 1000})
	if err != nil {
		return nil, fmt.Errorf("verdicts that stand: %w", err)
	}
	list := make([]leak.Verdict, len(page.Items))
	for i, v := range page.Items {
		list[i] = remembered(v)
	}
	return list, nil
}

// remembered is the opposite of recorded.
func remembered(v store.LeakVerdict) leak.Verdict {
	return leak.Verdict{
		ID: v.ID, Process: v.Process, Class: leak.Class(v.Class), Cohort: leak.Cohort(v.Cohort), State: leak.State(v.State),
		Time: v.Time, Changed: v.Changed, Ended: v.Ended, Onset: v.Onset, Kept: v.Kept,
		WindowHours: v.WindowHours, Growth: v.Growth, P: v.P,
		Forecast: leak.Forecast{
			PerDay: leak.Estimate(v.Forecast.PerDay), PerReconnect: leak.Estimate(v.Forecast.PerReconnect), RSSPerDay: leak.Estimate(v.Forecast.RSSPerDay),
			HoursToLimit: leak.Estimate(v.Forecast.HoursToLimit), PodsPerWeek: leak.Estimate(v.Forecast.PodsPerWeek),
		},
	}
}

// recorded is a verdict as the record keeps it.
func recorded(v leak.Verdict) store.LeakVerdict {
	estimate := func(e leak.Estimate) store.LeakEstimate { return store.LeakEstimate(e) }
	return store.LeakVerdict{
		ID: v.ID, Process: v.Process, Class: string(v.Class), Cohort: string(v.Cohort), State: string(v.State),
		Time: v.Time, Changed: v.Changed, Ended: v.Ended, Onset: v.Onset, Kept: v.Kept,
		WindowHours: v.WindowHours, Growth: v.Growth, P: v.P, Summary: v.String(),
		Forecast: store.LeakForecast{
			PerDay: estimate(v.Forecast.PerDay), PerReconnect: estimate(v.Forecast.PerReconnect), RSSPerDay: estimate(v.Forecast.RSSPerDay),
			HoursToLimit: estimate(v.Forecast.HoursToLimit), PodsPerWeek: estimate(v.Forecast.PodsPerWeek),
		},
	}
}
