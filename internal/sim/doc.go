// Package sim runs many nodes' cores in one goroutine and in a time of its own, by a seed: the Raft of internal/core/raft and
// a state machine above it, over disks that lose what was not synced and a network that loses, repeats and reorders.
//
// A [Sim] is a queue of events. Each step takes the next one (a message arrives, a sync ends, a timer is due, a fault begins or
// ends), lets one node do what its Raft asks for, and then checks the invariants of the whole:
//
//	M1 what was answered to a client stays committed     M4 a majority of voters has durably what is committed
//	M2 an epoch has one leader                           M5 what is committed is equal on all nodes, a snapshot is a replay
//	M3 a node's epoch never goes back                       and a new leader's high watermark never goes back
//
// The same seed and options give the same run. A broken promise stops it with a [Violation] that names both.
//
// The owner of a Raft is modelled in node.go, and so is each way in which an owner can be wrong ([Bugs]): a simulation that
// cannot fail proves nothing, and the tests switch them on one by one.
//
// It refuses to know clocks, files, sockets and goroutines. It is used by tests only.
package sim
