package embedded_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/moldau-io/moldau/embedded"
)

// quick makes a node that is back soon after it lost a leadership. A commit of offsets that is held waits as long as the test needs.
func quick(t testing.TB) *embedded.Node {
	return embedded.Start(t, embedded.With("broker.heartbeat.interval.ms", "50"), embedded.With("offsets.topic.num.partitions", "1"),
		embedded.With("controller.quorum.election.timeout.ms", "100"), embedded.With("offsets.commit.timeout.ms", "60000"))
}

// pending is a request without retries that is under way.
func pending(t testing.TB, n *embedded.Node, req kmsg.Request) <-chan kmsg.Response {
	t.Helper()
	c, err := kgo.NewClient(kgo.SeedBrokers(n.Addr()), kgo.RequestRetries(0), kgo.MaxVersions(kversion.V3_0_0())) // names, not ids
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	out := make(chan kmsg.Response, 1)
	go func() {
		resp, err := c.SeedBrokers()[0].Request(ctx, req)
		if err != nil {
			t.Errorf("request: %v", err)
		}
		out <- resp
	}()
	return out
}

func offsetCommit(offset int64) kmsg.Request {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 8, "g", -1
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset = offset
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic, topic.Partitions = "t", []kmsg.OffsetCommitRequestTopicPartition{p}
	req.Topics = []kmsg.OffsetCommitRequestTopic{topic}
	return req
}

func commitCode(t testing.TB, resp kmsg.Response) error {
	t.Helper()
	return kerr.ErrorForCode(resp.(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode)
}

// committed is the group's offset, -1 for none, -2 as long as nobody can say.
func committed(t testing.TB, n *embedded.Node) int64 {
	t.Helper()
	offsets, err := kadm.NewClient(client(t, n)).FetchOffsets(t.Context(), "g")
	if err != nil {
		return -2
	}
	if o, ok := offsets.Lookup("t", 0); ok {
		return o.At
	}
	return -1
}

// end is where the log of t-0 ends, committed or not, as a follower would see it: the high watermark.
func end(t testing.TB, n *embedded.Node) int64 {
	t.Helper()
	ends, err := kadm.NewClient(client(t, n)).ListEndOffsets(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	o, _ := ends.Lookup("t", 0)
	return o.Offset
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// quiet sees to it that nothing comes for a while.
func quiet(t testing.TB, out <-chan kmsg.Response) {
	t.Helper()
	select {
	case resp := <-out:
		t.Errorf("told before the commit: %+v", resp)
	case <-time.After(100 * time.Millisecond):
	}
}

// TestDeposedWhileHeld loses the leadership with an offset and a record that are not committed: whoever waits is told, and
// nothing is left of them, neither in memory nor, after a restart, on disk.
func TestDeposedWhileHeld(t *testing.T) {
	n := quick(t)
	produce(t, client(t, n), "t", 0, 3)
	_, _ = client(t, n).Request(t.Context(), findCoordinator("g")) // makes the topic
	await(t, "there is a coordinator", func() bool { return commitCode(t, <-pending(t, n, offsetCommit(1))) == nil })
	n.Hold()
	offset := pending(t, n, offsetCommit(2))
	c := client(t, n)
	done := make(chan error, 1)
	c.Produce(t.Context(), &kgo.Record{Topic: "t", Value: []byte("3"), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("3")}}}, func(_ *kgo.Record, err error) { done <- err })
	quiet(t, offset)
	if got := committed(t, n); got != 1 {
		t.Errorf("the group is at %d before the commit", got)
	}
	if got := end(t, n); got != 3 {
		t.Errorf("the log ends at %d for a consumer", got)
	}
	n.Depose()
	if err := commitCode(t, <-offset); err != kerr.NotCoordinator {
		t.Errorf("deposed: %v", err)
	}
	n.Release()
	// The producer has been told to look for the leader, and sends its record again: it is there once.
	if err := <-done; err != nil {
		t.Errorf("produced after all: %v", err)
	}
	await(t, "the coordinator is back", func() bool { return commitCode(t, <-pending(t, n, offsetCommit(7))) == nil })
	for range 2 {
		if got := end(t, n); got != 4 {
			t.Errorf("the log ends at %d", got)
		}
		await(t, "the group is at 7", func() bool { return committed(t, n) == 7 })
		n.Restart()
	}
	wantAll(t, consume(t, client(t, n, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())), 4), 0, 4)
}

func findCoordinator(group string) kmsg.Request {
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorKeys = group, []string{group}
	return req
}

// TestLostOffsetIsGone: an offset that was never committed is not there for the next leader.
func TestLostOffsetIsGone(t *testing.T) {
	n := quick(t)
	produce(t, client(t, n), "t", 0, 3)
	_, _ = client(t, n).Request(t.Context(), findCoordinator("g"))
	await(t, "there is a coordinator", func() bool { return commitCode(t, <-pending(t, n, offsetCommit(1))) == nil })
	n.Hold()
	offset := pending(t, n, offsetCommit(2))
	quiet(t, offset)
	n.Depose()
	if err := commitCode(t, <-offset); err != kerr.NotCoordinator {
		t.Errorf("deposed: %v", err)
	}
	n.Release()
	await(t, "the coordinator is back", func() bool { return committed(t, n) == 1 })
	n.Restart()
	await(t, "the group is at 1 after a restart", func() bool { return committed(t, n) == 1 })
}

// TestHeldMetadata: a topic whose records are not committed is told to nobody, and after a lost office it is there once.
func TestHeldMetadata(t *testing.T) {
	for _, deposed := range []bool{false, true} {
		n := quick(t)
		adm := kadm.NewClient(client(t, n))
		exists := func() bool {
			topics, err := adm.ListTopics(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return topics.Has("held")
		}
		n.HoldMetadata()
		req := kmsg.NewPtrCreateTopicsRequest()
		req.Version, req.TimeoutMillis = 5, 15_000
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = "held", 1, 1
		req.Topics = []kmsg.CreateTopicsRequestTopic{topic}
		created := pending(t, n, req)
		quiet(t, created)
		if exists() {
			t.Error("a topic shows before its commit")
		}
		if deposed {
			n.DeposeController()
			quiet(t, created) // the broker asks again when there is a controller
		}
		n.ReleaseMetadata()
		code := (<-created).(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode
		if err := kerr.ErrorForCode(code); err != nil && !(deposed && err == kerr.TopicAlreadyExists) {
			t.Errorf("deposed=%v: %v", deposed, err)
		}
		await(t, "the topic is there", exists)
		n.Restart()
		if !exists() {
			t.Error("the topic is gone after a restart")
		}
	}
}

// TestMetadataHeldBack: with commits that follow the metadata log some records behind, whatever is asked for is done, late.
func TestMetadataHeldBack(t *testing.T) {
	n := embedded.Start(t, embedded.With("broker.heartbeat.interval.ms", "50"), embedded.With("metadata.max.idle.interval.ms", "10"),
		embedded.With("controller.quorum.election.timeout.ms", "100"))
	c := client(t, n)
	adm := kadm.NewClient(c)
	n.HoldMetadataBack(5)
	for i, name := range []string{"first", "second"} {
		// What the deposed controller had written may be committed after all, and the broker that asks again finds the topic there.
		if _, err := adm.CreateTopic(t.Context(), 1, 1, nil, name); err != nil && !(i > 0 && errors.Is(err, kerr.TopicAlreadyExists)) {
			t.Fatal(err)
		}
		await(t, name+" is there", func() bool { // the controller has answered, and the broker may not have published it yet
			topics, err := adm.ListTopics(t.Context())
			return err == nil && topics.Has(name)
		})
		if i == 0 {
			n.DeposeController()
		}
	}
	if _, err := adm.DeleteTopic(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	n.Restart()
	n.ReleaseMetadata()
	topics, err := adm.ListTopics(t.Context())
	if err != nil || topics.Has("first") || !topics.Has("second") {
		t.Errorf("after a restart: %v, %v", topics.Names(), err)
	}
}

// TestHeldBack: consumers follow a high watermark that is some records behind.
func TestHeldBack(t *testing.T) {
	n := quick(t)
	produce(t, client(t, n), "t", 0, 1)
	n.HoldBack(3)
	c := client(t, n, kgo.ProducerLinger(0), kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	produce(t, c, "t", 1, 2)
	produce(t, c, "t", 2, 3)
	produce(t, c, "t", 3, 4)
	produce(t, c, "t", 4, 5)
	if got := end(t, n); got != 2 {
		t.Errorf("the log ends at %d for a consumer, with 5 records and 3 held back", got)
	}
	n.Release()
	await(t, "the watermark is at the end", func() bool { return end(t, n) == 5 })
}
