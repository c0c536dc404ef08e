package fleet

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"strconv"
	"time"
)

// signedFirmware is the firmware of OCPP 2.x, and of 1.6's security extension.
type signedFirmware struct {
	Retrieve string `json:"retrieveDateTime"`
	Install  string `json:"installDateTime"`
	Signer   string `json:"signingCertificate"` // may be empty in 2.x: not signed
}

// updateFirmware begins an update that is not signed and has no request id (1.6).
func (s *station) updateFirmware(retrieve string) {
	s.startJob(jobFirmware, job{
		action:   "FirmwareStatusNotification",
		statuses: []string{"Downloading", "Downloaded", "Installing", "Installed"},
	}, retrieve)
}

// updateSignedFirmware begins an update and returns the status of the answer.
func (s *station) updateSignedFirmware(action string, requestID int, firmware signedFirmware) string {
	statuses := []string{"Downloading", "Downloaded"}
	if firmware.Signer != "" || !s.id.Version.Is2x() {
		if err := s.checkSigner(firmware.Signer); err != nil {
			s.securityEvent(eventInvalidSigner, err.Error())
			return "InvalidCertificate" // checked before the request is accepted
		}
		statuses = append(statuses, "SignatureVerified")
	}
	statuses = append(statuses, "Installing", "InstallRebooting", "Installed")
	if s.startJob(jobFirmware, job{action: action, requestID: &requestID, statuses: statuses, install: s.at(firmware.Install)}, firmware.Retrieve) {
		return "AcceptedCanceled"
	}
	return "Accepted"
}

// checkSigner verifies the certificate that signs firmware: with the
// manufacturer's roots if the server installed any, else only its time.
func (s *station) checkSigner(text string) error {
	chain, err := parseChain(text)
	if err != nil {
		return err
	}
	roots, middle := x509.NewCertPool(), x509.NewCertPool()
	known := false
	for _, x := range s.store() {
		if x.use == useManufacturerRoot {
			roots.AddCert(x.certificate)
			known = true
		}
	}
	for _, c := range chain[1:] {
		middle.AddCert(c)
	}
	if known {
		_, err = chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: middle, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return err
	}
	if now := time.Now(); now.Before(chain[0].NotBefore) || now.After(chain[0].NotAfter) {
		return errors.New("signing certificate out of its time")
	}
	return nil
}

// firmwareScheduled reports once that the update waits for its time, in the
// versions that have a status for it.
func (s *station) firmwareScheduled(status string) {
	j := &s.extra.jobs[jobFirmware]
	if j.requestID == nil || j.last == status {
		return
	}
	j.last = status
	s.call(j.action, jobStatus{status, j.requestID}, nil)
}

// mayInstall reports whether the installation may begin: the transactions have to
// end first, and meanwhile nobody begins one (OCPP 1.6 §6.19, 2.x likewise).
func (s *station) mayInstall() bool {
	s.installing(true)
	return !s.busy()
}

// installing makes the free connectors unavailable, or ends that.
func (s *station) installing(yes bool) {
	s.extra.installing = yes
	for i := range s.connectors {
		s.reportConnector(i)
	}
}

// inoperative reports whether connector i takes no transactions.
func (s *station) inoperative(i int) bool {
	return s.connectors[i].inoperative || s.extra != nil && s.extra.installing
}

// firmwareStep is what follows the answer to a status of an update: after the last
// but Installed the station restarts with the new version.
func (s *station) firmwareStep(j *job) func(json.RawMessage, error) {
	switch {
	case j.last == "Installed":
		s.securityEvent(eventFirmwareUpdated, s.firmware())
	case len(j.statuses) == 1 && j.statuses[0] == "Installed":
		s.extra.installing = true // until reboot
		return func(json.RawMessage, error) {
			s.extra.firmware++
			s.securityEvent(eventReset, "firmware update")
			s.restart(rebootUpdate)
		}
	}
	return nil
}

// firmware is the version that the station runs.
func (s *station) firmware() string {
	if s.extra != nil {
		return "1." + strconv.Itoa(s.extra.firmware)
	}
	return "1.0"
}
