package embedded_test

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/moldau-io/moldau/embedded"
	"github.com/moldau-io/moldau/internal/base/vfs"
	"github.com/moldau-io/moldau/internal/wire"
	"github.com/moldau-io/moldau/internal/wire/api"
)

const (
	groupFigures = "kafka_server_group_coordinator_metrics_"
	oldFigures   = "kafka_coordinator_group_groupmetadatamanager_"
	txnFigures   = "kafka_server_transaction_coordinator_metrics_"
	gateFigures  = "kafka_server_addpartitionstotxnmanager_"
	markers      = "kafka_coordinator_transaction_transactionmarkerchannelmanager_"
)

// groups brings groups of both protocols through their states, commits offsets and loses them again.
func (w *watched) groups(t *testing.T) {
	x := newWorld(t, embedded.WithMetrics(), embedded.With("offsets.topic.num.partitions", "1"))
	before := w.show(scrape(t, x.n))
	x.coordinator()
	classic := func(state string, n float64) want {
		return want{groupFigures + `group_count{protocol="classic"}`: is(1), oldFigures + "numgroups": is(1),
			groupFigures + `classic_group_count{state="` + state + `"}`: is(n), oldFigures + "numgroups" + map[string]string{"PreparingRebalance": "preparingrebalance",
				"CompletingRebalance": "completingrebalance", "Stable": "stable", "Empty": "empty"}[state]: is(n)}
	}
	var join api.JoinGroupResponse
	x.call(3, &api.JoinGroupRequest{GroupID: "g", SessionTimeoutMs: 60_000, RebalanceTimeoutMs: 60_000, ProtocolType: "consumer",
		Protocols: []api.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{}}}}, &join)
	x.want(join.ErrorCode, wire.ErrNone)
	w.await(t, x.n, before, classic("CompletingRebalance", 1))
	var sync api.SyncGroupResponse
	x.call(3, &api.SyncGroupRequest{GroupID: "g", GenerationID: join.GenerationID, MemberID: join.MemberID}, &sync)
	x.want(sync.ErrorCode, wire.ErrNone)
	w.await(t, x.n, before, classic("Stable", 1))
	w.await(t, x.n, before, want{groupFigures + "group_completed_rebalance_count": is(1), groupFigures + `num_partitions{state="active"}`: is(1)},
		groupFigures+"group_completed_rebalance_rate")
	other, joined := x.again(), make(chan api.JoinGroupResponse, 1)
	go func() { // the answer comes when the first member is gone
		var a api.JoinGroupResponse
		_ = other.try(3, &api.JoinGroupRequest{GroupID: "g", SessionTimeoutMs: 60_000, RebalanceTimeoutMs: 60_000, ProtocolType: "consumer",
			Protocols: []api.JoinGroupRequestProtocol{{Name: "range", Metadata: []byte{}}}}, &a)
		joined <- a
	}()
	w.await(t, x.n, before, classic("PreparingRebalance", 1))
	leave := func(member string) {
		t.Helper()
		var a api.LeaveGroupResponse
		x.call(3, &api.LeaveGroupRequest{GroupID: "g", Members: []api.LeaveGroupRequestMember{{MemberID: member}}}, &a)
		x.want(a.ErrorCode, wire.ErrNone)
	}
	leave(join.MemberID)
	leave((<-joined).MemberID)
	w.await(t, x.n, before, classic("Empty", 1))

	consumer := func(state string) want {
		return want{groupFigures + `consumer_group_count{state="` + state + `"}`: is(1)}
	}
	m := x.joinConsumer("c", "a", nil)
	x.want(m.ErrorCode, wire.ErrNone)
	// The group's own interval of a second makes a second member wait for its share.
	w.await(t, x.n, before, consumer("Stable"), groupFigures+"consumer_group_rebalance_count", groupFigures+"consumer_group_rebalance_rate")
	x.alterAndSee(groupResource, "c", "consumer.assignment.interval.ms", "15000")
	x.want(x.joinConsumer("c", "b", nil).ErrorCode, wire.ErrNone)
	w.await(t, x.n, before, consumer("Assigning"))
	for _, member := range []string{"a", "b"} {
		var a api.ConsumerGroupHeartbeatResponse
		x.call(1, &api.ConsumerGroupHeartbeatRequest{GroupID: "c", MemberID: member, MemberEpoch: -1}, &a)
		x.want(a.ErrorCode, wire.ErrNone)
	}
	w.await(t, x.n, before, consumer("Empty"))

	x.want(x.commit("s", 1, ""), wire.ErrNone)
	w.await(t, x.n, before, want{groupFigures + "offset_count": is(1), oldFigures + "numoffsets": is(1), groupFigures + "offset_commit_count": is(1)},
		groupFigures+"offset_commit_rate")
	var gone api.OffsetDeleteResponse
	x.call(0, &api.OffsetDeleteRequest{GroupID: "s", Topics: []api.OffsetDeleteRequestTopic{{Name: "t", Partitions: []api.OffsetDeleteRequestTopicPartition{{}}}}}, &gone)
	x.want(gone.ErrorCode, wire.ErrNone)
	w.await(t, x.n, before, want{groupFigures + "offset_count": is(0), oldFigures + "numoffsets": is(0), groupFigures + "offset_deletion_count": is(1)},
		groupFigures+"offset_deletion_rate")
	// All this took time, and the coordinator's buffer holds what it wrote last.
	grown := []string{groupFigures + "batch_flush_rate", groupFigures + "batch_buffer_cache_size_bytes"}
	for _, of := range []string{"event_queue_time_ms", "event_processing_time_ms", "event_purgatory_time_ms", "batch_linger_time_ms", "batch_flush_time_ms"} {
		for _, suffix := range []string{"max", "p50", "p95", "p99", "p999"} {
			grown = append(grown, groupFigures+of+"_"+suffix)
		}
	}
	idle := groupFigures + "thread_idle_ratio_avg"
	w.await(t, x.n, before, want{idle: within(idle, 0.01, 0.999999)}, grown...)
	x.n.Restart()
	loaded := groupFigures + "partition_load_time_max"
	w.await(t, x.n, nil, want{groupFigures + `num_partitions{state="active"}`: is(1), groupFigures + "partition_load_time_avg": func(all map[string]float64) float64 { return all[loaded] }}, loaded)

	// Groups without offsets do not live long here.
	x = newWorld(t, embedded.WithMetrics(), embedded.With("offsets.topic.num.partitions", "1"), embedded.With("offsets.retention.check.interval.ms", "20"))
	x.coordinator()
	before = w.show(scrape(t, x.n))
	var c api.OffsetCommitResponse
	x.call(4, &api.OffsetCommitRequest{GroupID: "s", GenerationIDOrMemberEpoch: -1, RetentionTimeMs: 1, Topics: []api.OffsetCommitRequestTopic{{Name: "t",
		Partitions: []api.OffsetCommitRequestTopicPartition{{CommittedOffset: 2}}}}}, &c)
	x.want(c.Topics[0].Partitions[0].ErrorCode, wire.ErrNone)
	w.await(t, x.n, before, want{groupFigures + "offset_expiration_count": is(1)}, groupFigures+"offset_expiration_rate")
}

// transactions lets the end of a transaction wait for a leader, and for its record.
func (w *watched) transactions(t *testing.T) {
	one := embedded.With("transaction.state.log.num.partitions", "1")
	x := newWorld(t, embedded.WithMetrics(), one, embedded.With("metadata.max.idle.interval.ms", "0"))
	x.txnCoordinator()
	loaded := txnFigures + "partition_load_time_max"
	w.await(t, x.n, nil, want{txnFigures + "partition_load_time_avg": func(all map[string]float64) float64 { return all[loaded] }}, loaded)
	end := func(name string, p api.InitProducerIDResponse) {
		t.Helper()
		var a api.EndTxnResponse
		x.call(3, &api.EndTxnRequest{TransactionalID: name, ProducerID: p.ProducerID, ProducerEpoch: p.ProducerEpoch, Committed: true}, &a)
		x.want(a.ErrorCode, wire.ErrNone)
	}
	begin := func(name string) api.InitProducerIDResponse {
		t.Helper()
		p := x.initTxn(name, 60_000)
		x.want(x.addToTxn(name, p), wire.ErrNone)
		x.want(x.produceInTxn(name, p), wire.ErrNone)
		return p
	}
	// The coordinator is asked about the first write of a transaction, and has not heard of this one.
	x.want(x.produceInTxn("unheard", x.initTxn("unheard", 60_000)), wire.ErrInvalidTxnState)
	w.await(t, x.n, nil, want{gateFigures + "verificationfailurerate_count": is(1), gateFigures + "verificationtimems_count": is(1)}, gateFigures+"verificationtimems_sum")
	// A record that is older than any transaction may get, with five minutes more, makes its transaction a late one.
	const late = "kafka_server_replicamanager_partitionswithlatetransactionscount"
	old := x.initTxn("old", 60_000)
	x.want(x.addToTxn("old", old), wire.ErrNone)
	x.want(x.produceInTxnAt("old", old, time.Now().Add(-19*time.Minute)), wire.ErrNone)
	w.await(t, x.n, nil, want{late: is(0)})
	end("old", old)
	x.eventually(func() string { // the end that was answered may not be complete
		old = x.initTxn("old", 60_000)
		return differs(old.ErrorCode.Name(), "NONE")
	})
	x.want(x.addToTxn("old", old), wire.ErrNone)
	x.want(x.produceInTxnAt("old", old, time.Now().Add(-20*time.Minute-time.Second)), wire.ErrNone)
	w.await(t, x.n, nil, want{late: is(1)})
	end("old", old)
	w.await(t, x.n, nil, want{late: is(0)})

	// The third write is that of the transaction's end, after its decision and its marker; it is tried again and again.
	retry := markers + "logappendretryqueuesize"
	p := begin("a")
	w.await(t, x.n, nil, want{retry: is(0)})
	for nth := 3; nth < 100; nth++ {
		x.n.Fail(vfs.Rule{Op: vfs.OpWrite, Path: "*.log", Nth: nth, Err: syscall.ENOSPC})
	}
	end("a", p)
	w.await(t, x.n, nil, want{retry: is(1)})
	x.n.FS().(*vfs.Faults).Clear()
	w.await(t, x.n, nil, want{retry: is(0)})
	x.eventually(func() string { return differs(x.txnState("a"), "CompleteCommit") })

	// The second write, the marker's, takes its directory out of service, and the partition is without a leader.
	root := t.TempDir()
	x = newWorld(t, embedded.WithMetrics(), one, embedded.With("metadata.max.idle.interval.ms", "0"),
		embedded.InDir(filepath.Join(root, "a")+","+filepath.Join(root, "b")))
	// Of directories with equally many logs the first is taken, where the metadata log is as well.
	x.create("u", 1)
	x.create("t", 1)
	x.txnCoordinator()
	x.want(x.directoryOf("t"), filepath.Join(root, "b"))
	x.want(x.directoryOf(transactionsTopic), filepath.Join(root, "a"))
	p = begin("b")
	unknown := markers + "unknowndestinationqueuesize"
	w.await(t, x.n, nil, want{unknown: is(0)})
	x.n.Fail(vfs.Rule{Op: vfs.OpWrite, Path: "*.log", Nth: 2, Err: syscall.EIO})
	end("b", p)
	w.await(t, x.n, nil, want{unknown: is(1)})
	x.n.Kill() // a stop in good order would complain of the logs it cannot close
}

// directoryOf is where partition 0 of a topic is.
func (w *world) directoryOf(topic string) string {
	w.t.Helper()
	var a api.DescribeLogDirsResponse
	w.call(4, &api.DescribeLogDirsRequest{Topics: []api.DescribeLogDirsRequestTopic{{Topic: topic, Partitions: []int32{0}}}}, &a)
	for _, d := range a.Results {
		if len(d.Topics) > 0 {
			return d.LogDir
		}
	}
	return ""
}
