package txn

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moldau-io/moldau/test/judge/pair"
)

// run is one history on both sides.
type run struct {
	used    pair.Counts
	clients map[int]told
	former  map[int]told   // what clients were told before
	askers  map[string]int // by ticket: which client
	tickets int
	level   int
	done    int // steps

	holding, failing bool
	gone             bool     // some partition was, once
	leads, leaving   bool     // what fails says that the leader is another, and something failed: see ruleLeader
	busy             []string // names whose appends are held
	// What has happened since appends are held, and what Kafka was not asked yet: see ruleHeld.
	theirs, ours []string
	deferred     []deferred
	// nowMs is the time since the start, loadedMs when the partition was loaded, decidedMs when ours decided last what Kafka was not asked:
	// what is lost is tried again after that.
	nowMs, loadedMs, decidedMs int
}

type deferred struct {
	line string
	q    request
}

// judge runs steps until the end or the first mismatch. Kafka goes first.
func judge(kafka, moldau side, steps []string, used pair.Counts) (done int, bad *pair.Mismatch, err error) {
	r := &run{used: used, clients: map[int]told{}, former: map[int]told{}, askers: map[string]int{}}
	for i, step := range steps {
		line, q := r.resolve(step)
		if line == "" || r.skips(q) {
			continue
		}
		if q.Cmd == "reload" && len(r.deferred) > 0 && q.Args["keep"] == "1" {
			q.Args["keep"], line = "0", strings.Replace(line, "keep=1", "keep=0", 1)
		}
		theirs, ours, over, err := r.step(kafka, moldau, line, q)
		if err != nil {
			return r.done, nil, err
		}
		if over {
			break
		}
		r.done++
		if a, b := r.compare(q, theirs, ours); len(a)+len(b) > 0 {
			return r.done, &pair.Mismatch{Steps: steps[:i+1], Line: line, Theirs: a, Ours: b}, nil
		}
	}
	return r.done, nil, nil
}

// skips says which steps make no sense now, or are kept from both sides by a rule.
func (r *run) skips(q request) bool {
	if r.leaving && q.Cmd != "reload" {
		r.used[ruleLeader]++
		return true
	}
	switch q.Cmd {
	case "hold":
		return r.holding || r.failing
	case "release", "lose":
		return !r.holding
	case "fail":
		return r.holding || r.failing
	case "ok":
		return !r.failing
	case "advance":
		if r.failing && r.leads {
			r.used[ruleLeader]++
			return true
		}
		since := r.nowMs - r.loadedMs
		if len(r.deferred) > 0 || len(r.busy) > 0 && since/abortMs != (since+q.Num("ms"))/abortMs || r.holding && q.Num("ms") >= abortMs {
			r.used[ruleTime]++
			return true
		}
	case "level", "ids", "gone", "back":
		if len(r.busy) > 0 { // both steps of an end without partitions are of one moment in ours only
			return true
		}
	case "start", "add", "verify", "end":
		// A partition that is gone has its marker at once: before Kafka is asked again, but after ours has decided.
		return r.gone && slices.Contains(r.busy, q.Args["name"])
	}
	r.gone = r.gone || q.Cmd == "gone"
	return false
}

// step runs one step on both sides. over is set if the run cannot go on.
func (r *run) step(kafka, moldau side, line string, q request) (theirs, ours []string, over bool, err error) {
	if r.holding && q.asks() && slices.Contains(r.busy, q.Args["name"]) {
		ours, err = moldau.do(line, q)
		if err == nil && len(answers(ours)) > 0 { // whatever the state is
			theirs, err = kafka.do(line, q)
			return theirs, ours, false, err
		}
		r.deferred, r.decidedMs = append(r.deferred, deferred{line, q}), r.nowMs
		r.used[ruleHeld]++
		return nil, ours, false, err
	}
	switch q.Cmd {
	case "advance":
		r.nowMs += q.Num("ms")
	case "lose", "reload":
		line += fmt.Sprintf(" decided=%d", r.decidedMs)
	}
	if theirs, err = kafka.do(line, q); err != nil {
		return nil, nil, false, err
	}
	if q.Cmd == "release" {
		for _, d := range r.deferred {
			more, err := kafka.do(d.line, d.q)
			if err != nil {
				return nil, nil, false, err
			}
			theirs = append(slices.DeleteFunc(theirs, isState), more...) // what it looks like now is in the last
		}
	}
	for _, l := range theirs {
		f := strings.Fields(l)
		switch {
		case f[0] == "k":
			r.used[l[2:]]++
		case f[0] == "x":
			r.used[ruleStumbles]++
			r.used["x "+q.Cmd+" "+firstWords(l[2:], 12)]++
			return nil, nil, true, nil
		case f[0] == "R":
			r.used["record "+kind(f[2], f[3])]++
		case f[0] == "a":
			if f[2] != "verify" {
				r.used["answer "+strings.Join(f[2:4], " ")]++
			} else {
				r.used["answer verify "+strings.Trim(f[3][strings.IndexByte(f[3], '=')+1:], "[]")]++
			}
			if f[2] == "start" && f[3] == "-1" && (q.Cmd == "start" && !slices.ContainsFunc(theirs, isRecord) || q.Cmd == "release") {
				r.used[ruleAssert]++
				return nil, nil, q.Cmd == "release", nil
			}
		}
	}
	q.Args["drawn"] = drawn(theirs)
	ours, err = moldau.do(line, q)
	for _, l := range ours {
		if l == "o" {
			r.used[ruleOrder]++
			return nil, nil, true, err
		}
	}
	r.learn(theirs)
	switch q.Cmd {
	case "hold":
		r.holding = true
	case "fail":
		r.failing, r.leads = true, q.Args["code"] == "6" || q.Args["code"] == "56"
	case "ok":
		r.failing = false
	case "reload":
		r.failing, r.leaving, r.loadedMs = false, false, r.nowMs
	}
	return theirs, ours, false, err
}

// isState tells the lines that say what it looks like now from those that say what has happened.
func isState(l string) bool { return strings.IndexByte("smnh", l[0]) >= 0 }

func isRecord(l string) bool { return l[0] == 'R' }

func firstWords(s string, n int) string {
	f := strings.Fields(s)
	return strings.Join(f[:min(n, len(f))], " ")
}

// shorten looks for fewer steps that end in a mismatch, until the time is over.
func shorten(kafka, moldau side, bad *pair.Mismatch, limit time.Duration) *pair.Mismatch {
	return pair.Shorten(bad, limit, func(steps []string) *pair.Mismatch {
		if _, less, err := judge(kafka, moldau, steps, pair.Counts{}); err == nil {
			return less
		}
		return nil
	})
}
