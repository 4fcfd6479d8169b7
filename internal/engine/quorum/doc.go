// Package quorum runs the metadata log of a node: the driver of core/raft and core/controller over engine/log.
//
//	ctlhandler --Submit--> [ one goroutine: raft + controller ] --append, fsync--> __cluster_metadata-0
//	                                   |  committed batches
//	                                   v
//	                                 loader --(delta, image)--> publishers
//
// One goroutine, the driver, owns the raft core, the controller's working state and the log of partition
// __cluster_metadata-0. A request is decided at once on the working state, its records join the log, and its answer leaves
// when the high watermark has passed them; when leadership is lost before that, it leaves with NOT_CONTROLLER. The high
// watermark is the majority of the voters' durable ends also when there is one voter: nothing here knows a shortcut for one.
//
// Publishers see committed records only, in the order of the log: first everything that was committed when the node had caught
// up, as one delta, then each batch. They run on the driver's goroutine and must not block; a publisher that has slow work
// hands it to a goroutine of its own.
//
// Other nodes come in by Ask, whose answer goes back to who asked, or by Deliver, whose answer goes out through the Transport;
// package raftrpc maps both to Kafka's requests. A fetch that finds nothing waits here, at most as long as it wants. What is
// missing for a quorum of many: a Transport over the network, and changes of the set of voters.
//
// Nothing waits to be written: what was decided while the disk was busy goes out together, so that the bound of
// controller.quorum.append.linger.ms is kept at any load and an idle log is durable at once.
//
// A decision that panics is answered UNKNOWN_SERVER_ERROR and takes the controller out of office, which comes back with what
// was committed; any other panic stops the quorum with the reason. What was durable once is never cut off at a start: a log
// that is damaged, and not merely torn by a crash, is refused, as are a quorum-state, a snapshot or records that cannot be read.
//
// On disk everything is Kafka's: segments as engine/log writes them, quorum-state (KIP-595, KIP-853), snapshots named
// <end offset>-<epoch>.checkpoint with header, voters and footer (KIP-630), meta.properties, and the bootstrap snapshot
// 00000000000000000000-0000000000.checkpoint that formatting leaves.
//
// What it refuses to be: a place for metadata rules (core/controller), for elections' rules (core/raft), for requests'
// authorization and encoding (the handlers).
package quorum
