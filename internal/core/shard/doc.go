// Package shard holds the vocabulary that the coordinator cores (groups, transactions, share groups) have in common: what one
// decision gives back, and a set of deadlines.
//
// A shard is the state of one partition of an internal topic. Its core decides: it looks at its working state and returns a
// [Result] with the records to append, the answers, and what to do when the records are committed or lost. Whoever drives the
// core (engine/coord) applies each record to the working state in the moment it joins the open batch, so that the next
// decision sees it; takes it back when the batch could not be written; and lets the reply go when the high watermark has
// passed.
//
// The package refuses to know any topic, any group, or the log. It is pure: time comes in as an argument, and deadlines come
// out as values. Nothing in it is safe for concurrent use; the driver calls a shard one call at a time.
package shard
