// Package id holds the small value types by which the protocol names things: UUIDs, topics and their partitions, brokers,
// offsets, leader epochs and producers.
//
// It is a leaf: it knows no wire format, no file and no clock. A value of one of these types crosses package edges in place of
// a bare integer, so that a leader epoch cannot be handed over where an offset is meant. Generated wire structs hold plain
// integers; the desk (internal/broker/handler) converts once.
package id
