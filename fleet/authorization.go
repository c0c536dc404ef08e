package fleet

import (
	"slices"
	"time"
)

// maxCache is how many ID tokens the authorization cache holds; the oldest makes
// room.
const maxCache = 64

// tokenInfo is what the server said of an ID token.
type tokenInfo struct {
	tag    string
	status string
	until  string // the server's time; empty: no end
}

// remember puts what the server said of an ID token into the authorization cache
// (OCPP 1.6 §3.5.1, 2.x AuthCacheCtrlr).
func (s *station) remember(info tokenInfo) {
	if !s.enabled("AuthorizationCacheEnabled") || info.status == "" {
		return
	}
	x := s.more()
	x.cache = slices.DeleteFunc(x.cache, func(old tokenInfo) bool { return old.tag == info.tag })
	if len(x.cache) == maxCache {
		x.cache = slices.Delete(x.cache, 0, 1)
	}
	x.cache = append(x.cache, info)
}

// clearCache applies ClearCache.
func (s *station) clearCache() string {
	if !s.enabled("AuthorizationCacheEnabled") {
		return "Rejected" // there is none to clear
	}
	if s.extra != nil {
		s.extra.cache = nil
	}
	return "Accepted"
}

// known is an ID token's status in the local list or else in the cache; ok is
// false if it is in neither.
func (s *station) known(tag string) (status string, ok bool) {
	if s.extra == nil {
		return "", false
	}
	if status, ok = s.extra.list.tags[tag]; ok && s.enabled("LocalAuthListEnabled") {
		return status, true
	}
	if !s.enabled("AuthorizationCacheEnabled") {
		return "", false
	}
	for _, info := range s.extra.cache {
		if info.tag != tag {
			continue
		}
		if until, err := time.Parse(time.RFC3339, info.until); err == nil && !s.clock(s.f.elapsed()).Before(until) {
			return "Expired", true
		}
		return info.status, true
	}
	return "", false
}

// preAuthorized reports whether a driver may charge without the server being asked.
func (s *station) preAuthorized(tag string) bool {
	status, ok := s.known(tag)
	return ok && status == "Accepted" && s.enabled("LocalPreAuthorize")
}

// trusted reports whether a driver may charge while the server cannot be asked.
func (s *station) trusted(tag string) bool {
	status, ok := s.known(tag)
	if !ok {
		return s.enabled("AllowOfflineTxForUnknownId")
	}
	return status == "Accepted" && s.enabled("LocalAuthorizeOffline")
}
