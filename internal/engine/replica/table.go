package replica

import (
	"hash/maphash"
	"maps"
	"sync/atomic"

	"github.com/moldau-io/moldau/internal/base/id"
)

const tableShards = 64

// topicTable finds topics by name and by id without a lock. Writers are serialised by Manager.apply; a write copies one shard.
type topicTable struct {
	seed   maphash.Seed
	byName [tableShards]atomic.Pointer[map[string]*topic]
	byID   [tableShards]atomic.Pointer[map[id.UUID]*topic]
}

// topic is a topic of which this broker hosts partitions.
type topic struct {
	name    string
	id      id.UUID
	parts   atomic.Pointer[[]*Partition]
	metrics TopicMetrics
}

func newTopicTable() *topicTable { return &topicTable{seed: maphash.MakeSeed()} }

func (t *topicTable) named(name string) *topic {
	m := t.byName[t.nameShard(name)].Load()
	if m == nil {
		return nil
	}
	return (*m)[name]
}

func (t *topicTable) withID(u id.UUID) *topic {
	m := t.byID[u[15]%tableShards].Load()
	if m == nil {
		return nil
	}
	return (*m)[u]
}

func (t *topicTable) nameShard(name string) uint64 { return maphash.String(t.seed, name) % tableShards }

// put makes topics visible; a topic of the same name is replaced. Many at once cost one copy of each shard.
func (t *topicTable) put(tps ...*topic) {
	names, ids := t.byShard(tps)
	for i := range tableShards {
		replaceShard(&t.byName[i], names[i], func(m map[string]*topic, tp *topic) { m[tp.name] = tp })
		replaceShard(&t.byID[i], ids[i], func(m map[id.UUID]*topic, tp *topic) { m[tp.id] = tp })
	}
}

func (t *topicTable) remove(tps ...*topic) {
	names, ids := t.byShard(tps)
	for i := range tableShards {
		replaceShard(&t.byName[i], names[i], func(m map[string]*topic, tp *topic) {
			if m[tp.name] == tp {
				delete(m, tp.name)
			}
		})
		replaceShard(&t.byID[i], ids[i], func(m map[id.UUID]*topic, tp *topic) { delete(m, tp.id) })
	}
}

// byShard sorts topics by the shards of their names and of their ids.
func (t *topicTable) byShard(tps []*topic) (names, ids [tableShards][]*topic) {
	for _, tp := range tps {
		n, i := t.nameShard(tp.name), tp.id[15]%tableShards
		names[n], ids[i] = append(names[n], tp), append(ids[i], tp)
	}
	return names, ids
}

func replaceShard[K comparable](shard *atomic.Pointer[map[K]*topic], tps []*topic, change func(map[K]*topic, *topic)) {
	if len(tps) == 0 {
		return
	}
	next := map[K]*topic{}
	if old := shard.Load(); old != nil {
		next = maps.Clone(*old)
	}
	for _, tp := range tps {
		change(next, tp)
	}
	shard.Store(&next)
}

// each calls f for every topic.
func (t *topicTable) each(f func(*topic)) {
	for i := range t.byName {
		if m := t.byName[i].Load(); m != nil {
			for _, tp := range *m {
				f(tp)
			}
		}
	}
}

// partition returns partition n, or nil when it is not hosted here.
func (t *topic) partition(n int32) *Partition {
	parts := t.parts.Load()
	if parts == nil || n < 0 || int(n) >= len(*parts) {
		return nil
	}
	return (*parts)[n]
}

// hosted returns the partitions hosted here; entries may be nil. The slice must not be changed.
func (t *topic) hosted() []*Partition {
	if t == nil {
		return nil
	}
	if parts := t.parts.Load(); parts != nil {
		return *parts
	}
	return nil
}
