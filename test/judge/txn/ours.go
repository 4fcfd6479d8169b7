package txn

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/core/shard"
	core "github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/engine/coord"
	"github.com/moldau-io/moldau/internal/wire"
)

// side is one of the two coordinators.
type side interface {
	// do runs a step and says what came of it, as java/Judge.java does.
	do(line string, q request) ([]string, error)
}

// ours is our shard with the runtime's part, and that of the sender of markers.
type ours struct {
	fault string // what it gets wrong, for TestPlanted

	cfg     core.Config
	s       *core.Shard
	now     time.Time
	log     []entry
	hw      int // the first records of the log that are committed
	hold    bool
	fail    wire.ErrorCode // of every append; with large set only of records with more partitions than that
	large   int
	level   int16
	noIDs   bool
	asks    string         // whose producer id is asked for
	drawn   map[string]int // how many each has had
	gone    map[id.TopicPartition]bool
	tickets map[shard.Ticket]string // what was asked
	parts   map[shard.Ticket][]id.TopicPartition
	pending []op
	sent    []out
	out     []string
}

type entry struct {
	r    shard.Record
	name string
}

// op is a decision whose records are not committed.
type op struct {
	ticket   shard.Ticket
	reply    any
	messages []any
	needs    int
}

// out is markers on their way to a node.
type out struct {
	m  core.Markers
	to int
}

func (o *ours) do(_ string, q request) ([]string, error) {
	o.out = nil
	if q.Cmd == "init" {
		*o = ours{fault: o.fault, now: time.UnixMilli(startMs), cfg: core.DefaultConfig(), level: int16(q.Num("level")), large: -1, drawn: map[string]int{},
			gone: map[id.TopicPartition]bool{}, tickets: map[shard.Ticket]string{}, parts: map[shard.Ticket][]id.TopicPartition{}}
		o.cfg.MaxTimeoutMs, o.cfg.AbortInterval = maxTimeoutMs, abortMs*time.Millisecond
		o.cfg.Expiration, o.cfg.ExpirationInterval = expirationMs*time.Millisecond, sweepMs*time.Millisecond
		switch o.fault {
		case "timeout":
			o.cfg.MaxTimeoutMs--
		case "expiry":
			o.cfg.Expiration += sweepMs * time.Millisecond
		case "tick":
			o.cfg.AbortInterval /= 2
		}
		o.cfg.Level = func() int16 { return o.level }
		o.cfg.NextProducerID = o.nextID
		o.load()
	}
	o.step(q)
	if _, told := q.Args["drawn"]; told && (q.Cmd == "lose" || q.Cmd == "reload") {
		clear(o.drawn) // what was decided upon lost records has had ids that Kafka was not asked for
		for _, s := range q.List("drawn") {
			name, n, _ := strings.Cut(s, ":")
			o.drawn[name], _ = strconv.Atoi(n)
		}
	}
	o.look()
	return o.out, nil
}

func (o *ours) say(format string, args ...any) { o.out = append(o.out, fmt.Sprintf(format, args...)) }

func (o *ours) nextID() (id.ProducerID, bool) {
	if o.noIDs {
		return id.NoProducer, false
	}
	if o.asks == "" {
		panic("who asks for a producer id?")
	}
	o.drawn[o.asks]++
	return id.ProducerID((slices.Index(names, o.asks)+1)*1000 + o.drawn[o.asks]), true
}

func (o *ours) step(q request) {
	p := core.Producer{TransactionalID: q.Text("name")}
	if q.asks() {
		p.ID, p.Epoch = id.ProducerID(q.Num("p")), id.ProducerEpoch(q.Num("e"))
		o.asks = p.TransactionalID
	}
	switch q.Cmd {
	case "put":
		o.log = append(o.log, entry{shard.Record{Key: unhex(q.Args["key"]), Value: unhex(q.Args["value"])}, q.Args["name"]})
		o.hw = len(o.log)
	case "level":
		o.level = int16(q.Num("n"))
	case "ids":
		o.noIDs = q.Args["on"] == "0"
	case "gone", "back":
		for _, tp := range q.partitions("p") {
			o.gone[tp] = q.Cmd == "gone"
		}
	case "start":
		r := core.Init{TransactionalID: p.TransactionalID, TimeoutMs: int32(q.Num("timeout")), ProducerID: p.ID, Epoch: p.Epoch, TwoPhase: q.Args["twopc"] == "1", KeepPrepared: q.Args["keep"] == "1"}
		o.ask(q, func(t core.Turn) shard.Result { return o.s.InitProducerID(t, r) })
	case "add":
		o.ask(q, func(t core.Turn) shard.Result {
			return o.s.AddPartitions(t, p, q.partitions("parts"), int16(q.Num("tv")))
		})
	case "verify":
		o.ask(q, func(t core.Turn) shard.Result { return o.s.Verify(t, p, q.partitions("parts")) })
	case "end":
		version := int16(q.Num("tv"))
		if o.fault == "version" {
			version = 0
		}
		if o.fault == "epoch" && p.Epoch > 0 {
			p.Epoch--
		}
		o.ask(q, func(t core.Turn) shard.Result { return o.s.End(t, p, q.Args["commit"] == "1", version) })
	case "mark":
		o.mark(q.Args["name"], q.Num("on"), q.Args["code"])
	case "late": // what a former coordinator sent is none of this one's business
	case "advance":
		o.advance(o.now.Add(time.Duration(q.Num("ms")) * time.Millisecond))
	case "fail":
		o.fail, o.large = wire.ErrorCode(q.Num("code")), q.Num("large")
	case "ok":
		o.fail = wire.ErrNone
	case "hold":
		o.hold = true
	case "release":
		o.hold = false
		o.settle()
	case "lose":
		o.hold = false
		o.lose(o.hw, clientError(wire.ErrorCode(q.Num("code"))))
		o.settle()
	case "reload":
		code := clientError(wire.ErrorCode(q.Num("code")))
		if code == wire.ErrNone {
			code = wire.ErrNotCoordinator
		}
		if q.Args["keep"] == "0" {
			o.log = o.log[:o.hw]
		}
		o.failAll(code)
		o.hw, o.hold, o.fail, o.sent = len(o.log), false, wire.ErrNone, nil
		o.load()
	case "list":
		o.list(q)
	}
}

// load is what a new leader does.
func (o *ours) load() {
	o.s = core.New(o.cfg)
	for i, e := range o.log {
		if known, err := o.s.Replay(id.Offset(i), id.NoProducer, e.r.Key, e.r.Value); err != nil || !known {
			panic(fmt.Sprint(known, err))
		}
	}
	o.s.Committed(id.Offset(o.hw))
	o.take(shard.NoTicket, o.s.Loaded(o.now, id.Offset(len(o.log))))
	o.settle()
}

func (o *ours) ask(q request, decide func(core.Turn) shard.Result) {
	t := shard.Ticket(q.Num("t"))
	o.tickets[t] = q.Cmd
	if q.Cmd == "verify" {
		o.parts[t] = q.partitions("parts")
	}
	o.take(t, decide(core.Turn{Now: o.now, Ticket: t}))
	o.settle()
}

// take does what the runtime does with a result: append, apply, answer and send when committed.
func (o *ours) take(t shard.Ticket, res shard.Result) {
	for _, a := range res.Answers {
		o.answer(a.Ticket, a.Body)
	}
	before, lost := len(o.log), false
	var lines []string
	for _, r := range res.Records {
		o.s.Apply(id.Offset(len(o.log)), r)
		name, partitions := about(r.Key, r.Value)
		value := "nil"
		if r.Value != nil {
			value = fmt.Sprintf("%x", r.Value)
		}
		o.log = append(o.log, entry{r, name})
		lines = append(lines, fmt.Sprintf("R %s %x %s", name, r.Key, value))
		lost = lost || o.fail != wire.ErrNone && partitions > o.large
	}
	if n := len(o.log); lost && n-before == 2 && o.log[n-1].name == o.log[n-2].name {
		lines = lines[:1] // of an end without markers Kafka takes the second step when the first is done
	}
	o.out = append(o.out, lines...)
	if o.fault == "early" {
		for _, m := range res.Messages {
			o.send(m.(core.Markers))
		}
		res.Messages = nil
	}
	if res.Reply != nil || len(res.Messages) > 0 {
		o.pending = append(o.pending, op{t, res.Reply, res.Messages, len(o.log)})
	}
	if lost {
		o.lose(before, clientError(o.fail))
	}
}

// settle commits what may be committed, and goes on with what waited for that.
func (o *ours) settle() {
	for {
		if !o.hold && o.hw < len(o.log) {
			o.hw = len(o.log)
			o.s.Committed(id.Offset(o.hw))
		}
		if len(o.pending) == 0 || o.pending[0].needs > o.hw {
			return
		}
		p := o.pending[0]
		o.pending = o.pending[1:]
		if p.reply != nil {
			o.answer(p.ticket, p.reply)
		}
		for _, m := range p.messages {
			o.send(m.(core.Markers))
		}
	}
}

// lose takes back what is in the log from n on, as a failed append does.
func (o *ours) lose(n int, code wire.ErrorCode) {
	if o.fault != "loss" {
		o.s.Revert(id.Offset(n))
		o.log = o.log[:n]
	}
	keep := 0
	for keep < len(o.pending) && o.pending[keep].needs <= n {
		keep++
	}
	failed := o.pending[keep:]
	o.pending = o.pending[:keep:keep]
	for _, p := range failed {
		o.failed(p.ticket, code)
	}
}

func (o *ours) failAll(code wire.ErrorCode) {
	failed := o.pending
	o.pending = nil
	for _, p := range failed {
		o.failed(p.ticket, code)
	}
}

func (o *ours) failed(t shard.Ticket, code wire.ErrorCode) {
	switch o.tickets[t] {
	case "start", "end":
		o.answer(t, core.Identity{Code: code, ProducerID: id.NoProducer, Epoch: id.NoProducerEpoch})
	case "add":
		o.answer(t, code)
	case "verify":
		o.answer(t, slices.Repeat([]wire.ErrorCode{code}, len(o.parts[t])))
	}
}

func (o *ours) answer(t shard.Ticket, body any) {
	kind, open := o.tickets[t]
	if !open {
		panic("a ticket is answered twice")
	}
	delete(o.tickets, t)
	switch m := body.(type) {
	case core.Identity:
		o.say("a %d %s %d %d %d", t, kind, m.Code, m.ProducerID, m.Epoch)
	case wire.ErrorCode: // the name may be what is wrong
		o.say("a %d %s %d", t, kind, m)
	case []wire.ErrorCode:
		var l []string
		for i, tp := range o.parts[t] {
			l = append(l, fmt.Sprintf("%v=%d", tp, m[i]))
		}
		o.say("a %d %s %s", t, kind, sorted(l))
	default:
		panic(fmt.Sprintf("an answer of type %T", body))
	}
}

// node is who leads a partition.
func node(tp id.TopicPartition) int { return int(tp.Partition)%2 + 1 }

// send sorts the partitions of markers by who leads them. Those that are gone need none.
func (o *ours) send(m core.Markers) {
	var gone []id.TopicPartition
	var to [3][]id.TopicPartition
	for _, tp := range m.Partitions {
		if o.gone[tp] {
			gone = append(gone, tp)
		} else {
			to[node(tp)] = append(to[node(tp)], tp)
		}
	}
	for n, l := range to {
		if l != nil {
			one := m
			one.Partitions = l
			o.sent = append(o.sent, out{one, n})
		}
	}
	if gone != nil {
		o.take(shard.NoTicket, o.s.Written(o.now, m, gone))
	}
}

// mark lets a node answer about the markers of name: with these codes for its partitions in order, the last for all that are left.
func (o *ours) mark(name string, on int, code string) {
	i := slices.IndexFunc(o.sent, func(x out) bool { return x.m.TransactionalID == name && x.to == on })
	if i < 0 {
		return
	}
	m := o.sent[i].m
	o.sent = slices.Delete(o.sent, i, i+1)
	if o.fault == "marker" && m.Commit {
		return
	}
	codes := strings.Split(code, ",")
	l := slices.Clone(m.Partitions)
	slices.SortFunc(l, func(a, b id.TopicPartition) int { return strings.Compare(a.String(), b.String()) })
	var done, again []id.TopicPartition
	former := false
	for n, tp := range l {
		switch codes[min(n, len(codes)-1)] {
		case "0", "43":
			done = append(done, tp)
		case "52":
			former = true
		default:
			again = append(again, tp)
		}
	}
	o.take(shard.NoTicket, o.s.Written(o.now, m, done))
	if !former && again != nil {
		m.Partitions = again
		o.send(m)
	}
	o.settle()
}

// advance lets time pass, stopping at each deadline.
func (o *ours) advance(end time.Time) {
	for {
		at, ok := o.s.Deadline()
		if !ok || at.After(end) {
			break
		}
		if at.After(o.now) {
			o.now = at
		}
		o.asks = o.exhausted()
		res, ok := o.s.Expire(o.now)
		if !ok {
			panic("a deadline has passed, and nothing expired")
		}
		o.take(shard.NoTicket, res)
		o.settle()
	}
	o.now = end
}

// exhausted returns who gets a new producer id if its transaction is aborted now. If these are several it says so: see ruleOrder.
func (o *ours) exhausted() (one string) {
	o.s.List(func(name string, t *core.Transaction) {
		if t.State != core.Ongoing || t.Epoch < 32766 || t.StartMs+int64(t.TimeoutMs) >= o.now.UnixMilli() {
			return
		}
		if one != "" {
			o.say("o")
		}
		one = name
	})
	return one
}

func (o *ours) list(q request) {
	var pattern *regexp.Regexp
	if p := q.Args["pattern"]; p != "-" {
		var err error
		if pattern, err = core.Pattern(p); err != nil {
			o.say("a %s list %d [] []", q.Args["t"], wire.ErrInvalidRegularExpression)
			return
		}
	}
	f := core.Filter{States: q.List("states"), MinAgeMs: int64(q.Num("age")), Pattern: pattern}
	if o.fault == "filter" && f.MinAgeMs > 0 {
		f.MinAgeMs--
	}
	for _, s := range q.List("pids") {
		n, _ := strconv.ParseInt(s, 10, 64)
		f.ProducerIDs = append(f.ProducerIDs, n)
	}
	var l, unknown []string
	for _, s := range f.States {
		if !core.KnownState(s) {
			unknown = append(unknown, s)
		}
	}
	o.s.List(func(name string, t *core.Transaction) {
		if f.Passes(name, t, o.now.UnixMilli()) {
			l = append(l, fmt.Sprintf("%s/%v/%d", name, t.State, t.ProducerID))
		}
	})
	o.say("a %s list 0 %s %s", q.Args["t"], sorted(l), sorted(unknown))
}

// look prints what clients see of the transactions, and what is on its way.
func (o *ours) look() {
	for _, name := range names {
		t := o.s.Describe(name)
		if t == nil {
			o.say("s %s %d", name, wire.ErrTransactionalIDNotFound)
			continue
		}
		o.say("s %s 0 %v %d %d %d %d %s", name, t.State, t.ProducerID, t.Epoch, t.TimeoutMs, t.StartMs, show(t.Partitions))
	}
	all := map[string][]id.TopicPartition{}
	for _, x := range o.sent {
		result := "ABORT"
		if x.m.Commit {
			result = "COMMIT"
		}
		key := fmt.Sprintf("m %s %d %d %s %d", x.m.TransactionalID, x.m.ProducerID, x.m.Epoch, result, x.m.Version)
		all[key] = append(all[key], x.m.Partitions...)
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		o.say("%s %s", key, show(all[key]))
	}
	for _, name := range slices.Sorted(maps.Keys(o.drawn)) {
		o.say("n %s %d", name, o.drawn[name])
	}
	var held []string
	for _, e := range o.log[o.hw:] {
		if !slices.Contains(held, e.name) {
			held = append(held, e.name)
		}
	}
	if held != nil {
		slices.Sort(held)
		o.say("h %s", strings.Join(held, " "))
	}
}

func show(l []id.TopicPartition) string {
	var all []string
	for _, tp := range l {
		all = append(all, tp.String())
	}
	return sorted(all)
}

func sorted(l []string) string {
	slices.Sort(l)
	return "[" + strings.Join(l, " ") + "]"
}

// clientError is what a client hears of an append's error; coord.ClientError says it in earnest.
func clientError(code wire.ErrorCode) wire.ErrorCode {
	return coord.ClientError(code)
}
