package pair

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Mismatch is where the two sides differ.
type Mismatch struct {
	Steps        []string // until then
	Line         string   // the last, with ids
	Theirs, Ours []string // what only one has
}

func (m *Mismatch) String() string {
	return fmt.Sprintf("%s\n---- the last was\n%s\n---- only Kafka\n%s\n---- only ours\n%s",
		strings.Join(m.Steps, "\n"), m.Line, some(m.Theirs), some(m.Ours))
}

func some(lines []string) string {
	const most = 40
	if len(lines) > most {
		lines = append(slices.Clone(lines[:most]), "and more")
	}
	return strings.Join(lines, "\n")
}

// Shorten takes out steps, many at once and then fewer, as long as judge finds a mismatch without them, and stops when the time is over.
func Shorten(bad *Mismatch, limit time.Duration, judge func(steps []string) *Mismatch) *Mismatch {
	end := time.Now().Add(limit)
	for n := len(bad.Steps) / 2; n > 0; n /= 2 {
		for at := len(bad.Steps) - n; at > 0; at -= n {
			if time.Now().After(end) {
				return bad
			}
			if at+n > len(bad.Steps) {
				continue
			}
			if less := judge(slices.Delete(slices.Clone(bad.Steps), at, at+n)); less != nil {
				bad = less
			}
		}
	}
	return bad
}
