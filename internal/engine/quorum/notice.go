package quorum

import "time"

// noticeEvery is how often the log says the same thing, whatever others send.
const noticeEvery = time.Minute

// notice keeps a line of the log from being written as often as somebody causes it.
type notice struct {
	at     time.Time
	untold int
}

// due reports whether the line is to be written now, and how many were not since the last one.
func (n *notice) due(now time.Time) (untold int, ok bool) {
	if !n.at.IsZero() && now.Sub(n.at) < noticeEvery {
		n.untold++
		return 0, false
	}
	untold = n.untold
	n.at, n.untold = now, 0
	return untold, true
}
