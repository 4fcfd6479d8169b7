// Package txn steps Apache Kafka's own transaction coordinator and internal/core/txn side by side and compares what they decide. It
// is test/judge for transactions.
//
// Steps are random, of a seed: InitProducerId with and without what the producer has, AddPartitionsToTxn and AddOffsetsToTxn, also
// only to verify, EndTxn of clients with and without epoch bumps, by producers that are right, late, early or somebody else;
// markers that come, fail or find no partition; time; levels of transaction.version; producer ids that are out; appends that are
// held, lost or refused; the partition unloaded and loaded again, from what each side has written. Half of the runs begin with a log
// of transactions whose epochs come to their end. Kafka's TransactionCoordinator, TransactionStateManager and
// TransactionMarkerChannelManager run in one Java process (java/Judge.java), ours here; both get the rest of the broker from the
// judge: one clock, a log, leaders, producer ids. After each step must be the same: the answers, the records field by field, what
// DescribeTransactions says of each transaction, and which markers with which epoch, outcome and version are on their way to which
// partitions; now and then, what ListTransactions says with filters. A run ends with a long time, so that timeouts and expiry come.
//
// Where we differ from Kafka on purpose there is a rule (rules.go), and how often each was used is printed: a rule that is used much
// more or less than before is worth a look. A mismatch is shortened, then printed as steps; -script FILE runs such steps again.
//
// The judge refuses to be a test of the wire, of configuration, of the log, of the runtime or of whoever carries the markers, and it
// does not know who is right: only that two differ. Transactions that are prepared in two phases (KIP-939) are not in it. It runs
// by hand:
//
//	go test ./test/judge/txn -kafka -v [-steps N] [-seed S] [-script FILE]
//
// and skips without -kafka, or where there is no Java or no Apache Kafka beside the project. TestPlanted needs none.
package txn
