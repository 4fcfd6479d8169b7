// Package group decides for one partition of __consumer_offsets: the classic group protocol (JoinGroup, SyncGroup, Heartbeat,
// LeaveGroup with KIP-345 static members, KIP-394 known member ids, KIP-814 skipped assignment), committed offsets with their
// expiry, and the records of both; and the consumer protocol of KIP-848 (ConsumerGroupHeartbeat with server-side assignors,
// reconciliation member by member, static members, patterns), with classic members in consumer groups and the change of a whole
// group from one protocol to the other.
//
// A [Shard] has a working state, which contains everything decided so far, and serves two kinds of reads: decisions look at
// the working state, clients (OffsetFetch, DescribeGroups, ListGroups) at what is committed. The bridge between the two is the
// list of changes that are not committed yet: each change remembers the value before it, so that the committed value is the
// one before the oldest open change, and a batch that could not be written is taken back from the newest change on.
//
//	decision -> Result.Records -> Apply(offset) .. open changes .. Committed(high watermark)
//	                                   \___ Revert(offset): the batch was lost
//
// What a classic group knows beyond its record (who waits for which answer, who has a session until when, that it is in the
// middle of a rebalance) is soft: it is not in the log, does not survive a change of leader, and is not taken back when a batch
// is lost. Where a lost record matters to it, the decision leaves a continuation that says how to go on.
//
// A consumer group is all in its records; soft are only deadlines, looks at topics for patterns, and with which metadata its hash
// was last compared. It is never changed in place: each decision makes a version of its own, so that the committed one stays. A
// step of reconciliation looks at the working state, so that no partition is given away before its owner has given it back, in
// whatever order batches are committed.
//
// Records are Apache Kafka's: OffsetCommit values in version 4 (1 when the client asked for a retention of its own), group
// metadata in version 3. Records of group kinds that this package does not serve (share and streams groups) are read,
// kept by key, counted as a group of their kind, and otherwise left alone.
//
// Of the cluster's metadata it sees the images that requests bring. The package refuses to know the log, authorization and wire versions of answers (but for the few
// places where the version of a request changes the decision). It is pure: time and randomness are arguments. A Shard is not
// safe for concurrent use; engine/coord calls it one call at a time.
package group
