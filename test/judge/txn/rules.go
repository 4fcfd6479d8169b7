package txn

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"

	core "github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/wire/logrec"
	"github.com/moldau-io/moldau/test/judge/pair"
)

// The differences that are kept on purpose. Most are smoothed out on Kafka's side, in java/Judge.java, so that runs stay long.
const (
	ruleHeld     = "held"
	ruleWaits    = "waits"
	ruleTime     = "time while held"
	ruleLeader   = "no leader any more"
	ruleEnd      = "time of an end"
	ruleUnborn   = "unborn"
	ruleFence    = "failed fence"
	ruleLetIn    = "let back in"
	ruleAgain    = "repeated start"
	ruleAssert   = "failed assertion"
	ruleOrder    = "order of ids"
	ruleStumbles = "kafka stumbles"
)

var rules = []pair.Rule{
	{Name: ruleHeld, Why: "Kafka says CONCURRENT_TRANSACTIONS while an append for the same transactional id is under way. Ours decides upon what that will be, and " +
		"waits: Kafka is asked again when the append is done, and then must say and write the same. If the append is lost so is ours."},
	{Name: ruleWaits, Why: "An answer of ours waits for all records before it, and fails with them; Kafka's only for those of its transactional id."},
	{Name: ruleTime, Why: "While an append is held there is no tick of timeouts, and no time passes once something waits to be asked again: steps are skipped. " +
		"(At a tick Kafka leaves out who is busy, ours who is already ended.)"},
	{Name: ruleLeader, Why: "After NOT_LEADER_OR_FOLLOWER or KAFKA_STORAGE_ERROR nothing happens before the partition is loaded again: Kafka writes no ends any more."},
	{Name: ruleEnd, Why: "The update time of CompleteCommit and CompleteAbort is when all markers were written; in Kafka when they were sent out."},
	{Name: ruleUnborn, Why: "A transactional id whose first record is lost is unknown again. Kafka goes on with one that has the epoch -1, and shows it."},
	{Name: ruleFence, Why: "An abort by the coordinator that is lost leaves the epoch as it was. Without epoch bumps Kafka keeps the next one in memory, which fences the producer, and shows it before."},
	{Name: ruleLetIn, Why: "The end of a transaction of a client without epoch bumps is not repeated by one with: it is fenced. Kafka lets it back in."},
	{Name: ruleAgain, Why: "InitProducerId that is repeated over a new producer id may be repeated once more. Kafka forgets the former id, and fences the second repetition."},
	{Name: ruleAssert, Why: "InitProducerId with a former epoch of a producer id whose epochs are exhausted fails an assertion in Kafka (UNKNOWN_SERVER_ERROR). Ours is not asked."},
	{Name: ruleOrder, Why: "Two get a new producer id at the same tick, in any order. The run ends."},
	{Name: ruleStumbles, Why: "A request throws an exception in Kafka. The run ends."},
}

// kinds are counted besides the rules: what Kafka answered, wrote and threw.
var kinds = []string{"answer", "record", "x"}

// compare takes out of one step's lines what the rules allow, and returns the rest that only one side has. What happens while appends
// are held is compared when they are no longer.
func (r *run) compare(q request, theirs, ours []string) (onlyTheirs, onlyOurs []string) {
	if r.failing && slices.ContainsFunc(theirs, isRecord) && r.leads {
		r.leaving = true
	}
	if theirs == nil { // Kafka was not asked
		r.ours = append(r.ours, events(ours)...)
		return nil, nil
	}
	r.theirs, r.ours = append(r.theirs, events(theirs)...), append(r.ours, events(ours)...)
	ended := q.Cmd == "release" || q.Cmd == "lose" || q.Cmd == "reload"
	if r.holding && !ended {
		r.busy = nil
		for _, l := range theirs {
			if names, ok := strings.CutPrefix(l, "h "); ok {
				r.busy = strings.Fields(names)
			}
		}
		return pair.Minus(r.state(theirs), r.state(ours)), pair.Minus(r.state(ours), r.state(theirs))
	}
	failed := r.holding && q.Cmd != "release"
	lost := failed && (q.Cmd == "lose" || q.Args["keep"] == "0")
	a, b := r.plain(r.theirs), r.plain(r.ours)
	late := map[string]bool{}
	for _, d := range r.deferred {
		late[d.q.Args["t"]] = true
	}
	r.holding, r.busy, r.theirs, r.ours, r.deferred = false, nil, nil, nil, nil
	a, b = append(a, r.state(theirs)...), append(b, r.state(ours)...)
	onlyTheirs, onlyOurs = pair.Minus(a, b), pair.Minus(b, a)
	if failed {
		onlyTheirs, onlyOurs = r.failed(onlyTheirs, onlyOurs, late, lost)
	}
	return onlyTheirs, onlyOurs
}

// waited are the answers that fail with the records before them.
var waited = regexp.MustCompile(`^a [0-9]+ ((start|end) 1[56] -1 -1|add 1[56]|verify \[([^=]*=1[56])+\])$`)

// failed takes out what ours had built upon records that were lost, and the answers that waited for records that were not committed.
func (r *run) failed(theirs, ours []string, late map[string]bool, lost bool) ([]string, []string) {
	failed := map[string]bool{}
	ours = slices.DeleteFunc(ours, func(l string) bool {
		f := strings.Fields(l)
		switch {
		case f[0] == "R":
			return lost
		case !waited.MatchString(l):
			return false
		}
		if late[f[1]] {
			delete(late, f[1])
		} else {
			r.used[ruleWaits]++
			failed[f[1]] = true
		}
		return true
	})
	theirs = slices.DeleteFunc(theirs, func(l string) bool { f := strings.Fields(l); return f[0] == "a" && failed[f[1]] })
	for t := range late {
		theirs = append(theirs, "a "+t+" fails")
	}
	return theirs, ours
}

// events are the lines that say what happened.
func events(lines []string) (l []string) {
	for _, s := range lines {
		if s[0] == 'a' || s[0] == 'R' || s[0] == 'z' {
			l = append(l, s)
		}
	}
	return l
}

// answers are the lines that answer.
func answers(lines []string) (l []string) {
	for _, s := range lines {
		if s[0] == 'a' {
			l = append(l, s)
		}
	}
	return l
}

// state are the lines that say what it looks like now: as of the high watermark. How many producer ids there were counts when nothing
// is held.
func (r *run) state(lines []string) (l []string) {
	for _, s := range lines {
		if s[0] == 's' || s[0] == 'm' || s[0] == 'n' && !r.holding {
			l = append(l, s)
		}
	}
	return l
}

// drawn says how many producer ids each name has had.
func drawn(lines []string) string {
	var l []string
	for _, s := range lines {
		if f := strings.Fields(s); f[0] == "n" {
			l = append(l, f[1]+":"+f[2])
		}
	}
	if l == nil {
		return "-"
	}
	return strings.Join(l, ",")
}

// plain spells out the records, and numbers those of a name: their order counts.
func (r *run) plain(lines []string) (res []string) {
	n := map[string]int{}
	letIn := map[string]bool{}
	for _, l := range lines {
		f := strings.Fields(l)
		switch {
		case f[0] == "z":
			letIn[f[1]] = true
			continue
		case f[0] == "a" && letIn[f[1]]:
			r.used[ruleLetIn]++
			l = fmt.Sprintf("a %s end 90 -1 -1", f[1])
		case f[0] == "R":
			n[f[1]]++
			l = fmt.Sprintf("R %s %d: %s", f[1], n[f[1]], record(f[2], f[3]))
		}
		res = append(res, strings.TrimSpace(l))
	}
	return res
}

// record spells out a record, its partitions in order.
func record(key, value string) string {
	if value == "nil" {
		return key + " gone"
	}
	k, v, err := logrec.DecodeTxn(unhex(key), unhex(value))
	if err != nil {
		return err.Error()
	}
	t := v.(*logrec.TransactionLogValue)
	partitions := "null"
	if t.TransactionPartitions != nil {
		var l []string
		for _, topic := range t.TransactionPartitions {
			for _, p := range topic.PartitionIDs {
				l = append(l, fmt.Sprintf("%s-%d", topic.Topic, p))
			}
		}
		partitions = sorted(l)
	}
	return fmt.Sprintf("%s v%s state=%d id=%d previous=%d next=%d epoch=%d nextepoch=%d timeout=%d start=%d update=%d client=%d %s", k.(*logrec.TransactionLogKey).TransactionalID, value[:4], t.TransactionStatus, t.ProducerID,
		t.PreviousProducerID, t.NextProducerID, t.ProducerEpoch, t.NextProducerEpoch, t.TransactionTimeoutMs, t.TransactionStartTimestampMs-startMs, t.TransactionLastUpdateTimestampMs-startMs, t.ClientTransactionVersion, partitions)
}

// kind says which step a record is.
func kind(key, value string) string {
	if value == "nil" {
		return "gone"
	}
	_, v, err := logrec.DecodeTxn(unhex(key), unhex(value))
	if err != nil {
		return err.Error()
	}
	t := v.(*logrec.TransactionLogValue)
	s := fmt.Sprintf("%v client=%d", core.State(t.TransactionStatus), t.ClientTransactionVersion)
	if t.ProducerEpoch > 32765 {
		s += fmt.Sprintf(" epoch=%d", t.ProducerEpoch)
	}
	if t.PreviousProducerID >= 0 && t.PreviousProducerID != t.ProducerID {
		s += " new id"
	}
	return s
}

// about says whose record it is, and how many partitions it has.
func about(key, value []byte) (name string, partitions int) {
	k, v, err := logrec.DecodeTxn(key, value)
	if err != nil {
		panic(err)
	}
	if t, ok := v.(*logrec.TransactionLogValue); ok {
		for _, topic := range t.TransactionPartitions {
			partitions += len(topic.PartitionIDs)
		}
	}
	return k.(*logrec.TransactionLogKey).TransactionalID, partitions
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}
