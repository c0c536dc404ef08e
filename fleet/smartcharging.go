package fleet

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// maxPeriods is how many periods a schedule may have (ChargingScheduleMaxPeriods,
// PeriodsPerSchedule).
const maxPeriods = 24

// A limit in A is one per phase, at the nominal voltage; a period that does not
// say how many phases means three (OCPP 1.6 §7.11, 2.x ChargingSchedulePeriodType).
const (
	nominalVoltage = 230
	defaultPhases  = 3
)

// The purposes of charging profiles. 1.6 calls the station's limit
// ChargePointMaxProfile.
const (
	purposeStation   = "ChargingStationMaxProfile"
	purposeStation16 = "ChargePointMaxProfile"
	purposeExternal  = "ChargingStationExternalConstraints"
	purposeDefault   = "TxDefaultProfile"
	purposeTx        = "TxProfile"
)

// maxStackLevel is the highest stack level (ChargeProfileMaxStackLevel,
// ProfileStackLevel).
const maxStackLevel = 8

// chargingProfile is one profile that the server set.
type chargingProfile struct {
	connector   int // as in the message: 0 is the station
	id          int
	stackLevel  int
	purpose     string
	transaction string    // of a TxProfile, if the message names it
	kind        string    // Absolute, Recurring, Relative (to the start of a transaction)
	recurrency  string    // Daily, Weekly
	from, to    time.Time // of its validity; zero: no bound
	start       time.Time // of the schedule, where it is not relative
	schedule    chargingSchedule
	told        *profile2x // as the server set it, 2.x
}

type chargingSchedule struct {
	ID       *int             `json:"id,omitempty"` // 2.x
	Unit     string           `json:"chargingRateUnit"`
	Duration *int             `json:"duration,omitempty"` // seconds
	Start    string           `json:"startSchedule,omitempty"`
	Periods  []schedulePeriod `json:"chargingSchedulePeriod"`
}

type schedulePeriod struct {
	Start  int     `json:"startPeriod"` // seconds
	Limit  float64 `json:"limit"`
	Phases *int    `json:"numberPhases,omitempty"`
}

// impossible reports whether a period says what no station can do; ours gives no
// power back to the grid.
func (p schedulePeriod) impossible() bool {
	return p.Limit < 0 || p.Phases != nil && (*p.Phases < 1 || *p.Phases > 3)
}

// profileTimes are the fields of both versions' profiles that say when they count.
type profileTimes struct {
	Kind       string `json:"chargingProfileKind"`
	Recurrency string `json:"recurrencyKind,omitempty"`
	From       string `json:"validFrom,omitempty"`
	To         string `json:"validTo,omitempty"`
}

// newProfile completes a profile, or says as a reasonCode why it makes no sense.
func (s *station) newProfile(p chargingProfile, t profileTimes) (_ chargingProfile, why string) {
	p.kind, p.recurrency, p.start = t.Kind, t.Recurrency, s.clock(s.f.elapsed())
	for _, x := range []struct {
		text string
		to   *time.Time
	}{{t.From, &p.from}, {t.To, &p.to}, {p.schedule.Start, &p.start}} {
		if x.text == "" {
			continue
		}
		var err error
		if *x.to, err = time.Parse(time.RFC3339, x.text); err != nil {
			return p, "InvalidValue"
		}
	}
	periods := p.schedule.Periods
	switch recurs := (p.recurrency == "Daily" || p.recurrency == "Weekly") && p.schedule.Start != ""; {
	case p.kind != "Absolute" && p.kind != "Relative" && (p.kind != "Recurring" || !recurs):
		return p, "InvalidProfile"
	case p.stackLevel < 0 || p.stackLevel > maxStackLevel:
		return p, "InvalidStackLevel"
	case len(periods) > maxPeriods:
		return p, "TooManyElements"
	case p.schedule.Unit != "W" && p.schedule.Unit != "A", p.schedule.Duration != nil && *p.schedule.Duration < 0, slices.ContainsFunc(periods, schedulePeriod.impossible):
		return p, "InvalidSchedule"
	case len(periods) == 0 || periods[0].Start != 0 || !slices.IsSortedFunc(periods, func(a, b schedulePeriod) int { return cmp.Compare(a.Start, b.Start) }):
		return p, "InvalidSchedule"
	}
	return p, ""
}

// setProfile applies SetChargingProfile: a profile replaces the one with its id,
// and the one with its stack level and purpose at the same connector. One for a
// transaction needs that it runs there: OCPP 1.6 may leave out which, 2.x has to
// name it (2.x SetChargingProfile).
func (s *station) setProfile(p chargingProfile) (status, why string) {
	if p.connector < 0 || p.connector > len(s.connectors) {
		return "Rejected", "UnknownEvse"
	}
	switch p.purpose {
	case purposeTx:
		switch {
		case p.connector == 0:
			return "Rejected", "InvalidProfile"
		case p.transaction == "" && s.id.Version.Is2x():
			return "Rejected", "MissingParam"
		case p.transaction != "" && s.connectorOf(p.transaction) != p.connector-1, s.connectors[p.connector-1].tx == nil:
			return "Rejected", "TxNotFound"
		}
	case purposeStation, purposeStation16, purposeExternal:
		if p.connector != 0 {
			return "Rejected", "InvalidProfile" // it is the station's
		}
	}
	s.readMeters()
	if !s.keepProfile(p) {
		return "Rejected", "TooManyElements"
	}
	s.followLimits()
	return "Accepted", ""
}

// keepProfile keeps a profile in place of those that it replaces, and reports
// whether there was room.
func (s *station) keepProfile(p chargingProfile) bool {
	x := s.more()
	x.profiles = slices.DeleteFunc(x.profiles, func(old chargingProfile) bool {
		return old.id == p.id || old.connector == p.connector && old.stackLevel == p.stackLevel && old.purpose == p.purpose
	})
	if len(x.profiles) >= maxProfiles {
		return false
	}
	x.profiles = append(x.profiles, p)
	return true
}

// startProfile says as a reasonCode why p is nothing to begin a transaction with:
// it is for that one, which has no id yet (OCPP 1.6 §5.16.2, 2.x
// RequestStartTransaction).
func (s *station) startProfile(p chargingProfile) (why string) {
	switch {
	case p.purpose != purposeTx || p.transaction != "":
		return "InvalidProfile"
	case s.extra != nil && len(s.extra.profiles) >= maxProfiles:
		return "TooManyElements"
	}
	return ""
}

// clearProfiles removes those that match.
func (s *station) clearProfiles(match func(chargingProfile) bool) string {
	if s.extra == nil {
		return "Unknown"
	}
	s.readMeters()
	before := len(s.extra.profiles)
	s.extra.profiles = slices.DeleteFunc(s.extra.profiles, match)
	s.followLimits()
	if len(s.extra.profiles) == before {
		return "Unknown"
	}
	return "Accepted"
}

// criterion selects charging profiles; what it leaves out, any may have.
type criterion struct {
	connector *int
	purpose   string
	level     *int
}

func (c criterion) meets(p *chargingProfile) bool {
	return (c.connector == nil || *c.connector == p.connector) && (c.purpose == "" || c.purpose == p.purpose) &&
		(c.level == nil || *c.level == p.stackLevel)
}

// clearProfile applies ClearChargingProfile: to the profile with the id, if one is
// given, else to those that meet the criterion.
func (s *station) clearProfile(id *int, c criterion) string {
	return s.clearProfiles(func(p chargingProfile) bool {
		if id != nil {
			return p.id == *id
		}
		return c.meets(&p)
	})
}

// endTxProfiles removes what was set for the transaction at connector i, which
// ends (OCPP 1.6 §3.13.1, 2.x TxProfile).
func (s *station) endTxProfiles(i int) {
	if s.extra != nil {
		s.extra.profiles = slices.DeleteFunc(s.extra.profiles, func(p chargingProfile) bool { return p.purpose == purposeTx && p.connector == i+1 })
	}
}

// readMeters brings every running register up to now, before the power changes.
func (s *station) readMeters() {
	for i := range s.connectors {
		if s.connectors[i].tx != nil {
			s.sample(i, s.f.elapsed())
		}
	}
}

// followLimits lets cars draw what is allowed from now on.
func (s *station) followLimits() {
	for i := range s.connectors {
		if c := &s.connectors[i]; c.tx != nil {
			c.power = s.power(i, c.tx.metered)
		}
	}
}

// power is what the car at connector i draws at a time: what its battery takes,
// or what the charging profiles allow if that is less.
func (s *station) power(i int, at time.Duration) float64 {
	tx := s.connectors[i].tx
	wanted := s.f.behave.power(float64(at-tx.began) / float64(tx.length))
	if s.extra == nil || len(s.extra.profiles) == 0 {
		return wanted
	}
	return min(wanted, s.limit(i, s.clock(at)))
}

// limit is what the charging profiles allow at connector i, in W; +Inf is no
// limit. The station's limits are shared by those that charge. Of the profiles of
// one purpose the one with the highest stack level that says something about the
// time counts; one for the transaction counts instead of a default, and a default
// for the connector instead of one for all (OCPP 1.6 §3.13, 2.x the same).
func (s *station) limit(i int, at time.Time) float64 {
	var began time.Time
	charging := 0
	for k := range s.connectors {
		if tx := s.connectors[k].tx; tx != nil {
			charging++
			if k == i {
				began = s.clock(tx.began)
			}
		}
	}
	best := func(connector int, purposes ...string) (watts float64, ok bool) {
		level := -1
		for k := range s.extra.profiles {
			p := &s.extra.profiles[k]
			if p.connector != connector || p.stackLevel <= level || !slices.Contains(purposes, p.purpose) {
				continue
			}
			if w, says := p.limit(at, began); says {
				level, watts, ok = p.stackLevel, w, true
			}
		}
		return watts, ok
	}
	allowed := math.Inf(1)
	if w, ok := best(i+1, purposeTx); ok {
		allowed = w
	} else if w, ok := best(i+1, purposeDefault); ok {
		allowed = w
	} else if w, ok := best(0, purposeDefault); ok {
		allowed = w
	}
	for _, purposes := range [][]string{{purposeStation, purposeStation16}, {purposeExternal}} {
		if w, ok := best(0, purposes...); ok {
			allowed = min(allowed, w/float64(max(1, charging)))
		}
	}
	return allowed
}

// limit is what the profile allows at a time, in W; ok is false if it says
// nothing about it. began is when the transaction began, zero if there is none.
func (p *chargingProfile) limit(at, began time.Time) (watts float64, ok bool) {
	if !p.from.IsZero() && at.Before(p.from) || !p.to.IsZero() && !at.Before(p.to) {
		return 0, false
	}
	start := p.start
	if p.kind == "Relative" {
		if start = began; began.IsZero() {
			return 0, false
		}
	}
	passed := at.Sub(start)
	if passed < 0 {
		return 0, false
	}
	if p.kind == "Recurring" {
		passed %= p.every()
	}
	if d := p.schedule.Duration; d != nil && passed >= time.Duration(*d)*time.Second {
		return 0, false
	}
	now := p.schedule.Periods[0]
	for _, next := range p.schedule.Periods {
		if passed >= time.Duration(next.Start)*time.Second {
			now = next
		}
	}
	if p.schedule.Unit == "A" {
		phases := defaultPhases
		if now.Phases != nil {
			phases = *now.Phases
		}
		return now.Limit * nominalVoltage * float64(phases), true
	}
	return now.Limit, true
}

// every is how long a recurring profile takes to come again.
func (p *chargingProfile) every() time.Duration {
	if p.recurrency == "Weekly" {
		return 7 * 24 * time.Hour
	}
	return 24 * time.Hour
}

// maxComposite is the longest composite schedule; a longer one is cut.
const maxComposite = 24 * time.Hour

// composite is what is allowed at a connector (as in the message: 0 is the
// station) for some seconds from now, in W or A. ok is false if nothing limits it.
func (s *station) composite(connector, seconds int, unit string) (schedule chargingSchedule, ok bool) {
	if connector < 0 || connector > len(s.connectors) || seconds <= 0 || s.extra == nil || len(s.extra.profiles) == 0 {
		return schedule, false
	}
	now := s.clock(s.f.elapsed())
	seconds = min(seconds, int(maxComposite/time.Second))
	allowed := func(at time.Time) float64 {
		if connector > 0 {
			return s.limit(connector-1, at)
		}
		sum := 0.0
		for i := range s.connectors {
			sum += s.limit(i, at)
		}
		return sum
	}
	schedule = chargingSchedule{Unit: cmp.Or(unit, "W"), Duration: &seconds}
	full := slices.Max(s.f.behave.Curve)
	last := math.NaN()
	for _, second := range s.changes(now, seconds) {
		w := allowed(now.Add(time.Duration(second) * time.Second))
		if ok = ok || !math.IsInf(w, 1); math.IsInf(w, 1) {
			w = full // what the station can
		}
		if w == last {
			continue
		}
		if len(schedule.Periods) == maxPeriods {
			schedule.Duration = &second
			break
		}
		last = w
		if schedule.Unit == "A" {
			w = math.Floor(w/(nominalVoltage*defaultPhases)*10) / 10
		}
		schedule.Periods = append(schedule.Periods, schedulePeriod{Start: second, Limit: w})
	}
	return schedule, ok
}

// changes are the seconds from now on at which a limit may change, 0 first.
func (s *station) changes(now time.Time, seconds int) []int {
	list := []int{0}
	add := func(at time.Time) {
		if second := int(math.Ceil(at.Sub(now).Seconds())); second > 0 && second < seconds {
			list = append(list, second)
		}
	}
	for k := range s.extra.profiles {
		p := &s.extra.profiles[k]
		add(p.from)
		add(p.to)
		starts := []time.Time{p.start}
		switch p.kind {
		case "Recurring":
			this := p.start
			if now.After(p.start) {
				this = now.Add(-(now.Sub(p.start) % p.every()))
			}
			starts = []time.Time{this, this.Add(p.every())}
		case "Relative":
			starts = nil
			for i := range s.connectors {
				if tx := s.connectors[i].tx; tx != nil {
					starts = append(starts, s.clock(tx.began))
				}
			}
		}
		for _, start := range starts {
			for _, period := range p.schedule.Periods {
				add(start.Add(time.Duration(period.Start) * time.Second))
			}
			if d := p.schedule.Duration; d != nil {
				add(start.Add(time.Duration(*d) * time.Second))
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}
