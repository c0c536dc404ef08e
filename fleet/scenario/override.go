package scenario

import (
	"slices"
	"time"

	"holdfast/fleet"
	"holdfast/ocpp"
)

// Override is what the command line says instead of the scenario. Zero values
// leave it as it is.
type Override struct {
	Stations int
	Profiles []ocpp.SecurityProfile // of every cohort
	Versions []ocpp.Version         // of every cohort
	For      time.Duration          // stretches all phases in proportion
	Rate     float64                // stations that join, per second
	Ramp     time.Duration          // time in which stations join
	Speed    float64
	Idle     bool     // nobody charges
	IDTags   []string // of every cohort
}

// Apply changes a scenario that was read.
func (s *Scenario) Apply(o Override) {
	if o.Stations > 0 {
		s.Stations = o.Stations
	}
	if o.Speed > 0 {
		s.Speed = o.Speed
	}
	if len(o.Profiles) > 0 {
		s.Profiles = o.Profiles
	}
	if len(o.Versions) > 0 {
		s.Versions = o.Versions
	}
	if o.Idle {
		s.Behaviour.SessionGap = Never
	}
	if len(o.IDTags) > 0 {
		s.Behaviour.IDTags = o.IDTags
	}
	for i := range s.Cohorts {
		c := &s.Cohorts[i]
		if len(o.Profiles) > 0 {
			c.Profiles = nil
		}
		if len(o.Versions) > 0 {
			c.Versions = nil
		}
		if o.Idle {
			c.Behaviour.SessionGap = Never
		}
		if len(o.IDTags) > 0 {
			c.Behaviour.IDTags = nil
		}
	}
	if whole := s.For(); o.For > 0 && whole > 0 {
		factor := float64(o.For) / float64(whole)
		scale := func(d *Duration) { *d = Duration(float64(*d) * factor) }
		for i := range s.Phases {
			p := &s.Phases[i]
			scale(&p.For)
			for k := range p.Connect {
				scale(&p.Connect[k].Within)
			}
			for k := range p.Leave {
				scale(&p.Leave[k].Within)
			}
			for k := range p.Storm {
				scale(&p.Storm[k].At)
				scale(&p.Storm[k].Within)
			}
		}
	}
	for i := range s.Phases {
		for k := range s.Phases[i].Connect {
			x := &s.Phases[i].Connect[k]
			if o.Rate > 0 {
				x.Rate, x.Within = Rate(o.Rate), 0
				if x.Arrival == AtOnce {
					x.Arrival = Even
				}
			}
			if o.Ramp > 0 {
				x.Rate, x.Within = 0, Duration(o.Ramp)
				s.Phases[i].For = max(s.Phases[i].For, Duration(o.Ramp))
				if x.Arrival == AtOnce {
					x.Arrival = Even
				}
			}
		}
	}
}

// over is b with the keys of c that are set.
func (b Behaviour) over(c Behaviour) Behaviour {
	for _, d := range []struct{ to, from *Duration }{
		{&b.SessionGap, &c.SessionGap}, {&b.SessionLength, &c.SessionLength}, {&b.MeterInterval, &c.MeterInterval}, {&b.UnplugDelay, &c.UnplugDelay},
		{&b.Heartbeat, &c.Heartbeat}, {&b.Ping, &c.Ping}, {&b.CallTimeout, &c.CallTimeout}, {&b.RebootTime, &c.RebootTime},
		{&b.BackOff.Minimum, &c.BackOff.Minimum}, {&b.BackOff.Random, &c.BackOff.Random}, {&b.Resend.Interval, &c.Resend.Interval},
	} {
		if *d.from != 0 {
			*d.to = *d.from
		}
	}
	if c.Arrival != "" {
		b.Arrival = c.Arrival
	}
	if len(c.Curve) > 0 {
		b.Curve = c.Curve
	}
	if len(c.IDTags) > 0 {
		b.IDTags = c.IDTags
	}
	if c.BackOff.Doublings > 0 {
		b.BackOff.Doublings = c.BackOff.Doublings
	}
	if c.Resend.Attempts > 0 {
		b.Resend.Attempts = c.Resend.Attempts
	}
	return b
}

// IDTags are all that drivers of the scenario show.
func (s *Scenario) IDTags() []string {
	var list []string
	add := func(tags []string) {
		for _, tag := range tags {
			if !slices.Contains(list, tag) {
				list = append(list, tag)
			}
		}
	}
	for i := range s.Cohorts {
		tags := s.Behaviour.over(s.Cohorts[i].Behaviour).IDTags
		if len(tags) == 0 {
			tags = []string{fleet.DefaultIDTag}
		}
		add(tags)
	}
	return list
}
