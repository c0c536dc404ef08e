package fleet

import "time"

// The jobs that a station can have at the same time.
const (
	jobFirmware = iota
	jobLog
	jobKinds
)

// job is a firmware update or a log upload, told as a row of statuses: no file is
// moved.
type job struct {
	action    string // of the notification
	requestID *int   // where the action has one
	statuses  []string
	last      string        // reported last
	install   time.Duration // a firmware is not installed before
}

// jobPace is the time between two statuses of a job, the stations' time.
const jobPace = 5 * time.Second

type jobStatus struct {
	Status    string `json:"status"`
	RequestID *int   `json:"requestId,omitempty"`
}

// startJob begins a job after the answer to the CALL being handled, at the given
// time or now if that is past. A running one of its kind is replaced.
func (s *station) startJob(kind int, j job, at string) (replaced bool) {
	running := &s.more().jobs[kind]
	if replaced = len(running.statuses) > 0; replaced {
		s.jobReplaced(kind, running.requestID)
	}
	*running = j
	soon := s.f.elapsed() + s.f.real(jobPace)
	due := max(soon, s.at(at))
	if kind == jobFirmware && due > soon {
		s.firmwareScheduled("DownloadScheduled")
	}
	s.schedule(taskJob, kind, due)
	return replaced
}

func (s *station) jobReplaced(kind int, requestID *int) {
	switch {
	case kind == jobFirmware && s.extra.installing:
		s.installing(false)
	case kind == jobLog && s.id.Version.Is2x():
		s.call("LogStatusNotification", jobStatus{"AcceptedCanceled", requestID}, nil) // of the upload that ends
	}
}

// jobStep does the next step of a job. Offline or not registered, it waits.
func (s *station) jobStep(kind int) {
	if s.extra == nil || len(s.extra.jobs[kind].statuses) == 0 {
		return
	}
	j := &s.extra.jobs[kind]
	due := s.f.elapsed() + s.f.real(jobPace)
	switch {
	case s.conn == nil || s.state != accepted:
	case j.statuses[0] == "Installing" && j.install > s.f.elapsed():
		s.firmwareScheduled("InstallScheduled")
		due = j.install
	case j.statuses[0] == "Installing" && !s.mayInstall():
	case j.statuses[0] == "Installed" && s.extra.installing: // after the restart
	default:
		j.last, j.statuses = j.statuses[0], j.statuses[1:]
		s.call(j.action, jobStatus{j.last, j.requestID}, s.firmwareStep(j))
		if len(j.statuses) == 0 {
			return
		}
	}
	s.schedule(taskJob, kind, due)
}

// reportJob answers a trigger: the status of the job that runs, or Idle.
func (s *station) reportJob(kind int, action string) {
	status := jobStatus{Status: "Idle"}
	if s.extra != nil {
		if j := &s.extra.jobs[kind]; len(j.statuses) > 0 && j.last != "" {
			action, status = j.action, jobStatus{j.last, j.requestID}
		}
	}
	s.callEarly(action, status, nil)
}

// upload begins a log upload that succeeds.
func (s *station) upload(action string, requestID *int) (replaced bool) {
	return s.startJob(jobLog, job{action: action, requestID: requestID, statuses: []string{"Uploading", "Uploaded"}}, "")
}

// at is a time of the wire as one since Run began; zero if it is none.
func (s *station) at(text string) time.Duration {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return 0
	}
	now := s.f.elapsed()
	return now + s.f.real(t.Sub(s.clock(now)))
}
