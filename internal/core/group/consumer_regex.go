package group

import (
	"errors"
	"regexp"
	"regexp/syntax"
	"slices"
	"time"

	"github.com/moldau-io/moldau/internal/wire"
)

const (
	// minRegexRefresh is the shortest time between two looks at all topics for the patterns of a group.
	minRegexRefresh = 10 * time.Second
	// maxRegexWork bounds, in bytes of topic names times states of patterns, how much of a look is done at once. The next part
	// comes a moment later, so that other decisions of the shard come in between.
	maxRegexWork = 4 << 20
	// maxRegexStates bounds the automaton of one pattern: repetitions of repetitions make large ones of a few bytes.
	maxRegexStates = 20_000
	pauseForOther  = time.Millisecond
)

// regexJob is a look at all topics for the patterns of a group. It is soft: a new leader looks again.
type regexJob struct {
	patterns  []string
	compiled  []*regexp.Regexp
	found     [][]string
	names     []string // topics not looked at yet
	version   int64
	startedMs int64
	states    int // of all patterns together
}

// errStates refuses a pattern.
var errStates = errors.New("expression too large")

// compilePattern reads a pattern in RE2's syntax, which must fit a whole name. states is about how large it is.
func compilePattern(pattern string) (re *regexp.Regexp, states int, err error) {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, 0, err
	}
	if states = patternStates(tree); states > maxRegexStates {
		return nil, 0, errStates
	}
	re, err = regexp.Compile(`\A(?:` + tree.String() + `)\z`) // not pattern, whose \Q may be open
	return re, states, err
}

// patternStates estimates the states of a pattern's automaton; beyond the bound it stops counting.
func patternStates(re *syntax.Regexp) int {
	n := 1 + len(re.Rune)
	for _, sub := range re.Sub {
		if n += patternStates(sub); n > maxRegexStates {
			return maxRegexStates + 1
		}
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Min, re.Max, 1)
	}
	return min(n, maxRegexStates+1)
}

func badPattern(pattern string, err error) *refusal {
	why := err.Error()
	if bad, ok := errors.AsType[*syntax.Error](err); ok {
		why = string(bad.Code)
	}
	return refuse(wire.ErrInvalidRegularExpression, "SubscribedTopicRegex `%s` is not a valid regular expression: %s.", pattern, why)
}

// consumerPattern follows a change of the member's pattern, and sees to it that patterns are resolved again when that is due. changed says
// that the member has another one, known that the group knows already what that means, so that its epoch must go on. before is the
// group without the change.
func (s *Shard) consumerPattern(d *consumerStep, before *consumerGroup, m, updated *consumerMember) (changed, known bool, no *refusal) {
	refresh := false
	if m.regex != updated.regex {
		changed = true
		if n, _ := before.view.patterns.Get(m.regex); n == 1 && before.member(m.id) != nil {
			d.add(consumerRegexTombstone(before.name, m.regex))
		}
		_, shared := before.view.patterns.Get(updated.regex)
		switch {
		case updated.regex == "":
			known = true
		case !shared:
			if _, _, err := compilePattern(updated.regex); err != nil {
				return false, false, badPattern(updated.regex, err)
			}
			refresh = true
		default:
			known = before.pattern(updated.regex) != nil
		}
	}
	if refresh || before.view.patterns.Len() > 0 {
		s.refreshPatterns(d.g, before, refresh)
	}
	return changed, known, nil
}

// refreshPatterns starts a look at all topics, if it is due: a pattern is new, topics are, or the last look is long ago. When that was
// the group before this decision says, whose last pattern may be gone with the decision.
func (s *Shard) refreshPatterns(g, before *consumerGroup, due bool) {
	patterns := g.view.patterns
	if patterns.Len() == 0 || s.regexJobs[g.name] != nil || s.image == nil {
		return
	}
	version, lastMs := int64(0), int64(-1)
	for _, r := range before.regexes.All() {
		version, lastMs = max(version, r.version), max(lastMs, r.timestampMs)
	}
	nowMs := s.now.UnixMilli()
	if lastMs >= 0 && nowMs <= lastMs+minRegexRefresh.Milliseconds() {
		return
	}
	newTopics := version < s.newTopicsSince()
	due = due || patterns.Len() != before.regexes.Len() || newTopics || nowMs > lastMs+s.cfg.Consumer.RegexRefreshInterval.Milliseconds()
	if !due {
		return
	}
	job := &regexJob{version: int64(s.image.Provenance.Offset), startedMs: nowMs, names: s.image.Topics.Names()}
	for _, p := range sortedIn(patterns) {
		// One that cannot be read means nothing; members cannot bring it in, but a log may.
		re, states, _ := compilePattern(p)
		job.patterns, job.compiled, job.found = append(job.patterns, p), append(job.compiled, re), append(job.found, nil)
		job.states += states
	}
	s.regexJobs[g.name] = job
	s.timers.Set(timerKey{kind: timerRegex, group: g.name}, s.now, struct{}{})
}

// newTopicsSince returns the version of the last image that had new topics in it. Every look asks, so that what is new to the next one is
// new since this one.
func (s *Shard) newTopicsSince() int64 {
	if s.image.Topics == s.seenTopics {
		return s.newTopicsAt
	}
	for t := range s.image.Topics.All() {
		if s.seenTopics.ByID(t.ID) == nil {
			s.newTopicsAt = int64(s.image.Provenance.Offset)
			break
		}
	}
	s.seenTopics = s.image.Topics
	return s.newTopicsAt
}

// stepRegex goes on with the look at the topics of a group.
func (s *Shard) stepRegex(name string) {
	job := s.regexJobs[name]
	if job == nil {
		return
	}
	size := 1 + job.states
	for work := 0; len(job.names) > 0; {
		topic := job.names[0]
		if work += size * (len(topic) + 1); work > maxRegexWork && work > size*(len(topic)+1) {
			s.timers.Set(timerKey{kind: timerRegex, group: name}, s.now.Add(pauseForOther), struct{}{})
			return
		}
		job.names = job.names[1:]
		for i, re := range job.compiled {
			if re != nil && re.MatchString(topic) {
				job.found[i] = append(job.found[i], topic)
			}
		}
	}
	delete(s.regexJobs, name)
	s.resolved(name, job)
}

// resolved takes over what patterns mean now. The group's epoch goes on if that is something else, or the topics have changed.
func (s *Shard) resolved(name string, job *regexJob) {
	g, no := s.consumerByName(name)
	if no != nil {
		return
	}
	d := &consumerStep{s: s, g: g}
	bump := false
	for i, p := range job.patterns {
		if _, wanted := g.view.patterns.Get(p); !wanted {
			continue
		}
		slices.Sort(job.found[i])
		have := g.pattern(p)
		bump = bump || have == nil && len(job.found[i]) > 0 || have != nil && !slices.Equal(have.topics, job.found[i])
		d.add(consumerRegexRecord(name, p, &resolvedRegex{topics: job.found[i], version: job.version, timestampMs: job.startedMs}))
	}
	if hash := s.groupHash(d.g.view.topics); bump || hash != d.g.hash {
		d.add(consumerEpochRecord(name, d.g.epoch+1, hash))
		s.checked(d.g)
		s.count(ConsumerRebalances, 1)
	}
	s.res.Atomic = true
}
