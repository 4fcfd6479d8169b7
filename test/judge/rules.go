package judge

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/moldau-io/moldau/internal/wire/logrec"
	"github.com/moldau-io/moldau/test/judge/pair"
)

// The differences that are kept on purpose. Most are smoothed out on Kafka's side, in java/Judge.java, so that runs stay long.
const (
	ruleSeats          = "seats"
	ruleNewcomer       = "stale newcomer"
	ruleSync           = "sync of the replaced"
	ruleSession        = "session of the replaced"
	ruleWaits          = "sync waits"
	ruleComing         = "coming"
	ruleAnswered       = "answered"
	ruleLost           = "consumers after a loss"
	ruleOrder          = "order of deadlines"
	ruleAway           = "revocation by the away"
	ruleHeld           = "held replacement"
	ruleTwice          = "target written twice"
	ruleGoesOn         = "rebalance goes on"
	ruleLoading        = "classic after loading"
	ruleNobody         = "nobody else"
	ruleNeither        = "owes neither"
	ruleUnseen         = "unseen by the leader"
	ruleRefused        = "refused upgrade"
	ruleUnsettled      = "unsettled"
	ruleFirst          = "who is first"
	ruleOld            = "old deadlines"
	ruleFirstRebalance = "first rebalance"
	ruleAssignor       = "order of the assignor"
	ruleSame           = "read the same"
	ruleKnown          = "known by its id only"
	ruleForgets        = "pattern forgotten twice"
	ruleCame           = "came and went"
	ruleBegun          = "topics as they were"
	ruleTie            = "tie of the assignors"
	ruleForgotten      = "forgotten group"
	ruleStumbles       = "kafka stumbles"
)

var rules = []pair.Rule{
	{Name: ruleSeats, Why: "Kafka keeps members in a hash table, which decides who leads next. Ours stay in the order in which they came, a " +
		"static member where it was; Kafka gets a table that does the same."},
	{Name: ruleNewcomer, Why: "Kafka remembers the last member that came to a new group until the group is new again, and then waits one delay " +
		"more."},
	{Name: ruleSync, Why: "When a static member is replaced Kafka goes on waiting for the SyncGroup of the old id, which cannot come. Ours waits " +
		"for the new id."},
	{Name: ruleSession, Why: "The session of a static member that was replaced begins when the record of that is committed, and is as long as " +
		"the new one asked for; in Kafka it began before, and is as long as the old one's until the next Heartbeat."},
	{Name: ruleWaits, Why: "The assignment of a stable group is told when everything before is committed; Kafka tells it at once."},
	{Name: ruleComing, Why: "A new group of ours waits some ms for those that were given an id and have yet to join with it. Kafka's deadline is " +
		"put off likewise."},
	{Name: ruleAnswered, Why: "A request that was overtaken by another of the same member, or whose member was removed, is answered by us " +
		"(REBALANCE_IN_PROGRESS, UNKNOWN_MEMBER_ID) and forgotten by Kafka. Our answer is left out; if Kafka answers later after all " +
		"that is a mismatch, unless it says that a record was lost."},
	{Name: ruleHeld, Why: "Kafka takes a static member's new id back even if the member was answered meanwhile, and fences a member that it has " +
		"just let in. While the record of a replacement is held back the judge lets nothing else happen: steps are skipped."},
	{Name: ruleAway, Why: "A static member that is away has given all its partitions back. A new coordinator of Kafka's still gives it a " +
		"deadline for that."},
	{Name: ruleOrder, Why: "Members of a consumer group whose deadlines come at the same moment are removed in any order, and on the way the " +
		"group has different topics. The hash of these is left out, of a step whose lines are the same otherwise."},
	{Name: ruleLost, Why: "When records of consumer groups are lost Kafka's deadlines stay as the lost decisions left them: a member that left " +
		"is not watched over any more. Ours come back with the members, and a classic group whose upgrade was lost rebalances. The " +
		"judge lets nothing happen before a new coordinator begins: steps are skipped."},
	{Name: ruleTwice, Why: "A static member that comes back before it had a target gets an empty one from Kafka, and the same again if one is " +
		"computed in that step, which looks at the group as it was before."},
	{Name: ruleGoesOn, Why: "A group that became classic and has to rebalance says so in its record, by the time 0, and a new coordinator goes " +
		"on with that. Kafka's is then stable."},
	{Name: ruleUnsettled, Why: "A group that becomes classic because a static member came back as one rebalances if any member waits for " +
		"partitions. Kafka makes it stable."},
	{Name: ruleLoading, Why: "A new coordinator gives classic members of a consumer group their own sessions, and their time to join again. " +
		"Kafka's gives them those of the consumer protocol."},
	{Name: ruleNobody, Why: "Where all members of a consumer group are classic, Heartbeat asks them to join again if the group needs an " +
		"assignment or topics have changed. Kafka waits for somebody who joins."},
	{Name: ruleNeither, Why: "Who speaks the consumer protocol by now, under the same id, owes neither JoinGroup nor SyncGroup. Kafka fences it."},
	{Name: ruleUnseen, Why: "An upgrade in the middle of a rebalance, or with partitions that nobody has, begins an epoch. Kafka leaves it at " +
		"what the classic leader assigned. In the middle of a rebalance the step is skipped, else the run ends."},
	{Name: ruleRefused, Why: "Kafka sends those that wait in JoinGroup and SyncGroup away before it knows whether a group can be upgraded. The " +
		"run ends."},
	{Name: ruleFirst, Why: "Who leads a group that becomes classic is the first in Kafka's table of its members, whose order depends on who else " +
		"was in it before. Ours takes the order of a new table."},
	{Name: ruleOld, Why: "The deadlines of the members of a consumer group end when it becomes classic. Kafka's go on, and fence members when it " +
		"is a consumer group again. They are taken out."},
	{Name: ruleFirstRebalance, Why: "A group can be upgraded before its first rebalance is over. Kafka throws NoSuchElementException. The step " +
		"is skipped."},
	{Name: ruleAssignor, Why: "Kafka's assignors take members and topics in the order of hash tables, ours in order of their ids. Kafka's get " +
		"them in that order, too."},
	{Name: ruleSame, Why: "Whether all members read the same is asked of the group with what the sender says now. Kafka asks the group before if " +
		"nothing else changed, and gives partitions to a member that reads nothing yet. Its assignors are told what ours are."},
	{Name: ruleKnown, Why: "A member that has an instance id from now on, under its former id, keeps its target. Kafka looks for that by the " +
		"instance, and gives it nothing until the next epoch. The step is skipped."},
	{Name: ruleForgets, Why: "When a static member with a pattern makes the group classic Kafka writes the tombstone for what the pattern means twice: for " +
		"the member and for the group."},
	{Name: ruleCame, Why: "Topics are looked for again when there are new ones since the last look. Kafka also does if a topic came and went in " +
		"between. The run ends."},
	{Name: ruleBegun, Why: "A look at all topics for patterns sees those that there were when it began, Kafka's those when it runs. Kafka's gets " +
		"ours; what has come since is new to the next look."},
	{Name: ruleTie, Why: "Of two assignors that as many ask for ours takes always the same. Kafka goes by two hash tables, which may differ: " +
		"then each heartbeat begins an epoch. The run ends."},
	{Name: ruleForgotten, Why: "A classic member with an id that joins an empty consumer group is unknown. Kafka says so, too, and forgets the " +
		"group until it loads the log again. It does not get to see such a request."},
	{Name: ruleStumbles, Why: "Kafka throws what is no answer to ConsumerGroupHeartbeat where a classic leader has assigned a partition that is " +
		"not there, or to two members. The run ends, as it does if a deadline throws IllegalStateException at a group that has moved " +
		"on."},
}

// kinds are counted besides the rules: what Kafka answered, and after how many steps group g was what.
var kinds = []string{"answer", "group"}

var membersOf = regexp.MustCompile("/([01])/[-0-9]+/")

// kindOf says what kind of group a line shows; empty if it is no such line, or the group has no members.
func kindOf(line string) string {
	f := strings.Fields(line)
	if len(f) < 5 || f[0] != "s" || f[1] != "g" || f[2] == "offsets" {
		return ""
	}
	if f[2] == "0" {
		if f[3] == "Empty" {
			return ""
		}
		return "group classic " + f[3]
	}
	kinds := map[string]bool{}
	for _, m := range membersOf.FindAllStringSubmatch(line, -1) {
		kinds[m[1]] = true
	}
	switch {
	case kinds["0"] && kinds["1"]:
		return "group mixed " + f[2]
	case kinds["0"]:
		return "group consumer of classic members " + f[2]
	case kinds["1"]:
		return "group consumer " + f[2]
	}
	return ""
}

// compare takes out of one step's lines what the rules allow, and returns the rest that only one side has. over is set if the run
// cannot go on.
func (r *run) compare(cmd string, theirs, ours []string) (onlyTheirs, onlyOurs []string, over bool) {
	for _, l := range theirs {
		if name, ok := strings.CutPrefix(l, "k "); ok {
			r.used[name]++
			if name == ruleTie {
				return nil, nil, true
			}
		}
		if strings.Contains(l, " x java.lang.IllegalStateException") || strings.HasSuffix(l, " beat -1") {
			r.used[ruleStumbles]++
			return nil, nil, true
		}
	}
	answered := map[string]bool{}
	for _, l := range theirs {
		if f := strings.Fields(l); len(f) > 2 && f[1] == "a" {
			answered[f[2]] = true
		}
	}
	ours = slices.DeleteFunc(slices.Clone(ours), func(l string) bool {
		f := strings.Fields(l)
		if len(f) < 5 || f[1] != "a" || answered[f[2]] {
			return false
		}
		switch f[3] + f[4] {
		case "join27", "sync27", "sync25":
			r.used[ruleAnswered]++
			r.forgotten[f[2]] = true
			return true
		}
		return false
	})
	theirs = slices.DeleteFunc(slices.Clone(theirs), func(l string) bool { // its runtime's answer, where it does not matter any more
		f := strings.Fields(l)
		return len(f) == 4 && f[1] == "a" && f[3] == "lost" && r.forgotten[f[2]]
	})
	theirs, ours = plain(theirs), plain(ours)
	onlyTheirs, onlyOurs = pair.Minus(theirs, ours), pair.Minus(ours, theirs)
	onlyTheirs = slices.DeleteFunc(onlyTheirs, func(l string) bool {
		f := strings.Fields(l)
		again := len(f) > 3 && strings.HasPrefix(f[1], "0007") && strings.HasPrefix(f[3], "[TopicPartitions=[]") && slices.Contains(ours, l)
		if again {
			r.used[ruleTwice]++
		}
		if len(f) == 3 && strings.HasPrefix(f[1], "0010") && f[2] == "nil" && slices.Contains(ours, l) {
			r.used[ruleForgets]++
			again = true
		}
		return again
	})
	same, looks := r.deleted, 0
	for _, l := range onlyTheirs { // and what follows from a look
		if f := strings.Fields(l); len(f) > 2 && strings.HasPrefix(f[1], "0010") {
			looks++
			same = same && r.patterns[f[1]] == meaning.FindString(l)
		}
	}
	if same && looks > 0 && !slices.ContainsFunc(ours, func(l string) bool { return strings.HasPrefix(l, "@") && strings.Contains(l, " 0010") }) {
		r.used[ruleCame]++
		return nil, nil, true
	}
	for _, l := range theirs {
		if f := strings.Fields(l); len(f) > 2 && strings.HasPrefix(f[1], "0010") {
			r.patterns[f[1]] = meaning.FindString(l)
		}
	}
	has := func(lines []string, what string) bool {
		return slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, what) })
	}
	if cmd == "beat" && has(theirs, " 0002") {
		if has(onlyOurs, " 0003") {
			r.used[ruleUnseen]++
			return nil, nil, true
		}
	} else if cmd == "beat" && len(onlyOurs) == 0 && (has(onlyTheirs, " join 27") || has(onlyTheirs, " sync 27")) {
		r.used[ruleRefused]++
		return nil, nil, true
	}
	if cmd == "advance" && len(onlyTheirs) > 0 && len(pair.Minus(hashless(onlyTheirs), hashless(onlyOurs))) == 0 && len(onlyTheirs) == len(onlyOurs) {
		r.used[ruleOrder]++
		return nil, nil, false
	}
	return onlyTheirs, onlyOurs, false
}

// afterLoss spells alike what a classic group is whose upgrade was lost.
func afterLoss(lines []string) (res []string) {
	for _, l := range lines {
		if strings.HasPrefix(l, "s ") {
			l = strings.ReplaceAll(l, "CompletingRebalance", "PreparingRebalance")
		}
		res = append(res, l)
	}
	return res
}

var meaning = regexp.MustCompile(`Topics=\[[^]]*\]`)

var hashes = regexp.MustCompile("(Epoch=[0-9]+) MetadataHash=[^ ]*")

func hashless(lines []string) (res []string) {
	for _, l := range lines {
		res = append(res, hashes.ReplaceAllString(l, "$1"))
	}
	return res
}

// plain drops the lines that are about the judge, and spells alike what means the same to a client: who waits in SyncGroup when the
// assignment is lost hears so from the group or from the runtime.
func plain(lines []string) (res []string) {
	for _, l := range lines {
		f := strings.Fields(l)
		if f[0] == "i" || f[0] == "k" {
			continue
		}
		if len(f) > 4 && f[1] == "a" && f[3] == "sync" && f[4] == "15" {
			l = strings.Join(append(f[:3:3], "lost"), " ")
		}
		if f[1] == "R" {
			l = f[0] + " " + record(f[2], f[3])
		}
		if f[1] != "R" {
			l = embeddedBytes.ReplaceAllStringFunc(l, func(text string) string { return fmt.Sprintf("0x%x", ordered(unspell(text))) })
		}
		res = append(res, strings.TrimSpace(l))
	}
	return res
}

// record spells records of consumer groups alike whatever the order of what is a set in them. All others are compared as bytes.
func record(key, value string) string {
	k, err1 := hex.DecodeString(key)
	v, err2 := hex.DecodeString(strings.TrimPrefix(value, "nil"))
	if err1 != nil || err2 != nil || value == "nil" || len(k) < 2 || k[1] < 2 {
		return key + " " + value
	}
	_, decoded, err := logrec.DecodeGroup(k, v)
	if err != nil {
		return err.Error()
	}
	if g, ok := decoded.(*logrec.GroupMetadataValue); ok { // the order of its members is not that of a set
		for i := range g.Members {
			g.Members[i].Assignment = ordered(g.Members[i].Assignment)
		}
		text, _ := json.Marshal(g)
		return key + " v" + value[:4] + " " + string(text)
	}
	if c, ok := decoded.(*logrec.ConsumerGroupCurrentMemberAssignmentValue); ok {
		for _, l := range [][]logrec.ConsumerGroupCurrentMemberAssignmentValueTopicPartition{c.AssignedPartitions, c.PartitionsPendingRevocation} {
			for i := range l { // a partition and its epoch belong together
				for n := range l[i].AssignmentEpochs {
					l[i].AssignmentEpochs[n] += l[i].Partitions[n] << 16
				}
			}
		}
	}
	text, _ := json.Marshal(decoded)
	var tree any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	_ = d.Decode(&tree)
	return key + " v" + value[:4] + " " + canonical(tree)
}

// canonical prints a tree with every list in order.
func canonical(tree any) string {
	switch x := tree.(type) {
	case []any:
		var l []string
		for _, e := range x {
			l = append(l, canonical(e))
		}
		return sorted(l)
	case map[string]any:
		var l []string
		for k, e := range x {
			l = append(l, k+"="+canonical(e))
		}
		return sorted(l)
	}
	return fmt.Sprint(tree)
}
