// Package raft is KRaft's consensus (KIP-595, KIP-630, KIP-853, KIP-996) as a pure machine: Step and Tick take what happened,
// Ready says what to do.
//
//	Unattached --timeout--> Prospective --majority of pre-votes--> Candidate --majority of votes--> Leader --resign--> Resigned
//	    ^                        |                                     |                              |
//	    +--- higher epoch -------+-------------------------------------+------------------------------+
//	Follower: knows the leader of its epoch and fetches from it; its timeout leads to Prospective.
//
// KRaft is Raft with the log pulled: followers fetch, the leader learns from a fetch how far its sender is. A record is
// committed when a majority of the voters have it durably and at least one record of the leader's own epoch is; that one is
// the control batch that opens each epoch. A single voter is a majority of one by the same arithmetic and through the same
// states; nothing here asks whether there are others.
//
// A node that is not among the voters is an observer: it fetches like a follower, finds the leader by asking any voter, and
// is never counted, whatever it says.
//
// A follower that the leader's log cannot serve, because its log ends before the leader's begins, is told a snapshot instead.
// It asks for the snapshot in pieces, and its log begins anew at the snapshot's end.
//
// What the owner must do, in this order, with each Ready: persist HardState; cut the log; write the piece of a snapshot, and
// with the last one put the snapshot in place of the log; append the start of the epoch; make the log durable unless this
// node leads; send the messages. Votes, epochs and the log that a vote was asked for with are thereby durable before anyone
// hears of them. The log is the owner's; it is read here through the small interface Log and reported by Truncated,
// SnapshotDone and Durable. Answers to what it Serves are the owner's to give.
//
// A node whose quorum-state is lost or older than its log may have promised what it does not remember. It neither votes nor
// stands for election nor is counted until it has heard from all other voters in which epochs they are: nobody can have asked
// for its vote in a later one.
//
// It refuses to own time, randomness, sockets and files, to check cluster ids, and to change who votes, except that it makes
// the records that turn a static set of voters into one in the log.
//
// A Raft belongs to one goroutine.
package raft
