// Package txn decides about transactions (KIP-98, KIP-360, KIP-588, KIP-890): a [Shard] is the state of one partition of
// __transaction_state as a pure machine.
//
//	Empty --AddPartitions--> Ongoing --EndTxn--> PrepareCommit --markers written--> CompleteCommit --+
//	  |                         |   \--EndTxn, timeout, InitProducerId--> PrepareAbort --> CompleteAbort
//	  +<-------------------- InitProducerId, AddPartitions ------------------------------------------+
//
// A decision gives records, an answer and messages. The messages are the [Markers] that the leaders of a transaction's
// partitions must write; like the answer they leave when the records of the decision are committed, and not at all when
// these are lost. Whoever carries them reports each partition that has its marker, or that is gone, with [Shard.Written].
//
// Two states are kept. Decisions look at the working state, which has every record that a decision asked for; reads see the
// state as of the high watermark. Where Apache Kafka answers CONCURRENT_TRANSACTIONS because an earlier change is not
// committed yet, a decision here builds upon that change, and its answer waits for both.
//
// A [Transaction] is a value that never changes: each step makes a new one, so that taking a step back is to put the old one
// back. The package refuses to know leaders, connections and the log. Nothing in it is safe for concurrent use.
package txn
