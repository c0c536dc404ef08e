package fleet

import (
	"maps"
	"slices"
)

// profile2x is a charging profile of OCPP 2.x, as it is set and reported.
type profile2x struct {
	ID          int                `json:"id"`
	Transaction string             `json:"transactionId,omitempty"`
	Level       int                `json:"stackLevel"`
	Purpose     string             `json:"chargingProfilePurpose"`
	Schedules   []chargingSchedule `json:"chargingSchedule"`
	profileTimes
}

func (p *profile2x) read(s *station, evse int) (profile chargingProfile, why string) {
	if len(p.Schedules) == 0 {
		return profile, "InvalidSchedule"
	}
	profile = chargingProfile{connector: evse, id: p.ID, stackLevel: p.Level, purpose: p.Purpose, transaction: p.Transaction, schedule: p.Schedules[0], told: p}
	return s.newProfile(profile, p.profileTimes)
}

func (s *station) setChargingProfile2x(r struct {
	EVSE    int       `json:"evseId"`
	Profile profile2x `json:"chargingProfile"`
}) any {
	p, why := r.Profile.read(s, r.EVSE)
	if why != "" {
		return s.reply("Rejected", why)
	}
	return s.reply(s.setProfile(p))
}

func (s *station) clearChargingProfile2x(r struct {
	ID       *int `json:"chargingProfileId"`
	Criteria struct {
		EVSE    *int   `json:"evseId"`
		Purpose string `json:"chargingProfilePurpose"`
		Level   *int   `json:"stackLevel"`
	} `json:"chargingProfileCriteria"`
}) any {
	c := r.Criteria
	return simple{s.clearProfile(r.ID, criterion{c.EVSE, c.Purpose, c.Level})}
}

func (s *station) compositeSchedule2x(r struct {
	EVSE     int    `json:"evseId"`
	Duration int    `json:"duration"`
	Unit     string `json:"chargingRateUnit"`
}) any {
	schedule, ok := s.composite(r.EVSE, r.Duration, r.Unit)
	if !ok {
		return simple{"Rejected"}
	}
	type composite struct {
		EVSE     int              `json:"evseId"`
		Duration int              `json:"duration"`
		Start    string           `json:"scheduleStart"`
		Unit     string           `json:"chargingRateUnit"`
		Periods  []schedulePeriod `json:"chargingSchedulePeriod"`
	}
	return struct {
		Status   string    `json:"status"`
		Schedule composite `json:"schedule"`
	}{"Accepted", composite{r.EVSE, *schedule.Duration, wireTime(s.clock(s.f.elapsed())), schedule.Unit, schedule.Periods}}
}

// getChargingProfiles reports the profiles that match, in a message for each
// EVSE, after the answer.
func (s *station) getChargingProfiles(r struct {
	RequestID int  `json:"requestId"`
	EVSE      *int `json:"evseId"`
	Criterion struct {
		Purpose string   `json:"chargingProfilePurpose"`
		Level   *int     `json:"stackLevel"`
		IDs     []int    `json:"chargingProfileId"`
		Sources []string `json:"chargingLimitSource"`
	} `json:"chargingProfile"`
}) any {
	byEVSE := make(map[int][]*profile2x)
	c := r.Criterion
	if s.extra != nil && (len(c.Sources) == 0 || slices.Contains(c.Sources, operatorLimit)) {
		for _, p := range s.extra.profiles {
			if (criterion{r.EVSE, c.Purpose, c.Level}).meets(&p) && (len(c.IDs) == 0 || slices.Contains(c.IDs, p.id)) {
				byEVSE[p.connector] = append(byEVSE[p.connector], p.told)
			}
		}
	}
	if len(byEVSE) == 0 {
		return simple{"NoProfiles"}
	}
	s.then(func() {
		evses := slices.Sorted(maps.Keys(byEVSE))
		for i, evse := range evses {
			s.call("ReportChargingProfiles", profilesReport{r.RequestID, operatorLimit, byEVSE[evse], i+1 < len(evses), evse}, nil)
		}
	})
	return simple{"Accepted"}
}

// operatorLimit is the chargingLimitSource of what the server set.
const operatorLimit = "CSO"

type profilesReport struct {
	RequestID int          `json:"requestId"`
	Source    string       `json:"chargingLimitSource"`
	Profiles  []*profile2x `json:"chargingProfile"`
	More      bool         `json:"tbc,omitempty"`
	EVSE      int          `json:"evseId"`
}
