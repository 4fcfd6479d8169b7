// Package assignor computes which member of a consumer group reads which partition: the server-side assignors `uniform` and
// `range` of KIP-848.
//
//	Input (members, subscriptions, what each has now) ── Uniform | Range ──> member id -> topic id -> partitions
//
// Uniform balances the number of partitions and moves as few as it can; Range gives each member one consecutive range of every
// topic, so that equal partition numbers of different topics come to the same member. The results are those of Apache Kafka's
// assignors where these are determined; where Kafka follows the order of a hash map, members go in order of their id and topics
// in order of theirs, so that the same input always has the same result.
//
// The package refuses to know groups, epochs, records and topics' names. It is pure, and never changes its input.
package assignor
