// Package coord runs coordinators: pure cores (core/group, later transactions and share groups) over the partitions of an
// internal topic that this broker leads.
//
//	Do(partition, decide) ── decide on working state ── records join the open batch, Apply ── Append to the log ──┐
//	      reply  <───────────── high watermark passed the batch: Committed, continuations, replies <──────────────┘
//
// A [Runtime] has one cell per led partition and leader epoch. [Runtime.Elected] makes a cell, which first loads: it replays the
// log into an empty core while requests are told COORDINATOR_LOAD_IN_PROGRESS. [Runtime.Resigned], a fenced append or a newer
// epoch ends the cell: everybody who waits in it is told NOT_COORDINATOR and its core is thrown away. A cell never lives on in a
// second epoch, so nothing that was not committed can leak into the next leadership.
//
// # Batches
//
// Records of several decisions share a batch. With a linger of -1 (Kafka's default of group.coordinator.append.linger.ms) the
// batch is written by the last caller in line: nobody waits for company, but who is there already shares the write. Otherwise it
// is written when it is full or as old as the linger. A batch that cannot be written is taken back from the core, and its
// decisions fail; what was decided stays decided only if it is in the log.
//
// # Concurrency
//
// Each cell has one mutex, which owns the core, the open batch and the tickets. It is held while a decision is made and while a
// batch is appended (offset assignment and write are one critical section), never while waiting: replies are called after it is
// released, in the goroutine that made them possible. A high watermark that advances inside Append is noticed by the appending
// caller itself; one that advances elsewhere marks the cell, and the runtime's one goroutine settles it. The same goroutine holds
// all deadlines: a heap with one entry per cell, above the heap that each core keeps.
//
// The package refuses to know groups, topics or requests. It appends through the small interface [Log]; [ReplicaLog] is the one
// over engine/replica.
package coord
