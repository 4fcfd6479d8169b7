// Package raft is KRaft's consensus (KIP-595, KIP-853, KIP-996) as a pure machine: Step and Tick take what happened, Ready
// says what to do.
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
// What the owner must do, in this order, with each Ready: persist HardState; cut the log; append the start of the epoch;
// send the messages. Votes and epochs are thereby durable before anyone hears of them. The log is the owner's; it is read
// here through the small interface Log and reported by Appended and Durable.
//
// It refuses to own time, randomness, sockets, files, voter changes (the set of voters is given and may be replaced by
// SetVoters when a Voters record is appended or cut), and snapshots.
//
// A Raft belongs to one goroutine.
package raft
