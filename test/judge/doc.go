// Package judge steps Apache Kafka's own group coordinator and internal/core/group side by side and compares what they decide.
//
// Steps are random, of a seed, in one of these modes, which every seed has its turn in:
//   - classic: JoinGroup, SyncGroup, Heartbeat and LeaveGroup of a few clients, among them static ones and strangers;
//   - consumer: ConsumerGroupHeartbeat of a few members, and topics that grow and go;
//   - migration: both in one group, of clients that change their protocol;
//   - uniform: the assignors uniform and range, up to eight members, four topics;
//   - patterns: members that read what fits a pattern.
//
// In all there are commits, deletions and expiry of offsets; time; lost records; a new coordinator. Kafka's shard runs in one Java process
// (java/Judge.java), ours here; both get the runtime's part from the judge: one clock, deadlines, tasks, a log and its high watermark, and
// the same member ids. After each step must be the same: the answers, the records, the moment of each, and, if nothing is held back, what
// DescribeGroups, ConsumerGroupDescribe, ListGroups and OffsetFetch say of the groups. The judge does not look inside: a run ends with a long time, so
// that every deadline comes, at its millisecond.
//
// Where we differ from Kafka on purpose there is a rule (rules.go), and how often each was used is printed: a rule that is used much
// more or less than before is worth a look. A mismatch is shortened, then printed as steps; -script FILE runs such steps again.
//
// The judge refuses to be a test of the wire, of configuration, of the log or of the runtime, and it does not know who is right: only
// that two differ. Transactions are not in it (test/judge/txn). It runs by hand:
//
//	go test ./test/judge -kafka -v [-mode M] [-steps N] [-seed S] [-script FILE]
//
// and skips without -kafka, or where there is no Java or no Apache Kafka beside the project. TestPlanted needs none.
package judge
