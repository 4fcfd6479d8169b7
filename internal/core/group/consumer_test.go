package group

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moldau-io/moldau/internal/core/shard"
	"github.com/moldau-io/moldau/internal/wire/api"
	"github.com/moldau-io/moldau/internal/wire/logrec"
)

// TestHomogeneous: a group is homogeneous if all members read the same topics by name, or all by one pattern and none by name. What a
// pattern means does not matter otherwise, and as long as it is not known nobody reads a topic by it.
func TestHomogeneous(t *testing.T) {
	for _, c := range []struct {
		members string // one a member: topics, then the pattern behind a slash
		means   map[string][]string
		want    bool
	}{
		{"", nil, true},
		{"foo", nil, true},
		{"foo foo", nil, true},
		{"foo,bar bar,foo", nil, true},
		{"foo bar", nil, false},
		{"foo,bar foo", nil, false},
		{"foo -", nil, false},
		{"- -", nil, true},
		{"/foo*", nil, true},
		{"/foo* /foo*", map[string][]string{"foo*": {"foo", "fooo"}}, true},
		{"/foo* /bar*", map[string][]string{"foo*": {"foo"}, "bar*": {"bar"}}, false},
		{"/foo* /bar*", map[string][]string{"foo*": {"foo"}, "bar*": {"foo"}}, false},
		{"/foo* foo", map[string][]string{"foo*": {"foo"}}, false},
		{"/foo* -", map[string][]string{"foo*": {"foo"}}, false},
		{"bar/foo* bar/foo*", map[string][]string{"foo*": {"foo"}}, false},
		{"bar/foo* /foo*", nil, false},
	} {
		g := newConsumerGroup("g")
		for i, text := range strings.Fields(c.members) {
			m := newConsumerMember(fmt.Sprint(i))
			topics, regex, _ := strings.Cut(text, "/")
			if topics != "" && topics != "-" {
				m.topics = uniqueSorted(strings.Split(topics, ","))
			}
			m.regex = regex
			g.setMember(m)
		}
		for p, topics := range c.means {
			g.setPattern(p, &resolvedRegex{topics: topics})
		}
		if got := g.homogeneous(); got != c.want {
			t.Errorf("%q with %v: %v", c.members, c.means, got)
		}
	}
}

// TestFiguresOfConsumers: each new epoch that a group needs counts once, be it of a member, a pattern or the cluster; those of members that
// go do not.
func TestFiguresOfConsumers(t *testing.T) {
	counted := map[Figure]int{}
	cfg := DefaultConfig()
	cfg.Consumer.AssignmentInterval = 0
	cfg.Count = func(what Figure, n int) { counted[what] += n }
	w := newWorld(t, cfg, 1)
	topic := func(partitions int32) {
		var records []logrec.MetadataRecord
		if w.image == nil {
			records = append(records, &logrec.TopicRecord{Name: "t", TopicID: topicID("t")})
		}
		w.change(append(records, &logrec.PartitionRecord{TopicID: topicID("t"), PartitionID: partitions - 1, Replicas: []int32{1}, Isr: []int32{1}, Leader: 1})...)
	}
	beat := func(memberID string, epoch int32, topics []string, regex *string) {
		req := api.NewConsumerGroupHeartbeatRequest()
		req.GroupID, req.MemberID, req.MemberEpoch, req.SubscribedTopicNames, req.SubscribedTopicRegex = "g", memberID, epoch, topics, regex
		if epoch == epochJoin {
			req.RebalanceTimeoutMs, req.TopicPartitions = 60_000, []api.ConsumerGroupHeartbeatRequestTopicPartition{}
		}
		w.do(memberID, 1, func(t Turn) shard.Result { return w.s.ConsumerGroupHeartbeat(t, req) })
		w.advance(0)
	}
	expect := func(step string, rebalances int) {
		t.Helper()
		want := map[Figure]int{}
		if rebalances > 0 {
			want[ConsumerRebalances] = rebalances
		}
		if d := cmp.Diff(want, counted); d != "" {
			t.Errorf("%s (-want +got)\n%s\n%s", step, d, strings.Join(w.out, "\n"))
		}
		clear(counted)
		w.out = nil
	}
	topic(1)
	pattern := "t.*"
	beat("a", 0, []string{"t"}, nil)
	expect("joined", 1)
	beat("a", 2, nil, nil)
	expect("nothing new", 0)
	beat("a", 2, []string{"t", "u"}, nil)
	expect("another subscription", 1)
	topic(2)
	beat("a", 3, nil, nil)
	expect("another partition", 1)
	beat("a", 9, nil, nil)
	expect("refused", 0)
	beat("b", 0, nil, &pattern)
	expect("a pattern", 1)
	beat("c", 0, nil, &pattern)
	expect("the same pattern", 1)
	beat("c", -1, nil, nil)
	expect("left", 0)
	w.advance(time.Minute)
	expect("silent", 0)
}
