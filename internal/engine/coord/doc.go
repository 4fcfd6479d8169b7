// Package coord runs coordinators: pure cores (core/group, core/txn, later share groups) over the partitions of an internal
// topic that this broker leads.
//
//	Do(partition, decide) ── decide on working state ── records join the open batch, Apply ── Append to the log ──┐
//	   reply, Send(message)  <─── high watermark passed the batch: Committed, continuations, replies, messages <──┘
//	        └──> somebody else ──> Origin.Report(event) ── decide ...
//
// A [Runtime] has one cell per led partition and leader epoch. [Runtime.Elected] makes a cell, which first loads: it replays the
// log into an empty core while requests are told COORDINATOR_LOAD_IN_PROGRESS. [Runtime.Resigned], a fenced append or a newer
// epoch ends the cell: everybody who waits in it is told NOT_COORDINATOR and its core is thrown away. A cell never lives on in a
// second epoch, so nothing that was not committed can leak into the next leadership.
//
// # What a coordinator brings
//
// A [Machine], and Options.New that makes an empty one. Its decisions return a shard.Result, whose fields are served like this:
//
//	Records    join the open batch and are applied at once. If the batch cannot be written, Revert takes back all of its
//	           records, and every decision of the batch fails with the log's code, and so does one that had to wait for the batch
//	           to be written. The cell goes on.
//	Atomic     all Records in one batch.
//	Producer   Records are part of that producer's transaction (TxnOffsetCommit): the open batch is written, then these
//	           records in a batch of their own, at once.
//	Marker     the control record that ends a transaction in this partition, in a batch of its own, at once. Everything that
//	           is written to the internal topic goes through its runtime, markers too: a partition to which somebody else
//	           wrote is out of step with its core and loads again.
//	Answers    leave when the decision is made.
//	Reply      leaves when all that was written up to now is committed, the decision's own records or those before it.
//	Messages   leave under the terms of Reply, but also if the ticket has run into WriteTimeout meanwhile: the records are in
//	           the log, so the message is owed. If the records are lost, or the leadership, the messages never leave.
//	Then       is called with the fate of the records: committed, lost, or not committed within WriteTimeout (which is not
//	           the same as lost).
//
// Reads of what is committed go through [Runtime.Read] beside all this, and wait for nobody. A read that must see the working
// state is a decision without records: its Reply waits for those before it, within WriteTimeout.
//
// # Messages and what comes back
//
// A message goes to Options.Send with its [Origin]: the partition, the leader epoch (which markers carry as coordinator epoch)
// and the way back. What the message brought about, in another floor, on another broker or in the runtime of another topic,
// is given to [Origin.Report] as an event for exactly the cell that sent it; a later cell of the same partition knows from the log
// what it has to send again. So a step that needs another floor is two decisions with a message between them, never a wait
// inside one:
//
//	transactions: EndTxn   ── PrepareCommit committed: reply to the client, message Markers ──> Send
//	Send:                  for each leader of the partitions: WriteTxnMarkers, or what it does, in this node
//	  a data partition     replica.Manager appends the marker; its answer comes when it is replicated
//	  __consumer_offsets   groups.Do(partition, ...) with a Result that has the Marker
//	each answer            from.Report(... Written(partitions) ...) ── the last one: CompleteCommit
//
// Send keeps its own bounded queue, asks [Origin.Live] before it tries again, and may report from any goroutine, also from
// inside Send. The order of steps where a request needs two floors (verify at one coordinator, write at another) is the
// handler's, in callbacks.
//
// # Batches
//
// Records of several decisions share a batch. With a linger of -1 (Kafka's default of group.coordinator.append.linger.ms) the
// batch is written by whoever opened it, after he has given way once to those that are ready to run: nobody waits for company, but
// who is there already shares the write. Where nobody has joined for many batches that is tried now and then only, as it wakes a thread.
// A caller with an [Agenda], a connection on which more requests have arrived, writes it when he has brought them all, or somebody else
// does after 100 ms.
// Otherwise a batch is written when it is full or as old as the linger. One that cannot be written is taken back from the core, and
// its decisions fail; what was decided stays decided only if it is in the log.
//
// # Concurrency
//
// Each cell has one mutex, which owns the core, the open batch and the tickets. It is held while a decision is made and while a
// batch is appended (offset assignment and write are one critical section), never while waiting: replies and messages leave after
// it is released, in the goroutine that made them possible, which is done with the cell then. Deadlines, high watermarks that
// advance elsewhere, and events only leave a mark on the cell; whoever is busy with it sees the mark before he goes, and if nobody
// is, a goroutine is started for it, one per cell at the most. So a slow append delays its own partition and nothing else, and a
// slow reply nothing but what leaves with it. The runtime's one goroutine keeps a heap with one entry per cell, above the heap of
// deadlines that each core keeps, and never enters a cell.
//
// A cell whose leadership is over ends before anything else is done with it: the log may have the next leader's records already, and
// its high watermark speak of them. What [Runtime.DoAll] has told the cell and it has not heard goes to the one that takes its place.
//
// Bounded are the tickets of a cell and its events, by Options.MaxWaiting each; decisions without a ticket come from the core's own
// deadlines and from events.
//
// # Panics
//
// A decision that panics answers UNKNOWN_SERVER_ERROR, and its partition loads again: what a decision made by halves has left
// in memory is gone, what is in the log is not. A partition that panics over and over pauses for a minute before it does. A
// panic inside Log.Append is reported to Options.Fault. A panic of a reply or of Send is logged and touches nothing here.
//
// The package refuses to know groups, transactions, topics or requests. It appends through the small interface [Log];
// [ReplicaLog] is the one over engine/replica.
package coord
