package coordinators

import (
	"slices"
	"strconv"

	"github.com/moldau-io/moldau/internal/core/group"
	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/core/txn"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// commit is one request to commit an offset. Its number is its metadata, so that every answer tells which commit it is.
type commit struct {
	*offsets
	n       int
	life    int // of the group, as its member knew it
	order   int // of decisions; 0: not decided
	txn     *transaction
	acked   bool
	refused bool
}

// claimed is a partition of a topic that a group reads, claim one generation of it.
type claimed struct {
	group     string
	partition int32
}
type claim struct {
	claimed
	life       int
	generation int32
}
type claimant struct {
	life       int
	generation int32
	member     string
	floor      int // order of the newest commit that was acknowledged, or shown
	plain      int // the same without those in transactions that may wait for their marker
}

// lives counts, for each group, how often it began anew: a group that has lost its members and changes its protocol begins with the
// first generation again, and members of its former life are strangers to it. A group that changes its protocol with members that
// stay lives on.
type lives [2]life

type life struct {
	n          int
	generation int32
	members    []string // in the log; never changed once made
	start      []string // before the decision at hand
	buried     bool     // a tombstone was the last that was heard
	former     []string // members at that time
}

func lifeOf(name string) int {
	if name == "work" {
		return 0
	}
	return 1
}

// follow is how a record of the groups changes their lives. G2: within one life generations do not go back.
func (w *World) follow(l lives, e *entry) lives {
	if len(e.key) < 2 || e.key[0] != 0 || e.key[1] != 2 && e.key[1] != 3 && e.key[1] != 5 {
		return l
	}
	k, v, err := logrec.DecodeGroup(e.key, e.value)
	if err != nil {
		w.fail("record", "%v", err)
	}
	var name string
	generation := int32(-1)
	switch k := k.(type) {
	case *logrec.ConsumerGroupMemberMetadataKey:
		x := &l[lifeOf(k.GroupID)]
		x.members = slices.DeleteFunc(slices.Clone(x.members), func(id string) bool { return id == k.MemberID })
		if v != nil {
			x.members = append(x.members, k.MemberID)
		}
		return l
	case *logrec.GroupMetadataKey:
		name = k.Group
		if v != nil {
			generation = v.(*logrec.GroupMetadataValue).Generation
			var members []string
			for _, m := range v.(*logrec.GroupMetadataValue).Members {
				members = append(members, m.MemberID)
			}
			l[lifeOf(name)].members = members
		}
	case *logrec.ConsumerGroupMetadataKey:
		name = k.GroupID
		if v != nil {
			generation = v.(*logrec.ConsumerGroupMetadataValue).Epoch
		}
	}
	x := &l[lifeOf(name)]
	w.trace("%s: %T generation %d, members %v, before %v", name, k, generation, x.members, x.start)
	switch {
	case v == nil:
		x.buried, x.former, x.members = true, x.start, nil
		return l
	case x.buried && !slices.ContainsFunc(x.members, func(id string) bool { return slices.Contains(x.former, id) }):
		x.n++
	case generation < x.generation:
		w.fail("G2", "group %s goes from generation %d to %d", name, x.generation, generation)
	}
	x.generation, x.buried = generation, false
	return l
}

func (w *World) newCommit(o *offsets, x *transaction) *commit {
	c := &commit{offsets: o, n: len(w.commits), txn: x, life: o.life}
	w.commits = append(w.commits, c)
	w.Commits++
	return c
}

func (c *commit) of() claimed { return claimed{c.m.group, c.partition} }

func (c *commit) request(w *World) *api.OffsetCommitRequest {
	text := strconv.Itoa(c.n)
	req := api.NewOffsetCommitRequest()
	req.GroupID, req.MemberID, req.GenerationIDOrMemberEpoch, req.RetentionTimeMs = c.m.group, c.memberID, c.generation, -1
	if w.bugs.Anonymous {
		req.MemberID, req.GenerationIDOrMemberEpoch = "", -1
	}
	if now, ok := w.newest[c.of()]; ok && w.bugs.OldMembers {
		req.MemberID, req.GenerationIDOrMemberEpoch = now.member, now.generation
	}
	req.Topics = []api.OffsetCommitRequestTopic{{Name: c.m.topic, TopicID: topicID(c.m.topic), Partitions: []api.OffsetCommitRequestTopicPartition{
		{PartitionIndex: c.partition, CommittedOffset: int64(c.next), CommittedLeaderEpoch: -1, CommittedMetadata: &text}}}}
	return req
}

// decided says that the coordinator has taken a commit. G2: nobody has the partition in a later generation.
func (w *World) decided(c *commit) {
	w.decisions++
	c.order = w.decisions
	life := w.groups.livesAt(len(w.groups.log))[lifeOf(c.m.group)]
	if c.life != life.n {
		// A request of a former life. If its member is there again under its id and has come to the same epoch, it cannot be told
		// from one of now, by Kafka neither.
		if !slices.Contains(life.members, c.memberID) && !w.bugs.OldMembers {
			w.fail("G2", "a commit of %s for %v is taken, from a former life of the group", c.memberID, c.of())
		}
		return
	}
	if now := w.newest[c.of()]; now.life == life.n && now.generation > c.generation && now.member != c.memberID {
		w.fail("G2", "a commit of %s for %v in generation %d is taken, %s has it in %d", c.memberID, c.of(), c.generation, now.member, now.generation)
	}
}

// acknowledged says that the client knows of a commit.
func (w *World) acknowledged(c *commit) {
	now := w.newest[c.of()]
	now.floor = max(now.floor, c.order)
	if c.txn == nil {
		now.plain = max(now.plain, c.order)
	}
	w.newest[c.of()] = now
}

// claim holds what a member has against what others have, or had, in the same generation.
func (w *World) claim(m *member) {
	w.trace("%s: %s at %d", m.group, m.id, m.epoch)
	m.life = w.groups.seen[lifeOf(m.group)].n
	life := m.life
	for p := range m.has {
		at := claimed{m.group, p}
		key := claim{at, life, m.epoch}
		if other, taken := w.claims[key]; taken && other != m.id {
			w.fail("G2", "%s and %s both have %v in generation %d", other, m.id, at, m.epoch)
		}
		w.claims[key] = m.id
		if now := w.newest[at]; now.life < life || now.life == life && now.generation < m.epoch {
			now.life, now.generation, now.member = life, m.epoch, m.id
			w.newest[at] = now
		}
	}
}

// fetch is OffsetFetch. G1: the answer is the newest commit that was acknowledged before, or a later one.
func (w *World) fetch(name, topic string, p int32, stable bool, done func(at int, ok bool)) {
	key := claimed{name, p}
	floor := w.newest[key].plain
	if stable {
		floor = w.newest[key].floor
	}
	req := &api.OffsetFetchRequestGroup{GroupID: name, MemberEpoch: -1, Topics: []api.OffsetFetchRequestGroupTopic{{Name: topic, TopicID: topicID(topic), PartitionIndexes: []int32{p}}}}
	w.ask(false, func(r reply) {
		w.groups.do(nil, func(s *group.Shard, t shard.Ticket) shard.Result {
			if stable {
				return s.FetchStableOffsets(group.Turn{Now: w.now, Ticket: t}, req)
			}
			return shard.Result{Answers: []shard.Answer{{Ticket: t, Body: s.FetchOffsets(req)}}}
		}, r)
	}, func(body any, _ wire.ErrorCode) {
		a, ok := body.(api.OffsetFetchResponseGroup)
		if !ok || a.ErrorCode != wire.ErrNone || a.Topics[0].Partitions[0].ErrorCode != wire.ErrNone {
			done(0, false)
			return
		}
		w.Fetches++
		got := a.Topics[0].Partitions[0]
		w.fetched(key, got, floor)
		done(int(got.CommittedOffset), true)
	})
}

func (w *World) fetched(key claimed, got api.OffsetFetchResponseGroupTopicPartition, floor int) {
	if got.CommittedOffset < 0 {
		if floor > 0 {
			w.fail("G1", "%v has no offset, commit %d was acknowledged", key, floor)
		}
		return
	}
	n, err := strconv.Atoi(*got.Metadata)
	if err != nil || n >= len(w.commits) {
		w.fail("G1", "%v has the metadata %q", key, *got.Metadata)
	}
	c := w.commits[n]
	switch {
	case c.of() != key || c.next != int(got.CommittedOffset):
		w.fail("G1", "%v has offset %d, which is not that of commit %d of %v", key, got.CommittedOffset, n, c.of())
	case c.order < floor:
		w.fail("G1", "%v has the commit %d, %d was acknowledged or shown", key, c.order, floor)
	case c.refused:
		w.fail("G1", "%v has a commit that was refused", key)
	case c.txn != nil && c.txn.confirmed == aborted:
		w.fail("T1", "%v has an offset of %v, which was aborted", key, c.txn)
	}
	if c.txn != nil {
		c.txn.seen = true
	}
	now := w.newest[key] // what was shown stays, whether it was acknowledged or not
	now.floor, now.plain = max(now.floor, c.order), max(now.plain, c.order)
	w.newest[key] = now
}

// audit looks at a committed offset.
func (w *World) audit() {
	name, topic := "work", topicIn
	if w.rnd.IntN(2) == 0 {
		name, topic = "plain", topicOut
	}
	w.fetch(name, topic, int32(w.rnd.IntN(w.partitionsOf(topic))), w.rnd.IntN(2) == 0, func(int, bool) {})
}

// see is what a reader of committed data does with a value; in is the transaction that he reads in, or nil.
func (w *World) see(v *value, in *transaction) {
	w.Reads++
	switch {
	case v.txn == in:
		w.fail("I12", "%v reads its own value %d", in, v.n)
	case in != nil && in.seen && v.txn.hasRead(in, map[*transaction]bool{}):
		w.fail("I13", "%v and %v have read each other", in, v.txn)
	case v.txn.confirmed == aborted:
		w.fail("I11", "value %d of %v is read, which was aborted", v.n, v.txn)
	}
	v.txn.seen = true
	if in != nil {
		in.reads = append(in.reads, v.txn)
	}
	if v.from.p == nil {
		return
	}
	if other, ok := w.results[v.from]; ok && other != v.n {
		w.fail("T4", "%v[%d] has the results %d and %d", v.from.p.tp, v.from.at, other, v.n)
	}
	w.results[v.from] = v.n
}

// reader reads everything that is committed.
type reader struct{ at map[*partition]int }

func newReader(*World) *reader { return &reader{map[*partition]int{}} }

func (r *reader) step(w *World) {
	for _, list := range [][]*partition{w.in, w.out} {
		for _, p := range list {
			r.at[p] = p.read(w, r.at[p], 20, func(_ int, v *value) { w.see(v, nil) })
		}
	}
}

// judge looks at the end, when everything is well again.
func (w *World) judge() {
	w.txns.core.List(func(name string, t *txn.Transaction) {
		if t.State != txn.Empty && t.State != txn.CompleteCommit && t.State != txn.CompleteAbort {
			w.fail("T5", "%s is still in %v", name, t.State)
		}
	})
	w.judgeOffsets()
	for _, list := range [][]*partition{w.in, w.out} {
		for _, p := range list {
			if end := p.stable(); end < len(p.log) {
				w.fail("T5", "%v is stable below %d of %d", p.tp, end, len(p.log))
			}
		}
	}
	for _, x := range w.all {
		switch {
		case x.committed > 0 && x.aborted > 0:
			w.fail("T1", "%v is torn: %d committed, %d aborted", x, x.committed, x.aborted)
		case x.confirmed == committed && x.aborted > 0:
			w.fail("T2", "%v was committed, and is aborted", x)
		case x.confirmed == aborted && x.committed > 0:
			w.fail("T1", "%v was aborted, and is committed", x)
		case x.committed+x.aborted != x.sent:
			w.fail("T5", "%v: %d sent, %d committed, %d aborted", x, x.sent, x.committed, x.aborted)
		case x.seen && x.aborted > 0:
			w.fail("I11", "%v was read, and is aborted", x)
		}
	}
	end := newReader(w)
	for range 1000 {
		end.step(w)
	}
	w.judgeResults()
	for p := range int32(inPartitions) {
		w.fetch("work", topicIn, p, true, func(int, bool) {})
	}
	for p := range int32(outPartitions) {
		w.fetch("plain", topicOut, p, true, func(int, bool) {})
	}
	w.drain()
	w.Results += len(w.results)
}

// judgeOffsets goes through the log of the groups: commits in transactions count with the transaction.
func (w *World) judgeOffsets() {
	open := map[int64][]*commit{}
	kept := map[*commit]fate{}
	for _, e := range w.groups.log {
		if m := e.marker; m != nil {
			f := aborted
			if m.Commit {
				f = committed
			}
			for _, c := range open[int64(m.ID)] {
				kept[c] = f
				c.txn.sent++
				c.txn.count(f)
			}
			delete(open, int64(m.ID))
		} else if e.producer != nil {
			open[int64(e.producer.ID)] = append(open[int64(e.producer.ID)], e.tag.(*commit))
		}
	}
	for pid, list := range open {
		w.fail("T5", "%d offsets of producer %d are still open", len(list), pid)
	}
	for _, x := range w.all {
		for _, c := range x.offsets {
			if x.confirmed == committed && kept[c] != committed {
				w.fail("T2", "%v was committed, and its offset of %v is not", x, c.of())
			}
		}
	}
}

// judgeResults: what the workers have read to the end of has one result each, and nothing else has.
func (w *World) judgeResults() {
	for p, in := range w.in {
		at, _ := w.groups.core.Offset("work", topicIn, int32(p))
		in.read(w, 0, len(in.log), func(i int, v *value) {
			if _, done := w.results[place{in, i}]; done != (i < int(at)) {
				w.fail("T4", "%v[%d] has a result: %v, the workers have come to %d", in.tp, i, done, at)
			}
		})
	}
}

// hasRead says whether x has read something of y, or of one that has.
func (x *transaction) hasRead(y *transaction, visited map[*transaction]bool) bool {
	for _, r := range x.reads {
		if r == y {
			return true
		}
		if !visited[r] {
			visited[r] = true
			if r.hasRead(y, visited) {
				return true
			}
		}
	}
	return false
}
