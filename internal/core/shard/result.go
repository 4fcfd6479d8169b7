package shard

import (
	"time"

	"github.com/moldau-io/moldau/internal/base/id"
	"github.com/moldau-io/moldau/internal/wire"
)

// Ticket stands for a request that waits for an answer. The driver issues tickets and keeps who holds them; a core only
// remembers the number. A ticket is answered once; an answer to a ticket that is closed already (its request timed out, say)
// is dropped by the driver.
type Ticket uint64

// NoTicket belongs to nobody: a timer's decision, or a member that does not wait.
const NoTicket Ticket = 0

// Record is one record that a decision wants in the log.
type Record struct {
	// Key is the record's key, with the type in front.
	Key []byte
	// Value is the record's value with its version in front; nil is a tombstone.
	Value []byte
	// Change is what the record means for the working state, in the core's own type; the driver hands it back in Apply.
	Change any
}

// Producer is who writes records in a transaction.
type Producer struct {
	// ID and Epoch are checked by the log.
	ID    id.ProducerID
	Epoch id.ProducerEpoch
	// Guard is what the log gave for the question to the transaction's coordinator that has been answered; 0 if there was none.
	Guard uint64
}

// Marker is the control record that ends a transaction in one partition.
type Marker struct {
	// Producer is whose transaction ends.
	Producer
	// Commit tells the end: committed or aborted.
	Commit bool
	// CoordinatorEpoch is the leader epoch of the transaction coordinator that decided; the log refuses older ones.
	CoordinatorEpoch int32
	// Version is the transaction.version that the log checks the epoch by.
	Version int16
	// Change is what the marker means for the working state; the driver hands it back in Apply.
	Change any
}

// Answer ends a ticket.
type Answer struct {
	// Ticket is who gets the answer.
	Ticket Ticket
	// Body is the answer, mostly a response of wire/api. The core does not touch it afterwards.
	Body any
}

// Continuation hears how the records of a decision fared: code is ErrNone once they are committed, else why they were lost or
// took too long. It is itself a decision.
type Continuation func(now time.Time, code wire.ErrorCode) Result

// Result is what one decision gives back.
type Result struct {
	// Records join the log in this order.
	Records []Record
	// Atomic asks that all Records are in one batch.
	Atomic bool
	// Producer, if not nil, writes Records as a part of that producer's transaction: at once, in one batch of their own.
	Producer *Producer
	// Marker, if not nil, ends a producer's transaction in this partition. There are no Records then.
	Marker *Marker
	// Answers leave at once: they promise nothing that the log would have to hold.
	Answers []Answer
	// Reply answers the ticket of this decision once everything that was written up to now, by this decision and those
	// before it, is committed. If that fails the driver fails the ticket. Nil if the ticket was answered or stays open.
	Reply any
	// Messages go to others, in the core's own types, under the terms of Reply: once everything that was written up to now is
	// committed, and not at all if that fails.
	Messages []any
	// Then, if not nil, is called once when the fate of Records is known.
	Then Continuation
}
