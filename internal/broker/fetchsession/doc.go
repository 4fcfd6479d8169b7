// Package fetchsession remembers what each consumer or follower fetches, so that its next fetch names only what changed and the
// answer holds only what has news (KIP-227).
//
// What it refuses to be: it reads nothing, knows no connection and does not look up topics. The desk opens a Context with the
// fields of a request, reads the partitions the Context lists, and gives it what was found; the Context says what is sent.
//
// Invariants:
//   - At most Slots sessions, which together hold a bounded number of partitions. A new one takes the place of one that was not used for the eviction time; else of one that is worth
//     less: a consumer's before a follower's, a smaller before a larger, and none that is younger than the eviction time.
//   - A session's epoch rises with each request, from 2^31-1 to 1; a request with another epoch than the expected is refused and
//     changes nothing.
//   - Partitions that returned records go to the end of the order, so that none starves under the byte limits.
//
// Concurrency: Cache.mu guards the table of sessions, each session's mutex its partitions; Cache.mu is taken first. A Context
// belongs to one request.
package fetchsession
