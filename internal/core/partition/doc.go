// Package partition decides what one replica of a partition may do: whether it leads, which replicas are in sync, how far the
// high watermark may go, when a waiting produce is answered and when the in-sync set should change.
//
// It is pure. It keeps no log, no clock, no lock and no waiters: offsets, the time and the set of live brokers are arguments,
// decisions are return values. engine/replica owns one State per partition, guards it with the partition's lock, and carries the
// decisions out.
//
// Invariants:
//   - A registration with an older partition epoch changes nothing (KIP-497: partition epochs order everything about a partition).
//   - The high watermark is the smallest end offset over the maximal in-sync set (committed set plus a proposed addition) and over
//     replicas that are caught up and about to join; it never falls, and it stands still while the committed set is smaller than
//     the effective min.insync.replicas (KIP-966).
//   - The leader's own end counts like a follower's: with strict flush only its durable part. A partition with one replica uses
//     this same rule.
//   - At most one change of the in-sync set is in flight (KIP-497).
//
// What it refuses to be: it knows nothing of eligible leader replicas or elections (the controller does), nor of records.
package partition
