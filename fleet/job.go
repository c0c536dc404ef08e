package fleet

import (
	"time"

	"holdfast/ocpp"
)

// job is a firmware update or a log upload, told as a row of statuses.
type job struct {
	action    string // of the notification
	requestID *int   // where the action has one
	statuses  []string
	last      string // reported last
	firmware  bool
	version   int // firmware updates so far
}

// jobPace is the time between two statuses of a job, the stations' time.
const jobPace = 5 * time.Second

type jobStatus struct {
	Status    string `json:"status"`
	RequestID *int   `json:"requestId,omitempty"`
}

// startJob begins a job after the answer to the CALL being handled, at the given
// time or now if that is past. A running one is replaced.
func (s *station) startJob(action string, requestID *int, at string, firmware bool, statuses ...string) (replaced bool) {
	j := &s.more().job
	replaced = len(j.statuses) > 0
	*j = job{action: action, requestID: requestID, statuses: statuses, firmware: firmware, version: j.version}
	now := s.f.elapsed()
	due := now + s.f.real(jobPace)
	if t, err := time.Parse(time.RFC3339, at); err == nil {
		due = max(due, now+s.f.real(t.Sub(s.f.clock(now))))
	}
	s.schedule(taskJob, 0, due)
	return replaced
}

// jobStep reports the next status. Offline or not registered, it waits.
func (s *station) jobStep() {
	if s.extra == nil || len(s.extra.job.statuses) == 0 {
		return
	}
	j := &s.extra.job
	if s.conn != nil && s.state == accepted {
		j.last, j.statuses = j.statuses[0], j.statuses[1:]
		s.call(j.action, jobStatus{j.last, j.requestID}, nil)
		if len(j.statuses) == 0 {
			if j.firmware {
				j.version++
			}
			return
		}
	}
	s.schedule(taskJob, 0, s.f.elapsed()+s.f.real(jobPace))
}

// reportJob answers a trigger: the status of the job, or Idle.
func (s *station) reportJob(action string) {
	status := jobStatus{Status: "Idle"}
	if s.extra != nil {
		if j := &s.extra.job; j.action == action && len(j.statuses) > 0 && j.last != "" {
			status = jobStatus{j.last, j.requestID}
		}
	}
	s.callEarly(action, status, nil)
}

// firmwareStatuses are those of an update that succeeds.
func firmwareStatuses(v ocpp.Version, signed bool) []string {
	if signed || v.Is2x() {
		return []string{"Downloading", "Downloaded", "SignatureVerified", "Installing", "Installed"}
	}
	return []string{"Downloading", "Downloaded", "Installing", "Installed"}
}
