// Package coordinators runs the cores of the group and the transaction coordinator together, in one goroutine and in a time of its
// own, by a seed: producers of both kinds of transactions, workers that consume, transform and produce, and groups of both protocols,
// under requests that are lost, doubled and late, answers that are lost, commits that are held back, batches that fail, and
// coordinators that lose their leadership at any record.
//
// A [World] has one partition of each internal topic (a cell: core, log, open batch, high watermark, leader epoch), five partitions
// of data with what their leaders know of producers, and clients. Each step is one thing that happens. Checked is what clients see:
//
//	G1  OffsetFetch returns the last acknowledged commit or a later one, none that was refused or aborted
//	G2  no two members have a partition in one generation, and nobody commits for a partition that another has in a later one
//	T1  of a transaction everything is seen, offsets too, or nothing
//	T2  what was said to be committed stays
//	T3  nothing of a producer is appended after its successor was let in
//	T4  of each record read by the workers there is one result
//	T5  when all is well again no transaction stays open
//	I5  no value is in a log twice
//	I11 no value of an aborted transaction is read
//	I12 nobody reads what his own open transaction wrote
//	I13 transactions do not read each other in a circle
//
// The rules of a partition's leader (sequences, epochs, guards, markers, the last stable offset) are modelled in partition.go; those
// of engine/log are judged by its own tests. The same seed and options give the same run. A broken promise ends it with a
// [Violation]. [Bugs] are the mistakes that a driver of the cores can make: a simulation that cannot fail proves nothing, and the
// tests switch them on one by one.
//
// It refuses to know clocks, files, sockets and goroutines. It is used by tests only.
package coordinators
