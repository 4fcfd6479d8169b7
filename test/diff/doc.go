// Package diff sends the same scripted requests to Apache Kafka 4.4 and to Moldau over raw connections and compares the answers
// field by field. It is the first thing to reach for when in doubt about what Kafka does: write the row, run it, read.
//
// A script (testdata/*.txt) is a list of rows. Both nodes start empty for each script, with the same properties; a row is one
// request and what may differ in its answer. Requests and answers go through kmsg, a codec that is not ours, so that a mistake
// of internal/wire cannot hide on both sides. The language, one directive a line:
//
//	props KEY=VALUE          a server property for this script (before the first row)
//	row TEXT                 begins a row; TEXT says which branch or error it is about
//	api NAME VERSION         the request, by kmsg's name: CreateTopics 7; "2-7" sends it once in each version
//	{ ... }                  its fields as JSON, over kmsg's defaults, until the braces close
//	raw HEX                  instead of api: bytes as they are; the answer is compared as bytes
//	save NAME = PATH         keeps a value of this side's answer; "$NAME" in later rows stands for it
//	until PATH = VALUE       repeats the request, at most a minute, until the answer, sorted, has VALUE there (for what takes effect later)
//	mask PATH [~ REGEXP]     this field is an id, a time, a host or a port: only its presence is compared; with REGEXP only
//	                         what that matches of a text is hidden (a time inside a message)
//	sort PATH by FIELD       this array has no order in the protocol
//	on NAME                  sends on the connection NAME (opened when new) instead of the first one; one whose name begins with
//	                         "controller" goes to the controller's listener
//	async                    sends without waiting; a later `row` with `collect NAME` on that connection reads the answer
//	collect                  reads the answer of the pending async request of this connection
//	repeat                   once more the request of the row before (its `save`s not repeated)
//
// In JSON, a string "@batch key=value ..." in a records field is a record batch (see batch.go). PATH is dotted, with [i] for an
// element and [] for all. A closed connection is an answer like any other: both sides must close.
//
// Only ids, times, hosts and ports may be masked, field by field; a row whose whole answer is masked is refused.
package diff
