package judge

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/moldau-io/moldau/test/judge/pair"
)

// run is one history on both sides.
type run struct {
	used    pair.Counts
	clients map[asker]told
	ids     []string // of members, in the order in which they were told
	known   map[string]bool
	tickets int
	askers  map[string]asker // by ticket: who joins
	done    int              // steps

	forgotten map[string]bool   // tickets, see ruleAnswered
	patterns  map[string]string // what patterns mean, by the keys of the records that say so, see ruleCame
	deleted   bool              // a topic
}

// trace gets each step with what Kafka said, if it is set.
var trace func(format string, args ...any)

// judge runs steps until the end or the first mismatch. Kafka goes first: the ids that it makes are ours too.
func judge(kafka, moldau side, steps []string, used pair.Counts) (done int, bad *pair.Mismatch, err error) {
	r := &run{used: used, known: map[string]bool{}, clients: map[asker]told{}, askers: map[string]asker{}, forgotten: map[string]bool{}, patterns: map[string]string{}}
	var patterns map[string]string // when the hold began
	holding, replacing, lost, beats := false, false, false, false
	for i, step := range steps {
		line, q := r.resolve(step)
		if line == "" {
			continue
		}
		replaces := false
		r.deleted = r.deleted || q.Cmd == "topic" && q.Args["n"] == "0"
		beats = beats || q.Cmd == "beat"
		if lost && q.Cmd != "restart" { // see ruleLost
			continue
		}
		if lost = beats && holding && q.Cmd == "lose"; lost {
			used[ruleLost]++
		}
		switch q.Cmd {
		case "hold":
			if holding {
				continue
			}
			holding = true
			patterns = maps.Clone(r.patterns)
		case "release", "lose", "restart":
			if !holding && q.Cmd != "restart" {
				continue
			}
			if holding && q.Cmd != "release" {
				r.patterns = patterns
			}
			holding, replacing = false, false
		default:
			if replacing { // see ruleHeld
				used[ruleHeld]++
				continue
			}
			replaces = holding && q.Cmd == "join" && q.Text("member") == "" && q.Get("inst") != nil
		}
		theirs, err := kafka.do(line, q, nil)
		if err != nil {
			return r.done, nil, err
		}
		if slices.Contains(theirs, "skip") {
			_, _, _ = r.compare(q.Cmd, theirs[:1], nil)
			continue
		}
		var ids []string
		for _, l := range theirs {
			replacing = replacing || replaces && strings.Contains(l, " R 0002")
			if id, ok := strings.CutPrefix(l, "i "); ok {
				ids = append(ids, id)
			}
		}
		ours, err := moldau.do(line, q, ids)
		if err != nil {
			return r.done, nil, err
		}
		if trace != nil {
			trace("%s\n\t%s", line, strings.Join(theirs, "\n\t"))
		}
		r.done++
		for _, l := range theirs {
			if f := strings.Fields(l); len(f) > 3 && f[1] == "a" {
				used["answer "+strings.Join(f[3:min(5, len(f))], " ")]++
			}
		}
		if lost {
			theirs, ours = afterLoss(theirs), afterLoss(ours)
		}
		for _, l := range theirs {
			if kind := kindOf(l); kind != "" {
				used[kind]++
			}
		}
		a, b, over := r.compare(q.Cmd, theirs, ours)
		if over {
			break
		}
		if len(a)+len(b) > 0 {
			return r.done, &pair.Mismatch{Steps: steps[:i+1], Line: line, Theirs: a, Ours: b}, nil
		}
		r.learn(theirs)
	}
	return r.done, nil, nil
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
