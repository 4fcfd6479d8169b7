// Package log keeps partition logs on disk, in Apache Kafka's formats file by file: segments with their offset, time and
// transaction indexes, leader epochs, producer state, checkpoints and the marks a clean shutdown leaves.
//
// What it refuses to be: it knows no replicas, no leaders and no requests. It does not decide when a high watermark moves, who
// may write, or how long an answer waits; the replica room above does, and calls down. Nothing is called back: results are
// return values.
//
//	Manager ── Log ── segment ─┬─ .log        record batches as they came over the wire
//	   │        │              ├─ .index      relative offset -> position   (offsetIndex)
//	   │        │              ├─ .timeindex  timestamp -> relative offset  (timeIndex)
//	   │        │              └─ .txnindex   aborted transactions          (txnIndex)
//	   │        ├─ epochCache      leader-epoch-checkpoint
//	   │        └─ producerState   *.snapshot
//	   └─ dir: .lock, meta.properties, four checkpoint files, .kafka_cleanshutdown
//
// # Four ends
//
// A log keeps four offsets apart. The log end is where the next append goes. The durable end is what a power loss leaves: it
// moves only after a successful fsync of everything below it. The high watermark is what is committed, told from above. The last
// stable offset is the first offset of the oldest open transaction, or the high watermark.
//
//	start <= last stable <= high watermark <= log end, durable end <= log end
//
// With strict flush (flush.messages=1) AckableEnd is the durable end, otherwise the log end: only that may be counted when a
// high watermark is decided.
//
// # Concurrency
//
// One mutex per log (Log.mu) serialises everything that changes the log: append, roll, truncation, deletion, high watermark. It
// is never held across an fsync. Readers do not take it: they load the published list of segments and the published sizes, and
// use each index under its own short lock. An fsync is shared: the first caller of Flush syncs for everybody who arrived in the
// meantime, and all who wait for it wait outside of the lock.
//
// A read returns a FileSection that names a range of an open file. The range was complete when it was handed out, and stays
// readable after its segment was deleted or the log was closed, because the section holds the file open until Release (or
// until it is garbage). A truncation below the high watermark, which only a follower does, may cut a section short: then ReadAt
// returns io.ErrUnexpectedEOF, and the connection that was sending it must be closed.
//
// # New logs, logs that go
//
// A Manager's new log is there at once, in memory; its directory is made in the background or by the first append, and made
// durable by the first flush, before the durable end moves. What goes is renamed first: "-delete" directories are removed after
// file.delete.delay.ms, "-stray" ones (found on disk, but not this node's by the metadata) are kept for ever. A rename is made
// durable, and the checkpoints forget the log, before another log gets a directory.
//
// # Moves
//
// A log moves to another directory of the node as a copy, in a "-future" directory, that is appended to beside it (Move), by an owner who
// asks before each step what the rate of all moves allows. At the end the owner keeps everybody from changing the log, the rest is copied
// and made durable, and two renames, each durable before the next, put the copy in its place. A start makes sense of what it finds of
// either, also where Apache Kafka left it.
//
// # Disk faults
//
// An append that fails (full disk, short write) is taken back by truncating the file to its old end; it returns a StorageError
// and the log stays usable. A failed fsync, or a take-back that fails, puts the whole log directory offline: every later call
// on its logs returns an error for which IsOffline is true. Nothing is ever retried after a failed fsync.
//
// # Compaction
//
// A Manager's cleaner compacts the logs whose cleanup.policy contains compact: log.cleaner.threads workers, each of which takes the
// dirtiest log there is. A pass (cleanPass) maps the last offset of every key in the dirty part, in memory bounded by
// log.cleaner.dedupe.buffer.size, then writes each group of segments anew and puts the result in their place (swapIn, whose four
// steps a start completes or undoes). It reads inactive segments without a lock; readers of replaced segments finish with the files
// they hold. Log.cleaning is held for a whole pass, Log.swap by whoever renames segments. A truncation in the middle of a pass makes
// it end without effect. Before a pass the log is flushed up to the high watermark: what decided about a record must not be undone
// by a power loss after the record is gone, and the recovery point covers every gap.
//
// # Recovery
//
// Without .kafka_cleanshutdown the segments above the recovery point are scanned batch by batch; the first byte that is not a
// valid batch ends the log. Indexes and producer state are rebuilt on the way. Nothing that was not checked is served: bytes
// below the recovery point were synced before the recovery point was written. Leader epochs that began since the last flush are
// in no file: those that have records are found in the scan.
//
// A Manager whose owner asks for it (LoadOptions.Recovered) recovers behind the start: Load returns after a moment, and each log
// comes into being when it is recovered, one that somebody asks for first. Until then the checkpoints keep what they say of it,
// and the directory cannot be closed cleanly. A recovery whose log is deleted ends at the next batch; only who makes a log of the
// same name waits for that.
//
// A segment that an old release left with offsets beyond 31 bits of its base is split when it is scanned, and by the cleaner.
package log
