package txn

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire/logrec"
	"github.com/moldau-io/moldau/test/judge/pair"
)

// A step is a line: a word, then name=value pairs. Who asks stays open until the step is run, so that steps before it can be taken
// out: "p=@2" is the producer id that client 2 was told last, "e=@2+1" its epoch and one more, "p=~2" what it was told before that. "-"
// is none, '' is empty.

var names = []string{"a", "b", "c"}

// clients share the names: two of each.
const clients = 6

// runSteps is how long a run is, without its end.
const runSteps = 150

// The setting of both coordinators.
const (
	maxTimeoutMs = 900_000
	expirationMs = 7_200_000
	sweepMs      = 3_600_000
	abortMs      = 10_000
)

var startMs = int64(1_700_000_000_000)

// history makes the steps of one run.
func history(seed uint64) []string {
	rnd := rand.New(rand.NewPCG(seed, 101))
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	one := func(in int) bool { return rnd.IntN(in) == 0 }
	level := 2
	if one(3) {
		level = rnd.IntN(2)
	}
	calm, losses := 1+rnd.IntN(8), one(2) // calm clients do mostly what is right
	steps := []string{fmt.Sprintf("init level=%d", level)}
	var version [clients]int
	for c := range version {
		if level == 2 && !one(4) {
			version[c] = 2
		}
	}
	if one(2) {
		steps = append(steps, past(rnd, level)...)
	}
	some := func() string {
		l := []string{"t-0", "t-1", "u-0", "__consumer_offsets-3"}
		rnd.Shuffle(len(l), func(i, k int) { l[i], l[k] = l[k], l[i] })
		return strings.Join(l[:1+rnd.IntN(3)], ",")
	}
	parts := func() string {
		if one(40) {
			return "-"
		}
		return some()
	}
	holding, failing, leaves := false, false, 0
	for len(steps) < runSteps {
		c := rnd.IntN(clients)
		if calm > 1 && !one(4) {
			c %= len(names)
		}
		name, tv := names[c%len(names)], version[c]
		if one(15*calm) && (level == 2 || one(4)) {
			tv = 2 - tv
		}
		as := c // mostly itself
		if one(6 * calm) {
			as = rnd.IntN(clients)
		}
		e := fmt.Sprintf("@%d", as)
		if one(6 * calm) {
			e += pick("+1", "-1", "-1", "-2", "+7")
		}
		who := fmt.Sprintf("p=@%d e=%s", as, e)
		if one(8) { // a repetition whose answer was lost, perhaps an old one
			who = fmt.Sprintf("p=~%d e=~%d%s", c, c, pick("", "", "", "-1"))
		}
		if one(60 * calm) {
			who = pick("p=77 e=3", "p=1001 e=0", fmt.Sprintf("p=@%d e=32766", c), fmt.Sprintf("p=@%d e=32765", c), "p=0 e=32766")
		}
		if one(80 * calm) {
			name = "''"
		}
		var s string
		k := rnd.IntN(100)
		if calm > 1 && k < 18 && !one(3) {
			k = 18 + rnd.IntN(58) // less begins anew
		}
		switch {
		case k < 18:
			timeout := pick("5000", "15000", "60000", "899999", "900000")
			if one(20 * calm) {
				timeout = pick("0", "-1", "900001", "2147483647")
			}
			if one(2) && calm > 1 || one(2) {
				who = "p=-1 e=-1"
			} else if one(4) {
				who = fmt.Sprintf("p=~%d e=~%d%s", c, c, pick("", "", "-1"))
			}
			flags := "twopc=0 keep=0"
			if one(30 * calm) {
				flags = pick("twopc=1 keep=0", "twopc=0 keep=1", "twopc=1 keep=1")
			}
			s = fmt.Sprintf("start c=%d name=%s timeout=%s %s %s", c, name, timeout, flags, who)
		case k < 40:
			s = fmt.Sprintf("add c=%d name=%s %s parts=%s tv=%d", c, name, who, parts(), tv)
		case k < 45:
			s = fmt.Sprintf("verify c=%d name=%s %s parts=%s", c, name, who, some())
		case k < 60:
			s = fmt.Sprintf("end c=%d name=%s %s commit=%d tv=%d", c, name, who, rnd.IntN(2), tv)
		case k < 76:
			code := "0"
			if one(5) {
				code = pick("gone", "6", "3,0", "0,7", "19", "52", "43", "52,0", "56", "43,20")
			}
			s = fmt.Sprintf("mark name=%s on=%d code=%s", names[c%len(names)], 1+rnd.IntN(2), code)
			if one(2) {
				steps = append(steps, fmt.Sprintf("mark name=%s on=1 code=0", names[c%len(names)]))
				s = fmt.Sprintf("mark name=%s on=2 code=0", names[c%len(names)])
			}
		case k < 84:
			ms := 5000
			if one(2) {
				ms = rnd.IntN(4000)
			}
			if one(3) {
				ms = rnd.IntN(30_000)
			}
			if one(12) {
				ms = rnd.IntN(5_000_000)
			}
			s = fmt.Sprintf("advance ms=%d", ms)
		case k < 87:
			s = fmt.Sprintf("list pids=%s states=%s age=%s pattern=%s", pick("-", "-", "1001,2001,3002", "2001"), pick("-", "-", "Ongoing", "Empty,CompleteAbort,Nonsense", "Dead", "PrepareCommit,CompleteCommit,PrepareEpochFence,empty"),
				pick("-1", "-1", "0", "5000", "10000", "1800000000000"), pick("-", "-", "a", "[bc]", ".*", "a|b", "(", "(?i)A", "a+b*", "x", "b$|^c", `\Qa`))
		case k < 89:
			s = pick("gone p=", "back p=", "back p=") + pick("t-0", "t-1", "u-0")
		case k < 90:
			if level > 0 && !one(3) {
				continue
			}
			level = min(2, level+1)
			s = fmt.Sprintf("level n=%d", level)
		case k < 91:
			s = "ids on=" + pick("0", "1", "1")
		case k < 93 && one(2):
			s, holding, failing = fmt.Sprintf("reload keep=%d code=%s", rnd.IntN(2), pick("6", "7", "0")), false, false
		case k < 94:
			s = fmt.Sprintf("late gone=%d", rnd.IntN(2))
		case !losses:
			continue
		case holding:
			s, holding = pick("release", "lose code=19", "lose code=20", "lose code=3"), false
		case failing:
			s, failing = "ok", false
		case one(3):
			s, failing = pick("fail code=19 large=-1", "fail code=10 large=1", "fail code=18 large=0", "fail code=6 large=-1", "fail code=56 large=-1"), true
		default:
			s, holding = "hold", true
		}
		steps = append(steps, s)
		if strings.HasPrefix(s, "fail code=6 ") || strings.HasPrefix(s, "fail code=56 ") {
			leaves = 6
		}
		if leaves > 0 && one(leaves) { // see ruleLeader
			steps, holding, failing, leaves = append(steps, fmt.Sprintf("reload keep=%d code=6", rnd.IntN(2))), false, false, 1
		}
		leaves = max(0, leaves-1)
	}
	end := []string{"ids on=1", "ok", "release", "reload keep=1 code=6", "advance ms=30000"}
	for range 2 {
		for _, name := range names {
			end = append(end, fmt.Sprintf("mark name=%s on=1 code=0", name), fmt.Sprintf("mark name=%s on=2 code=0", name))
		}
		end = append(end, "advance ms=1000000")
	}
	for _, name := range names {
		end = append(end, fmt.Sprintf("mark name=%s on=1 code=0", name), fmt.Sprintf("mark name=%s on=2 code=0", name))
	}
	return append(append(steps, end...), "advance ms=3600000", "advance ms=3600000", "advance ms=3600000", "advance ms=10000000")
}

// past puts transactions into the log, as Kafka writes them, with epochs that come to their end.
func past(rnd *rand.Rand, level int) (steps []string) {
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	for i, name := range names {
		if rnd.IntN(4) == 0 {
			continue
		}
		pid := 100 * (i + 1)
		tv, state, next := 0, rnd.IntN(6), -1
		if level == 2 && rnd.IntN(4) > 0 {
			tv = 2
		}
		epoch := 32767 - rnd.IntN(6)
		highest := 32766
		switch {
		case state == 2 || state == 3: // the epoch of a fence, or of an end that bumped it
			highest = 32767
		case state == 5 && tv == 0:
			highest = 32767
		}
		epoch = min(epoch, highest)
		if (state == 2 || state == 3) && (tv == 2 && epoch == 32767 || rnd.IntN(5) == 0) { // the second has no meaning, and must have none
			next = pid + 1
		}
		prev := strconv.Itoa(pid)
		if rnd.IntN(3) == 0 {
			prev = strconv.Itoa(pid - 1)
		}
		parts, start := "-", int64(-1)
		if state != 0 {
			start = startMs - int64(rnd.IntN(10_000))
		}
		if state > 0 && state < 4 {
			parts = pick("t-0", "t-0,t-1", "t-1,u-0", "t-0,u-0,__consumer_offsets-3")
		}
		if level == 0 {
			tv, next, prev = 0, -1, "-1"
		}
		steps = append(steps, fmt.Sprintf("put name=%s pid=%d epoch=%d prev=%s next=%d state=%d tv=%d timeout=%s start=%d parts=%s", name, pid, epoch, prev, next, state, tv, pick("5000", "60000"), start, parts))
	}
	return append(steps, "reload keep=1 code=6")
}

// encoded is the record of a put.
func (r *run) encoded(q request) (key, value []byte) {
	v := &logrec.TransactionLogValue{ProducerID: int64(q.Num("pid")), ProducerEpoch: int16(q.Num("epoch")), PreviousProducerID: int64(q.Num("prev")), NextProducerID: int64(q.Num("next")),
		NextProducerEpoch: -1, TransactionTimeoutMs: int32(q.Num("timeout")), TransactionStatus: int8(q.Num("state")), ClientTransactionVersion: int16(q.Num("tv")),
		TransactionLastUpdateTimestampMs: startMs, TransactionStartTimestampMs: int64(q.Num("start"))}
	if v.TransactionStatus != 0 {
		v.TransactionPartitions = []logrec.TransactionLogValueTransactionPartition{}
		for _, tp := range q.partitions("parts") {
			v.TransactionPartitions = append(v.TransactionPartitions, logrec.TransactionLogValueTransactionPartition{Topic: tp.Topic, PartitionIDs: []int32{tp.Partition}})
		}
	}
	return logrec.EncodeGroupKey(&logrec.TransactionLogKey{TransactionalID: q.Text("name")}), logrec.EncodeVersioned(v, int16(min(r.level, 1)))
}

// request is a step whose clients are known.
type request struct{ pair.Request }

func (q request) partitions(name string) (l []id.TopicPartition) {
	for _, s := range q.List(name) {
		at := strings.LastIndexByte(s, '-')
		n, _ := strconv.Atoi(s[at+1:])
		l = append(l, id.TopicPartition{Topic: s[:at], Partition: int32(n)})
	}
	return l
}

// asks reports whether the step is a request about one transactional id.
func (q request) asks() bool {
	switch q.Cmd {
	case "start", "add", "verify", "end":
		return true
	}
	return false
}

// told is what a client knows of itself.
type told struct{ id, epoch int }

// resolve puts in who is meant. It returns no line if that is a client that knows nothing, and the step is of no use without.
func (r *run) resolve(step string) (line string, q request) {
	words := strings.Fields(step)
	q = request{pair.Request{Cmd: words[0], Args: map[string]string{}}}
	for i, w := range words[1:] {
		name, v, _ := strings.Cut(w, "=")
		if (name == "p" || name == "e") && (v[0] == '@' || v[0] == '~') {
			t, known := r.clients[int(v[1]-'0')]
			if v[0] == '~' {
				t, known = r.former[int(v[1]-'0')]
			}
			switch {
			case !known && q.Cmd != "start":
				return "", q
			case !known:
				v = "-1"
			case name == "p":
				v = strconv.Itoa(t.id)
			default:
				plus, _ := strconv.Atoi(v[2:])
				if t.epoch += plus; t.epoch < 0 || t.epoch > 32767 {
					return "", q
				}
				v = strconv.Itoa(t.epoch)
			}
		}
		q.Args[name] = v
		words[1+i] = name + "=" + v
	}
	if q.Cmd == "start" && (q.Args["p"] == "-1" || q.Args["e"] == "-1") { // one without the other is refused a floor above, in both
		q.Args["p"], q.Args["e"] = "-1", "-1"
		for i, w := range words[1:] {
			if name, _, _ := strings.Cut(w, "="); name == "p" || name == "e" {
				words[1+i] = name + "=-1"
			}
		}
	}
	switch q.Cmd {
	case "init":
		r.level = q.Num("level")
	case "level":
		r.level = q.Num("n")
	case "put":
		key, value := r.encoded(q)
		q.Args["key"], q.Args["value"] = hex.EncodeToString(key), hex.EncodeToString(value)
		words = append(words, "key="+q.Args["key"], "value="+q.Args["value"])
	}
	if q.asks() || q.Cmd == "list" {
		r.tickets++
		q.Args["t"] = strconv.Itoa(r.tickets)
		words = append(words, "t="+q.Args["t"])
		if c, ok := q.Args["c"]; ok {
			r.askers[q.Args["t"]] = int(c[0] - '0')
		}
	}
	return strings.Join(words, " "), q
}

// learn hears what clients are told.
func (r *run) learn(lines []string) {
	for _, l := range lines {
		f := strings.Fields(l)
		if len(f) == 6 && f[0] == "a" && f[3] == "0" && f[4] != "-1" {
			p, _ := strconv.Atoi(f[4])
			e, _ := strconv.Atoi(f[5])
			c := r.askers[f[1]]
			if t, ok := r.clients[c]; ok && t != (told{p, e}) {
				r.former[c] = t
			}
			r.clients[c] = told{p, e}
		}
	}
}
