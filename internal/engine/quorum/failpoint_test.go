package quorum

import "github.com/moldau-io/moldau/internal/base/failpoint"

func newFailpoints(point string, nth int, err error) *failpoint.Set {
	s := failpoint.New()
	s.Arm(point, nth, func() error { return err })
	return s
}
