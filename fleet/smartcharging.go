package fleet

import "slices"

// maxPeriods is how many periods a schedule may have (ChargingScheduleMaxPeriods,
// PeriodsPerSchedule).
const maxPeriods = 24

// chargingProfile is one profile that the server set. It is remembered and
// answered for; it does not limit the curve.
type chargingProfile struct {
	connector  int // as in the message: 0 is the station
	id         int
	stackLevel int
	purpose    string
	schedule   chargingSchedule
}

type chargingSchedule struct {
	Unit     string           `json:"chargingRateUnit"`
	Duration *int             `json:"duration,omitempty"`
	Start    string           `json:"startSchedule,omitempty"`
	Periods  []schedulePeriod `json:"chargingSchedulePeriod"`
}

type schedulePeriod struct {
	Start  int     `json:"startPeriod"`
	Limit  float64 `json:"limit"`
	Phases *int    `json:"numberPhases,omitempty"`
}

// setProfile applies SetChargingProfile: a profile replaces the one with its id,
// and the one with its stack level and purpose at the same connector.
func (s *station) setProfile(p chargingProfile) string {
	if p.connector < 0 || p.connector > len(s.connectors) || len(p.schedule.Periods) == 0 || len(p.schedule.Periods) > maxPeriods {
		return "Rejected"
	}
	if p.purpose == "TxProfile" && (p.connector == 0 || s.connectors[p.connector-1].tx == nil) {
		return "Rejected"
	}
	x := s.more()
	x.profiles = slices.DeleteFunc(x.profiles, func(old chargingProfile) bool {
		return old.id == p.id || old.connector == p.connector && old.stackLevel == p.stackLevel && old.purpose == p.purpose
	})
	if len(x.profiles) >= maxProfiles {
		return "Rejected"
	}
	x.profiles = append(x.profiles, p)
	return "Accepted"
}

// clearProfiles applies ClearChargingProfile; match says which.
func (s *station) clearProfiles(match func(chargingProfile) bool) string {
	if s.extra == nil {
		return "Unknown"
	}
	before := len(s.extra.profiles)
	s.extra.profiles = slices.DeleteFunc(s.extra.profiles, match)
	if len(s.extra.profiles) == before {
		return "Unknown"
	}
	return "Accepted"
}

// composite is the schedule in force at a connector: that of the highest stack
// level. ok is false if none is set.
func (s *station) composite(connector int) (schedule chargingSchedule, ok bool) {
	if s.extra == nil {
		return
	}
	level := -1
	for _, p := range s.extra.profiles {
		if (p.connector == connector || p.connector == 0) && p.stackLevel > level {
			level, schedule, ok = p.stackLevel, p.schedule, true
		}
	}
	return schedule, ok
}
