// Package replica holds the partitions of one broker: it appends to those it leads, reads for consumers and followers, decides
// with core/partition when the high watermark moves, and keeps the requests that must wait for that.
//
//	Manager ── topics ── Partition ─┬─ core/partition.State   who leads, who is in sync, the high watermark's rule
//	   │                            ├─ engine/log.Log         the bytes
//	   │                            └─ waiting room           produces that wait for the watermark, fetches that wait for bytes
//	   ├─ deadlines   one heap and one timer for every request that waits
//	   └─ flusher     group commit, one for each log directory, where flush.messages asks for it
//
// What it refuses to be: it decodes no request and knows no connection, it opens no batch, and it decides nothing about metadata.
// Changes of leadership come in one way only, through ApplyDelta; changes of the in-sync set leave through the ISRChanges
// interface. Errors it returns carry a wire.ErrorCode; the desk turns them into fields.
//
// # A produce
//
// Append validates and writes each partition in the caller's goroutine, and raises the high watermark where the rule allows. If
// everything the request waits for is already true, the answer is given before Append returns: with one replica that is the
// normal case and nothing is allocated for it. Otherwise the request joins the waiting room. It is answered when the watermark
// has passed, after leader, leader epoch and min.insync.replicas were checked again; when the leadership is lost; or at its
// timeout. An answer of success means: the records are below the high watermark of a log that this broker has led without a
// break since it appended them.
//
// # A fetch
//
// Fetch runs in the caller's goroutine and blocks. It reads; if that is not enough it registers one waiter on its partitions and
// sleeps until appended bytes could make it enough, an error must be told, or its time is up, and reads again. A waiter costs its
// partitions a counter; nothing is recomputed for fetches that a new batch cannot complete.
//
// # Concurrency
//
// Lookups of topics and partitions take no lock (copy-on-write tables, written under Manager.apply). Partition.mu guards the
// state: append, read and watermark hold it for reading, so that no leadership change falls between a check and the write it
// allows; changes of state hold it for writing. The log has its own lock below it. Partition.waitMu guards the waiting room; no
// other lock of this package is taken under it, except the deadlines' and a waiter's. Answers, wakes of watchers and everything
// else that calls out happens with no lock held.
//
// # Restart
//
// The first delta loads the logs. After an unclean stop some of them may still be in recovery when it has been applied; their
// replicas are not in the table, and a request for one is told NOT_LEADER_OR_FOLLOWER, as during a change of leaders. One
// goroutine makes replicas of logs that are recovered, with what the image says then, under Manager.apply like a delta.
//
// # Other log directories
//
// AlterLogDir lets a replica move to another log directory (moves.go). One goroutine copies, at a rate that may change; when a copy has
// caught up, the controller is told, and when the image says so, the copy takes over while Partition.mu is held: for the last bytes, one
// fsync and two renames. It is the one place where that lock is held across a flush: nothing may be appended to the old log then, nor
// acknowledged from the new one. Partition.at changes with it; whoever looks at the log without the lock may see the old one for a
// moment, which refuses.
//
// # Holding back
//
// Hold stops all high watermarks where they are, HoldBack keeps them some records behind, and Release lets them go: tests run every
// scenario that way too (see ways_test.go), because nothing may be told to anybody that is not committed. A log that is not led
// here can be cut (TruncateTo, CutUncommitted) or begun anew (TruncateFullyAndStartAt), as a follower does whose leader has
// something else.
//
// # Panics
//
// A panic in a goroutine of this package is logged and given to Options.Fault, whose owner ends the node: a partition may be locked.
// In one that works on part of a delta it is passed on to who applies the delta.
package replica
